/* gguf_lora.c: a LoRA in a GGUF file, as llama.cpp's converter writes it (FACTS 3.6), under PEFT's names. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gguf.h"
#include "peft.h"

static int expect_text(const struct gguf *g, const char *key, const char *want, struct core_error *err)
{
	struct gguf_text got = {0};
	int rc = gguf_string(g, key, true, &got, err);

	if (rc < 0 || gguf_text_is(got, want))
		return rc;
	return core_fail(err, CORE_EUNSUPPORTED, "%s: %s: %.*s: expected %s", g->path, key, got.len < 60 ? (int)got.len : 60, got.s,
			 want);
}

static int read_head(struct checkpoint *cp, const struct gguf *g, struct core_error *err)
{
	int rc = expect_text(g, "general.type", "adapter", err);

	if (rc == 0)
		rc = expect_text(g, "general.architecture", "llama", err);
	if (rc == 0)
		rc = expect_text(g, "adapter.type", "lora", err);
	if (rc == 0)
		rc = gguf_float(g, "adapter.lora.alpha", true, &cp->alpha, err);
	if (rc < 0)
		return rc;
	if (!isfinite(cp->alpha))
		return core_fail(err, CORE_EFORMAT, "%s: adapter.lora.alpha: expected a number", g->path);
	if (gguf_find(g, "adapter.alora.invocation_tokens") != NULL)
		return core_fail(err, CORE_EUNSUPPORTED,
				 "%s: adapter.alora.invocation_tokens: an adapter that is switched on in mid-sequence is not "
				 "computed",
				 g->path);
	return 0;
}

/* "blk.0.attn_q.weight.lora_b" to "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight". A weight without such a tail
 * keeps its name: the pairing knows whether it may be there. */
static bool peft_name(struct gguf_text name, char *out, size_t room, char *permuted)
{
	char base[96];
	size_t stem = name.len > 7 ? name.len - 7 : 0;
	bool a = stem != 0 && memcmp(name.s + stem, ".lora_a", 7) == 0, b = stem != 0 && memcmp(name.s + stem, ".lora_b", 7) == 0;

	if (a || b)
		name.len = stem;
	if (!gguf_hf_name(name, base, sizeof base, permuted))
		return false;
	if (!a && !b) {
		snprintf(out, room, "base_model.model.%s", base);
		return true;
	}
	base[strlen(base) - strlen(".weight")] = '\0';
	snprintf(out, room, "base_model.model.%s.lora_%s%s", base, strcmp(base, "model.embed_tokens") == 0 ? "embedding_" : "",
		 strcmp(base, "model.embed_tokens") == 0 ? (a ? "A" : "B") : (a ? "A.weight" : "B.weight"));
	if (a)
		*permuted = 0; /* only the rows of B stand in the order of the base's */
	return true;
}

static int add_tensor(struct checkpoint *cp, const struct gguf *g, const struct gguf_tensor *from, struct core_error *err)
{
	char name[160], permuted = 0;
	struct tensor t = {.name = name};
	int rc;

	if (!peft_name(from->name, name, sizeof name, &permuted))
		return core_fail(err, CORE_EUNSUPPORTED, "%s: tensor %.*s is not a part of a Llama's LoRA", g->path,
				 (int)from->name.len, from->name.s);
	rc = gguf_locate(g, from, &t, err);
	if (rc < 0)
		return rc;
	if (t.type != TENSOR_F32 && t.type != TENSOR_F16 && t.type != TENSOR_BF16 && t.type != TENSOR_Q8_0)
		return core_fail(err, CORE_EUNSUPPORTED,
				 "%s: tensor %.*s is %s: an adapter's factors are read as F32, F16, BF16 and Q8_0", g->path,
				 (int)from->name.len, from->name.s, tensor_type_name(t.type));
	if (t.n_dims == 1 && strstr(name, ".lora_A") != NULL) { /* some writers drop a rank of 1 */
		t.n_dims = 2;
		t.dims[1] = t.dims[0];
		t.dims[0] = 1;
	}
	if (permuted != 0)
		t.permuted_heads = permuted == 'q' ? cp->config.heads : cp->config.kv_heads;
	return checkpoint_add(cp, &t, g->path, err);
}

int gguf_lora_read(struct checkpoint *cp, const struct map *m, const char *path, struct core_error *err)
{
	struct gguf g;
	int rc;

	if (!gguf_probe(m))
		return core_fail(err, CORE_EFORMAT, "%s: expected a PEFT folder or a GGUF file", path);
	rc = gguf_parse(&g, m, path, err);
	if (rc < 0)
		return rc;
	rc = read_head(cp, &g, err);
	for (size_t i = 0; i < g.n_tensors && rc == 0; i++)
		rc = add_tensor(cp, &g, &g.tensors[i], err);
	gguf_finish(&g);
	cp->gguf = true;
	return rc;
}
