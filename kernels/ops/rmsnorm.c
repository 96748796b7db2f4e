/* rmsnorm.c: the plain reference. */
#include "rmsnorm.h"

#include <math.h>

void rmsnorm_plain(float *out, const float *x, const float *weight, uint32_t n, float eps)
{
	float chain[16] = { 0 }, r;

	for (uint32_t k = 0; k < n; k++)
		chain[k % 16] = fmaf(x[k], x[k], chain[k % 16]);
	for (int w = 8; w; w /= 2)
		for (int j = 0; j < w; j++)
			chain[j] += chain[j + w];
	r = 1.0f / sqrtf(chain[0] / (float)n + eps);
	for (uint32_t k = 0; k < n; k++)
		out[k] = x[k] * r * weight[k];
}
