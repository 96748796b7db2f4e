/* attend_half.h: keys and values in f16. Per page of 16 keys S = Q K^T is two mma columns of 8 keys per 16 dimensions; softmax stays in
 * registers (base 2), and S's registers are, as they stand, the A fragments of O += P V. */
#ifndef WEFT_CUDA_ATTEND_HALF_H
#define WEFT_CUDA_ATTEND_HALF_H

#include "attend.h"

/* Two neighbouring elements of a query, in base 2. NULL: a row that is not there. */
DEVICE uint32_t query_pair(const float *q, uint32_t d, uint32_t n, float scale)
{
	return pack_half(q && d < n ? q[d] * scale : 0, q && d + 1 < n ? q[d + 1] * scale : 0);
}

template <int C> struct half_kv {
	enum { page_bytes = 32 * C * KV_PAGE * 4 };

	/* low, high: the queries of rows g and g + 8. */
	static DEVICE_METHOD void begin(tile<C> &t, const float *low, const float *high, uint32_t n, float scale)
	{
		for (int c = 0; c < 2 * C; c++) {
			uint32_t d = c / 2 * 32 + lane() % 4 * 8 + c % 2 * 4;

			t.q[c][0] = query_pair(low, d, n, scale * LOG2E);
			t.q[c][1] = query_pair(high, d, n, scale * LOG2E);
			t.q[c][2] = query_pair(low, d + 2, n, scale * LOG2E);
			t.q[c][3] = query_pair(high, d + 2, n, scale * LOG2E);
		}
		clear<C>(t);
	}

	template <typename From> static DEVICE_METHOD void score_page(float s[2][4], const tile<C> &t, const From &page)
	{
		for (int j = 0; j < 2; j++) {
			for (int i = 0; i < 4; i++)
				s[j][i] = 0;
			for (int c = 0; c < C; c++) {
				uint4 v = page.load((2 * c + j) * WARP + lane());
				uint32_t low[2] = {v.x, v.y}, high[2] = {v.z, v.w};

				mma_f16(s[j], t.q[2 * c], low);
				mma_f16(s[j], t.q[2 * c + 1], high);
			}
		}
	}

	/* Scores to weights, and what is there already to the new largest score. */
	static DEVICE_METHOD void weigh(tile<C> &t, float s[2 * BLOCK_PAGES][4])
	{
		for (int h = 0; h < 2; h++) {
			float top = t.top[h], c;

			for (int p = 0; p < 2 * BLOCK_PAGES; p++)
				for (int e = 0; e < 2; e++)
					top = s[p][2 * h + e] > top ? s[p][2 * h + e] : top;
			top = row_max(top);
			/* A row that sees no key yet keeps zeros. */
			c = top == minus_infinity() ? 1 : power_of_two(t.top[h] - top);
			t.top[h] = top;
			t.sum[h] *= c;
			for (int i = 0; i < 4 * C; i++) {
				t.o[i][2 * h] *= c;
				t.o[i][2 * h + 1] *= c;
			}
			for (int p = 0; p < 2 * BLOCK_PAGES; p++)
				for (int e = 0; e < 2; e++) {
					float &x = s[p][2 * h + e];

					x = x == minus_infinity() ? 0 : power_of_two(x - top);
					t.sum[h] += x;
				}
		}
	}

	/* O += P V of one page. valid: keys of the page that were ever written; what lies behind them may be NaNs. */
	template <typename From>
	static DEVICE_METHOD void add_page(tile<C> &t, const float s[2][4], const From &page, uint32_t valid)
	{
		const uint32_t p[4] = {pack_half(s[0][0], s[0][1]), pack_half(s[0][2], s[0][3]), pack_half(s[1][0], s[1][1]),
				       pack_half(s[1][2], s[1][3])};
		const uint32_t key = lane() % 4 * 4;

		for (int i = 0; i < 2 * C; i++) {
			uint4 u = page.load((2 * C + i) * WARP + lane());

			if (valid < KV_PAGE) {
				uint32_t low = key + 1 < valid ? 0xffffffff : key < valid ? 0xffff : 0;
				uint32_t high = key + 3 < valid ? 0xffffffff : key + 2 < valid ? 0xffff : 0;

				u.x &= low;
				u.y &= high;
				u.z &= low;
				u.w &= high;
			}
			uint32_t even[2] = {u.x, u.y}, odd[2] = {u.z, u.w};

			mma_f16(t.o[2 * i], p, even);
			mma_f16(t.o[2 * i + 1], p, odd);
		}
	}

	/* Keys from `key` on. masked: some row does not see all of them. */
	template <typename Block>
	static DEVICE_METHOD void attend(tile<C> &t, const Block &b, uint32_t key, const uint32_t limit[2], bool masked)
	{
		float s[2 * BLOCK_PAGES][4];

#pragma unroll
		for (int p = 0; p < BLOCK_PAGES; p++)
			score_page(&s[2 * p], t, b.page(p));
		if (masked)
			mask(s, key, limit);
		weigh(t, s);
#pragma unroll
		for (int p = 0; p < BLOCK_PAGES; p++)
			add_page(t, &s[2 * p], b.page(p), b.n > (uint32_t)p * KV_PAGE ? b.n - p * KV_PAGE : 0);
	}
};

#endif
