/* checkpoint.h: a Llama checkpoint on disk, as named tensors and a shape, whatever the container.
 *
 * Containers: a HF folder (config.json with model.safetensors, sharded safetensors, pytorch_model.bin or sharded .bin zip files)
 * whose linears bitsandbytes may have saved in NF4, or a .gguf file (v2, v3), of a split one the first part. Files are memory-mapped and
 * stay so until checkpoint_close; tensor data points into the maps. (A file that another program cuts short meanwhile ends this one, as for every user of mmap: replace model
 * files by renaming, do not write into them.)
 * Every number of a file is checked against the file's size before it is used. Nothing is executed and nothing is printed.
 *
 * An open checkpoint is whole: every weight that the config asks for is there, once, with the config's shape and a type of
 * enum tensor_type. Whatever would change the answers and is not computed by the core (a bias, another rope type, an unknown tensor
 * under "model.") is refused by name with CORE_EUNSUPPORTED, never skipped. All functions but open and close are const and may be
 * called from any thread. */
#ifndef WEFT_FORMAT_CHECKPOINT_H
#define WEFT_FORMAT_CHECKPOINT_H

#include "../core.h"

/* Values are ggml's type numbers (FACTS 4.6), so that a GGUF file needs no table; behind TENSOR_GGUF_MAX those that no GGUF file has.
 * TENSOR_U8 is seen while a folder is read, never in an open checkpoint. */
enum tensor_type {
	TENSOR_F32 = 0, TENSOR_F16 = 1, TENSOR_Q4_0 = 2, TENSOR_Q4_1 = 3, TENSOR_Q5_0 = 6, TENSOR_Q5_1 = 7, TENSOR_Q8_0 = 8,
	TENSOR_Q2_K = 10, TENSOR_Q3_K = 11, TENSOR_Q4_K = 12, TENSOR_Q5_K = 13, TENSOR_Q6_K = 14, TENSOR_BF16 = 30,
	TENSOR_GGUF_MAX = 99, TENSOR_NF4 = 100, TENSOR_U8, TENSOR_TYPES
};
const char *tensor_type_name(enum tensor_type t);		/* "Q4_K"; NULL for an unknown number */
unsigned tensor_type_block(enum tensor_type t);			/* elements of a block; 0: unknown type */
unsigned tensor_type_bytes(enum tensor_type t);			/* bytes of a block */

struct nf4;

struct tensor {
	const char *name;	/* HF name ("model.layers.0.self_attn.q_proj.weight"), also for GGUF files */
	enum tensor_type type;
	unsigned n_dims;	/* 1 or 2 (up to 4 in a file; the core asks for 1 and 2) */
	uint64_t dims[4];	/* outermost first: {out, in} */
	const void *data;	/* row-major, little-endian, inside the map; may be unaligned */
	uint64_t bytes;
	uint64_t stride;	/* bytes from one row to the next; 0: they stand end to end */
	uint32_t permuted_heads;/* not 0: GGUF order of q/k rows with that many heads; read rows through tensor_source_row() */
	const struct nf4 *nf4;	/* TENSOR_NF4: its scales (nf4.h), borrowed; else NULL */
};

enum rope_scaling { ROPE_NONE, ROPE_LINEAR, ROPE_LLAMA3, ROPE_YARN };

struct llama_config {
	uint32_t layers, dim, ffn_dim, heads, kv_heads, head_dim, vocab, context;
	float norm_eps, rope_theta;
	bool tied;
	bool bitsandbytes;	/* linears in NF4, among them */
	enum rope_scaling scaling;
	float scaling_factor, low_freq_factor, high_freq_factor;	/* llama3 */
	float beta_fast, beta_slow, attention_factor;			/* yarn; attention_factor 0: by formula */
	uint32_t original_context;
	const float *rope_freqs;	/* GGUF rope_freqs.weight: head_dim/2 divisors of the frequencies, or NULL */
	int32_t bos, eos;		/* from the config; -1 unknown */
	char name[128];
};

/* A file of weights as it was when it was opened: whoever replaces or rewrites it changes at least one of these. */
struct file_stamp {
	uint64_t size, inode;
	int64_t modified, changed;	/* ns: mtime and ctime */
};

struct checkpoint;
int checkpoint_open(struct checkpoint **out, const char *path, struct core_error *err);
void checkpoint_close(struct checkpoint *cp);
const struct llama_config *checkpoint_config(const struct checkpoint *cp);
size_t checkpoint_count(const struct checkpoint *cp);
const struct tensor *checkpoint_at(const struct checkpoint *cp, size_t i);
const struct tensor *checkpoint_find(const struct checkpoint *cp, const char *hf_name);	/* NULL: absent */
const struct file_stamp *checkpoint_stamp(const struct checkpoint *cp, size_t i);	/* NULL: there are no more files */
bool checkpoint_is_gguf(const struct checkpoint *cp);
/* Where the tokenizer is: the .gguf itself, or tokenizer.model in the folder. */
const char *checkpoint_tokenizer_path(const struct checkpoint *cp);

/* Row of the file that holds row `row` of the HF matrix (undoes GGUF's q/k permutation; identity otherwise). */
uint64_t tensor_source_row(const struct tensor *t, uint64_t row);
/* The bytes of row `row` (in HF order) in the file. Not for TENSOR_NF4. */
const void *tensor_row(const struct tensor *t, uint64_t row);
/* Rows (axis 0) or columns (axis 1) first .. first + n - 1 of a 2-d tensor, as one of its own that borrows all from t. false: they do not
 * begin and end with blocks, or, permuted, with heads. Not for TENSOR_NF4. */
bool tensor_part(struct tensor *part, const struct tensor *t, unsigned axis, uint64_t first, uint64_t n);
/* Dequantise row `row` (in HF order) of a 1-d or 2-d tensor to f32[dims[last]]; exact for every type. */
void tensor_row_f32(const struct tensor *t, uint64_t row, float *out);

#endif
