/* blocks.c: the tensor types, and ggml's ten block types decoded exactly.
 *
 * One routine per layout fills codes, scales and minima of one block; both the packer (blocks_expand) and the plain decoder
 * (blocks_f32) are that routine and the formula of blocks.h, so they cannot disagree.
 * Rounding: scale = d * sc and min = dmin * mn are rounded to f32 first, then code * scale, then the difference: the order that
 * ggml's own decoder has, so the values agree to the bit. */
#include <string.h>

#include "blocks.h"

enum { BLOCK_MAX = 256, GROUP_MIN = 16 };

static const struct type_row {
	enum tensor_type type;
	const char *name;
	unsigned block, bytes;
	struct block_form form;	/* group 0: not a block type */
} types[] = {
	{TENSOR_F32, "F32", 1, 4, {0, 0, 0, false}},
	{TENSOR_F16, "F16", 1, 2, {0, 0, 0, false}},
	{TENSOR_BF16, "BF16", 1, 2, {0, 0, 0, false}},
	{TENSOR_Q4_0, "Q4_0", 32, 18, {32, 4, 8, false}},
	{TENSOR_Q4_1, "Q4_1", 32, 20, {32, 4, 0, true}},
	{TENSOR_Q5_0, "Q5_0", 32, 22, {32, 5, 16, false}},
	{TENSOR_Q5_1, "Q5_1", 32, 24, {32, 5, 0, true}},
	{TENSOR_Q8_0, "Q8_0", 32, 34, {32, 8, 128, false}},
	{TENSOR_Q2_K, "Q2_K", 256, 84, {16, 2, 0, true}},
	{TENSOR_Q3_K, "Q3_K", 256, 110, {16, 3, 4, false}},
	{TENSOR_Q4_K, "Q4_K", 256, 144, {32, 4, 0, true}},
	{TENSOR_Q5_K, "Q5_K", 256, 176, {32, 5, 0, true}},
	{TENSOR_Q6_K, "Q6_K", 256, 210, {16, 6, 32, false}},
	{TENSOR_NF4, "NF4", 64, 32, {0, 0, 0, false}},	/* its scales lie elsewhere: nf4.h */
	{TENSOR_U8, "U8", 1, 1, {0, 0, 0, false}},
};

static const struct type_row *type_find(enum tensor_type t)
{
	for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
		if (types[i].type == t)
			return &types[i];
	return NULL;
}

const char *tensor_type_name(enum tensor_type t)
{
	const struct type_row *r = type_find(t);

	return r != NULL ? r->name : NULL;
}

unsigned tensor_type_block(enum tensor_type t)
{
	const struct type_row *r = type_find(t);

	return r != NULL ? r->block : 0;
}

unsigned tensor_type_bytes(enum tensor_type t)
{
	const struct type_row *r = type_find(t);

	return r != NULL ? r->bytes : 0;
}

bool blocks_form(enum tensor_type t, struct block_form *out)
{
	const struct type_row *r = type_find(t);

	if (r == NULL || r->form.group == 0)
		return false;
	*out = r->form;
	return true;
}

/* ---- one block of each layout; field offsets are FACTS 4.8 ---- */

static float half_at(const uint8_t *p)
{
	uint16_t h;

	memcpy(&h, p, sizeof h);
	return half_to_float(h);
}

/* 32 codes of 4 bits: low nibbles first, then high ones. */
static void nibbles(const uint8_t *qs, uint8_t *codes)
{
	for (int i = 0; i < 16; i++) {
		codes[i] = qs[i] & 15;
		codes[i + 16] = qs[i] >> 4;
	}
}

/* The fifth bits of 32 codes. */
static void fifth_bits(const uint8_t *qh, uint8_t *codes)
{
	for (int i = 0; i < 32; i++)
		codes[i] |= (uint8_t)((qh[i / 8] >> (i % 8) & 1) << 4);
}

