/* ops.h: the operators of the CUDA core: what each launcher computes, on which shapes. The formulas are those of
 * kernels/ops/NAME.h;
 * orders of summation that differ from the CPU's are said here.
 *
 * Pointers are to device memory; f32 rows have a stride ld of a multiple of 16 elements. Launchers only put work on the
 * stream and return cudaSuccess or what the launch said. Promise P1: every order below depends on shapes of weights and on a
 * row's own position, never
 * on m, on neighbours or on the launch's tiling. */
#ifndef WEFT_CUDA_OPS_H
#define WEFT_CUDA_OPS_H

#include <stdbool.h>

#include "gpu.h"

/* ---- weights ---- */

/* How a matrix meets the tensor cores; the bytes lie as in ops/matrix.h, whose 64-byte word (16 rows of 4 bytes along k) is
 * also what a warp's fragment is made of: a lane's 16-byte load holds 4 rows of one word. f16 is paired at load, as bf16 is. */
enum form { FORM_I4, FORM_I8, FORM_F16, FORM_BF16, FORM_F32, FORM_NF4 };

struct dmatrix {
	const unsigned char *codes;          /* [blocks][block_bytes] */
	const uint16_t *scales, *mins;       /* f16; mins NULL: none */
	const int8_t *sub_scales, *sub_mins; /* NULL: one level */
	const float *absmax;                 /* NF4, as the host has it */
	uint64_t block_bytes;
	uint32_t rows, cols, blocks;
	uint32_t group, groups; /* integers and NF4; else 0 */
	uint32_t block_scales;  /* f16 scales of a block */
	int32_t zero;
	enum form form;
};

/* Activations as a matrix wants them. Rows beyond m may hold anything. */
struct dform {
	enum form form;   /* FORM_I8 serves both integer forms, FORM_F16 NF4, too; FORM_F32: the f32 rows themselves, nothing here */
	uint32_t group;   /* of the integers */
	unsigned char *x; /* [m][ldx] bytes, zeros from the row's end to ldx */
	uint32_t ldx;     /* a multiple of 64 */
	float *scale;     /* integers: [groups][ldm]; f16: [m], a power of two */
	int32_t *sum;     /* integers: [groups][ldm] */
	uint32_t ldm;     /* a multiple of 8 */
};

/* Slices of K: fixed by the matrix alone. A product is a chain per slice, and the slices are added up in order. */
enum { SLICES = 8 };
static inline uint32_t matmul_steps(const struct dmatrix *w) /* of 32 bytes of an activation row; NF4: of 32 elements */
{
	uint32_t bytes = w->group ? w->groups * w->group : 2 * w->cols;

	return (bytes + 31) / 32;
}

/* out[i][r] = sum over k of w[r][k] x[i][k], i < m, r < 16 blocks; n matrices of one form, group and width that read the same x.
 * Integers: the groups of a slice in order, as ops/matmul.h says; f16 and bf16: mma steps of 16 k in order; f32: see matmul_f32; NF4: codes
 * as f16 times rows as f16, four mma steps a group, then the groups of a slice in order, each times its absmax. */
enum { MATMUL_MAX = 3 };
struct matmul_args {
	struct dmatrix w[MATMUL_MAX];
	float *out[MATMUL_MAX];
	uint32_t ldo[MATMUL_MAX];
	uint32_t n, m;
	struct dform x;
	const float *f; /* f32 rows, for FORM_F32 */
	uint32_t ldf;
};
cudaError_t matmul_cuda(const struct matmul_args *a, cudaStream_t s);

/* ---- rows ---- */

/* What a row becomes beside its f32 values. */
enum { FORMS_MAX = 3 };
struct dforms {
	struct dform form[FORMS_MAX];
	uint32_t n;
};

/* ops/quantize.h, the same bits; f16: row scaled by a power of two when it exceeds 2^15. x[m][ld] of n. */
cudaError_t prepare_cuda(const struct dforms *to, const float *x, uint32_t ld, uint32_t m, uint32_t n, cudaStream_t s);

/* x += delta (when not NULL), h = rmsnorm(x) * weight, h's forms. rows NULL: row i of x gives row i of h; else row rows[i],
 * and x stays.
 * Sum of squares: 512 chains of 4 neighbouring elements, then a tree. weight[n] padded to 16. */
