# tests of daemon/
include tests/daemon/engine.mk
