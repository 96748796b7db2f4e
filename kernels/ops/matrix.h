/* matrix.h: how a weight matrix lies in memory. Every kernel of every instruction set reads this one layout.
 *
 * A matrix W has `rows` outputs and `cols` inputs. Rows go in blocks of LANES = 16: lane i of block b is row 16 b + i, and rows
 * past the end are zeros. One vector register then holds one value of 16 rows, each output element is one lane, and its sum over
 * the inputs runs in one fixed order, whoever computes it and for however many activation rows (promise P1).
 *
 *   PACK_F32, PACK_F16   [block][k][16]
 *   PACK_BF16            [block][k / 2][16][2]         a pair of k in 32 bits: even k by << 16, odd k by a mask
 *   PACK_S8              [block][k][16] signed bytes, times a bf16 scale of the row's group; x as f32
 *   PACK_NF4             [block][k / 8][16][4] bytes   nibbles as below: a code of NF4 xor 7, so that a zero is 0; x as f32
 *   PACK_INT, 8 bits     [block][k / 4][16][4] bytes   64 bytes: a VNNI operand, and one row of an AMX B tile
 *   PACK_INT, 4 bits     [block][k / 8][16][4] bytes   low nibbles k .. k+3, high nibbles k+4 .. k+7
 *
 * Integers: along k, `group` elements share a scale and perhaps a minimum:
 *
 *     value[r][k] = scale[r][g] * (code[r][k] - zero) - min[r][g]        g = k / group
 *
 *   scales, mins         f16 [block][groups][16]                          (two_level false; PACK_S8: bf16)
 *   scales, mins         f16 [block][groups * group / 256][16], times
 *   sub_scales, sub_mins int8 [block][groups][16]                         (two_level true: the K types of GGUF)
 *
 * so that every GGUF type is held exactly, in about the bytes that it has in the file. NF4 (format/nf4.h):
 *
 *     value[r][k] = nf4[code[r][k]] * absmax[r][g]                       g = k / 64
 *
 *   absmax               f32 [block][groups][16]                          (two_level false)
 *   absmax               f32 [NF4_NESTED_AT + ...]: offset, the map [256], nested [rows * groups / 256, rounded up]
 *   sub_scales           uint8 [block][groups][16]                        (two_level true: double quantisation) */
#ifndef WEFT_OPS_MATRIX_H
#define WEFT_OPS_MATRIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LANES = 16, SUPER = 256 };
enum pack_kind { PACK_F32, PACK_F16, PACK_BF16, PACK_S8, PACK_INT, PACK_NF4 };
enum { NF4_OFFSET_AT, NF4_MAP_AT, NF4_NESTED_AT = NF4_MAP_AT + 256 };

struct matrix {
	enum pack_kind kind;
	uint32_t rows, cols;
	uint32_t blocks;	/* of 16 rows: rows / 16, rounded up */
	uint32_t kpad;		/* cols, rounded up to whole groups (integers) or pairs (bf16); the rest is zeros */
	uint32_t group;		/* 16, 32, 64 or 128; PACK_S8: up to 32; PACK_NF4: 64; 0 for other float kinds */
	uint32_t groups;	/* kpad / group */
	uint8_t bits;		/* 4 or 8 */
	uint8_t zero;		/* 0 .. 128; 128 means signed bytes stored plus 128, others have codes below 64 */
	bool has_min, two_level;
	unsigned char *codes;	/* 64-byte aligned; also holds the floats */
	uint16_t *scales, *mins;
	int8_t *sub_scales, *sub_mins;
	float *absmax;		/* PACK_NF4 */
};

/* Bytes of one block's codes (or floats). */
static inline size_t matrix_block_bytes(const struct matrix *w)
{
	switch (w->kind) {
	case PACK_F32:
		return (size_t)w->kpad * LANES * 4;
	case PACK_F16:
	case PACK_BF16:
		return (size_t)w->kpad * LANES * 2;
	case PACK_S8:
		return (size_t)w->kpad * LANES;
	default:
		return (size_t)w->kpad * LANES * w->bits / 8;
	}
}

/* f16 scales of one block. */
static inline size_t matrix_block_scales(const struct matrix *w)
{
	return (size_t)(w->two_level ? w->kpad / SUPER : w->groups) * LANES;
}

/* PACK_NF4: nested values, with those of rows past the end. */
static inline size_t matrix_nested(const struct matrix *w)
{
	return ((size_t)w->blocks * LANES * w->groups + 255) / 256;
}

static inline float matrix_absmax(const struct matrix *w, uint32_t row, uint32_t g)
{
	size_t at = ((size_t)(row / LANES) * w->groups + g) * LANES + row % LANES;

	if (!w->two_level)
		return w->absmax[at];
	return w->absmax[NF4_MAP_AT + ((const uint8_t *)w->sub_scales)[at]] *
		       w->absmax[NF4_NESTED_AT + ((size_t)row * w->groups + g) / 256] + w->absmax[NF4_OFFSET_AT];
}

/* What nibbles of PACK_NF4 mean. */
extern const float matrix_nf4[LANES];

/* Row `row` as f32[cols]: what the matrix means. */
void matrix_row_f32(const struct matrix *w, uint32_t row, float *out);
/* One weight, integers as fma(scale, code, -fma(scale, zero, min)). k < kpad; row may be one past the end of a block's rows. */
float matrix_fused(const struct matrix *w, uint32_t row, uint32_t k);

#endif
