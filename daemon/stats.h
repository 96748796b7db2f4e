/* stats.h: a histogram, and the reply of `stats`. */
#ifndef WEFT_DAEMON_STATS_H
#define WEFT_DAEMON_STATS_H

#include "client/wire.h"
#include <stdint.h>

/* Counts by value, eight buckets for each power of two: a quantile is right within an eighth. */
enum { HISTOGRAM_BUCKETS = 8 * 40 };
struct histogram {
	uint64_t count[HISTOGRAM_BUCKETS], n, max;
};
void histogram_add(struct histogram *h, uint64_t v);
/* The smallest bucket border that at least share (0..1) of the values do not exceed; never above the largest value. */
uint64_t histogram_quantile(const struct histogram *h, double share);

struct server;
size_t stats_count(void); /* pairs that stats_write writes */
void stats_write(const struct server *s, struct wire_buf *b);

#endif
