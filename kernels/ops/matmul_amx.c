/* matmul_amx.c: integers by AMX tiles. One instruction multiplies 16 activation rows by a 64-byte deep tile of 16 outputs.
 *
 * A part (up to four blocks of W) goes slice by slice along k, and 16 rows at a time pass over a slice, group after group. A slice's
 * codes stay in the first cache meanwhile: 8-bit codes as they lie in memory, 4-bit codes unpacked once, in the order of tiles; so do
 * its factors, as f32. A group's integer sums leave the tiles and meet the float sums, which are in registers, in the order of
 * matmul.h: the bits are those of every other file.
 *
 * The instructions are written out: GCC's intrinsics do not tell the compiler that they read and write memory, and in GCC 12
 * _tile_loadconfig names 8 of its operand's 64 bytes, so that the stores to the others are dropped as dead. */
#include "matmul_vec.h"

enum { TILE_M = 16, DEPTH = 64 };
enum { SLICE = 512, SMALLEST_GROUP = 16 };	/* of k: MATMUL_CHUNK blocks of 8 KiB */
enum { FEW = 12 };	/* so few rows are as fast without tiles */

/* For each group of a slice: one float per output of a block. */
typedef float group_factors[SLICE / SMALLEST_GROUP][MATMUL_CHUNK][LANES];

struct slice {
	const struct matrix *w;
	const struct rows *x;
	float *out;
	size_t ldo;
	uint32_t b0, m;
	uint32_t k0, k1;		/* of k: whole groups */
	const uint8_t *codes;		/* [blocks][stride]: [(k1 - k0) / 4][16][4] */
	size_t stride;
	const unsigned char *next;	/* codes of the slice that follows, in the first block */
	uint32_t configured;		/* rows that the tiles are configured for */
	group_factors scale, min;
};

struct tile_config {
	uint8_t palette, start_row, reserved[14];
	uint16_t bytes[16];
	uint8_t rows[16];
};

/* Tiles 0 and 1: sums [rows][16]; 4: activations [rows][bytes]; 5: codes [bytes / 4][16][4]. Loading a configuration takes as long as a
 * dozen products, so it happens when the number of rows changes. */
static void configure(struct slice *s, uint32_t rows)
{
	struct tile_config c = { .palette = 1 };
	uint32_t bytes = s->w->group < DEPTH ? s->w->group : DEPTH;

	if (rows == s->configured)
		return;
	s->configured = rows;
	c.rows[0] = c.rows[1] = c.rows[4] = (uint8_t)rows;
	c.bytes[0] = c.bytes[1] = c.bytes[5] = LANES * 4;
	c.bytes[4] = (uint16_t)bytes;
	c.rows[5] = (uint8_t)(bytes / 4);
	__asm__ volatile("ldtilecfg %0" : : "m"(c));
}

#define TILE_ZERO(t) __asm__ volatile("tilezero %%tmm" #t : :)
#define TILE_LOAD(t, from, stride)                                                                                                 \
	__asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t : : "r"(from), "r"((size_t)(stride)) : "memory")
#define TILE_STORE(t, to) __asm__ volatile("tilestored %%tmm" #t ", (%0,%1,1)" : : "r"(to), "r"((size_t)LANES * 4) : "memory")
#define TILE_DOT(sum, codes) __asm__ volatile("tdpbsud %%tmm" #codes ", %%tmm4, %%tmm" #sum : :)

/* ---- staging ---- */

static void unpack(uint8_t *to, const unsigned char *from, size_t lines)
{
	const __m512i low = _mm512_set1_epi8(15);

	for (size_t i = 0; i < lines; i++) {
		__m512i v = _mm512_loadu_si512(from + 64 * i);

		_mm512_store_si512(to + 128 * i, _mm512_and_si512(v, low));
		_mm512_store_si512(to + 128 * i + 64, _mm512_and_si512(_mm512_srli_epi16(v, 4), low));
	}
}

/* Codes of 4 bits go to `room`. */
static void stage(struct slice *s, uint8_t *room, uint32_t blocks)
{
	const struct matrix *w = s->w;
	size_t block = matrix_block_bytes(w), depth = s->k1 - s->k0;

	s->codes = w->codes + s->b0 * block + (size_t)s->k0 * LANES * w->bits / 8;
	s->stride = block;
	for (uint32_t b = 0; b < blocks && w->bits == 4; b++)
		unpack(room + b * depth * LANES, s->codes + b * block, depth * LANES / 128);
	if (w->bits == 4) {
		s->codes = room;
		s->stride = depth * LANES;
	}
	for (uint32_t g = s->k0 / w->group, j = 0; g < s->k1 / w->group; g++, j++)
		for (uint32_t b = 0; b < blocks; b++) {
			v16_store(s->scale[j][b], factors(w->scales, w->sub_scales, w, s->b0 + b, g));
			if (w->has_min)
				v16_store(s->min[j][b], factors(w->mins, w->sub_mins, w, s->b0 + b, g));
		}
}

