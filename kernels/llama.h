/* llama.h: one engine: the KV pool, the worker threads, and the workspace of one forward pass.
 *
 * All buffers are made once for max_rows; a pass allocates nothing. Buffers of f32 rows have a stride rounded up to an odd
 * number of 16 elements, so that kernels store whole vectors and the same column of 16 rows lies in 16 different sets of the cache; what stands past a row's end is never read as a value. */
#ifndef WEFT_LLAMA_H
#define WEFT_LLAMA_H

#include "device.h"
#include "kv.h"
#include "model.h"
#include "ops/ops.h"
#include "pool.h"
#include "weave.h"

/* f32 rows: [max_rows][ld]. */
struct buffer {
	float *data;
	size_t ld;
};

/* One activation quantised for one group size. */
struct quantized {
	int8_t *q;		/* [max_rows][quantized_ld(kpad)] */
	float *scale;		/* [max_rows][kpad / group] */
	int32_t *sum;
};
enum { GROUP_SIZES = 4 };	/* 16, 32, 64, 128 */

/* Rows begin an odd number of cache lines apart: the same column of 16 rows then lies in 16 different sets of the cache. */
static inline size_t quantized_ld(size_t kpad)
{
	return ((kpad + 63) / 64 | 1) * 64;
}

/* Rows of one sequence and path that attend together: order[first .. first + n). */
struct row_tile {
	uint32_t first, n;
};

struct core_ctx {
	const struct core_model *model;
	const struct ops *ops;
	enum core_cpu cpu;
	struct pool *pool;		/* NULL with a device */
	struct device *device;		/* NULL: the CPU */
	char *note;			/* why it is NULL, where a device was wished for */
	struct core_reduce reduce;
	struct kv kv;
	uint32_t max_rows, max_context;

	/* the pass in progress */
	uint32_t m;			/* rows */
	uint32_t m_prompt;		/* of them the first ones are of the prompt's path, the others of the generated tokens' */
	const struct core_row *rows;
	uint32_t *position;		/* [max_rows] */
	struct core_seq **touched;	/* [max_rows] distinct sequences of the batch */
	uint32_t n_touched;
	uint32_t n_logits;		/* valid rows of logits; 0 after a failure */
	uint32_t *wanted;		/* [max_rows] rows that want logits */
	const struct core_drawn *drawn;	/* [n_logits] or NULL: the device's, in their place */

	uint32_t *order;		/* [max_rows] the rows, sequence by sequence */
	struct row_tile *tiles;		/* [max_rows] */
	uint32_t n_tiles;

	struct buffer x, h, q, k, v, a, gate, up, delta, cosine, sine, logits;
	struct quantized quantized[GROUP_SIZES];
	struct planes planes;		/* where the set has tiles */
	struct weave weave;
	unsigned char *workspace;	/* all of the above */
	size_t workspace_bytes;
};

/* Reserved, validated rows in c; fills c->logits. Cannot fail. */
void llama_forward(struct core_ctx *c);

#endif
