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
	return (size_t)PAGE * (s->head_dim + head_pad(s)) * (s->half ? 2 : 4);
}

size_t kv_page_size(const struct kv_shape *s)
{
	return s->layers * s->heads * head_bytes(s);
}

int kv_init(struct kv *kv, const struct kv_shape *s, uint32_t n_pages, uint32_t max_context, struct core_error *err)
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
	if ((!kv->pool && !s->outside) || !kv->free || !kv->holders) {
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
	memset(kv, 0, sizeof(*kv));
}

static uint32_t page_take(struct kv *kv)
{
	uint32_t p = kv->free[--kv->n_free];

	kv->holders[p] = 1;
	return p;
}

static void page_drop(struct kv *kv, uint32_t p)
{
	if (--kv->holders[p])
		return;
	kv->free[kv->n_free++] = p;
	if (kv->poison && kv->pool)
		memset(kv->pool + p * kv->page_bytes, 0xff, kv->page_bytes);
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
	for (uint32_t i = 0; i < s->pages; i++) {
		f->table[i] = s->table[i];
		kv->holders[f->table[i]]++;
	}
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

	if (kv_needed(kv, s, s->pending) > kv->n_free)
		return false;
	if (last_is_shared(kv, s)) {
		s->copied = s->table[last];
		s->table[last] = page_take(kv);
		kv->holders[s->copied]--;	/* not 0: it was shared */
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
	if (s->copied != KV_NONE && kv->pool)
		memcpy(kv->pool + s->table[s->len / PAGE] * kv->page_bytes, kv->pool + s->copied * kv->page_bytes, kv->page_bytes);
	s->copied = KV_NONE;
}

void kv_commit(struct core_seq *s)
{
	s->len += s->pending;
	s->pending = 0;
}

void kv_view(struct kv_view *out, const struct kv *kv, const struct core_seq *s, uint32_t layer, uint32_t head)
{
	out->pool = kv->pool + ((size_t)layer * kv->shape.heads + head) * head_bytes(&kv->shape);
	out->page_bytes = kv->page_bytes;
	out->table = s->table;
	out->head_dim = kv->shape.head_dim;
	out->head_pad = head_pad(&kv->shape);
	out->half = kv->shape.half;
}
