/* fuzz_adapter.c: a LoRA adapter for a tiny Llama: a GGUF file, or adapter_config.json, a zero byte and a .safetensors file. */
#include "fuzz.h"
#include "kernels/format/gguf.h"
#include "kernels/format/peft.h"

static int read_peft(struct lora_file *f, const struct llama_config *c, const uint8_t *data, size_t size, struct core_error *err)
{
	const uint8_t *zero = memchr(data, 0, size);
	size_t text = zero != NULL ? (size_t)(zero - data) : size;
	struct map m = {.data = data + text + 1, .size = zero != NULL ? size - text - 1 : 0};
	struct peft_rules *rules = NULL;
	int rc = peft_rules_new(&rules, (const char *)data, text, "fuzz.json", err);

	if (rc == 0)
		rc = safetensors_read(f->tensors, &m, "fuzz.safetensors", err);
	if (rc == 0)
		rc = lora_pair_up(f, c, rules, "fuzz", err);
	peft_rules_free(rules);
	return rc;
}

/* What the core relies on. */
static void check_pairs(const struct lora_file *f)
{
	float row[64];

	for (size_t i = 0; i < f->n_pairs; i++) {
		const struct lora_pair *p = &f->pairs[i];
		if (p->rank < 1 || p->rank > LORA_RANK_MAX || p->b->dims[1] != p->rank || p->kind >= LORA_KINDS || p->layer > 1)
			abort();
		for (uint64_t r = 0; p->rank <= 64 && r < p->b->dims[0]; r++)
			tensor_row_f32(p->b, r, row);
		if (p->a->dims[1] <= 64)
			tensor_row_f32(p->a, p->a->dims[0] - 1, row);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct llama_config c = {
		.layers = 2, .dim = 8, .ffn_dim = 12, .heads = 2, .kv_heads = 1, .head_dim = 4, .vocab = 9};
	struct map m = {.data = data, .size = size};
	struct lora_file f = {.tensors = calloc(1, sizeof *f.tensors)};
	struct core_error err = {0};
	int rc;

	f.tensors->adapter = true;
	f.tensors->config = c;
	if (gguf_probe(&m)) {
		rc = gguf_lora_read(f.tensors, &m, "fuzz.gguf", &err);
		if (rc == 0)
			rc = lora_pair_up(&f, &c, NULL, "fuzz.gguf", &err);
	} else {
		rc = read_peft(&f, &c, data, size, &err);
	}
	fuzz_check(rc, &err);
	if (rc == 0)
		check_pairs(&f);
	lora_close(&f);
	return 0;
}
