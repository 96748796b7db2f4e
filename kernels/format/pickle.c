/* pickle.c: a machine for the pickles that torch.save writes. It carries out nothing: see pickle.h. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pickle.h"

/* A 70B model's whole state dictionary is a pickle of about 100 kB. */
enum { PICKLE_MAX = 8 << 20 };

enum kind { V_NONE, V_BOOL, V_INT, V_TEXT, V_FUNCTION, V_DTYPE, V_TUPLE, V_LIST, V_DICT, V_STORAGE, V_TENSOR };

enum function { F_ORDERED_DICT, F_REBUILD_TENSOR, F_REBUILD_PARAMETER };

struct value {
	enum kind kind;
	union {
		int64_t i;
		struct pickle_text text;
		enum function function;
		const struct pickle_dtype *dtype;
		struct {
			uint32_t first, n;	/* machine.items */
		} tuple;
		uint32_t pairs;			/* of a dict: how many were set */
		struct {
			const struct pickle_dtype *dtype;
			uint32_t key;		/* a V_TEXT */
			uint64_t elements;
		} storage;
		uint32_t tensor;		/* machine.tensors */
	} u;
};

struct pair {
	uint32_t dict, key, value;
};

/* An array that grows. Everything here is numbered by uint32_t: PICKLE_MAX instructions cannot make more. */
struct list {
	void *at;
	uint32_t n, room;
};

struct machine {
	struct cursor in;
	const char *path;
	struct core_error *err;
	struct list values;	/* struct value; 0 is not used */
	struct list stack;	/* uint32_t values; MARK stands for itself */
	struct list items;	/* uint32_t values: contents of all tuples */
	struct list memo;	/* uint32_t values */
	struct list pairs;	/* struct pair, in the order they were set */
	struct list tensors;	/* struct pickle_tensor */
};

enum { MARK = 0 };

static const struct pickle_dtype dtypes[] = {
	{"FloatStorage", 4, true, TENSOR_F32}, {"HalfStorage", 2, true, TENSOR_F16}, {"BFloat16Storage", 2, true, TENSOR_BF16},
	{"DoubleStorage", 8, false, 0},        {"LongStorage", 8, false, 0},         {"IntStorage", 4, false, 0},
	{"ShortStorage", 2, false, 0},         {"CharStorage", 1, false, 0},         {"ByteStorage", 1, false, 0},
	{"BoolStorage", 1, false, 0},          {"ComplexFloatStorage", 8, false, 0}, {"ComplexDoubleStorage", 16, false, 0},
};

static const struct {
	const char *module, *name;
	enum function function;
} functions[] = {
	{"collections", "OrderedDict", F_ORDERED_DICT},
	{"torch._utils", "_rebuild_tensor_v2", F_REBUILD_TENSOR},
	{"torch._utils", "_rebuild_parameter", F_REBUILD_PARAMETER},
};

#define FAIL(m, code, ...) core_fail((m)->err, code, __VA_ARGS__)

static int damaged(struct machine *m, const char *what)
{
	return FAIL(m, CORE_EFORMAT, "%s: data.pkl is damaged at byte %zu: %s", m->path, m->in.at, what);
}

/* ---- arrays ---- */

static void *list_add(struct machine *m, struct list *l, size_t size)
{
	if (l->n == l->room) {
		uint32_t room = l->room != 0 ? 2 * l->room : 64;
		void *more = realloc(l->at, room * size);
		if (more == NULL) {
			FAIL(m, CORE_ENOMEM, "%s: out of memory for data.pkl", m->path);
			return NULL;
		}
		l->at = more;
		l->room = room;
	}
	return memset((char *)l->at + size * l->n++, 0, size);
}

static int list_add_id(struct machine *m, struct list *l, uint32_t id)
{
	uint32_t *to = list_add(m, l, sizeof *to);

	if (to == NULL)
		return CORE_ENOMEM;
	*to = id;
	return 0;
}

static uint32_t id_at(const struct list *l, uint32_t i)
{
	return ((const uint32_t *)l->at)[i];
}

static struct value *value_at(struct machine *m, uint32_t id)
{
	return (struct value *)m->values.at + id;
}

/* ---- the stack ---- */

static int push(struct machine *m, struct value v)
{
	struct value *to = list_add(m, &m->values, sizeof *to);

	if (to == NULL)
		return CORE_ENOMEM;
	*to = v;
	return list_add_id(m, &m->stack, m->values.n - 1);
}

