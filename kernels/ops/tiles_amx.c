/* tiles_amx.c: tiles.h by tdpbf16ps: one instruction adds 32 k of 16 rows by 16 outputs.
 *
 * Two tiles of rows by two blocks of W are under way at a time: four products for four loads. Up to 32 rows, their sums stay in tiles
 * over all of k (up to 16 rows: one tile of rows by four blocks); more rows go slice by slice along k, and their sums rest in `out`
 * meanwhile, so that 32 rows of a slice stay in the first cache and W's slice in the second. W passes by the first cache, and what the
 * next tiles need is fetched a few lines a step. W is read as it lies where it is bf16, other kinds are staged as bf16 once for all rows.
 *
 * The instructions are written out: see matmul_amx.c. */
#include <immintrin.h>
#include <string.h>

#include "guest.h"
#include "matmul_vec.h"
#include "tiles.h"

enum { ROWS = TILES_ROWS, TILE = 1024 };	/* bytes */
enum { SLICE = 512, FEW_SLICE = 256 };	/* of k: what is staged at a time. 32 rows of it take 32 KiB, those of two planes of half as much, too */

/* A slice of W, as tiles: block b, plane p, step t at at + b * block + p * plane + t * TILE. */
struct slice {
	const char *at;
	size_t block, plane;
	uint32_t k0, steps;
};

struct product {
	float *out;
	size_t ldo;
	const struct matrix *w;
	const struct planes *x;
	uint32_t m, b0, b1;
	char *room;			/* staged tiles */
	uint32_t rows0, rows1;		/* that the tiles are configured for */
};

struct tile_config {
	uint8_t palette, start_row, reserved[14];
	uint16_t bytes[16];
	uint8_t rows[16];
};

#define TILE_ZERO(t) __asm__ volatile("tilezero %%tmm" #t : :)
#define TILE_LOAD(t, from, stride)                                                                                                 \
	__asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t : : "r"(from), "r"((size_t)(stride)) : "memory")
