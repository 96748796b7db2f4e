/* options.c: values from the wire against parameter tables. */
#include "options.h"
#include "names.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHAIN_MAX = 256 }; /* samplers in one chain */

const struct weft_param *options_param(const struct plugin *p, size_t i)
{
	return &p->desc->params[i];
}

/* ---- decoder and chain ---- */

static int by_order(const void *a, const void *b)
{
	const struct weft_plugin *x = (*(const struct plugin *const *)a)->desc, *y = (*(const struct plugin *const *)b)->desc;
	if (x->sampler->order != y->sampler->order)
		return x->sampler->order < y->sampler->order ? -1 : 1;
	return strcmp(x->name, y->name);
}

size_t options_chain(const struct plugin_set *set, const struct plugin **out, size_t cap)
{
	size_t n = 0;
	for (size_t i = 0; i < set->n; i++)
		if (set->list[i]->desc->sampler && n < cap)
			out[n++] = set->list[i];
	qsort(out, n, sizeof *out, by_order);
	return n;
}

static const struct plugin *find_plugin(const struct plugin_set *set, const char *name, size_t len, bool decoder, const char *field,
					struct problem *p)
{
	char word[65], hint[96];
	struct names n;
	names_start(&n, name, len);
	for (size_t i = 0; i < set->n; i++) {
		const struct weft_plugin *d = set->list[i]->desc;
		if ((d->decoder != NULL) != decoder)
			continue;
		if (strlen(d->name) == len && memcmp(d->name, name, len) == 0)
			return set->list[i];
		names_offer(&n, d->name);
	}
	problem_set(p, WIRE_INVALID_ARGUMENT, field, "no %s named \"%s\"%s", decoder ? "decoder" : "sampler",
		    problem_name(word, name, len), names_hint(&n, hint, sizeof hint));
	return NULL;
}

static int add_sampler(struct options *o, const struct plugin *plugin, struct problem *p)
{
	if (plugin_args_init(&o->samplers[o->n_samplers], plugin))
		return problem_set(p, WIRE_INTERNAL, NULL, "out of memory");
	o->n_samplers++;
	return 0;
}

static int take_chain(struct options *o, const msgpack_object *names, struct problem *p)
{
	char field[32];
	if (names->type != MSGPACK_OBJECT_ARRAY)
		return problem_type(p, "samplers", "an array of names", names);
	if (names->via.array.size > CHAIN_MAX)
		return problem_set(p, WIRE_INVALID_ARGUMENT, "samplers", "at most %d names", CHAIN_MAX);
	for (uint32_t i = 0; i < names->via.array.size; i++) {
		const char *name;
		size_t len;
		snprintf(field, sizeof field, "samplers.%u", i);
		if (!wire_get_str(&names->via.array.ptr[i], &name, &len))
			return problem_type(p, field, "the name of a sampler", &names->via.array.ptr[i]);
		const struct plugin *plugin = find_plugin(o->set, name, len, false, field, p);
		if (!plugin)
			return -1;
		for (size_t k = 0; k < o->n_samplers; k++)
			if (o->samplers[k].plugin == plugin)
				return problem_set(p, WIRE_INVALID_ARGUMENT, field, "%s stands in the chain already",
						   plugin->desc->name);
		if (add_sampler(o, plugin, p))
			return -1;
	}
	return 0;
}

static int begin_chain(struct options *o, const msgpack_object *samplers, struct problem *p)
{
	const struct plugin *chain[CHAIN_MAX];
	o->samplers = calloc(CHAIN_MAX, sizeof *o->samplers);
	if (!o->samplers)
		return problem_set(p, WIRE_INTERNAL, NULL, "out of memory");
	if (samplers) {
		o->named_chain = true;
		return take_chain(o, samplers, p);
	}
	size_t n = options_chain(o->set, chain, CHAIN_MAX);
	for (size_t i = 0; i < n; i++)
		if (add_sampler(o, chain[i], p))
			return -1;
	return 0;
}

