/* backend.h: the seam between the core and a module that computes in its place on a device (weft-cuda.so).
 *
 * The core keeps models, sequences, page numbers, adapters and blends; the module keeps copies of the weights, the contents
 * of the pages and the workspace. They are built from the same sources: the module says BACKEND_ABI and the package's version,
 * and the core takes
 * no other. C11 and C++ clean; everything handed over is borrowed for the call, unless it says otherwise. One thread at a
 * time calls in. */
#ifndef WEFT_BACKEND_H
#define WEFT_BACKEND_H

#include "core.h"
#include "ops/matrix.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { BACKEND_ABI = 6, BACKEND_INPUTS = 4 };
#define BACKEND_SYMBOL "weft_backend"

/* ---- the model; borrowed for the life of the module's instance ---- */

struct backend_weights {
	const struct matrix *w;
	size_t bytes; /* from w->codes on: codes, scales and all */
};

struct backend_layer {
	const float *attn_norm, *ffn_norm;
	struct backend_weights linear[CORE_LINEARS];
};

struct backend_model {
	uint32_t layers, dim, ffn_dim, heads, kv_heads, head_dim;
	uint32_t ranks; /* over 1: heads, kv_heads and ffn_dim are one rank's, and delta a part of a sum */
	float norm_eps;
	double magnitude;        /* of the rotation's sines and cosines */
	const double *frequency; /* [head_dim / 2] */
	const struct backend_layer *layer;
	const float *norm;
	struct backend_weights embed, head; /* may be the same codes: tied */
};

struct backend_params {
	int device;
	const struct backend_model *model;
	uint32_t kv_pages, max_rows, max_context;
	bool int8_kv; /* keys and values in 8 bits; else f16 */
	uint32_t rank;
	struct core_reduce reduce; /* of a part of a model: adds delta up over the ranks; its group and nccl are borrowed for open() */
};

/* ---- blends ---- */

struct backend_adapter_layer {
	const struct matrix *a[BACKEND_INPUTS]; /* NULL: nothing reads this input */
	struct {
		uint32_t rank, at;
		const struct matrix *b;
		const float *gain; /* [16 * b->blocks] or NULL */
	} linear[CORE_LINEARS];
};

struct backend_part {
	const unsigned char *digest; /* [32] of the adapter */
	const unsigned char *arena;  /* [arena_bytes] where its matrices, gains and embed_a lie */
	size_t arena_bytes;
	const struct backend_adapter_layer *layers;
	const float *factor; /* [layers][CORE_LINEARS] */
	uint32_t at;         /* of its h in a row, a multiple of 16 */
	uint32_t embed_rank; /* 0: the embedding is as in the base */
	float embed_factor;
	const float *embed_a; /* [vocab][embed_rank] */
	const struct matrix *embed_b;
};

struct backend_blend {
	const unsigned char *digest; /* [32] */
	uint32_t width, n;
	const struct backend_part *parts;
};

/* ---- one pass ---- */

struct backend_seq {
	const uint32_t *pages;
	uint32_t n_pages;
	void *blend; /* what acquire() gave; NULL: the base alone */
};

struct backend_row {
	int32_t token;
	uint32_t position, seq;
	bool generated;
};

struct backend_pass {
	const struct backend_row *rows; /* sequence by sequence, positions ascending; sequences of one blend are neighbours */
	uint32_t n;
	const struct backend_seq *seqs;
	uint32_t n_seqs;
	const uint32_t *wanted; /* rows whose logits are wanted, in the order in which they are handed back */
	uint32_t n_wanted;
	const struct core_draw *draws; /* [n_wanted] or NULL; a temperature below 0: logits; in all no more than CORE_PASS_EDITS edits */
	const uint32_t (*copies)[2]; /* pages {from, to} to copy before anything is written */
	uint32_t n_copies;
};

struct backend {
	uint32_t size, abi;
	const char *version;
	/* Copies the weights. CORE_ENOMEM, with the plan in err, when they and the rest do not fit. */
	int (*open)(void **self, const struct backend_params *p, struct core_error *err);
	void (*close)(void *self);
	const char *(*describe)(void *self); /* device and memory plan, one line; borrowed */
	/* The blend's adapters on the device, counted; adapters that nobody holds make room when it is short. Their bytes arrive beside passes:
	 * the arenas are borrowed until ready() says so or release() returns. */
	int (*acquire)(void *self, void **blend, const struct backend_blend *b, struct core_error *err);
	void (*release)(void *self, void *blend);
	/* Whether a pass with this blend begins at once. With wait: true, behind the copying. A pass with a blend that is not ready waits. */
	bool (*ready)(void *self, void *blend, bool wait);
	/* (*logits)[i * ld]: of wanted[i]; valid until the next call. *drawn: NULL, or (*drawn)[i]: what was drawn in their place; its token is -1
	 * where the logits are there. */
	int (*forward)(void *self, const struct backend_pass *pass, const float **logits, size_t *ld, const struct core_drawn **drawn,
		       struct core_error *err);
};

const struct backend *weft_backend(void); /* what the module exports */

#ifdef __cplusplus
}
#endif
#endif
