/* matmul_cuda.cu: ops/matmul.h on tensor cores.
 *
 * Versions:
 *   1  thin: up to 32 rows. A CTA takes 32 outputs, each of its 8 warps one slice of K; weights go from memory straight into
 *      the registers that the mma reads (16-byte loads, evict-first), two chunks ahead; slices meet in shared memory.
 *      Bound by bytes: at 85% of 4.3 TB/s a q8 matrix of 8192 x 28672 takes 65 us, q4 (4.5 bits with its factors) 36 us.
 *   2  wide: any number of rows. A CTA takes 128 outputs x 64 rows, weights and activations pass through shared memory in four
 *      stages of cp.async; a warp holds 32 x 32 sums. Bound by shared memory: 2 KiB of operands per 8 mma, that is about
 *      half of the int8 rate and half of the bf16 rate of an SM. wgmma would lift that on Hopper.
 *      Version 1 divided by a group's steps in its loop, read factors byte by byte and added up columns that nobody has: with q4 and one row
 *      about 480 instructions for 2 KiB, as many as there are issue slots; now 320 (kernels/cuda/NOTES.md).
 * NF4 (both): a lane takes words of 8 k and looks its codes up in registers, by bytes; k meet the mma in the order of the nibbles, and so do
 * the activations.
 * Both give the same bits (ops.h): the same mma steps in the same slices, for a column wherever it stands.
 * Not measured: no device was at hand when this was written; kernels/cuda/NOTES.md has the predictions. */
#include "kernels/cuda/ops.h"
#include "kernels/ops/matrix.h"

enum { BLOCK_ROWS = 16, WORD = 64, STEP = 32 };

/* ---- what a step is, per form ---- */

template <enum form F> struct form_of {
	enum {
		words = F == FORM_I4 || F == FORM_NF4 ? 4 : 8, /* of a block in one step */
		integer = F == FORM_I4 || F == FORM_I8,
		grouped = integer || F == FORM_NF4,           /* sums are multiplied by a group's factors */
		products = F == FORM_NF4 ? 2 : 1,             /* mma steps in one step */
		bytes = F == FORM_NF4 ? 2 * STEP : STEP,      /* of an activation row in one step */
	};
};

template <enum form F> struct acc_type {
	typedef float type;
};
template <> struct acc_type<FORM_I4> {
	typedef int32_t type;
};
template <> struct acc_type<FORM_I8> {
	typedef int32_t type;
};

