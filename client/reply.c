/* reply.c: decoded bodies, read by paths such as "model.layers" or "jobs.0.state". */
#include "libweft.h"
#include "wire-json.h"
#include <stdlib.h>
#include <string.h>

/* Gives every str a NUL behind it, so that callers get C strings. Recursion ends at WIRE_MAX_DEPTH. */
static bool terminate(msgpack_object *o, msgpack_zone *zone)
{
	if (o->type == MSGPACK_OBJECT_STR) {
		char *copy = msgpack_zone_malloc_no_align(zone, o->via.str.size + 1);
		if (copy == NULL)
			return false;
		memcpy(copy, o->via.str.size > 0 ? o->via.str.ptr : "", o->via.str.size);
		copy[o->via.str.size] = 0;
		o->via.str.ptr = copy;
	} else if (o->type == MSGPACK_OBJECT_ARRAY) {
		for (uint32_t i = 0; i < o->via.array.size; i++)
			if (!terminate(&o->via.array.ptr[i], zone))
				return false;
	} else if (o->type == MSGPACK_OBJECT_MAP) {
		for (uint32_t i = 0; i < o->via.map.size; i++)
			if (!terminate(&o->via.map.ptr[i].key, zone) || !terminate(&o->via.map.ptr[i].val, zone))
				return false;
	}
	return true;
}

struct weft_reply *reply_decode(const void *data, size_t len, const char **why)
{
	struct weft_reply *r = malloc(sizeof(*r));

	*why = "out of memory";
	if (r == NULL)
		return NULL;
	if (wire_decode(&r->msg, data, len, why) < 0) {
		free(r);
		return NULL;
	}
	if (!terminate(&r->msg.root, &r->msg.zone)) {
		weft_reply_free(r);
		return NULL;
	}
	return r;
}

void weft_reply_free(struct weft_reply *r)
{
	if (r == NULL)
		return;
	wire_finish(&r->msg);
	free(r);
}

static const msgpack_object *member(const msgpack_object *o, const char *name, size_t len)
{
	char *end;
	unsigned long i;

	if (o->type == MSGPACK_OBJECT_MAP) {
		for (uint32_t k = 0; k < o->via.map.size; k++) {
			const msgpack_object_str *key = &o->via.map.ptr[k].key.via.str;
			if (key->size == len && memcmp(key->ptr, name, len) == 0)
				return &o->via.map.ptr[k].val;
		}
		return NULL;
	}
	if (o->type != MSGPACK_OBJECT_ARRAY || name[0] < '0' || name[0] > '9')
		return NULL;
	i = strtoul(name, &end, 10);
	return end == name + len && i < o->via.array.size ? &o->via.array.ptr[i] : NULL;
}

const msgpack_object *reply_at(const struct weft_reply *r, const char *path)
{
	const msgpack_object *o = &r->msg.root;

	while (path != NULL && *path != 0 && o != NULL) {
		size_t n = strcspn(path, ".");
		o = member(o, path, n);
		path += n + (path[n] == '.');
	}
	return o;
}

bool weft_reply_has(const struct weft_reply *r, const char *path)
{
	return reply_at(r, path) != NULL;
}

bool weft_reply_uint(const struct weft_reply *r, const char *path, uint64_t *value)
{
	return wire_get_uint(reply_at(r, path), value);
}

bool weft_reply_int(const struct weft_reply *r, const char *path, int64_t *value)
{
	return wire_get_int(reply_at(r, path), value);
}

bool weft_reply_float(const struct weft_reply *r, const char *path, double *value)
{
	return wire_get_float(reply_at(r, path), value);
}

bool weft_reply_bool(const struct weft_reply *r, const char *path, bool *value)
{
	return wire_get_bool(reply_at(r, path), value);
}

const char *weft_reply_str(const struct weft_reply *r, const char *path, size_t *len)
{
	const char *s;
	size_t n;

	if (!wire_get_str(reply_at(r, path), &s, &n))
		return NULL;
	if (len != NULL)
		*len = n;
	return s;
}

size_t weft_reply_count(const struct weft_reply *r, const char *path)
{
	const msgpack_object *o = reply_at(r, path);

	if (o != NULL && o->type == MSGPACK_OBJECT_ARRAY)
		return o->via.array.size;
	return o != NULL && o->type == MSGPACK_OBJECT_MAP ? o->via.map.size : 0;
}

const char *weft_reply_key(const struct weft_reply *r, const char *path, size_t i)
{
	const msgpack_object *o = reply_at(r, path);

	return o != NULL && o->type == MSGPACK_OBJECT_MAP && i < o->via.map.size ? o->via.map.ptr[i].key.via.str.ptr : NULL;
}

char *weft_reply_json(const struct weft_reply *r, const char *path)
{
	const msgpack_object *o = reply_at(r, path);
	json_t *v = o != NULL ? wire_to_json(o) : NULL;
	char *text = v != NULL ? json_dumps(v, JSON_ENCODE_ANY) : NULL;

	json_decref(v);
	return text;
}

struct weft_reply *weft_reply_copy(const struct weft_reply *r, const char *path)
{
	const msgpack_object *o = reply_at(r, path);
	struct weft_reply *copy = NULL;
	struct wire_buf bytes;
	const char *why;

	if (o == NULL || o->type != MSGPACK_OBJECT_MAP)
		return NULL;
	wire_buf_init(&bytes);
	wire_object(&bytes, o);
	if (!bytes.failed)
		copy = reply_decode(bytes.out.data, bytes.out.size, &why);
	wire_buf_finish(&bytes);
	return copy;
}