/* What is not read again before it has left the first cache. */
#define TILE_PASS(t, from, stride)                                                                                                 \
	__asm__ volatile("tileloaddt1 (%0,%1,1), %%tmm" #t : : "r"(from), "r"((size_t)(stride)) : "memory")
#define TILE_STORE(t, to, stride)                                                                                                  \
	__asm__ volatile("tilestored %%tmm" #t ", (%0,%1,1)" : : "r"(to), "r"((size_t)(stride)) : "memory")
#define TILE_DOT(sum, x, w) __asm__ volatile("tdpbf16ps %%tmm" #w ", %%tmm" #x ", %%tmm" #sum : :)

/* Two tiles of rows: sums 0 1, 2 3; x 4, 5. One (rows1 is 0): sums 0 .. 3, x 4 and 5. W: 6, 7. */
static void configure(struct product *p, uint32_t rows0, uint32_t rows1)
{
	struct tile_config c = { .palette = 1 };

	if (rows0 == p->rows0 && rows1 == p->rows1)
		return;
	p->rows0 = rows0;
	p->rows1 = rows1;
	for (int t = 0; t < 8; t++) {
		c.bytes[t] = 64;
		c.rows[t] = (uint8_t)(t >= 6 ? ROWS : rows1 && (t == 2 || t == 3 || t == 5) ? rows1 : rows0);
	}
	__asm__ volatile("ldtilecfg %0" : : "m"(c));
}

/* ---- staging ---- */

/* 32 floats as words, each rounded; in memory `low` comes first. */
VEC __m512i words(v16 low, v16 high)
{
	return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

/* What turns codes of a group into weights, for outputs 0 .. 7 and 8 .. 15, each twice. */
struct group {
	v16 scale[2], bias[2];
};

VEC void twice(v16 to[2], v16 a)
{
	const __m512i low = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);

	to[0] = _mm512_permutexvar_ps(low, a);
	to[1] = _mm512_permutexvar_ps(_mm512_add_epi32(low, _mm512_set1_epi32(8)), a);
}

VEC struct group group_of(const struct matrix *w, uint32_t b, uint32_t g)
{
	struct group r;
	v16 scale;

	if (w->kind == PACK_NF4) {
		twice(r.scale, group_scales(w, b, g, PACK_NF4));
		r.bias[0] = r.bias[1] = v16_zero();
		return r;
	}
	scale = factors(w->scales, w->sub_scales, w, b, g);
	twice(r.scale, scale);
	twice(r.bias, v16_fma(scale, v16_all(w->zero), w->has_min ? factors(w->mins, w->sub_mins, w, b, g) : v16_zero()));
	return r;
}

/* The bytes of k, k + 1 of outputs 8 half .. 8 half + 7, of a line of [16][4] bytes. */
VEC __m512i pair_bytes(__m512i line, uint32_t half, uint32_t k)
{
	const __m512i at = _mm512_setr_epi32(0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29);

	return _mm512_maskz_permutexvar_epi8(0x1111111111111111, _mm512_add_epi32(at, _mm512_set1_epi32((int)(32 * half + k))), line);
}

VEC v16 weights_of(__m512i codes, const struct group *g, uint32_t half, table16 nf4, enum pack_kind kind)
{
	if (kind == PACK_NF4)
		return v16_mul(_mm512_permutexvar_ps(codes, nf4), g->scale[half]);
	return _mm512_fmsub_ps(_mm512_cvtepi32_ps(codes), g->scale[half], g->bias[half]);
}

/* Four k of 16 outputs: two lines of a tile. */
VEC void stage_line(char *to, __m512i line, const struct group *g, table16 nf4, enum pack_kind kind)
{
	UNROLL
	for (uint32_t k = 0; k < 4; k += 2)
		_mm512_store_si512(to + k * 32, words(weights_of(pair_bytes(line, 0, k), g, 0, nf4, kind),
						      weights_of(pair_bytes(line, 1, k), g, 1, nf4, kind)));
}

VEC void stage_codes(char *to, const struct matrix *w, uint32_t b, uint32_t k0, uint32_t k1, uint32_t bits, enum pack_kind kind)
{
	const unsigned char *c = w->codes + b * matrix_block_bytes(w) + (size_t)k0 * LANES * bits / 8;
	const __m512i low = _mm512_set1_epi8(15);
	const table16 nf4 = table16_load(matrix_nf4);

	for (uint32_t k = k0; k < k1; k += w->group) {
		struct group g = group_of(w, b, k / w->group);

		for (uint32_t i = 0; i < w->group; i += 32 / bits, c += 64, to += 1024 / bits) {
			__m512i v = _mm512_loadu_si512(c);

			_mm_prefetch((const char *)c + FURTHER, _MM_HINT_T0);
			if (bits == 4) {
				stage_line(to, _mm512_and_si512(v, low), &g, nf4, kind);
				v = _mm512_and_si512(_mm512_srli_epi16(v, 4), low);
				stage_line(to + 128, v, &g, nf4, kind);
			} else {
				stage_line(to, v, &g, nf4, kind);
			}
		}
	}
}

/* Both planes of k and k + 1, whose f16 are e and o. */
VEC void stage_halves(char *high, char *low, v16 e, v16 o)
{
	const __m512i top = _mm512_set1_epi32((int)0xffff0000);
	__m512i he = _mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(e)), 16),
		ho = _mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(o)), 16),
		le = _mm512_castps_si512(v16_sub(e, _mm512_castsi512_ps(he))), lo = _mm512_castps_si512(v16_sub(o, _mm512_castsi512_ps(ho)));

	_mm512_store_si512(high, _mm512_or_si512(ho, _mm512_srli_epi32(he, 16)));
	_mm512_store_si512(low, _mm512_or_si512(_mm512_and_si512(lo, top), _mm512_srli_epi32(le, 16)));
}

