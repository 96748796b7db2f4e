/* scan.h: loops over a whole row of logits, once for each instruction set. [any thread]
 *
 * All of them give the same bits: sums run in double, in four lanes that are added at the end of a block, whatever the width of the
 * machine's registers. */
#ifndef WEFT_DAEMON_SCAN_H
#define WEFT_DAEMON_SCAN_H

#include <stdbool.h>
#include <stdint.h>

enum { SCAN_BLOCK = 256 };	/* entries whose weights are summed together */

struct scan {
	const char *name;
	/* The greatest of n >= 1 logits and the first place where it stands; of nothing but -INFINITY: that, and 0. False: one of them is NaN or
	 * +INFINITY. */
	bool (*best)(const float *logits, uint32_t n, float *max, uint32_t *at);
	/* sums[b] = sum of exp(logits[i] - max) over block b, each with relative error below 1e-13, and 0 where logits[i] - max < -700. max: at least
	 * the greatest logit; -INFINITY is allowed among them. */
	void (*weigh)(const float *logits, uint32_t n, double max, double *sums);
	/* The terms of one such sum, n <= SCAN_BLOCK. */
	void (*weights)(const float *logits, uint32_t n, double max, double *weights);
	bool (*outside)(const int32_t *ids, uint32_t n, uint32_t end);	/* is one of them not in 0 .. end - 1? */
};
extern const struct scan scan_plain;
#ifdef HAVE_X86
extern const struct scan scan_avx2, scan_avx512;
#endif
/* The widest that this machine has; all that it has: [3], NULL where there is none. */
const struct scan *scan_here(void);
void scan_all(const struct scan *all[static 3]);

#endif
