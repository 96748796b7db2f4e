/* matmul_vec.h: what the vector forms of matmul.h share: the factors of integer kinds, and all of the float kinds, on 16 lanes. Of these, one
 * chain per output element, TILE_ROWS activation rows by TILE_BLOCKS blocks of weights at a time, so that each weight is loaded (and
 * widened) once per tile and there are chains enough to hide latency. */
#include "guest.h"
#include "matmul.h"
#include "vec16.h"

#ifdef __AVX512F__
enum { TILE_ROWS = 12, TILE_BLOCKS = 2, SCALED_ROWS = 6 };
#else
enum { TILE_ROWS = 4, TILE_BLOCKS = 1, SCALED_ROWS = 3 };
#endif

enum { FURTHER = 2048 };	/* bytes that a tile fetches ahead of itself when it is the only one to read its blocks */

/* Where a tile is: rows from x and out on, or wherever a list says; blocks b0 .. of w. */
struct float_place {
	float *out;
	size_t ldo;
	const struct matrix *w;
	const float *x;
	size_t ldx;
	uint32_t b0;
	bool ahead;		/* fetch the blocks that come next into the cache meanwhile */
	bool add;		/* to what out holds */
	struct guest *guest;	/* or NULL */
	float *const *far_out;	/* [rows], for tiles with `far` */
	const float *const *far_x;
};

/* far, rows and blocks are constants wherever they are named below. */
VEC const float *row_of(const struct float_place *p, uint32_t i, bool far)
{
	return far ? p->far_x[i] : p->x + i * p->ldx;
}

/* The factors of a group of block b, one a lane: scales, or minima. Two-level: an f16 for each SUPER k, times 8 bits for each group. */
VEC v16 factors(const uint16_t *high, const int8_t *sub, const struct matrix *w, uint32_t b, uint32_t g)
{
	high += b * matrix_block_scales(w);
	if (!w->two_level)
		return v16_half(high + (size_t)g * LANES);
	return v16_mul(v16_half(high + (size_t)g * w->group / SUPER * LANES), v16_bytes(sub + ((size_t)b * w->groups + g) * LANES));
}

enum { GUEST_K = 32 };		/* of k: a step of a guest's */

VEC void float_store(const struct float_place *p, uint32_t i, uint32_t b, v16 acc, bool far)
{
	float *out = (far ? p->far_out[i] : p->out + i * p->ldo) + (p->b0 + b) * LANES;

	v16_store(out, p->add ? v16_add(v16_load(out), acc) : acc);
}

VEC void float_tile(const struct float_place *p, uint32_t rows, uint32_t blocks, enum pack_kind kind, bool far)
{
	v16 acc[TILE_ROWS][MATMUL_CHUNK];
	const struct matrix *w = p->w;
	size_t stride = matrix_block_bytes(w), next = p->ahead ? blocks * stride : FURTHER;
	const unsigned char *c = w->codes + p->b0 * stride;

	UNROLL
	for (uint32_t i = 0; i < rows; i++)
		UNROLL
		for (uint32_t b = 0; b < blocks; b++)
			acc[i][b] = v16_zero();
	if (kind == PACK_BF16)
		for (uint32_t k = 0; k < w->kpad; k += 2, c += 64) {
			v16 even[MATMUL_CHUNK], odd[MATMUL_CHUNK];

			if (!far && p->guest && k % GUEST_K == 0)
				guest_step(p->guest);
			UNROLL
			for (uint32_t b = 0; b < blocks; b++) {
				_mm_prefetch((const char *)c + next + b * stride, _MM_HINT_T1);
				even[b] = v16_bf16_even(c + b * stride);
				odd[b] = v16_bf16_odd(c + b * stride);
			}
			UNROLL
			for (uint32_t i = 0; i < rows; i++)
				UNROLL
				for (uint32_t b = 0; b < blocks; b++)
					acc[i][b] = v16_fma(even[b], v16_all(row_of(p, i, far)[k]), acc[i][b]);
			UNROLL
			for (uint32_t i = 0; i < rows; i++)
				UNROLL
				for (uint32_t b = 0; b < blocks; b++)
					acc[i][b] = v16_fma(odd[b], v16_all(row_of(p, i, far)[k + 1]), acc[i][b]);
		}
	else
		for (uint32_t k = 0; k < w->kpad; k++, c += kind == PACK_F16 ? 32 : 64) {
			v16 v[MATMUL_CHUNK];

			if (!far && p->guest && k % GUEST_K == 0)
				guest_step(p->guest);
			UNROLL
			for (uint32_t b = 0; b < blocks; b++)
				v[b] = kind == PACK_F16 ? v16_half(c + b * stride) : v16_load((const float *)(c + b * stride));
			UNROLL
			for (uint32_t i = 0; i < rows; i++)
				UNROLL
				for (uint32_t b = 0; b < blocks; b++)
					acc[i][b] = v16_fma(v[b], v16_all(row_of(p, i, far)[k]), acc[i][b]);
		}
	UNROLL
	for (uint32_t i = 0; i < rows; i++)
		UNROLL
		for (uint32_t b = 0; b < blocks; b++)
			float_store(p, i, b, acc[i][b], far);
}