static void stage_f16(char *to, size_t plane, const struct matrix *w, uint32_t b, uint32_t k0, uint32_t k1)
{
	const unsigned char *c = w->codes + b * matrix_block_bytes(w) + (size_t)k0 * LANES * 2;

	for (uint32_t k = k0; k < k1; k += 2, c += 64, to += 64) {
		_mm_prefetch((const char *)c + FURTHER, _MM_HINT_T0);
		stage_halves(to, to + plane, v16_half(c), k + 1 < k1 ? v16_half(c + 32) : v16_zero());
	}
}

VEC uint32_t planes_of(enum pack_kind kind)
{
	return kind == PACK_F16 ? 2 : 1;
}

/* tiles_read_lo(), as a constant. */
VEC bool reads_lo(enum pack_kind kind)
{
	return kind == PACK_F16 || kind == PACK_BF16;
}

/* Block b of the slice, at its place in the room. Past the last k: zeros. */
static void stage_block(const struct slice *s, const struct matrix *w, uint32_t b, char *to)
{
	uint32_t end = s->k0 + s->steps * TILES_K, k1 = end < w->kpad ? end : w->kpad;
	size_t whole = (size_t)(k1 - s->k0) / 2 * 64;

	for (uint32_t i = 0; k1 < end && i < planes_of(w->kind); i++)
		memset(to + i * s->plane + whole, 0, s->steps * TILE - whole);
	if (w->kind == PACK_BF16)
		memcpy(to, w->codes + b * matrix_block_bytes(w) + (size_t)s->k0 * 32, whole);
	else if (w->kind == PACK_F16)
		stage_f16(to, s->plane, w, b, s->k0, k1);
	else if (w->kind == PACK_NF4)
		stage_codes(to, w, b, s->k0, k1, 4, PACK_NF4);
	else if (w->bits == 4)
		stage_codes(to, w, b, s->k0, k1, 4, PACK_INT);
	else
		stage_codes(to, w, b, s->k0, k1, 8, PACK_INT);
}

/* The slice from k on, of blocks b0 .. b1 - 1. bf16 lies in whole steps as tiles want it; what is left of it is staged. */
static struct slice slice_at(const struct product *p, uint32_t k, uint32_t most, uint32_t b0, uint32_t b1)
{
	const struct matrix *w = p->w;
	bool direct = w->kind == PACK_BF16 && w->kpad - k >= TILES_K;
	uint32_t left = direct ? (w->kpad - k) / TILES_K : (w->kpad - k + TILES_K - 1) / TILES_K;
	struct slice s = { .k0 = k, .steps = left < most / TILES_K ? left : most / TILES_K };

	if (direct) {
		s.block = matrix_block_bytes(w);
		s.at = (const char *)w->codes + b0 * s.block + (size_t)k * 32;
		return s;
	}
	s.plane = (size_t)s.steps * TILE;
	s.block = planes_of(w->kind) * s.plane;
	s.at = p->room;
	for (uint32_t b = b0; b < b1; b++)
		stage_block(&s, w, b, p->room + (b - b0) * s.block);
	return s;
}

/* ---- two tiles of rows by two blocks ---- */

VEC void zero_sums(void)
{
	TILE_ZERO(0);
	TILE_ZERO(1);
	TILE_ZERO(2);
	TILE_ZERO(3);
}

/* Where x's tiles of rows i .. lie from k0 on. */
VEC size_t x_at(const struct product *p, uint32_t i, uint32_t k0)
{
	return tiles_at(p->x, i, k0);
}

VEC void dots_2x2(bool second)
{
	TILE_DOT(0, 4, 6);
	if (second)
		TILE_DOT(1, 4, 7);
	TILE_DOT(2, 5, 6);
	if (second)
		TILE_DOT(3, 5, 7);
}

VEC void load_w(const char *w, size_t block, bool second)
{
	TILE_PASS(6, w, 64);
	if (second)
		TILE_PASS(7, w + block, 64);
}

VEC void load_x(const uint16_t *x, size_t next)
{
	TILE_LOAD(4, x, 64);
	TILE_LOAD(5, x + next, 64);
}