static int take_value(struct options *o, struct plugin_args *a, size_t index, const char *field, const msgpack_object *v,
		      struct problem *p);

static int take_decoder_members(struct options *o, const msgpack_object *map, struct problem *p)
{
	char word[65], field[80], hint[96];
	for (uint32_t i = 0; i < map->via.map.size; i++) {
		const msgpack_object_kv *kv = &map->via.map.ptr[i];
		if (wire_is_cstr(&kv->key, "name"))
			continue;
		problem_name(word, kv->key.via.str.ptr, kv->key.via.str.size);
		snprintf(field, sizeof field, "decoder.%s", word);
		int index = kv->key.via.str.size == strlen(word) ? plugin_param_index(o->decoder.plugin, word) : -1;
		if (index < 0) {
			struct names n;
			names_start(&n, word, strlen(word));
			for (size_t k = 0; k < o->decoder.plugin->desc->n_params; k++)
				names_offer(&n, options_param(o->decoder.plugin, k)->name);
			return problem_set(p, WIRE_INVALID_ARGUMENT, field, "the decoder %s has no option \"%s\"%s",
					   o->decoder.plugin->desc->name, word, names_hint(&n, hint, sizeof hint));
		}
		if (take_value(o, &o->decoder, (size_t)index, field, &kv->val, p))
			return -1;
	}
	return 0;
}

int options_begin(struct options *o, const struct plugin_set *set, uint32_t vocab, const msgpack_object *decoder,
		  const char *fallback, const msgpack_object *samplers, bool with_samplers, struct problem *p)
{
	const char *name = fallback;
	size_t len = strlen(fallback);
	*o = (struct options){.set = set, .vocab = vocab};
	if (decoder && decoder->type != MSGPACK_OBJECT_MAP)
		return problem_type(p, "decoder", "a map with name", decoder);
	if (decoder && !wire_get_str(wire_get(decoder, "name"), &name, &len))
		return problem_type(p, "decoder.name", "the name of a decoder", wire_get(decoder, "name"));
	const struct plugin *plugin = find_plugin(set, name, len, true, "decoder.name", p);
	if (!plugin)
		return -1;
	if (plugin_args_init(&o->decoder, plugin)) {
		o->decoder.plugin = NULL;
		return problem_set(p, WIRE_INTERNAL, NULL, "out of memory");
	}
	if (decoder && take_decoder_members(o, decoder, p))
		return -1;
	return with_samplers ? begin_chain(o, samplers, p) : 0;
}

void options_finish(struct options *o)
{
	if (o->decoder.plugin)
		plugin_args_finish(&o->decoder);
	for (size_t i = 0; i < o->n_samplers; i++)
		plugin_args_finish(&o->samplers[i]);
	free(o->samplers);
	*o = (struct options){0};
}

/* ---- values ---- */

static int out_of_range(const struct weft_param *d, const char *field, struct problem *p)
{
	return problem_set(p, WIRE_INVALID_ARGUMENT, field, "must be from %.15g to %.15g", d->min, d->max);
}

static int read_int(const struct weft_param *d, const char *field, const msgpack_object *v, int64_t *out, struct problem *p)
{
	if (!wire_get_int(v, out))
		return problem_type(p, field, "an integer", v);
	if ((double)*out < d->min || (double)*out > d->max)
		return out_of_range(d, field, p);
	return 0;
}

static int read_float(const struct weft_param *d, const char *field, const msgpack_object *v, double *out, struct problem *p)
{
	if (!wire_get_float(v, out) || !isfinite(*out))
		return problem_type(p, field, "a number", v);
	if (*out < d->min || *out > d->max)
		return out_of_range(d, field, p);
	return 0;
}

static int count_fits(const struct weft_param *d, const char *field, uint32_t n, struct problem *p)
{
	if (n > d->max_items)
		return problem_set(p, WIRE_INVALID_ARGUMENT, field, "at most %u entries", d->max_items);
	return 0;
}

