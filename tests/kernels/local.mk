# tests of kernels/
include tests/kernels/format.mk
