/* draw_cuda.cu: a token from each row of logits, and its likeliest tokens, with the bits of daemon/logits.c and of the samplers that ship.
 *
 * Sums are double and keep the daemon's order: four chains for every 256 neighbours, (0 + 1) + (2 + 3), then the blocks one after
 * the other. What is left over after top_k, top_p or min_p lies in a list of at most DRAW_LIST; a row that would need a longer one is
 * not drawn here, and neither is one with NaNs: the host has the last word on them. Edits and the temperature make another row of
 * logits, which is drawn from; what is said of the row besides is of the logits as they are.
 *
 * Versions:
 *   1  one block a row. The candidates of a list are found by bisection over the order of floats, seven thresholds a pass, which
 *      ends as soon as enough and not too many are above one. Two exps a logit in double: about 64 instructions of double each, 32,000
 *      logits 30 us on an SM that does 64 of them a clock, half a millisecond where it does two (sm_86, sm_89): there a row should
 *      be shared out, one day. */
#include "kernels/cuda/prepare.h"

#include <float.h>
#include <math.h>

#include "kernels/core.h"

enum {
	DRAW_BLOCK = 256, /* LOGITS_BLOCK of the daemon */
	DRAW_CHAINS = 4,
	DRAW_LIST = 1024,
	DRAW_ENOUGH = DRAW_LIST / 2, /* candidates that top_p is offered, if so many differ */
	DRAW_ABOVE = 7               /* thresholds of one pass */
};

/* ---- numbers ---- */

/* exp(logit - max), step by step as the daemon's exp_lanes(). */
DEVICE double weight_of(float logit, double max)
{
	const double log2e = 0x1.71547652b82fep0, ln2_high = 0x1.62e42fee00000p-1, ln2_low = 0x1.a39ef35793c76p-33;
	const double shift = 0x1.8p52;
	double v = logit - max, t, k, r, p;

	if (v < -700.0)
		return 0;
	t = v * log2e + shift;
	k = t - shift;
	r = (v - k * ln2_high) - k * ln2_low;
	p = r * (1.0 / 39916800) + 1.0 / 3628800;
	p = p * r + 1.0 / 362880;
	p = p * r + 1.0 / 40320;
	p = p * r + 1.0 / 5040;
	p = p * r + 1.0 / 720;
	p = p * r + 1.0 / 120;
	p = p * r + 1.0 / 24;
	p = p * r + 1.0 / 6;
	p = p * r + 0.5;
	p = p * r + 1.0;
	p = p * r + 1.0;
	return bits_to_double(double_to_bits(p) + (double_to_bits(t) << 52));
}

DEVICE float logit_from(double x)
{
	return x < -FLT_MAX ? -INFINITY : x > FLT_MAX ? FLT_MAX : (float)x;
}

/* Ordered as the floats are; both zeros are one. */
DEVICE uint32_t key_of(float x)
{
	uint32_t u = float_to_bits(x + 0.0f);

	return u >> 31 ? ~u : u | 0x80000000;
}

DEVICE float key_value(uint32_t key)
{
	return bits_to_float(key >> 31 ? key & 0x7fffffff : ~key);
}

/* The least key of a float that is not below x. */
DEVICE uint32_t key_at_least(double x)
{
	float f = (float)x;

	return key_of(f) + (f < x);
}

/* ---- over the block ---- */

struct room { /* shared memory */
	shared<double> chains, sums, weights, word;
	shared<uint64_t> list; /* ~key, id: ascending is by logit descending, ties by id */
	shared<float> scratch;
};

DEVICE float block_max(float x, const shared<float> &scratch)
{
	float top = -INFINITY;

	x = warp_max(x);
	sync_block();
	if (lane() == 0)
		scratch[warp()] = x;
	sync_block();
	for (uint32_t i = 0; i < ROW_WARPS; i++) {
		float y = scratch[i];

		top = y > top ? y : top;
	}
	return top;
}

/* Numbers below 2^24 are exact as floats. */
DEVICE uint32_t block_count(uint32_t n, const shared<float> &scratch)
{
	return (uint32_t)block_sum((float)n, scratch);
}

