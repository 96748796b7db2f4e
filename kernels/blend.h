/* blend.h: a weighted sum of adapters. Immutable and counted; made by core_blend_new(). */
#ifndef WEFT_BLEND_H
#define WEFT_BLEND_H

#include "adapter.h"

struct blend_part {
	struct core_adapter *adapter;
	float scale;
	float *weights; /* [layers][CORE_LINEARS], or NULL: all 1 */
	uint32_t at;    /* where its h begins in a row of the workspace: a multiple of 16 */
};

struct core_blend {
	atomic_uint refs;
	unsigned char digest[ADAPTER_DIGEST];
	char hex[2 * ADAPTER_DIGEST + 1];
	const struct core_model *model; /* only compared */
	uint32_t width;                 /* floats of h in a row of the workspace, over all parts */
	uint32_t n;
	struct blend_part parts[]; /* by the digests of their adapters */
};

/* What the product B (A x) of a part is multiplied by. Rounded once. */
float blend_factor(const struct blend_part *p, uint32_t layer, unsigned linear);
float blend_embed_factor(const struct blend_part *p);

#endif
