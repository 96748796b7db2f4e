/* core.h: one instance of the module: a model on one device, its pages, its workspace, the adapters that are resident. */
#ifndef WEFT_CUDA_CORE_H
#define WEFT_CUDA_CORE_H

#include <vector>

#include "kernels/backend.h"
#include "ranks.h"
#include "weights.h"

struct cuda_layer {
	struct dmatrix linear[CORE_LINEARS];
	float *attn_norm, *ffn_norm;
};

/* Arrays that a pass reads. They lie at the same places in a pinned buffer and on the device, so that graphs find them. */
struct pass_arrays {
	int32_t *token;            /* [max_rows] */
	struct drow *rows;         /* [max_rows] */
	uint32_t *decode, *wanted; /* [max_rows] */
	struct dtile *tiles;       /* [max_rows] */
	struct core_draw *draws;   /* [max_rows] */
	struct dlora_item *items;  /* [max_rows + 1]: behind the last one stands one of no rows, for pieces that fill up */
	/* up to here in one copy; the rest as far as it is used */
	struct dlora_piece *pieces; /* [max_rows * CORE_BLEND_MAX] */
	struct dpart *parts;        /* [max_rows * CORE_BLEND_MAX] */
	struct dembed *embeds;      /* [max_rows * CORE_BLEND_MAX] */
	uint32_t *pages;            /* [max_rows * max_pages] */
	struct core_edit *edits;    /* [CORE_PASS_EDITS] */
};

/* What launches depend on. For a graph it is rounded up. */
struct pass_shape {
	uint32_t m, n_wanted, n_decode, splits, n_tiles, n_items, n_pieces;
	bool embeds, draws, tops; /* tops is no matter of launches */
};

struct pass_graph {
	struct pass_shape shape;
	cudaGraphExec_t exec;
};

struct cuda_adapter {
	unsigned char digest[32];
	uint32_t uses;         /* blends */
	unsigned char *memory; /* the host's arena, then the table of layers */
	const unsigned char *arena;
	size_t at, arena_bytes; /* at: so many bytes are on their way or there; at the end, arena is NULL */
	const struct dlora_layer *layers;
	struct dembed embed;
};

struct cuda_blend {
	unsigned char digest[32];
	uint32_t uses, n;
	struct cuda_adapter *adapter[CORE_BLEND_MAX];
	struct dpart part[CORE_BLEND_MAX];
	struct dembed embed[CORE_BLEND_MAX];
	float *factors; /* on the device: [n][layers][CORE_LINEARS] */
	bool embeds, joined; /* joined: passes wait for its copies */
};

enum { FORM_KEYS = 6 }; /* int8 in groups of 16, 32, 64, 128; f16; bf16 */

struct cuda_core {
	int device;
	char text[400];
	uint32_t layers, dim, ffn, heads, kv_heads, head_dim, vocab, max_rows, max_context, max_pages;
	float eps;
	cudaStream_t stream;
	struct uploader uploads; /* while the model is loaded */
	std::vector<void *> memory; /* what close() frees */

	/* weights */
	struct cuda_layer *layer;
	struct dmatrix embed, head;
	float *norm;

	/* workspace: f32 rows [max_rows][ld] */
	float *x, *h, *delta, *q, *a, *k, *v, *gate, *up, *logits, *angles, *partial, *lora;
	uint32_t ld_dim, ld_q, ld_kv, ld_ffn, ld_vocab, ld_lora;
	uint64_t partial_floats;
	struct dform form[FORM_KEYS]; /* x NULL: no matrix asks for it */
	struct dkv kv;
	struct cuda_ranks ranks;

	/* one pass */
	struct pass_arrays host, dev;
	unsigned char *host_arrays, *dev_arrays;
	size_t head_bytes;  /* of the arrays that go in one copy */
	float *host_logits; /* pinned, as the next one */
	struct core_drawn *drawn, *host_drawn;
	struct core_top *tops, *host_tops; /* [max_rows][CORE_TOP] */
	float *scaled; /* [DRAW_ROWS][ld_vocab] */

	std::vector<struct cuda_adapter *> adapters, loading; /* loading: of those, whose arenas are not yet read, oldest first */
	std::vector<struct cuda_blend *> blends;
	cudaStream_t copies; /* adapters, beside passes */
	struct uploader loads;
	cudaEvent_t loaded;
	uint32_t a_blocks[BACKEND_INPUTS]; /* widest stacked A of those */
	std::vector<struct pass_graph> graphs;
	bool no_graphs; /* ranks add up on the host */
};

int cuda_fail(struct core_error *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int cuda_fail_with(struct core_error *err, const struct cuda_core *c, cudaError_t rc, const char *what);

/* adapters.cu */
int adapters_acquire(struct cuda_core *c, void **blend, const struct backend_blend *b, struct core_error *err);
void adapters_release(struct cuda_core *c, struct cuda_blend *b);
bool adapters_ready(struct cuda_core *c, struct cuda_blend *b, bool wait);
/* Passes on the stream from now on wait for b's adapters; what the host still has of them is sent first. NULL is fine. */
cudaError_t adapters_join(struct cuda_core *c, struct cuda_blend *b);
/* While the stream is busy, at least once: a piece of an adapter that is loading. */
cudaError_t adapters_beside(struct cuda_core *c);
void adapters_finish(struct cuda_core *c);

/* pass.cu */
int pass_forward(struct cuda_core *c, const struct backend_pass *p, const float **logits, size_t *ld, const struct core_drawn **drawn,
		 struct core_error *err);
void pass_forget_graphs(struct cuda_core *c);

#endif
