/* model.h: checkpoints of TinyLlama-1.1B's shape for the benchmarks. Their weights are random: what they are does not matter to the
 * time that they take. What fails is told on stderr, and the program ends. */
#ifndef WEFT_BENCH_MODEL_H
#define WEFT_BENCH_MODEL_H

#include "kernels/core.h"

enum { LAYERS = 22, DIM = 2048, FFN = 5632, HEADS = 32, KV_HEADS = 4, HEAD = 64, VOCAB = 32000, CONTEXT = 4608 };
enum { RANK = 16 }; /* of adapters */

/* What a benchmark runs: a file, and what becomes of it at load. */
struct weights {
	const char *name; /* "bf16" "q8" "q4" "nf4", or the file's type where it is run as it is */
	const char *type; /* of the file */
	enum core_quant quant;
	enum core_factors factors; /* of adapters; AUTO in the list */
};
extern const struct weights weights_known[];           /* ends with a NULL name */
const struct weights *weights_named(const char *name); /* NULL: unknown */

/* FOLDER/TYPE.gguf, malloc'ed; with a vocabulary, so that weftd can serve it. type: "BF16", or what llama.cpp's quantiser makes of
 * it, mix and all: "Q8_0", "Q4_0", "Q4_K_M". A file that is there is taken as it is; a new one takes its name when it is whole. */
char *model_need(const char *folder, const char *type);

/* A PEFT folder for that model: all linears, rank RANK. */
void model_make_adapter(const char *folder, uint32_t salt);
void model_remove_adapter(const char *folder);

#endif
