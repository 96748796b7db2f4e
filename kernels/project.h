/* project.h: up to three linears of the same input, as one step over the pool. Private to the forward pass. */
#ifndef WEFT_PROJECT_H
#define WEFT_PROJECT_H

#include <stdint.h>

#include "ops/tiles.h"

struct buffer;
struct core_ctx;
struct guest;
struct matrix;

struct linear {
	const struct matrix *w;
	const struct buffer *out;
};

/* What writes row i of x; NULL: it is there. */
struct input {
	void (*make)(void *arg, uint32_t i);
	void *arg;
};

/* x in groups of 8-bit codes, from row `first` on. */
struct input_codes {
	uint32_t group, kpad, first;
};

struct project {
	struct core_ctx *c;
	const struct buffer *x;
	struct input input;
	uint32_t m, m_prompt;
	struct linear l[3];
	uint32_t n;
	uint32_t range;		/* of blocks, when there is nothing but the linears */
	struct planes planes;	/* x of the first rows, for tiles */
	uint32_t in_planes;	/* how many */
	struct input_codes codes[3];
	uint32_t n_codes;
};

/* Makes x, quantises it once per group size that the linears need, and puts in planes what tiles multiply. The first m_prompt of the m
 * rows are multiplied as a prompt's (ops.h). */
void project_begin(struct project *s, struct core_ctx *c, const struct buffer *x, struct input input, uint32_t m, uint32_t m_prompt,
		   const struct linear *l, uint32_t n);
/* Blocks b0 .. b1 - 1 of outputs of a linear, of all rows. guest: NULL, or what to fetch meanwhile; its calls: one per MATMUL_CHUNK. */
void project_blocks(const struct project *s, const struct linear *l, uint32_t b0, uint32_t b1, struct guest *guest);
/* All blocks of all linears, shared out. */
void project_run(struct project *s);

/* The outputs of all linears cut into ranges of at most `range` blocks: their number, and the i-th of them. */
uint32_t project_ranges(const struct project *s, uint32_t range);
uint32_t project_range(const struct project *s, uint32_t range, uint32_t i, uint32_t *b0, uint32_t *b1);	/* the linear's index */

#endif
