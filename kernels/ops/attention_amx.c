/* attention_amx.c: attention of prompt rows by bf16 tiles of AMX; attention.h tells what is computed, and in which order.
 *
 * All that tiles read and write lies in the order of tiles, 1 KiB each. K and V of a span of keys become bf16 once for all queries of the
 * call; then 16 queries at a time go through the span's blocks. A block and its queries are an item. While softmax's weights of one item
 * are computed by vectors, the tiles multiply the scores of the next one and the outputs of the last one, one instruction or two between
 * two rows of weights. Both take about as long, and neither waits for the other, as long as what they work on stays in the first cache.
 * The instructions are written out: matmul_amx.c tells why. */
#include "attention.h"

#include <math.h>

#include "attention_words.h"
#include "vec16.h"

enum { SIDE = 16, DEPTH = 32, WORDS = SIDE * DEPTH, FLOATS = SIDE * SIDE };	/* of a tile: rows; pairs as words; f32 */
enum { KEY_TILES = ATTENTION_BLOCK / SIDE, KEY_STEPS = ATTENTION_BLOCK / DEPTH };
/* Keys and queries at a time: half as many where heads are larger, so that all stays in the second cache. */
enum { SPAN = 512, BLOCKS = SPAN / ATTENTION_BLOCK, QUERIES = ATTENTION_PROMPT, COMMON_HEAD = 128 };
/* A score may be so much above what weights are relative to: 2^8 is no danger to any sum, and sums seldom have to be multiplied. */
#define SLACK 8.0f

/* 16 queries and a block. */
struct item {
	uint32_t side, block;
	uint32_t steps;			/* of 32 keys: those that some query sees */
	bool edge;			/* some do not see all of them */
};

struct weights {
	uint16_t p[KEY_STEPS][WORDS] __attribute__((aligned(64)));	/* [KEY_STEPS][16 queries][32] */
	float factor[SIDE];		/* of what is summed so far, where moved says so */
	uint32_t moved;
};

/* 16 rows by up to four tiles of 16 columns, 32 deep, into sums 0 to 3. */
struct step {
	const uint16_t *a, *b;
	size_t next;			/* from tile to tile of b */
	float *sums;			/* where they belong in the end */
	uint32_t tiles;
	bool first, zero;		/* of the steps that these sums take; they begin with 0, or with what lies there */
};

struct prompt_state {
	float scores[2][KEY_TILES * FLOATS] __attribute__((aligned(64)));	/* of items in turn: [KEY_TILES][16 queries][16] */
	struct weights weights[2];
	float l[QUERIES][SIDE] __attribute__((aligned(64)));
	float m[QUERIES], limit[QUERIES];	/* what weights are relative to, and how far scores may rise before that moves */
	float *acc;			/* [queries / 16][dims][16][16] */
	uint16_t *q;			/* [queries / 16][depths][16 queries][32] */
	uint16_t *k;			/* [BLOCKS][KEY_TILES][depths][16][16 keys][2] */
	uint16_t *v;			/* [BLOCKS][dims][KEY_STEPS][16][16][2]: tokens t and t + 16 make a pair */
	float *held;			/* where sums belong that are in tiles still */
	uint32_t held_tiles;		/* 0: none are */
	uint32_t dim, depths, dims;	/* head_dim in 32s and 16s */
	uint32_t queries, heads, n_keys;	/* what the first row sees */
	uint32_t at, span;		/* where the span begins, and its keys at most */
};
enum { STATE_BYTES = QUERIES * COMMON_HEAD * (4 + 2) + 2 * SPAN * COMMON_HEAD * 2 };

#define TILE_ZERO(t) __asm__ volatile("tilezero %%tmm" #t : :)
#define TILE_LOAD(t, from) __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t : : "r"(from), "r"((size_t)64) : "memory")
#define TILE_STORE(t, to) __asm__ volatile("tilestored %%tmm" #t ", (%0,%1,1)" : : "r"(to), "r"((size_t)64) : "memory")
#define TILE_DOT(sum, a, b) __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #sum : :)

