dnl Files that configure fills in, beside the Makefile.
