/* core_prefix.c: whole pages are found again by all that their bytes follow from, give the bytes of a miss, and cost nobody a page. */
#include "adapter_test.h"
#include "kernels/llama.h"

enum { CONTEXT = 64, PAGES = 8, VOCAB = 67 };

struct bench {
	struct core_model *m;
	struct core_blend *blend[4]; /* the base, two adapters, and one of these at another scale */
	struct core_ctx *c, *plain;  /* with the cache, and without */
};

static struct core_ctx *engine(const struct core_model *m, enum core_kv_type type, bool cache)
{
	struct core_ctx_params p = {.model = m,
				    .threads = 1,
				    .kv_pages = PAGES,
				    .max_rows = CONTEXT,
				    .max_context = CONTEXT,
				    .kv_type = type,
				    .prefix_cache = cache};
	struct core_ctx *c = NULL;

	must(core_ctx_new(&c, &p, &why));
	c->kv.poison = true;
	memset(c->kv.pool, 0xff, c->kv.n_pages * c->kv.page_bytes);
	return c;
}

static struct core_blend *scaled(const struct core_model *m, const char *name, float scale)
{
	struct core_blend_part p = {.adapter = load_adapter(m, name), .scale = scale};
	struct core_blend *b = NULL;

	must(core_blend_new(&b, &p, 1, &why));
	core_adapter_unref(p.adapter);
	return b;
}

static int setup(void **state)
{
	static struct bench b;

	unsetenv("WEFT_CPU");
	b.m = load_model(golden_path("gqa-untied"), CORE_QUANT_NONE);
	b.blend[1] = scaled(b.m, "plain", 1);
	b.blend[2] = scaled(b.m, "rslora", 1);
	b.blend[3] = scaled(b.m, "plain", 0.5f);
	b.c = engine(b.m, CORE_KV_AUTO, true);
	b.plain = engine(b.m, CORE_KV_AUTO, false);
	*state = &b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	assert_int_equal(core_ctx_pages_free(b->c), core_ctx_pages_total(b->c)); /* nothing leaked, and what is cached is free */
	core_ctx_free(b->c);
	core_ctx_free(b->plain);
	for (int i = 1; i < 4; i++)
		core_blend_unref(b->blend[i]);
	core_model_free(b->m);
	return 0;
}

/* The word at a position of a story: a prompt of 20 tokens, and an answer. */
static uint32_t word_of(uint32_t story, uint32_t position)
{
	return (position * 29 + position * position * 7 + story * 11) % (VOCAB - 1) | (position < 20 ? 0 : CORE_WORD_GENERATED);
}

static void tell(uint32_t *words, uint32_t story, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		words[i] = word_of(story, i);
}

static int run(struct core_ctx *c, struct core_seq *s, const uint32_t *words, uint32_t n)
{
	struct core_row rows[CONTEXT];

	for (uint32_t i = 0; i < n; i++)
		rows[i] = (struct core_row){s, (int32_t)(words[i] & ~CORE_WORD_GENERATED),
					    words[i] & CORE_WORD_GENERATED ? CORE_GENERATED : CORE_PROMPT, i == n - 1};
	return core_forward(c, rows, n, &why);
}

static struct core_seq *start(struct core_ctx *c, struct core_blend *b, const char *salt)
{
	struct core_seq *s = core_seq_new(c);

	must(core_seq_set_blend(c, s, b));
	must(core_seq_set_salt(s, salt, strlen(salt)));
	return s;
}

/* Runs words[n] from the first on, and lets go of them: they are in the cache. */
static void leave(struct core_ctx *c, struct core_blend *b, const char *salt, const uint32_t *words, uint32_t n)
{
	struct core_seq *s = start(c, b, salt);

	must(run(c, s, words, n));
	core_seq_free(c, s);
}

static uint32_t found(struct core_ctx *c, struct core_blend *b, const char *salt, const uint32_t *words, uint32_t n)
{
	struct core_seq *s = start(c, b, salt);
	uint32_t got = core_seq_reuse(c, s, words, n);

	assert_int_equal(core_seq_len(s), got);
	core_seq_free(c, s);
	return got;
}

/* The last row of words[n] is what the core without a cache computes, from the first word on, in one pass. */
static void assert_computed(const struct bench *b, struct core_blend *blend, const uint32_t *words, uint32_t n)
{
	struct core_seq *s = start(b->plain, blend, "");

	must(run(b->plain, s, words, n));
	assert_memory_equal(core_logits(b->c, 0), core_logits(b->plain, 0), VOCAB * sizeof(float));
	core_seq_free(b->plain, s);
}

