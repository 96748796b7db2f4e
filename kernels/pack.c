#include "pack.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "format/blocks.h"
#include "format/nf4.h"

static uint32_t round_up(uint32_t n, uint32_t to)
{
	return (n + to - 1) / to * to;
}

static void plan_groups(struct matrix *w, uint32_t largest)
{
	w->group = largest;
	while (w->group > 16 && w->cols % w->group)
		w->group /= 2;
	w->kpad = round_up(w->cols, w->group);
}

/* It divides cols: products with float activations read nothing past a row's end. */
static uint32_t factor_group(uint32_t cols)
{
	uint32_t g = cols < 32 ? cols : 32;

	while (cols % g)
		g--;
	return g;
}

static void plan_blocks(struct matrix *w, enum tensor_type type)
{
	struct block_form f;

	blocks_form(type, &f);
	w->group = f.group;
	w->bits = f.bits <= 4 ? 4 : 8;
	w->zero = (uint8_t)f.zero;
	w->has_min = f.has_min;
	w->two_level = tensor_type_block(type) == SUPER;
	w->kpad = w->cols;	/* whole blocks: the reader refuses other row lengths */
}

void pack_plan(struct matrix *w, const struct tensor *t, enum pack_form form)
{
	memset(w, 0, sizeof(*w));
	w->rows = (uint32_t)t->dims[0];
	w->cols = (uint32_t)t->dims[1];
	w->blocks = (w->rows + LANES - 1) / LANES;
	w->kind = PACK_INT;
	w->kpad = w->cols;
	if (form == PACK_Q8) {
		w->bits = 8;
		w->zero = 128;
		plan_groups(w, 128);
	} else if (form == PACK_Q4) {
		w->bits = 4;
		w->has_min = true;
		plan_groups(w, 64);
	} else if (form == PACK_FACTOR && factor_group(w->cols) >= 4) {
		w->kind = PACK_S8;
		w->bits = 8;
		w->group = factor_group(w->cols);
	} else if (t->type == TENSOR_NF4) {
		w->kind = PACK_NF4;
		w->bits = 4;
		w->group = NF4_BLOCK;	/* whole blocks: see model.c and the reader */
		w->two_level = t->nf4->nested;
	} else if (t->type == TENSOR_F32) {
		w->kind = PACK_F32;
	} else if (t->type == TENSOR_F16) {
		w->kind = PACK_F16;
	} else if (t->type == TENSOR_BF16) {
		w->kind = PACK_BF16;
		w->kpad = round_up(w->cols, 2);
	} else {
		plan_blocks(w, t->type);
	}
	w->groups = w->group ? w->kpad / w->group : 0;
}

static size_t align64(size_t n)
{
	return (n + 63) & ~(size_t)63;
}

/* The parts in memory order: codes, scales (PACK_NF4: absmax), mins, sub_scales, sub_mins. */
static void part_bytes(const struct matrix *w, size_t part[5])
{
	size_t scales = align64(w->groups ? w->blocks * matrix_block_scales(w) * 2 : 0);
	size_t subs = align64(w->two_level ? (size_t)w->blocks * w->groups * LANES : 0);

	if (w->kind == PACK_NF4)
		scales = align64((w->two_level ? NF4_NESTED_AT + matrix_nested(w) : (size_t)w->blocks * w->groups * LANES) * sizeof(float));
	part[0] = align64(w->blocks * matrix_block_bytes(w));
	part[1] = scales;
	part[2] = w->has_min ? scales : 0;
	part[3] = subs;
	part[4] = w->has_min ? subs : 0;
}

size_t pack_bytes(const struct matrix *w)
{
	size_t part[5];

	part_bytes(w, part);
	return part[0] + part[1] + part[2] + part[3] + part[4];
}

void pack_place(struct matrix *w, unsigned char *memory)
{
	size_t part[5];

	part_bytes(w, part);
	w->codes = memory;
	w->scales = (uint16_t *)(memory += part[0]);
	w->absmax = (float *)w->scales;
	w->mins = (uint16_t *)(memory += part[1]);
	w->sub_scales = (int8_t *)(memory += part[2]);
	w->sub_mins = (int8_t *)(memory + part[3]);
}

/* ---- floats ---- */

static void put_floats(const struct matrix *w, uint32_t row, const unsigned char *src)
{
	unsigned char *dst = w->codes + row / LANES * matrix_block_bytes(w);
	uint32_t lane = row % LANES;

	if (w->kind == PACK_F32)
		for (uint32_t k = 0; k < w->cols; k++)
			memcpy(dst + ((size_t)k * LANES + lane) * 4, src + (size_t)k * 4, 4);
	else if (w->kind == PACK_F16)
		for (uint32_t k = 0; k < w->cols; k++)
			memcpy(dst + ((size_t)k * LANES + lane) * 2, src + (size_t)k * 2, 2);
	else
		for (uint32_t k = 0; k < w->cols; k++)
			memcpy(dst + (((size_t)k / 2 * LANES + lane) * 2 + k % 2) * 2, src + (size_t)k * 2, 2);
}

