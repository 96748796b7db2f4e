#include "config.h"
#include "shard.h"

#include <inttypes.h>

int shard_config(struct llama_config *c, uint32_t ranks, struct core_error *err)
{
	const struct {
		const char *what;
		uint32_t *n;
	} cut[] = { { "query heads", &c->heads }, { "KV heads", &c->kv_heads }, { "columns of ffn", &c->ffn_dim } };

	for (unsigned i = 0; i < sizeof(cut) / sizeof(cut[0]); i++) {
		if (*cut[i].n % ranks)
			return core_fail(err, CORE_EUNSUPPORTED, "%u %s do not divide among %u ranks", *cut[i].n, cut[i].what, ranks);
		*cut[i].n /= ranks;
	}
	return CORE_OK;
}

int shard_tensor(struct tensor *part, const struct tensor *t, enum shard_axis axis, uint32_t rank, uint32_t ranks, struct core_error *err)
{
	uint64_t n = t->dims[axis] / ranks;

	if (t->type == TENSOR_NF4)
		return core_fail(err, CORE_EUNSUPPORTED, "tensor %s: the scales of nf4 have scales of their own, which run across its rows: "
				 "it is not cut for ranks", t->name);
	if (!tensor_part(part, t, axis, rank * n, n))
		return core_fail(err, CORE_EUNSUPPORTED, "tensor %s: the %" PRIu64 " inputs of a rank are not whole blocks of %u (%s)", t->name, n,
				 tensor_type_block(t->type), tensor_type_name(t->type));
	return CORE_OK;
}
