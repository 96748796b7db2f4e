#include "config.h"
#include "kv.h"

#include <stdlib.h>
#include <string.h>

#include "memory.h"

static uint32_t pages_of(uint32_t tokens)
{
	return tokens / PAGE + (tokens % PAGE != 0);
}

static uint32_t head_pad(const struct kv_shape *s)
{
	return (s->head_dim + 15) / 16 * 16;
}

static size_t head_bytes(const struct kv_shape *s)
{
	size_t scales = s->kind == KV_INT8 ? 2 * PAGE * sizeof(float) : 0;

	return (size_t)PAGE * (s->head_dim + head_pad(s)) * kv_value_bytes(s->kind) + scales;
}

size_t kv_page_size(const struct kv_shape *s)
{
	return s->layers * s->heads * head_bytes(s);
}

int kv_init(struct kv *kv, const struct kv_shape *s, uint32_t n_pages, uint32_t max_context, bool cache, struct core_error *err)
{
	memset(kv, 0, sizeof(*kv));
	kv->shape = *s;
	kv->page_bytes = kv_page_size(s);
	if (n_pages == 0 || n_pages == KV_NONE || n_pages > SIZE_MAX / 2 / kv->page_bytes)
		return core_fail(err, CORE_EINVAL, "kv_pages is %u: expected 1 or more, within memory (%zu bytes a page)", n_pages,
				 kv->page_bytes);
	kv->n_pages = kv->n_free = n_pages;
	kv->max_pages = pages_of(max_context);
	kv->pool = s->outside ? NULL : memory_map(n_pages * kv->page_bytes);
	kv->free = malloc(n_pages * sizeof(kv->free[0]));
	kv->holders = calloc(n_pages, sizeof(kv->holders[0]));
	if ((!kv->pool && !s->outside) || !kv->free || !kv->holders || (cache && !kv_cache_init(&kv->cache, n_pages))) {
		kv_finish(kv);
		return core_fail(err, CORE_ENOMEM, "no memory for %u KV pages of %zu bytes", n_pages, kv->page_bytes);
	}
	for (uint32_t i = 0; i < n_pages; i++)
		kv->free[i] = n_pages - 1 - i;
	return CORE_OK;
}

void kv_finish(struct kv *kv)
{
	memory_unmap(kv->pool, kv->n_pages * kv->page_bytes);
	free(kv->free);
	free(kv->holders);
	kv_cache_finish(&kv->cache);
	memset(kv, 0, sizeof(*kv));
}

uint32_t kv_pages_free(const struct kv *kv)
{
	return kv->n_free + kv->cache.n_idle;
}

static bool is_listed(const struct kv *kv, uint32_t p)
{
	return kv->cache.pages && kv->cache.pages[p].listed;
}

static void spoil(struct kv *kv, uint32_t p)
{
	if (kv->poison && kv->pool)
		memset(kv->pool + p * kv->page_bytes, 0xff, kv->page_bytes);
}

static uint32_t page_take(struct kv *kv)
{
	uint32_t p;

	if (kv->n_free) {
		p = kv->free[--kv->n_free];
	} else {
		p = kv_cache_evict(&kv->cache);
		spoil(kv, p);
	}
	kv->holders[p] = 1;
	return p;
}

/* Of a page that is held or listed. */
static uint32_t page_hold(struct kv *kv, uint32_t p)
{
	if (!kv->holders[p]++)
		kv_cache_wake(&kv->cache, p);
	return p;
}

static void page_drop(struct kv *kv, uint32_t p)
{
	if (--kv->holders[p])
		return;
	if (is_listed(kv, p)) {
		kv_cache_rest(&kv->cache, p);
		return;
	}
	kv->free[kv->n_free++] = p;
	spoil(kv, p);
}

struct core_seq *kv_seq_new(const struct kv *kv)
{
	struct core_seq *s = calloc(1, sizeof(*s) + kv->max_pages * sizeof(s->table[0]));

	if (s)
		s->copied = KV_NONE;
	return s;
}

struct core_seq *kv_seq_fork(struct kv *kv, const struct core_seq *s)
{
	struct core_seq *f = kv_seq_new(kv);

	if (!f)
		return NULL;
	f->len = s->len;
	f->pages = s->pages;
	memcpy(f->root, s->root, sizeof(f->root));
	memcpy(f->salt, s->salt, sizeof(f->salt));
	for (uint32_t i = 0; i < s->pages; i++)
		f->table[i] = page_hold(kv, s->table[i]);
	return f;
}

void kv_seq_free(struct kv *kv, struct core_seq *s)
{
	if (!s)
		return;
	kv_trim(kv, s, 0);
	free(s);
}

void kv_trim(struct kv *kv, struct core_seq *s, uint32_t len)
{
	while (s->pages > pages_of(len))
		page_drop(kv, s->table[--s->pages]);
	s->len = len;
}