static int take_ints(struct plugin_args *a, size_t i, const struct weft_param *d, const char *field, const msgpack_object *v,
		     struct problem *p)
{
	char member[96];
	if (v->type != MSGPACK_OBJECT_ARRAY)
		return problem_type(p, field, "an array of integers", v);
	uint32_t n = v->via.array.size;
	if (count_fits(d, field, n, p))
		return -1;
	int64_t *ints = malloc((n + 1) * sizeof *ints);
	if (!ints)
		return problem_set(p, WIRE_INTERNAL, NULL, "out of memory");
	int rc = 0;
	for (uint32_t k = 0; k < n && !rc; k++) {
		snprintf(member, sizeof member, "%s.%u", field, k);
		rc = read_int(d, member, &v->via.array.ptr[k], &ints[k], p);
	}
	if (!rc && plugin_args_set_ints(a, i, ints, n))
		rc = problem_set(p, WIRE_INTERNAL, NULL, "out of memory");
	free(ints);
	return rc;
}

static int take_strings(struct plugin_args *a, size_t i, const struct weft_param *d, const char *field, const msgpack_object *v,
			struct problem *p)
{
	char member[96];
	if (v->type != MSGPACK_OBJECT_ARRAY)
		return problem_type(p, field, "an array of str", v);
	uint32_t n = v->via.array.size;
	if (count_fits(d, field, n, p))
		return -1;
	char **strs = calloc(n + 1, sizeof *strs);
	int rc = strs ? 0 : problem_set(p, WIRE_INTERNAL, NULL, "out of memory");
	for (uint32_t k = 0; k < n && !rc; k++) {
		const char *s;
		size_t len;
		snprintf(member, sizeof member, "%s.%u", field, k);
		if (!wire_get_str(&v->via.array.ptr[k], &s, &len))
			rc = problem_type(p, member, "a str", &v->via.array.ptr[k]);
		else if (memchr(s, 0, len))
			rc = problem_set(p, WIRE_INVALID_ARGUMENT, member, "must not hold a NUL character");
		else if (!(strs[k] = strndup(s, len)))
			rc = problem_set(p, WIRE_INTERNAL, NULL, "out of memory");
	}
	if (!rc && plugin_args_set_strings(a, i, (const char *const *)strs, n))
		rc = problem_set(p, WIRE_INTERNAL, NULL, "out of memory");
	for (uint32_t k = 0; strs && k < n; k++)
		free(strs[k]);
	free(strs);
	return rc;
}

/* A token id as the key of a map: decimal digits, no sign, no leading zero, so that each id has one spelling. */
static int token_key(const msgpack_object *key, uint32_t vocab, int64_t *id)
{
	const char *s = key->via.str.ptr;
	uint32_t len = key->via.str.size;
	if (len == 0 || len > 9 || (len > 1 && s[0] == '0'))
		return -1;
	*id = 0;
	for (uint32_t k = 0; k < len; k++) {
		if (s[k] < '0' || s[k] > '9')
			return -1;
		*id = *id * 10 + (s[k] - '0');
	}
	return *id < vocab ? 0 : -1;
}

static int take_map(struct options *o, struct plugin_args *a, size_t i, const char *field, const msgpack_object *v,
		    struct problem *p)
{
	const struct weft_param *d = options_param(a->plugin, i);
	char member[176], word[65];
	if (v->type != MSGPACK_OBJECT_MAP)
		return problem_type(p, field, "a map from token to number", v);
	uint32_t n = v->via.map.size;
	if (count_fits(d, field, n, p))
		return -1;
	int64_t *ids = malloc((n + 1) * sizeof *ids);
	double *values = malloc((n + 1) * sizeof *values);
	int rc = ids && values ? 0 : problem_set(p, WIRE_INTERNAL, NULL, "out of memory");
	for (uint32_t k = 0; k < n && !rc; k++) {
		const msgpack_object_kv *kv = &v->via.map.ptr[k];
		snprintf(member, sizeof member, "%s.%s", field, problem_name(word, kv->key.via.str.ptr, kv->key.via.str.size));
		if (token_key(&kv->key, o->vocab, &ids[k]))
			rc = problem_set(p, WIRE_INVALID_ARGUMENT, member, "the key must be a token below %u, in decimal digits",
					 o->vocab);
		else
			rc = read_float(d, member, &kv->val, &values[k], p);
	}
	if (!rc && plugin_args_set_map(a, i, ids, values, n))
		rc = problem_set(p, WIRE_INTERNAL, NULL, "out of memory");
	free(ids);
	free(values);
	return rc;
}