/* Of k: a cache line of a block. */
VEC uint32_t scaled_step(enum pack_kind kind)
{
	return kind == PACK_NF4 ? 8 : 4;
}

/* The i-th weights of a step, before their scale. */
VEC v16 scaled_weights(const unsigned char *c, uint32_t i, enum pack_kind kind, table16 nf4)
{
	return kind == PACK_NF4 ? v16_look(nf4, c, i < 4 ? 8 * i : 8 * (i - 4) + 4) : v16_bytes(c + i * LANES);
}

VEC v16 group_scales(const struct matrix *w, uint32_t b, uint32_t g, enum pack_kind kind)
{
	size_t at = (size_t)b * w->groups + g;

	if (kind == PACK_S8)
		return v16_bf16(w->scales + at * LANES);
	if (!w->two_level)
		return v16_load(w->absmax + at * LANES);
	return v16_add(v16_mul(v16_at_bytes(w->absmax + NF4_MAP_AT, w->sub_scales + at * LANES),
			       v16_at_steps(w->absmax + NF4_NESTED_AT, b * LANES * w->groups + g, w->groups)),
		       v16_all(w->absmax[NF4_OFFSET_AT]));
}

VEC void scaled_steps(v16 t[TILE_ROWS][MATMUL_CHUNK], const struct float_place *p, const unsigned char *c, size_t stride, size_t k0,
		      uint32_t rows, uint32_t blocks, uint32_t n, enum pack_kind kind, table16 nf4, bool far)
{
	UNROLL
	for (uint32_t k = 0; k < n; k++) {
		v16 v[MATMUL_CHUNK];

		UNROLL
		for (uint32_t b = 0; b < blocks; b++)
			v[b] = scaled_weights(c + b * stride, k, kind, nf4);
		UNROLL
		for (uint32_t i = 0; i < rows; i++)
			UNROLL
			for (uint32_t b = 0; b < blocks; b++)
				t[i][b] = v16_fma(v[b], v16_all(row_of(p, i, far)[k0 + k]), t[i][b]);
	}
}

/* The chains of neighbouring groups do not depend on each other, so even one row by one block keeps the multipliers busy. */
VEC void scaled_tile(const struct float_place *p, uint32_t rows, uint32_t blocks, enum pack_kind kind, bool far)
{
	v16 acc[TILE_ROWS][MATMUL_CHUNK];
	const struct matrix *w = p->w;
	const table16 nf4 = table16_load(matrix_nf4);
	const uint32_t step = scaled_step(kind);
	size_t k0 = 0, stride = matrix_block_bytes(w), next = p->ahead ? blocks * stride : FURTHER;
	const unsigned char *c = w->codes + p->b0 * stride;

	UNROLL
	for (uint32_t i = 0; i < rows; i++)
		UNROLL
		for (uint32_t b = 0; b < blocks; b++)
			acc[i][b] = v16_zero();
	for (uint32_t g = 0; g < w->groups; g++) {
		v16 t[TILE_ROWS][MATMUL_CHUNK];

		if (!far && p->guest)
			guest_step(p->guest);
		UNROLL
		for (uint32_t i = 0; i < rows; i++)
			UNROLL
			for (uint32_t b = 0; b < blocks; b++)
				t[i][b] = v16_zero();
		for (uint32_t k = 0; k < w->group; k += step) {
			uint32_t n = w->group - k < step ? w->group - k : step;

			UNROLL
			for (uint32_t b = 0; b < blocks; b++)
				_mm_prefetch((const char *)c + next + b * stride, _MM_HINT_T1);
			if (kind == PACK_NF4 || n == step)
				scaled_steps(t, p, c, stride, k0, rows, blocks, step, kind, nf4, far);
			else
				scaled_steps(t, p, c, stride, k0, rows, blocks, n, kind, nf4, far);
			c += kind == PACK_NF4 ? 64 : n * LANES;
			k0 += n;
		}
		UNROLL
		for (uint32_t b = 0; b < blocks; b++) {
			v16 scale = group_scales(w, p->b0 + b, g, kind);

			UNROLL
			for (uint32_t i = 0; i < rows; i++)
				acc[i][b] = v16_fma(scale, t[i][b], acc[i][b]);
		}
	}
	UNROLL
	for (uint32_t i = 0; i < rows; i++)
		UNROLL
		for (uint32_t b = 0; b < blocks; b++)
			float_store(p, i, b, acc[i][b], far);
}