/* The sum of n over the threads before this one; *all: over all. */
DEVICE uint32_t block_before(uint32_t n, uint32_t *all, const shared<float> &scratch)
{
	float sum = (float)n, before = 0, total = 0;

	for (uint32_t d = 1; d < WARP; d *= 2) {
		float other = shuffle(sum, (lane() - d) % WARP);

		sum += lane() >= d ? other : 0;
	}
	sync_block();
	if (lane() == WARP - 1)
		scratch[warp()] = sum;
	sync_block();
	for (uint32_t i = 0; i < ROW_WARPS; i++) {
		float x = scratch[i];

		before += i < warp() ? x : 0;
		total += x;
	}
	*all = (uint32_t)total;
	return (uint32_t)(before + sum) - n;
}

/* What thread 0 says. */
DEVICE double tell(double x, const struct room &r)
{
	sync_block();
	if (threadIdx.x == 0)
		r.word[0] = x;
	sync_block();
	return r.word[0];
}

/* ---- sums ---- */

DEVICE uint32_t blocks_of(uint32_t n)
{
	return (n + DRAW_BLOCK - 1) / DRAW_BLOCK;
}

/* From chains to sums, and their sum. */
DEVICE double add_up(const struct room &r, uint32_t blocks)
{
	double total = 0;

	sync_block();
	for (uint32_t b = threadIdx.x; b < blocks; b += ROW_THREADS)
		r.sums[b] = (r.chains[4 * b] + r.chains[4 * b + 1]) + (r.chains[4 * b + 2] + r.chains[4 * b + 3]);
	sync_block();
	for (uint32_t b = 0; threadIdx.x == 0 && b < blocks; b++)
		total += r.sums[b];
	return tell(total, r);
}

DEVICE double weigh_row(const struct room &r, const float *x, uint32_t n, double max)
{
	uint32_t blocks = blocks_of(n);

	sync_block();
	for (uint32_t c = threadIdx.x; c < DRAW_CHAINS * blocks; c += ROW_THREADS) {
		uint32_t from = c / DRAW_CHAINS * DRAW_BLOCK, end = n - from < DRAW_BLOCK ? n : from + DRAW_BLOCK;
		double sum = 0;

		for (uint32_t i = from + c % DRAW_CHAINS; i < end; i += DRAW_CHAINS)
			sum += weight_of(x[i], max);
		r.chains[c] = sum;
	}
	return add_up(r, blocks);
}

DEVICE float list_logit(const struct room &r, uint32_t i)
{
	return key_value(~(uint32_t)(r.list[i] >> 32));
}

/* The list's weights stay in r.weights. */
DEVICE double weigh_list(const struct room &r, uint32_t n, double max)
{
	uint32_t blocks = blocks_of(n);

	sync_block();
	for (uint32_t i = threadIdx.x; i < n; i += ROW_THREADS)
		r.weights[i] = weight_of(list_logit(r, i), max);
	sync_block();
	for (uint32_t c = threadIdx.x; c < DRAW_CHAINS * blocks; c += ROW_THREADS) {
		uint32_t from = c / DRAW_CHAINS * DRAW_BLOCK, end = n - from < DRAW_BLOCK ? n : from + DRAW_BLOCK;
		double sum = 0;

		for (uint32_t i = from + c % DRAW_CHAINS; i < end; i += DRAW_CHAINS)
			sum += r.weights[i];
		r.chains[c] = sum;
	}
	return add_up(r, blocks);
}

/* ---- the draw ---- */

/* Where in the sums target falls; *passed: what lies before. [thread 0] */
DEVICE uint32_t find_block(const struct room &r, uint32_t blocks, double target, double *passed)
{
	uint32_t block = 0;

	*passed = 0;
	while (block + 1 < blocks && !(target < *passed + r.sums[block]))
		*passed += r.sums[block++];
	while (block > 0 && r.sums[block] == 0)
		block--;
	return block;
}

/* Where in r.weights[at .. at + m) it falls. [thread 0] */
DEVICE uint32_t walk(const struct room &r, uint32_t at, uint32_t m, double target, double passed)
{
	uint32_t last = at;

	for (uint32_t i = at; i < at + m; i++) {
		double w = r.weights[i];

		if (w == 0)
			continue;
		last = i;
		passed += w;
		if (target < passed)
			break;
	}
	return last;
}

DEVICE uint32_t pick_from_row(const struct room &r, const float *x, uint32_t n, double max, double target)
{
	double passed = 0;
	uint32_t block = threadIdx.x == 0 ? find_block(r, blocks_of(n), target, &passed) : 0, from, m;

	from = (uint32_t)tell(block, r) * DRAW_BLOCK;
	m = n - from < DRAW_BLOCK ? n - from : (uint32_t)DRAW_BLOCK;
	if (threadIdx.x < m)
		r.weights[threadIdx.x] = weight_of(x[from + threadIdx.x], max);
	sync_block();
	return from + (uint32_t)tell(threadIdx.x == 0 ? walk(r, 0, m, target, passed) : 0, r);
}

