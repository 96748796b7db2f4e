/* shard.h: tensor parallelism: what one rank of several holds of a Llama.
 *
 *     q, k, v, gate, up   some of the outputs: whole query heads with their KV heads, a part of ffn
 *     o, down             the inputs that those give: each rank has a part of every sum, and core_reduce adds the parts up
 *
 * Norms, the embedding and the head are whole in every rank, and so are x and the logits: two sums over ranks a layer are all that ranks
 * tell each other, and each may sample. Adapters follow the base: B is cut where outputs are, A where inputs are. */
#ifndef WEFT_SHARD_H
#define WEFT_SHARD_H

#include "format/checkpoint.h"

enum shard_axis { SHARD_OUTPUTS, SHARD_INPUTS };	/* of a weight [out][in]: the dimension that is cut */

static inline enum shard_axis shard_axis_of(enum core_linear linear)
{
	return linear == CORE_O || linear == CORE_DOWN ? SHARD_INPUTS : SHARD_OUTPUTS;
}

/* The shape of a rank's part, in place. CORE_EUNSUPPORTED: it does not divide. */
int shard_config(struct llama_config *c, uint32_t ranks, struct core_error *err);
/* A rank's part of a weight or factor, borrowed from t. CORE_EUNSUPPORTED: it begins inside a block of the file. */
int shard_tensor(struct tensor *part, const struct tensor *t, enum shard_axis axis, uint32_t rank, uint32_t ranks, struct core_error *err);

#endif