static void q4_0(const uint8_t *b, uint8_t *codes, float *scales, float *mins)
{
	scales[0] = half_at(b);
	nibbles(b + 2, codes);
}

static void q4_1(const uint8_t *b, uint8_t *codes, float *scales, float *mins)
{
	scales[0] = half_at(b);
	mins[0] = -half_at(b + 2);
	nibbles(b + 4, codes);
}

static void q5_0(const uint8_t *b, uint8_t *codes, float *scales, float *mins)
{
	scales[0] = half_at(b);
	nibbles(b + 6, codes);
	fifth_bits(b + 2, codes);
}

static void q5_1(const uint8_t *b, uint8_t *codes, float *scales, float *mins)
{
	scales[0] = half_at(b);
	mins[0] = -half_at(b + 2);
	nibbles(b + 8, codes);
	fifth_bits(b + 4, codes);
}

static void q8_0(const uint8_t *b, uint8_t *codes, float *scales, float *mins)
{
	scales[0] = half_at(b);
	for (int i = 0; i < 32; i++)
		codes[i] = b[2 + i] ^ 0x80; /* signed byte plus 128 */
}

static void q2_k(const uint8_t *b, uint8_t *codes, float *scales, float *mins)
{
	const uint8_t *sc = b, *qs = b + 16;
	float d = half_at(b + 80), dmin = half_at(b + 82);

	for (int g = 0; g < 16; g++) {
		scales[g] = d * (float)(sc[g] & 15);
		mins[g] = dmin * (float)(sc[g] >> 4);
	}
	for (int e = 0; e < 256; e++)
		codes[e] = qs[e / 128 * 32 + e % 32] >> (e % 128 / 32 * 2) & 3;
}

static void q3_k(const uint8_t *b, uint8_t *codes, float *scales, float *mins)
{
	const uint8_t *hmask = b, *qs = b + 32, *sc = b + 96;
	float d = half_at(b + 108);

	for (int g = 0; g < 16; g++) {
		int low = g < 8 ? sc[g] & 15 : sc[g - 8] >> 4;
		int high = sc[8 + g % 4] >> (g / 4 * 2) & 3;
		scales[g] = d * (float)(low + 16 * high - 32);
	}
	for (int e = 0; e < 256; e++) { /* a set mask bit adds the 4 that the type's zero takes away */
		int low = qs[e / 128 * 32 + e % 32] >> (e % 128 / 32 * 2) & 3;
		codes[e] = (uint8_t)(low + (hmask[e % 32] >> (e / 32) & 1) * 4);
	}
}

/* Eight 6-bit scales and eight 6-bit minima in 12 bytes, shared by Q4_K and Q5_K. */
static void k_scales(const uint8_t *b, float *scales, float *mins)
{
	const uint8_t *sc = b + 4;
	float d = half_at(b), dmin = half_at(b + 2);

	for (int g = 0; g < 8; g++) {
		int s = g < 4 ? sc[g] & 63 : (sc[g + 4] & 15) | (sc[g - 4] >> 6) << 4;
		int m = g < 4 ? sc[g + 4] & 63 : sc[g + 4] >> 4 | (sc[g] >> 6) << 4;
		scales[g] = d * (float)s;
		mins[g] = dmin * (float)m;
	}
}

static void q4_k(const uint8_t *b, uint8_t *codes, float *scales, float *mins)
{
	const uint8_t *qs = b + 16;

	k_scales(b, scales, mins);
	for (int e = 0; e < 256; e++)
		codes[e] = qs[e / 64 * 32 + e % 32] >> (e / 32 % 2 * 4) & 15;
}

static void q5_k(const uint8_t *b, uint8_t *codes, float *scales, float *mins)
{
	const uint8_t *qh = b + 16, *qs = b + 48;

	k_scales(b, scales, mins);
	for (int e = 0; e < 256; e++)
		codes[e] = (uint8_t)((qs[e / 64 * 32 + e % 32] >> (e / 32 % 2 * 4) & 15) | (qh[e % 32] >> (e / 32) & 1) << 4);
}

