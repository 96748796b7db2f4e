/* adapter.h: one LoRA adapter in memory. Immutable and counted; made by core_adapter_load().
 *
 * Linears that read the same input have their A's stacked into one matrix, so that one product gives them all:
 *
 *     h = A x            A [at of the last + its rank][in]; the rows of linear l are at .. at + rank - 1, zero rows in between
 *     y += f B h[at ..]  B [out][rank]
 *
 * Factors keep the precision of the file (ops/matrix.h: f32, f16 or bf16, interleaved by 16 rows), or become signed bytes with a scale
 * per 32 (PACK_S8) where the model says so: core_model_params.factors. */
#ifndef WEFT_ADAPTER_H
#define WEFT_ADAPTER_H

#include <stdatomic.h>

#include "core.h"
#include "ops/matrix.h"

enum { ADAPTER_DIGEST = 32 };
enum adapter_input { ADAPTER_ATTN, ADAPTER_O, ADAPTER_MLP, ADAPTER_DOWN, ADAPTER_INPUTS };

static inline enum adapter_input adapter_input_of(unsigned linear)
{
	return linear <= CORE_V ? ADAPTER_ATTN : linear == CORE_O ? ADAPTER_O : linear <= CORE_UP ? ADAPTER_MLP : ADAPTER_DOWN;
}

struct adapter_linear {
	uint32_t rank; /* 0: this linear is as in the base */
	uint32_t at;   /* in the stacked A */
	float scale;   /* alpha / rank, or as the config says */
	struct matrix b;
	float *gain; /* DoRA: [16 * b.blocks] magnitude / norm of the row of W + scale * B A; else NULL */
};

struct adapter_layer {
	struct matrix a[ADAPTER_INPUTS]; /* blocks 0: nothing reads this input */
	struct adapter_linear linear[CORE_LINEARS];
};

/* On the input embedding: row of token t += scale * B a[t]. */
struct adapter_embed {
	uint32_t rank; /* 0: none */
	float scale;
	float *a;        /* [vocab][rank] */
	struct matrix b; /* [dim][rank] */
};

struct core_adapter {
	struct core_adapter_info info;
	const struct core_model *model; /* only compared */
	atomic_uint refs;
	unsigned char digest[ADAPTER_DIGEST];
	bool dora;
	uint32_t n_layers;
	struct adapter_layer *layers;
	struct adapter_embed embed;
	uint32_t width;       /* the longest h: a multiple of 16 */
	unsigned char *arena; /* all matrices, gains and the embedding's a */
	size_t arena_bytes;
};

#endif
