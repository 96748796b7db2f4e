/* checkpoint.c: one checkpoint, whatever its container: open, find, read rows. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "blocks.h"
#include "format.h"
#include "nf4.h"

/* ---- building (the readers call these) ---- */

/* Room for one more file. */
static bool grow(struct checkpoint *cp)
{
	struct map *maps = realloc(cp->maps, (cp->n_maps + 1) * sizeof *maps);
	struct file_stamp *stamps = realloc(cp->stamps, (cp->n_maps + 1) * sizeof *stamps);

	cp->maps = maps != NULL ? maps : cp->maps;
	cp->stamps = stamps != NULL ? stamps : cp->stamps;
	return maps != NULL && stamps != NULL;
}

static struct file_stamp stamp_of(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return (struct file_stamp){0};
	return (struct file_stamp){
		.size = (uint64_t)st.st_size,
		.inode = st.st_ino,
		.modified = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec,
		.changed = (int64_t)st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec,
	};
}

int checkpoint_read_file(struct checkpoint *cp, const char *path, checkpoint_reader read, struct core_error *err)
{
	struct map m;
	int rc;

	if (!grow(cp))
		return core_fail(err, CORE_ENOMEM, "%s: out of memory", path);
	/* Before it is mapped: a file that takes its place in between then has the stamp of one that never comes back. */
	cp->stamps[cp->n_maps] = stamp_of(path);
	rc = cp->adapter ? map_read(&m, path, SIZE_MAX, err) : map_open(&m, path, err);
	if (rc < 0)
		return rc;
	cp->maps[cp->n_maps++] = m;
	return read(cp, &m, path, err);
}

bool tensor_size(const struct tensor *t, uint64_t *bytes)
{
	unsigned block = tensor_type_block(t->type), size = tensor_type_bytes(t->type);
	uint64_t n = 1;

	if (block == 0 || t->n_dims < 1 || t->n_dims > 4 || t->dims[t->n_dims - 1] % block != 0)
		return false;
	for (unsigned i = 0; i < t->n_dims; i++)
		if (__builtin_mul_overflow(n, t->dims[i], &n))
			return false;
	return !__builtin_mul_overflow(n / block, size, bytes);
}

int checkpoint_add(struct checkpoint *cp, const struct tensor *t, const char *where, struct core_error *err)
{
	if (cp->n_tensors == cp->room) {
		size_t room = cp->room != 0 ? 2 * cp->room : 64;
		struct tensor *more = realloc(cp->tensors, room * sizeof *more);
		if (more == NULL)
			return core_fail(err, CORE_ENOMEM, "%s: out of memory for the tensor list", where);
		cp->tensors = more;
		cp->room = room;
	}
	cp->tensors[cp->n_tensors] = *t;
	cp->tensors[cp->n_tensors].name = strdup(t->name);
	if (cp->tensors[cp->n_tensors].name == NULL)
		return core_fail(err, CORE_ENOMEM, "%s: out of memory for the tensor list", where);
	cp->n_tensors++;
	return 0;
}

/* ---- what a Llama is made of ---- */

enum dim_of { D_NONE, D_VOCAB, D_DIM, D_FFN, D_Q, D_KV };

static const struct weight_row {
	const char *name;		/* per layer: what follows "model.layers.N." */
	bool per_layer;
	enum dim_of rows, columns;	/* columns D_NONE: a vector */
} weights[] = {
	{"model.embed_tokens.weight", false, D_VOCAB, D_DIM},
	{"model.norm.weight", false, D_DIM, D_NONE},
	{"lm_head.weight", false, D_VOCAB, D_DIM},
	{"self_attn.q_proj.weight", true, D_Q, D_DIM},
	{"self_attn.k_proj.weight", true, D_KV, D_DIM},
	{"self_attn.v_proj.weight", true, D_KV, D_DIM},
	{"self_attn.o_proj.weight", true, D_DIM, D_Q},
	{"mlp.gate_proj.weight", true, D_FFN, D_DIM},
	{"mlp.up_proj.weight", true, D_FFN, D_DIM},
	{"mlp.down_proj.weight", true, D_DIM, D_FFN},
	{"input_layernorm.weight", true, D_DIM, D_NONE},
	{"post_attention_layernorm.weight", true, D_DIM, D_NONE},
};
enum { N_WEIGHTS = sizeof weights / sizeof weights[0] };

static uint64_t dim_value(const struct llama_config *c, enum dim_of d)
{
	switch (d) {
	case D_VOCAB: return c->vocab;
	case D_DIM: return c->dim;
	case D_FFN: return c->ffn_dim;
	case D_Q: return (uint64_t)c->heads * c->head_dim;
	case D_KV: return (uint64_t)c->kv_heads * c->head_dim;
	case D_NONE: break;
	}
	return 0;
}