VEC uint32_t scaled_height(uint32_t m)
{
	return m >= SCALED_ROWS ? SCALED_ROWS : m >= 2 ? 2 : 1;
}

VEC void scaled_blocks(struct float_place p, uint32_t m, uint32_t blocks, enum pack_kind kind)
{
	uint32_t rows;

	for (p.ahead = m > 2; m; m -= rows, p.ahead = false) {
		rows = scaled_height(m);
		if (rows == SCALED_ROWS)
			scaled_tile(&p, SCALED_ROWS, blocks, kind, false);
		else if (rows == 2)
			scaled_tile(&p, 2, blocks, kind, false);
		else
			scaled_tile(&p, 1, blocks, kind, false);
		p.x += rows * p.ldx;
		p.out += rows * p.ldo;
	}
}

VEC void scaled_kind(struct float_place p, uint32_t m, uint32_t b1, enum pack_kind kind)
{
	size_t passes = 0;

	for (; m == 1 && p.b0 + MATMUL_CHUNK <= b1; p.b0 += MATMUL_CHUNK)
		scaled_tile(&p, 1, MATMUL_CHUNK, kind, false);
	for (uint32_t left = m; left; left -= scaled_height(left))
		passes++;
	if (p.guest)
		guest_begin(p.guest, passes * ((b1 - p.b0 + TILE_BLOCKS - 1) / TILE_BLOCKS) * p.w->groups);
	for (; p.b0 + TILE_BLOCKS <= b1; p.b0 += TILE_BLOCKS)
		scaled_blocks(p, m, TILE_BLOCKS, kind);
	for (; p.b0 < b1; p.b0++)
		scaled_blocks(p, m, 1, kind);
}

/* The tallest tile that leaves a sensible rest: 16 rows as 8 + 8, 20 as 8 + 12. */
VEC uint32_t tile_height(uint32_t m)
{
	if (TILE_ROWS == 12)
		return m == 12 || m >= 20 ? 12 : m >= 8 ? 8 : m >= 4 ? 4 : m >= 2 ? 2 : 1;
	return m >= 4 ? 4 : m >= 2 ? 2 : 1;
}

VEC uint32_t float_passes(uint32_t m)
{
	uint32_t n = 0;

	for (; m; m -= tile_height(m))
		n++;
	return n;
}

VEC void float_blocks(struct float_place p, uint32_t m, uint32_t blocks, enum pack_kind kind)
{
	uint32_t rows;

	for (p.ahead = m > 2; m; m -= rows, p.ahead = false) {
		rows = tile_height(m);
		switch (rows) {
		case 1:
			float_tile(&p, 1, blocks, kind, false);
			break;
		case 2:
			float_tile(&p, 2, blocks, kind, false);
			break;
		case 4:
			float_tile(&p, 4, blocks, kind, false);
			break;
		case 8:
			float_tile(&p, TILE_ROWS < 8 ? TILE_ROWS : 8, blocks, kind, false);
			break;
		default:
			float_tile(&p, TILE_ROWS, blocks, kind, false);
		}
		p.x += rows * p.ldx;
		p.out += rows * p.ldo;
	}
}

VEC void float_kind(struct float_place p, uint32_t m, uint32_t b1, enum pack_kind kind)
{
	if (m == 1) {	/* more blocks give the chains that hide latency */
		for (; p.b0 + MATMUL_CHUNK <= b1; p.b0 += MATMUL_CHUNK)
			float_tile(&p, 1, MATMUL_CHUNK, kind, false);
		if (p.b0 + 3 == b1) {
			float_tile(&p, 1, 3, kind, false);
			return;
		}
	}
	if (p.guest)
		guest_begin(p.guest, (size_t)float_passes(m) * ((b1 - p.b0 + TILE_BLOCKS - 1) / TILE_BLOCKS) *
					     ((p.w->kpad + GUEST_K - 1) / GUEST_K));
	for (; p.b0 + TILE_BLOCKS <= b1; p.b0 += TILE_BLOCKS)
		float_blocks(p, m, TILE_BLOCKS, kind);
	for (; p.b0 < b1; p.b0++)
		float_blocks(p, m, 1, kind);
}

