/* matmul_amx.c: integers by AMX tiles. One instruction multiplies up to 16 activation rows by a 64-byte deep tile of 16 outputs.
 *
 * Rows go in panels, and within one, a part of W (up to four blocks) goes slice by slice along k: a run is a block's share of a slice, and
 * each tile of rows passes over it. A pass goes from group to group, and several groups are under way at a time, so that nothing waits for
 * what was just done: codes come into the cache; those of 4 bits become bytes, in the order of tiles; a group's sums leave their tile;
 * and an earlier group's sums meet the float sums, which are in registers, in the order of matmul.h: the bits are those of every other file.
 * What is under way takes as few cache lines as it can, over and over the same.
 *
 * The instructions are written out: GCC's intrinsics do not tell the compiler that they read and write memory, and in GCC 12
 * _tile_loadconfig names 8 of its operand's 64 bytes, so that the stores to the others are dropped as dead. */
#include "matmul_vec.h"

enum { TILE_M = 16, DEPTH = 64 };
enum { TILES = 4, PANEL = TILES * TILE_M };	/* of rows */
enum { SLICE = 1024, SMALLEST_GROUP = 16, SLICE_GROUPS = SLICE / SMALLEST_GROUP };	/* of k */
enum { FEW = 6 };	/* so few rows are faster without tiles */
/* Groups between a product and its sum (one less where it is stored at once), and between bytes unpacked and their product: a load that meets a
 * store on its way to the cache waits for it. SUMS, and RING for the only tile of rows: how many of each there are. */
enum { LAG = 2, EARLY = 2, SUMS = 2, RING = 4 };
enum { SPOTS = 4 };	/* places in a step that fetch something, and runs that are fetched meanwhile */

/* Integers become floats without a conversion, which would wait for a port that products of tiles keep busy: the bits of 1.5 * 2^23, plus the
 * integer, are a float that is larger by as much, while the integer is below 2^22. */
enum { FLOAT_AT = 0x4b400000 };
_Static_assert(2 * DEPTH * 255 * 128 < 1 << 22, "a group's sum is not below 2^22");

typedef int32_t tile_sums[TILE_M][LANES];

struct tile_config {
	uint8_t palette, start_row, reserved[14];
	uint16_t bytes[16];
	uint8_t rows[16];
};

/* What a tile's rows bring to each group of the slice: their scale, the factor of a minimum, and FLOAT_AT less what the codes' zero adds up to. */
struct tile_rows {
	float scale[TILE_M][SLICE_GROUPS], min[TILE_M][SLICE_GROUPS];
	int32_t zero[TILE_M][SLICE_GROUPS];
};

struct panel {
	tile_sums sums[SUMS];
	float scale[SLICE_GROUPS][LANES], min[SLICE_GROUPS][LANES];	/* of the run's block */
	uint8_t room[SLICE * LANES];		/* the run's codes of 4 bits, as bytes; of the only tile of rows, those of RING groups */
	float acc[MATMUL_CHUNK][TILES][TILE_M][LANES];
	struct tile_rows t[TILES];

	const struct matrix *w;
	const struct rows *x;
	float *out;
	size_t ldo, ldq;
	uint32_t b0, b1, m;
	uint32_t tiles, height;			/* rows of each; the last tile begins early, and does some rows twice */
	uint32_t g0, groups;			/* the slice */
	size_t step;				/* bytes of a group's codes, as they lie in memory */
};

/* Tile 0: sums [rows][16]; 1: activations [rows][bytes]; 2: codes [bytes / 4][16][4]; 3, 4, 5: the same, for every other group. */
static void configure(const struct matrix *w, uint32_t rows)
{
	struct tile_config c = { .palette = 1 };
	uint32_t bytes = w->group < DEPTH ? w->group : DEPTH;

	for (uint32_t i = 0; i < 6; i += 3) {
		c.rows[i] = c.rows[i + 1] = (uint8_t)rows;
		c.bytes[i] = c.bytes[i + 2] = LANES * 4;
		c.bytes[i + 1] = (uint16_t)bytes;
		c.rows[i + 2] = (uint8_t)(bytes / 4);
	}
	__asm__ volatile("ldtilecfg %0" : : "m"(c));
}

#define TILE_ZERO(t) __asm__ volatile("tilezero %%tmm" #t : :)
#define TILE_LOAD(t, from, stride)                                                                                                 \
	__asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t : : "r"(from), "r"((size_t)(stride)) : "memory")
