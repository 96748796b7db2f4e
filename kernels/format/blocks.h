/* blocks.h: ggml's quantised blocks, decoded exactly.
 *
 * Every type is codes with a scale and perhaps a minimum per group of 16 or 32 elements:
 *     value[e] = scale[e / group] * (code[e] - zero) - min[e / group]        (zero is a constant of the type)
 * which is the form that the core packs. Field layouts: FACTS 4.8. */
#ifndef WEFT_FORMAT_BLOCKS_H
#define WEFT_FORMAT_BLOCKS_H

#include "checkpoint.h"

struct block_form {
	unsigned group;		/* elements that share a scale: 16 or 32 */
	unsigned bits;		/* codes are 0 .. 2^bits - 1 (8: signed codes stored plus 128) */
	unsigned zero;		/* subtracted from the code */
	bool has_min;
};
/* false: not a block type (F32, F16, BF16, NF4). */
bool blocks_form(enum tensor_type t, struct block_form *out);
/* n elements (a multiple of the type's block) of `row` into codes[n], scales[n / group] and, for a type with minima,
 * mins[n / group]. */
void blocks_expand(enum tensor_type t, const void *row, uint64_t n, uint8_t *codes, float *scales, float *mins);
/* The plain decoder: n values as f32. */
void blocks_f32(enum tensor_type t, const void *row, uint64_t n, float *out);

float half_to_float(uint16_t h);
uint16_t float_to_half(float f);	/* round to nearest even */
float bf16_to_float(uint16_t b);
uint16_t float_to_bf16(float f);	/* round to nearest even; NaN stays NaN */

#endif
