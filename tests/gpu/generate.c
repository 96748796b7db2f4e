/* generate.c: MODEL OUT: 24 sequences of the model on the GPU, side by side, each 48 of its most likely tokens from a prompt
 * of its own;
 * writes tokens and the bytes of all logits' digests, to be compared with another run. A second engine does the same one by one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/core.h"

enum { SEQUENCES = 24, PROMPT = 9, ANSWER = 48 };

static struct core_error why;

static void must(int rc, const char *what)
{
	if (rc == CORE_OK)
		return;
	fprintf(stderr, "%s: %s\n", what, why.text);
	exit(1);
}

static int32_t best(const float *logits, uint32_t vocab)
{
	uint32_t top = 0;

	for (uint32_t k = 1; k < vocab; k++)
		if (logits[k] > logits[top])
			top = k;
	return (int32_t)top;
}

/* FNV-1a */
static uint64_t digest(uint64_t h, const void *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		h = (h ^ ((const unsigned char *)p)[i]) * 0x100000001b3u;
	return h;
}

struct story {
	int32_t token[PROMPT + ANSWER];
	uint64_t h;
};

/* Sequences first .. first + n - 1 together. */
static void tell(const struct core_model *m, struct story *t, uint32_t first, uint32_t n)
{
	struct core_ctx_params p = {
		.model = m, .kv_pages = 256, .max_rows = 256, .device = "cuda:0", .module = getenv("WEFT_CUDA_MODULE")};
	uint32_t vocab = core_model_info(m)->vocab;
	struct core_ctx *c = NULL;
	struct core_seq *s[SEQUENCES];
	struct core_row rows[256];

	must(core_ctx_new(&c, &p, &why), "opening the device");
	for (uint32_t i = 0; i < n; i++) {
		s[i] = core_seq_new(c);
		for (uint32_t k = 0; k < PROMPT; k++)
			rows[i * PROMPT + k] = (struct core_row){s[i], (int32_t)((first + i) * 71 + k * 131) % (int32_t)vocab,
								 CORE_PROMPT, k + 1 == PROMPT};
	}
	for (uint32_t at = PROMPT, count = n * PROMPT; at < PROMPT + ANSWER; at++, count = n) {
		must(core_forward(c, rows, count, &why), "a pass");
		for (uint32_t i = 0; i < n; i++) {
			const float *logits = core_logits(c, i);

			t[first + i].h = digest(t[first + i].h, logits, vocab * sizeof(float));
			t[first + i].token[at] = best(logits, vocab);
			rows[i] = (struct core_row){s[i], t[first + i].token[at], CORE_GENERATED, true};
		}
	}
	for (uint32_t i = 0; i < n; i++)
		core_seq_free(c, s[i]);
	core_ctx_free(c);
}

int main(int argc, char **argv)
{
	static struct story together[SEQUENCES], alone[SEQUENCES];
	struct core_model_params p = {.path = argc > 1 ? argv[1] : "", .quant = CORE_QUANT_Q8};
	struct core_model *m = NULL;
	FILE *f;

	if (argc != 3) {
		fprintf(stderr, "usage: generate MODEL OUT\n");
		return 64;
	}
	must(core_model_load(&m, &p, &why), "loading");
	tell(m, together, 0, SEQUENCES);
	for (uint32_t i = 0; i < SEQUENCES; i++)
		tell(m, alone, i, 1);
	if (memcmp(together, alone, sizeof(alone))) {
		fprintf(stderr, "a sequence alone is not what it was among neighbours\n");
		return 1;
	}
	f = fopen(argv[2], "wb");
	if (!f || fwrite(together, sizeof(together), 1, f) != 1 || fclose(f)) {
		perror(argv[2]);
		return 1;
	}
	core_model_free(m);
	return 0;
}