static void configure(void)
{
	struct {
		uint8_t palette, start_row, reserved[14];
		uint16_t bytes[16];
		uint8_t rows[16];
	} c = { .palette = 1 };

	for (int i = 0; i < 8; i++) {
		c.bytes[i] = 64;
		c.rows[i] = SIDE;
	}
	__asm__ volatile("ldtilecfg %0" : : "m"(c));
}

/* ---- to bf16 ---- */

VEC __mmask16 first_lanes(uint32_t n)
{
	return (__mmask16)(n < 16 ? (1u << n) - 1 : 0xffff);
}

/* The upper half is the nearest bf16, ties away from 0. What is no number remains so. */
VEC v16 rounded(v16 x)
{
	__m512i i = _mm512_castps_si512(x);

	return _mm512_castsi512_ps(_mm512_mask_add_epi32(i, _mm512_cmp_ps_mask(x, x, _CMP_ORD_Q), i, _mm512_set1_epi32(0x8000)));
}

VEC v16 upper(v16 x)
{
	return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32((int)0xffff0000)));
}

/* Two vectors of bf16, side by side. */
VEC __m512i pairs(v16 even, v16 odd)
{
	return _mm512_or_si512(_mm512_castps_si512(odd), _mm512_srli_epi32(_mm512_castps_si512(even), 16));
}

VEC __m256i halves(v16 x)
{
	return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(x), 16));
}

VEC void put_pairs(void *to, v16 even, v16 odd)
{
	_mm512_store_si512(to, pairs(even, upper(odd)));
}

/* Even and odd bytes of 32. */
VEC void bytes_apart(const unsigned char *p, v16 *even, v16 *odd)
{
	__m512i words = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)p));

	*even = _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(words, 24), 24));
	*odd = _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(words, 16), 24));
}

/* A page's K into a key tile. */
VEC void widen_k(uint16_t *to, const struct kv_view *kv, uint32_t page, const unsigned char *next)
{
	const unsigned char *k = kv_page_k(kv, page);
	const bool half = kv->kind == KV_F16;
	v16 scale = half ? v16_zero() : v16_load(kv_page_scales(kv, page)), even, odd;

	for (uint32_t d = 0; d < kv->head_dim; d += 2) {
		_mm_prefetch((const char *)next + d * (half ? 32 : 16), _MM_HINT_T0);
		if (half) {
			even = v16_half(k + d * 32);
			odd = d + 1 < kv->head_dim ? v16_half(k + d * 32 + 32) : v16_zero();
		} else {
			bytes_apart(k + d * 16, &even, &odd);
			even = v16_mul(even, scale);
			odd = v16_mul(odd, scale);
		}
		put_pairs(to + d * SIDE, rounded(even), rounded(odd));
	}
}

/* Two tokens of V at dimensions from 16 d on; those past the n-th token of the page are nothing. */
VEC void load_v(v16 v[2], const struct kv_view *kv, uint32_t page, uint32_t token, uint32_t d, uint32_t n)
{
	const unsigned char *from = kv_page_v(kv, page);
	const float *scale = kv_page_scales(kv, page) + PAGE + token;
	size_t at = (size_t)token * kv->head_pad + d * SIDE;

	v[0] = v[1] = v16_zero();
	if (token >= n)
		return;
	if (kv->kind == KV_F16) {
		v[0] = v16_half(from + 2 * at);
		if (token + 1 < n)
			v[1] = v16_half(from + 2 * (at + kv->head_pad));
		return;
	}
	bytes_apart(from + at + d * SIDE, &v[0], &v[1]);
	v[0] = v16_mul(v[0], v16_all(scale[0]));
	v[1] = token + 1 < n ? v16_mul(v[1], v16_all(scale[1])) : v16_zero();
}

