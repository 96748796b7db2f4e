/* bitsandbytes.c: what bitsandbytes saves for a linear in 4 bits, put together (FACTS 4.11):
 *     NAME                                    two codes a byte, of no shape and any dtype
 *     NAME.absmax                             U8 of double quantisation, or F32
 *     NAME.quant_map                          F32 [16], the code book
 *     NAME.nested_absmax, .nested_quant_map   F32, of double quantisation
 *     NAME.quant_state.bitsandbytes__nf4      U8: a JSON text */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bitsandbytes.h"
#include "format.h"
#include "nf4.h"

enum { STATE_MAX = 1 << 16 };	/* a real one has 170 bytes */
static const char mark[] = ".quant_state.bitsandbytes__";

/* One linear on its way. */
struct joining {
	struct checkpoint *cp;
	struct tensor *to;	/* NAME */
	const char *path;
	struct nf4 s;
	struct core_error *err;
};

static int refuse(const struct joining *j, int code, const char *why)
{
	return core_fail(j->err, code, "%s: tensor %s in 4 bits: %s", j->path, j->to->name, why);
}

/* The part NAME.`what`, of n elements (0: any number) of a type, which is used up; NULL: it is not there or not that. */
static const void *take_part(const struct joining *j, const char *what, enum tensor_type type, uint64_t n)
{
	char name[256];
	struct tensor *t;

	snprintf(name, sizeof name, "%s.%s", j->to->name, what);
	t = (struct tensor *)checkpoint_find(j->cp, name);
	if (t == NULL || t->type != type || (n != 0 && t->bytes != n * tensor_type_bytes(type)))
		return NULL;
	t->n_dims = 0;
	return t->data;
}

static bool is_text(const json_t *o, const char *key, const char *text)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s != NULL && strcmp(s, text) == 0;
}

static bool is_integer(const json_t *o, const char *key, json_int_t n)
{
	const json_t *v = json_object_get(o, key);

	return json_is_integer(v) && json_integer_value(v) == n;
}

static int take_shape(struct joining *j, const json_t *state)
{
	const json_t *shape = json_object_get(state, "shape"), *rows = json_array_get(shape, 0), *cols = json_array_get(shape, 1);
	uint64_t bytes = j->to->bytes;

	if (!is_text(state, "quant_type", "nf4") || !is_integer(state, "blocksize", NF4_BLOCK))
		return refuse(j, CORE_EUNSUPPORTED, "its state is not of nf4 in blocks of 64");
	if (json_array_size(shape) != 2 || json_integer_value(rows) < 1 || json_integer_value(cols) < 1)
		return refuse(j, CORE_EFORMAT, "its state has no shape of two sizes");
	j->to->type = TENSOR_NF4;
	j->to->n_dims = 2;
	j->to->dims[0] = (uint64_t)json_integer_value(rows);
	j->to->dims[1] = (uint64_t)json_integer_value(cols);
	if (j->to->dims[1] % NF4_BLOCK != 0)
		return refuse(j, CORE_EUNSUPPORTED, "its rows are not whole blocks of 64");
	if (!tensor_size(j->to, &j->to->bytes) || j->to->bytes != bytes)
		return refuse(j, CORE_EFORMAT, "its shape and its bytes do not fit");
	return 0;
}

static int take_scales(struct joining *j, const json_t *state)
{
	const json_t *offset = json_object_get(state, "nested_offset");
	uint64_t blocks = j->to->dims[0] * j->to->dims[1] / NF4_BLOCK;
	const void *map;

	j->s.floats = take_part(j, "absmax", TENSOR_F32, blocks);
	if (j->s.floats != NULL)
		return 0;
	j->s.absmax8 = take_part(j, "absmax", TENSOR_U8, blocks);
	j->s.floats = take_part(j, "nested_absmax", TENSOR_F32, (blocks + NF4_NESTED - 1) / NF4_NESTED);
	map = take_part(j, "nested_quant_map", TENSOR_F32, 256);
	j->s.offset = (float)json_number_value(offset);
	if (j->s.absmax8 == NULL || j->s.floats == NULL || map == NULL || !json_is_number(offset) || !isfinite(j->s.offset) ||
	    !is_integer(state, "nested_blocksize", NF4_NESTED))
		return refuse(j, CORE_EFORMAT, "absmax, or its nested parts, are missing or do not fit");
	j->s.nested = true;
	memcpy(j->s.map, map, sizeof j->s.map);
	return 0;
}

static int take_parts(struct joining *j, const json_t *state)
{
	const void *book;
	struct nf4 *s;
	int rc = take_shape(j, state);

	if (rc == 0)
		rc = take_scales(j, state);
	if (rc < 0)
		return rc;
	book = take_part(j, "quant_map", TENSOR_F32, 16);
	if (book == NULL || memcmp(book, nf4_code, sizeof nf4_code) != 0)
		return refuse(j, CORE_EUNSUPPORTED, "quant_map is missing or is not the code book of nf4");
	s = malloc(sizeof *s);
	if (s == NULL)
		return refuse(j, CORE_ENOMEM, "out of memory");
	*s = j->s;
	j->to->nf4 = s;
	return 0;
}

/* state is NAME.quant_state.bitsandbytes__KIND. */
static int join(struct checkpoint *cp, struct tensor *state, const char *path, struct core_error *err)
{
	const char *at = strstr(state->name, mark);
	int len = (int)(at - state->name);
	struct joining j = {.cp = cp, .path = path, .err = err};
	char name[256];
	json_t *root;
	int rc;

	if (strcmp(at + sizeof mark - 1, "nf4") != 0)
		return core_fail(err, CORE_EUNSUPPORTED, "%s: tensor %.*s in 4 bits is %s: only nf4 is read", path, len, state->name,
				 at + sizeof mark - 1);
	snprintf(name, sizeof name, "%.*s", len, state->name);
	j.to = (struct tensor *)checkpoint_find(cp, name);
	if (j.to == NULL || j.to->nf4 != NULL || j.to->n_dims == 0 || state->type != TENSOR_U8 ||
	    state->bytes > STATE_MAX)
		return core_fail(err, CORE_EFORMAT, "%s: tensor %s: not a state, or what it describes is not there", path, state->name);
	rc = json_parse(&root, state->data, (size_t)state->bytes, state->name, err);
	if (rc < 0)
		return rc;
	rc = take_parts(&j, root);
	json_decref(root);
	state->n_dims = 0;
	return rc;
}

int bitsandbytes_join(struct checkpoint *cp, const char *path, struct core_error *err)
{
	size_t kept = 0;
	int rc = 0;

	checkpoint_sort(cp);
	for (size_t i = 0; i < cp->n_tensors && rc == 0; i++)
		if (strstr(cp->tensors[i].name, mark) != NULL)
			rc = join(cp, &cp->tensors[i], path, err);
	for (size_t i = 0; i < cp->n_tensors; i++)
		if (cp->tensors[i].n_dims != 0)
			cp->tensors[kept++] = cp->tensors[i];
		else
			free((char *)cp->tensors[i].name);
	cp->n_tensors = kept;
	return rc;
}
