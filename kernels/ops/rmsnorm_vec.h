/* rmsnorm_vec.h: rmsnorm.h on 16 lanes; chain j of the reference is lane j. */
#include "rmsnorm.h"
#include "vec16.h"

VEC void rmsnorm_vec(float *out, const float *x, const float *weight, uint32_t n, float eps)
{
	v16 chain = v16_zero();
	uint32_t k, whole = n & ~15u;
	float r, tail[16] = { 0 };

	for (k = 0; k < whole; k += 16)
		chain = v16_fma(v16_load(x + k), v16_load(x + k), chain);
	if (whole < n) {
		memcpy(tail, x + whole, (n - whole) * sizeof(float));
		chain = v16_fma(v16_load(tail), v16_load(tail), chain);	/* past n: adds +0 to a sum of squares */
	}
	r = 1.0f / sqrtf(v16_sum(chain) / (float)n + eps);
	for (k = 0; k < whole; k += 16)
		v16_store(out + k, v16_mul(v16_mul(v16_load(x + k), v16_all(r)), v16_load(weight + k)));
	for (; k < n; k++)
		out[k] = x[k] * r * weight[k];
}