/* V of two pages, n tokens of them. */
VEC void widen_v(uint16_t *to, const struct kv_view *kv, uint32_t page, uint32_t n, const unsigned char *next)
{
	uint32_t dims = kv->head_pad / SIDE, first = n < SIDE ? n : SIDE;

	for (uint32_t t = 0; t < SIDE; t += 2)
		for (uint32_t d = 0; d < dims; d++) {
			uint16_t *at = to + ((size_t)d * KEY_STEPS * SIDE + t) * DEPTH;
			v16 a[2], b[2] = { v16_zero(), v16_zero() };

			_mm_prefetch((const char *)next + (t * dims + d * 2) * 32, _MM_HINT_T0);
			load_v(a, kv, page, t, d, first);
			if (n > SIDE)
				load_v(b, kv, page + 1, t, d, n - SIDE);
			put_pairs(at, rounded(a[0]), rounded(b[0]));
			put_pairs(at + DEPTH, rounded(a[1]), rounded(b[1]));
		}
}

/* Block i of the span, n keys of it. The next one's pages, which lie anywhere, are asked for meanwhile: there are `more` keys behind. */
VEC void widen_block(struct prompt_state *s, const struct kv_view *kv, uint32_t i, uint32_t n, uint32_t more)
{
	uint32_t page = s->at / PAGE + i * KEY_TILES;
	uint16_t *k = s->k + (size_t)i * KEY_TILES * s->depths * WORDS, *v = s->v + (size_t)i * KEY_STEPS * s->dims * WORDS;

	for (uint32_t t = 0; t < n; t += SIDE, page++) {
		uint32_t next = ATTENTION_BLOCK + t < n + more ? page + KEY_TILES : page;

		widen_k(k + (size_t)t / SIDE * s->depths * WORDS, kv, page, kv_page_k(kv, next));
		if (t % DEPTH == 0)
			widen_v(v + (size_t)t / DEPTH * WORDS, kv, page, n - t, kv_page_v(kv, next));
	}
}

/* ---- products ---- */

/* Sum t leaves its tile only here, when it has been ready for long; then the tile is free for the step. */
#define TAKE_SUM(s, x, t)                                                                                                          \
	do {                                                                                                                       \
		if (t < (s)->held_tiles)                                                                                           \
			TILE_STORE(t, (s)->held + t * FLOATS);                                                                     \
		if ((x)->zero)                                                                                                     \
			TILE_ZERO(t);                                                                                              \
		else if (t < (x)->tiles)                                                                                           \
			TILE_LOAD(t, (x)->sums + t * FLOATS);                                                                      \
	} while (0)

/* A quarter of a step. */
VEC void step_quarter(struct prompt_state *s, const struct step *x, uint32_t quarter)
{
	switch (quarter) {
	case 0:
		if (x->first)
			TAKE_SUM(s, x, 0);
		TILE_LOAD(4, x->a);
		TILE_LOAD(5, x->b);
		TILE_DOT(0, 4, 5);
		break;
	case 1:
		if (x->first)
			TAKE_SUM(s, x, 1);
		if (x->tiles < 2)
			break;
		TILE_LOAD(6, x->b + x->next);
		TILE_DOT(1, 4, 6);
		break;
	case 2:
		if (x->first)
			TAKE_SUM(s, x, 2);
		if (x->tiles < 3)
			break;
		TILE_LOAD(7, x->b + 2 * x->next);
		TILE_DOT(2, 4, 7);
		break;
	default:
		if (x->first) {
			TAKE_SUM(s, x, 3);
			s->held = x->sums;
			s->held_tiles = x->tiles;
		}
		if (x->tiles < 4)
			break;
		TILE_LOAD(5, x->b + 3 * x->next);
		TILE_DOT(3, 4, 5);
	}
}

