/* peft.h: a LoRA adapter on disk, as pairs of factors, whatever the container.
 *
 * Containers: a PEFT folder (adapter_config.json with adapter_model.safetensors or adapter_model.bin) or one GGUF LoRA file. The
 * tensors say what the adapter changes; the config gives the scales, and must agree with the tensors where both speak.
 * What would make another model than these pairs do is refused, with the key or tensor that says so. */
#ifndef WEFT_FORMAT_PEFT_H
#define WEFT_FORMAT_PEFT_H

#include "checkpoint.h"

enum { LORA_EMBED = CORE_LINEARS, LORA_KINDS }; /* kinds: enum core_linear, then the input embedding */
enum { LORA_RANK_MAX = 1024 };

/* y += scale * B (A x). The tensors belong to the file. */
struct lora_pair {
	uint32_t layer; /* 0 for the embedding */
	unsigned kind;
	uint32_t rank;
	float scale;                    /* alpha / rank, or alpha / sqrt(rank) */
	const struct tensor *a;         /* [rank][in]; the embedding's: [rank][vocab], or [vocab][rank] when by_token */
	const struct tensor *b;         /* [out][rank] */
	const struct tensor *magnitude; /* [out]: DoRA; else NULL */
	bool by_token;
};

/* A whole weight in the file: PEFT saves copies of what it did not train. Right only if it is the base's own. */
enum lora_copy_kind { LORA_COPY_EMBED, LORA_COPY_HEAD, LORA_COPY_NORM, LORA_COPY_ATTN_NORM, LORA_COPY_FFN_NORM };
struct lora_copy {
	enum lora_copy_kind kind;
	uint32_t layer;
	const struct tensor *t; /* of the shape that the model has */
};

struct lora_file {
	struct checkpoint *tensors; /* owns maps and names */
	struct lora_pair *pairs;    /* by layer, then kind; the embedding last */
	size_t n_pairs;
	struct lora_copy *copies;
	size_t n_copies;
	bool dora;
};

/* *f is made anew; on failure nothing is left to close. `model` is only read during the call. */
int lora_open(struct lora_file *f, const char *path, const struct llama_config *model, struct core_error *err);
void lora_close(struct lora_file *f);

/* ---- the steps of lora_open ---- */

struct peft_rules;
/* adapter_config.json's text; the caller frees *out. */
int peft_rules_new(struct peft_rules **out, const char *json, size_t len, const char *where, struct core_error *err);
void peft_rules_free(struct peft_rules *r);
bool peft_rules_dora(const struct peft_rules *r);
bool peft_rules_tie(const struct peft_rules *r); /* ensure_weight_tying */
enum peft_target { PEFT_TARGET_NO, PEFT_TARGET_YES, PEFT_TARGET_UNKNOWN };
/* Does the config say that it changes this module ("model.layers.0.self_attn.q_proj")? Unknown: only a Python regex could tell. */
enum peft_target peft_rules_target(const struct peft_rules *r, const char *module, int64_t layer); /* layer -1: none */
/* The scale of a module whose tensors have that rank; fails when the config means another rank. */
int peft_rules_scale(const struct peft_rules *r, const char *module, uint32_t rank, float *scale, struct core_error *err);

struct map;
/* A checkpoint_reader: the tensors of a GGUF LoRA, under PEFT's names; alpha goes to the checkpoint. */
int gguf_lora_read(struct checkpoint *cp, const struct map *m, const char *path, struct core_error *err);
/* The tensors that are there, as pairs. rules NULL: a GGUF adapter. */
int lora_pair_up(struct lora_file *f, const struct llama_config *model, const struct peft_rules *rules, const char *where,
		 struct core_error *err);

#endif
