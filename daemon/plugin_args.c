/* plugin_args.c: the values of one plugin's parameters for one request. */
#include <stdlib.h>
#include <string.h>

#include "daemon/plugin.h"

static void strings_free(const char *const *strs, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		free((char *)strs[i]);
	free((char **)strs);
}

static void value_finish(struct weft_value *v)
{
	free((char *)v->str);
	free((int64_t *)v->ints);
	free((double *)v->floats);
	if (v->strs != NULL)
		strings_free(v->strs, v->n);
	v->str = NULL;
	v->ints = NULL;
	v->floats = NULL;
	v->strs = NULL;
	v->n = 0;
}

int plugin_args_init(struct plugin_args *a, const struct plugin *p)
{
	size_t n = p->desc->n_params;

	a->plugin = p;
	a->values = calloc(n == 0 ? 1 : n, sizeof *a->values);
	if (a->values == NULL)
		return -1;
	for (size_t i = 0; i < n; i++) {
		const struct weft_param *d = &p->desc->params[i];
		struct weft_value *v = &a->values[i];
		switch (d->type) {
		case WEFT_BOOL:
		case WEFT_INT:
			v->i = (int64_t)d->def;
			v->f = d->def;
			break;
		case WEFT_FLOAT:
			v->f = d->def;
			break;
		case WEFT_STRING:
			v->str = strdup(d->def_str == NULL ? "" : d->def_str);
			if (v->str == NULL) {
				plugin_args_finish(a);
				return -1;
			}
			break;
		}
	}
	return 0;
}

void plugin_args_finish(struct plugin_args *a)
{
	if (a->values != NULL)
		for (size_t i = 0; i < a->plugin->desc->n_params; i++)
			value_finish(&a->values[i]);
	free(a->values);
	a->values = NULL;
	a->plugin = NULL;
}

int plugin_param_index(const struct plugin *p, const char *name)
{
	for (size_t i = 0; i < p->desc->n_params; i++)
		if (strcmp(p->desc->params[i].name, name) == 0)
			return (int)i;
	return -1;
}

int plugin_args_set_strings(struct plugin_args *a, size_t param, const char *const *strs, size_t n)
{
	char **copy = calloc(n == 0 ? 1 : n, sizeof *copy);

	if (copy == NULL)
		return -1;
	for (size_t i = 0; i < n; i++)
		if ((copy[i] = strdup(strs[i])) == NULL) {
			strings_free((const char *const *)copy, i);
			return -1;
		}
	value_finish(&a->values[param]);
	a->values[param].strs = (const char *const *)copy;
	a->values[param].n = n;
	a->values[param].set = 1;
	return 0;
}

int plugin_args_set_string(struct plugin_args *a, size_t param, const char *str, size_t len)
{
	char *copy = malloc(len + 1);

	if (copy == NULL)
		return -1;
	memcpy(copy, str, len);
	copy[len] = '\0';
	value_finish(&a->values[param]);
	a->values[param].str = copy;
	a->values[param].set = 1;
	return 0;
}

/* A copy that is not NULL even when there is nothing to copy. */
static void *copy_array(const void *from, size_t n, size_t item)
{
	void *to = malloc(n == 0 ? 1 : n * item);

	if (to != NULL && n > 0)
		memcpy(to, from, n * item);
	return to;
}

int plugin_args_set_ints(struct plugin_args *a, size_t param, const int64_t *ints, size_t n)
{
	int64_t *copy = copy_array(ints, n, sizeof *ints);

	if (copy == NULL)
		return -1;
	value_finish(&a->values[param]);
	a->values[param].ints = copy;
	a->values[param].n = n;
	a->values[param].set = 1;
	return 0;
}

int plugin_args_set_map(struct plugin_args *a, size_t param, const int64_t *ids, const double *values, size_t n)
{
	int64_t *keys = copy_array(ids, n, sizeof *ids);
	double *copy = copy_array(values, n, sizeof *values);

	if (keys == NULL || copy == NULL) {
		free(keys);
		free(copy);
		return -1;
	}
	value_finish(&a->values[param]);
	a->values[param].ints = keys;
	a->values[param].floats = copy;
	a->values[param].n = n;
	a->values[param].set = 1;
	return 0;
}

void plugin_args_set_number(struct plugin_args *a, size_t param, int64_t i, double f)
{
	a->values[param].i = i;
	a->values[param].f = f;
	a->values[param].set = 1;
}
