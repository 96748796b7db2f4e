#include "rope.h"

#include <math.h>
#include <stdlib.h>

/* yarn: the dimension that turns `turns` times within the original context. */
static double yarn_dimension(const struct llama_config *c, double turns)
{
	return c->head_dim * log(c->original_context / (turns * 2 * M_PI)) / (2 * log((double)c->rope_theta));
}

static double yarn_frequency(const struct llama_config *c, double f, uint32_t i)
{
	double low = fmax(floor(yarn_dimension(c, c->beta_fast)), 0);
	double high = fmin(ceil(yarn_dimension(c, c->beta_slow)), c->head_dim - 1.0);
	double ramp;

	if (low == high)
		high += 0.001;
	ramp = fmin(fmax((i - low) / (high - low), 0), 1);
	return f * (1 - ramp) + f / c->scaling_factor * ramp;
}

static double llama3_frequency(const struct llama_config *c, double f)
{
	double wavelength = 2 * M_PI / f, smooth;

	if (wavelength < c->original_context / c->high_freq_factor)
		return f;
	if (wavelength > c->original_context / c->low_freq_factor)
		return f / c->scaling_factor;
	smooth = (c->original_context / wavelength - c->low_freq_factor) / (c->high_freq_factor - c->low_freq_factor);
	return (1 - smooth) * f / c->scaling_factor + smooth * f;
}

struct rope *rope_new(const struct llama_config *c)
{
	struct rope *r = malloc(sizeof(*r) + c->head_dim / 2 * sizeof(r->frequency[0]));

	if (!r)
		return NULL;
	r->half = c->head_dim / 2;
	r->magnitude = 1;
	if (c->scaling == ROPE_YARN)
		r->magnitude = c->attention_factor > 0 ? c->attention_factor : 0.1 * log(c->scaling_factor) + 1;
	for (uint32_t i = 0; i < r->half; i++) {
		double f = pow(c->rope_theta, -2.0 * i / c->head_dim);

		if (c->scaling == ROPE_LINEAR)
			f /= c->scaling_factor;
		else if (c->scaling == ROPE_LLAMA3)
			f = llama3_frequency(c, f);
		else if (c->scaling == ROPE_YARN)
			f = yarn_frequency(c, f, i);
		r->frequency[i] = c->rope_freqs ? f / c->rope_freqs[i] : f;
	}
	return r;
}

void rope_angles(float *cosine, float *sine, const struct rope *r, uint32_t position)
{
	for (uint32_t i = 0; i < r->half; i++) {
		double angle = position * r->frequency[i];

		cosine[i] = (float)(cos(angle) * r->magnitude);
		sine[i] = (float)(sin(angle) * r->magnitude);
	}
}

void rope_rotate(float *x, uint32_t heads, uint32_t half, const float *cosine, const float *sine)
{
	for (uint32_t h = 0; h < heads; h++, x += 2 * half)
		for (uint32_t i = 0; i < half; i++) {
			float a = x[i], b = x[i + half];

			x[i] = a * cosine[i] - b * sine[i];
			x[i + half] = a * sine[i] + b * cosine[i];
		}
}
