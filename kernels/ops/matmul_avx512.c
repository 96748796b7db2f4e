/* matmul_avx512.c: integers by VNNI: one dpbusd does 4 k of 16 rows, on the packed codes as they lie in memory. */
#include "guest.h"
#include "matmul_vec.h"

enum { INT_ROWS = 6, AHEAD = 2048, AT_ONCE = 16 };

VEC __m512i four(const int8_t *q)
{
	int32_t v;

	memcpy(&v, q, 4);
	return _mm512_set1_epi32(v);
}

/* n += u . q. As an instruction of ours: the intrinsic makes GCC 12 copy every sum to another register and back. */
VEC void dot(__m512i *n, __m512i u, __m512i q)
{
	__asm__("vpdpbusd %2, %1, %0" : "+v"(*n) : "v"(u), "v"(q));
}

/* Where a tile is: rows first .. of x, blocks b0 .. of w. */
struct place {
	float *out;
	size_t ldo;
	const struct matrix *w;
	const struct rows *x;
	uint32_t first, b0;
	uint32_t pass, passes;	/* this tile reads the weights for the pass-th of `passes` times */
};

/* Into the first cache, or into the second. */
VEC void fetch(const void *at, bool first)
{
	if (first)
		_mm_prefetch(at, _MM_HINT_T0);
	else
		_mm_prefetch(at, _MM_HINT_T1);
}

/* One group: n[i][b] = -zero * sum + codes . q
 *
 * What comes next is fetched into the cache meanwhile, `ahead` bytes per step. In one pass: a little ahead in the same blocks. In
 * several: the blocks that follow, a part in each pass; the arithmetic takes about as long as memory does, and without this the
 * two would take turns. */
VEC void int_group(__m512i n[INT_ROWS][MATMUL_CHUNK], const unsigned char *c, const char *next, size_t ahead, size_t stride,
		   const int8_t *q, size_t ldq, uint32_t rows, uint32_t blocks, uint32_t group, unsigned bits, bool first)
{
	const __m512i low = _mm512_set1_epi8(15);

	for (uint32_t k = 0; k < group; k += 32 / bits, c += 64, next += ahead) {
		__m512i v[MATMUL_CHUNK], u[MATMUL_CHUNK];

		UNROLL
		for (uint32_t b = 0; b < blocks; b++) {
			u[b] = v[b] = _mm512_loadu_si512(c + b * stride);
			fetch(next + b * stride, first);
			if (bits == 4) {
				u[b] = _mm512_and_si512(_mm512_srli_epi16(v[b], 4), low);
				v[b] = _mm512_and_si512(v[b], low);
			}
		}
		UNROLL
		for (uint32_t i = 0; i < rows; i++) {
			__m512i q0 = four(q + i * ldq + k);

			UNROLL
			for (uint32_t b = 0; b < blocks; b++)
				dot(&n[i][b], v[b], q0);
		}
		if (bits == 4) {
			UNROLL
			for (uint32_t i = 0; i < rows; i++) {
				__m512i q1 = four(q + i * ldq + k + 4);

				UNROLL
				for (uint32_t b = 0; b < blocks; b++)
					dot(&n[i][b], u[b], q1);
			}
		}
	}
}

/* A line of each block's factors in so many groups: `bytes` of them a group. */
VEC void fetch_lines(const void *at, size_t block_bytes, uint32_t g, uint32_t bytes, uint32_t blocks, bool first)
{
	for (uint32_t b = 0; b < blocks && g * bytes % 64 == 0; b++)
		fetch((const char *)at + b * block_bytes + (size_t)g * bytes, first);
}

/* Those that the next blocks need: too few bytes a block for the hardware to see them coming. */
VEC void fetch_factors(const struct place *p, uint32_t g, uint32_t blocks, bool first)
{
	const struct matrix *w = p->w;
	size_t high = matrix_block_scales(w), sub = (size_t)w->groups * LANES, next = p->b0 + blocks;

	if (w->group < 32)	/* the instructions cost more than they save */
		return;
	if (w->two_level) {
		fetch_lines(w->sub_scales + next * sub, sub, g, LANES, blocks, first);
		if (w->has_min)
			fetch_lines(w->sub_mins + next * sub, sub, g, LANES, blocks, first);
	} else {
		fetch_lines(w->scales + next * high, high * 2, g, LANES * 2, blocks, first);
		if (w->has_min)
			fetch_lines(w->mins + next * high, high * 2, g, LANES * 2, blocks, first);
	}
}

/* Where one pass of all blocks fetches codes: further on, and from the end of its blocks in those of the next part. */
VEC const char *one_pass_ahead(const unsigned char *codes, uint32_t g, size_t step, size_t stride)
{
	return (const char *)codes + AHEAD + (g * step + AHEAD < stride ? 0 : (MATMUL_CHUNK - 1) * stride);
}

