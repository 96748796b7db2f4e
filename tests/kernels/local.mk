# tests of kernels/
