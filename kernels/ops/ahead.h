/* ahead.h: the next block of keys and values, asked for while this one is computed with. Its pages lie anywhere, so the hardware does not see
 * them coming; and a line or so at a time, because all at once would fill what keeps track of misses, and then be waited for. Private to the
 * *_vec.h files. */
#ifndef WEFT_OPS_AHEAD_H
#define WEFT_OPS_AHEAD_H

#include "attention.h"
#include "vec16.h"

struct ahead {
	const unsigned char *page[ATTENTION_BLOCK / PAGE];
	uint32_t pages, lines;		/* of a page: K and V of one head lie one after the other */
	uint32_t at, line;		/* what comes next */
	uint32_t step;			/* lines at a time */
};

/* Called in each of `turns` turns of what computes with a block. */
VEC void ahead_step(struct ahead *a)
{
	for (uint32_t k = 0; k < a->step && a->at < a->pages; k++) {
		__builtin_prefetch(a->page[a->at] + (size_t)a->line * 64, 0, 2);
		if (++a->line == a->lines) {
			a->line = 0;
			a->at++;
		}
	}
}

/* What follows the block at `base`, of a sequence of so many keys. */
VEC void ahead_begin(struct ahead *a, const struct kv_view *kv, uint32_t base, uint32_t keys, uint32_t turns)
{
	const uint32_t from = base + ATTENTION_BLOCK, left = keys > from ? keys - from : 0;
	const size_t scales = kv->kind == KV_INT8 ? 2 * PAGE * sizeof(float) : 0;

	a->pages = (left < ATTENTION_BLOCK ? left + PAGE - 1 : ATTENTION_BLOCK) / PAGE;
	for (uint32_t i = 0; i < a->pages; i++)
		a->page[i] = kv_page_k(kv, from / PAGE + i);
	a->lines = (uint32_t)(((size_t)(kv->head_dim + kv->head_pad) * PAGE * kv_value_bytes(kv->kind) + scales + 63) / 64);
	a->at = a->line = 0;
	a->step = a->pages * a->lines / turns + 1;
}

#endif
