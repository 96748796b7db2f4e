/* gguf.c: the GGUF container, versions 2 and 3, little-endian (FACTS 4.6). */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "gguf.h"

/* The least bytes that a key-value pair and a tensor description take: they bound both counts by the size of the file. */
enum { VALUE_MIN = 8 + 4 + 1, TENSOR_MIN = 8 + 4 + 4 + 8, NAME_LIMIT = 64, KEY_LIMIT = 65535, DEFAULT_ALIGNMENT = 32 };

static const uint8_t type_bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};	/* 0: string and array have no fixed size */
enum { N_TYPES = sizeof type_bytes };

static int damaged(const struct gguf *g, const struct cursor *c, const char *what, struct core_error *err)
{
	return core_fail(err, CORE_EFORMAT, "%s: damaged at byte %zu: %s", g->path, c->at, what);
}

bool gguf_probe(const struct map *m)
{
	return m->size >= 4 && memcmp(m->data, "GGUF", 4) == 0;
}

struct gguf_text gguf_next_string(struct cursor *c)
{
	uint64_t len = cursor_u64(c);
	const uint8_t *s = cursor_take(c, len);

	return (struct gguf_text){(const char *)s, s != NULL ? (size_t)len : 0};
}

bool gguf_text_is(struct gguf_text t, const char *s)
{
	return t.len == strlen(s) && memcmp(t.s, s, t.len) == 0;
}

/* ---- parsing ---- */

static bool skip_elements(struct cursor *c, enum gguf_type type, uint64_t count)
{
	uint64_t bytes;

	if (type != GGUF_STRING) {
		if (__builtin_mul_overflow(count, (uint64_t)type_bytes[type], &bytes))
			return false;
		cursor_take(c, bytes);
		return !c->bad;
	}
	for (uint64_t i = 0; i < count && !c->bad; i++) /* ends with the file at the latest: a string takes 8 bytes */
		gguf_next_string(c);
	return !c->bad;
}

static int read_value(struct gguf *g, struct gguf_value *v, struct cursor *c, struct core_error *err)
{
	uint32_t type;
	size_t start;

	v->key = gguf_next_string(c);
	type = cursor_u32(c);
	if (c->bad || v->key.len == 0 || v->key.len > KEY_LIMIT)
		return damaged(g, c, "a metadata key", err);
	if (type >= N_TYPES)
		return core_fail(err, CORE_EFORMAT, "%s: metadata %.*s has the unknown type %" PRIu32, g->path,
				 v->key.len < 100 ? (int)v->key.len : 100, v->key.s, type);
	v->type = v->element = (enum gguf_type)type;
	v->count = 1;
	if (type == GGUF_ARRAY) {
		type = cursor_u32(c);
		v->count = cursor_u64(c);
		if (c->bad || type >= N_TYPES || type == GGUF_ARRAY)
			return damaged(g, c, "an array of an unknown element type", err);
		v->element = (enum gguf_type)type;
	}
	start = c->at;
	if (!skip_elements(c, v->element, v->count))
		return damaged(g, c, "a metadata value runs past the end of the file", err);
	v->bytes = (struct cursor){.data = c->data + start, .size = c->at - start};
	return 0;
}

static int read_info(struct gguf *g, struct gguf_tensor *t, struct cursor *c, struct core_error *err)
{
	t->name = gguf_next_string(c);
	t->n_dims = cursor_u32(c);
	if (c->bad || t->name.len == 0 || t->name.len >= NAME_LIMIT || memchr(t->name.s, 0, t->name.len) != NULL)
		return damaged(g, c, "a tensor's name", err);
	if (t->n_dims < 1 || t->n_dims > 4)
		return core_fail(err, CORE_EFORMAT, "%s: tensor %.*s: %u dimensions; 1 to 4 are possible", g->path,
				 (int)t->name.len, t->name.s, t->n_dims);
	for (unsigned i = t->n_dims; i-- > 0;) /* the file has the fastest first */
		t->dims[i] = cursor_u64(c);
	t->type = cursor_u32(c);
	t->offset = cursor_u64(c);
	return c->bad ? damaged(g, c, "a tensor's description runs past the end of the file", err) : 0;
}

