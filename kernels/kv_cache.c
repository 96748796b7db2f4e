#include "config.h"
#include "kv_cache.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

bool kv_cache_init(struct kv_cache *c, uint32_t n_pages)
{
	uint32_t n = 1;

	while (n < n_pages && n < 1u << 31)
		n *= 2;
	memset(c, 0, sizeof(*c));
	c->mask = n - 1;
	c->oldest = c->youngest = KV_NONE;
	c->pages = calloc(n_pages, sizeof(c->pages[0]));
	c->buckets = malloc(n * sizeof(c->buckets[0]));
	if (!c->pages || !c->buckets)
		return false;
	memset(c->buckets, 0xff, n * sizeof(c->buckets[0]));	/* KV_NONE */
	return true;
}

void kv_cache_finish(struct kv_cache *c)
{
	free(c->pages);
	free(c->buckets);
	memset(c, 0, sizeof(*c));
}

/* ---- the index ---- */

void kv_cache_key(unsigned char key[CORE_PAGE_KEY], const unsigned char before[CORE_PAGE_KEY], const uint32_t word[CORE_PAGE])
{
	unsigned char in[CORE_PAGE_KEY + CORE_PAGE * sizeof(word[0])];

	memcpy(in, before, CORE_PAGE_KEY);
	memcpy(in + CORE_PAGE_KEY, word, CORE_PAGE * sizeof(word[0]));
	crypto_generichash(key, CORE_PAGE_KEY, in, sizeof(in), NULL, 0);
}

/* A digest is as good a hash as any: its first bytes. */
static uint32_t *bucket_of(const struct kv_cache *c, const unsigned char *key)
{
	uint32_t hash;

	memcpy(&hash, key, sizeof(hash));
	return &c->buckets[hash & c->mask];
}

uint32_t kv_cache_find(const struct kv_cache *c, const unsigned char key[CORE_PAGE_KEY])
{
	uint32_t page = *bucket_of(c, key);

	while (page != KV_NONE && memcmp(c->pages[page].key, key, CORE_PAGE_KEY))
		page = c->pages[page].next;
	return page;
}

void kv_cache_list(struct kv_cache *c, uint32_t page)
{
	uint32_t *first = bucket_of(c, c->pages[page].key);

	c->pages[page].next = *first;
	c->pages[page].listed = true;
	*first = page;
	c->n_listed++;
}

void kv_cache_unlist(struct kv_cache *c, uint32_t page)
{
	uint32_t *at = bucket_of(c, c->pages[page].key);

	while (*at != page)
		at = &c->pages[*at].next;
	*at = c->pages[page].next;
	c->pages[page].listed = false;
	c->n_listed--;
}

/* ---- idle pages, by age ---- */

void kv_cache_rest(struct kv_cache *c, uint32_t page)
{
	c->pages[page].older = c->youngest;
	c->pages[page].younger = KV_NONE;
	*(c->youngest == KV_NONE ? &c->oldest : &c->pages[c->youngest].younger) = page;
	c->youngest = page;
	c->n_idle++;
}

void kv_cache_wake(struct kv_cache *c, uint32_t page)
{
	const struct kv_cache_page *p = &c->pages[page];

	*(p->older == KV_NONE ? &c->oldest : &c->pages[p->older].younger) = p->younger;
	*(p->younger == KV_NONE ? &c->youngest : &c->pages[p->younger].older) = p->older;
	c->n_idle--;
}

uint32_t kv_cache_evict(struct kv_cache *c)
{
	uint32_t page = c->oldest;

	kv_cache_wake(c, page);
	kv_cache_unlist(c, page);
	c->evictions++;
	return page;
}
