/* weave.h: blends in the forward pass.
 *
 * weave_plan() puts the rows of a pass in groups of one blend each, base rows first, and lists pieces: one adapter over up to 24
 * neighbouring rows. Pieces are ordered by the adapters' digests, so that
 *   - whoever walks the list adds a row's parts in the order of their digests, whatever its neighbours are (P1);
 *   - an adapter's factors are read from memory once per linear, also when several blends share it.
 * Then, beside each product of the base, weave() adds y += f B (A x) in two steps over the pool:
 *   down   piece by piece: h = f A x, for all linears that read x
 *   up     range of outputs by range of outputs, over all pieces: y += B h
 * x is the f32 activation, also where the base is quantised; the order of every sum is that of matmul.h. */
#ifndef WEFT_WEAVE_H
#define WEFT_WEAVE_H

#include "blend.h"

struct core_ctx;
struct core_row;
struct buffer;

enum { WEAVE_ROWS = 24 }; /* of a piece: whole tiles of the products */

struct weave_piece {
	const struct blend_part *part;
	uint32_t row, m; /* rows row .. row + m - 1 of the pass */
};

/* The rows of one blend. */
struct weave_group {
	const struct core_blend *blend;
	uint32_t row, m;
};

struct weave {
	struct weave_piece *piece; /* [max_rows * CORE_BLEND_MAX] */
	uint32_t n;                /* 0: no row has a blend */
	uint32_t chunks;           /* of MATMUL_CHUNK blocks in the widest stacked A of this pass */
	float *h;                  /* [max_rows][ld]; made by weave_reserve */
	size_t ld, h_bytes;

	/* grouping */
	struct weave_group *group; /* [max_rows] */
	struct core_row *rows;     /* [max_rows] in the order of the groups */
	uint32_t *position, *to;   /* [max_rows] positions in that order; where row i of the caller went */
};

/* Room in every row for a blend's h. Call before a sequence gets the blend; false: out of memory, nothing changed. */
bool weave_reserve(struct core_ctx *c, const struct core_blend *b);
void weave_finish(struct weave *w);
/* Reorders c's rows, positions and wanted rows, when any row has a blend. */
void weave_plan(struct core_ctx *c);
/* Adds what the blends add to the embedding of row i. */
void weave_embed(const struct core_ctx *c, uint32_t i);
/* x: what the linears of `input` have read; out[k]: what the k-th of them gave. */
void weave(struct core_ctx *c, uint32_t layer, enum adapter_input input, const struct buffer *x, const struct buffer *const out[]);

#endif
