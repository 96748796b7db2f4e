# tests of daemon/
include tests/daemon/engine.mk

# Against the real program, by a foreign client.
daemon_scripts = \
	tests/daemon/jobs_test.py \
	tests/daemon/requests_test.py \
	tests/daemon/stop_test.py \
	tests/daemon/many_jobs_test.py \
	tests/daemon/load_test.py
TESTS += $(daemon_scripts)
EXTRA_DIST += $(daemon_scripts) tests/daemon/peer.py