static void a_hit_gives_the_bytes_of_a_miss_in_chunks_of_any_size(void **state)
{
	struct bench *b = *state;
	uint32_t words[CONTEXT];

	tell(words, 0, CONTEXT);
	for (int blend = 0; blend < 4; blend++) {
		leave(b->c, b->blend[blend], "", words, 40);
		for (uint32_t chunk = 1; chunk <= 18; chunk += 4) {
			struct core_seq *s = start(b->c, b->blend[blend], "");

			assert_int_equal(core_seq_reuse(b->c, s, words, 47), 32);
			for (uint32_t at = 32, n; at < 50; at += n) {
				n = 50 - at < chunk ? 50 - at : chunk;
				must(run(b->c, s, words + at, n));
				assert_computed(b, b->blend[blend], words, at + n);
			}
			core_seq_free(b->c, s);
			assert_int_equal(found(b->c, b->blend[blend], "", words, 47), 32);
		}
	}
}

static void another_token_path_blend_scale_or_salt_is_a_miss(void **state)
{
	struct bench *b = *state;
	uint32_t words[CONTEXT], other[CONTEXT];

	tell(words, 0, CONTEXT);
	leave(b->c, b->blend[1], "a", words, 48);
	assert_int_equal(found(b->c, b->blend[1], "a", words, 48), 48);
	assert_int_equal(found(b->c, b->blend[0], "a", words, 48), 0);
	assert_int_equal(found(b->c, b->blend[2], "a", words, 48), 0);
	assert_int_equal(found(b->c, b->blend[3], "a", words, 48), 0);
	assert_int_equal(found(b->c, b->blend[1], "b", words, 48), 0);
	assert_int_equal(found(b->c, b->blend[1], "", words, 48), 0);
	for (uint32_t i = 0; i < 48; i++) {
		memcpy(other, words, sizeof(other));
		other[i] ^= 1;
		assert_int_equal(found(b->c, b->blend[1], "a", other, 48), i / 16 * 16);
		other[i] = words[i] ^ CORE_WORD_GENERATED;
		assert_int_equal(found(b->c, b->blend[1], "a", other, 48), i / 16 * 16);
	}
	assert_int_equal(found(b->c, b->blend[1], "a", words + 16, 32), 0); /* the same words elsewhere */
}

static void a_blend_made_anew_of_the_same_content_is_a_hit(void **state)
{
	struct bench *b = *state;
	struct core_blend *again = scaled(b->m, "plain", 1);
	uint32_t words[CONTEXT];

	tell(words, 0, CONTEXT);
	leave(b->c, b->blend[1], "", words, 32);
	assert_int_equal(found(b->c, again, "", words, 32), 32);
	core_blend_unref(again);
}

static void only_whole_pages_are_found_and_only_between_pages(void **state)
{
	struct bench *b = *state;
	struct core_seq *s = start(b->c, NULL, "");
	uint32_t words[CONTEXT];

	tell(words, 0, CONTEXT);
	leave(b->c, NULL, "", words, 47);
	assert_int_equal(found(b->c, NULL, "", words, 15), 0);
	assert_int_equal(found(b->c, NULL, "", words, 31), 16);
	assert_int_equal(found(b->c, NULL, "", words, 47), 32);
	must(run(b->c, s, words, 15));
	assert_int_equal(core_seq_reuse(b->c, s, words + 15, 32), 0);
	must(run(b->c, s, words + 15, 1));
	assert_int_equal(core_seq_reuse(b->c, s, words + 16, 31), 16); /* it goes on from where it is */
	must(run(b->c, s, words + 32, 1));
	assert_computed(b, NULL, words, 33);
	core_seq_free(b->c, s);
	memset(words, 0, sizeof(words)); /* the same from everywhere: only the place is wrong */
	s = start(b->c, NULL, "");
	must(run(b->c, s, words, 32));
	must(core_seq_trim(b->c, s, 15));
	assert_int_equal(core_seq_reuse(b->c, s, words + 15, 40), 0);
	core_seq_free(b->c, s);
}

static void a_core_without_the_cache_finds_nothing(void **state)
{
	struct bench *b = *state;
	uint32_t words[CONTEXT];

	tell(words, 0, CONTEXT);
	leave(b->plain, NULL, "", words, 48);
	assert_int_equal(found(b->plain, NULL, "", words, 48), 0);
}

static void those_who_computed_the_same_at_the_same_time_share_it_afterwards(void **state)
{
	struct bench *b = *state;
	struct core_seq *s[2] = {start(b->c, NULL, ""), start(b->c, NULL, "")};
	uint32_t words[CONTEXT];

	tell(words, 0, CONTEXT);
	for (uint32_t at = 0; at < 36; at += 12)
		for (int i = 0; i < 2; i++)
			must(run(b->c, s[i], words + at, 12));
	assert_int_equal(core_ctx_pages_free(b->c), PAGES - 4); /* two together, and the last one of each */
	for (int i = 0; i < 2; i++) {
		must(run(b->c, s[i], words + 36, 1));
		assert_computed(b, NULL, words, 37);
		core_seq_free(b->c, s[i]);
	}
}

