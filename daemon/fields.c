/* fields.c: types and ranges. */
#include "fields.h"
#include <inttypes.h>
#include <string.h>

int field_uint(const msgpack_object *body, const char *name, uint64_t min, uint64_t max, uint64_t *out, struct problem *p)
{
	const msgpack_object *o = wire_get(body, name);
	uint64_t v;
	if (!o)
		return 0;
	if (!wire_get_uint(o, &v))
		return problem_type(p, name, "an unsigned integer", o);
	if (v < min || v > max)
		return problem_set(p, WIRE_INVALID_ARGUMENT, name, "must be from %" PRIu64 " to %" PRIu64, min, max);
	*out = v;
	return 0;
}

int field_float(const msgpack_object *body, const char *name, double *out, struct problem *p)
{
	const msgpack_object *o = wire_get(body, name);
	return !o || wire_get_float(o, out) ? 0 : problem_type(p, name, "a number", o);
}

int field_bool(const msgpack_object *body, const char *name, bool *out, struct problem *p)
{
	const msgpack_object *o = wire_get(body, name);
	return !o || wire_get_bool(o, out) ? 0 : problem_type(p, name, "a bool", o);
}

int field_text(const msgpack_object *body, const char *name, char *buf, size_t size, struct problem *p)
{
	const msgpack_object *o = wire_get(body, name);
	const char *s;
	size_t len;
	if (!o)
		return 0;
	if (!wire_get_str(o, &s, &len))
		return problem_type(p, name, "a str", o);
	if (len >= size || memchr(s, 0, len))
		return problem_set(p, WIRE_INVALID_ARGUMENT, name, "expected at most %zu bytes and no NUL", size - 1);
	memcpy(buf, s, len);
	buf[len] = 0;
	return 0;
}