#define TILE_STORE(t, to) __asm__ volatile("tilestored %%tmm" #t ", (%0,%1,1)" : : "r"(to), "r"((size_t)LANES * 4) : "memory")
#define TILE_DOT(codes_are, codes, x, sums)                                                                                         \
	__asm__ volatile("tdpbs" codes_are "d %%tmm" #codes ", %%tmm" #x ", %%tmm" #sums : :)

/* ---- a pass: one tile of rows over a run ---- */

/* What a pass is compiled for. Forms that are common have all of it as constants; the others leave group, bits and zero 0. */
struct form {
	uint32_t rows;			/* of sums in registers */
	bool alone;			/* the only tile of rows */
	uint32_t group;
	unsigned bits, zero;
	bool has_zero, has_min;		/* has_zero: bytes that still hold their zero */
	bool two;			/* products to a group */
};

struct pass {
	const int8_t *q;
	const unsigned char *packed;	/* codes of 4 bits, to unpack; NULL: there are bytes already */
	const uint8_t *codes;		/* bytes */
	const char *ahead[SPOTS];	/* what is fetched meanwhile, with each group: `lines` of each */
	uint32_t lines;
	const char *scales, *mins;	/* the next run's, factor_bytes a group */
	uint32_t factor_bytes, line_mask;	/* a group that is 0 by this mask begins a line */
	const char *out;		/* where the block's sums go, out_rows of them; none before the last slice */
	size_t out_bytes;		/* from a row to the next */
	uint32_t out_rows;
};

VEC uint32_t group_of(const struct panel *s, struct form f)
{
	return f.group ? f.group : s->w->group;
}

VEC size_t step_of(const struct panel *s, struct form f)
{
	return f.group ? f.group * LANES * f.bits / 8 : s->step;
}

/* Where the bytes of group j are, or become bytes. */
VEC uint8_t *room_of(struct panel *s, uint32_t j, struct form f)
{
	return s->room + (size_t)(f.alone ? j % RING : j) * group_of(s, f) * LANES;
}

/* All at once would fill the buffers of the first cache and stop everything else. Loops are unrolled where their ends are constants. */
VEC void fetch_codes(const struct panel *s, const struct pass *p, uint32_t j, uint32_t spot, struct form f)
{
	const uint32_t most = ((uint32_t)step_of(s, f) / 64 + SPOTS - 1) / SPOTS, lines = f.alone ? most : p->lines;
	const char *at = p->ahead[spot] + (size_t)j * lines * 64;

	if (!f.alone) {
		for (uint32_t i = 0; i < lines; i++)
			_mm_prefetch(at + 64 * i, _MM_HINT_T1);
		return;
	}
	UNROLL
	for (uint32_t i = 0; i < most; i++)
		_mm_prefetch(at + 64 * i, _MM_HINT_T1);
}

/* What is not codes comes a line or two with each group, too: all of it in one burst before a run is no faster than fetching none of it. */
VEC void fetch_others(const struct pass *p, uint32_t j, struct form f)
{
	const uint32_t rows = f.two ? 2 : 1;

	if ((j & p->line_mask) == 0) {
		_mm_prefetch(p->scales + j * p->factor_bytes, _MM_HINT_T0);
		if (f.has_min)
			_mm_prefetch(p->mins + j * p->factor_bytes, _MM_HINT_T0);
	}
	for (uint32_t i = j * rows; i < (j + 1) * rows && i < p->out_rows; i++)
		__asm__ volatile("prefetchw %0" : : "m"(p->out[i * p->out_bytes]));
}

/* What a code of zero is comes off here, so that nobody else need do it. The shift is one that leaves the first port alone. */
VEC void unpack_line(uint8_t *to, const unsigned char *from, __m512i zero, bool has_zero)
{
	const __m512i low = _mm512_set1_epi8(15), high = _mm512_set1_epi64(0x3c342c241c140c04);
	__m512i v = _mm512_loadu_si512(from);
	__m512i even = _mm512_and_si512(v, low), odd = _mm512_and_si512(_mm512_multishift_epi64_epi8(high, v), low);

	_mm512_store_si512(to, has_zero ? _mm512_sub_epi8(even, zero) : even);
	_mm512_store_si512(to + 64, has_zero ? _mm512_sub_epi8(odd, zero) : odd);
}

VEC void unpack(struct panel *s, const struct pass *p, uint32_t j, struct form f)
{
	const __m512i zero = _mm512_set1_epi8((char)(f.group ? f.zero : s->w->zero));
	const size_t step = step_of(s, f);
	const unsigned char *from = p->packed + j * step;
	uint8_t *to = room_of(s, j, f);

	if (!f.group) {
		for (size_t i = 0; i < step; i += 64)
			unpack_line(to + 2 * i, from + i, zero, true);
		return;
	}
	UNROLL
	for (size_t i = 0; i < step; i += 64)
		unpack_line(to + 2 * i, from + i, zero, f.zero);
}

VEC void product(const int8_t *x, size_t ldq, const uint8_t *u, uint32_t set, bool has_zero)
{
	if (set == 0) {
		TILE_LOAD(1, x, ldq);
		TILE_LOAD(2, u, 64);
		if (has_zero)
			TILE_DOT("u", 2, 1, 0);
		else
			TILE_DOT("s", 2, 1, 0);
	} else {
		TILE_LOAD(4, x, ldq);
		TILE_LOAD(5, u, 64);
		if (has_zero)
			TILE_DOT("u", 5, 4, 3);
		else
			TILE_DOT("s", 5, 4, 3);
	}
}

VEC void multiply(struct panel *s, const struct pass *p, uint32_t j, uint32_t set, struct form f)
{
	const int8_t *x = p->q + (size_t)j * group_of(s, f);
	const uint8_t *u = f.alone && f.bits == 4 ? room_of(s, j, f) : p->codes + (size_t)j * group_of(s, f) * LANES;

	if (set == 0)
		TILE_ZERO(0);
	else
		TILE_ZERO(3);
	product(x, s->ldq, u, set, f.has_zero);
	if (f.two)
		product(x + DEPTH, s->ldq, u + DEPTH * LANES, set, f.has_zero);
}

/* The sums of group j leave their tile. */
VEC void leave(struct panel *s, uint32_t j, uint32_t set)
{
	if (set == 0)
		TILE_STORE(0, s->sums[j % SUMS]);
	else
		TILE_STORE(3, s->sums[j % SUMS]);
}

/* What the j-th group of the run adds to the float sums. */
VEC void add_group(v16 acc[TILE_M], const struct panel *s, const struct pass *p, const struct tile_rows *t, uint32_t j, struct form f)
{
	const int32_t(*n)[LANES] = s->sums[j % SUMS];
	const __m512i at = _mm512_set1_epi32(FLOAT_AT);
	const v16 less = _mm512_castsi512_ps(at);
	v16 scale = v16_load(s->scale[j]), min = f.has_min ? v16_load(s->min[j]) : v16_zero();

	UNROLL
	for (uint32_t i = 0; i < f.rows; i++) {
		__m512i sum = _mm512_add_epi32(_mm512_load_si512(n[i]), f.has_zero ? _mm512_set1_epi32(t->zero[i][j]) : at);

		acc[i] = v16_fma(v16_mul(scale, v16_all(t->scale[i][j])), _mm512_sub_ps(_mm512_castsi512_ps(sum), less), acc[i]);
		if (f.has_min)
			acc[i] = v16_fma(min, v16_all(t->min[i][j]), acc[i]);
		if (i % (f.rows / SPOTS) == 0) {
			__asm__ volatile("" : : : "memory");	/* or the compiler loads ever further ahead of what is under way */
			fetch_codes(s, p, j, i / (f.rows / SPOTS), f);
		}
	}
}

/* A group of one product leaves its tile a step later, when that is done, and the next one has the other set of tiles. Two products hide each
 * other, and runs of such groups are too short for one more step. */
VEC void step(v16 acc[TILE_M], struct panel *s, const struct pass *p, const struct tile_rows *t, uint32_t j, uint32_t set, struct form f)
{
	const uint32_t groups = s->groups, lag = f.two ? LAG - 1 : LAG;

	if (j < groups) {
		if (p->packed && j + EARLY < groups)
			unpack(s, p, j + EARLY, f);
		multiply(s, p, j, set, f);
	}
	if (f.two && j < groups)
		leave(s, j, set);
	if (!f.two && j - 1 < groups)
		leave(s, j - 1, 1 - set);
	if (j < groups)
		fetch_others(p, j, f);
	if (j - lag < groups)
		add_group(acc, s, p, t, j - lag, f);
}

VEC void run_pass(struct panel *s, const struct pass *p, float to[TILE_M][LANES], const struct tile_rows *t, struct form f)
{
	v16 acc[TILE_M];

	UNROLL
	for (uint32_t i = 0; i < f.rows; i++)
		acc[i] = s->g0 ? v16_load(to[i]) : v16_zero();
	for (uint32_t j = 0; p->packed && j < EARLY && j < s->groups; j++)
		unpack(s, p, j, f);
	if (f.bits == 4)	/* what is known of two steps is worth their length */
		for (uint32_t j = 0; j < s->groups + LAG; j += 2) {
			step(acc, s, p, t, j, 0, f);
			step(acc, s, p, t, j + 1, 1, f);
		}
	else
		for (uint32_t j = 0; j < s->groups + LAG; j++)
			step(acc, s, p, t, j, f.two ? 0 : j % 2, f);
	UNROLL
	for (uint32_t i = 0; i < f.rows; i++)
		v16_store(to[i], acc[i]);
}

/* ---- a run ---- */

/* factors() of n groups of block b, from g0 on. */
static void run_factors(float (*to)[LANES], const uint16_t *high, const int8_t *sub, const struct matrix *w, uint32_t b, uint32_t g0,
			uint32_t n)
{
	const uint32_t each = SUPER / w->group;
	const bool two_level = w->two_level;

	high += b * matrix_block_scales(w) + (size_t)(two_level ? g0 / each : g0) * LANES;
	if (two_level)
		sub += ((size_t)b * w->groups + g0) * LANES;
	for (uint32_t j = 0; !two_level && j < n; j++)
		v16_store(to[j], v16_half(high + j * LANES));
	for (uint32_t j = 0; two_level && j < n; high += LANES) {
		v16 super = v16_half(high);

		for (uint32_t k = 0; k < each && j < n; k++, j++)
			v16_store(to[j], v16_mul(super, v16_bytes(sub + j * LANES)));
	}
}

/* Block b's factors from group g on. */
static void factors_ahead(struct pass *p, const struct matrix *w, uint32_t b, uint32_t g)
{
	const uint32_t each = w->two_level ? SUPER / w->group : 1;
	const size_t at = ((size_t)b * w->groups + g) * LANES, super = b * matrix_block_scales(w) + (size_t)(g / each) * LANES;

	p->factor_bytes = w->two_level ? LANES : 2 * LANES;
	p->line_mask = 64 / p->factor_bytes - 1;
	p->scales = w->two_level ? (const char *)w->sub_scales + at : (const char *)(w->scales + at);
	p->mins = w->two_level ? (const char *)w->sub_mins + at : (const char *)(w->mins + at);
	for (uint32_t k = 0; w->two_level && k < SLICE / SUPER; k++) {
		_mm_prefetch((const char *)(w->scales + super + k * LANES), _MM_HINT_T0);
		if (w->has_min)
			_mm_prefetch((const char *)(w->mins + super + k * LANES), _MM_HINT_T0);
	}
}

/* Four runs are fetched while one is multiplied, a quarter of each, so that the first is there when its turn comes: the hardware goes on
 * by itself where it sees lines of a page being read in order, and one page at a time does not keep memory busy. */
static void what_is_ahead(const struct panel *s, uint32_t b, struct pass *p, const char *ahead[SPOTS])
{
	const struct matrix *w = s->w;
	const size_t block = matrix_block_bytes(w), quarter = s->groups * s->step / SPOTS;

	for (uint32_t k = 0; k < SPOTS; k++) {
		uint32_t then = b + SPOTS - k, g = s->g0;

		while (then >= s->b1 && g + s->groups < w->groups) {
			then -= s->b1 - s->b0;
			g += s->groups;
		}
		if (then >= s->b1)	/* the next part */
			g = 0;
		ahead[k] = (const char *)w->codes + then * block + g * s->step + quarter * k;
		if (k == SPOTS - 1)
			factors_ahead(p, w, then, g);
	}
}

VEC void run(struct panel *s, uint32_t b, struct form f)
{
	const struct matrix *w = s->w;
	const size_t quarter = s->groups * s->step / SPOTS;
	const unsigned char *codes = w->codes + b * matrix_block_bytes(w) + s->g0 * s->step;
	const bool last = s->g0 + s->groups == w->groups;	/* the sums are stored soon */
	struct pass p = { .out_bytes = s->ldo * sizeof(float), .out_rows = last ? s->height : 0 };
	const char *ahead[SPOTS];

	what_is_ahead(s, b, &p, ahead);
	run_factors(s->scale, w->scales, w->sub_scales, w, b, s->g0, s->groups);
	if (w->has_min)
		run_factors(s->min, w->mins, w->sub_mins, w, b, s->g0, s->groups);
	p.lines = ((uint32_t)s->step / s->tiles / 64 + SPOTS - 1) / SPOTS;
	for (uint32_t i = 0; i < s->tiles; i++) {
		uint32_t first = i + 1 < s->tiles ? i * s->height : s->m - s->height;

		p.out = (const char *)(s->out + first * s->ldo + (size_t)b * LANES);
		p.q = s->x->q + first * s->ldq + (size_t)s->g0 * w->group;
		p.packed = w->bits == 4 && i == 0 ? codes : NULL;
		p.codes = w->bits == 4 ? s->room : codes;
		for (uint32_t k = 0; k < SPOTS; k++)
			p.ahead[k] = ahead[k] + quarter / s->tiles * i;
		run_pass(s, &p, s->acc[b - s->b0][i], &s->t[i], f);
	}
}

VEC void slice_form(struct panel *s, struct form f)
{
	for (uint32_t b = s->b0; b < s->b1; b++)
		run(s, b, f);
}

/* Functions of their own, so that the compiler gives each its registers. Tiles of several have more than 8 rows. */
#define SHAPE(name, ...)                                                                                                           \
	static __attribute__((noinline)) void name(struct panel *s)                                                                \
	{                                                                                                                          \
		slice_form(s, (struct form){ __VA_ARGS__ });                                                                       \
	}
#define COMMON(name, ...)                                                                                                          \
	SHAPE(name##_8, 8, true, __VA_ARGS__)                                                                                      \
	SHAPE(name##_12, 12, true, __VA_ARGS__)                                                                                    \
	SHAPE(name##_16, 16, true, __VA_ARGS__)                                                                                    \
	SHAPE(name##_tiles_12, 12, false, __VA_ARGS__)                                                                             \
	SHAPE(name##_tiles_16, 16, false, __VA_ARGS__)                                                                             \
	static void name(struct panel *s)                                                                                          \
	{                                                                                                                          \
		if (s->tiles > 1)                                                                                                  \
			s->height > 12 ? name##_tiles_16(s) : name##_tiles_12(s);                                                  \
		else                                                                                                               \
			s->height > 12 ? name##_16(s) : s->height > 8 ? name##_12(s) : name##_8(s);                                \
	}
#define OTHER(name, ...)                                                                                                           \
	SHAPE(name##_8, 8, false, 0, 0, 0, __VA_ARGS__)                                                                            \
	SHAPE(name##_12, 12, false, 0, 0, 0, __VA_ARGS__)                                                                          \
	SHAPE(name##_16, 16, false, 0, 0, 0, __VA_ARGS__)                                                                          \
	static void name(struct panel *s)                                                                                          \
	{                                                                                                                          \
		s->height > 12 ? name##_16(s) : s->height > 8 ? name##_12(s) : name##_8(s);                                        \
	}

COMMON(four_32, 32, 4, 8, false, false, false)		/* Q4_0 */
COMMON(four_32_min, 32, 4, 0, false, true, false)	/* Q4_1, Q4_K */
COMMON(four_64_min, 64, 4, 0, false, true, false)	/* q4 */
COMMON(eight_32, 32, 8, 128, true, false, false)	/* Q8_0 */
COMMON(eight_128, 128, 8, 128, true, false, true)	/* q8 */
OTHER(plain, false, false, false)
OTHER(plain_two, false, false, true)
OTHER(zero, true, false, false)
OTHER(zero_two, true, false, true)
OTHER(min, false, true, false)
OTHER(min_two, false, true, true)
OTHER(zero_min, true, true, false)
OTHER(zero_min_two, true, true, true)

static bool is_form(const struct matrix *w, uint32_t group, unsigned bits, unsigned zero, bool has_min)
{
	return w->group == group && w->bits == bits && w->zero == zero && w->has_min == has_min;
}

static void slice_run(struct panel *s)
{
	static void (*const other[2][2][2])(struct panel *) = {
		{ { plain, plain_two }, { min, min_two } },
		{ { zero, zero_two }, { zero_min, zero_min_two } },
	};
	const struct matrix *w = s->w;

	if (is_form(w, 32, 4, 8, false))
		four_32(s);
	else if (is_form(w, 32, 4, 0, true))
		four_32_min(s);
	else if (is_form(w, 64, 4, 0, true))
		four_64_min(s);
	else if (is_form(w, 32, 8, 128, false))
		eight_32(s);
	else if (is_form(w, 128, 8, 128, false))
		eight_128(s);
	else
		other[w->zero != 0 && w->bits == 8][w->has_min][w->group > DEPTH](s);	/* unpack() takes off the zero of 4 bits */
}

/* ---- a panel ---- */

static void row_factors(struct panel *s, struct tile_rows *t, uint32_t first)
{
	uint32_t n = s->groups;
	const __m512i zero = _mm512_set1_epi32(s->w->zero), none = _mm512_set1_epi32(FLOAT_AT);

	for (uint32_t i = s->height; i < TILE_M; i++)	/* rows that nobody reads, but that would be slow as tiny numbers */
		for (uint32_t j = 0; j < n; j += 16) {
			v16_store(&t->scale[i][j], v16_zero());
			v16_store(&t->min[i][j], v16_zero());
			_mm512_storeu_si512(&t->zero[i][j], none);
		}
	for (uint32_t i = 0; i < s->height; i++)
		for (uint32_t j = 0; j < n; j += 16) {
			size_t at = (size_t)(first + i) * s->w->groups + s->g0 + j;
			__mmask16 some = (__mmask16)((1u << (n - j < 16 ? n - j : 16)) - 1);
			__m512i sum = _mm512_maskz_loadu_epi32(some, s->x->sum + at);
			v16 scale = _mm512_maskz_loadu_ps(some, s->x->scale + at), product = v16_mul(scale, _mm512_cvtepi32_ps(sum));

			v16_store(&t->scale[i][j], scale);
			v16_store(&t->min[i][j], _mm512_xor_ps(product, v16_all(-0.0f)));
			_mm512_storeu_si512(&t->zero[i][j], _mm512_sub_epi32(none, _mm512_mullo_epi32(sum, zero)));
		}
}

static void store_sums(const struct panel *s)
{
	for (uint32_t i = 0; i < s->tiles; i++) {
		uint32_t first = i + 1 < s->tiles ? i * s->height : s->m - s->height;

		for (uint32_t k = 0; k < s->height; k++)
			for (uint32_t b = s->b0; b < s->b1; b++)
				v16_store(s->out + (first + k) * s->ldo + (size_t)b * LANES, v16_load(s->acc[b - s->b0][i][k]));
	}
}

/* Slices of nearly equal length, since a run fetches as much as it reads; of whole SUPERs, for factors of two levels. */
static void matmul_panel(struct panel *s)
{
	const struct matrix *w = s->w;
	const uint32_t slices = (w->kpad + SLICE - 1) / SLICE, most = ((w->kpad / slices + SUPER - 1) & ~(SUPER - 1u)) / w->group;

	configure(w, s->height);
	for (s->g0 = 0; s->g0 < w->groups; s->g0 += s->groups) {
		s->groups = w->groups - s->g0 < most ? w->groups - s->g0 : most;
		for (uint32_t i = 0; i < s->tiles; i++)
			row_factors(s, &s->t[i], i + 1 < s->tiles ? i * s->height : s->m - s->height);
		slice_run(s);
	}
	store_sums(s);
}

static void matmul_tiles(float *out, size_t ldo, const struct matrix *w, const struct rows *x, uint32_t m, uint32_t b0, uint32_t b1)
{
	struct panel s __attribute__((aligned(64)));
	struct rows rows = *x;

	memset(s.sums, 0, sizeof(s.sums));
	s.w = w;
	s.x = &rows;
	s.ldo = ldo;
	s.ldq = x->ldq;
	s.b0 = b0;
	s.b1 = b1;
	s.step = (size_t)w->group * LANES * w->bits / 8;
	for (uint32_t i = 0; i < m; i += s.m) {
		s.m = m - i < PANEL ? m - i : PANEL;
		s.tiles = (s.m + TILE_M - 1) / TILE_M;
		s.height = (s.m + s.tiles - 1) / s.tiles;
		s.out = out + i * ldo;
		rows.q = x->q + i * x->ldq;
		rows.scale = x->scale + (size_t)i * w->groups;
		rows.sum = x->sum + (size_t)i * w->groups;
		matmul_panel(&s);
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
