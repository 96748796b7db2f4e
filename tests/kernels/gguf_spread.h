/* gguf_spread.h: factors that give blocks of random bytes a standard deviation of about 1/16 around 0, as weights have. */
#ifndef WEFT_GGUF_SPREAD_H
#define WEFT_GGUF_SPREAD_H

#include <string.h>

#include "kernels/format/blocks.h"

static const struct spread {
	enum tensor_type type;
	float d, min; /* min: in units of d */
	int at_d;     /* byte of the f16 d in its block; the minimum follows */
} spread[] = {
	{TENSOR_Q4_0, 0.0135f, 0, 0},      {TENSOR_Q4_1, 0.0135f, -7.5f, 0}, {TENSOR_Q5_0, 0.0068f, 0, 0},
	{TENSOR_Q5_1, 0.0068f, -15.5f, 0}, {TENSOR_Q8_0, 0.00085f, 0, 0},    {TENSOR_Q2_K, 0.004f, 1.5f, 80},
	{TENSOR_Q3_K, 0.0015f, 0, 108},    {TENSOR_Q4_K, 0.00025f, 7.5f, 0}, {TENSOR_Q5_K, 0.00012f, 15.5f, 0},
	{TENSOR_Q6_K, 4.6e-5f, 0, 208},
};
enum { N_SPREADS = sizeof(spread) / sizeof(spread[0]) };

/* scale: of this block's factors. Its other bytes are random already. */
static inline void spread_block(const struct spread *s, uint8_t *block, float scale)
{
	float d = s->d * scale;
	uint16_t h = float_to_half(d);

	memcpy(block + s->at_d, &h, 2);
	h = float_to_half(d * s->min);
	if (s->min != 0)
		memcpy(block + s->at_d + 2, &h, 2);
}

#endif