DEVICE uint32_t pick_from_list(const struct room &r, uint32_t n, double target)
{
	uint32_t at = 0;

	if (threadIdx.x == 0) {
		double passed;
		uint32_t from = find_block(r, blocks_of(n), target, &passed) * DRAW_BLOCK;

		at = walk(r, from, n - from < DRAW_BLOCK ? n - from : (uint32_t)DRAW_BLOCK, target, passed);
	}
	return (uint32_t)r.list[(uint32_t)tell(at, r)];
}

/* ---- the list ---- */

/* A key that `least` to DRAW_LIST logits reach; where there is none, one that fewer reach. Eight parts of an interval at a time: the one
 * is looked into at whose upper end they are too few, and at whose lower end they are too many. */
DEVICE uint32_t threshold(const struct room &r, const float *x, uint32_t n, uint32_t least)
{
	uint32_t base = 0, step = 1u << 29;

	if (n <= DRAW_LIST)
		return 0;
	for (;;) {
		uint32_t above[DRAW_ABOVE] = {0, 0, 0, 0, 0, 0, 0}, part = DRAW_ABOVE, reached = 0;

		for (uint32_t i = threadIdx.x; i < n; i += ROW_THREADS) {
			uint32_t key = key_of(x[i]);

			for (uint32_t k = 0; k < DRAW_ABOVE; k++)
				above[k] += key >= base + (k + 1) * step;
		}
		for (uint32_t k = DRAW_ABOVE; k-- > 0;) {
			uint32_t count = block_count(above[k], r.scratch);

			if (count <= DRAW_LIST) {
				part = k;
				reached = count;
			}
		}
		if (reached >= least || step == 1)
			return base + (part + 1) * step;
		base += part * step;
		step = step >= 8 ? step / 8 : 1;
	}
}

/* The logits whose keys are `from` or more, in the order of ids; returns how many there are, of which no more than DRAW_LIST are listed. */
DEVICE uint32_t gather(const struct room &r, const float *x, uint32_t n, uint32_t from)
{
	uint32_t per = (n + ROW_THREADS - 1) / ROW_THREADS, begin = threadIdx.x * per, count = 0, at, all;
	uint32_t end = n < begin + per ? n : begin + per;

	for (uint32_t i = begin; i < end; i++)
		count += key_of(x[i]) >= from;
	at = block_before(count, &all, r.scratch);
	for (uint32_t i = begin; i < end && all <= DRAW_LIST; i++) {
		uint32_t key = key_of(x[i]);

		if (key >= from)
			r.list[at++] = (uint64_t)~key << 32 | i;
	}
	sync_block();
	return all;
}

/* Bitonic; what fills the list up to a power of two is behind everything. */
DEVICE void sort_list(const struct room &r, uint32_t n)
{
	uint32_t size = 1;

	while (size < n)
		size *= 2;
	for (uint32_t i = n + threadIdx.x; i < size; i += ROW_THREADS)
		r.list[i] = ~(uint64_t)0;
	for (uint32_t run = 2; run <= size; run *= 2)
		for (uint32_t apart = run / 2; apart; apart /= 2) {
			sync_block();
			for (uint32_t i = threadIdx.x; i < size / 2; i += ROW_THREADS) {
				uint32_t a = (i & ~(apart - 1)) * 2 + (i & (apart - 1)), b = a + apart;
				uint64_t x = r.list[a], y = r.list[b];

				if ((x > y) == !(a & run)) {
					r.list[a] = y;
					r.list[b] = x;
				}
			}
		}
	sync_block();
}

/* How many of the first n, at least one, hold the mass. 0: all of them together do not. */
DEVICE uint32_t nucleus(const struct room &r, uint32_t n, double goal)
{
	uint32_t kept = 0;
	double mass = 0;

	if (threadIdx.x == 0) {
		while (kept < n && (kept == 0 || mass < goal))
			mass += r.weights[kept++];
		kept = mass < goal ? 0 : kept;
	}
	return (uint32_t)tell(kept, r);
}

struct logits_view { /* after edits and temperature */
	const float *x;
	uint32_t n;
	float max;
	bool as_they_are; /* neither: total is theirs, too */
	double total;
};

