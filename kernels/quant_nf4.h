/* quant_nf4.h: a matrix to NF4 with double quantisation, as bitsandbytes does it.
 *
 * The result is a tensor in bitsandbytes' own form (format/nf4.h), so that what is quantised here and what bitsandbytes saved are packed by
 * the same code. It needs the whole matrix: nf4_init(), which plans; nf4_room(); nf4_rows() of all rows, whose ranges may run in parallel;
 * nf4_scales(). */
#ifndef WEFT_QUANT_NF4_H
#define WEFT_QUANT_NF4_H

#include "format/nf4.h"

struct nf4_matrix {
	struct tensor t;		/* the result: its scales are s, its bytes those below */
	struct nf4 s;
	const struct tensor *from;	/* borrowed */
	uint8_t *codes;			/* [rows * cols / 2] */
	float *absmax;			/* [blocks], before they go to 8 bits */
	uint8_t *absmax8;		/* [blocks] */
	float *nested;			/* [blocks / NF4_NESTED, rounded up] */
};

/* Rows of whole blocks only. No memory yet: enough for pack_plan() of m->t. m must not move afterwards. */
void nf4_init(struct nf4_matrix *m, const struct tensor *from);
int nf4_room(struct nf4_matrix *m, struct core_error *err);
/* Fails on a number that is not finite. */
int nf4_rows(struct nf4_matrix *m, uint64_t r0, uint64_t r1, struct core_error *err);
void nf4_scales(struct nf4_matrix *m);
void nf4_finish(struct nf4_matrix *m);	/* also after a failed nf4_room() */

#endif