static int push_int(struct machine *m, int64_t i)
{
	return push(m, (struct value){.kind = V_INT, .u.i = i});
}

/* The id on top; 0 (which is MARK) when there is none. */
static uint32_t top(const struct machine *m)
{
	return m->stack.n > 0 ? id_at(&m->stack, m->stack.n - 1) : MARK;
}

static uint32_t pop(struct machine *m)
{
	uint32_t id = top(m);

	m->stack.n -= m->stack.n > 0;
	return id;
}

/* How many values lie above the last mark; false: no mark. */
static bool above_mark(const struct machine *m, uint32_t *n)
{
	for (*n = 0; *n < m->stack.n; ++*n)
		if (id_at(&m->stack, m->stack.n - 1 - *n) == MARK)
			return true;
	return false;
}

/* Makes the n values on top a tuple. */
static int push_tuple(struct machine *m, uint32_t n)
{
	struct value v = {.kind = V_TUPLE, .u.tuple = {m->items.n, n}};

	if (n > m->stack.n)
		return damaged(m, "a tuple of more values than there are");
	for (uint32_t i = 0; i < n; i++) {
		uint32_t id = id_at(&m->stack, m->stack.n - n + i);
		if (id == MARK)
			return damaged(m, "a tuple across a mark");
		if (list_add_id(m, &m->items, id) < 0)
			return CORE_ENOMEM;
	}
	m->stack.n -= n;
	return push(m, v);
}

static struct value *tuple_item(struct machine *m, const struct value *tuple, uint32_t i)
{
	return value_at(m, id_at(&m->items, tuple->u.tuple.first + i));
}

/* ---- instructions with a meaning of torch's ---- */

static bool text_is(const char *s, struct pickle_text t)
{
	return strlen(s) == t.len && memcmp(s, t.s, t.len) == 0;
}

static bool take_line(struct machine *m, struct pickle_text *line)
{
	const uint8_t *from = m->in.data + m->in.at;
	const uint8_t *end = memchr(from, '\n', m->in.size - m->in.at);

	if (end == NULL)
		return false;
	line->s = (const char *)from;
	line->len = (size_t)(end - from);
	m->in.at += line->len + 1;
	return true;
}

static int do_global(struct machine *m)
{
	struct pickle_text module, name;

	if (!take_line(m, &module) || !take_line(m, &name))
		return damaged(m, "a name without an end");
	for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++)
		if (text_is(functions[i].module, module) && text_is(functions[i].name, name))
			return push(m, (struct value){.kind = V_FUNCTION, .u.function = functions[i].function});
	for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++)
		if (text_is("torch", module) && text_is(dtypes[i].name, name))
			return push(m, (struct value){.kind = V_DTYPE, .u.dtype = &dtypes[i]});
	return FAIL(m, CORE_EUNSUPPORTED,
		    "%s: data.pkl asks for %.*s.%.*s, which is not part of a plain state dictionary; nothing was executed", m->path,
		    (int)(module.len < 80 ? module.len : 80), module.s, (int)(name.len < 80 ? name.len : 80), name.s);
}

/* Persistent id: ("storage", type, key, location, elements). */
static int do_persistent(struct machine *m)
{
	struct value *t = value_at(m, pop(m)), *dtype, *key, *elements;
	struct value v = {.kind = V_STORAGE};

	if (t->kind != V_TUPLE || t->u.tuple.n != 5)
		return damaged(m, "a storage without its five facts");
	dtype = tuple_item(m, t, 1);
	key = tuple_item(m, t, 2);
	elements = tuple_item(m, t, 4);
	if (dtype->kind != V_DTYPE || key->kind != V_TEXT || elements->kind != V_INT || elements->u.i < 0)
		return damaged(m, "a storage is not (name, type, key, place, size)");
	v.u.storage.dtype = dtype->u.dtype;
	v.u.storage.key = id_at(&m->items, t->u.tuple.first + 2);
	v.u.storage.elements = (uint64_t)elements->u.i;
	return push(m, v);
}