/* ---- 16 rows by one block ---- */

typedef int32_t tile_sums[TILE_M][LANES];

/* What rows 0 .. 15 bring to each group of the slice: their scale, the factor of a minimum, and what the codes' zero adds up to.
 * Rows that are not there have zeros. */
struct tile_rows {
	float scale[TILE_M][SLICE / SMALLEST_GROUP], min[TILE_M][SLICE / SMALLEST_GROUP];
	int32_t zero[TILE_M][SLICE / SMALLEST_GROUP];
};

static void row_factors(struct tile_rows *t, const struct slice *s, uint32_t first, uint32_t rows)
{
	uint32_t groups = s->w->groups, g0 = s->k0 / s->w->group, n = s->k1 / s->w->group - g0;
	__m512i zero = _mm512_set1_epi32(s->w->zero);

	for (uint32_t i = 0; i < rows; i++)
		for (uint32_t j = 0; j < n; j += 16) {
			size_t at = (size_t)(first + i) * groups + g0 + j;
			__mmask16 some = (__mmask16)((1u << (n - j < 16 ? n - j : 16)) - 1);
			__m512i sum = _mm512_maskz_loadu_epi32(some, s->x->sum + at);
			v16 scale = _mm512_maskz_loadu_ps(some, s->x->scale + at), product = v16_mul(scale, _mm512_cvtepi32_ps(sum));

			v16_store(&t->scale[i][j], scale);
			v16_store(&t->min[i][j], _mm512_xor_ps(product, v16_all(-0.0f)));
			_mm512_storeu_si512(&t->zero[i][j], _mm512_mullo_epi32(sum, zero));
		}
}

/* Where one block of a slice meets 16 rows. */
struct meeting {
	const int8_t *q;
	size_t ldq;
	const uint8_t *c;
	uint32_t group;
	const char *next;		/* what is fetched meanwhile, a share with each group; NULL: nothing */
	uint32_t share;
};

/* The j-th group's sums into tile 0 or 1. */
VEC void group_sums(const struct meeting *t, uint32_t j, uint32_t steps, int tile)
{
	const int8_t *q = t->q + j * t->group;
	const uint8_t *c = t->c + (size_t)j * t->group * LANES;

	if (tile)
		TILE_ZERO(1);
	else
		TILE_ZERO(0);
	UNROLL
	for (uint32_t k = 0; k < steps; k++) {
		TILE_LOAD(4, q + k * DEPTH, t->ldq);
		TILE_LOAD(5, c + k * DEPTH * LANES, 64);
		if (tile)
			TILE_DOT(1, 5);
		else
			TILE_DOT(0, 5);
	}
}

/* What the j-th group of the slice adds to the float sums. */
VEC void add_group(v16 acc[TILE_M], const tile_sums n, const struct slice *s, const struct tile_rows *t, uint32_t b, uint32_t j,
		   bool has_zero, bool has_min)
{
	v16 scale = v16_load(s->scale[j][b]), min = has_min ? v16_load(s->min[j][b]) : v16_zero();

	UNROLL
	for (uint32_t i = 0; i < TILE_M; i++) {
		__m512i sum = _mm512_load_si512(n[i]);

		if (has_zero)
			sum = _mm512_sub_epi32(sum, _mm512_set1_epi32(t->zero[i][j]));
		acc[i] = v16_fma(v16_mul(scale, v16_all(t->scale[i][j])), _mm512_cvtepi32_ps(sum), acc[i]);
		if (has_min)
			acc[i] = v16_fma(min, v16_all(t->min[i][j]), acc[i]);
	}
}

VEC void fetch(const struct meeting *at, uint32_t j)
{
	for (uint32_t i = 0; at->next && i < at->share; i += 64)
		_mm_prefetch(at->next + (size_t)j * at->share + i, _MM_HINT_T1);
}