/* ---- factors ---- */

static bool put_factor_row(const struct matrix *w, const struct tensor *t, uint32_t row, float *values)
{
	uint32_t b = row / LANES, lane = row % LANES;
	unsigned char *codes = w->codes + b * matrix_block_bytes(w) + lane;
	uint16_t *scales = w->scales + b * matrix_block_scales(w) + lane;

	tensor_row_f32(t, row, values);
	for (uint32_t g = 0; g < w->groups; g++) {
		int8_t q[32];
		float scale;

		if (!quantize_group_s8(values + g * w->group, w->group, q, &scale))
			return false;
		scales[(size_t)g * LANES] = float_to_bf16(scale);
		for (uint32_t k = 0; k < w->group; k++)
			codes[((size_t)g * w->group + k) * LANES] = (unsigned char)q[k];
	}
	return true;
}

static int put_factor_rows(const struct matrix *w, const struct tensor *t, uint32_t r0, uint32_t r1, struct core_error *err)
{
	float *values = malloc(w->kpad * sizeof(values[0]));
	bool good = true;
	uint32_t r;

	if (!values)
		return core_fail(err, CORE_ENOMEM, "no memory to pack %s", t->name);
	for (r = r0; r < r1 && good; r++)
		good = put_factor_row(w, t, r, values);
	free(values);
	return good ? CORE_OK : core_fail(err, CORE_EFORMAT, "tensor %s, row %u: a number is not finite or too large", t->name, r - 1);
}

/* ---- integers ---- */

/* One row on its way into its lane. */
struct row_scratch {
	float *values;		/* [kpad], own formats only */
	float *scales, *mins;	/* [groups] */
	uint8_t *codes;		/* [kpad] */
};

static void put_codes(const struct matrix *w, uint32_t row, const uint8_t *codes)
{
	unsigned char *dst = w->codes + row / LANES * matrix_block_bytes(w) + row % LANES * 4;

	if (w->bits == 8)
		for (uint32_t k = 0; k < w->kpad; k += 4)
			memcpy(dst + (size_t)k / 4 * 64, codes + k, 4);
	else
		for (uint32_t k = 0; k < w->kpad; k += 8)
			for (uint32_t j = 0; j < 4; j++)
				dst[(size_t)k / 8 * 64 + j] = (unsigned char)(codes[k + j] | codes[k + 4 + j] << 4);
}

/* Factors of one row as f16, or as f16 `super` (one per 256) times int8. Negated: what the file adds is what we subtract. */
static bool put_factors(const struct matrix *w, uint32_t row, const float *factor, const float *super, uint16_t *high, int8_t *sub)
{
	uint32_t b = row / LANES, lane = row % LANES;

	high += b * matrix_block_scales(w) + lane;
	sub += (size_t)b * w->groups * LANES + lane;
	for (uint32_t g = 0; g < w->groups; g++) {
		float s = w->two_level ? super[g * w->group / SUPER] : factor[g];
		uint16_t h = float_to_half(s);

		if (!isfinite(factor[g]) || half_to_float(h) != s)
			return false;
		if (!w->two_level) {
			high[(size_t)g * LANES] = h;
			continue;
		}
		high[(size_t)g * w->group / SUPER * LANES] = h;
		sub[(size_t)g * LANES] = (int8_t)(s != 0 ? factor[g] / s : 0);	/* exact: factor is s times a small integer */
	}
	return true;
}

/* Where the K types keep d and dmin in their block. */
static void super_factors(enum tensor_type type, const unsigned char *row, uint32_t n, float *d, float *dmin)
{
	unsigned at_d = type == TENSOR_Q2_K ? 80 : type == TENSOR_Q3_K ? 108 : type == TENSOR_Q6_K ? 208 : 0;
	uint16_t h;

	for (uint32_t i = 0; i < n; i++, row += tensor_type_bytes(type)) {
		memcpy(&h, row + at_d, 2);
		d[i] = half_to_float(h);
		if (type == TENSOR_Q6_K || type == TENSOR_Q3_K)
			continue;
		memcpy(&h, row + at_d + 2, 2);
		dmin[i] = half_to_float(h);
	}
}

static bool put_block_row(const struct matrix *w, const struct tensor *t, uint32_t row, struct row_scratch *s)
{
	const unsigned char *src = tensor_row(t, row);
	float *d = s->values, *dmin = s->values + w->kpad / SUPER + 1;

	blocks_expand(t->type, src, w->cols, s->codes, s->scales, s->mins);
	put_codes(w, row, s->codes);
	if (w->two_level)
		super_factors(t->type, src, w->kpad / SUPER, d, dmin);
	return put_factors(w, row, s->scales, d, w->scales, w->sub_scales) &&
	       (!w->has_min || put_factors(w, row, s->mins, dmin, w->mins, w->sub_mins));
}