static int take_string(struct plugin_args *a, size_t i, const char *field, const msgpack_object *v, struct problem *p)
{
	const char *s;
	size_t len;
	if (!wire_get_str(v, &s, &len))
		return problem_type(p, field, "a str", v);
	if (memchr(s, 0, len))
		return problem_set(p, WIRE_INVALID_ARGUMENT, field, "must not hold a NUL character");
	if (plugin_args_set_string(a, i, s, len))
		return problem_set(p, WIRE_INTERNAL, NULL, "out of memory");
	return 0;
}

static int take_value(struct options *o, struct plugin_args *a, size_t i, const char *field, const msgpack_object *v,
		      struct problem *p)
{
	const struct weft_param *d = options_param(a->plugin, i);
	int64_t n = 0;
	double f = 0;
	bool b;
	if (a->values[i].set)
		return problem_set(p, WIRE_INVALID_ARGUMENT, field, "given twice: flat and in decoder");
	switch ((enum weft_type)d->type) {
	case WEFT_BOOL:
		if (!wire_get_bool(v, &b))
			return problem_type(p, field, "a bool", v);
		plugin_args_set_number(a, i, b, b);
		return 0;
	case WEFT_INT:
		if (read_int(d, field, v, &n, p))
			return -1;
		plugin_args_set_number(a, i, n, (double)n);
		return 0;
	case WEFT_FLOAT:
		if (read_float(d, field, v, &f, p))
			return -1;
		plugin_args_set_number(a, i, (int64_t)f, f);
		return 0;
	case WEFT_STRING:
		return take_string(a, i, field, v, p);
	case WEFT_INT_LIST:
		return take_ints(a, i, d, field, v, p);
	case WEFT_STRING_LIST:
		return take_strings(a, i, d, field, v, p);
	case WEFT_TOKEN_MAP:
		return take_map(o, a, i, field, v, p);
	}
	return problem_set(p, WIRE_INTERNAL, field, "the plugin declares a type that this server does not know");
}

/* ---- one flat option ---- */

static int unknown(const struct options *o, const char *name, size_t len, struct problem *p)
{
	char word[65], hint[96];
	struct names n;
	problem_name(word, name, len);
	names_start(&n, name, len);
	for (size_t i = 0; i < o->set->n; i++) {
		const struct plugin *plugin = o->set->list[i];
		bool in_job = plugin == o->decoder.plugin;
		for (size_t k = 0; k < o->n_samplers; k++)
			in_job |= plugin == o->samplers[k].plugin;
		if (!in_job && plugin_param_index(plugin, word) >= 0 && strlen(word) == len)
			return problem_set(p, WIRE_INVALID_ARGUMENT, word, "an option of the %s %s, which is not %s",
					   plugin->desc->decoder ? "decoder" : "sampler", plugin->desc->name,
					   plugin->desc->decoder ? "this job's decoder" : "in this job's chain");
		for (size_t k = 0; in_job && k < plugin->desc->n_params; k++)
			names_offer(&n, options_param(plugin, k)->name);
	}
	return problem_set(p, WIRE_INVALID_ARGUMENT, word, "unknown option%s", names_hint(&n, hint, sizeof hint));
}

int options_take(struct options *o, const char *name, size_t len, const msgpack_object *value, struct problem *p)
{
	char word[65];
	bool taken = false;
	problem_name(word, name, len);
	if (strlen(word) != len)
		return unknown(o, name, len, p);
	for (size_t k = 0; k <= o->n_samplers; k++) {
		struct plugin_args *a = k ? &o->samplers[k - 1] : &o->decoder;
		int index = plugin_param_index(a->plugin, word);
		if (index < 0)
			continue;
		if (take_value(o, a, (size_t)index, word, value, p))
			return -1;
		taken = true;
	}
	return taken ? 0 : unknown(o, name, len, p);
}