static int key_order(const void *a, const void *b)
{
	const struct gguf_text x = ((const struct gguf_value *)a)->key, y = ((const struct gguf_value *)b)->key;
	int order = memcmp(x.s, y.s, x.len < y.len ? x.len : y.len);

	return order != 0 ? order : (x.len > y.len) - (x.len < y.len);
}

static int read_values(struct gguf *g, struct cursor *c, uint64_t n, struct core_error *err)
{
	int rc = 0;

	if (n > (c->size - c->at) / VALUE_MIN)
		return damaged(g, c, "more metadata than the file has room for", err);
	g->values = calloc((size_t)n + 1, sizeof *g->values);
	if (g->values == NULL)
		return core_fail(err, CORE_ENOMEM, "%s: out of memory for its metadata", g->path);
	for (; g->n_values < n && rc == 0; g->n_values++)
		rc = read_value(g, &g->values[g->n_values], c, err);
	if (rc < 0)
		return rc;
	qsort(g->values, g->n_values, sizeof *g->values, key_order);
	for (size_t i = 1; i < g->n_values; i++)
		if (key_order(&g->values[i - 1], &g->values[i]) == 0)
			return core_fail(err, CORE_EFORMAT, "%s: metadata %.*s is there twice", g->path,
					 g->values[i].key.len < 100 ? (int)g->values[i].key.len : 100, g->values[i].key.s);
	return 0;
}

static int read_infos(struct gguf *g, struct cursor *c, uint64_t n, struct core_error *err)
{
	int rc = 0;

	if (n > (c->size - c->at) / TENSOR_MIN)
		return damaged(g, c, "more tensors than the file has room for", err);
	g->tensors = calloc((size_t)n + 1, sizeof *g->tensors);
	if (g->tensors == NULL)
		return core_fail(err, CORE_ENOMEM, "%s: out of memory for its tensors", g->path);
	for (; g->n_tensors < n && rc == 0; g->n_tensors++)
		rc = read_info(g, &g->tensors[g->n_tensors], c, err);
	return rc;
}

static int find_data(struct gguf *g, const struct cursor *c, struct core_error *err)
{
	uint64_t alignment = DEFAULT_ALIGNMENT, start;
	int rc = gguf_uint(g, "general.alignment", false, UINT32_MAX, &alignment, err);

	if (rc < 0)
		return rc;
	if (alignment == 0 || (alignment & (alignment - 1)) != 0)
		return core_fail(err, CORE_EFORMAT, "%s: general.alignment %" PRIu64 " is not a power of two", g->path, alignment);
	start = (c->at + alignment - 1) & ~(alignment - 1);
	if (start > c->size)
		start = c->size; /* no tensors, or the check of each tensor fails */
	g->data = c->data + start;
	g->data_size = c->size - start;
	for (size_t i = 0; i < g->n_tensors; i++)
		if (g->tensors[i].offset % alignment != 0)
			return core_fail(err, CORE_EFORMAT, "%s: tensor %.*s is not aligned to %" PRIu64 " bytes", g->path,
					 (int)g->tensors[i].name.len, g->tensors[i].name.s, alignment);
	return 0;
}

static int check_version(const struct gguf *g, uint32_t version, struct core_error *err)
{
	if (version == 2 || version == 3)
		return 0;
	if (version != 0 && (version & 0xffff) == 0)
		return core_fail(err, CORE_EUNSUPPORTED, "%s: a big-endian GGUF file; convert it on a little-endian machine",
				 g->path);
	return core_fail(err, CORE_EUNSUPPORTED, "%s: GGUF version %" PRIu32 "; versions 2 and 3 are read%s", g->path, version,
			 version == 1 ? " (version 1 had 32-bit sizes: convert the file anew)" : "");
}

int gguf_parse(struct gguf *g, const struct map *m, const char *path, struct core_error *err)
{
	struct cursor c = {.data = m->data, .size = m->size, .at = 4};
	uint64_t n_tensors, n_values;
	uint32_t version;
	int rc;

	*g = (struct gguf){.path = path};
	if (!gguf_probe(m))
		return core_fail(err, CORE_EFORMAT, "%s: not a GGUF file", path);
	version = cursor_u32(&c);
	n_tensors = cursor_u64(&c);
	n_values = cursor_u64(&c);
	if (c.bad)
		return damaged(g, &c, "the file ends inside its header", err);
	rc = check_version(g, version, err);
	if (rc == 0)
		rc = read_values(g, &c, n_values, err);
	if (rc == 0)
		rc = read_infos(g, &c, n_tensors, err);
	if (rc == 0)
		rc = find_data(g, &c, err);
	if (rc < 0)
		gguf_finish(g);
	return rc;
}