/* The row of `weights` for a name, and its layer (0 for the three that have none). NULL: not a weight of a Llama. */
static const struct weight_row *weight_of(const char *name, unsigned long *layer)
{
	static const char prefix[] = "model.layers.";
	bool per_layer = strncmp(name, prefix, sizeof prefix - 1) == 0;
	char *end = NULL;

	*layer = 0;
	if (per_layer) {
		const char *digits = name + sizeof prefix - 1;
		if (digits[0] < '0' || digits[0] > '9' || (digits[0] == '0' && digits[1] != '.'))
			return NULL;
		*layer = strtoul(digits, &end, 10);
		if (*end != '.')
			return NULL;
		name = end + 1;
	}
	for (int i = 0; i < N_WEIGHTS; i++)
		if (weights[i].per_layer == per_layer && strcmp(weights[i].name, name) == 0)
			return &weights[i];
	return NULL;
}

bool tensor_is_weight(const char *name)
{
	unsigned long layer;

	return weight_of(name, &layer) != NULL;
}

/* Tensors that old exporters wrote beside the weights: they repeat what the config says. */
static bool is_harmless(const char *name)
{
	static const char tail[] = ".rotary_emb.inv_freq";
	size_t n = strlen(name);

	return n >= sizeof tail && strcmp(name + n - (sizeof tail - 1), tail) == 0;
}

static void describe_shape(char *out, size_t room, unsigned n_dims, const uint64_t *dims)
{
	if (n_dims == 1)
		snprintf(out, room, "[%" PRIu64 "]", dims[0]);
	else
		snprintf(out, room, "[%" PRIu64 ", %" PRIu64 "%s]", dims[0], dims[1], n_dims > 2 ? ", ..." : "");
}

/* A tensor under model. or lm_head. that the forward pass does not know would change the answers: refused, not ignored. */
static int check_known(const struct checkpoint *cp, const struct tensor *t, const char *path, struct core_error *err)
{
	const struct llama_config *c = &cp->config;
	unsigned long layer;
	const struct weight_row *w = weight_of(t->name, &layer);
	uint64_t rows, columns;
	unsigned n_dims;

	if (w == NULL) {
		if ((strncmp(t->name, "model.", 6) != 0 && strncmp(t->name, "lm_head.", 8) != 0) || is_harmless(t->name))
			return 0;
		return core_fail(err, CORE_EUNSUPPORTED, "%s: tensor %s is not part of the Llama that this core computes", path,
				 t->name);
	}
	if (t->type == TENSOR_U8)
		return core_fail(err, CORE_EUNSUPPORTED, "%s: tensor %s: dtype U8 is not read without its quant_state", path, t->name);
	if (layer >= c->layers && w->per_layer)
		return core_fail(err, CORE_EFORMAT, "%s: tensor %s, but the config says %" PRIu32 " layers", path, t->name,
				 c->layers);
	rows = dim_value(c, w->rows);
	columns = dim_value(c, w->columns);
	n_dims = w->columns == D_NONE ? 1 : 2;
	if (t->n_dims != n_dims || t->dims[0] != rows || (n_dims == 2 && t->dims[1] != columns)) {
		char found[64], wanted[64];
		describe_shape(found, sizeof found, t->n_dims, t->dims);
		describe_shape(wanted, sizeof wanted, n_dims, (const uint64_t[]){rows, columns});
		return core_fail(err, CORE_EFORMAT, "%s: tensor %s is %s, the config says %s", path, t->name, found, wanted);
	}
	return 0;
}

static int check_present(const struct checkpoint *cp, const char *path, struct core_error *err)
{
	char name[96];

	for (int i = 0; i < N_WEIGHTS; i++) {
		uint32_t n = weights[i].per_layer ? cp->config.layers : 1;
		if (cp->config.tied && strcmp(weights[i].name, "lm_head.weight") == 0)
			continue;
		for (uint32_t layer = 0; layer < n; layer++) {
			if (weights[i].per_layer)
				snprintf(name, sizeof name, "model.layers.%" PRIu32 ".%s", layer, weights[i].name);
			else
				snprintf(name, sizeof name, "%s", weights[i].name);
			if (checkpoint_find(cp, name) == NULL)
				return core_fail(err, CORE_EFORMAT, "%s: tensor %s is missing", path, name);
		}
	}
	return 0;
}

static int tensor_order(const void *a, const void *b)
{
	return strcmp(((const struct tensor *)a)->name, ((const struct tensor *)b)->name);
}

void checkpoint_sort(struct checkpoint *cp)
{
	if (cp->n_tensors > 1)
		qsort(cp->tensors, cp->n_tensors, sizeof *cp->tensors, tensor_order);
}