DEVICE double weigh_view(const struct room &r, const struct logits_view &v)
{
	return v.as_they_are ? v.total : weigh_row(r, v.x, v.n, v.max);
}

/* Lists the candidates that are left over. 0: not here. */
DEVICE uint32_t narrow(const struct room &r, const struct logits_view &v, const struct core_draw &d)
{
	bool sorted = d.top_k || d.top_p < 1;
	double least = v.max + d.min_log_p;
	uint32_t from = sorted ? threshold(r, v.x, v.n, d.top_k ? d.top_k : (uint32_t)DRAW_ENOUGH) : key_at_least(least);
	uint32_t n = gather(r, v.x, v.n, from), kept = 0;
	bool all = d.top_k || n == v.n;

	if (n > DRAW_LIST || n < d.top_k)
		return 0;
	if (!sorted)
		return n;
	sort_list(r, n);
	n = d.top_k ? d.top_k : n;
	if (d.top_p < 1) {
		double sum = d.top_k ? 0 : weigh_view(r, v), listed = weigh_list(r, n, v.max);

		kept = nucleus(r, n, d.top_p * (d.top_k ? listed : sum));
		if (!kept && !all)
			return 0;
		n = kept ? kept : n;
	}
	kept = 0;
	for (uint32_t i = threadIdx.x; i < n; i += ROW_THREADS)
		kept += !(list_logit(r, i) < least);
	return block_count(kept, r.scratch);
}

/* -1: not here. */
DEVICE int32_t draw_token(const struct room &r, const struct logits_view &v, const struct core_draw &d)
{
	uint32_t n;

	if (!d.top_k && !(d.top_p < 1) && d.min_log_p == -INFINITY) {
		double total = weigh_row(r, v.x, v.n, v.max);

		return (int32_t)pick_from_row(r, v.x, v.n, v.max, d.uniform * total);
	}
	n = narrow(r, v, d);
	if (n <= 1)
		return n ? (int32_t)(uint32_t)r.list[0] : -1;
	return (int32_t)pick_from_list(r, n, d.uniform * weigh_list(r, n, v.max));
}

/* The likeliest tokens. False: not here. */
DEVICE bool find_top(const struct room &r, const float *x, uint32_t n, uint32_t want, struct core_top *to)
{
	uint32_t listed = gather(r, x, n, threshold(r, x, n, want));

	if (listed > DRAW_LIST || listed < want)
		return false;
	sort_list(r, listed);
	for (uint32_t i = threadIdx.x; i < want; i += ROW_THREADS) {
		to[i].token = (int32_t)(uint32_t)r.list[i];
		to[i].logit = x[to[i].token];
	}
	return true;
}

/* ---- the row ---- */

/* The greatest logit and the first place where it stands. False: one is NaN or +infinity, or all are -infinity. */
DEVICE bool find_best(const struct room &r, const float *x, uint32_t n, float *max, int32_t *best)
{
	float top = -INFINITY, first = -INFINITY;
	uint32_t bad = 0;

	for (uint32_t i = threadIdx.x; i < n; i += ROW_THREADS) {
		bad |= !(x[i] < INFINITY);
		top = x[i] > top ? x[i] : top;
	}
	top = block_max(top, r.scratch);
	for (uint32_t i = threadIdx.x; i < n; i += ROW_THREADS)
		if (x[i] == top && first == -INFINITY)
			first = -(float)i;
	*max = top;
	*best = (int32_t)-block_max(first, r.scratch);
	return block_count(bad, r.scratch) == 0 && top > -INFINITY;
}

DEVICE float edited(const struct core_edit &e, double l)
{
	return logit_from((l > 0 ? l / e.ratio : l * e.ratio) - e.minus);
}

/* Tokens differ within a stage. */
DEVICE void edit_row(float *x, const struct core_edit *e, uint32_t n)
{
	for (uint32_t stage = 0; stage <= e[n - 1].stage; stage++) {
		sync_block();
		for (uint32_t i = threadIdx.x; i < n; i += ROW_THREADS)
			if (e[i].stage == stage)
				x[e[i].token] = edited(e[i], x[e[i].token]);
	}
	sync_block();
}

