/* nf4.h: bitsandbytes' 4-bit NormalFloat, the format of QLoRA's bases (FACTS 4.11).
 *
 * A matrix, flattened row by row, in blocks of NF4_BLOCK elements:
 *     value[e] = nf4_code[code[e]] * absmax[e / NF4_BLOCK]              rounded to f32
 * with two codes a byte, the first in the high nibble. (bitsandbytes rounds that once more, to the type that it computes in.)
 * absmax is f32, or itself in 8 bits, in blocks of NF4_NESTED ("double quantisation"):
 *     absmax[b] = map[absmax8[b]] * nested[b / NF4_NESTED] + offset     each step rounded to f32
 * The core takes rows of whole blocks only. */
#ifndef WEFT_FORMAT_NF4_H
#define WEFT_FORMAT_NF4_H

#include "checkpoint.h"

enum { NF4_BLOCK = 64, NF4_NESTED = 256 };

extern const float nf4_code[16];	/* ascending */
extern const float nf4_map[256];	/* ascending; what quantising at load takes: a file brings its own */

/* What a tensor of TENSOR_NF4 has beside its codes. */
struct nf4 {
	bool nested;		/* double quantisation */
	const uint8_t *absmax8;	/* [blocks], when nested */
	const void *floats;	/* f32 that need not be aligned: nested [blocks / NF4_NESTED, rounded up], or absmax [blocks] */
	float offset, map[256];
};

float nf4_absmax(const struct nf4 *s, uint64_t block);
/* codes[cols] of a row. */
void nf4_row_codes(const struct tensor *t, uint64_t row, uint8_t *codes);
void nf4_row_f32(const struct tensor *t, uint64_t row, float *out);

#endif