/* The last page is partly filled and somebody else holds it, too. */
static bool last_is_shared(const struct kv *kv, const struct core_seq *s)
{
	return s->len % PAGE && kv->holders[s->table[s->len / PAGE]] > 1;
}

uint32_t kv_needed(const struct kv *kv, const struct core_seq *s, uint32_t n)
{
	return n ? pages_of(s->len + n) - pages_of(s->len) + last_is_shared(kv, s) : 0;
}

bool kv_reserve(struct kv *kv, struct core_seq *s)
{
	uint32_t last = s->len / PAGE;

	if (kv_needed(kv, s, s->pending) > kv_pages_free(kv))
		return false;
	if (last_is_shared(kv, s)) {
		s->copied = s->table[last];
		s->table[last] = page_take(kv);
		kv->holders[s->copied]--;	/* not 0: it was shared */
	} else if (s->len % PAGE && is_listed(kv, s->table[last])) {
		kv_cache_unlist(&kv->cache, s->table[last]);	/* a copy for the cache would be a page that nobody counted on */
	}
	while (s->pages < pages_of(s->len + s->pending))
		s->table[s->pages++] = page_take(kv);
	return true;
}

void kv_undo(struct kv *kv, struct core_seq *s)
{
	while (s->pages > pages_of(s->len))
		page_drop(kv, s->table[--s->pages]);
	if (s->copied != KV_NONE) {
		page_drop(kv, s->table[s->len / PAGE]);
		s->table[s->len / PAGE] = s->copied;
		kv->holders[s->copied]++;
		s->copied = KV_NONE;
	}
	s->pending = 0;
}

void kv_copy(struct kv *kv, struct core_seq *s)
{
	struct kv_cache_page *pages = kv->cache.pages;
	uint32_t to = s->table[s->len / PAGE];

	if (s->copied == KV_NONE)
		return;
	if (kv->pool)
		memcpy(kv->pool + to * kv->page_bytes, kv->pool + s->copied * kv->page_bytes, kv->page_bytes);
	if (pages)
		memcpy(pages[to].word, pages[s->copied].word, sizeof(pages[to].word));
	s->copied = KV_NONE;
}

/* ---- what is in a page ---- */

void kv_note(struct kv *kv, const struct core_seq *s, uint32_t position, uint32_t word)
{
	if (kv->cache.pages)
		kv->cache.pages[s->table[position / PAGE]].word[position % PAGE] = word;
}

static const unsigned char *key_before(const struct kv *kv, const struct core_seq *s, uint32_t i)
{
	return i ? kv->cache.pages[s->table[i - 1]].key : s->root;
}

/* The i-th page of s has become whole. Where the cache has the same one already, s takes that. */
static void list_page(struct kv *kv, struct core_seq *s, uint32_t i)
{
	struct kv_cache *cache = &kv->cache;
	uint32_t own = s->table[i], same;

	kv_cache_key(cache->pages[own].key, key_before(kv, s, i), cache->pages[own].word);
	same = kv_cache_find(cache, cache->pages[own].key);
	if (same == KV_NONE) {
		kv_cache_list(cache, own);
		return;
	}
	s->table[i] = page_hold(kv, same);
	page_drop(kv, own);
}

void kv_commit(struct kv *kv, struct core_seq *s)
{
	uint32_t whole = s->len / PAGE;

	s->len += s->pending;
	s->pending = 0;
	for (; kv->cache.pages && whole < s->len / PAGE; whole++)
		list_page(kv, s, whole);
}

void kv_page_key(const struct kv *kv, const struct core_seq *s, const uint32_t *words, unsigned char key[CORE_PAGE_KEY])
{
	kv_cache_key(key, key_before(kv, s, s->len / PAGE), words);
}

uint32_t kv_reuse(struct kv *kv, struct core_seq *s, const uint32_t *words, uint32_t n)
{
	uint32_t from = s->len;

	if (!kv->cache.pages || from % PAGE)
		return 0;
	for (; n - (s->len - from) >= PAGE && s->pages < kv->max_pages; s->len += PAGE) {
		unsigned char key[CORE_PAGE_KEY];
		uint32_t page;

		kv_page_key(kv, s, words + (s->len - from), key);
		page = kv_cache_find(&kv->cache, key);
		if (page == KV_NONE)
			break;
		s->table[s->pages++] = page_hold(kv, page);
	}
	return s->len - from;
}

void kv_view(struct kv_view *out, const struct kv *kv, const struct core_seq *s, uint32_t layer, uint32_t head)
{
	out->pool = kv->pool + ((size_t)layer * kv->shape.heads + head) * head_bytes(&kv->shape);
	out->page_bytes = kv->page_bytes;
	out->table = s->table;
	out->head_dim = kv->shape.head_dim;
	out->head_pad = head_pad(&kv->shape);
	out->kind = kv->shape.kind;
}