void gguf_finish(struct gguf *g)
{
	free(g->values);
	free(g->tensors);
	*g = (struct gguf){0};
}

/* ---- metadata by key ---- */

const struct gguf_value *gguf_find(const struct gguf *g, const char *key)
{
	struct gguf_value v = {.key = {key, strlen(key)}};

	return g->n_values != 0 ? bsearch(&v, g->values, g->n_values, sizeof v, key_order) : NULL;
}

static int missing(const struct gguf *g, const char *key, bool required, struct core_error *err)
{
	return required ? core_fail(err, CORE_EFORMAT, "%s: metadata %s is missing", g->path, key) : 0;
}

/* Files differ in the width of their integers; any that fits will do. */
static bool as_uint(const struct gguf_value *v, uint64_t *out)
{
	struct cursor c = v->bytes;
	int64_t i;

	switch (v->type) {
	case GGUF_U8: *out = cursor_u8(&c); return true;
	case GGUF_U16: *out = cursor_u16(&c); return true;
	case GGUF_U32: *out = cursor_u32(&c); return true;
	case GGUF_U64: *out = cursor_u64(&c); return true;
	case GGUF_I8: i = (int8_t)cursor_u8(&c); break;
	case GGUF_I16: i = (int16_t)cursor_u16(&c); break;
	case GGUF_I32: i = (int32_t)cursor_u32(&c); break;
	case GGUF_I64: i = (int64_t)cursor_u64(&c); break;
	default: return false;
	}
	*out = (uint64_t)i;
	return i >= 0;
}

int gguf_uint(const struct gguf *g, const char *key, bool required, uint64_t max, uint64_t *out, struct core_error *err)
{
	const struct gguf_value *v = gguf_find(g, key);
	uint64_t n;

	if (v == NULL)
		return missing(g, key, required, err);
	if (!as_uint(v, &n) || n > max)
		return core_fail(err, CORE_EFORMAT, "%s: metadata %s: expected an integer from 0 to %" PRIu64, g->path, key, max);
	*out = n;
	return 0;
}

int gguf_float(const struct gguf *g, const char *key, bool required, float *out, struct core_error *err)
{
	const struct gguf_value *v = gguf_find(g, key);

	if (v == NULL)
		return missing(g, key, required, err);
	if (v->type == GGUF_F32) {
		memcpy(out, v->bytes.data, sizeof *out);
	} else if (v->type == GGUF_F64) {
		double d;
		memcpy(&d, v->bytes.data, sizeof d);
		*out = (float)d;
	} else {
		return core_fail(err, CORE_EFORMAT, "%s: metadata %s: expected a float", g->path, key);
	}
	return 0;
}

int gguf_bool(const struct gguf *g, const char *key, bool *out, struct core_error *err)
{
	const struct gguf_value *v = gguf_find(g, key);

	if (v == NULL)
		return 0;
	if (v->type != GGUF_BOOL)
		return core_fail(err, CORE_EFORMAT, "%s: metadata %s: expected a bool", g->path, key);
	*out = v->bytes.data[0] != 0;
	return 0;
}

int gguf_string(const struct gguf *g, const char *key, bool required, struct gguf_text *out, struct core_error *err)
{
	const struct gguf_value *v = gguf_find(g, key);
	struct cursor c;

	if (v == NULL)
		return missing(g, key, required, err);
	if (v->type != GGUF_STRING)
		return core_fail(err, CORE_EFORMAT, "%s: metadata %s: expected a string", g->path, key);
	c = v->bytes;
	*out = gguf_next_string(&c);
	return 0;
}

int gguf_array(const struct gguf *g, const char *key, enum gguf_type element, bool required, const struct gguf_value **out,
	       struct core_error *err)
{
	const struct gguf_value *v = gguf_find(g, key);

	*out = v;
	if (v == NULL)
		return missing(g, key, required, err);
	if (v->type != GGUF_ARRAY || v->element != element)
		return core_fail(err, CORE_EFORMAT, "%s: metadata %s: expected an array of another element type", g->path, key);
	return 0;
}
