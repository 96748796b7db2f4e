# kernels/format and the tokenizer: bytes on disk to tensors, text to tokens
noinst_LTLIBRARIES += kernels/libformat.la
# What needs no C++: the fuzz targets compile exactly these.
format_sources = \
	kernels/core.h \
	kernels/fail.c \
	kernels/format/bitsandbytes.c \
	kernels/format/bitsandbytes.h \
	kernels/format/blocks.c \
	kernels/format/blocks.h \
	kernels/format/charsmap.c \
	kernels/format/charsmap.h \
	kernels/format/checkpoint.c \
	kernels/format/checkpoint.h \
	kernels/format/config.c \
	kernels/format/folder.c \
	kernels/format/format.h \
	kernels/format/gguf.c \
	kernels/format/gguf.h \
	kernels/format/gguf_llama.c \
	kernels/format/half.c \
	kernels/format/json.c \
	kernels/format/map.c \
	kernels/format/nf4.c \
	kernels/format/nf4.h \
	kernels/format/pickle.c \
	kernels/format/pickle.h \
	kernels/format/safetensors.c \
	kernels/format/torch.c \
	kernels/format/vocab.c \
	kernels/format/vocab.h \
	kernels/format/vocab_gguf.c \
	kernels/format/zip.c \
	kernels/format/zip.h \
	kernels/memory.c \
	kernels/memory.h \
	kernels/utf8.c \
	kernels/utf8.h
kernels_libformat_la_SOURCES = $(format_sources) \
	kernels/tokenizer.c \
	kernels/tokenizer_spm.cc \
	kernels/tokenizer_spm.h
kernels_libformat_la_CPPFLAGS = $(AM_CPPFLAGS) $(JANSSON_CFLAGS) $(SPM_CFLAGS)
# The programs that use this library are C and linked by the C compiler, so libstdc++ is named here; libtool in its C++ mode would
# drop it again as something every C++ link adds by itself, hence the C link.
kernels_libformat_la_LIBADD = $(SPM_LIBS) $(JANSSON_LIBS) -lstdc++ -lm
kernels_libformat_la_LINK = $(LINK)
