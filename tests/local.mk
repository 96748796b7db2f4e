# Tests mirror the rooms of the house: tests/ROOM/ holds what proves ROOM/.
include tests/kernels/local.mk
include tests/shim/local.mk
include tests/gpu/local.mk
include tests/plugins/local.mk
include tests/client/local.mk
include tests/daemon/local.mk
include tests/systemd/local.mk
include tests/bench/local.mk

# The demo model travels with the sources: the tests and `./autogen.sh run` stand on it.
EXTRA_DIST += tests/demo/model tests/demo/adapters tests/demo/heldout tests/demo/README.md tests/demo/RESULTS.md tests/demo/prompts.txt \
	tests/demo/requirements.txt tests/demo/demolib.py tests/demo/make_data.py tests/demo/train_base.py tests/demo/train_adapters.py \
	tests/demo/evaluate.py tests/demo/score.py