/* What is fetched while a unit multiplies: the sums of the next one, to be written, and its part of the x that the next rows read. Hints, which
 * may lie past the last row. */
struct ahead {
	const float *out;
	size_t ldo;
	uint32_t rows;			/* of `out`, a step */
	const char *x[4], *end;		/* two tiles of each plane; where the first one ends */
	uint32_t lines;			/* of each, a step */
};

VEC void fetch_ahead(struct ahead *a, enum pack_kind kind)
{
	const uint32_t tiles = reads_lo(kind) ? 4 : 2;

	for (uint32_t i = 0; i < a->rows; i++, a->out += a->ldo) {
		__builtin_prefetch(a->out, 1, 3);
		__builtin_prefetch(a->out + LANES, 1, 3);
	}
	for (uint32_t i = 0; i < a->lines && a->x[0] < a->end; i++) {
		UNROLL
		for (uint32_t k = 0; k < tiles; k++) {
			_mm_prefetch(a->x[k], _MM_HINT_T1);
			a->x[k] += 64;
		}
	}
}

VEC void steps_2x2(const struct product *p, const struct slice *s, uint32_t i, const char *w, bool second, struct ahead *ahead,
		   struct guest *guest, enum pack_kind kind)
{
	size_t next = p->x->stride * ROWS, at = x_at(p, i, s->k0);

	for (uint32_t t = 0; t < s->steps; t++, at += TILE / 2, w += TILE) {
		if (guest)
			guest_step(guest);
		if (ahead)
			fetch_ahead(ahead, kind);
		load_w(w, s->block, second);
		if (reads_lo(kind)) {
			load_x(p->x->lo + at, next);
			dots_2x2(second);
		}
		if (kind == PACK_F16)
			load_w(w + s->plane, s->block, second);
		load_x(p->x->hi + at, next);
		dots_2x2(second);
		if (kind == PACK_F16) {
			load_w(w, s->block, second);
			dots_2x2(second);
		}
	}
}

VEC void unit_2x2(const struct product *p, const struct slice *s, uint32_t i, uint32_t b, bool second, struct ahead *ahead,
		  enum pack_kind kind)
{
	float *out = p->out + i * p->ldo + (size_t)b * LANES, *below = out + ROWS * p->ldo;
	size_t ld = p->ldo * sizeof(float);

	if (s->k0) {
		TILE_LOAD(0, out, ld);
		TILE_LOAD(2, below, ld);
		if (second) {
			TILE_LOAD(1, out + LANES, ld);
			TILE_LOAD(3, below + LANES, ld);
		}
	} else {
		zero_sums();
	}
	steps_2x2(p, s, i, s->at + (b - p->b0) * s->block, second, ahead, NULL, kind);
	TILE_STORE(0, out, ld);
	TILE_STORE(2, below, ld);
	if (second) {
		TILE_STORE(1, out + LANES, ld);
		TILE_STORE(3, below + LANES, ld);
	}
}

/* ---- one tile of rows by up to four blocks ---- */

VEC void dots_1x4(bool first_pair, bool second, bool lo)
{
	if (first_pair && lo)
		TILE_DOT(0, 5, 6);
	else if (first_pair)
		TILE_DOT(0, 4, 6);
	else if (lo)
		TILE_DOT(2, 5, 6);
	else
		TILE_DOT(2, 4, 6);
	if (!second)
		return;
	if (first_pair && lo)
		TILE_DOT(1, 5, 7);
	else if (first_pair)
		TILE_DOT(1, 4, 7);
	else if (lo)
		TILE_DOT(3, 5, 7);
	else
		TILE_DOT(3, 4, 7);
}

VEC void steps_1x4(const struct product *p, const struct slice *s, uint32_t i, const char *w, uint32_t blocks, struct guest *guest,
		   enum pack_kind kind)
{
	size_t at = x_at(p, i, s->k0), fetch = FURTHER;