static void pages_that_lay_idle_longest_make_room_and_a_beginning_loses_its_end_first(void **state)
{
	struct bench *b = *state;
	uint32_t words[3][CONTEXT];
	struct core_cached cached;

	for (uint32_t i = 0; i < 3; i++)
		tell(words[i], i, CONTEXT);
	leave(b->c, NULL, "", words[0], 64); /* 4 pages */
	leave(b->c, NULL, "", words[1], 64); /* and 4: the pool is full */
	assert_int_equal(core_ctx_pages_free(b->c), PAGES);
	assert_int_equal(found(b->c, NULL, "", words[0], 64), 64); /* used again: the other one is older now */
	leave(b->c, NULL, "", words[2], 33);
	core_ctx_cached(b->c, &cached);
	assert_int_equal(cached.evictions, 3);
	assert_int_equal(cached.pages, 7);
	assert_int_equal(cached.idle, 7);
	assert_int_equal(found(b->c, NULL, "", words[1], 64), 16);
	assert_int_equal(found(b->c, NULL, "", words[2], 64), 32);
	assert_int_equal(found(b->c, NULL, "", words[0], 64), 64);
}

static void a_full_cache_leaves_every_page_to_who_needs_it_and_held_ones_to_their_holders(void **state)
{
	struct bench *b = *state;
	struct core_seq *holder = start(b->c, NULL, ""), *s = start(b->c, NULL, "");
	uint32_t words[3][CONTEXT];

	for (uint32_t i = 0; i < 3; i++)
		tell(words[i], i, CONTEXT);
	leave(b->c, NULL, "", words[0], 64);
	leave(b->c, NULL, "", words[1], 64);
	assert_int_equal(core_seq_reuse(b->c, holder, words[0], 63), 48);
	assert_int_equal(core_ctx_pages_free(b->c), PAGES - 3);
	must(run(b->c, s, words[2], 64)); /* 4 of the 5 */
	must(run(b->c, holder, words[0] + 48, 15));
	assert_computed(b, NULL, words[0], 63);
	assert_int_equal(core_ctx_pages_free(b->c), 0);
	core_seq_free(b->c, holder);
	core_seq_free(b->c, s);
}

/* Trimmed into a page that others may look for, and fed something else: what they find is still what they looked for. */
static void a_trimmed_sequence_that_goes_another_way_spoils_nothing(void **state)
{
	struct bench *b = *state;
	struct core_seq *s = start(b->c, NULL, ""), *other;
	uint32_t words[CONTEXT], way[CONTEXT];

	tell(words, 0, CONTEXT);
	memcpy(way, words, sizeof(way));
	for (uint32_t i = 24; i < CONTEXT; i++)
		way[i] = words[i] ^ 1;
	must(run(b->c, s, words, 48));
	must(core_seq_trim(b->c, s, 24));
	assert_int_equal(core_seq_pages_needed(b->c, s, 8), 0); /* the cache costs no copy */
	must(run(b->c, s, way + 24, 10));
	assert_computed(b, NULL, way, 34);
	core_seq_free(b->c, s);
	other = start(b->c, NULL, "");
	assert_int_equal(core_seq_reuse(b->c, other, words, 48), 16);
	must(run(b->c, other, words + 16, 25));
	assert_computed(b, NULL, words, 41);
	core_seq_free(b->c, other);
	assert_int_equal(found(b->c, NULL, "", way, 40), 32);
}

static void the_salt_is_set_before_the_first_token(void **state)
{
	struct bench *b = *state;
	struct core_seq *s = start(b->c, NULL, ""), *f;
	uint32_t words[CONTEXT];

	tell(words, 1, CONTEXT);
	must(core_seq_set_salt(s, "x", 1));
	must(run(b->c, s, words, 5));
	assert_int_equal(core_seq_set_salt(s, "y", 1), CORE_EINVAL);
	f = core_seq_fork(b->c, s); /* inherits it, and the words of a page that it copies */
	must(run(b->c, f, words + 5, 11));
	assert_int_equal(found(b->c, NULL, "x", words, 16), 16);
	assert_int_equal(found(b->c, NULL, "", words, 16), 0);
	core_seq_free(b->c, s);
	core_seq_free(b->c, f);
}

/* ---- lives at random, against a core that has no cache ---- */

enum { LIVES = 4 };

