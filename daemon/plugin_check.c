/* plugin_check.c: a plugin's description, field by field.
 *
 * Minor versions: what 1.0 cannot work without must be inside each struct's size; the fields behind that may be missing (they
 * become zero), and more may follow (it is not looked at). */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/plugin_check.h"

enum {
	NAME_MAX_BYTES = 63,
	PARAMS_MAX = 256,
	ITEMS_MAX = 1 << 20, /* of a list or a map */
	STRUCT_MAX = 1 << 16 /* bytes: a size beyond that is not a size */
};
#define INT_LIMIT 0x1p53 /* integers travel as doubles in the table */
#define NEEDED(type, last) (offsetof(type, last) + sizeof(((type *)0)->last))

/* Keys of a request: a parameter of that name could never be set. */
static const char *const request_keys[] = {
	"v",        "id",       "op",       "topic",         "prompt", "messages",      "tokens",
	"template", "decoder",  "samplers", "seed",          "class",  "priority",      "deadline_ms",
	"queue_ms", "adapters", "durable",  "on_disconnect", "key",    "continuations", "name"};

static bool __attribute__((format(printf, 2, 3))) refuse(struct plugin_reason *why, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why->text, sizeof why->text, fmt, ap);
	va_end(ap);
	return false;
}

/* A name may come from anywhere: at most this much of it is read. */
static bool name_valid(const char *name)
{
	size_t n = name == NULL ? 0 : strnlen(name, NAME_MAX_BYTES + 1);

	return n > 0 && n <= NAME_MAX_BYTES && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == n;
}

static bool whole(double v)
{
	return fabs(v) <= INT_LIMIT && v == floor(v);
}

/* ---- parameters ---- */

static bool is_list(uint32_t type)
{
	return type == WEFT_INT_LIST || type == WEFT_STRING_LIST || type == WEFT_TOKEN_MAP;
}

static bool check_range(struct weft_param *p, struct plugin_reason *why)
{
	bool number = p->type == WEFT_INT || p->type == WEFT_FLOAT;

	if (p->type == WEFT_BOOL) {
		p->min = 0;
		p->max = 1;
		return p->def == 0 || p->def == 1 || refuse(why, "parameter %s: the default of a boolean must be 0 or 1", p->name);
	}
	if (p->type == WEFT_STRING || p->type == WEFT_STRING_LIST) {
		p->def = p->min = p->max = 0;
		return true;
	}
	if (!isfinite(p->min) || !isfinite(p->max) || p->min > p->max)
		return refuse(why, "parameter %s: its range must be two finite numbers, the smaller one first", p->name);
	if (p->type != WEFT_FLOAT && p->type != WEFT_TOKEN_MAP && (!whole(p->min) || !whole(p->max) || !whole(p->def)))
		return refuse(why, "parameter %s: default and range of integers must be whole numbers within 2^53", p->name);
	if (number && !(p->def >= p->min && p->def <= p->max))
		return refuse(why, "parameter %s: its default is outside its range", p->name);
	return true;
}

static bool check_param(struct weft_param *p, size_t i, struct plugin_reason *why)
{
	if (!name_valid(p->name))
		return refuse(why, "parameter %zu has no valid name: 1 to %d characters of a-z, 0-9 and _", i, NAME_MAX_BYTES);
	for (size_t k = 0; k < sizeof request_keys / sizeof *request_keys; k++)
		if (strcmp(p->name, request_keys[k]) == 0)
			return refuse(why, "parameter %s has the name of a request's own field", p->name);
	if (p->doc == NULL || p->doc[0] == '\0')
		return refuse(why, "parameter %s has no doc", p->name);
	if (p->type < WEFT_BOOL || p->type > WEFT_TOKEN_MAP)
		return refuse(why, "parameter %s has the unknown type %u", p->name, (unsigned)p->type);
	if (is_list(p->type) && (p->max_items == 0 || p->max_items > ITEMS_MAX))
		return refuse(why, "parameter %s: max_items must be 1 to %d", p->name, ITEMS_MAX);
	return check_range(p, why);
}

static bool copy_params(struct plugin *p, const struct weft_plugin *from, struct plugin_reason *why)
{
	size_t n = p->copy.n_params;

	p->copy.params = NULL;
	if (n == 0)
		return true;
	if (n > PARAMS_MAX)
		return refuse(why, "it declares %zu parameters; %d is the limit", n, PARAMS_MAX);
	if (from->params == NULL)
		return refuse(why, "it declares %zu parameters and has no table of them", n);
	size_t stride = from->params[0].size;
	if (stride < NEEDED(struct weft_param, max) || stride > STRUCT_MAX || stride % _Alignof(struct weft_param) != 0)
		return refuse(why, "struct weft_param has the impossible size %zu", stride);
	p->params = calloc(n, sizeof *p->params);
	if (p->params == NULL)
		return refuse(why, "out of memory");
	p->copy.params = p->params;
	for (size_t i = 0; i < n; i++) {
		const char *raw = (const char *)from->params + i * stride;
		struct weft_param *to = &p->params[i];
		memcpy(to, raw, stride < sizeof *to ? stride : sizeof *to);
		if (to->size != stride)
			return refuse(why, "parameter %zu has another size than the first one: %u, not %zu", i, (unsigned)to->size,
				      stride);
		to->size = sizeof *to;
		if (!check_param(to, i, why))
			return false;
		for (size_t k = 0; k < i; k++)
			if (strcmp(p->params[k].name, to->name) == 0)
				return refuse(why, "it declares the parameter %s twice", to->name);
	}
	return true;
}