/* What the codes' zero and a minimum of 1 take off some rows, in AT_ONCE groups from g on. Of one or two rows it is as well made when it is used. */
struct terms {
	int32_t zero[INT_ROWS][AT_ONCE];
	float min[INT_ROWS][AT_ONCE];
};

VEC void row_terms(struct terms *t, const struct matrix *w, const float *xs, const int32_t *sum, uint32_t g, uint32_t rows)
{
	const __mmask16 some = (__mmask16)((1u << (w->groups - g < AT_ONCE ? w->groups - g : AT_ONCE)) - 1);
	const __m512i zero = _mm512_set1_epi32(-(int32_t)w->zero);

	for (uint32_t i = 0; i < rows; i++) {
		__m512i n = _mm512_maskz_loadu_epi32(some, sum + (size_t)i * w->groups);
		v16 scale = _mm512_maskz_loadu_ps(some, xs + (size_t)i * w->groups);

		_mm512_storeu_si512(t->zero[i], _mm512_mullo_epi32(n, zero));
		if (w->has_min)
			v16_store(t->min[i], _mm512_xor_ps(v16_mul(scale, _mm512_cvtepi32_ps(n)), v16_all(-0.0f)));
	}
}

/* first: see int_one_pass(). */
VEC void int_tile(const struct place *p, uint32_t rows, uint32_t blocks, unsigned bits, bool first)
{
	const struct matrix *w = p->w;
	v16 acc[INT_ROWS][MATMUL_CHUNK];
	size_t stride = matrix_block_bytes(w);
	const unsigned char *codes = w->codes + p->b0 * stride;
	const char *next = (const char *)codes + blocks * stride + p->pass * stride / p->passes;
	size_t step = (size_t)w->group * LANES * bits / 8;
	const int8_t *q = p->x->q + p->first * p->x->ldq;
	const float *xs = p->x->scale + (size_t)p->first * w->groups;
	const int32_t *sum = p->x->sum + (size_t)p->first * w->groups;
	struct terms t;

	UNROLL
	for (uint32_t i = 0; i < rows; i++)
		UNROLL
		for (uint32_t b = 0; b < blocks; b++)
			acc[i][b] = v16_zero();
	for (uint32_t g = 0; g < w->groups; g++, q += w->group, codes += step, xs++, sum++) {
		__m512i n[INT_ROWS][MATMUL_CHUNK];

		if (rows > 2 && g % AT_ONCE == 0)
			row_terms(&t, w, xs, sum, g, rows);
		UNROLL
		for (uint32_t i = 0; i < rows; i++)
			UNROLL
			for (uint32_t b = 0; b < blocks; b++)
				n[i][b] = _mm512_set1_epi32(rows > 2 ? t.zero[i][g % AT_ONCE] : -(int32_t)w->zero * sum[i * w->groups]);
		if (p->pass == 0)
			fetch_factors(p, g, blocks, first);
		if (blocks == MATMUL_CHUNK)
			int_group(n, codes, one_pass_ahead(codes, g, step, stride), 64, stride, q, p->x->ldq, rows, blocks, w->group, bits,
				  first);
		else
			int_group(n, codes, next + g * step / p->passes, 64 / p->passes, stride, q, p->x->ldq, rows, blocks, w->group,
				  bits, false);
		if (p->passes > 1 && p->x->guest)
			guest_step(p->x->guest);
		UNROLL
		for (uint32_t b = 0; b < blocks; b++) {
			v16 scale = factors(w->scales, w->sub_scales, w, p->b0 + b, g);

			UNROLL
			for (uint32_t i = 0; i < rows; i++)
				acc[i][b] =
					v16_fma(v16_mul(scale, v16_all(xs[i * w->groups])), _mm512_cvtepi32_ps(n[i][b]), acc[i][b]);
		}
		if (!w->has_min)
			continue;
		UNROLL
		for (uint32_t b = 0; b < blocks; b++) {
			v16 min = factors(w->mins, w->sub_mins, w, p->b0 + b, g);

			UNROLL
			for (uint32_t i = 0; i < rows; i++)
				acc[i][b] = v16_fma(min, v16_all(rows > 2 ? t.min[i][g % AT_ONCE] : -(xs[i * w->groups] * (float)sum[i * w->groups])),
						    acc[i][b]);
		}
	}
	UNROLL
	for (uint32_t i = 0; i < rows; i++)
		UNROLL
		for (uint32_t b = 0; b < blocks; b++)
			v16_store(p->out + (p->first + i) * p->ldo + (p->b0 + b) * LANES, acc[i][b]);
}

