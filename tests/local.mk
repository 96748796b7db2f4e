# Tests mirror the rooms of the house: tests/ROOM/ holds what proves ROOM/.
include tests/kernels/local.mk
include tests/plugins/local.mk
include tests/client/local.mk
include tests/daemon/local.mk
include tests/systemd/local.mk
include tests/bench/local.mk
