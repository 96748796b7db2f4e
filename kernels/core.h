/* core.h: the Llama core. The only header of kernels/ that the rest of weft includes.
 *
 * A core_model is a checkpoint in memory (weights, vocabulary, shape): immutable after loading, readable from any thread.
 * A core_ctx is one engine on that model (KV pages, workspace, worker threads): one thread at a time may call it.
 * A core_seq is one token sequence with its KV pages inside a core_ctx.
 *
 * One forward pass takes a batch of rows of any sequences. Promise P1: the logits of a row are a pure function of the
 * model, the tokens before it in its sequence and the path of each of them: never of neighbours, batch size, chunking,
 * thread count or of what the pages held before.
 *
 * Functions return 0 or a negative CORE_E* code and explain themselves in *err when err is not NULL. Nothing here prints,
 * exits or reads the environment, except core_cpu_pick() which honours WEFT_CPU.
 * Units: tokens are int32 ids, positions count from 0, sizes are bytes unless a name says otherwise. */
#ifndef WEFT_CORE_H
#define WEFT_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum core_code {
	CORE_OK = 0,
	CORE_EINVAL = -1,	/* the caller asked for something impossible */
	CORE_ENOMEM = -2,	/* memory or KV pages are short */
	CORE_EIO = -3,		/* a file cannot be read */
	CORE_EFORMAT = -4,	/* a file is not what it claims to be */
	CORE_EUNSUPPORTED = -5	/* well formed, but not something this core computes exactly */
};