struct norm_args {
	float *h, *x;
	const float *delta, *weight;
	const uint32_t *rows;
	uint32_t ld, m, n;
	float eps;
	struct dforms to;
};
cudaError_t rmsnorm_cuda(const struct norm_args *a, cudaStream_t s);

/* gate = silu(gate) * up, and its forms. e^x to about 2 ulp. */
cudaError_t swiglu_cuda(const struct dforms *to, float *gate, const float *up, uint32_t ld, uint32_t m, uint32_t n, cudaStream_t s);

/* x[i][dim] = row token[i] of the embedding. */
cudaError_t embed_cuda(float *x, uint32_t ld, const struct dmatrix *w, const int32_t *token, uint32_t m, cudaStream_t s);

/* ---- drawing ---- */

/* core.h's struct core_draw for each row of logits[m][ld] of n; a temperature below 0: nothing is drawn from that row. Edits lie on the device,
 * and so do the likeliest tokens: tops[m][CORE_TOP], to which out's own pointers do not point. scaled[DRAW_ROWS][ld] is room. out: token -1
 * where nothing was drawn: then the host draws. */
enum { DRAW_ROWS = 64 };
struct draw_args {
	const float *logits;
	uint32_t ld, n, m;
	const struct core_draw *draw;
	struct core_drawn *out;
	struct core_top *tops;
	float *scaled;
};
cudaError_t draw_cuda(const struct draw_args *a, cudaStream_t s);

/* ---- KV and attention ---- */

/* Pages of 16 tokens, in the order of the fragments: per page [layer][kv head] { K, V }, each [pad * 16] f16; or int8:
 * { K, V, scales of K, scales of V }, each [pad * 16] bytes, then f32 [16]: the values of ops/attention_words.h. pad = head_dim rounded up to 32,
 * zeros there. kv_k_at and kv_v_at say which element is where. */
enum { KV_PAGE = 16 };
struct dkv {
	unsigned char *pool;        /* [pages][page] */
	uint64_t page, layer, head; /* strides, in bytes; multiples of 128 */
	uint32_t heads, kv_heads, head_dim, pad;
	bool int8;
};

static inline uint64_t kv_head_bytes(uint32_t pad, bool int8)
{
	return int8 ? (pad * 2 + 2 * sizeof(float)) * KV_PAGE : pad * 4 * KV_PAGE;
}

/* Keys of a page are columns of two mma: of two neighbours one, of the next two the other one. Lane q of four has tokens 4q .. 4q + 3. */
DEVICE uint32_t kv_column(uint32_t token)
{
	return token / 4 * 2 + token % 2;
}

DEVICE uint32_t kv_k_at(uint32_t token, uint32_t dim)
{
	return (((dim / 32 * 2 + token / 2 % 2) * 8 + kv_column(token)) * 4 + dim % 32 / 8) * 8 + dim % 8;
}

DEVICE uint32_t kv_v_at(uint32_t token, uint32_t dim)
{
	return (((dim / 16 * 8 + dim % 8) * 4 + token / 4) * 2 + dim % 16 / 8) * 4 + token % 4;
}

DEVICE uint32_t kv_k8_at(uint32_t token, uint32_t dim)
{
	return (((dim / 32 * 8 + kv_column(token)) * 4 + dim % 32 / 8) * 2 + token / 2 % 2) * 8 + dim % 8;
}

DEVICE uint32_t kv_v8_at(uint32_t token, uint32_t dim)
{
	return (((dim / 32 * 8 + dim % 8) * 4 + token / 4) * 4 + dim % 32 / 8) * 4 + token % 4;
}

/* A row of the pass; -1 in slot: a row that fills up a bucket, computed and thrown away. */
struct drow {
	uint32_t position;
	int32_t slot;   /* page that takes this row's k and v */
	uint32_t pages; /* where its sequence's pages begin in the list of pages */
};

/* Rotates q and k (angles[position]: cos [half], sin [half]) and files k and v. q[m][ldq], k, v [m][ldk]. */
struct rope_args {
	float *q;
	const float *k, *v, *angles;
	uint32_t ldq, ldk, m, layer;
	const struct drow *rows;
	struct dkv kv;
};
cudaError_t rope_store_cuda(const struct rope_args *a, cudaStream_t s);