static void put_sums(struct prompt_state *s)
{
	if (s->held_tiles > 0)
		TILE_STORE(0, s->held);
	if (s->held_tiles > 1)
		TILE_STORE(1, s->held + FLOATS);
	if (s->held_tiles > 2)
		TILE_STORE(2, s->held + 2 * FLOATS);
	if (s->held_tiles > 3)
		TILE_STORE(3, s->held + 3 * FLOATS);
	s->held_tiles = 0;
}

/* One of depths: 16 queries by the item's keys by 32 dimensions. */
VEC void score_step(struct step *x, const struct prompt_state *s, const struct item *t, float *to, uint32_t depth)
{
	x->a = s->q + ((size_t)t->side * s->depths + depth) * WORDS;
	x->b = s->k + ((size_t)t->block * KEY_TILES * s->depths + depth) * WORDS;
	x->next = s->depths * WORDS;
	x->sums = to;
	x->tiles = 2 * t->steps;
	x->first = depth == 0;
	x->zero = true;
}

/* One of dims / 4, rounded up, times steps: 16 queries by 64 dimensions by 32 keys, on top of what acc has. */
VEC void output_step(struct step *x, const struct prompt_state *s, const struct item *t, const struct weights *w, uint32_t dim,
		     uint32_t keys)
{
	x->a = w->p[keys];
	x->b = s->v + (((size_t)t->block * s->dims + dim * 4) * KEY_STEPS + keys) * WORDS;
	x->next = KEY_STEPS * WORDS;
	x->sums = s->acc + ((size_t)t->side * s->dims + dim * 4) * FLOATS;
	x->tiles = s->dims - dim * 4 < 4 ? s->dims - dim * 4 : 4;
	x->first = keys == 0;
	x->zero = false;
}

/* ---- weights ---- */

/* rough_power_of_two() of expo.h on 16 lanes. */
VEC v16 weight(v16 x)
{
	v16 r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC), p;

	p = v16_fma(v16_all(ROUGH_C3), r, v16_all(ROUGH_C2));
	p = v16_fma(p, r, v16_all(ROUGH_C1));
	p = v16_fma(p, r, v16_all(ROUGH_C0));
	return _mm512_scalef_ps(p, x);
}

/* A score of query i is above its limit. acc follows before the item's outputs join it: for now, those of the item before still do. */
static __attribute__((noinline)) void move_top(struct prompt_state *s, uint32_t i, struct weights *w, v16 top)
{
	float now = v16_top(top), factor = power_of_two(s->m[i] - now);

	s->m[i] = now;
	s->limit[i] = now + SLACK;
	v16_store(s->l[i], v16_mul(v16_load(s->l[i]), v16_all(factor)));
	w->factor[i % SIDE] = factor;
	w->moved |= 1u << i % SIDE;
}

static __attribute__((noinline)) void follow_top(struct prompt_state *s, const struct item *t, struct weights *w)
{
	put_sums(s);
	for (uint32_t r = 0; r < SIDE; r++) {
		float *acc = s->acc + (size_t)t->side * s->dims * FLOATS + r * SIDE;

		for (uint32_t d = 0; d < s->dims && w->moved >> r & 1; d++, acc += FLOATS)
			v16_store(acc, v16_mul(v16_load(acc), v16_all(w->factor[r])));
	}
	w->moved = 0;
}

