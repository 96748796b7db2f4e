/* gguf.h: a GGUF file taken apart: metadata and tensor descriptions, all checked to lie inside the file. */
#ifndef WEFT_FORMAT_GGUF_H
#define WEFT_FORMAT_GGUF_H

#include "format.h"

enum gguf_type {
	GGUF_U8,
	GGUF_I8,
	GGUF_U16,
	GGUF_I16,
	GGUF_U32,
	GGUF_I32,
	GGUF_F32,
	GGUF_BOOL,
	GGUF_STRING,
	GGUF_ARRAY,
	GGUF_U64,
	GGUF_I64,
	GGUF_F64
};

struct gguf_text {
	const char *s;		/* inside the map, not terminated */
	size_t len;
};

struct gguf_value {
	struct gguf_text key;
	enum gguf_type type;	/* GGUF_ARRAY: of `element` */
	enum gguf_type element;
	uint64_t count;		/* elements of an array; 1 otherwise */
	struct cursor bytes;	/* the value, or the elements one after another */
};

struct gguf_tensor {
	struct gguf_text name;
	uint32_t type;		/* any number; perhaps not an enum tensor_type */
	unsigned n_dims;
	uint64_t dims[4];	/* outermost first */
	uint64_t offset;	/* into data */
};

struct gguf {
	const char *path;	/* borrowed, for messages */
	struct gguf_value *values;	/* owned; sorted by key */
	size_t n_values;
	struct gguf_tensor *tensors;	/* owned; in file order */
	size_t n_tensors;
	const uint8_t *data;
	uint64_t data_size;
};

/* The map must outlive *g. */
int gguf_parse(struct gguf *g, const struct map *m, const char *path, struct core_error *err);
void gguf_finish(struct gguf *g);
bool gguf_probe(const struct map *m);	/* starts with "GGUF" */

const struct gguf_value *gguf_find(const struct gguf *g, const char *key);	/* NULL: absent */
/* One value of a kind; an absent key leaves *out alone and returns 0, or CORE_EFORMAT when it is required. */
int gguf_uint(const struct gguf *g, const char *key, bool required, uint64_t max, uint64_t *out, struct core_error *err);
int gguf_float(const struct gguf *g, const char *key, bool required, float *out, struct core_error *err);
int gguf_bool(const struct gguf *g, const char *key, bool *out, struct core_error *err);
int gguf_string(const struct gguf *g, const char *key, bool required, struct gguf_text *out, struct core_error *err);
/* An array of that element type; *out NULL when absent and not required. */
int gguf_array(const struct gguf *g, const char *key, enum gguf_type element, bool required, const struct gguf_value **out,
	       struct core_error *err);
/* The next string of an array's bytes. The parser checked them all. */
struct gguf_text gguf_next_string(struct cursor *c);
bool gguf_text_is(struct gguf_text t, const char *s);

/* The HF name of a Llama's tensor, and 'q' or 'k' when its rows stand in GGUF's order (else 0). false: not a tensor of a Llama. */
bool gguf_hf_name(struct gguf_text name, char *out, size_t room, char *permuted);
/* Type, shape, bytes and place of a tensor, checked against the file; t->name is left alone. */
int gguf_locate(const struct gguf *g, const struct gguf_tensor *from, struct tensor *t, struct core_error *err);

#endif
