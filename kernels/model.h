/* model.h: a checkpoint in memory. Immutable once core_model_load() returned. */
#ifndef WEFT_MODEL_H
#define WEFT_MODEL_H

#include "format/checkpoint.h"
#include "ops/matrix.h"
#include "ops/rope.h"

struct layer {
	float *attn_norm, *ffn_norm;		/* [dim] */
	struct matrix q, k, v, o, gate, up, down;
};

struct core_model {
	struct core_model_info info;
	struct llama_config config;		/* of this rank's part; rope_freqs is NULL: rope holds what it meant */
	struct llama_config whole;		/* of all ranks together: what files are held against */
	uint32_t rank, ranks;			/* 0 of 1: the model is whole */
	struct rope *rope;
	struct layer *layers;
	float *norm;				/* [dim] */
	struct matrix embed, head;		/* may be the same memory: tied, and kept as the file has it */
	bool small_factors;			/* adapters are loaded as PACK_FACTOR */
	bool f32;				/* most weights of the linears are f32 */
	uint32_t groups;			/* bit mask of the group sizes of linears in integers: 16, 32, 64, 128 */
	unsigned char *arena;			/* all packed matrices; read-only once they are there */
	size_t arena_bytes;
	enum core_cache cache;			/* CORE_CACHE_MAPPED: the arena is packed_map()'s */
	char *cache_note;
	int cache_lock;				/* a descriptor while the cache's file is in use: MAPPED, WRITTEN */
	float *norms;				/* all 1-d weights */
	struct core_tokenizer *tokenizer;	/* NULL: the folder has none */
};

#endif