struct life {
	struct core_seq *s; /* NULL: not begun */
	struct core_blend *blend;
	const char *salt;
	uint32_t story, branch; /* it goes its own way from there on */
	uint32_t len, words[CONTEXT];
};

static uint32_t rng = 1;

static uint32_t below(uint32_t n)
{
	rng = rng * 1664525u + 1013904223u;
	return (uint32_t)((uint64_t)(rng >> 8) * n >> 24);
}

static void life_tell(struct life *l)
{
	for (uint32_t i = l->len; i < CONTEXT; i++)
		l->words[i] = word_of(l->story, i) ^ (i >= l->branch);
}

static void life_begin(struct bench *b, struct life *l)
{
	l->blend = b->blend[below(4)];
	l->salt = below(4) ? "" : "s";
	l->story = below(2);
	l->branch = below(3) ? CONTEXT : below(CONTEXT);
	l->len = 0;
	life_tell(l);
	l->s = start(b->c, l->blend, l->salt);
	l->len = core_seq_reuse(b->c, l->s, l->words, 1 + below(CONTEXT - 1));
}

static void life_end(struct bench *b, struct life *l)
{
	core_seq_free(b->c, l->s);
	l->s = NULL;
}

/* True: pages were short, as they may be. */
static bool life_feed(struct bench *b, struct life *l)
{
	uint32_t n = 1 + below(24), need;

	n = n < CONTEXT - l->len ? n : CONTEXT - l->len;
	need = core_seq_pages_needed(b->c, l->s, n);
	if (n == 0 || run(b->c, l->s, l->words + l->len, n)) {
		assert_true(n == 0 || need > core_ctx_pages_free(b->c));
		return n > 0;
	}
	l->len += n;
	assert_computed(b, l->blend, l->words, l->len);
	return false;
}

static void life_turn(struct bench *b, struct life *l)
{
	must(core_seq_trim(b->c, l->s, below(l->len + 1)));
	l->len = core_seq_len(l->s);
	l->branch = below(2) ? l->len : CONTEXT;
	life_tell(l);
	l->len += core_seq_reuse(b->c, l->s, l->words + l->len, below(CONTEXT - l->len + 1));
}

static void life_fork(struct bench *b, const struct life *l, struct life *to)
{
	if (to->s)
		return;
	*to = *l;
	to->s = core_seq_fork(b->c, l->s);
}

static void live(struct bench *b)
{
	struct life lives[LIVES] = {{0}};
	struct core_cached cached;
	uint32_t reused = 0;

	for (int i = 0; i < 4000; i++) {
		struct life *l = &lives[below(LIVES)];
		uint32_t what = below(10);

		if (!l->s) {
			life_begin(b, l);
			reused += l->len;
		} else if (what == 0) {
			life_end(b, l);
		} else if (what == 1) {
			life_turn(b, l);
		} else if (what == 2) {
			life_fork(b, l, &lives[below(LIVES)]);
		} else if (life_feed(b, l)) {
			life_end(b, l);
		}
	}
	for (int i = 0; i < LIVES; i++)
		if (lives[i].s)
			life_end(b, &lives[i]);
	core_ctx_cached(b->c, &cached);
	assert_true(cached.evictions > 100 && reused > 1000);
	assert_int_equal(cached.pages, cached.idle);
}

static void any_life_computes_what_it_would_without_the_cache_whatever_keys_and_values_are_kept_as(void **state)
{
	static const enum core_kv_type types[] = {CORE_KV_F32, CORE_KV_F16, CORE_KV_INT8};
	struct bench *whole = *state, b = *whole;

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		b.c = engine(b.m, types[i], true);
		b.plain = engine(b.m, types[i], false);
		live(&b);
		assert_int_equal(core_ctx_pages_free(b.c), PAGES);
		core_ctx_free(b.c);
		core_ctx_free(b.plain);
	}
}

#define FACT(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		FACT(a_hit_gives_the_bytes_of_a_miss_in_chunks_of_any_size),
		FACT(another_token_path_blend_scale_or_salt_is_a_miss),
		FACT(a_blend_made_anew_of_the_same_content_is_a_hit),
		FACT(only_whole_pages_are_found_and_only_between_pages),
		FACT(a_core_without_the_cache_finds_nothing),
		FACT(those_who_computed_the_same_at_the_same_time_share_it_afterwards),
		FACT(pages_that_lay_idle_longest_make_room_and_a_beginning_loses_its_end_first),
		FACT(a_full_cache_leaves_every_page_to_who_needs_it_and_held_ones_to_their_holders),
		FACT(a_trimmed_sequence_that_goes_another_way_spoils_nothing),
		FACT(the_salt_is_set_before_the_first_token),
		FACT(any_life_computes_what_it_would_without_the_cache_whatever_keys_and_values_are_kept_as),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