static void q6_k(const uint8_t *b, uint8_t *codes, float *scales, float *mins)
{
	const uint8_t *ql = b, *qh = b + 128;
	float d = half_at(b + 208);

	for (int g = 0; g < 16; g++)
		scales[g] = d * (float)(int8_t)b[192 + g];
	for (int e = 0; e < 256; e++) {
		int half = e / 128, quarter = e % 128 / 32, l = e % 32;
		int low = ql[half * 64 + l + quarter % 2 * 32] >> (quarter / 2 * 4) & 15;
		codes[e] = (uint8_t)(low | (qh[half * 32 + l] >> (quarter * 2) & 3) << 4);
	}
}

static void expand_block(enum tensor_type t, const uint8_t *b, uint8_t *codes, float *scales, float *mins)
{
	switch (t) {
	case TENSOR_Q4_0: q4_0(b, codes, scales, mins); break;
	case TENSOR_Q4_1: q4_1(b, codes, scales, mins); break;
	case TENSOR_Q5_0: q5_0(b, codes, scales, mins); break;
	case TENSOR_Q5_1: q5_1(b, codes, scales, mins); break;
	case TENSOR_Q8_0: q8_0(b, codes, scales, mins); break;
	case TENSOR_Q2_K: q2_k(b, codes, scales, mins); break;
	case TENSOR_Q3_K: q3_k(b, codes, scales, mins); break;
	case TENSOR_Q4_K: q4_k(b, codes, scales, mins); break;
	case TENSOR_Q5_K: q5_k(b, codes, scales, mins); break;
	case TENSOR_Q6_K: q6_k(b, codes, scales, mins); break;
	case TENSOR_F32: case TENSOR_F16: case TENSOR_BF16: case TENSOR_GGUF_MAX: case TENSOR_NF4: case TENSOR_U8:
	case TENSOR_TYPES: break; /* no blocks: blocks_form() says so */
	}
}

void blocks_expand(enum tensor_type t, const void *row, uint64_t n, uint8_t *codes, float *scales, float *mins)
{
	const struct type_row *r = type_find(t);
	const uint8_t *b = row;
	unsigned groups;

	if (r == NULL || r->form.group == 0)
		return;
	groups = r->block / r->form.group;
	for (uint64_t i = 0; i < n / r->block; i++) {
		expand_block(t, b, codes, scales, mins);
		b += r->bytes;
		codes += r->block;
		scales += groups;
		if (r->form.has_min)
			mins += groups;
	}
}

static void plain_f32(enum tensor_type t, const uint8_t *row, uint64_t n, float *out)
{
	uint16_t h;

	if (t == TENSOR_F32) {
		memcpy(out, row, n * sizeof *out);
		return;
	}
	for (uint64_t i = 0; i < n; i++) {
		memcpy(&h, row + i * sizeof h, sizeof h);
		out[i] = t == TENSOR_F16 ? half_to_float(h) : bf16_to_float(h);
	}
}

void blocks_f32(enum tensor_type t, const void *row, uint64_t n, float *out)
{
	const struct type_row *r = type_find(t);
	const uint8_t *b = row;
	uint8_t codes[BLOCK_MAX];
	float scales[BLOCK_MAX / GROUP_MIN], mins[BLOCK_MAX / GROUP_MIN];

	if (r == NULL)
		return;
	if (r->form.group == 0) {
		plain_f32(t, row, n, out);
		return;
	}
	for (uint64_t i = 0; i < n / r->block; i++, b += r->bytes, out += r->block) {
		expand_block(t, b, codes, scales, mins);
		for (unsigned e = 0; e < r->block; e++) {
			unsigned g = e / r->form.group;
			out[e] = scales[g] * (float)((int)codes[e] - (int)r->form.zero);
			if (r->form.has_min)
				out[e] -= mins[g];
		}
	}
}