VEC void matmul_floats(float *out, size_t ldo, const struct matrix *w, const struct rows *x, uint32_t m, uint32_t b0, uint32_t b1,
		       bool add)
{
	struct float_place p = { .out = out, .ldo = ldo, .w = w, .x = x->f, .ldx = x->ld, .b0 = b0, .add = add,
				 .guest = m > 2 ? x->guest : NULL };

	if (w->kind == PACK_BF16)
		float_kind(p, m, b1, PACK_BF16);
	else if (w->kind == PACK_F16)
		float_kind(p, m, b1, PACK_F16);
	else if (w->kind == PACK_S8)
		scaled_kind(p, m, b1, PACK_S8);
	else
		float_kind(p, m, b1, PACK_F32);
}

VEC void matmul_nf4(float *out, size_t ldo, const struct matrix *w, const struct rows *x, uint32_t m, uint32_t b0, uint32_t b1)
{
	struct float_place p = { .out = out, .ldo = ldo, .w = w, .x = x->f, .ldx = x->ld, .b0 = b0, .guest = m > 2 ? x->guest : NULL };

	scaled_kind(p, m, b1, PACK_NF4);
}

/* ---- few rows, anywhere ---- */

VEC void few_tile(const struct float_place *p, uint32_t rows, uint32_t blocks, enum pack_kind kind)
{
	if (kind == PACK_S8)
		scaled_tile(p, rows, blocks, PACK_S8, true);
	else
		float_tile(p, rows, blocks, kind, true);
}

/* As many blocks at a time as the registers hold the sums of. */
VEC void few_blocks(struct float_place p, uint32_t rows, uint32_t b1, enum pack_kind kind)
{
	const uint32_t most = rows == 1 ? MATMUL_CHUNK : TILE_BLOCKS == 1 ? 1 : kind == PACK_S8 ? 2 : MATMUL_CHUNK;

	for (; p.b0 + most <= b1; p.b0 += most)
		few_tile(&p, rows, most, kind);
	if (most == MATMUL_CHUNK && p.b0 + 3 == b1)
		few_tile(&p, rows, 3, kind);
	else if (most > 2 && p.b0 + 2 == b1)
		few_tile(&p, rows, 2, kind);
	else if (most > 1 && p.b0 + 1 == b1)
		few_tile(&p, rows, 1, kind);
}

VEC void few_rows(const struct float_place *p, uint32_t m, uint32_t b1, enum pack_kind kind)
{
	switch (m) {
	case 1:
		few_blocks(*p, 1, b1, kind);
		break;
	case 2:
		few_blocks(*p, 2, b1, kind);
		break;
	case 3:
		few_blocks(*p, 3, b1, kind);
		break;
	default:
		few_blocks(*p, MATMUL_FEW, b1, kind);
	}
}

/* ---- few rows, each with a matrix of its own: their chains hide each other's latency, and so do their reads ---- */

VEC void each_float(const struct float_place *p, const struct matrix *const w[], uint32_t rows, enum pack_kind kind)
{
	const size_t stride = matrix_block_bytes(p->w), step = kind == PACK_F32 || kind == PACK_BF16 ? 64 : 32;
	const unsigned char *c[MATMUL_FEW];
	v16 acc[MATMUL_FEW];

	UNROLL
	for (uint32_t i = 0; i < rows; i++) {
		acc[i] = v16_zero();
		c[i] = w[i]->codes + p->b0 * stride;
	}
	for (size_t k = 0, at = 0; k < p->w->kpad; at += step) {
		v16 odd[MATMUL_FEW];

		UNROLL
		for (uint32_t i = 0; i < rows; i++) {
			v16 v;

			_mm_prefetch((const char *)c[i] + at + FURTHER, _MM_HINT_T0);
			if (kind == PACK_BF16) {
				v = v16_bf16_even(c[i] + at);
				odd[i] = v16_bf16_odd(c[i] + at);
			} else {
				v = kind == PACK_F16 ? v16_half(c[i] + at) : v16_load((const float *)(c[i] + at));
			}
			acc[i] = v16_fma(v, v16_all(p->far_x[i][k]), acc[i]);
		}
		k++;
		if (kind != PACK_BF16)
			continue;
		UNROLL
		for (uint32_t i = 0; i < rows; i++)
			acc[i] = v16_fma(odd[i], v16_all(p->far_x[i][k]), acc[i]);
		k++;
	}
	UNROLL
	for (uint32_t i = 0; i < rows; i++)
		float_store(p, i, 0, acc[i], true);
}