/* Sizes and strides to dims, elements and contiguous. A dimension of one element may have any stride. */
static bool read_shape(struct machine *m, struct pickle_tensor *t, const struct value *sizes, const struct value *strides)
{
	uint64_t expected = 1;

	if (sizes->kind != V_TUPLE || strides->kind != V_TUPLE || sizes->u.tuple.n != strides->u.tuple.n)
		return false;
	t->n_dims = sizes->u.tuple.n;
	t->contiguous = true;
	t->elements = 1;
	for (uint32_t i = sizes->u.tuple.n; i-- > 0;) {
		const struct value *n = tuple_item(m, sizes, i), *step = tuple_item(m, strides, i);
		if (n->kind != V_INT || n->u.i < 0 || step->kind != V_INT)
			return false;
		if (n->u.i != 1 && (uint64_t)step->u.i != expected)
			t->contiguous = false;
		if (i < 4)
			t->dims[i] = (uint64_t)n->u.i;
		if (__builtin_mul_overflow(expected, (uint64_t)n->u.i, &expected))
			return false;
	}
	t->elements = expected;
	return true;
}

/* (storage, offset, sizes, strides, requires_grad, hooks[, metadata]); metadata holds conjugate and negative bits. */
static int rebuild_tensor(struct machine *m, const struct value *args)
{
	struct value *storage, *offset, *extra;
	struct pickle_tensor *t;
	const struct pickle_text *key;

	if (args->u.tuple.n < 6 || args->u.tuple.n > 7)
		return damaged(m, "_rebuild_tensor_v2 with another number of arguments");
	storage = tuple_item(m, args, 0);
	offset = tuple_item(m, args, 1);
	extra = args->u.tuple.n == 7 ? tuple_item(m, args, 6) : NULL;
	if (extra != NULL && extra->kind != V_NONE && !(extra->kind == V_DICT && extra->u.pairs == 0))
		return FAIL(m, CORE_EUNSUPPORTED, "%s: data.pkl: a tensor with view flags (conjugate, negative) is not read",
			    m->path);
	if (storage->kind != V_STORAGE || offset->kind != V_INT || offset->u.i < 0)
		return damaged(m, "a tensor without storage or offset");
	t = list_add(m, &m->tensors, sizeof *t);
	if (t == NULL)
		return CORE_ENOMEM;
	key = &value_at(m, storage->u.storage.key)->u.text;
	t->key = *key;
	t->dtype = storage->u.storage.dtype;
	t->storage = storage->u.storage.elements;
	t->offset = (uint64_t)offset->u.i;
	if (!read_shape(m, t, tuple_item(m, args, 2), tuple_item(m, args, 3)))
		return damaged(m, "a tensor's sizes and strides make no sense");
	if (t->offset > t->storage || t->elements > t->storage - t->offset)
		t->contiguous = false; /* an expanded view: fewer elements than its sizes say */
	return push(m, (struct value){.kind = V_TENSOR, .u.tensor = m->tensors.n - 1});
}

static int do_reduce(struct machine *m)
{
	struct value *args = value_at(m, pop(m)), *f = value_at(m, pop(m)), *inner;

	if (f->kind == V_DTYPE)
		return FAIL(m, CORE_EUNSUPPORTED, "%s: data.pkl calls torch.%s, which is a type", m->path, f->u.dtype->name);
	if (f->kind != V_FUNCTION || args->kind != V_TUPLE)
		return damaged(m, "a call of something that is not a function");
	switch (f->u.function) {
	case F_ORDERED_DICT:
		if (args->u.tuple.n != 0)
			return FAIL(m, CORE_EUNSUPPORTED,
				    "%s: data.pkl makes an OrderedDict from arguments, as Python 2 did; save it again", m->path);
		return push(m, (struct value){.kind = V_DICT});
	case F_REBUILD_TENSOR:
		return rebuild_tensor(m, args);
	case F_REBUILD_PARAMETER:
		inner = args->u.tuple.n == 3 ? tuple_item(m, args, 0) : NULL;
		if (inner == NULL || inner->kind != V_TENSOR)
			return damaged(m, "_rebuild_parameter without a tensor");
		return push(m, *inner);
	}
	return damaged(m, "an unknown function");
}

/* ---- containers ---- */

/* Sets n values above the container as key, value, key, value ... */
static int set_items(struct machine *m, uint32_t n)
{
	uint32_t first = m->stack.n - n, dict;

	if (n % 2 != 0)
		return damaged(m, "a key without a value");
	dict = id_at(&m->stack, first - 1);
	if (value_at(m, dict)->kind != V_DICT)
		return damaged(m, "items for something that is not a dictionary");
	for (uint32_t i = 0; i < n; i += 2) {
		struct pair *p = list_add(m, &m->pairs, sizeof *p);
		if (p == NULL)
			return CORE_ENOMEM;
		*p = (struct pair){dict, id_at(&m->stack, first + i), id_at(&m->stack, first + i + 1)};
	}
	value_at(m, dict)->u.pairs += n / 2;
	m->stack.n = first;
	return 0;
}