static bool put_own_row(const struct matrix *w, const struct tensor *t, uint32_t row, struct row_scratch *s)
{
	tensor_row_f32(t, row, s->values);
	for (uint32_t k = w->cols; k < w->kpad; k++)
		s->values[k] = 0;
	for (uint32_t g = 0; g < w->groups; g++)
		if (w->bits == 8)
			quantize_group_q8(s->values + g * w->group, w->group, s->codes + g * w->group, &s->scales[g]);
		else
			quantize_group_q4(s->values + g * w->group, w->group, s->codes + g * w->group, &s->scales[g], &s->mins[g]);
	put_codes(w, row, s->codes);
	return put_factors(w, row, s->scales, NULL, w->scales, w->sub_scales) &&
	       (!w->has_min || put_factors(w, row, s->mins, NULL, w->mins, w->sub_mins));
}

static int put_int_rows(const struct matrix *w, const struct tensor *t, enum pack_form form, uint32_t r0, uint32_t r1,
			struct core_error *err)
{
	struct row_scratch s;
	size_t floats = (size_t)w->kpad + 2 + 2 * (size_t)w->groups;
	float *memory = malloc(floats * sizeof(float) + w->kpad);
	bool good = true;
	uint32_t r;

	if (!memory)
		return core_fail(err, CORE_ENOMEM, "no memory to pack %s", t->name);
	s.values = memory;
	s.scales = memory + w->kpad + 2;
	s.mins = s.scales + w->groups;
	s.codes = (uint8_t *)(s.mins + w->groups);
	for (r = r0; r < r1 && good; r++)
		good = form == PACK_KEEP ? put_block_row(w, t, r, &s) : put_own_row(w, t, r, &s);
	free(memory);
	return good ? CORE_OK
		    : core_fail(err, CORE_EFORMAT, "tensor %s, row %u: a weight or scale is not finite or exceeds f16's range",
				t->name, r - 1);
}

/* ---- NF4 ---- */

static void put_nested(const struct matrix *w, const struct nf4 *s)
{
	w->absmax[NF4_OFFSET_AT] = s->offset;
	memcpy(w->absmax + NF4_MAP_AT, s->map, sizeof(s->map));
	memcpy(w->absmax + NF4_NESTED_AT, s->floats, ((size_t)w->rows * w->groups + NF4_NESTED - 1) / NF4_NESTED * sizeof(float));
}

static bool put_nf4_row(const struct matrix *w, const struct tensor *t, uint32_t row, uint8_t *codes)
{
	bool good = true;

	nf4_row_codes(t, row, codes);
	for (uint32_t k = 0; k < w->cols; k++)
		codes[k] ^= 7;
	put_codes(w, row, codes);
	for (uint32_t g = 0; g < w->groups; g++) {
		size_t block = (size_t)row * w->groups + g, at = ((size_t)(row / LANES) * w->groups + g) * LANES + row % LANES;
		float absmax = nf4_absmax(t->nf4, block);

		good &= isfinite(absmax);
		if (w->two_level)
			w->sub_scales[at] = (int8_t)t->nf4->absmax8[block];
		else
			w->absmax[at] = absmax;
	}
	return good;
}

static int put_nf4_rows(const struct matrix *w, const struct tensor *t, uint32_t r0, uint32_t r1, struct core_error *err)
{
	uint8_t *codes = malloc(w->cols);
	bool good = true;
	uint32_t r;

	if (!codes)
		return core_fail(err, CORE_ENOMEM, "no memory to pack %s", t->name);
	if (r0 == 0 && w->two_level)
		put_nested(w, t->nf4);
	for (r = r0; r < r1 && good; r++)
		good = put_nf4_row(w, t, r, codes);
	free(codes);
	return good ? CORE_OK : core_fail(err, CORE_EFORMAT, "tensor %s, row %u: an absmax is not finite", t->name, r - 1);
}

int pack_blocks(const struct matrix *w, const struct tensor *t, enum pack_form form, uint32_t b0, uint32_t b1,
		struct core_error *err)
{
	uint32_t end = b1 * LANES < w->rows ? b1 * LANES : w->rows;

	if (w->kind == PACK_INT)
		return put_int_rows(w, t, form, b0 * LANES, end, err);
	if (w->kind == PACK_NF4)
		return put_nf4_rows(w, t, b0 * LANES, end, err);
	if (w->kind == PACK_S8)
		return put_factor_rows(w, t, b0 * LANES, end, err);
	for (uint32_t r = b0 * LANES; r < end; r++)
		put_floats(w, r, tensor_row(t, r));
	return CORE_OK;
}