/* scaled = (edited logits - max) / temperature. A kernel of its own, for a division of doubles takes more registers than the rest has left. */
KERNEL BLOCK_OF(ROW_THREADS) temper(const struct draw_args a)
{
	const struct core_draw &d = a.draw[blockIdx.x];
	const double t = d.temperature;
	const float *x = a.logits + (size_t)blockIdx.x * a.ld;
	float *scaled = a.scaled + (size_t)blockIdx.x * a.ld, top = -INFINITY;

	if (t >= 0 && d.n_edits) {
		for (uint32_t i = threadIdx.x; i < a.n; i += ROW_THREADS)
			scaled[i] = x[i];
		edit_row(scaled, d.edits, d.n_edits);
		x = scaled;
	}
	if (!(t > 0) || t == 1)
		return;
	for (uint32_t i = threadIdx.x; i < a.n; i += ROW_THREADS)
		top = x[i] > top ? x[i] : top;
	top = block_max(top, shared_at<float>(0, ROW_WARPS));
	for (uint32_t i = threadIdx.x; i < a.n; i += ROW_THREADS)
		scaled[i] = logit_from((x[i] - (double)top) / t);
}

/* What row `at` is drawn from. False: it cannot be. */
DEVICE bool see_view(struct logits_view *v, int32_t *best, const struct room &r, const struct draw_args &a, uint32_t at,
		     const struct core_draw &d, const struct core_drawn &as_it_is)
{
	bool tempered = d.temperature > 0 && d.temperature != 1;

	v->as_they_are = !tempered && !d.n_edits;
	v->x = (v->as_they_are ? a.logits : a.scaled) + (size_t)at * a.ld;
	v->n = a.n;
	v->max = tempered ? 0 : as_it_is.max;
	v->total = as_it_is.total;
	*best = as_it_is.best;
	return !d.n_edits || find_best(r, v->x, a.n, &v->max, best);
}

KERNEL BLOCK_OF(ROW_THREADS, 1) draw(const struct draw_args a)
{
	const uint32_t blocks = blocks_of(a.n), at = blockIdx.x;
	const struct core_draw d = a.draw[at];
	const float *x = a.logits + (size_t)at * a.ld;
	struct core_drawn to = {-1, -1, 0, 0, 0, NULL, 0};
	struct room r;
	struct logits_view v;
	int32_t best;

	r.chains = shared_at<double>(0, DRAW_CHAINS * blocks);
	r.sums = shared_at<double>(8 * DRAW_CHAINS * blocks, blocks);
	r.weights = shared_at<double>(40 * blocks, DRAW_LIST);
	r.list = shared_at<uint64_t>(40 * blocks + 8 * DRAW_LIST, DRAW_LIST);
	r.word = shared_at<double>(40 * blocks + 16 * DRAW_LIST, 1);
	r.scratch = shared_at<float>(40 * blocks + 16 * DRAW_LIST + 8, ROW_WARPS);
	if (d.temperature >= 0 && find_best(r, x, a.n, &to.max, &to.best)) {
		to.total = weigh_row(r, x, a.n, to.max);
		if (d.given)
			to.token = (int32_t)d.given - 1;
		else if (see_view(&v, &best, r, a, at, d, to))
			to.token = d.temperature == 0 ? best : draw_token(r, v, d);
		to.n_top = d.top < a.n ? d.top : a.n;
		if (to.token >= 0 && to.n_top && !find_top(r, x, a.n, (uint32_t)to.n_top, a.tops + (size_t)at * CORE_TOP))
			to.token = -1;
		to.logit = to.token < 0 ? 0 : x[to.token];
	}
	if (threadIdx.x == 0)
		a.out[at] = to;
}

cudaError_t draw_cuda(const struct draw_args *a, cudaStream_t s)
{
	const uint32_t blocks = (a->n + DRAW_BLOCK - 1) / DRAW_BLOCK;
	const size_t room = 40 * blocks + 16 * DRAW_LIST + 8 + ROW_WARPS * sizeof(float);

	for (uint32_t i = 0; i < a->m; i += DRAW_ROWS) {
		struct draw_args part = *a;
		cudaError_t rc;

		part.logits += (size_t)i * a->ld;
		part.draw += i;
		part.out += i;
		part.tops += (size_t)i * CORE_TOP;
		part.m = a->m - i < DRAW_ROWS ? a->m - i : (uint32_t)DRAW_ROWS;
		rc = LAUNCH(temper, dim3(part.m), (unsigned)ROW_THREADS, ROW_WARPS * sizeof(float), s, part);
		if (rc == cudaSuccess)
			rc = LAUNCH(draw, dim3(part.m), (unsigned)ROW_THREADS, room, s, part);
		if (rc != cudaSuccess)
			return rc;
	}
	return cudaSuccess;
}
