# kernels: its parts, for the top Makefile.am
include kernels/format/local.mk
