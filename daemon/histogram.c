/* histogram.c: buckets whose width grows with the value. */
#include "histogram.h"

static uint64_t get(const atomic_uint_fast64_t *n)
{
	return atomic_load_explicit(n, memory_order_relaxed);
}

/* There is one writer. */
static void set(atomic_uint_fast64_t *n, uint64_t v)
{
	atomic_store_explicit(n, v, memory_order_relaxed);
}

static unsigned bucket_of(uint64_t v)
{
	if (v < 8)
		return (unsigned)v;
	unsigned exponent = 63 - (unsigned)__builtin_clzll(v);
	unsigned b = (exponent - 2) * 8 + (unsigned)(v >> (exponent - 3) & 7);
	return b < HISTOGRAM_BUCKETS ? b : HISTOGRAM_BUCKETS - 1;
}

uint64_t histogram_border(unsigned b)
{
	if (b < 8)
		return b;
	unsigned exponent = b / 8 + 2;
	return ((uint64_t)(8 + b % 8 + 1) << (exponent - 3)) - 1;
}

uint64_t histogram_count(const struct histogram *h, unsigned b)
{
	return get(&h->count[b]);
}

uint64_t histogram_max(const struct histogram *h)
{
	return get(&h->max);
}

void histogram_add(struct histogram *h, uint64_t v)
{
	unsigned b = bucket_of(v);
	set(&h->count[b], get(&h->count[b]) + 1);
	set(&h->n, get(&h->n) + 1);
	if (v > get(&h->max))
		set(&h->max, v);
}

uint64_t histogram_quantile(const struct histogram *h, double share)
{
	uint64_t seen = 0, n = get(&h->n), max = get(&h->max);
	for (unsigned b = 0; b < HISTOGRAM_BUCKETS; b++) {
		seen += get(&h->count[b]);
		if (n && (double)seen >= share * (double)n)
			return histogram_border(b) < max ? histogram_border(b) : max;
	}
	return max;
}