/* Scores of query i to weights, of 16 * tiles keys; on an edge it sees n of them, n > 0. */
VEC void weigh(struct prompt_state *s, uint32_t i, const float *x, struct weights *w, uint32_t tiles, uint32_t n, bool edge)
{
	uint16_t *p = w->p[0] + i % SIDE * DEPTH;
	v16 y[KEY_TILES], top, m, l;

	UNROLL
	for (uint32_t j = 0; j < tiles; j++) {
		y[j] = v16_load(x + j * FLOATS);
		if (edge)
			y[j] = v16_first(y[j], n > SIDE * j ? n - SIDE * j : 0, -INFINITY);
	}
	top = v16_max(y[0], y[1]);
	if (tiles > 2)
		top = v16_max(top, v16_max(y[2], y[3]));
	if (_mm512_cmp_ps_mask(top, v16_all(s->limit[i]), _CMP_GT_OQ))
		move_top(s, i, w, top);
	m = v16_all(s->m[i]);
	l = v16_load(s->l[i]);
	UNROLL
	for (uint32_t j = 0; j < tiles; j++)
		y[j] = weight(v16_sub(y[j], m));
	UNROLL
	for (uint32_t j = 0; j < tiles; j += 2) {
		v16 even = upper(y[j]), odd = upper(y[j + 1]);

		_mm512_store_si512(p + j / 2 * WORDS, pairs(even, odd));
		l = v16_add(l, v16_add(even, odd));
	}
	v16_store(s->l[i], l);
}

static __attribute__((noinline)) void weigh_edge(struct prompt_state *s, const struct item *t, uint32_t i, const float *x,
						 struct weights *w)
{
	uint32_t sees = s->n_keys + i / s->heads, base = s->at + t->block * ATTENTION_BLOCK, n = sees > base ? sees - base : 0;

	n = n < ATTENTION_BLOCK ? n : ATTENTION_BLOCK;
	if (n == 0 || i >= s->queries)
		for (uint32_t j = 0; j < t->steps; j++)
			_mm512_store_si512(w->p[j] + i % SIDE * DEPTH, _mm512_setzero_si512());
	else if (t->steps == 1)
		weigh(s, i, x, w, 2, n, true);
	else
		weigh(s, i, x, w, KEY_TILES, n, true);
}

/* ---- items ---- */

/* The tiles' share of an item: scores of the one behind, then outputs of the one before. */
struct share {
	const struct item *behind, *before;
	float *scores;
	const struct weights *weights;
	uint32_t depth, dim, keys;	/* where it stands */
};

VEC void share_next(struct step *x, const struct prompt_state *s, struct share *h)
{
	if (h->depth < s->depths) {
		score_step(x, s, h->behind, h->scores, h->depth++);
		return;
	}
	output_step(x, s, h->before, h->weights, h->dim, h->keys);
	h->keys = h->keys + 1 < h->before->steps ? h->keys + 1 : 0;
	h->dim += h->keys == 0;
}

/* Weights of item i, while tiles multiply; what they do is spread evenly between the rows. */
VEC void run_item(struct prompt_state *s, const struct item *t, uint32_t i, bool before, bool behind)
{
	uint32_t quarters = 4 * ((before ? (s->dims + 3) / 4 * t[-1].steps : 0) + (behind ? s->depths : 0));
	struct weights *w = &s->weights[i % 2], *last = &s->weights[(i + 1) % 2];
	struct share h = { t + 1, t - 1, s->scores[(i + 1) % 2], last, behind ? 0 : s->depths, 0, 0 };
	const float *x = s->scores[i % 2];
	struct step step = { .tiles = 0 };

	if (before && last->moved)
		follow_top(s, t - 1, last);
	for (uint32_t k = 0, r = 0; r < SIDE || k < quarters; k++) {
		if (k < quarters) {
			if (k % 4 == 0)
				share_next(&step, s, &h);
			step_quarter(s, &step, k % 4);
		}
		for (; r < SIDE && r * quarters <= k * SIDE; r++)
			if (t->edge)
				weigh_edge(s, t, t->side * SIDE + r, x + r * SIDE, w);
			else
				weigh(s, t->side * SIDE + r, x + r * SIDE, w, KEY_TILES, 0, false);
	}
	if (behind && !before)
		put_sums(s);
}

static void run_steps(struct prompt_state *s, struct share *h, uint32_t depths, uint32_t dims)
{
	struct step x = { .tiles = 0 };

	while (h->depth < depths || h->dim < dims) {
		share_next(&x, s, h);
		for (uint32_t k = 0; k < 4; k++)
			step_quarter(s, &x, k);
	}
	put_sums(s);
}