static int do_setitem(struct machine *m)
{
	for (uint32_t i = 0; i < 3; i++)
		if (m->stack.n < 3 || id_at(&m->stack, m->stack.n - 1 - i) == MARK)
			return damaged(m, "too few values for an item");
	return set_items(m, 2);
}

static int do_setitems(struct machine *m)
{
	uint32_t n;
	int rc;

	if (!above_mark(m, &n) || m->stack.n < n + 2)
		return damaged(m, "items without a mark or a dictionary");
	/* Take the mark out, so that the dictionary lies under its items. */
	memmove((uint32_t *)m->stack.at + m->stack.n - n - 1, (uint32_t *)m->stack.at + m->stack.n - n, n * sizeof(uint32_t));
	m->stack.n--;
	rc = id_at(&m->stack, m->stack.n - n - 1) == MARK ? damaged(m, "items after two marks") : set_items(m, n);
	return rc;
}

/* Lists hold nothing that we want: their contents are dropped. */
static int do_appends(struct machine *m, bool many)
{
	uint32_t n = 1;

	if (many && !above_mark(m, &n))
		return damaged(m, "appends without a mark");
	if (m->stack.n < n + many + 1)
		return damaged(m, "append without a list");
	m->stack.n -= n + many;
	if (value_at(m, top(m))->kind != V_LIST)
		return damaged(m, "append to something that is not a list");
	return 0;
}

/* The state of an OrderedDict is its attributes (torch keeps _metadata there): not tensors. */
static int do_build(struct machine *m)
{
	uint32_t state = pop(m);

	if (state == MARK || value_at(m, top(m))->kind != V_DICT || value_at(m, state)->kind != V_DICT)
		return FAIL(m, CORE_EUNSUPPORTED, "%s: data.pkl sets the state of an object that is not a dictionary", m->path);
	return 0;
}

/* ---- plain values ---- */

static int do_text(struct machine *m, uint32_t len)
{
	const uint8_t *s = cursor_take(&m->in, len);

	if (s == NULL)
		return damaged(m, "a text runs past the end");
	return push(m, (struct value){.kind = V_TEXT, .u.text = {(const char *)s, len}});
}

static int do_long(struct machine *m)
{
	uint8_t n = cursor_u8(&m->in);
	const uint8_t *p = cursor_take(&m->in, n);
	uint64_t v = 0;

	if (p == NULL || n > 8)
		return damaged(m, "an integer of more than 64 bits");
	for (uint8_t i = 0; i < n; i++)
		v |= (uint64_t)p[i] << (8 * i);
	if (n > 0 && n < 8 && (p[n - 1] & 128) != 0)
		v |= ~UINT64_C(0) << (8 * n);
	return push_int(m, (int64_t)v);
}

/* Picklers number the memo without gaps, so a slot is an old one or the next one. */
static int do_put(struct machine *m, uint32_t slot)
{
	if (slot > m->memo.n || top(m) == MARK)
		return damaged(m, "a memo slot out of order");
	if (slot == m->memo.n)
		return list_add_id(m, &m->memo, top(m));
	((uint32_t *)m->memo.at)[slot] = top(m);
	return 0;
}

static int do_get(struct machine *m, uint32_t slot)
{
	if (slot >= m->memo.n)
		return damaged(m, "a memo slot that was never set");
	return list_add_id(m, &m->stack, id_at(&m->memo, slot));
}

static int do_tuple(struct machine *m)
{
	uint32_t n, mark;
	int rc;

	if (!above_mark(m, &n))
		return damaged(m, "a tuple without a mark");
	mark = m->stack.n - n - 1;
	rc = push_tuple(m, n);
	if (rc < 0)
		return rc;
	((uint32_t *)m->stack.at)[mark] = top(m);
	m->stack.n--;
	return 0;
}

/* ---- the machine ---- */