	for (uint32_t t = 0; t < s->steps; t++, at += TILE / 2, w += TILE) {
		if (guest)
			guest_step(guest);
		TILE_LOAD(4, p->x->hi + at, 64);
		if (reads_lo(kind))
			TILE_LOAD(5, p->x->lo + at, 64);
		if (kind == PACK_BF16 && (s->steps - t) * TILE <= FURTHER)
			fetch = FURTHER + 3 * s->block;
		UNROLL
		for (uint32_t b = 0; b < blocks; b += 2) {
			const char *own = w + b * s->block;
			bool second = b + 1 < blocks;

			UNROLL
			for (uint32_t line = 0; kind == PACK_BF16 && line < 16; line++) {
				_mm_prefetch(own + fetch + line * 64, _MM_HINT_T0);
				if (second)
					_mm_prefetch(own + s->block + fetch + line * 64, _MM_HINT_T0);
			}
			load_w(own, s->block, second);
			if (reads_lo(kind))
				dots_1x4(b == 0, second, true);
			if (kind == PACK_F16) {
				load_w(own + s->plane, s->block, second);
				dots_1x4(b == 0, second, false);
				load_w(own, s->block, second);
			}
			dots_1x4(b == 0, second, false);
		}
	}
}

VEC void sums_1x4(const struct product *p, uint32_t i, uint32_t b, uint32_t blocks, bool store)
{
	float *out = p->out + i * p->ldo + (size_t)b * LANES;
	size_t ld = p->ldo * sizeof(float);

	if (store) {
		TILE_STORE(0, out, ld);
		if (blocks > 1)
			TILE_STORE(1, out + LANES, ld);
		if (blocks > 2)
			TILE_STORE(2, out + 2 * LANES, ld);
		if (blocks > 3)
			TILE_STORE(3, out + 3 * LANES, ld);
	} else {
		TILE_LOAD(0, out, ld);
		if (blocks > 1)
			TILE_LOAD(1, out + LANES, ld);
		if (blocks > 2)
			TILE_LOAD(2, out + 2 * LANES, ld);
		if (blocks > 3)
			TILE_LOAD(3, out + 3 * LANES, ld);
	}
}

VEC void steps_few(const struct product *p, const struct slice *s, uint32_t i, const char *w, uint32_t blocks, struct guest *guest,
		   enum pack_kind kind)
{
	if (blocks == 1)
		steps_1x4(p, s, i, w, 1, guest, kind);
	else if (blocks == 2)
		steps_1x4(p, s, i, w, 2, guest, kind);
	else if (blocks == 3)
		steps_1x4(p, s, i, w, 3, guest, kind);
	else
		steps_1x4(p, s, i, w, 4, guest, kind);
}

/* ---- few rows: the sums stay where they are ---- */

VEC uint32_t slice_end(const struct slice *s)
{
	return s->k0 + s->steps * TILES_K;
}

VEC void few_rows_16(struct product *p, struct guest *guest, enum pack_kind kind)
{
	uint32_t most = kind == PACK_BF16 ? p->w->kpad : FEW_SLICE / planes_of(kind);

	configure(p, p->m, 0);
	if (guest)
		guest_begin(guest, (p->b1 - p->b0 + 3) / 4 * (p->x->depth / TILES_K));
	for (uint32_t b = p->b0, n; b < p->b1; b += n) {
		struct slice s;

		n = p->b1 - b < 4 ? p->b1 - b : 4;
		zero_sums();
		for (uint32_t k = 0; k < p->w->kpad; k = slice_end(&s)) {
			s = slice_at(p, k, most < TILES_K ? TILES_K : most, b, b + n);
			steps_few(p, &s, 0, s.at, n, guest, kind);
		}
		sums_1x4(p, 0, b, n, true);
	}
}

