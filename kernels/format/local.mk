# kernels/format and the tokenizer: bytes on disk to tensors, text to tokens
noinst_LTLIBRARIES += kernels/libformat.la
kernels_libformat_la_SOURCES = \
	kernels/core.h \
	kernels/fail.c \
	kernels/format/blocks.h \
	kernels/format/checkpoint.h