/* ops/attention.h with q and p in f16, sums in f32; int8: ops/attention_words.h, its integers. Two paths (P1 allows one for prompts and one for generated tokens):
 * generated: keys in splits of ATTENTION_SPLIT, four warps with a quarter of a split each, blocks of 64 keys; warps, then
 *            splits, meet
 * in order. prompt: blocks of 64 keys, one after the other. */
enum { ATTENTION_SPLIT = 512, ATTENTION_KEYS = 64, ATTENTION_GROUP_MAX = 16 };

struct dtile {           /* neighbouring prompt rows of one sequence */
	uint32_t row, n; /* rows row .. row + n - 1 of the pass, of ascending positions */
};

struct attention_args {
	float *out; /* [m][ld] */
	const float *q;
	uint32_t ld, layer;
	const struct drow *rows;
	const uint32_t *pages;
	struct dkv kv;
	float scale; /* 1 / sqrt(head_dim) */
	/* generated */
	const uint32_t *decode;    /* [n_decode] rows */
	uint32_t n_decode, splits; /* splits: at least those of the longest */
	float *partial;            /* [n_decode][kv_heads][splits][heads / kv_heads][pad + 2] */
	/* prompt */
	const struct dtile *tiles;
	uint32_t n_tiles;
};
/* Prompt rows that one tile takes. */
static inline uint32_t attention_tile_rows(uint32_t heads, uint32_t kv_heads)
{
	return 64 / (heads / kv_heads);
}
cudaError_t attention_cuda(const struct attention_args *a, cudaStream_t s);

/* ---- adapters ---- */

enum { LORA_ROWS = 8, LORA_SPLIT = 512, LORA_LINEARS = 7, LORA_INPUTS = 4 };

/* As the host has it: f32, f16 [block][k][16]; bf16 [block][k / 2][16][2]; FORM_I8 here are the host's PACK_S8: signed bytes [block][k][16],
 * times a bf16 scale [block][k / group][16]. */
struct dfactor {
	const unsigned char *values; /* NULL: none */
	const uint16_t *scales;
	uint32_t k, blocks; /* k: with its padding */
	uint32_t group;
	enum form form;
};

struct dlora_layer {
	struct dfactor a[LORA_INPUTS];
	struct dfactor b[LORA_LINEARS];
	const float *gain[LORA_LINEARS]; /* DoRA, or NULL */
	uint32_t rank[LORA_LINEARS], at[LORA_LINEARS];
};

struct dpart { /* an adapter in a blend */
	const struct dlora_layer *layers;
	const float *factor; /* [layers][LORA_LINEARS] */
	uint32_t at;         /* of its h in a row */
};

struct dlora_item { /* up to LORA_ROWS rows of one blend */
	uint32_t row, m, part, parts;
};
struct dlora_piece { /* one part of an item */
	uint32_t item, part;
};

/* y += factor B (A x), part after part. h = A x: K in splits of LORA_SPLIT, each in 16 chains that meet in order; the splits
 * meet in order. */
struct lora_args {
	const struct dlora_item *items;
	const struct dlora_piece *pieces;
	const struct dpart *parts;
	uint32_t n_items, n_pieces, a_blocks;  /* a_blocks: of the widest stacked A */
	uint32_t layer, input, first, linears; /* linears first .. first + linears - 1 read this input */
	const float *x;
	uint32_t ldx, k;
	float *h; /* [splits][max_rows][ldh] */
	uint32_t ldh, max_rows;
	float *out[MATMUL_MAX];
	uint32_t ldo[MATMUL_MAX], rows[MATMUL_MAX];
};
cudaError_t lora_cuda(const struct lora_args *a, cudaStream_t s);

/* x[row] += factor B a[token], part after part, for adapters on the embedding. */
struct dembed {
	const float *a; /* [vocab][rank]; NULL: none */
	struct dfactor b;
	uint32_t rank;
	float factor;
};
struct lora_embed_args {
	const struct dlora_item *items;
	const struct dembed *embeds; /* [parts] */
	const int32_t *token;
	uint32_t n_items, n; /* n: dim */
	float *x;
	uint32_t ldx;
};
cudaError_t lora_embed_cuda(const struct lora_embed_args *a, cudaStream_t s);

#endif
