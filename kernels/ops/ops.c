#include "config.h"
#include "ops.h"

static const struct ops plain = { rmsnorm_plain, quantize_plain, matmul_plain, matmul_add_plain, matmul_few_plain,
				  kv_store_plain, attention_tile_plain, swiglu_plain, NULL, NULL, attention_words_plain };
#ifdef HAVE_X86
static const struct ops avx2 = { rmsnorm_avx2, quantize_avx2, matmul_avx2, matmul_add_avx2, matmul_few_avx2,
				 kv_store_avx2, attention_avx2, swiglu_avx2, NULL, NULL, attention_words_avx2 };
static const struct ops avx512 = { rmsnorm_avx512, quantize_avx512, matmul_avx512, matmul_add_avx512, matmul_few_avx512,
				   kv_store_avx512, attention_avx512, swiglu_avx512, NULL, NULL, attention_words_avx512 };
#ifdef HAVE_AMX
static const struct ops amx = { rmsnorm_avx512, quantize_avx512, matmul_amx, matmul_add_avx512, matmul_few_avx512,
				kv_store_avx512, attention_avx512, swiglu_avx512, split_amx, tiles_amx, attention_prompt_amx };
#endif
#endif

const struct ops *ops_for(enum core_cpu cpu)
{
	switch (cpu) {
	case CORE_CPU_PLAIN:
		return &plain;
#ifdef HAVE_X86
	case CORE_CPU_AVX2:
		return &avx2;
	case CORE_CPU_AVX512:
		return &avx512;
#ifdef HAVE_AMX
	case CORE_CPU_AMX:
		return &amx;
#endif
#endif
	default:
		return NULL;
	}
}
