/* attend.h: what a warp of attention_cuda.cu has on its way through the keys, for both kinds of KV: a tile of 16 rows, and blocks of
 * ATTENTION_KEYS keys, page by page, from memory or from shared memory. attend_half.h and attend_int8.h take the blocks. */
#ifndef WEFT_CUDA_ATTEND_H
#define WEFT_CUDA_ATTEND_H

#include "ops.h"

#define LOG2E 1.44269504088896341f

enum { BLOCK_PAGES = ATTENTION_KEYS / KV_PAGE };

DEVICE float minus_infinity(void)
{
	return bits_to_float(0xff800000);
}

/* C: dimensions / 32. A lane has rows g and g + 8. */
template <int C> struct tile {
	uint32_t q[2 * C][4]; /* A fragments, two for 32 dimensions; lane q of four has dimensions 8q .. 8q + 7 of them */
	float unit[2];        /* int8: what a code of the row's q is worth */
	float o[4 * C][4];    /* [8 dimensions] */
	float top[2], sum[2]; /* of a row: largest score so far; this lane's part of the sum */
};

template <int C> DEVICE void clear(tile<C> &t)
{
	for (int i = 0; i < 4 * C; i++)
		for (int k = 0; k < 4; k++)
			t.o[i][k] = 0;
	for (int h = 0; h < 2; h++) {
		t.top[h] = minus_infinity();
		t.sum[h] = 0;
	}
}

/* Over the four lanes that share a row. */
DEVICE float row_sum(float x)
{
	x += shuffle_xor(x, 1);
	return x + shuffle_xor(x, 2);
}

DEVICE float row_max(float x)
{
	for (uint32_t w = 1; w < 4; w *= 2) {
		float other = shuffle_xor(x, w);

		x = other > x ? other : x;
	}
	return x;
}

/* A page: unit i of 16 bytes. */
struct from_memory {
	const unsigned char *p;
	DEVICE_METHOD uint4 load(uint32_t i) const
	{
		return load16(p + 16 * i);
	}
};
struct from_shared {
	shared<unsigned char> p;
	uint32_t at;
	DEVICE_METHOD uint4 load(uint32_t i) const
	{
		return p.load16(at + 16 * i);
	}
};

/* This layer's and head's bytes of a page. */
DEVICE const unsigned char *page_of(const struct attention_args &a, uint32_t page, uint32_t head)
{
	return a.kv.pool + (uint64_t)page * a.kv.page + a.layer * a.kv.layer + head * a.kv.head;
}

/* A block: n keys of the sequence stand from its beginning on, perhaps more than it has. Pages that the sequence does not have hold anything:
 * in memory they are the block's first again, so that no load waits behind a branch; in shared memory they are zeros. */
struct block_in_memory {
	const struct attention_args &a;
	const uint32_t *pages;
	uint32_t head, n;
	DEVICE_METHOD from_memory page(int p) const
	{
		return from_memory{page_of(a, pages[(uint32_t)p * KV_PAGE < n ? p : 0], head)};
	}
};
struct block_in_shared {
	shared<unsigned char> p;
	uint32_t page_bytes, n;
	DEVICE_METHOD from_shared page(int i) const
	{
		return from_shared{p, i * page_bytes};
	}
};

/* s[2p] and s[2p + 1]: the scores of keys 4q, 4q + 1 and 4q + 2, 4q + 3 of page p. Keys at or past what a row may see count as never
 * there. limit: of rows g and g + 8. */
DEVICE void mask(float s[2 * BLOCK_PAGES][4], uint32_t key, const uint32_t limit[2])
{
	for (int p = 0; p < 2 * BLOCK_PAGES; p++)
		for (int i = 0; i < 4; i++)
			if (key + p / 2 * KV_PAGE + lane() % 4 * 4 + p % 2 * 2 + i % 2 >= limit[i / 2])
				s[p][i] = minus_infinity();
}

#endif