/* Functions of their own, so that the compiler gives each its registers. */
#define TILE(name, ...)                                                                                                            \
	static __attribute__((noinline)) void name(const struct place *p)                                                          \
	{                                                                                                                          \
		int_tile(p, __VA_ARGS__);                                                                                          \
	}
#define TILES(blocks, bits)                                                                                                        \
	TILE(tile_1_##blocks##_##bits, 1, blocks, bits, false)                                                                     \
	TILE(tile_2_##blocks##_##bits, 2, blocks, bits, false)                                                                     \
	TILE(tile_3_##blocks##_##bits, 3, blocks, bits, false)                                                                     \
	TILE(tile_4_##blocks##_##bits, 4, blocks, bits, false)                                                                     \
	TILE(tile_5_##blocks##_##bits, 5, blocks, bits, false)                                                                     \
	TILE(tile_6_##blocks##_##bits, 6, blocks, bits, false)                                                                     \
	static void (*const tiles_##blocks##_##bits[INT_ROWS])(const struct place *) = {                                           \
		tile_1_##blocks##_##bits, tile_2_##blocks##_##bits, tile_3_##blocks##_##bits,                                      \
		tile_4_##blocks##_##bits, tile_5_##blocks##_##bits, tile_6_##blocks##_##bits,                                      \
	};
#define ONE_PASS(bits)                                                                                                             \
	TILE(first_1_##bits, 1, MATMUL_CHUNK, bits, true)                                                                          \
	TILE(second_1_##bits, 1, MATMUL_CHUNK, bits, false)                                                                        \
	TILE(first_2_##bits, 2, MATMUL_CHUNK, bits, true)                                                                          \
	TILE(second_2_##bits, 2, MATMUL_CHUNK, bits, false)                                                                        \
	static void (*const one_pass_##bits[2][2])(const struct place *) = { { second_1_##bits, second_2_##bits },                 \
									     { first_1_##bits, first_2_##bits } };

TILES(1, 4)
TILES(2, 4)
TILES(1, 8)
TILES(2, 8)
ONE_PASS(4)
ONE_PASS(8)

/* m rows in as few tiles as possible, of nearly equal height: 8 as 4 + 4, not 6 + 2. tile: by rows. */
static void int_blocks(struct place *p, uint32_t m, void (*const tile[INT_ROWS])(const struct place *))
{
	p->passes = (m + INT_ROWS - 1) / INT_ROWS;
	p->first = 0;
	for (p->pass = 0; p->pass < p->passes; p->pass++) {
		uint32_t rows = m / p->passes + (p->pass < m % p->passes);

		tile[rows - 1](p);
		p->first += rows;
	}
}

/* Few rows: more blocks give the chains that hide latency. The weights pass once, and what fetches them decides how fast: an AMD core has
 * so few misses of its first cache under way at a time that it gets half of what its second one fetches. */
static void int_one_pass(const struct place *p, uint32_t m, unsigned bits)
{
	const bool first = __builtin_cpu_is("intel");

	(bits == 4 ? one_pass_4 : one_pass_8)[first][m - 1](p);
}

static void int_bits(struct place p, uint32_t m, uint32_t b1, unsigned bits)
{
	if (m <= 2 && b1 - p.b0 == MATMUL_CHUNK) {
		int_one_pass(&p, m, bits);
		return;
	}
	if (p.x->guest)
		guest_begin(p.x->guest, (size_t)(m + INT_ROWS - 1) / INT_ROWS * ((b1 - p.b0 + 1) / 2) * p.w->groups);
	for (; p.b0 + 2 <= b1; p.b0 += 2)
		int_blocks(&p, m, bits == 4 ? tiles_2_4 : tiles_2_8);
	if (p.b0 < b1)
		int_blocks(&p, m, bits == 4 ? tiles_1_4 : tiles_1_8);
}

void matmul_avx512(float *out, size_t ldo, const struct matrix *w, const struct rows *x, uint32_t m, uint32_t b0, uint32_t b1)
{
	struct place p = { out, ldo, w, x, 0, b0, 0, 1 };

	if (w->kind == PACK_NF4)
		matmul_nf4(out, ldo, w, x, m, b0, b1);
	else if (w->kind != PACK_INT)
		matmul_floats(out, ldo, w, x, m, b0, b1, false);
	else if (w->bits == 8)
		int_bits(p, m, b1, 8);
	else
		int_bits(p, m, b1, 4);
}

void matmul_add_avx512(float *out, size_t ldo, const struct matrix *w, const struct rows *x, uint32_t m, uint32_t b0, uint32_t b1)
{
	matmul_floats(out, ldo, w, x, m, b0, b1, true);
}

void matmul_few_avx512(float *const out[], const struct matrix *const w[], const float *const x[], uint32_t m, uint32_t b0,
		     uint32_t b1, bool add)
{
	matmul_few(out, w, x, m, b0, b1, add);
}
