/* wire.c: see wire.h. Decoding goes in three steps: scan the bytes (nothing is allocated), decode with msgpack-c into one zone
 * whose size the scan has bounded, then look for duplicate keys by sorting (a map of n keys costs n log n, never n squared). */
#include "wire.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- codes ---- */

/* clang-format off */
static const struct {
	const char *name;
	bool retry;
} codes[WIRE_N_CODES] = {
	[WIRE_OK] = {"ok", false},
#define X(id, name, retry, text) [WIRE_##id] = {name, retry},
	WIRE_CODES(X)
#undef X
};
/* clang-format on */

const char *wire_code_name(enum wire_code c)
{
	return (unsigned)c < WIRE_N_CODES ? codes[c].name : "internal";
}

bool wire_code_retry(enum wire_code c)
{
	return (unsigned)c < WIRE_N_CODES && codes[c].retry;
}

enum wire_code wire_code_from_name(const char *name, size_t len)
{
	for (int c = WIRE_OK + 1; c < WIRE_N_CODES; c++)
		if (strlen(codes[c].name) == len && memcmp(codes[c].name, name, len) == 0)
			return c;
	return WIRE_OK;
}

/* ---- UTF-8 ---- */

/* Bytes of the well-formed character at p (Unicode table 3-7: no overlong forms, no surrogates, nothing above U+10FFFF), 0 if there
 * is none. */
