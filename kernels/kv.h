/* kv.h: the pool of KV pages, and the sequences that hold them.
 *
 * A page is 16 tokens of every layer and KV head:
 *
 *     [layer][kv head] { K [head_dim][16 tokens], V [16 tokens][head_pad] }      f16 or f32; why so: ops/attention.h
 *
 * Pages are counted: a fork shares all pages of its parent, and whoever writes into a page that another sequence also holds
 * copies it first. Only the last, partly filled page of a sequence is ever written to.
 *
 * A pass reserves for all its sequences before it computes; kv_undo() takes back a reservation, kv_commit() makes it last. */
#ifndef WEFT_KV_H
#define WEFT_KV_H

#include "core.h"
#include "ops/attention.h"

struct kv_shape {
	uint32_t layers, heads, head_dim;
	bool half;
	bool outside;			/* the pages' contents are a device's: only their numbers are kept here */
};

struct kv {
	struct kv_shape shape;
	size_t page_bytes;
	unsigned char *pool;		/* [n_pages][page_bytes]; NULL: outside */
	uint32_t n_pages, n_free, max_pages;	/* max_pages: of one sequence */
	uint32_t *free;			/* stack of n_free page numbers */
	uint32_t *holders;		/* [n_pages] sequences that hold the page */
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
	uint32_t copied;		/* page that this reservation replaced by a copy, or KV_NONE */
	uint32_t table[];		/* [max_pages] */
};
#define KV_NONE UINT32_MAX

size_t kv_page_size(const struct kv_shape *s);
int kv_init(struct kv *kv, const struct kv_shape *s, uint32_t n_pages, uint32_t max_context, struct core_error *err);
void kv_finish(struct kv *kv);

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
void kv_commit(struct core_seq *s);

void kv_view(struct kv_view *out, const struct kv *kv, const struct core_seq *s, uint32_t layer, uint32_t head);

#endif
