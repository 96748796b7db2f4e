/* vec_avx2.c: the operators written on 16 lanes, compiled for AVX2. */
#include "attention_vec.h"
#include "quantize_vec.h"
#include "rmsnorm_vec.h"
#include "swiglu_vec.h"

void rmsnorm_avx2(float *out, const float *x, const float *weight, uint32_t n, float eps)
{
	rmsnorm_vec(out, x, weight, n, eps);
}

void quantize_avx2(int8_t *q, float *scale, int32_t *sum, const float *x, uint32_t n, uint32_t kpad, uint32_t group)
{
	quantize_vec(q, scale, sum, x, n, kpad, group);
}

void kv_store_avx2(const struct kv_view *kv, uint32_t position, const float *k, const float *v)
{
	kv_store_vec(kv, position, k, v);
}

void attention_avx2(const struct attention_tile *t)
{
	attention_vec(t);
}

void attention_words_avx2(const struct attention_tile *t)
{
	attention_words_vec(t);
}

void swiglu_avx2(float *out, const float *gate, const float *up, uint32_t n)
{
	swiglu_vec(out, gate, up, n);
}
