/* kv.h: the pool of KV pages, and the sequences that hold them.
 *
 * A page is 16 tokens of every layer and KV head:
 *
 *     [layer][kv head] { K [head_dim][16 tokens], V [16 tokens][head_pad] }      f16 or f32; why so: ops/attention.h
 *     [layer][kv head] { K, V, scales of K, scales of V }                        int8: ops/attention_words.h
 *
 * Pages are counted: a fork shares all pages of its parent, and whoever writes into a page that another sequence also holds
 * copies it first. Only the last, partly filled page of a sequence is ever written to. Whole pages may stay in a cache (kv_cache.h) that
 * costs no page: what only the cache has is free.
 *
 * A pass reserves for all its sequences before it computes; kv_undo() takes back a reservation, kv_commit() makes it last. */
#ifndef WEFT_KV_H
#define WEFT_KV_H

#include "kv_cache.h"
#include "ops/attention.h"

struct kv_shape {
	uint32_t layers, heads, head_dim;
	enum kv_kind kind;
	bool outside;			/* the pages' contents are a device's: only their numbers are kept here */
};

struct kv {
	struct kv_shape shape;
	size_t page_bytes;
	unsigned char *pool;		/* [n_pages][page_bytes]; NULL: outside */
	uint32_t n_pages, n_free, max_pages;	/* max_pages: of one sequence */
	uint32_t *free;			/* stack of n_free page numbers; idle pages of the cache are not in it */
	uint32_t *holders;		/* [n_pages] sequences that hold the page */
	struct kv_cache cache;
	bool poison;			/* tests: fill pages with NaNs when they are freed */
};

struct core_seq {
	uint32_t len;			/* tokens whose KV is present */
	uint32_t pages;			/* len / 16 rounded up, plus reserved ones between reserve and commit */
	uint32_t pending;		/* tokens of the pass in progress; 0 between passes */
	uint32_t group;			/* of the rows of its blend, in the pass in progress */
	uint32_t first;			/* of its rows among those of the pass in progress, sequence by sequence */
	struct core_blend *blend;	/* counted; NULL: the base alone. ctx.c keeps it */
	void *resident;			/* the blend on the device */
	unsigned char root[CORE_PAGE_KEY];	/* of the keys of its pages: a digest of blend and salt. ctx.c keeps it */
	unsigned char salt[CORE_PAGE_KEY];	/* its digest; zeros: none */
	uint32_t copied;		/* page that this reservation replaced by a copy, or KV_NONE */
	uint32_t table[];		/* [max_pages] */
};

size_t kv_page_size(const struct kv_shape *s);
int kv_init(struct kv *kv, const struct kv_shape *s, uint32_t n_pages, uint32_t max_context, bool cache, struct core_error *err);
void kv_finish(struct kv *kv);
uint32_t kv_pages_free(const struct kv *kv);	/* and idle */

struct core_seq *kv_seq_new(const struct kv *kv);
struct core_seq *kv_seq_fork(struct kv *kv, const struct core_seq *s);
void kv_seq_free(struct kv *kv, struct core_seq *s);
void kv_trim(struct kv *kv, struct core_seq *s, uint32_t len);	/* len <= s->len */
uint32_t kv_needed(const struct kv *kv, const struct core_seq *s, uint32_t n);

/* Pages for s->pending more tokens. false: the pool is short, nothing changed. */
bool kv_reserve(struct kv *kv, struct core_seq *s);
void kv_undo(struct kv *kv, struct core_seq *s);
/* Fills the copied page. Call for every sequence after the last reservation and before the first write. */
void kv_copy(struct kv *kv, struct core_seq *s);
/* What the pass computed at a position of s: before kv_commit(), for all of them. */
void kv_note(struct kv *kv, const struct core_seq *s, uint32_t position, uint32_t word);
void kv_commit(struct kv *kv, struct core_seq *s);
void kv_page_key(const struct kv *kv, const struct core_seq *s, const uint32_t *words, unsigned char key[CORE_PAGE_KEY]);
/* Pages that begin with words[0..n), behind a whole number of them: s gets as many as the cache has one after the other. Returns their tokens. */
uint32_t kv_reuse(struct kv *kv, struct core_seq *s, const uint32_t *words, uint32_t n);

void kv_view(struct kv_view *out, const struct kv *kv, const struct core_seq *s, uint32_t layer, uint32_t head);

#endif