VEC void few_rows_32(struct product *p, struct guest *guest, enum pack_kind kind)
{
	uint32_t most = kind == PACK_BF16 ? p->w->kpad : FEW_SLICE / planes_of(kind), b0 = p->b0;
	float *out = p->out, *below = out + ROWS * p->ldo;
	size_t ld = p->ldo * sizeof(float);

	configure(p, ROWS, p->m - ROWS);
	if (guest)
		guest_begin(guest, (p->b1 - p->b0 + 1) / 2 * (p->x->depth / TILES_K));
	for (uint32_t b = b0; b < p->b1; b += 2) {
		bool second = b + 1 < p->b1;
		struct slice s;

		zero_sums();
		for (uint32_t k = 0; k < p->w->kpad; k = slice_end(&s)) {
			s = slice_at(p, k, most < TILES_K ? TILES_K : most, b, b + 1 + second);
			if (second)
				steps_2x2(p, &s, 0, s.at, true, NULL, guest, kind);
			else
				steps_2x2(p, &s, 0, s.at, false, NULL, guest, kind);
		}
		TILE_STORE(0, out + b * LANES, ld);
		TILE_STORE(2, below + b * LANES, ld);
		if (second) {
			TILE_STORE(1, out + (b + 1) * LANES, ld);
			TILE_STORE(3, below + (b + 1) * LANES, ld);
		}
	}
}

/* ---- many rows ---- */

VEC void fetch_step(struct guest *next, struct guest *guest)
{
	guest_step(next);
	if (guest)
		guest_step(guest);
}

/* The last rows, where they are 16 or fewer. */
VEC void slice_rest(struct product *p, const struct slice *s, uint32_t i, enum pack_kind kind)
{
	configure(p, p->m - i, 0);
	for (uint32_t b = p->b0, n; b < p->b1; b += n) {
		n = p->b1 - b < 4 ? p->b1 - b : 4;
		if (s->k0)
			sums_1x4(p, i, b, n, false);
		else
			zero_sums();
		steps_few(p, s, i, s->at + (b - p->b0) * s->block, n, NULL, kind);
		sums_1x4(p, i, b, n, true);
	}
}

/* The x that is read after these rows: that of the next ones, or of the first ones' next slice. */
VEC void next_x(struct ahead *a, const struct product *p, const struct slice *s, uint32_t i, enum pack_kind kind)
{
	bool down = i + 2 * ROWS < p->m;
	uint32_t units = (p->b1 - p->b0 + 1) / 2, k = down ? s->k0 : slice_end(s);

	a->lines = k < p->x->depth ? (ROWS + units - 1) / units : 0;
	if (!a->lines)
		return;
	for (uint32_t n = 0; n < (reads_lo(kind) ? 4 : 2); n++)
		a->x[n] = (const char *)((n < 2 ? p->x->hi : p->x->lo) + x_at(p, down ? i + 2 * ROWS : 0, k) + n % 2 * p->x->stride * ROWS);
	a->end = a->x[0] + (size_t)s->steps * TILE;
}

/* Where the unit behind this one leaves its sums. */
VEC void next_out(struct ahead *a, const struct product *p, const struct slice *s, uint32_t i, uint32_t b)
{
	bool right = b + 2 < p->b1, down = i + 2 * ROWS < p->m;

	a->out = p->out + (right ? i : down ? i + 2 * ROWS : 0) * p->ldo + (size_t)(right ? b + 2 : p->b0) * LANES;
	a->ldo = p->ldo;
	a->rows = 2 * ROWS / s->steps;
}

VEC void slice_rows(struct product *p, const struct slice *s, struct guest *next, struct guest *guest, enum pack_kind kind)
{
	struct ahead ahead = { 0 };
	uint32_t i, b;

	for (i = 0; i + ROWS < p->m; i += 2 * ROWS) {
		configure(p, ROWS, p->m - i < 2 * ROWS ? p->m - i - ROWS : ROWS);
		next_x(&ahead, p, s, i, kind);
		for (b = p->b0; b < p->b1; b += 2) {
			next_out(&ahead, p, s, i, b);
			if (b + 1 < p->b1)
				unit_2x2(p, s, i, b, true, &ahead, kind);
			else
				unit_2x2(p, s, i, b, false, &ahead, kind);
			fetch_step(next, guest);
		}
	}
	if (i < p->m)
		slice_rest(p, s, i, kind);
}