static void run_items(struct prompt_state *s, const struct item *t, uint32_t n)
{
	struct share h = { t, t + n - 1, s->scores[0], &s->weights[(n - 1) % 2], 0, 0, 0 };

	s->held_tiles = 0;
	run_steps(s, &h, s->depths, 0);
	for (uint32_t i = 0; i < n; i++)
		run_item(s, t + i, i, i > 0, i + 1 < n);
	if (h.weights->moved)
		follow_top(s, h.before, &s->weights[(n - 1) % 2]);
	run_steps(s, &h, 0, (s->dims + 3) / 4);
}

/* What `block` is to 16 queries; false: nothing. */
static bool item_make(struct item *t, const struct prompt_state *s, uint32_t side, uint32_t block)
{
	uint32_t base = s->at + block * ATTENTION_BLOCK, end = (side + 1) * SIDE, last, least = s->n_keys + side * SIDE / s->heads;

	if (side * SIDE >= s->queries)
		return false;
	last = s->n_keys + ((end < s->queries ? end : s->queries) - 1) / s->heads;
	*t = (struct item){ side, block, last > base + DEPTH ? KEY_STEPS : 1, least < base + ATTENTION_BLOCK };
	return last > base;
}

/* The keys from s->at on; there are `keys` in all. */
static void run_span(struct prompt_state *s, const struct kv_view *kv, uint32_t keys)
{
	struct item items[QUERIES / SIDE * BLOCKS];
	uint32_t end = keys - s->at < s->span ? keys - s->at : s->span, n = 0;
	uint32_t round = s->dim > COMMON_HEAD / 2 ? 1 : 2;	/* 16 queries each on one block: what the first cache holds */

	for (uint32_t i = 0; i * ATTENTION_BLOCK < end; i++) {
		uint32_t left = end - i * ATTENTION_BLOCK, here = left < ATTENTION_BLOCK ? left : ATTENTION_BLOCK;

		widen_block(s, kv, i, here, keys - s->at - i * ATTENTION_BLOCK - here);
	}
	for (uint32_t side = 0; side * SIDE < s->queries; side += round)
		for (uint32_t i = 0; i * ATTENTION_BLOCK < end; i++)
			for (uint32_t j = side; j < side + round; j++)
				n += item_make(&items[n], s, j, i);
	if (n)
		run_items(s, items, n);
}

/* ---- a tile ---- */

VEC void take_query(struct prompt_state *s, uint32_t i, const float *q, float scale)
{
	uint16_t *to = s->q + (size_t)(i / SIDE) * s->depths * WORDS + i % SIDE * DEPTH;

	for (uint32_t d = 0; d < s->dim; d += 16) {
		__mmask16 some = first_lanes(s->dim - d);
		v16 x = v16_mul(_mm512_maskz_loadu_ps(some, q + d), v16_all(scale));

		_mm256_store_si256((__m256i *)(void *)(to + d / DEPTH * WORDS + d % DEPTH), halves(rounded(x)));
	}
}

VEC void give_output(const struct prompt_state *s, uint32_t i, float *out)
{
	const float *acc = s->acc + (size_t)(i / SIDE) * s->dims * FLOATS + i % SIDE * SIDE;
	v16 l = v16_all(v16_sum(v16_load(s->l[i])));

	for (uint32_t d = 0; d < s->dim; d += 16) {
		__mmask16 some = first_lanes(s->dim - d);
		v16 x = v16_div(v16_load(acc + d / SIDE * FLOATS), l);

		_mm512_mask_storeu_ps(out + d, some, v16_add(x, v16_zero()));	/* no -0: whether there is one depends on neighbours */
	}
}