int checkpoint_finish(struct checkpoint *cp, const char *path, struct core_error *err)
{
	int rc;

	checkpoint_sort(cp);
	for (size_t i = 0; i < cp->n_tensors; i++) {
		if (i > 0 && strcmp(cp->tensors[i - 1].name, cp->tensors[i].name) == 0)
			return core_fail(err, CORE_EFORMAT, "%s: tensor %s is there twice", path, cp->tensors[i].name);
		rc = check_known(cp, &cp->tensors[i], path, err);
		if (rc < 0)
			return rc;
	}
	return check_present(cp, path, err);
}

/* ---- public ---- */

int checkpoint_open(struct checkpoint **out, const char *path, struct core_error *err)
{
	struct stat st;
	struct checkpoint *cp;
	int rc;

	*out = NULL;
	if (stat(path, &st) < 0)
		return core_fail(err, CORE_EIO, "%s: %s", path, strerror(errno));
	cp = calloc(1, sizeof *cp);
	if (cp == NULL)
		return core_fail(err, CORE_ENOMEM, "%s: out of memory", path);
	rc = S_ISDIR(st.st_mode) ? folder_read(cp, path, err) : checkpoint_read_file(cp, path, gguf_read, err);
	if (rc == 0)
		rc = checkpoint_finish(cp, path, err);
	if (rc < 0) {
		checkpoint_close(cp);
		return rc;
	}
	*out = cp;
	return 0;
}

void checkpoint_close(struct checkpoint *cp)
{
	if (cp == NULL)
		return;
	for (size_t i = 0; i < cp->n_tensors; i++) {
		free((char *)cp->tensors[i].name);
		free((struct nf4 *)cp->tensors[i].nf4);
	}
	for (size_t i = 0; i < cp->n_maps; i++)
		map_close(&cp->maps[i]);
	free(cp->tensors);
	free(cp->maps);
	free(cp->stamps);
	free(cp->tokenizer_path);
	free(cp->rope_freqs);
	free(cp);
}

const struct llama_config *checkpoint_config(const struct checkpoint *cp)
{
	return &cp->config;
}

size_t checkpoint_count(const struct checkpoint *cp)
{
	return cp->n_tensors;
}

const struct tensor *checkpoint_at(const struct checkpoint *cp, size_t i)
{
	return i < cp->n_tensors ? &cp->tensors[i] : NULL;
}

const struct tensor *checkpoint_find(const struct checkpoint *cp, const char *hf_name)
{
	struct tensor key = {.name = hf_name};

	return cp->n_tensors != 0 ? bsearch(&key, cp->tensors, cp->n_tensors, sizeof key, tensor_order) : NULL;
}

const struct file_stamp *checkpoint_stamp(const struct checkpoint *cp, size_t i)
{
	return i < cp->n_maps ? &cp->stamps[i] : NULL;
}

bool checkpoint_is_gguf(const struct checkpoint *cp)
{
	return cp->gguf;
}

const char *checkpoint_tokenizer_path(const struct checkpoint *cp)
{
	return cp->tokenizer_path;
}

uint64_t tensor_source_row(const struct tensor *t, uint64_t row)
{
	uint64_t head_rows, in_head, half;

	if (t->permuted_heads == 0)
		return row;
	/* Inside a head, the file pairs neighbours where HF pairs i with i + half (FACTS 4.4). */
	head_rows = t->dims[0] / t->permuted_heads;
	half = head_rows / 2;
	in_head = row % head_rows;
	return row - in_head + (in_head < half ? 2 * in_head : 2 * (in_head - half) + 1);
}

static uint64_t row_bytes(const struct tensor *t, uint64_t columns)
{
	return columns / tensor_type_block(t->type) * tensor_type_bytes(t->type);
}

static uint64_t stride_of(const struct tensor *t)
{
	return t->stride != 0 ? t->stride : row_bytes(t, t->dims[t->n_dims - 1]);
}

const void *tensor_row(const struct tensor *t, uint64_t row)
{
	return (const uint8_t *)t->data + tensor_source_row(t, row) * stride_of(t);
}

bool tensor_part(struct tensor *part, const struct tensor *t, unsigned axis, uint64_t first, uint64_t n)
{
	uint64_t unit = axis == 1 ? tensor_type_block(t->type) : t->permuted_heads != 0 ? t->dims[0] / t->permuted_heads : 1;

	if (first % unit != 0 || n % unit != 0)
		return false;
	*part = *t;
	part->stride = stride_of(t);
	part->dims[axis] = n;
	part->data = (const uint8_t *)t->data + (axis == 1 ? row_bytes(t, first) : first * part->stride);
	part->bytes = part->dims[0] * row_bytes(part, part->dims[1]);
	if (axis == 0 && t->permuted_heads != 0)
		part->permuted_heads = (uint32_t)(n / unit);
	return true;
}

void tensor_row_f32(const struct tensor *t, uint64_t row, float *out)
{

	if (t->type == TENSOR_NF4)
		nf4_row_f32(t, row, out);
	else
		blocks_f32(t->type, tensor_row(t, row), t->dims[t->n_dims - 1], out);
}
