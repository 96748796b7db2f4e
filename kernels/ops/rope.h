/* rope.h: rotary position embedding, HF order: element i pairs with i + head_dim / 2.
 *
 *     (a, b) -> (a cos - b sin, a sin + b cos),  angle = position * frequency[i]
 *
 * Frequencies follow the scaling of the checkpoint (FACTS 4.5). Angles, sines and cosines are computed in double once per row
 * of a pass; products here are plain f32 without fma, so one implementation gives the same bits everywhere. */
#ifndef WEFT_OPS_ROPE_H
#define WEFT_OPS_ROPE_H

#include <stdint.h>

#include "../format/checkpoint.h"

struct rope {
	uint32_t half;			/* head_dim / 2 */
	double magnitude;		/* of cos and sin: yarn's attention factor, else 1 */
	double frequency[];		/* [half], radians per position */
};

/* NULL: out of memory. free() it. */
struct rope *rope_new(const struct llama_config *c);
/* cos and sin of one position, [half] each. */
void rope_angles(float *cosine, float *sine, const struct rope *r, uint32_t position);
/* x[heads][2 * half] in place. */
void rope_rotate(float *x, uint32_t heads, uint32_t half, const float *cosine, const float *sine);

#endif