/* What the weights of k .. k + depth of these blocks are read from, or of those that follow them. */
static void add_next(struct guest *next, const struct product *p, uint32_t k, uint32_t depth)
{
	size_t block = matrix_block_bytes(p->w), bytes = block / p->w->kpad;
	uint32_t b0 = k < p->w->kpad ? p->b0 : p->b1, n = p->b1 - p->b0;

	k = k < p->w->kpad ? k : 0;
	depth = p->w->kpad - k < depth ? p->w->kpad - k : depth;
	for (uint32_t b = b0; b < b0 + n && b < p->w->blocks; b++)
		guest_add(next, (const char *)p->w->codes + b * block + k * bytes, depth * bytes);
}

VEC void many_rows(struct product *p, struct guest *guest, enum pack_kind kind)
{
	uint32_t most = reads_lo(kind) ? SLICE / 2 : SLICE;
	size_t units = (size_t)((p->m + ROWS - 1) / (2 * ROWS)) * ((p->b1 - p->b0 + 1) / 2);
	struct guest next;
	struct slice s;

	if (guest)
		guest_begin(guest, units * ((p->w->kpad + most - 1) / most));
	for (uint32_t k = 0; k < p->w->kpad; k = slice_end(&s)) {
		s = slice_at(p, k, most, p->b0, p->b1);
		guest_none(&next);
		next.calls = 1;
		add_next(&next, p, slice_end(&s), most);
		guest_begin(&next, units);
		slice_rows(p, &s, &next, guest, kind);
	}
}

/* ---- the whole ---- */

VEC void run(struct product *p, struct guest *guest, enum pack_kind kind)
{
	if (p->m <= ROWS)
		few_rows_16(p, guest, kind);
	else if (p->m <= TILES_FEW)
		few_rows_32(p, guest, kind);
	else
		many_rows(p, guest, kind);
}

void tiles_amx(float *out, size_t ldo, const struct matrix *w, const struct planes *x, uint32_t m, uint32_t b0, uint32_t b1,
	       struct guest *guest)
{
	char room[TILES_CHUNK * SLICE / TILES_K * TILE] __attribute__((aligned(64)));
	struct product p = { .out = out, .ldo = ldo, .w = w, .x = x, .m = m, .b0 = b0, .b1 = b1, .room = room };

	if (w->kind == PACK_BF16)
		run(&p, guest, PACK_BF16);
	else if (w->kind == PACK_F16)
		run(&p, guest, PACK_F16);
	else
		run(&p, guest, PACK_INT);
	__asm__ volatile("tilerelease");
}

/* ---- activations ---- */

VEC __m512i low_words(v16 a, v16 b, __m512i hi)
{
	v16 ha = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_castsi512_si256(hi)), 16)),
	    hb = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(hi, 1)), 16));

	return words(v16_sub(a, ha), v16_sub(b, hb));
}

void split_amx(const struct planes *p, uint32_t i, const float *x, uint32_t n)
{
	size_t at = tiles_at(p, i, 0);

	for (uint32_t k = 0; k < p->depth; k += TILES_K, at += TILE / 2) {
		uint32_t left = n > k ? n - k : 0;
		__mmask16 a = (__mmask16)(left >= 16 ? 0xffff : (1u << left) - 1),
			  b = (__mmask16)(left >= 32 ? 0xffff : left > 16 ? (1u << (left - 16)) - 1 : 0);
		v16 low = _mm512_maskz_loadu_ps(a, x + k), high = _mm512_maskz_loadu_ps(b, x + k + 16);
		__m512i hi = words(low, high);

		_mm512_store_si512(p->hi + at, hi);
		if (p->lo)
			_mm512_store_si512(p->lo + at, low_words(low, high, hi));
	}
}
