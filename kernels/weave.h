/* weave.h: blends in the forward pass.
 *
 * weave_plan() (weave_plan.c) puts the rows of a pass in groups of one path and blend each, the prompt's path and rows without a
 * blend first, and lists pieces: one adapter
 * over some rows, be it up to 24 neighbours of one group or up to 4 rows from anywhere; or up to 4 adapters over a row each, whose
 * latencies hide each other. Pieces, and the rows of one, are ordered by the adapters' digests, so that
 *   - whoever walks the list adds a row's parts in the order of their digests, whatever its neighbours are (P1);
 *   - an adapter's factors are read from memory once per linear, also when several blends share it.
 * Then weave() (weave.c) computes y = W x + f B (A x) for all linears that read x, in two steps over the pool:
 *   down   h = f A x, piece by piece                                     beside one share of the products W x
 *   up     y += B h, range of outputs by range of outputs, all pieces    beside the other share
 * A pass of many rows computes longer than memory needs for W, so each part fetches, while it multiplies its share of W, the
 * factors that it reads next; the shares are as A's bytes to B's. x is the f32 activation, also where the base is quantised; the
 * order of every sum is that of matmul.h. */
#ifndef WEFT_WEAVE_H
#define WEFT_WEAVE_H

#include "blend.h"

struct core_ctx;
struct core_row;
struct project;

enum { WEAVE_ROWS = 24 }; /* of a piece of neighbours: whole tiles of the products */

/* Rows row .. row + m - 1 of the pass, with one part of their blend. */
struct weave_run {
	const struct blend_part *part;
	uint32_t row, m;
};

/* m rows: one run, or as many runs of one row, of one adapter or of adapters that are all of one shape. */
struct weave_piece {
	const struct weave_run *runs;
	uint32_t m;
};

/* The rows of one blend and path. */
struct weave_group {
	const struct core_blend *blend; /* or NULL */
	uint32_t row, m;
};

struct weave {
	struct weave_piece *piece; /* [max_rows * CORE_BLEND_MAX] */
	uint32_t n;                /* 0: no row has a blend */
	uint32_t chunks;           /* of MATMUL_CHUNK blocks in the widest stacked A of this pass */
	float *h;                  /* [max_rows][ld]; made by weave_reserve */
	size_t ld, h_bytes;

	/* grouping */
	struct weave_group *group;  /* [2 * (max_rows + 1)] */
	struct weave_run *run;      /* [max_rows * CORE_BLEND_MAX] sorted */
	struct weave_run *cut;      /* [max_rows * CORE_BLEND_MAX] the same rows as pieces want them, piece after piece */
	uint32_t n_cut;
	struct core_row *rows;      /* [max_rows] in the order of the groups */
	uint32_t *position, *to;    /* [max_rows] positions in that order; where row i of the caller went */
};

/* Room in every row for a blend's h. Call before a sequence gets the blend; false: out of memory, nothing changed. */
bool weave_reserve(struct core_ctx *c, const struct core_blend *b);
void weave_finish(struct weave *w);
/* Reorders c's rows, positions and wanted rows, when there are rows of both paths or any row has a blend; sets m_prompt. */
void weave_plan(struct core_ctx *c);
/* Adds what the blends add to the embedding of row i. */
void weave_embed(const struct core_ctx *c, uint32_t i);
/* The products that s describes (all linears of `input` of a layer), with what the blends add. Not without any piece. */
void weave(const struct project *s, uint32_t layer, enum adapter_input input);

#endif