DEVICE uint32_t word_of(const uint4 &v, uint32_t i)
{
	return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

/* matrix_nf4 (ops/matmul.c) as f16: the low bytes of its entries from 0, 4, 8 and 12 on, and the high ones. */
enum : uint32_t {
	NF4_LOW_0 = 0x8dead400, NF4_LOW_4 = 0x00923352, NF4_LOW_8 = 0x0d80c900, NF4_LOW_12 = 0x1826e068,
	NF4_HIGH_0 = 0xb4b1ad00, NF4_HIGH_4 = 0xbcb9b8b6, NF4_HIGH_8 = 0x3738393c, NF4_HIGH_12 = 0x2d313335
};

/* Four nibbles of NF4 as f16: 0 and 1 in out[0], 2 and 3 in out[2]. Three bits of a nibble find a byte in each half of the table, the top one
 * takes it from one of them. */
DEVICE void look_up(uint32_t out[4], uint32_t nibbles)
{
	uint32_t three = nibbles & 0x7777, top = (nibbles >> 1 & 0x4444) | 0x3210;
	uint32_t low = select_bytes(select_bytes(NF4_LOW_0, NF4_LOW_4, three), select_bytes(NF4_LOW_8, NF4_LOW_12, three), top);
	uint32_t high = select_bytes(select_bytes(NF4_HIGH_0, NF4_HIGH_4, three), select_bytes(NF4_HIGH_8, NF4_HIGH_12, three), top);

	out[0] = select_bytes(low, high, 0x5140);
	out[2] = select_bytes(low, high, 0x7362);
}

/* The fragments of the p-th product of one step: two tiles of 16 outputs. Tile t's row g is row 2t of the lane's four, row g + 8 its row
 * 2t + 1. NF4: products of k 0 4 1 5 and 2 6 3 7 of the lane's eight, as the nibbles lie in a word. */
template <enum form F> DEVICE void fragment(uint32_t a[4], const uint4 v[2], uint32_t tile, uint32_t p)
{
	uint32_t x = word_of(v[0], 2 * tile), y = word_of(v[0], 2 * tile + 1);

	if (F == FORM_NF4) {
		look_up(a, x >> 16 * p);
		look_up(a + 1, y >> 16 * p);
	} else if (F == FORM_I4) {
		a[0] = x & 0x0f0f0f0f;
		a[1] = y & 0x0f0f0f0f;
		a[2] = x >> 4 & 0x0f0f0f0f;
		a[3] = y >> 4 & 0x0f0f0f0f;
	} else {
		a[0] = x;
		a[1] = y;
		a[2] = word_of(v[1], 2 * tile);
		a[3] = word_of(v[1], 2 * tile + 1);
	}
}

template <enum form F, typename T> DEVICE void multiply(T d[4], const uint32_t a[4], const uint32_t b[2])
{
	if constexpr (F == FORM_F16 || F == FORM_NF4)
		mma_f16(d, a, b);
	else if constexpr (F == FORM_BF16)
		mma_bf16(d, a, b);
	else
		mma_u8s8(d, a, b);
}

/* A lane's part of an activation row's step, as it meets fragments of weights. */
template <enum form F> struct part_of_row {
	uint32_t b[form_of<F>::products][2];
};

DEVICE void put_part(part_of_row<FORM_NF4> &to, const uint4 &x)
{
	to.b[0][0] = select_bytes(x.x, x.z, 0x5410);
	to.b[0][1] = select_bytes(x.x, x.z, 0x7632);
	to.b[1][0] = select_bytes(x.y, x.w, 0x5410);
	to.b[1][1] = select_bytes(x.y, x.w, 0x7632);
}

template <enum form F> DEVICE void put_part(part_of_row<F> &to, const uint2 &x)
{
	to.b[0][0] = x.x;
	to.b[0][1] = x.y;
}

/* ---- slices ---- */

/* A unit is what a slice cannot cut: a group, or a step where groups are shorter. Groups are 16, 32, 64 or 128: 1, 1, 2 or 4 steps. Its
 * logarithm, for loops that ought not to divide. */
DEVICE uint32_t unit_shift(const struct dmatrix &w)
{
	return w.group >> 6;
}

DEVICE uint32_t unit_steps(const struct dmatrix &w)
{
	return 1u << unit_shift(w);
}

DEVICE uint32_t steps_of(const struct dmatrix &w)
{
	return ((w.group ? w.groups * w.group : 2 * w.cols) + STEP - 1) / STEP;
}

/* First step of slice s; s = SLICES gives the end. */
DEVICE uint32_t slice_begin(const struct dmatrix &w, uint32_t s)
{
	uint32_t unit = unit_steps(w), units = (steps_of(w) + unit - 1) / unit, step = units * s / SLICES * unit;

	return step < steps_of(w) ? step : steps_of(w);
}

/* The first boundary of slices after `done` steps; the end, when there is none. */
DEVICE uint32_t next_boundary(const struct dmatrix &w, uint32_t done)
{
	uint32_t s = 1;

	while (s < SLICES && slice_begin(w, s) <= done)
		s++;
	return slice_begin(w, s);
}

/* ---- factors of a group ---- */

/* Four neighbouring rows' factors; sub NULL: one level. */
DEVICE void factors(float f[4], const uint16_t *high, const int8_t *sub, const struct dmatrix &w, uint32_t b, uint32_t row,
		    uint32_t g)
{
	uint32_t at = sub ? g * w.group / 256 : g;
	uint2 h = load8(high + (size_t)b * w.block_scales + (size_t)at * BLOCK_ROWS + row);

	f[0] = half_bits_to_float((uint16_t)h.x);
	f[1] = half_bits_to_float((uint16_t)(h.x >> 16));
	f[2] = half_bits_to_float((uint16_t)h.y);
	f[3] = half_bits_to_float((uint16_t)(h.y >> 16));
	if (!sub)
		return;
	uint32_t s = load4(sub + ((size_t)b * w.groups + g) * BLOCK_ROWS + row);

	for (uint32_t i = 0; i < 4; i++)
		f[i] *= (float)(int8_t)(s >> 8 * i);
}

/* NF4: four neighbouring rows' absmax. */
DEVICE void absmax(float f[4], const struct dmatrix &w, uint32_t b, uint32_t row, uint32_t g)
{
	size_t at = ((size_t)b * w.groups + g) * BLOCK_ROWS + row;

	if (!w.sub_scales) {
		uint4 u = load16(w.absmax + at);

		for (uint32_t i = 0; i < 4; i++)
			f[i] = bits_to_float(word_of(u, i));
		return;
	}
	uint32_t s = load4(w.sub_scales + at);
	float offset = w.absmax[NF4_OFFSET_AT];

	for (uint32_t i = 0; i < 4; i++)
		f[i] = w.absmax[NF4_MAP_AT + (s >> 8 * i & 255)] *
			       w.absmax[NF4_NESTED_AT + ((size_t)(b * BLOCK_ROWS + row + i) * w.groups + g) / 256] +
		       offset;
}

/* What a lane holds of a warp's sums: COLUMNS tiles of 8 columns, of which it has columns 2q and 2q + 1, for its four rows. */
template <enum form F, int COLUMNS> struct sums {
	typename acc_type<F>::type n[2][COLUMNS][4]; /* of the group, or of the slice where there are none */
	float acc[2][COLUMNS][4];                    /* of the slice, where there are groups */
};

template <enum form F, int COLUMNS> DEVICE void clear(sums<F, COLUMNS> &s)
{
	for (int t = 0; t < 2; t++)
		for (int c = 0; c < COLUMNS; c++)
			for (int i = 0; i < 4; i++) {
				s.n[t][c][i] = 0;
				s.acc[t][c][i] = 0;
			}
}

/* A row that is alone is column 0: nobody has anything in the odd columns then. The factors are what thin is busy with. */
template <int COLUMNS> DEVICE bool is_empty(int e, uint32_t m)
{
	return COLUMNS == 1 && e == 1 && m == 1;
}

/* acc += factors * n, as ops/matmul.h says, and n = 0. Columns from m on count as zeros. */
template <enum form F, int COLUMNS>
DEVICE void fold(sums<F, COLUMNS> &s, const struct dmatrix &w, const struct dform &x, uint32_t b, uint32_t row, uint32_t g,
		 uint32_t column, uint32_t m)
{
	float scale[4], min[4];

	factors(scale, w.scales, w.sub_scales, w, b, row, g);
	if (w.mins)
		factors(min, w.mins, w.sub_mins, w, b, row, g);
	for (int c = 0; c < COLUMNS; c++)
		for (int e = 0; e < 2; e++) {
			uint32_t i = column + 8 * c + e;
			size_t at = (size_t)g * x.ldm + i;

			if (is_empty<COLUMNS>(e, m))
				continue;
			float xs = i < m ? x.scale[at] : 0;
			int32_t sum = i < m ? x.sum[at] : 0;

			for (int r = 0; r < 4; r++) {
				int32_t n = s.n[r / 2][c][r % 2 * 2 + e] - w.zero * sum;
				float &acc = s.acc[r / 2][c][r % 2 * 2 + e];

				acc = fmaf(scale[r] * xs, (float)n, acc);
				if (w.mins)
					acc = fmaf(min[r], -(xs * (float)sum), acc);
				s.n[r / 2][c][r % 2 * 2 + e] = 0;
			}
		}
}

template <int COLUMNS>
DEVICE void fold_nf4(sums<FORM_NF4, COLUMNS> &s, const struct dmatrix &w, uint32_t b, uint32_t row, uint32_t g, uint32_t m)
{
	float scale[4];

	absmax(scale, w, b, row, g);
	for (int c = 0; c < COLUMNS; c++)
		for (int e = 0; e < 2; e++)
			for (int r = 0; r < 4 && !is_empty<COLUMNS>(e, m); r++) {
				float &n = s.n[r / 2][c][r % 2 * 2 + e], &acc = s.acc[r / 2][c][r % 2 * 2 + e];

				acc = fmaf(scale[r], n, acc);
				n = 0;
			}
}

/* One step of all columns; b[c] are the activations' fragments. Groups of 16 are half a step: each half goes alone, the other half
 * of the activations zeroed, so that its sums can be folded. */
template <enum form F, int COLUMNS, bool HALVES>
DEVICE void step(sums<F, COLUMNS> &s, const uint4 v[2], const part_of_row<F> b[COLUMNS], const struct dmatrix &w,
		 const struct dform &x, uint32_t block, uint32_t row, uint32_t at, uint32_t column, uint32_t m)
{
	for (int half = 0; half < (HALVES ? 2 : 1); half++) {
		bool mine = !HALVES || lane() % 4 / 2 == (uint32_t)half;

		for (int p = 0; p < form_of<F>::products; p++)
			for (int t = 0; t < 2; t++) {
				uint32_t a[4];

				fragment<F>(a, v, t, p);
				for (int c = 0; c < COLUMNS; c++) {
					uint32_t some[2] = {mine ? b[c].b[p][0] : 0, mine ? b[c].b[p][1] : 0};

					multiply<F>(s.n[t][c], a, some);
				}
			}
		if (HALVES && 2 * at + half < w.groups)
			fold<F, COLUMNS>(s, w, x, block, row, 2 * at + half, column, m);
	}
	if (!form_of<F>::grouped || HALVES || ((at + 1) & (unit_steps(w) - 1)) != 0)
		return;
	if constexpr (F == FORM_NF4)
		fold_nf4<COLUMNS>(s, w, block, row, at >> unit_shift(w), m);
	else
		fold<F, COLUMNS>(s, w, x, block, row, at >> unit_shift(w), column, m);
}

/* The slice's sum of one element. */
template <enum form F, int COLUMNS> DEVICE float slice_sum(const sums<F, COLUMNS> &s, int t, int c, int i)
{
	return form_of<F>::grouped ? s.acc[t][c][i] : (float)s.n[t][c][i];
}

/* Which matrix of the launch, and which of its tiles of `blocks` blocks. */
DEVICE uint32_t find(const struct matmul_args &a, uint32_t tile, uint32_t blocks, uint32_t *first)
{
	uint32_t k = 0;

	while (k + 1 < a.n && tile >= (a.w[k].blocks + blocks - 1) / blocks)
		tile -= (a.w[k++].blocks + blocks - 1) / blocks;
	*first = tile * blocks;
	return k;
}

/* ---- thin ---- */

enum { AHEAD = 4 }; /* 16-byte loads of a lane in a chunk */

/* The lane's words of steps at .. of its block; zeros past the end. */
template <enum form F>
DEVICE void load_chunk(uint4 v[AHEAD], const unsigned char *codes, const struct dmatrix &w, uint32_t at, uint32_t end)
{
	const uint32_t per_step = form_of<F>::words / 4, q = lane() % 4;

	for (uint32_t i = 0; i < AHEAD; i++) {
		uint32_t step = at + i / per_step, word = step * form_of<F>::words + q * per_step + i % per_step;

		if (codes && step < end && (uint64_t)word * WORD < w.block_bytes)
			v[i] = load16_once(codes + (size_t)word * WORD);
		else
			v[i] = uint4{0, 0, 0, 0};
	}
}

/* The lane's part of row i; zeros from row m on. */
template <enum form F> DEVICE void load_part(part_of_row<F> &to, const struct matmul_args &a, uint32_t i, uint32_t step)
{
	const uint32_t bytes = form_of<F>::bytes, q = lane() % 4;
	const unsigned char *from = a.x.x + (size_t)i * a.x.ldx + step * bytes + q * (bytes / 4);

	if constexpr (F == FORM_NF4)
		put_part(to, i < a.m ? load16(from) : uint4{0, 0, 0, 0});
	else
		put_part(to, i < a.m ? load8(from) : uint2{0, 0});
}

template <enum form F, int COLUMNS, bool HALVES> KERNEL BLOCK_OF(SLICES *WARP, 1) thin(const struct matmul_args a)
{
	const uint32_t g = lane() / 4, q = lane() % 4, per_step = form_of<F>::words / 4, row = g % 4 * 4;
	shared<float> part = shared_at<float>(0, SLICES * 32 * 8 * COLUMNS); /* [slice][column][32 outputs] */
	uint32_t first, column = blockIdx.y * 8 * COLUMNS;
	const uint32_t k = find(a, blockIdx.x, 2, &first);
	const struct dmatrix &w = a.w[k];
	const uint32_t block = first + g / 4, end = slice_begin(w, warp() + 1);
	const bool real = block < w.blocks;
	const unsigned char *codes = real ? w.codes + block * w.block_bytes + g % 4 * 16 : NULL;
	sums<F, COLUMNS> s;
	uint4 next[AHEAD];
	uint32_t at = slice_begin(w, warp());

	clear(s);
	load_chunk<F>(next, codes, w, at, end);
	for (; at < end; at += AHEAD / per_step) {
		uint4 v[AHEAD];

		for (int i = 0; i < AHEAD; i++)
			v[i] = next[i];
		load_chunk<F>(next, codes, w, at + AHEAD / per_step, end);
#pragma unroll
		for (uint32_t i = 0; i < AHEAD / per_step; i++) {
			part_of_row<F> b[COLUMNS];

			if (at + i >= end)
				break;
			for (int c = 0; c < COLUMNS; c++)
				load_part(b[c], a, column + 8 * c + g, at + i);
			step<F, COLUMNS, HALVES>(s, &v[i * per_step], b, w, a.x, real ? block : first, row, at + i, column + 2 * q,
						 a.m);
		}
	}
	for (int t = 0; t < 2; t++)
		for (int c = 0; c < COLUMNS; c++)
			for (int i = 0; i < 4; i++)
				part[(warp() * 8 * COLUMNS + 8 * c + 2 * q + i % 2) * 32 + g / 4 * 16 + row + 2 * t + i / 2] =
					slice_sum<F, COLUMNS>(s, t, c, i);
	sync_block();
	for (uint32_t e = threadIdx.x; e < 32 * 8 * COLUMNS; e += SLICES * WARP) {
		uint32_t i = column + e / 32, r = first * BLOCK_ROWS + e % 32;
		float total = 0;

		if (i >= a.m || r >= w.blocks * BLOCK_ROWS)
			continue;
		for (uint32_t n = 0; n < SLICES; n++)
			total += part[(n * 8 * COLUMNS + e / 32) * 32 + e % 32];
		a.out[k][(size_t)i * a.ldo[k] + r] = F == FORM_F16 || F == FORM_NF4 ? total * a.x.scale[i] : total;
	}
}

/* ---- wide ---- */

enum { WIDE_BLOCKS = 8, WIDE_COLUMNS = 64, STAGES = 4, STAGE_BYTES = 64, WIDE_THREADS = 256 }; /* STAGE_BYTES: of an activation row */

template <enum form F> struct wide_of {
	enum {
		steps = STAGE_BYTES / form_of<F>::bytes, /* in a stage */
		words = steps * form_of<F>::words,       /* of a block in a stage */
		weights = WIDE_BLOCKS * words * WORD,
		row = F == FORM_NF4 ? 64 : 96,           /* from one activation row to the next, so that lanes meet other banks */
		stage = weights + WIDE_COLUMNS * row     /* bytes */
	};
};

/* 16-byte unit of row group r (of four rows) in word `word`: swizzled so that eight lanes that read together meet eight
 * banks of 16 bytes. */
DEVICE uint32_t unit_at(uint32_t word, uint32_t r)
{
	uint32_t u = word * 4 + r;

	return u ^ ((word >> 1 & 3) << 1);
}

template <enum form F>
DEVICE void fetch_stage(const shared<unsigned char> &to, const struct matmul_args &a, const struct dmatrix &w, uint32_t first,
			uint32_t column, uint32_t at)
{
	const uint32_t words = wide_of<F>::words;

	for (uint32_t u = threadIdx.x; u < WIDE_BLOCKS * words * 4; u += WIDE_THREADS) {
		uint32_t b = u / (words * 4), word = u / 4 % words, r = u % 4;
		uint64_t from = ((uint64_t)at * form_of<F>::words + word) * WORD + r * 16;
		bool real = first + b < w.blocks && from < w.block_bytes;

		copy_async16(to, (b * words * 4 + unit_at(word, r)) * 16,
			     real ? w.codes + (first + b) * w.block_bytes + from : w.codes, real);
	}
	for (uint32_t u = threadIdx.x; u < WIDE_COLUMNS * 4; u += WIDE_THREADS) {
		uint32_t i = column + u / 4, byte = at * form_of<F>::bytes + u % 4 * 16;
		bool real = i < a.m && byte < a.x.ldx;

		copy_async16(to, wide_of<F>::weights + u / 4 * wide_of<F>::row + u % 4 * 16,
			     real ? a.x.x + (size_t)i * a.x.ldx + byte : a.x.x, real);
	}
}

template <enum form F, bool HALVES> KERNEL BLOCK_OF(WIDE_THREADS, 1) wide(const struct matmul_args a)
{
	const uint32_t g = lane() / 4, q = lane() % 4, per_step = form_of<F>::words / 4, row = g % 4 * 4, pair = warp() % 4;
	const uint32_t at_column = warp() / 4 * 32;
	/* Columns go first: the blocks that run together share a few tiles of the weights, which pass through L2 once. */
	uint32_t first, column = blockIdx.x * WIDE_COLUMNS;
	const uint32_t k = find(a, blockIdx.y, WIDE_BLOCKS, &first);
	const struct dmatrix &w = a.w[k];
	const uint32_t steps = steps_of(w), block = first + 2 * pair + g / 4;
	const uint32_t real_block = block < w.blocks ? block : first;
	shared<unsigned char> memory = shared_at<unsigned char>(0, STAGES * wide_of<F>::stage);
	sums<F, 4> s;
	float total[2][4][4];
	uint32_t boundary = next_boundary(w, 0);

	clear(s);
	for (int t = 0; t < 2; t++)
		for (int c = 0; c < 4; c++)
			for (int i = 0; i < 4; i++)
				total[t][c][i] = 0;
	for (uint32_t i = 0; i + 1 < STAGES; i++) {
		if (i * wide_of<F>::steps < steps)
			fetch_stage<F>(shared_at<unsigned char>(i * wide_of<F>::stage, wide_of<F>::stage), a, w, first, column,
				       i * wide_of<F>::steps);
		copy_commit();
	}
	for (uint32_t at = 0, stage = 0; at < steps; at += wide_of<F>::steps, stage++) {
		uint32_t here = stage % STAGES * wide_of<F>::stage, ahead = at + (STAGES - 1) * wide_of<F>::steps;

		copy_wait<STAGES - 2>();
		sync_block();
		if (ahead < steps)
			fetch_stage<F>(
				shared_at<unsigned char>((stage + STAGES - 1) % STAGES * wide_of<F>::stage, wide_of<F>::stage), a,
				w, first, column, ahead);
		copy_commit();
#pragma unroll
		for (uint32_t i = 0; i < wide_of<F>::steps; i++) {
			uint4 v[2];
			part_of_row<F> b[4];

			if (at + i >= steps)
				break;
			for (uint32_t p = 0; p < per_step; p++)
				v[p] = memory.load16(here + ((2 * pair + g / 4) * wide_of<F>::words * 4 +
							     unit_at(i * form_of<F>::words + q * per_step + p, g % 4)) *
								    16);
			for (int c = 0; c < 4; c++) {
				uint32_t from = here + wide_of<F>::weights + (at_column + 8 * c + g) * wide_of<F>::row +
						i * form_of<F>::bytes + q * (form_of<F>::bytes / 4);

				if constexpr (F == FORM_NF4)
					put_part(b[c], memory.load16(from));
				else
					put_part(b[c], memory.load8(from));
			}
			step<F, 4, HALVES>(s, v, b, w, a.x, real_block, row, at + i, column + at_column + 2 * q, a.m);
			if (at + i + 1 != boundary)
				continue;
			for (int t = 0; t < 2; t++)
				for (int c = 0; c < 4; c++)
					for (int j = 0; j < 4; j++)
						total[t][c][j] += slice_sum<F, 4>(s, t, c, j);
			clear(s);
			boundary = next_boundary(w, boundary);
		}
	}
	if (block >= w.blocks)
		return;
	for (int t = 0; t < 2; t++)
		for (int c = 0; c < 4; c++)
			for (int i = 0; i < 4; i++) {
				uint32_t to = column + at_column + 8 * c + 2 * q + i % 2;

				if (to >= a.m)
					continue;
				a.out[k][(size_t)to * a.ldo[k] + block * BLOCK_ROWS + row + 2 * t + i / 2] =
					F == FORM_F16 || F == FORM_NF4 ? total[t][c][i] * a.x.scale[to] : total[t][c][i];
			}
}

/* ---- f32 ---- */

/* Sixteen outputs a CTA, sixteen chains of k = s, s + 16, ... each, which meet in order. For small models and tests: no
 * tensor cores. */
enum { F32_ROWS = 4 };
KERNEL BLOCK_OF(256) plain_f32(const struct matmul_args a)
{
	const uint32_t r = threadIdx.x % 16, chain = threadIdx.x / 16;
	shared<float> part = shared_at<float>(0, 256 * F32_ROWS); /* [row][chain][16] */
	uint32_t block, first = blockIdx.y * F32_ROWS;
	const uint32_t k = find(a, blockIdx.x, 1, &block);
	const struct dmatrix &w = a.w[k];
	const float *codes = (const float *)(w.codes + block * w.block_bytes);
	float acc[F32_ROWS] = {0};

	for (uint32_t j = chain; j < w.cols; j += 16) {
		float v = codes[(size_t)j * 16 + r];

		for (uint32_t i = 0; i < F32_ROWS; i++)
			if (first + i < a.m)
				acc[i] = fmaf(v, a.f[(size_t)(first + i) * a.ldf + j], acc[i]);
	}
	for (uint32_t i = 0; i < F32_ROWS; i++)
		part[i * 256 + chain * 16 + r] = acc[i];
	sync_block();
	if (threadIdx.x >= 16 * F32_ROWS || first + chain >= a.m)
		return;
	float total = 0;

	for (uint32_t c = 0; c < 16; c++)
		total += part[chain * 256 + c * 16 + r];
	a.out[k][(size_t)(first + chain) * a.ldo[k] + block * 16 + r] = total;
}

/* ---- launching ---- */

static uint32_t tiles_of(const struct matmul_args *a, uint32_t blocks)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < a->n; i++)
		n += (a->w[i].blocks + blocks - 1) / blocks;
	return n;
}

