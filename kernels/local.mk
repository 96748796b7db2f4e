# kernels: its parts, for the top Makefile.am