/* Two groups are under way: while the sums of one leave their tile and meet the float sums, the other's tile is multiplied. */
VEC void block_groups(v16 acc[TILE_M], tile_sums n[2], const struct slice *s, const struct tile_rows *t, const struct meeting *at,
		      uint32_t b, uint32_t steps, bool has_zero, bool has_min)
{
	uint32_t groups = (s->k1 - s->k0) / s->w->group;

	fetch(at, 0);
	group_sums(at, 0, steps, 0);
	TILE_STORE(0, n[0]);
	for (uint32_t j = 0; j < groups; j += 2) {
		if (j + 1 < groups) {
			fetch(at, j + 1);
			group_sums(at, j + 1, steps, 1);
		}
		add_group(acc, n[0], s, t, b, j, has_zero, has_min);
		if (j + 1 == groups)
			break;
		TILE_STORE(1, n[1]);
		if (j + 2 < groups) {
			fetch(at, j + 2);
			group_sums(at, j + 2, steps, 0);
		}
		add_group(acc, n[1], s, t, b, j + 1, has_zero, has_min);
		if (j + 2 < groups)
			TILE_STORE(0, n[0]);
	}
}

/* ---- a slice ---- */

/* The activations that the next 16 rows read from the second cache. */
static void fetch_rows(const int8_t *q, size_t ldq, uint32_t rows, uint32_t depth)
{
	for (uint32_t i = 0; i < rows; i++)
		for (uint32_t k = 0; k < depth; k += 64)
			_mm_prefetch((const char *)q + i * ldq + k, _MM_HINT_T0);
}

VEC void slice_tiles(struct slice *s, uint32_t blocks, uint32_t steps, bool has_zero, bool has_min)
{
	tile_sums n[2] __attribute__((aligned(64))) = { 0 };
	struct tile_rows t = { 0 };
	size_t ldq = s->x->ldq;

	for (uint32_t i = 0; i < s->m; i += TILE_M) {
		uint32_t rows = s->m - i < TILE_M ? s->m - i : TILE_M, after = s->m - i - rows < TILE_M ? s->m - i - rows : TILE_M;

		configure(s, rows);
		row_factors(&t, s, i, rows);
		for (uint32_t b = 0; b < blocks; b++) {
			struct meeting at = { s->x->q + i * ldq + s->k0, ldq, s->codes + b * s->stride, s->w->group, NULL, 0 };
			float *out = s->out + i * s->ldo + (size_t)(s->b0 + b) * LANES;
			v16 acc[TILE_M];

			if (i == 0) {
				at.next = (const char *)s->next + b * matrix_block_bytes(s->w);
				at.share = s->w->group * LANES * s->w->bits / 8;
			}
			UNROLL
			for (uint32_t k = 0; k < TILE_M; k++)
				acc[k] = s->k0 && k < rows ? v16_load(out + k * s->ldo) : v16_zero();
			block_groups(acc, n, s, &t, &at, b, steps, has_zero, has_min);
			UNROLL
			for (uint32_t k = 0; k < TILE_M; k++)
				if (k < rows)
					v16_store(out + k * s->ldo, acc[k]);
		}
		fetch_rows(s->x->q + (i + TILE_M) * ldq + s->k0, ldq, after, s->k1 - s->k0);
	}
}

/* Constants for what is common. */
static void slice_run(struct slice *s, uint32_t blocks)
{
	uint32_t steps = s->w->group <= DEPTH ? 1 : 2;
	bool has_zero = s->w->zero != 0;

	if (s->w->has_min && has_zero)
		slice_tiles(s, blocks, steps, true, true);
	else if (s->w->has_min && steps == 1)
		slice_tiles(s, blocks, 1, false, true);
	else if (s->w->has_min)
		slice_tiles(s, blocks, 2, false, true);
	else if (steps == 1)
		slice_tiles(s, blocks, 1, true, false);
	else
		slice_tiles(s, blocks, 2, true, false);
}

static void matmul_tiles(float *out, size_t ldo, const struct matrix *w, const struct rows *x, uint32_t m, uint32_t b0, uint32_t b1)
{
	uint8_t room[SLICE * MATMUL_CHUNK * LANES] __attribute__((aligned(64)));
	struct slice s = { .w = w, .x = x, .out = out, .ldo = ldo, .b0 = b0, .m = m };
	size_t block = matrix_block_bytes(w);

	for (; s.k0 < w->kpad; s.k0 = s.k1) {
		s.k1 = s.k0 + SLICE < w->kpad ? s.k0 + SLICE : w->kpad;
		s.next = w->codes + (s.k1 < w->kpad ? b0 : b1) * block + (size_t)(s.k1 < w->kpad ? s.k1 : 0) * LANES * w->bits / 8;
		stage(&s, room, b1 - b0);
		slice_run(&s, b1 - b0);
	}
	__asm__ volatile("tilerelease");
}

void matmul_amx(float *out, size_t ldo, const struct matrix *w, const struct rows *x, uint32_t m, uint32_t b0, uint32_t b1)
{
	if (w->kind != PACK_INT || m <= FEW)
		matmul_avx512(out, ldo, w, x, m, b0, b1);
	else
		matmul_tiles(out, ldo, w, x, m, b0, b1);
}
