/* wire-json.c: see wire-json.h. Depth is bounded by the decoder on one side (WIRE_MAX_DEPTH) and by jansson on the other. */
#include "wire-json.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static json_t *array_to_json(const msgpack_object_array *a)
{
	json_t *v = json_array();

	for (uint32_t i = 0; i < a->size && v != NULL; i++) {
		if (json_array_append_new(v, wire_to_json(&a->ptr[i])) < 0) {
			json_decref(v);
			v = NULL;
		}
	}
	return v;
}

static json_t *map_to_json(const msgpack_object_map *m)
{
	json_t *v = json_object();

	for (uint32_t i = 0; i < m->size && v != NULL; i++) {
		const msgpack_object_str *k = &m->ptr[i].key.via.str;
		char *key = strndup(k->size > 0 ? k->ptr : "", k->size);
		if (key == NULL || json_object_set_new(v, key, wire_to_json(&m->ptr[i].val)) < 0) {
			json_decref(v);
			v = NULL;
		}
		free(key);
	}
	return v;
}

json_t *wire_to_json(const msgpack_object *o)
{
	switch (o->type) {
	case MSGPACK_OBJECT_NIL:
		return json_null();
	case MSGPACK_OBJECT_BOOLEAN:
		return json_boolean(o->via.boolean);
	case MSGPACK_OBJECT_POSITIVE_INTEGER:
		return json_integer((json_int_t)o->via.u64);
	case MSGPACK_OBJECT_NEGATIVE_INTEGER:
		return json_integer(o->via.i64);
	case MSGPACK_OBJECT_FLOAT32:
	case MSGPACK_OBJECT_FLOAT64:
		return isfinite(o->via.f64) ? json_real(o->via.f64) : json_null();
	case MSGPACK_OBJECT_STR:
		return json_stringn(o->via.str.size > 0 ? o->via.str.ptr : "", o->via.str.size);
	case MSGPACK_OBJECT_ARRAY:
		return array_to_json(&o->via.array);
	case MSGPACK_OBJECT_MAP:
		return map_to_json(&o->via.map);
	default:
		return NULL;
	}
}

void wire_from_json(struct wire_buf *b, const json_t *v)
{
	size_t i;
	const char *key;
	json_t *member;

	switch (json_typeof(v)) {
	case JSON_NULL:
		wire_nil(b);
		break;
	case JSON_TRUE:
		wire_bool(b, true);
		break;
	case JSON_FALSE:
		wire_bool(b, false);
		break;
	case JSON_INTEGER:
		wire_int(b, json_integer_value(v));
		break;
	case JSON_REAL:
		wire_float(b, json_real_value(v));
		break;
	case JSON_STRING:
		wire_strn(b, json_string_value(v), json_string_length(v));
		break;
	case JSON_ARRAY:
		wire_array(b, json_array_size(v));
		for (i = 0; i < json_array_size(v); i++)
			wire_from_json(b, json_array_get(v, i));
		break;
	case JSON_OBJECT:
		wire_map(b, json_object_size(v));
		json_object_foreach((json_t *)v, key, member)
		{
			wire_str(b, key);
			wire_from_json(b, member);
		}
		break;
	}
}
