/* pack.h: a tensor of a checkpoint to a packed matrix (ops/matrix.h).
 *
 * Two steps, so that all matrices of a model lie in one arena: pack_plan() says what form a tensor gets and how many bytes it
 * needs, pack_place() gives it memory, pack_blocks() fills a range of blocks (ranges may run in parallel).
 *
 * Forms: PACK_KEEP holds the file's own precision exactly, NF4 in its own form. PACK_Q8 is symmetric: scale = max|w| / 127 per group of 128. PACK_Q4
 * has a scale and a minimum per group of 64, searched for the least squared error. When cols is not a multiple of those, the
 * group falls to 64, 32 or 16; when not of 16 either, cols is padded with zeros. PACK_FACTOR is for the factors of adapters, which
 * are thin and span many orders of magnitude: signed bytes, a bf16 scale per group of up to 32, the largest that divides cols; when that
 * is below 4, as PACK_KEEP. */
#ifndef WEFT_PACK_H
#define WEFT_PACK_H

#include "format/checkpoint.h"
#include "ops/matrix.h"

enum pack_form { PACK_KEEP, PACK_Q8, PACK_Q4, PACK_FACTOR };
/* Which bytes these forms make of a tensor. Whoever changes them raises it: files of packed weights (packed.h) are then made anew.
 * tests/kernels/core_packed.c notices a change. */
enum { PACK_VERSION = 1 };

void pack_plan(struct matrix *w, const struct tensor *t, enum pack_form form);
size_t pack_bytes(const struct matrix *w);			/* a multiple of 64 */
void pack_place(struct matrix *w, unsigned char *memory);	/* 64-byte aligned, pack_bytes() long, borrowed */
/* Fails on numbers that no format here can hold (infinities, NaNs, scales beyond f16). */
int pack_blocks(const struct matrix *w, const struct tensor *t, enum pack_form form, uint32_t b0, uint32_t b1,
		struct core_error *err);

/* One group of n (a multiple of 16, up to 128) values to codes; the scale (and minimum) come back as the f16 values that are
 * stored, or as infinities when f16 cannot hold them. */
void quantize_group_q8(const float *x, uint32_t n, uint8_t *codes, float *scale);
void quantize_group_q4(const float *x, uint32_t n, uint8_t *codes, float *scale, float *min);
/* Any n. The scale is what bf16 holds, not below max|x| / 127 (0 for zeros); false: a value is not finite or too large. */
bool quantize_group_s8(const float *x, uint32_t n, int8_t *codes, float *scale);

#endif