/* n of k, from k0 on, whose codes lie at `at`. */
VEC void each_s8_step(v16 t[MATMUL_FEW], const struct float_place *p, const struct matrix *const w[], size_t at, size_t k0,
		      uint32_t rows, uint32_t n)
{
	UNROLL
	for (uint32_t k = 0; k < n; k++)
		UNROLL
		for (uint32_t i = 0; i < rows; i++)
			t[i] = v16_fma(v16_bytes(w[i]->codes + at + k * LANES), v16_all(p->far_x[i][k0 + k]), t[i]);
}

VEC void each_s8(const struct float_place *p, const struct matrix *const w[], uint32_t rows)
{
	const size_t stride = matrix_block_bytes(p->w), scales = matrix_block_scales(p->w);
	const uint32_t step = scaled_step(PACK_S8);
	v16 acc[MATMUL_FEW];
	size_t at = p->b0 * stride, k0 = 0;

	UNROLL
	for (uint32_t i = 0; i < rows; i++)
		acc[i] = v16_zero();
	for (uint32_t g = 0; g < p->w->groups; g++) {
		v16 t[MATMUL_FEW];

		UNROLL
		for (uint32_t i = 0; i < rows; i++)
			t[i] = v16_zero();
		for (uint32_t k = 0; k < p->w->group; k += step) {
			uint32_t n = p->w->group - k < step ? p->w->group - k : step;

			UNROLL
			for (uint32_t i = 0; i < rows; i++)
				_mm_prefetch((const char *)w[i]->codes + at + FURTHER, _MM_HINT_T0);
			if (n == step)
				each_s8_step(t, p, w, at, k0, rows, step);
			else
				each_s8_step(t, p, w, at, k0, rows, n);
			at += n * LANES;
			k0 += n;
		}
		UNROLL
		for (uint32_t i = 0; i < rows; i++)
			acc[i] = v16_fma(v16_bf16(w[i]->scales + p->b0 * scales + (size_t)g * LANES), t[i], acc[i]);
	}
	UNROLL
	for (uint32_t i = 0; i < rows; i++)
		float_store(p, i, 0, acc[i], true);
}

VEC void each_blocks(struct float_place p, const struct matrix *const w[], uint32_t rows, uint32_t b1, enum pack_kind kind)
{
	for (; p.b0 < b1; p.b0++)
		if (kind == PACK_S8)
			each_s8(&p, w, rows);
		else
			each_float(&p, w, rows, kind);
}

VEC void each_rows(const struct float_place *p, const struct matrix *const w[], uint32_t m, uint32_t b1, enum pack_kind kind)
{
	if (m == 2)
		each_blocks(*p, w, 2, b1, kind);
	else if (m == 3)
		each_blocks(*p, w, 3, b1, kind);
	else
		each_blocks(*p, w, MATMUL_FEW, b1, kind);
}

VEC void few_kind(const struct float_place *p, const struct matrix *const w[], uint32_t m, uint32_t b1, enum pack_kind kind)
{
	bool same = true;

	for (uint32_t i = 1; i < m; i++)
		same &= w[i] == w[0];
	if (same)
		few_rows(p, m, b1, kind);
	else
		each_rows(p, w, m, b1, kind);
}

VEC void matmul_few(float *const out[], const struct matrix *const w[], const float *const x[], uint32_t m, uint32_t b0, uint32_t b1,
		    bool add)
{
	struct float_place p = { .w = w[0], .b0 = b0, .add = add, .far_out = out, .far_x = x };

	if (w[0]->kind == PACK_BF16)
		few_kind(&p, w, m, b1, PACK_BF16);
	else if (w[0]->kind == PACK_F16)
		few_kind(&p, w, m, b1, PACK_F16);
	else if (w[0]->kind == PACK_S8)
		few_kind(&p, w, m, b1, PACK_S8);
	else
		few_kind(&p, w, m, b1, PACK_F32);
}