int options_add_stops(struct options *o, const char *const *stops, size_t n)
{
	const char *all[256];
	int index = plugin_param_index(o->decoder.plugin, "stop");
	if (index < 0 || n == 0)
		return 0;
	const struct weft_param *d = options_param(o->decoder.plugin, (size_t)index);
	const struct weft_value *v = &o->decoder.values[index];
	if (d->type != WEFT_STRING_LIST || v->n > sizeof all / sizeof *all)
		return 0;
	size_t total = 0;
	for (; total < v->n; total++)
		all[total] = v->strs[total];
	for (size_t i = 0; i < n; i++) {
		bool present = false;
		for (size_t k = 0; k < total; k++)
			present |= strcmp(all[k], stops[i]) == 0;
		if (!present && total < d->max_items && total < sizeof all / sizeof *all)
			all[total++] = stops[i];
	}
	return plugin_args_set_strings(&o->decoder, (size_t)index, all, total);
}

int64_t options_int(const struct options *o, const char *name, int64_t fallback)
{
	int index = plugin_param_index(o->decoder.plugin, name);
	return index < 0 || options_param(o->decoder.plugin, (size_t)index)->type != WEFT_INT ? fallback
											      : o->decoder.values[index].i;
}

/* ---- echo ---- */

static void write_value(const struct weft_param *d, const struct weft_value *v, struct wire_buf *b)
{
	char key[24];
	switch ((enum weft_type)d->type) {
	case WEFT_BOOL:
		wire_bool(b, v->i != 0);
		break;
	case WEFT_INT:
		wire_int(b, v->i);
		break;
	case WEFT_FLOAT:
		wire_float(b, v->f);
		break;
	case WEFT_STRING:
		wire_str(b, v->str ? v->str : "");
		break;
	case WEFT_INT_LIST:
		wire_array(b, v->n);
		for (uint64_t i = 0; i < v->n; i++)
			wire_int(b, v->ints[i]);
		break;
	case WEFT_STRING_LIST:
		wire_array(b, v->n);
		for (uint64_t i = 0; i < v->n; i++)
			wire_str(b, v->strs[i]);
		break;
	case WEFT_TOKEN_MAP:
		wire_map(b, v->n);
		for (uint64_t i = 0; i < v->n; i++) {
			snprintf(key, sizeof key, "%lld", (long long)v->ints[i]);
			wire_str(b, key);
			wire_float(b, v->floats[i]);
		}
		break;
	}
}

void options_write_default(const struct weft_param *d, struct wire_buf *b)
{
	struct weft_value v = {.i = (int64_t)d->def, .f = d->def, .str = d->def_str};
	write_value(d, &v, b);
}

static const struct plugin_args *args_at(const struct options *o, size_t k)
{
	return k ? &o->samplers[k - 1] : &o->decoder;
}

/* A shared parameter is written once: by the first plugin that has it. */
static bool written_before(const struct options *o, size_t k, const char *name)
{
	for (size_t i = 0; i < k; i++)
		if (plugin_param_index(args_at(o, i)->plugin, name) >= 0)
			return true;
	return false;
}

static size_t walk(const struct options *o, struct wire_buf *b)
{
	size_t n = 0;
	for (size_t k = 0; k <= o->n_samplers; k++) {
		const struct plugin_args *a = args_at(o, k);
		for (size_t i = 0; i < a->plugin->desc->n_params; i++) {
			const struct weft_param *d = options_param(a->plugin, i);
			if (written_before(o, k, d->name))
				continue;
			n++;
			if (b) {
				wire_str(b, d->name);
				write_value(d, &a->values[i], b);
			}
		}
	}
	return n;
}

size_t options_count(const struct options *o)
{
	return walk(o, NULL);
}

void options_write(const struct options *o, struct wire_buf *b)
{
	walk(o, b);
}