struct core_error {
	int code;
	char text[400];		/* one sentence: what, where, what was expected */
};
int core_fail(struct core_error *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Which bits this core computes. Whoever changes them (an operator's order of sums, a polynomial) raises it, so that no answer begins
 * on some bits and ends on others. 2: softmax in base 2; 3: prompts over keys and values of f16 by exact sums. tests/kernels/ops_bits.c
 * notices a change. AMX has bits of its own: core_ctx_bits(). */
enum { CORE_BITS = 3, CORE_BITS_TILES = 1 << 16 };

/* ---- model ---- */

enum core_quant {
	CORE_QUANT_NONE,	/* keep each tensor as precise as the file has it (f32, f16, bf16, GGUF blocks) */
	CORE_QUANT_Q8,		/* linears to int8, one scale per group */
	CORE_QUANT_Q4,		/* linears to 4 bits, one scale and one minimum per group */
	CORE_QUANT_NF4		/* linears to bitsandbytes' NF4 with double quantisation: the base that QLoRA trains on; the rest as NONE */
};
const char *core_quant_name(enum core_quant q);
int core_quant_parse(const char *name, enum core_quant *out);	/* "none" "q8" "q4" "nf4"; CORE_EINVAL otherwise */

/* What the factors of adapters become at load. Q8: signed bytes, a scale per up to 32: half the bytes of f16, which are what adapters cost
 * in a batch of many; off by about 0.4% of what the adapter adds. */
enum core_factors {
	CORE_FACTORS_AUTO,	/* Q8 beside a base of integers, which is off by more than that in the whole product; else EXACT */
	CORE_FACTORS_EXACT,	/* as the file has them */
	CORE_FACTORS_Q8
};
int core_factors_parse(const char *name, enum core_factors *out);	/* "auto" "exact" "q8"; CORE_EINVAL otherwise */

struct core_model;
struct core_tokenizer;

struct core_model_params {
	const char *path;		/* HF folder, or a .gguf file */
	enum core_quant quant;
	enum core_factors factors;	/* of every adapter that is loaded for this model */
	uint32_t rank, ranks;		/* tensor parallelism: load this rank's part alone; ranks 0 is 1: the whole model. See core_reduce */
	const char *cache;		/* folder where the packed weights are kept for the next time; NULL: nowhere */
	uint64_t cache_most;		/* bytes: when this model's are added, files used longest ago go until no more are there; 0: no bound */
	void (*progress)(void *arg, double done);	/* may be NULL; 0..1, on the calling thread */
	void *progress_arg;
};

struct core_model_info {
	char name[128];			/* folder or general.name */
	char arch[32];			/* "llama" */
	char quant[32];			/* "none(bf16)", "q8", "q4", "nf4", "bitsandbytes(nf4)", "gguf(Q4_K_M-like mix)": what the linears really are */
	uint32_t layers, dim, ffn_dim, heads, kv_heads, head_dim;
	uint32_t vocab;			/* rows of the logits */
	uint32_t context;		/* trained positions */
	float norm_eps, rope_theta;
	bool tied;			/* lm_head shares the embedding */
	uint32_t rank, ranks;		/* 0 of 1: whole. The shape above is that of all ranks together, what follows is this rank's */
	uint64_t parameters;
	uint64_t weight_bytes;		/* resident, packed */
	char digest[65];		/* hex: identifies weights + quantisation (P6), and the rank of how many */
};

int core_model_load(struct core_model **out, const struct core_model_params *params, struct core_error *err);
void core_model_free(struct core_model *m);	/* NULL is fine; every core_ctx of it must be gone */
const struct core_model_info *core_model_info(const struct core_model *m);
const struct core_tokenizer *core_model_tokenizer(const struct core_model *m);	/* borrowed */

enum core_cache {
	CORE_CACHE_NONE,	/* none was asked for */
	CORE_CACHE_MAPPED,	/* the weights are those of the cache's file, which other processes share */
	CORE_CACHE_WRITTEN,	/* they were packed, and kept for the next time */
	CORE_CACHE_FAILED	/* they were packed, and could not be kept; the model is as good */
};
/* What became of core_model_params.cache. *note: one line for the log, borrowed; NULL with CORE_CACHE_NONE. */
enum core_cache core_model_cache(const struct core_model *m, const char **note);

/* ---- tokenizer: [any thread] all functions are const and reentrant ---- */

enum core_encode_flags {
	CORE_ENCODE_BOS = 1,		/* put the model's BOS in front; nothing where it has none or its file says add_bos_token false */
	CORE_ENCODE_NO_PREFIX = 2	/* text continues earlier text: no dummy space in front */
};

int core_tokenizer_load(struct core_tokenizer **out, const char *path, struct core_error *err);	/* tokenizer.model or .gguf */
void core_tokenizer_free(struct core_tokenizer *t);
uint32_t core_tokenizer_size(const struct core_tokenizer *t);
int32_t core_tokenizer_bos(const struct core_tokenizer *t);	/* -1: none */
int32_t core_tokenizer_eos(const struct core_tokenizer *t);
/* Text is UTF-8 of len bytes (may hold NUL; bad bytes become U+FFFD). *out is malloc'ed, the caller frees it. */
int core_tokenizer_encode(const struct core_tokenizer *t, const char *text, size_t len, unsigned flags, int32_t **out, size_t *n_out,
			  struct core_error *err);
/* Raw bytes of one token, as they stand inside running text ("\xe2\x96\x81" is a space; control tokens give nothing).
 * Borrowed, valid as long as t; *len may be 0. An id outside the vocabulary gives NULL. */
const char *core_tokenizer_piece(const struct core_tokenizer *t, int32_t id, size_t *len);
bool core_tokenizer_is_control(const struct core_tokenizer *t, int32_t id);
/* Whole-sequence decoding: the first visible piece loses one leading space, bad UTF-8 becomes U+FFFD. Caller frees *out. */
int core_tokenizer_decode(const struct core_tokenizer *t, const int32_t *tokens, size_t n, char **out, size_t *len, struct core_error *err);

/* Incremental detokenising of a continuation: what core_detok_push returns is always whole UTF-8 characters. */
struct core_detok {
	unsigned char held[4];	/* an unfinished UTF-8 sequence */
	unsigned n_held;
	bool strip_space;	/* set: drop one leading space of the first visible piece, then clear */
};
/* Appends what became readable to out (room for at least core_detok_bound(t) bytes); returns the bytes written. */
size_t core_detok_push(struct core_detok *d, const struct core_tokenizer *t, int32_t token, char *out);
size_t core_detok_flush(struct core_detok *d, char *out);	/* the held bytes, as U+FFFD each */
size_t core_detok_bound(const struct core_tokenizer *t);

/* ---- engine context ---- */

/* How keys and values are kept. */
enum core_kv_type {
	CORE_KV_AUTO,	/* f32 for f32 weights, else f16; on a CUDA device f16 */
	CORE_KV_F16,
	CORE_KV_F32,	/* not on a CUDA device */
	CORE_KV_INT8	/* signed bytes, one scale per token and head: about half of f16's bytes */
};
const char *core_kv_type_name(enum core_kv_type t);
int core_kv_type_parse(const char *name, enum core_kv_type *out);	/* "auto" "f16" "f32" "int8"; CORE_EINVAL otherwise */

/* Tensor parallelism: each rank has a core_ctx on its part of the model (core_model_params.rank), with adapters and blends loaded for that part,
 * and all ranks make the same calls in the same order. Twice a layer core_forward() has partial sums: sum() makes each rows[i * ld + k], i < m,
 * k < n, the sum of all ranks' and returns when it is, on core_forward()'s thread. m and n are those of every rank at that point. (Ranks with
 * as many KV pages fail alike: core_forward() fails before its first sum.)
 *
 * Every rank gets the same bytes, and an element's terms are added in an order that depends on nothing but the number of ranks: not on m, on
 * where the element stands or on who comes first. Then P1 holds for each number of ranks; another number rounds otherwise.
 *
 * On CUDA devices NCCL can carry the sums, and sum() is not called: one rank makes a group's id by core_group_new() and hands its bytes to
 * the others, and core_ctx_new() of each returns when all are there. Without a group sum() gets rows that were copied to the host. */
enum { CORE_GROUP_ID = 128 };
struct core_reduce {
	void (*sum)(void *arg, float *rows, uint32_t m, uint32_t n, size_t ld);
	void *arg;
	const unsigned char *group;	/* [CORE_GROUP_ID], borrowed for core_ctx_new(); NULL: sum() alone, which the CPU needs */
	const char *nccl;		/* NULL: libnccl.so.2; borrowed likewise */
};
int core_group_new(unsigned char id[CORE_GROUP_ID], const char *nccl, struct core_error *err);

struct core_ctx_params {
	const struct core_model *model;
	struct core_reduce reduce;	/* neither sum nor group: the model is whole */
	int threads;			/* 0: one per online CPU */
	uint32_t kv_pages;		/* pages in the pool, CORE_PAGE tokens each */
	uint32_t max_rows;		/* largest batch of core_forward */
	uint32_t max_context;		/* longest sequence; 0: the model's */
	enum core_kv_type kv_type;
	bool prefix_cache;		/* core_seq_reuse() finds what other sequences have computed */
	/* Where it computes: NULL or "cpu"; "cuda:N", which fails when that device or the module is not to be had; "auto": the first CUDA
	 * device, else the CPU, and core_ctx_note() says why. */
	const char *device;
	const char *module;		/* NULL: weft-cuda.so among the installed files */
};

enum { CORE_PAGE = 16, CORE_PAGE_KEY = 32 };	/* tokens per KV page; bytes of a digest of what is in it */

struct core_ctx;
struct core_seq;

int core_ctx_new(struct core_ctx **out, const struct core_ctx_params *params, struct core_error *err);
void core_ctx_free(struct core_ctx *c);
const char *core_ctx_cpu(const struct core_ctx *c);		/* "plain" "avx2" "avx512" "amx" */
/* CORE_BITS, and CORE_BITS_TILES where prompts (and weights of bf16) go through AMX's tiles, whose sums have an order of their own:
 * "plain", "avx2" and "avx512" give the same bits, "amx" others. An answer goes on only where these are the same. */
uint32_t core_ctx_bits(const struct core_ctx *c);
enum core_kv_type core_ctx_kv_type(const struct core_ctx *c);	/* never AUTO */
const char *core_ctx_device(const struct core_ctx *c);		/* "cpu", "cuda:0" */
const char *core_ctx_note(const struct core_ctx *c);		/* for the log: what a device holds, or why auto took the CPU; NULL: nothing to say */
int core_ctx_threads(const struct core_ctx *c);
uint32_t core_ctx_pages_free(const struct core_ctx *c);		/* that no sequence holds: what the prefix cache keeps costs nobody a page */
uint32_t core_ctx_pages_total(const struct core_ctx *c);
uint64_t core_kv_page_bytes(const struct core_model *m, enum core_kv_type kv);

struct core_seq *core_seq_new(struct core_ctx *c);			/* NULL: out of memory */
struct core_seq *core_seq_fork(struct core_ctx *c, const struct core_seq *s);	/* shares full pages, copies on write */
void core_seq_free(struct core_ctx *c, struct core_seq *s);
uint32_t core_seq_len(const struct core_seq *s);			/* tokens whose KV is present */
int core_seq_trim(struct core_ctx *c, struct core_seq *s, uint32_t len);	/* drop tokens from len on */
/* Pages that feeding n more tokens would take from the pool (fresh pages and copies). */
uint32_t core_seq_pages_needed(const struct core_ctx *c, const struct core_seq *s, uint32_t n);

enum core_path { CORE_PROMPT, CORE_GENERATED };	/* of a token; part of P1's key */

/* A token and its path as one word: what stands at a position of a sequence. */
#define CORE_WORD_GENERATED UINT32_C(0x80000000)
static inline uint32_t core_word(int32_t token, enum core_path path)
{
	return (uint32_t)token | (path == CORE_GENERATED ? CORE_WORD_GENERATED : 0);
}

struct core_row {
	struct core_seq *seq;
	int32_t token;
	enum core_path path;
	bool want_logits;
};

/* One forward pass over rows[0..n). Rows of one sequence stand in token order (they need not touch); each is appended to its
 * sequence at the position core_seq_len() had plus its rank. Logits of the i-th row that wants them: core_logits(c, i'), where
 * i' counts such rows only; valid until the next call. On failure no sequence has changed. */
int core_forward(struct core_ctx *c, const struct core_row *rows, uint32_t n, struct core_error *err);
const float *core_logits(const struct core_ctx *c, uint32_t i);	/* [vocab] */

/* Between two passes: fn(arg, i) for each i < n, in any order, on the threads that core_forward() computes with (of a device: on the
 * caller's alone). Returns when all of them have. */
void core_spread(struct core_ctx *c, void (*fn)(void *arg, uint32_t i), void *arg, uint32_t n);

/* ---- a token in place of logits ----
 *
 * On a device logits are far away: 128 KB a row. There a row may have its token drawn where the logits are, or one that is given looked up, and
 * the likeliest tokens found. What is computed are the numbers of weftd's chain of samplers and of its draw, to the last bit (daemon/logits.c;
 * plugins/weft-plugin.h, struct weft_formula), in this order: */
enum {
	CORE_EDITS = 2048,	/* most edits of one row */
	CORE_PASS_EDITS = 65536,	/* of all rows of a pass: a row beyond that gives logits */
	CORE_TOP = 64		/* most of the likeliest tokens */
};
struct core_edit {		/* l = (l > 0 ? l / ratio : l * ratio) - minus in double, rounded to float */
	int32_t token;
	uint32_t stage;		/* edits of one token follow each other by stages, each rounded; one for each token in a stage */
	double ratio, minus;	/* finite, ratio above 0 */
};
struct core_draw {
	double uniform;		/* in [0, 1): where in the cumulative sum the draw falls */
	const struct core_edit *edits;	/* [n_edits], stages ascending from 0; before all that follows, but for top; copied */
	uint32_t n_edits;
	uint32_t top;		/* so many of the likeliest tokens are wanted, too: of the logits as they are */
	uint32_t given;		/* 1 + a token that is not drawn but looked up, whatever the rest says; 0: draw */
	double temperature;	/* 1: none; 0: the most likely token, and nothing below */
	double top_p;		/* 1: all */
	double min_log_p;	/* candidates whose logits are lower than the greatest by more than -min_log_p are dropped; -INFINITY: none */
	uint32_t top_k;		/* below the vocabulary; 0: all */
};
struct core_top {
	int32_t token;
	float logit;
};
struct core_drawn {
	int32_t token, best;	/* best: the most likely one */
	float logit, max;	/* of token, of best: as they are, no edits, no temperature */
	double total;		/* sum of exp(logit - max) */
	const struct core_top *top;	/* [n_top]: the likeliest, ties by id ascending */
	uint64_t n_top;		/* top, or the vocabulary if that is less */
};

/* Before core_forward(), whose rows[row] wants logits: it may give a token instead. False: this core hands out logits. */
bool core_want_token(struct core_ctx *c, uint32_t row, const struct core_draw *d);
/* Like core_logits(): of the i-th row that wanted logits, which has none then. NULL: it has logits, be it that no token was wanted, or that too
 * many candidates are left over for a device or too many are as likely as the last of top, or that they are no numbers. */
const struct core_drawn *core_drawn(const struct core_ctx *c, uint32_t i);

/* ---- adapters and blends ----
 *
 * A core_adapter is one LoRA adapter in memory, made for one model: per layer and linear, factors A [rank][in] and B [out][rank] with
 * their scale alpha/rank (or alpha/sqrt(rank)). A core_blend is a weighted sum of up to CORE_BLEND_MAX adapters:
 *     y = W x + sum over parts p of  scale_p * weight_p[layer][linear] * s_p * B_p (A_p x)
 * the exact sum, parts in the order of their digests, whatever order they were given in. Adapters and blends are immutable and may be read from
 * any thread. A blend keeps its adapters alive (they are counted); a sequence keeps its blend alive. */

enum { CORE_BLEND_MAX = 16 };
enum core_linear { CORE_Q, CORE_K, CORE_V, CORE_O, CORE_GATE, CORE_UP, CORE_DOWN, CORE_LINEARS };

struct core_adapter;
struct core_blend;

struct core_adapter_info {
	char digest[65];		/* hex: of the file's factors, scales and kind, not of file names or order, nor of their form here */
	char kind[16];			/* "lora" or "dora" */
	uint32_t rank_min, rank_max;	/* over its modules */
	uint32_t modules;		/* linears that it changes (and 1 for the embedding) */
	uint64_t bytes;			/* resident */
	uint64_t parameters;
	bool exact;			/* factors are as the file has them, not rounded to 8 bits */
};

/* path: a PEFT folder (adapter_config.json with adapter_model.safetensors or .bin) or a GGUF LoRA file. What is not computed exactly is
 * refused with the key or tensor that caused it. May be called from any thread, also while the model is in use. */
int core_adapter_load(struct core_adapter **out, const struct core_model *m, const char *path, struct core_error *err);
const struct core_adapter_info *core_adapter_info(const struct core_adapter *a);
struct core_adapter *core_adapter_ref(struct core_adapter *a);
void core_adapter_unref(struct core_adapter *a);	/* [any thread] */

struct core_blend_part {
	struct core_adapter *adapter;
	float scale;			/* finite; negative is fine; 0 leaves the part out */
	const float *weights;		/* NULL: all 1; else [layers][CORE_LINEARS] more factors; copied */
};
/* The same adapter (by digest) twice is CORE_EINVAL, a DoRA adapter beside another is CORE_EUNSUPPORTED. No parts left gives *out = NULL: the base alone. */
int core_blend_new(struct core_blend **out, const struct core_blend_part *parts, uint32_t n, struct core_error *err);
struct core_blend *core_blend_ref(struct core_blend *b);
void core_blend_unref(struct core_blend *b);		/* [any thread]; NULL is fine */
const char *core_blend_digest(const struct core_blend *b);	/* hex, 64 characters; NULL gives that of "no blend". Contents, scales and weights (P6) */

/* The sequence's blend from its first token on; only while core_seq_len() is 0. NULL: the base alone. Forks inherit it. */
int core_seq_set_blend(struct core_ctx *c, struct core_seq *s, struct core_blend *b);
/* Whether a pass with s begins at once. On a device the adapters of a blend that is new there arrive beside passes without it; a pass that is
 * given s before waits for them. wait: do so here, and return true. */
bool core_seq_ready(const struct core_ctx *c, const struct core_seq *s, bool wait);

/* ---- prefix cache ----
 *
 * With core_ctx_params.prefix_cache, each page that a pass makes whole is kept under a digest of all that its bytes follow from: blend, salt,
 * and the words from the first token on (P6). It stays after its sequences are gone, until the pool needs it for something else; pages that
 * were not used for the longest time go first. A sequence that takes it goes on from the bytes that it would have computed (P1). */

/* Sequences of different salts share nothing but by forking. Only while core_seq_len() is 0; len 0: none. Forks inherit it. */
int core_seq_set_salt(struct core_seq *s, const void *salt, size_t len);
/* s is to go on with words[0..n): takes what the cache has of their beginning, in whole pages, and returns how many tokens that are. They count
 * as if they had been fed; there are no logits of them. 0 also where core_seq_len() is no multiple of CORE_PAGE. */
uint32_t core_seq_reuse(struct core_ctx *c, struct core_seq *s, const uint32_t *words, uint32_t n);

/* The key of the page that s fills next, when words[CORE_PAGE] are all that will be in it: sequences with the same key would compute the same
 * page. false: there is no prefix cache in which one could find what another has computed. */
bool core_seq_page_key(const struct core_ctx *c, const struct core_seq *s, const uint32_t *words, unsigned char key[CORE_PAGE_KEY]);

struct core_cached {
	uint32_t pages;		/* that would be found */
	uint32_t idle;		/* of them, those that no sequence holds */
	uint64_t evictions;	/* pages so far that made room */
};
void core_ctx_cached(const struct core_ctx *c, struct core_cached *out);

/* ---- fusing ----
 *
 * Several adapters made into one, or into the base. What each combination type computes is told in kernels/fuse/fuse.h; the weights are
 * the scales that a blend would have, so that "cat" is the blend. The work may take hours: it runs on the caller's thread, beside models and
 * contexts that are in use, and needs none of them. What is written appears under its name whole or not at all. In libfuse. */

enum { CORE_ECANCELLED = -16 };
enum core_fuse_form {
	CORE_FUSE_PEFT,	/* a folder that core_adapter_load() reads */
	CORE_FUSE_GGUF,	/* a file that it reads */
	CORE_FUSE_BASE	/* a HF folder that core_model_load() reads: base and result in one, in the base's types */
};
enum core_fuse_reads {	/* which parameters a type has a use for */
	CORE_FUSE_DENSITY = 1, CORE_FUSE_SIGN = 2, CORE_FUSE_SVD = 4, CORE_FUSE_SEED = 8
};

struct core_fuse_part {
	const char *name;		/* for messages and the record in the result */
	const char *path;		/* as of core_adapter_load() */
	double weight;
};

struct core_fuse_params {		/* all borrowed until core_fuse_close() */
	const char *base;		/* as of core_model_load() */
	const struct core_fuse_part *parts;
	uint32_t n_parts;		/* 1 to CORE_BLEND_MAX */
	const char *type;		/* "cat", "svd", "linear", "ties" ... */
	const char *mathematics;	/* NULL: "true"; "peft-0.9" ...: an old release, errors and all */
	const char *sign_method;	/* NULL: "total"; "frequency" */
	const char *dtype;		/* of CORE_FUSE_PEFT: NULL: "f32"; "f16", "bf16" */
	double density;			/* above 0 up to 1 for the types that read it */
	double svd_clamp;		/* 0: none */
	uint32_t svd_rank;		/* 0: the largest of the parts */
	uint64_t seed;
	uint64_t shard_bytes;		/* of CORE_FUSE_BASE: most bytes of a shard; 0: 5,000,000,000 */
	enum core_fuse_form form;
	const char *target;		/* its folder must be there */
	bool replace;			/* what has that name already goes, in the moment that the result is whole; else it is refused */
};

struct core_fuse_watch {
	void (*progress)(void *arg, double done);	/* may be NULL; 0..1, never falling */
	bool (*cancelled)(void *arg);			/* may be NULL; asked often */
	void *arg;
};

struct core_fuse_result {
	uint32_t rank;			/* the largest of its modules' */
	uint32_t modules;		/* that it changes */
	uint64_t bytes;			/* on disk */
	double left_out;		/* svd types: share of the norm of all changes that the rank leaves out; else 0 */
	char digest[65];		/* of CORE_FUSE_BASE: hex, of the weight files; else "": core_adapter_load() tells */
};

unsigned core_fuse_reads(const char *type);	/* 0 for an unknown one, too */
/* Do the parameters make sense? Opens nothing. *field: the name of the member at fault ("density", "parts"...); static. */
int core_fuse_check(const struct core_fuse_params *p, const char **field, struct core_error *err);

struct core_fuse;
/* Opens base and adapters: files that are replaced later, by renaming, change nothing any more. */
int core_fuse_open(struct core_fuse **out, const struct core_fuse_params *p, struct core_error *err);
int core_fuse_run(struct core_fuse *f, const struct core_fuse_watch *watch, struct core_fuse_result *result, struct core_error *err);
void core_fuse_close(struct core_fuse *f);	/* NULL is fine */
/* Removes what killed runs left in a folder of targets; what a living run is writing stays. Returns how many, or CORE_EIO. */
int core_fuse_sweep(const char *folder, struct core_error *err);

/* ---- checking an adapter ----
 *
 * Does an adapter, woven into the forward pass, do what it would do merged into the weights? Three fixed prompts go through the core with
 * the adapter and without it, all in one batch; and through a plain f32 pass over W + s B A, and over W. Of the two with the adapter the
 * divergence of their next-token distributions is what the weaving costs; that of the two without it is what the core's rounding (int8
 * activations, f16 keys and values) costs anyway on this base.
 *
 * A large model is checked in windows: some of its layers in a row, as a model of their own between embedding and head. Windows come in an
 * order that spreads them over the depth, until all are done or the time is over; the first one is always done. In liblearn. */

struct core_check_result {
	double divergence;	/* in nats, mean over the prompts' positions, of the worst window: of the woven adapter from the merged one */
	double rounding;	/* of the base alone, the same way */
	double difference;	/* largest of any logit, woven against merged */
	uint32_t layers, of;	/* checked */
};

struct core_check_params {
	double seconds;			/* CPU time of the calling thread */
	uint32_t window;		/* layers of a window; 0: by their size */
	bool (*stop)(void *arg);	/* asked now and then; true ends it with CORE_ECANCELLED; NULL: never */
	void *arg;
};

/* Works on the calling thread alone. */
int core_check(struct core_check_result *out, const struct core_model *m, const struct core_adapter *a, const struct core_check_params *params,
	       struct core_error *err);
/* What the project promises of the core's rounding, and five times what the base itself shows beside it: a term that is missing, doubled
 * or misplaced costs far more, unless the adapter changes nothing. A divergence that is no number does not pass. */
double core_check_bound(const struct core_check_result *r);
bool core_check_passed(const struct core_check_result *r);

/* ---- learning the weights of a blend ----
 *
 * FashionGPT's paper fuses its adapters "with learnable weights"; its formula is not public, so this is weft's own. The blend is
 *     y = W x + sum over adapters k of lam[k][g] * s_k * B_k (A_k x)
 * with one weight per adapter (global), per adapter and layer, or per adapter, layer and linear (module); the loss is the mean of -log p
 * over the answers' tokens.
 *
 *   gradient   Adam (0.9, 0.999) on exact gradients (kernels/learn/pass.h) of batches in a seeded order. What is moved is z:
 *                raw      lam = z
 *                softmax  lam[.][g] = softmax over the adapters of z[.][g]
 *                sigmoid  lam = 1 / (1 + e^-z)
 *                clamp    lam = z, put back into [0, 1] after every step
 *   search     no gradients, in the manner of LoraHub: an evolution strategy with a step size per weight (separable CMA-ES) within
 *              [-bound, bound], on a seeded choice of examples that stays the same. The candidates of a generation are different blends
 *              in one batch of the core. Its result is the best candidate that was seen.
 *
 * Both start from the uniform blend (1 / n each) and may add l1 * mean |lam| to the loss. The losses at the end come from the core's own
 * forward pass, of the base, each adapter alone, the uniform and the learned blend, on examples that were not learned from. Same input and
 * seed, same bytes, at any number of threads.
 *
 * It may take hours: it runs on the caller's thread, and threads - 1 of its own with the caller's priority. In liblearn. */

/* tokens[n], of which those from `from` on are the answer: 1 <= from < n. */
struct core_example {
	const int32_t *tokens;
	uint32_t n, from;
};

enum core_learn_method { CORE_LEARN_GRADIENT, CORE_LEARN_SEARCH, CORE_LEARN_METHODS };
enum core_learn_by { CORE_LEARN_GLOBAL, CORE_LEARN_LAYER, CORE_LEARN_MODULE, CORE_LEARN_BYS };
enum core_learn_form { CORE_LEARN_RAW, CORE_LEARN_SOFTMAX, CORE_LEARN_SIGMOID, CORE_LEARN_CLAMP, CORE_LEARN_FORMS };
const char *core_learn_method_name(enum core_learn_method m);
const char *core_learn_by_name(enum core_learn_by b);
const char *core_learn_form_name(enum core_learn_form f);
/* CORE_EINVAL, with the names there are. */
int core_learn_method_parse(const char *name, enum core_learn_method *out, struct core_error *err);
int core_learn_by_parse(const char *name, enum core_learn_by *out, struct core_error *err);
int core_learn_form_parse(const char *name, enum core_learn_form *out, struct core_error *err);

enum { CORE_LEARN_STEPS_MAX = 100000, CORE_LEARN_POPULATION_MAX = 256, CORE_LEARN_EXAMPLES_MAX = 1000000 };

struct core_learn_params {
	const struct core_model *model;
	struct core_adapter *const *adapters;	/* [n_adapters], 1 to CORE_BLEND_MAX, no DoRA */
	uint32_t n_adapters;
	const struct core_example *examples;	/* [n_examples]; their tokens fit into the model's context */
	uint32_t n_examples;
	const struct core_example *held_out;	/* [n_held_out]; none: a seeded fifth of the examples is taken away */
	uint32_t n_held_out;
	enum core_learn_method method;
	enum core_learn_by by;
	enum core_learn_form form;	/* CORE_LEARN_SEARCH: raw */
	uint32_t steps;	/* of Adam, or generations */
	uint32_t batch;	/* examples of a step, or of the search; 0: 16, or up to 64 */
	double rate;	/* CORE_LEARN_GRADIENT: of Adam; 0: 0.05 */
	double l1;
	uint32_t population;	/* CORE_LEARN_SEARCH: candidates of a generation; 0: 4 + 3 ln(weights), at least 8 */
	double bound;	/* CORE_LEARN_SEARCH; 0: 1.5 */
	uint64_t seed;
	int threads;	/* 0: one per online CPU */
	/* After every step: the loss of its batch, or of the best candidate so far. NULL: nobody is told. */
	void (*progress)(void *arg, uint32_t step, double loss);
	bool (*stop)(void *arg);	/* true: CORE_ECANCELLED soon; NULL: never */
	void *arg;
};

struct core_learn_losses {
	double base, uniform, learned, adapter[CORE_BLEND_MAX];
};

struct core_learn_result {
	float *weights;	/* [n_adapters][layers][CORE_LINEARS]; with CORE_LEARN_GLOBAL: [n_adapters] */
	double *curve;	/* [steps] what progress() was told */
	uint32_t steps, n_learned, n_held_out;	/* n: examples */
	uint64_t answer_tokens;	/* of the held-out examples */
	struct core_learn_losses held_out;
};
/* On failure nothing is left to finish. */
int core_learn(struct core_learn_result *out, const struct core_learn_params *params, struct core_error *err);
void core_learn_result_finish(struct core_learn_result *r);
/* Parts of a blend with these weights: parts[n] point into them. */
void core_learn_parts(struct core_blend_part *parts, struct core_adapter *const *adapters, uint32_t n, enum core_learn_by by,
		       const float *weights, uint32_t layers);

/* ---- CPU ---- */

enum core_cpu { CORE_CPU_PLAIN, CORE_CPU_AVX2, CORE_CPU_AVX512, CORE_CPU_AMX };
/* The best instruction set of this machine, or the one WEFT_CPU names; one that the machine lacks is CORE_EUNSUPPORTED. */
int core_cpu_pick(enum core_cpu *out, struct core_error *err);
const char *core_cpu_name(enum core_cpu cpu);

#ifdef __cplusplus
}
#endif
#endif
