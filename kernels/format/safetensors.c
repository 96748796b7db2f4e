/* safetensors.c: one .safetensors file: u64 header length, a JSON object {name: {dtype, shape, data_offsets}}, then the bytes. */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "format.h"

/* A 70B model's header is about 100 kB. The parser takes some tens of bytes of memory per byte of JSON, hence the limit. */
enum { HEADER_MAX = 16 << 20 };

struct span {
	const char *path;
	const uint8_t *data;	/* after the header */
	uint64_t size;
};

/* bytes: whether U8 is one, too. */
static bool dtype_of(const char *s, bool bytes, enum tensor_type *t)
{
	if (s != NULL && strcmp(s, "F32") == 0)
		*t = TENSOR_F32;
	else if (s != NULL && strcmp(s, "F16") == 0)
		*t = TENSOR_F16;
	else if (s != NULL && strcmp(s, "BF16") == 0)
		*t = TENSOR_BF16;
	else if (s != NULL && bytes && strcmp(s, "U8") == 0)
		*t = TENSOR_U8;
	else
		return false;
	return true;
}

static bool read_dims(const json_t *shape, struct tensor *t)
{
	if (!json_is_array(shape) || json_array_size(shape) < 1 || json_array_size(shape) > 4)
		return false;
	t->n_dims = (unsigned)json_array_size(shape);
	for (unsigned i = 0; i < t->n_dims; i++) {
		const json_t *d = json_array_get(shape, i);
		if (!json_is_integer(d) || json_integer_value(d) < 0)
			return false;
		t->dims[i] = (uint64_t)json_integer_value(d);
	}
	return true;
}

static int read_tensor(struct checkpoint *cp, const struct span *s, const char *name, const json_t *o, struct core_error *err)
{
	const char *dtype = json_string_value(json_object_get(o, "dtype"));
	const json_t *offsets = json_object_get(o, "data_offsets"), *b = json_array_get(offsets, 0),
		     *e = json_array_get(offsets, 1);
	struct tensor t = {.name = name};
	uint64_t begin, end;

	if (!json_is_integer(b) || !json_is_integer(e) || json_array_size(offsets) != 2 || json_integer_value(b) < 0 ||
	    json_integer_value(e) < json_integer_value(b) || (uint64_t)json_integer_value(e) > s->size)
		return core_fail(err, CORE_EFORMAT,
				 "%s: tensor %.100s: data_offsets do not lie in the file's %" PRIu64 " data bytes", s->path, name,
				 s->size);
	begin = (uint64_t)json_integer_value(b);
	end = (uint64_t)json_integer_value(e);
	if (!dtype_of(dtype, cp->config.bitsandbytes, &t.type)) {
		if (!cp->adapter && !tensor_is_weight(name)) /* masks, counters and the like: not ours */
			return 0;
		return core_fail(err, CORE_EUNSUPPORTED, "%s: tensor %s: dtype %.20s is not read (F32, F16 and BF16 are)", s->path,
				 name, dtype != NULL ? dtype : "(missing)");
	}
	if (!read_dims(json_object_get(o, "shape"), &t)) {
		if (!cp->adapter && !tensor_is_weight(name)) /* a scalar, for instance */
			return 0;
		return core_fail(err, CORE_EFORMAT, "%s: tensor %s: shape: expected 1 to 4 sizes", s->path, name);
	}
	if (!tensor_size(&t, &t.bytes) || t.bytes != end - begin)
		return core_fail(err, CORE_EFORMAT, "%s: tensor %.100s: %" PRIu64 " bytes do not fit its shape and dtype", s->path,
				 name, end - begin);
	t.data = s->data + begin;
	return checkpoint_add(cp, &t, s->path, err);
}

static int read_header(struct checkpoint *cp, const struct span *s, const json_t *root, struct core_error *err)
{
	const char *name;
	const json_t *value;

	if (!json_is_object(root))
		return core_fail(err, CORE_EFORMAT, "%s: the header is not a JSON object", s->path);
	/* jansson's macro wants a non-const object; nothing is changed. */
	json_object_foreach((json_t *)root, name, value) {
		int rc;
		if (strcmp(name, "__metadata__") == 0)
			continue;
		rc = read_tensor(cp, s, name, value, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int safetensors_read(struct checkpoint *cp, const struct map *m, const char *path, struct core_error *err)
{
	struct cursor c = {.data = m->data, .size = m->size};
	struct span s = {.path = path};
	json_t *root;
	uint64_t length = cursor_u64(&c);
	int rc;

	if (c.bad || length > m->size - c.at)
		return core_fail(err, CORE_EFORMAT, "%s: not a safetensors file: its header does not fit in its %zu bytes", path,
				 m->size);
	if (length > HEADER_MAX)
		return core_fail(err, CORE_EFORMAT, "%s: the header claims %" PRIu64 " bytes; %d is the limit", path, length,
				 HEADER_MAX);
	rc = json_parse(&root, (const char *)m->data + c.at, (size_t)length, path, err);
	if (rc < 0)
		return rc;
	s.data = m->data + c.at + length;
	s.size = m->size - c.at - length;
	rc = read_header(cp, &s, root, err);
	json_decref(root);
	return rc;
}