template <enum form F, bool HALVES> static cudaError_t launch(const struct matmul_args *a, cudaStream_t s)
{
	const unsigned threads = SLICES * WARP;
	const size_t part = SLICES * 32 * 8 * sizeof(float);

	if (a->m <= 8)
		return LAUNCH((thin<F, 1, HALVES>), dim3(tiles_of(a, 2)), threads, part, s, *a);
	if (a->m <= 16)
		return LAUNCH((thin<F, 2, HALVES>), dim3(tiles_of(a, 2)), threads, 2 * part, s, *a);
	if (a->m <= 32)
		return LAUNCH((thin<F, 4, HALVES>), dim3(tiles_of(a, 2)), threads, 4 * part, s, *a);
	return LAUNCH((wide<F, HALVES>), dim3((a->m + WIDE_COLUMNS - 1) / WIDE_COLUMNS, tiles_of(a, WIDE_BLOCKS)),
		      (unsigned)WIDE_THREADS, (size_t)STAGES * wide_of<F>::stage, s, *a);
}

cudaError_t matmul_cuda(const struct matmul_args *a, cudaStream_t s)
{
	bool halves = a->w[0].group == 16;

	switch (a->w[0].form) {
	case FORM_I4:
		return halves ? launch<FORM_I4, true>(a, s) : launch<FORM_I4, false>(a, s);
	case FORM_I8:
		return halves ? launch<FORM_I8, true>(a, s) : launch<FORM_I8, false>(a, s);
	case FORM_F16:
		return launch<FORM_F16, false>(a, s);
	case FORM_BF16:
		return launch<FORM_BF16, false>(a, s);
	case FORM_NF4:
		return launch<FORM_NF4, false>(a, s);
	default:
		return LAUNCH(plain_f32, dim3(tiles_of(a, 1), (a->m + F32_ROWS - 1) / F32_ROWS), 256u,
			      256 * F32_ROWS * sizeof(float), s, *a);
	}
}