static void place(struct prompt_state *s, void *memory, const struct kv_view *kv)
{
	size_t sides = (s->queries + SIDE - 1) / SIDE;

	s->dim = kv->head_dim;
	s->depths = (s->dim + DEPTH - 1) / DEPTH;
	s->dims = kv->head_pad / SIDE;
	s->acc = memory;
	s->q = (uint16_t *)(s->acc + sides * s->dims * FLOATS);
	s->k = s->q + sides * s->depths * WORDS;
	s->span = s->dim > COMMON_HEAD ? SPAN / 2 : SPAN;
	s->v = s->k + (size_t)s->span * s->depths * DEPTH;
	memset(s->acc, 0, sides * s->dims * FLOATS * sizeof(float));
	memset(s->q, 0, sides * s->depths * WORDS * sizeof(*s->q));
	if (s->dim % DEPTH)
		memset(s->k, 0, (size_t)s->span * s->depths * DEPTH * sizeof(*s->k));	/* what is past head_dim stays so */
	memset(s->l, 0, sides * SIDE * sizeof(s->l[0]));
	for (uint32_t i = 0; i < sides * SIDE; i++)
		s->m[i] = s->limit[i] = -INFINITY;
	s->weights[0].moved = s->weights[1].moved = 0;
}

/* `rows` from `row` on, `heads` from `head` on. */
static void attend(const struct attention_tile *t, uint32_t row, uint32_t rows, uint32_t head, uint32_t heads)
{
	__attribute__((aligned(64))) unsigned char memory[STATE_BYTES];
	const float scale = EXPO_LOG2E / sqrtf((float)t->kv.head_dim);
	struct prompt_state s __attribute__((aligned(64)));

	s.queries = rows * heads;
	s.heads = heads;
	s.n_keys = t->n_keys + row;
	place(&s, memory, &t->kv);
	for (uint32_t i = 0; i < s.queries; i++)
		take_query(&s, i, t->q[row + i / heads] + (size_t)(head + i % heads) * s.dim, scale);
	configure();
	for (s.at = 0; s.at < s.n_keys + rows - 1; s.at += s.span)
		run_span(&s, &t->kv, s.n_keys + rows - 1);
	__asm__ volatile("tilerelease");
	for (uint32_t i = 0; i < s.queries; i++)
		give_output(&s, i, t->out[row + i / heads] + (size_t)(head + i % heads) * s.dim);
}

/* Is V of a key such that 0 times it is 0? */
static bool is_finite(const struct kv_view *kv, uint32_t key)
{
	const unsigned char *v = kv_page_v(kv, key / PAGE) + (size_t)(key % PAGE) * kv->head_pad * 2;

	if (kv->kind == KV_INT8)
		return kv_page_scales(kv, key / PAGE)[PAGE + key % PAGE] < 1e36f;
	for (uint32_t d = 0; d < kv->head_dim; d += 16) {
		__mmask16 some = first_lanes(kv->head_dim - d);

		if (_mm512_mask_cmp_ps_mask(some, _mm512_abs_ps(v16_half(v + 2 * d)), v16_all(INFINITY), _CMP_NLT_UQ))
			return false;
	}
	return true;
}

/* A row's weights of later rows' keys are 0. Where that does not hide them, rows go one by one. */
static bool rows_are_finite(const struct attention_tile *t)
{
	for (uint32_t r = 0; r + 1 < t->rows; r++)
		if (!is_finite(&t->kv, t->n_keys + r))
			return false;
	return true;
}

void attention_prompt_amx(const struct attention_tile *t)
{
	const uint32_t most = t->kv.head_dim > COMMON_HEAD ? QUERIES / 2 : QUERIES;
	const uint32_t heads = t->heads < most ? t->heads : most, rows = rows_are_finite(t) ? most / heads : 1;

	for (uint32_t r = 0; r < t->rows; r += rows)
		for (uint32_t h = 0; h < t->heads; h += heads)
			attend(t, r, t->rows - r < rows ? t->rows - r : rows, h, t->heads - h < heads ? t->heads - h : heads);
}
