# adapters and blends
kernels_libcore_la_SOURCES += \
	kernels/adapter.c kernels/adapter.h \
	kernels/blend.c kernels/blend.h \
	kernels/weave.c kernels/weave_plan.c kernels/weave.h
format_sources += \
	kernels/format/gguf_lora.c \
	kernels/format/lora.c \
	kernels/format/peft.c \
	kernels/format/peft.h
