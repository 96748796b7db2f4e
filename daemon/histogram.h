/* histogram.h: counts of values, with quantiles. One thread adds; any may read. */
#ifndef WEFT_DAEMON_HISTOGRAM_H
#define WEFT_DAEMON_HISTOGRAM_H

#include <stdatomic.h>
#include <stdint.h>

/* Eight buckets for each power of two: a quantile is right within an eighth. */
enum { HISTOGRAM_BUCKETS = 8 * 40 };
struct histogram {
	atomic_uint_fast64_t count[HISTOGRAM_BUCKETS], n, max;
};
void histogram_add(struct histogram *h, uint64_t v);
/* The smallest bucket border that at least share (0..1) of the values do not exceed; never above the largest value. */
uint64_t histogram_quantile(const struct histogram *h, double share);
uint64_t histogram_max(const struct histogram *h);
uint64_t histogram_border(unsigned bucket); /* the largest value that the bucket counts */
uint64_t histogram_count(const struct histogram *h, unsigned bucket);

#endif
