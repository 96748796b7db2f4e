/* attend_int8.h: keys and values in 8 bits, by the exact sums of integers that ops/attention_words.h tells.
 *
 * Tensor cores multiply bytes, and queries and softmax's weights have 16 bits: 256 * high + low. Each product is made twice, with the
 * high bytes and with the low ones: as many mma as f16 takes, no byte is widened, and no bit is lost or depends on an order. The two sums
 * stay below 2^22, so they begin at 1.5 * 2^23 as a float has it, and what comes out is a float without a conversion; 256 * high + low is one
 * fma, rounded once. */
#ifndef WEFT_CUDA_ATTEND_INT8_H
#define WEFT_CUDA_ATTEND_INT8_H

#include "attend.h"
#include "prepare.h"

#define INT8_WORD 32767.0f
enum { WHOLE_BITS = 0x4b400000 }; /* 1.5 * 2^23: the last bit of a float there is 1 */

DEVICE float whole(int32_t bits)
{
	return bits_to_float((uint32_t)bits) - bits_to_float(WHOLE_BITS);
}

/* What the weights of a block meet what was summed before with. */
struct int8_meeting {
	float was[2], is[2];
};

template <int C> struct int8_kv {
	enum { page_bytes = (32 * C * 2 + 2 * (int)sizeof(float)) * KV_PAGE };
	/* Sums over 256 dimensions leave the float's whole numbers: 256 * 255 * 127 > 2^22. */
	enum { score_start = C <= 4 ? WHOLE_BITS : 0 };

	static DEVICE_METHOD float score_of(int32_t high, int32_t low)
	{
		return C <= 4 ? fmaf(whole(high), 256, whole(low)) : (float)(high * 256 + low);
	}

	/* ---- queries ---- */

	/* This lane's 8 C elements of a query are some of n. */
	static DEVICE_METHOD float element(const float *q, int c, int k, uint32_t n)
	{
		uint32_t d = c * 32 + lane() % 4 * 8 + k;

		return q && d < n ? q[d] : 0;
	}

	/* Row g + 8 h. */
	static DEVICE_METHOD void take_query(tile<C> &t, int h, const float *q, uint32_t n, float scale)
	{
		float a = 0, inverse;

		for (int i = 0; i < 8 * C; i++)
			a = larger_magnitude(a, element(q, i / 8, i % 8, n));
		for (uint32_t w = 1; w < 4; w *= 2)
			a = larger_magnitude(a, shuffle_xor(a, w));
		inverse = float_to_bits(a) >= 0x7f800000 || a < 1e-30f ? 0 : INT8_WORD / a;
		t.unit[h] = a / INT8_WORD * (scale * LOG2E);
		if (a < 1e-30f)
			t.unit[h] = 1e-30f; /* all scores are 0; a key that is hidden stays at -infinity */
		for (int i = 0; i < 2 * C; i++) {
			uint32_t high = 0, low = 0;

			for (int k = 0; k < 4; k++) {
				int32_t x = inverse != 0 ? round_to_int(element(q, i / 2, i % 2 * 4 + k, n) * inverse) : 0;

				high |= (uint32_t)(x >> 8 & 255) << 8 * k;
				low |= (uint32_t)(x & 255) << 8 * k;
			}
			t.q[i / 2 * 2][i % 2 * 2 + h] = high;
			t.q[i / 2 * 2 + 1][i % 2 * 2 + h] = low;
		}
	}

	static DEVICE_METHOD void begin(tile<C> &t, const float *low, const float *high, uint32_t n, float scale)
	{
		take_query(t, 0, low, n, scale);
		take_query(t, 1, high, n, scale);
		clear<C>(t);
	}

	/* ---- scales of this lane's four keys ---- */

	template <typename From> static DEVICE_METHOD void key_scales(float f[4], const From &page, uint32_t unit = 2 * C * WARP)
	{
		const uint4 u = page.load(unit + lane() % 4);

		f[0] = bits_to_float(u.x);
		f[1] = bits_to_float(u.y);
		f[2] = bits_to_float(u.z);
		f[3] = bits_to_float(u.w);
	}

	template <typename From> static DEVICE_METHOD void value_scales(float f[4], const From &page)
	{
		key_scales(f, page, 2 * C * WARP + KV_PAGE / 4);
	}

	/* ---- scores ---- */

	template <typename From> static DEVICE_METHOD void score_page(float s[2][4], const tile<C> &t, const From &page)
	{
		int32_t high[2][4], low[2][4];
		float k[4];

		for (int c = 0; c < C; c++) {
			uint4 u = page.load(c * WARP + lane());
			uint32_t b[2][2] = {{u.x, u.y}, {u.z, u.w}};

			for (int j = 0; j < 2; j++)
				if (c == 0) {
					mma_s8s8_from(high[j], score_start, t.q[0], b[j]);
					mma_u8s8_from(low[j], score_start, t.q[1], b[j]);
				} else {
					mma_s8s8(high[j], t.q[2 * c], b[j]);
					mma_u8s8(low[j], t.q[2 * c + 1], b[j]);
				}
		}
		key_scales(k, page);
		for (int i = 0; i < 8; i++)
			s[i / 4][i % 4] = score_of(high[i / 4][i % 4], low[i / 4][i % 4]) * k[i / 4 * 2 + i % 2];
	}

	/* ---- weights ---- */

	/* The largest scale of the values that the row sees; those of keys that nobody wrote are NaNs. */
	static DEVICE_METHOD float largest_scale(const float v[BLOCK_PAGES][4], uint32_t key, uint32_t limit)
	{
		float top = 0;

		for (int i = 0; i < 4 * BLOCK_PAGES; i++)
			if (key + i / 4 * KV_PAGE + lane() % 4 * 4 + i % 4 < limit)
				top = v[i / 4][i % 4] > top ? v[i / 4][i % 4] : top;
		return row_max(top);
	}

	/* The bytes of a page's four weights. w: floats whose last 16 bits they are. */
	static DEVICE_METHOD void split_bytes(uint32_t *high, uint32_t *low, const uint32_t w[4])
	{
		uint32_t a = select_bytes(w[0], w[1], 0x5140), b = select_bytes(w[2], w[3], 0x5140);

		*low = select_bytes(a, b, 0x5410);
		*high = select_bytes(a, b, 0x7632);
	}

	/* Row g + 8 h: its scores to weights, in 16 bits of the block's own largest. p[pages / 2] { high, low }: A fragments. v_top: the largest
	 * scale of its values. */
	static DEVICE_METHOD void weigh(tile<C> &t, uint32_t p[BLOCK_PAGES / 2][2][4], struct int8_meeting &m, int h,
					const float s[2 * BLOCK_PAGES][4], const float v[BLOCK_PAGES][4], float v_top)
	{
		/* A value that is not finite has the scale infinity: NaN for whoever sees it. */
		const float inverse = v_top > 0 ? INT8_WORD / v_top : 0, infinity = -minus_infinity();
		const float v_unit = v_top < infinity ? v_top * (1 / INT8_WORD) : infinity - infinity;
		float top = minus_infinity(), sum = 0, base, all;
		bool none;

		for (int i = 0; i < 4 * BLOCK_PAGES; i++)
			top = s[i / 2][2 * h + i % 2] > top ? s[i / 2][2 * h + i % 2] : top;
		top = row_max(top);
		none = top == minus_infinity();
		base = none ? 0 : top * t.unit[h];
		for (int k = 0; k < BLOCK_PAGES; k++) {
			uint32_t w[4];

			for (int e = 0; e < 4; e++) {
				float x = power_of_two(fmaf(s[2 * k + e / 2][2 * h + e % 2], t.unit[h], -base));

				sum += x;
				w[e] = float_to_bits(fmaf(fmaxf(x * v[k][e], 0), inverse, bits_to_float(WHOLE_BITS))); /* 0, not NaN */
			}
			split_bytes(&p[k / 2][0][k % 2 * 2 + h], &p[k / 2][1][k % 2 * 2 + h], w);
		}
		all = none || t.top[h] > base ? t.top[h] : base;
		m.was[h] = none ? 1 : power_of_two(t.top[h] - all);
		m.is[h] = none ? 0 : power_of_two(base - all);
		t.top[h] = all;
		t.sum[h] = fmaf(sum, m.is[h], t.sum[h] * m.was[h]);
		m.is[h] *= v_unit;
	}

	/* ---- values ---- */

	template <typename Block>
	static DEVICE_METHOD void add_values(tile<C> &t, const Block &b, const uint32_t p[BLOCK_PAGES / 2][2][4], const struct int8_meeting &m)
	{
		for (int c = 0; c < C; c++) {
			uint32_t v[BLOCK_PAGES][4];

			/* Never so. But no product is made ahead of a branch: all of them at once would not fit in the registers. */
			if (c && c == C / 2 && b.n == 0)
				return;
#pragma unroll
			for (int k = 0; k < BLOCK_PAGES; k++) {
				uint4 u = b.page(k).load((C + c) * WARP + lane());

				v[k][0] = u.x;
				v[k][1] = u.y;
				v[k][2] = u.z;
				v[k][3] = u.w;
			}
			for (int i = 0; i < 4; i++) {
				const uint32_t first[2] = {v[0][i], v[1][i]}, second[2] = {v[2][i], v[3][i]};
				int32_t high[4], low[4];

				mma_u8s8_from(high, WHOLE_BITS, p[0][0], first);
				mma_u8s8_from(low, WHOLE_BITS, p[0][1], first);
				mma_u8s8(high, p[1][0], second);
				mma_u8s8(low, p[1][1], second);
				for (int k = 0; k < 4; k++)
					t.o[4 * c + i][k] = fmaf(fmaf(whole(high[k]), 256, whole(low[k])), m.is[k / 2], t.o[4 * c + i][k] * m.was[k / 2]);
			}
		}
	}

	/* Keys from `key` on. masked: some row does not see all of them. */
	template <typename Block>
	static DEVICE_METHOD void attend(tile<C> &t, const Block &b, uint32_t key, const uint32_t limit[2], bool masked)
	{
		float s[2 * BLOCK_PAGES][4], v[BLOCK_PAGES][4];
		uint32_t p[BLOCK_PAGES / 2][2][4];
		struct int8_meeting m;

#pragma unroll
		for (int k = 0; k < BLOCK_PAGES; k++)
			score_page(&s[2 * k], t, b.page(k));
		if (masked)
			mask(s, key, limit);
#pragma unroll
		for (int k = 0; k < BLOCK_PAGES; k++)
			value_scales(v[k], b.page(k));
		for (int h = 0; h < 2; h++)
			weigh(t, p, m, h, s, v, largest_scale(v, key, masked ? limit[h] : 0xffffffff));
		add_values(t, b, p, m);
	}
};
static_assert(BLOCK_PAGES == 4, "add_values() takes a block as two pairs of pages");

#endif