static size_t utf8_char(const uint8_t *p, size_t len)
{
	uint8_t low = 0x80, high = 0xbf; /* allowed second byte */
	size_t n;

	if (p[0] < 0x80)
		return 1;
	if (p[0] >= 0xc2 && p[0] <= 0xdf)
		n = 2;
	else if (p[0] >= 0xe0 && p[0] <= 0xef)
		n = 3;
	else if (p[0] >= 0xf0 && p[0] <= 0xf4)
		n = 4;
	else
		return 0;
	if (p[0] == 0xe0)
		low = 0xa0;
	else if (p[0] == 0xed)
		high = 0x9f;
	else if (p[0] == 0xf0)
		low = 0x90;
	else if (p[0] == 0xf4)
		high = 0x8f;
	if (len < n || p[1] < low || p[1] > high)
		return 0;
	for (size_t i = 2; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return n;
}

bool wire_utf8_valid(const char *s, size_t len)
{
	const uint8_t *p = (const uint8_t *)s;

	while (len > 0) {
		uint64_t eight;
		if (len >= 8 && (memcpy(&eight, p, 8), (eight & 0x8080808080808080u) == 0)) {
			p += 8;
			len -= 8;
			continue;
		}
		size_t n = utf8_char(p, len);
		if (n == 0)
			return false;
		p += n;
		len -= n;
	}
	return true;
}

/* ---- the scan ---- */

_Static_assert(WIRE_MAX_DEPTH == 16 && WIRE_MAX_OBJECTS == 2097152 && WIRE_MAX_MESSAGE == 16777216,
	       "the reasons below name these numbers");

struct scan {
	const uint8_t *p;
	size_t left;   /* bytes from p on */
	uint64_t owed; /* objects that open maps and arrays still want: each takes at least one of the bytes left */
	uint64_t objects;
	const char *why;
	unsigned depth;
	struct {
		uint64_t left; /* objects; a map of n pairs holds 2 n */
		bool map;
	} level[WIRE_MAX_DEPTH];
};

enum scan_kind { SCAN_PLAIN, SCAN_STR, SCAN_BIN, SCAN_ARRAY, SCAN_MAP };

static int scan_fail(struct scan *s, const char *why)
{
	s->why = why;
	return -1;
}

/* Takes a big-endian length of n bytes. */
static int scan_length(struct scan *s, unsigned n, uint64_t *v)
{
	if (s->left < n)
		return scan_fail(s, "the frame ends inside a value");
	for (*v = 0; n > 0; n--, s->left--)
		*v = *v << 8 | *s->p++;
	return 0;
}

/* Takes the head of one object: its kind, and its size in bytes (SCAN_ARRAY, SCAN_MAP: in elements, in pairs). */
static int scan_head(struct scan *s, enum scan_kind *kind, uint64_t *size)
{
	uint8_t b = *s->p++;

	s->left--;
	*kind = SCAN_PLAIN;
	*size = 0;
	if (b < 0x80 || b >= 0xe0) /* small integers */
		return 0;
	if (b < 0x90) {
		*kind = SCAN_MAP;
		*size = b & 0x0f;
		return 0;
	}
	if (b < 0xa0) {
		*kind = SCAN_ARRAY;
		*size = b & 0x0f;
		return 0;
	}
	if (b < 0xc0) {
		*kind = SCAN_STR;
		*size = b & 0x1f;
		return 0;
	}
	switch (b) {
	case 0xc0:
	case 0xc2:
	case 0xc3: /* nil, false, true */
		return 0;
	case 0xc4:
	case 0xc5:
	case 0xc6:
		*kind = SCAN_BIN;
		return scan_length(s, 1u << (b - 0xc4), size);
	case 0xca:
	case 0xcb: /* f32, f64 */
		*size = 4u << (b - 0xca);
		return 0;
	case 0xcc:
	case 0xcd:
	case 0xce:
	case 0xcf:
		*size = 1u << (b - 0xcc);
		return 0;
	case 0xd0:
	case 0xd1:
	case 0xd2:
	case 0xd3:
		*size = 1u << (b - 0xd0);
		return 0;
	case 0xd9:
	case 0xda:
	case 0xdb:
		*kind = SCAN_STR;
		return scan_length(s, 1u << (b - 0xd9), size);
	case 0xdc:
	case 0xdd:
		*kind = SCAN_ARRAY;
		return scan_length(s, 2u << (b - 0xdc), size);
	case 0xde:
	case 0xdf:
		*kind = SCAN_MAP;
		return scan_length(s, 2u << (b - 0xde), size);
	case 0xc1:
		return scan_fail(s, "the byte 0xc1 is not msgpack");
	default: /* c7..c9, d4..d8 */
		return scan_fail(s, "ext types are not part of the protocol");
	}
}

static int scan_open(struct scan *s, bool map, uint64_t objects)
{
	s->owed += objects;
	if (s->owed > s->left)
		return scan_fail(s, "a map or array claims more elements than the frame has bytes");
	if (s->depth == WIRE_MAX_DEPTH)
		return scan_fail(s, "maps and arrays are nested deeper than 16");
	s->level[s->depth].map = map;
	s->level[s->depth++].left = objects;
	return 0;
}

/* Takes one object (of a map or array: its head). */
static int scan_object(struct scan *s)
{
	bool key = s->depth > 0 && s->level[s->depth - 1].map && s->level[s->depth - 1].left % 2 == 0;
	enum scan_kind kind;
	uint64_t size;

	if (s->left == 0)
		return scan_fail(s, "the frame ends inside a map or array");
	if (++s->objects > WIRE_MAX_OBJECTS)
		return scan_fail(s, "the frame holds more than 2097152 values");
	if (s->depth > 0) {
		s->level[s->depth - 1].left--;
		s->owed--;
	}
	if (scan_head(s, &kind, &size) < 0)
		return -1;
	if (key && kind != SCAN_STR)
		return scan_fail(s, "a key is not a str");
	if (kind == SCAN_MAP || kind == SCAN_ARRAY)
		return scan_open(s, kind == SCAN_MAP, kind == SCAN_MAP ? 2 * size : size);
	if (size > s->left)
		return scan_fail(s, "the frame ends inside a value");
	if (kind == SCAN_STR && !wire_utf8_valid((const char *)s->p, size))
		return scan_fail(s, "a str is not valid UTF-8");
	s->p += size;
	s->left -= size;
	return 0;
}

static int scan_frame(const void *data, size_t len, const char **why)
{
	struct scan s = {.p = data, .left = len};

	if (len == 0)
		return *why = "the frame is empty", -1;
	if (len > WIRE_MAX_MESSAGE)
		return *why = "the frame is larger than 16 MiB", -1;
	if ((s.p[0] & 0xf0) != 0x80 && s.p[0] != 0xde && s.p[0] != 0xdf)
		return *why = "the body is not a map", -1;
	do {
		if (scan_object(&s) < 0)
			return *why = s.why, -1;
		while (s.depth > 0 && s.level[s.depth - 1].left == 0)
			s.depth--;
	} while (s.depth > 0);
	if (s.left > 0)
		return *why = "bytes follow the map", -1;
	return 0;
}

/* ---- duplicate keys ---- */

static int compare_keys(const void *a, const void *b)
{
	const msgpack_object_str *x = a, *y = b;
	size_t n = x->size < y->size ? x->size : y->size;
	int order = n > 0 ? memcmp(x->ptr, y->ptr, n) : 0;

	return order != 0 ? order : (x->size > y->size) - (x->size < y->size);
}

/* 1: some key stands twice, 0: none does, -1: out of memory. */
static int map_has_duplicates(const msgpack_object_map *m)
{
	msgpack_object_str few[16], *keys = few;
	int found = 0;

	if (m->size > 16) {
		keys = malloc(m->size * sizeof(*keys));
		if (keys == NULL)
			return -1;
	}
	for (uint32_t i = 0; i < m->size; i++)
		keys[i] = m->ptr[i].key.via.str;
	if (m->size > 1)
		qsort(keys, m->size, sizeof(*keys), compare_keys);
	for (uint32_t i = 1; i < m->size && !found; i++)
		found = compare_keys(&keys[i - 1], &keys[i]) == 0;
	if (keys != few)
		free(keys);
	return found;
}

/* Recursion ends at WIRE_MAX_DEPTH: the scan has seen to it. */
static int check_duplicates(const msgpack_object *o, const char **why)
{
	if (o->type == MSGPACK_OBJECT_ARRAY) {
		for (uint32_t i = 0; i < o->via.array.size; i++)
			if (check_duplicates(&o->via.array.ptr[i], why) < 0)
				return -1;
	} else if (o->type == MSGPACK_OBJECT_MAP) {
		int found = map_has_duplicates(&o->via.map);
		if (found != 0)
			return *why = found > 0 ? "a key stands twice in one map" : "out of memory", -1;
		for (uint32_t i = 0; i < o->via.map.size; i++)
			if (check_duplicates(&o->via.map.ptr[i].val, why) < 0)
				return -1;
	}
	return 0;
}

/* ---- reading ---- */

int wire_decode(struct wire_msg *m, const void *data, size_t len, const char **why)
{
	size_t offset = 0;
	char *copy;

	if (scan_frame(data, len, why) < 0)
		return -1;
	if (!msgpack_zone_init(&m->zone, len + 4096))
		return *why = "out of memory", -1;
	copy = msgpack_zone_malloc_no_align(&m->zone, len);
	if (copy == NULL) {
		*why = "out of memory";
		goto fail;
	}
	memcpy(copy, data, len); /* msgpack-c's strings point into the bytes that it reads */
	if (msgpack_unpack(copy, len, &offset, &m->zone, &m->root) != MSGPACK_UNPACK_SUCCESS) {
		*why = "the frame cannot be decoded";
		goto fail;
	}
	if (check_duplicates(&m->root, why) < 0)
		goto fail;
	return 0;
fail:
	msgpack_zone_destroy(&m->zone);
	return -1;
}

void wire_finish(struct wire_msg *m)
{
	msgpack_zone_destroy(&m->zone);
}

bool wire_is_cstr(const msgpack_object *o, const char *text)
{
	const char *s;
	size_t n;

	return wire_get_str(o, &s, &n) && n == strlen(text) && memcmp(s, text, n) == 0;
}

const msgpack_object *wire_get(const msgpack_object *map, const char *key)
{
	if (map == NULL || map->type != MSGPACK_OBJECT_MAP)
		return NULL;
	for (uint32_t i = 0; i < map->via.map.size; i++)
		if (wire_is_cstr(&map->via.map.ptr[i].key, key))
			return &map->via.map.ptr[i].val;
	return NULL;
}

bool wire_get_str(const msgpack_object *o, const char **s, size_t *len)
{
	if (o == NULL || o->type != MSGPACK_OBJECT_STR)
		return false;
	*s = o->via.str.size > 0 ? o->via.str.ptr : "";
	*len = o->via.str.size;
	return true;
}

bool wire_get_uint(const msgpack_object *o, uint64_t *v)
{
	if (o == NULL || o->type != MSGPACK_OBJECT_POSITIVE_INTEGER || o->via.u64 > WIRE_MAX_INT)
		return false;
	*v = o->via.u64;
	return true;
}

bool wire_get_int(const msgpack_object *o, int64_t *v)
{
	uint64_t u;

	if (wire_get_uint(o, &u)) {
		*v = (int64_t)u;
		return true;
	}
	if (o == NULL || o->type != MSGPACK_OBJECT_NEGATIVE_INTEGER || o->via.i64 < -(int64_t)WIRE_MAX_INT)
		return false;
	*v = o->via.i64;
	return true;
}

bool wire_get_float(const msgpack_object *o, double *v)
{
	int64_t i;

	if (wire_get_int(o, &i)) {
		*v = (double)i;
		return true;
	}
	if (o == NULL || (o->type != MSGPACK_OBJECT_FLOAT32 && o->type != MSGPACK_OBJECT_FLOAT64) || !isfinite(o->via.f64))
		return false;
	*v = o->via.f64;
	return true;
}

bool wire_get_bool(const msgpack_object *o, bool *v)
{
	if (o == NULL || o->type != MSGPACK_OBJECT_BOOLEAN)
		return false;
	*v = o->via.boolean;
	return true;
}

const char *wire_type_name(const msgpack_object *o)
{
	if (o == NULL)
		return "nothing";
	switch (o->type) {
	case MSGPACK_OBJECT_NIL:
		return "nil";
	case MSGPACK_OBJECT_BOOLEAN:
		return "bool";
	case MSGPACK_OBJECT_POSITIVE_INTEGER:
		return o->via.u64 > WIRE_MAX_INT ? "an integer that is not below 2^53" : "uint";
	case MSGPACK_OBJECT_NEGATIVE_INTEGER:
		return o->via.i64 < -(int64_t)WIRE_MAX_INT ? "an integer that is not above -2^53" : "int";
	case MSGPACK_OBJECT_FLOAT32:
	case MSGPACK_OBJECT_FLOAT64:
		return isfinite(o->via.f64) ? "float" : "a float that is not finite";
	case MSGPACK_OBJECT_STR:
		return "str";
	case MSGPACK_OBJECT_ARRAY:
		return "array";
	case MSGPACK_OBJECT_MAP:
		return "map";
	case MSGPACK_OBJECT_BIN:
		return "bin";
	default:
		return "ext";
	}
}

/* ---- writing ---- */

void wire_buf_init(struct wire_buf *b)
{
	msgpack_sbuffer_init(&b->out);
	msgpack_packer_init(&b->packer, &b->out, msgpack_sbuffer_write);
	b->failed = false;
}

void wire_buf_finish(struct wire_buf *b)
{
	msgpack_sbuffer_destroy(&b->out);
	wire_buf_init(b);
}

void wire_buf_clear(struct wire_buf *b)
{
	msgpack_sbuffer_clear(&b->out);
	b->failed = false;
}

void *wire_buf_take(struct wire_buf *b, size_t *len)
{
	void *bytes, *fitted;

	*len = b->failed ? 0 : b->out.size;
	if (b->failed) {
		wire_buf_clear(b);
		return NULL;
	}
	bytes = msgpack_sbuffer_release(&b->out);
	wire_buf_init(b);
	fitted = *len > 0 ? realloc(bytes, *len) : NULL; /* it grew from 8 KiB on; what is kept for long should be small */
	return fitted != NULL ? fitted : bytes;
}

static void note(struct wire_buf *b, int result)
{
	if (result != 0)
		b->failed = true;
}

void wire_map(struct wire_buf *b, size_t n)
{
	note(b, msgpack_pack_map(&b->packer, n));
}

void wire_array(struct wire_buf *b, size_t n)
{
	note(b, msgpack_pack_array(&b->packer, n));
}

void wire_str(struct wire_buf *b, const char *s)
{
	wire_strn(b, s, strlen(s));
}

void wire_strn(struct wire_buf *b, const char *s, size_t n)
{
	note(b, msgpack_pack_str(&b->packer, n));
	if (n > 0)
		note(b, msgpack_pack_str_body(&b->packer, s, n));
}

void wire_uint(struct wire_buf *b, uint64_t v)
{
	note(b, msgpack_pack_uint64(&b->packer, v));
}

void wire_int(struct wire_buf *b, int64_t v)
{
	note(b, msgpack_pack_int64(&b->packer, v));
}

void wire_float(struct wire_buf *b, double v)
{
	if (!isfinite(v))
		wire_nil(b);
	else if (fabs(v) <= 3.4e38 && (double)(float)v == v)
		note(b, msgpack_pack_float(&b->packer, (float)v));
	else
		note(b, msgpack_pack_double(&b->packer, v));
}

void wire_bool(struct wire_buf *b, bool v)
{
	note(b, v ? msgpack_pack_true(&b->packer) : msgpack_pack_false(&b->packer));
}

void wire_nil(struct wire_buf *b)
{
	note(b, msgpack_pack_nil(&b->packer));
}

void wire_object(struct wire_buf *b, const msgpack_object *o)
{
	note(b, msgpack_pack_object(&b->packer, *o));
}

void wire_raw(struct wire_buf *b, const void *data, size_t n)
{
	if (n > 0)
		note(b, msgpack_sbuffer_write(&b->out, data, n));
}

bool wire_topic_valid(const char *s, size_t len)
{
	if (len != WIRE_TOPIC_LEN)
		return false;
	for (size_t i = 0; i < len; i++)
		if (!((s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'f')))
			return false;
	return true;
}