/* ---- the tables ---- */

static bool copy_sampler(struct plugin *p, const struct weft_sampler *from, struct plugin_reason *why)
{
	struct weft_sampler *to = &p->sampler;

	if (from->size < NEEDED(struct weft_sampler, destroy) || from->size > STRUCT_MAX)
		return refuse(why, "struct weft_sampler has the impossible size %u", (unsigned)from->size);
	memset(to, 0, sizeof *to);
	memcpy(to, from, from->size < sizeof *to ? from->size : sizeof *to);
	to->size = sizeof *to;
	p->copy.sampler = to;
	if (to->create == NULL || to->apply == NULL || to->destroy == NULL)
		return refuse(why, "a sampler must have create, apply and destroy");
	if ((to->save == NULL) != (to->load == NULL))
		return refuse(why, "a sampler has both save and load, or neither");
	return true;
}

static bool copy_decoder(struct plugin *p, const struct weft_decoder *from, struct plugin_reason *why)
{
	struct weft_decoder *to = &p->decoder;

	if (from->size < NEEDED(struct weft_decoder, destroy) || from->size > STRUCT_MAX)
		return refuse(why, "struct weft_decoder has the impossible size %u", (unsigned)from->size);
	memcpy(to, from, sizeof *to);
	to->size = sizeof *to;
	p->copy.decoder = to;
	if (to->create == NULL || to->plan == NULL || to->commit == NULL || to->destroy == NULL)
		return refuse(why, "a decoder must have create, plan, commit and destroy");
	if ((to->save == NULL) != (to->load == NULL))
		return refuse(why, "a decoder has both save and load, or neither");
	return true;
}

bool plugin_check(struct plugin *p, const struct weft_plugin *from, struct plugin_reason *why)
{
	if (from == NULL)
		return refuse(why, "weft_plugin() returned NULL");
	if (from->size < NEEDED(struct weft_plugin, abi) || from->size > STRUCT_MAX)
		return refuse(why, "struct weft_plugin has the impossible size %u", (unsigned)from->size);
	if (from->abi >> 16 != WEFT_ABI_MAJOR)
		return refuse(why, "it was built for plugin ABI %u.%u, and this is %u.%u: the major numbers must match",
			      (unsigned)from->abi >> 16, (unsigned)from->abi & 0xffff, WEFT_ABI_MAJOR, WEFT_ABI_MINOR);
	if (from->size < NEEDED(struct weft_plugin, decoder))
		return refuse(why, "struct weft_plugin has the impossible size %u", (unsigned)from->size);
	memset(&p->copy, 0, sizeof p->copy);
	memcpy(&p->copy, from, from->size < sizeof p->copy ? from->size : sizeof p->copy);
	p->copy.size = sizeof p->copy;
	p->desc = &p->copy;
	if (!name_valid(p->copy.name)) {
		p->copy.name = NULL;
		return refuse(why, "it has no valid name: 1 to %d characters of a-z, 0-9 and _", NAME_MAX_BYTES);
	}
	if (p->copy.version == NULL || p->copy.doc == NULL || p->copy.doc[0] == '\0')
		return refuse(why, "it must have a version and a doc");
	if ((from->sampler == NULL) == (from->decoder == NULL))
		return refuse(why, "it must be a sampler or a decoder: %s", from->sampler == NULL ? "it is neither" : "it is both");
	if (from->sampler != NULL ? !copy_sampler(p, from->sampler, why) : !copy_decoder(p, from->decoder, why))
		return false;
	return copy_params(p, from, why);
}

/* ---- against the others ---- */

static bool same_text(const char *a, const char *b)
{
	return strcmp(a == NULL ? "" : a, b == NULL ? "" : b) == 0;
}

static bool same_declaration(const struct weft_param *a, const struct weft_param *b)
{
	return a->type == b->type && a->def == b->def && a->min == b->min && a->max == b->max && a->max_items == b->max_items &&
	       same_text(a->def_str, b->def_str);
}

bool plugin_check_set(const struct plugin *p, const struct plugin_set *s, struct plugin_reason *why)
{
	const struct plugin *other = plugin_find(s, p->desc->name);

	if (other != NULL)
		return refuse(why, "the name %s is taken by %s", p->desc->name, other->path);
	for (size_t k = 0; k < s->n; k++) {
		other = s->list[k];
		for (size_t i = 0; i < p->desc->n_params; i++) {
			const struct weft_param *mine = &p->params[i];
			int at = plugin_param_index(other, mine->name);
			if (at < 0)
				continue;
			if (!mine->shared || !other->params[at].shared)
				return refuse(why, "its parameter %s is declared by %s as well, and not shared by both", mine->name,
					      other->desc->name);
			if (!same_declaration(mine, &other->params[at]))
				return refuse(why, "its shared parameter %s has another type, default or range than that of %s",
					      mine->name, other->desc->name);
		}
	}
	return true;
}