static int step(struct machine *m, uint8_t op)
{
	struct cursor *in = &m->in;

	switch (op) {
	case 'N': return push(m, (struct value){.kind = V_NONE});
	case 0x88: case 0x89: return push(m, (struct value){.kind = V_BOOL, .u.i = op == 0x88});
	case 'J': return push_int(m, (int32_t)cursor_u32(in));
	case 'K': return push_int(m, cursor_u8(in));
	case 'M': return push_int(m, cursor_u16(in));
	case 0x8a: return do_long(m);
	case 'G': cursor_take(in, 8); return push(m, (struct value){.kind = V_NONE}); /* a float: nothing of ours */
	case 'X': case 'T': return do_text(m, cursor_u32(in));
	case 'U': return do_text(m, cursor_u8(in));
	case '(': return list_add_id(m, &m->stack, MARK);
	case ')': return push_tuple(m, 0);
	case 't': return do_tuple(m);
	case 0x85: case 0x86: case 0x87: return push_tuple(m, op - 0x84u);
	case ']': return push(m, (struct value){.kind = V_LIST});
	case 'a': case 'e': return do_appends(m, op == 'e');
	case '}': return push(m, (struct value){.kind = V_DICT});
	case 's': return do_setitem(m);
	case 'u': return do_setitems(m);
	case 'c': return do_global(m);
	case 'Q': return do_persistent(m);
	case 'R': return do_reduce(m);
	case 'b': return do_build(m);
	case 'q': return do_put(m, cursor_u8(in));
	case 'r': return do_put(m, cursor_u32(in));
	case 'h': return do_get(m, cursor_u8(in));
	case 'j': return do_get(m, cursor_u32(in));
	default:
		return FAIL(m, CORE_EUNSUPPORTED,
			    "%s: data.pkl: instruction 0x%02x at byte %zu is not one that torch writes for a state dictionary",
			    m->path, op, in->at - 1);
	}
}

static int run(struct machine *m)
{
	uint8_t op;
	int rc;

	if (cursor_u8(&m->in) != 0x80 || cursor_u8(&m->in) != 2)
		return FAIL(m, CORE_EUNSUPPORTED, "%s: data.pkl is not a pickle of protocol 2", m->path);
	/* Value 0 is MARK: of kind none, so that whoever pops a mark by mistake sees nothing that fits. */
	if (list_add(m, &m->values, sizeof(struct value)) == NULL)
		return CORE_ENOMEM;
	while ((op = cursor_u8(&m->in)) != '.') {
		if (m->in.bad)
			return damaged(m, "it ends without a stop");
		rc = step(m, op);
		if (rc == 0 && m->in.bad)
			rc = damaged(m, "an instruction runs past the end");
		if (rc < 0)
			return rc;
	}
	if (m->in.bad || m->stack.n != 1 || value_at(m, top(m))->kind != V_DICT)
		return FAIL(m, CORE_EUNSUPPORTED, "%s: data.pkl is not a dictionary of tensors", m->path);
	return 0;
}

/* The tensors of the dictionary on top of the stack, each with its key. */
static int collect(struct machine *m, struct pickle *p)
{
	const struct pair *pairs = m->pairs.at;
	uint32_t root = top(m);

	p->tensors = malloc((value_at(m, root)->u.pairs + (size_t)1) * sizeof *p->tensors);
	if (p->tensors == NULL)
		return FAIL(m, CORE_ENOMEM, "%s: out of memory for data.pkl", m->path);
	for (uint32_t i = 0; i < m->pairs.n; i++) {
		const struct value *key = value_at(m, pairs[i].key), *value = value_at(m, pairs[i].value);
		if (pairs[i].dict != root || key->kind != V_TEXT || value->kind != V_TENSOR)
			continue;
		p->tensors[p->n] = ((struct pickle_tensor *)m->tensors.at)[value->u.tensor];
		p->tensors[p->n++].name = key->u.text;
	}
	return 0;
}

int pickle_read(struct pickle *p, const uint8_t *data, size_t len, const char *path, struct core_error *err)
{
	struct machine m = {.in = {.data = data, .size = len}, .path = path, .err = err};
	int rc;

	*p = (struct pickle){0};
	if (len > PICKLE_MAX)
		return core_fail(err, CORE_EFORMAT, "%s: data.pkl has %zu bytes; at most %d are read", path, len, PICKLE_MAX);
	rc = run(&m);
	if (rc == 0)
		rc = collect(&m, p);
	free(m.values.at);
	free(m.stack.at);
	free(m.items.at);
	free(m.memo.at);
	free(m.pairs.at);
	free(m.tensors.at);
	if (rc < 0)
		pickle_finish(p);
	return rc;
}

void pickle_finish(struct pickle *p)
{
	free(p->tensors);
	*p = (struct pickle){0};
}
