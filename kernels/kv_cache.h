/* kv_cache.h: whole KV pages, found again by what was computed into them: a beginning that sequences have in common is computed once.
 *
 * The key of a page is a digest of the key of the page before it and of its own 16 words (core_word(): token and path); in front of the
 * first one stands the root of its sequence, a digest of blend and salt. So a key names all that the bytes of its page follow from (P6),
 * and what is found under it are the bytes that computing would give (P1).
 *
 * A page that is listed and that no sequence holds is idle: still found, and the pool's to take as soon as no other one is free, the one that
 * lay idle longest first. A sequence lets go of its pages from the last to the first, so that a beginning loses its end before its start. */
#ifndef WEFT_KV_CACHE_H
#define WEFT_KV_CACHE_H

#include "core.h"

#define KV_NONE UINT32_MAX

struct kv_cache_page {
	unsigned char key[CORE_PAGE_KEY];	/* of a whole page, listed or not */
	uint32_t word[CORE_PAGE];	/* what is in it, as far as its holder's length goes */
	bool listed;
	uint32_t next;			/* listed: in its bucket */
	uint32_t older, younger;	/* idle: its neighbours */
};

struct kv_cache {
	struct kv_cache_page *pages;	/* [n_pages]; NULL: there is no cache, and nothing below is called */
	uint32_t *buckets;		/* [mask + 1] */
	uint32_t mask;
	uint32_t oldest, youngest;	/* idle pages */
	uint32_t n_listed, n_idle;
	uint64_t evictions;
};

bool kv_cache_init(struct kv_cache *c, uint32_t n_pages);	/* false: no memory */
void kv_cache_finish(struct kv_cache *c);

void kv_cache_key(unsigned char key[CORE_PAGE_KEY], const unsigned char before[CORE_PAGE_KEY], const uint32_t word[CORE_PAGE]);
uint32_t kv_cache_find(const struct kv_cache *c, const unsigned char key[CORE_PAGE_KEY]);	/* a page, or KV_NONE */
void kv_cache_list(struct kv_cache *c, uint32_t page);	/* under its key, which is not listed yet */
void kv_cache_unlist(struct kv_cache *c, uint32_t page);	/* a listed page that is not idle */
void kv_cache_rest(struct kv_cache *c, uint32_t page);	/* a listed page: its last holder has gone */
void kv_cache_wake(struct kv_cache *c, uint32_t page);	/* an idle page has a holder again */
uint32_t kv_cache_evict(struct kv_cache *c);	/* takes the oldest idle page, of which there must be one, out of the cache */

#endif
