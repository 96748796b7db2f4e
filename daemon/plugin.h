/* plugin.h: the plugins that weftd has loaded. [loop] loads and frees; everything else only reads.
 *
 * A plugin_set is made once at start from the configured folders: every *.so in them, in name order, is opened (RTLD_NOW | RTLD_LOCAL),
 * asked for `weft_plugin`, checked (ABI major, sizes, names, parameter table, duplicates) and init()ed. A file that fails is reported with
 * its reason and left out. A reload makes a new set: the old one lives until its last job has ended (plugin_set_ref / _unref). */
#ifndef WEFT_DAEMON_PLUGIN_H
#define WEFT_DAEMON_PLUGIN_H

#include "plugins/weft-plugin.h"
#include <stdbool.h>

struct plugin {
	/* Host-side copies of full size: what the file's structs are too short for is zero, what they have beyond ours is left away. */
	const struct weft_plugin *desc;	/* = &copy */
	struct weft_plugin copy;
	struct weft_sampler sampler;	/* copy.sampler points here, or is NULL */
	struct weft_decoder decoder;	/* copy.decoder points here, or is NULL */
	struct weft_param *params;	/* [copy.n_params] */
	char *path;
	char digest[65];	/* hex SHA-256 of the file */
	void *handle;		/* of dlopen */
	const struct weft_plugin *origin;	/* inside the file: two sets that opened the same file share it, and init() runs once */
	bool inited;
};

struct plugin_set {
	struct plugin **list;	/* by name */
	size_t n;
	int refs;		/* taken and given on the loop thread */
};

/* Loads what is loadable; `report` gets one line per file that was left out, with the reason. NULL: out of memory. A folder that is not
 * there is reported, too. Of two plugins with one name the first stays: folders in the order given, files by name. */
struct plugin_set *plugin_set_load(const char *const *dirs, size_t n_dirs, void (*report)(void *arg, const char *text), void *arg);
struct plugin_set *plugin_set_ref(struct plugin_set *s);
void plugin_set_unref(struct plugin_set *s);	/* NULL is fine */
const struct plugin *plugin_find(const struct plugin_set *s, const char *name);
/* Where host->log lines go that belong to no job (init, fini); NULL: nowhere. [loop] before the engine is there. */
void plugin_log_set(void (*log)(void *arg, int level, const char *text), void *arg);

/* The values of one plugin's parameters for one request: deep copies, owned. */
struct plugin_args {
	const struct plugin *plugin;
	struct weft_value *values;	/* [plugin->desc->n_params] */
};
/* All defaults. Returns -1 on out of memory. */
int plugin_args_init(struct plugin_args *a, const struct plugin *p);
void plugin_args_finish(struct plugin_args *a);
int plugin_param_index(const struct plugin *p, const char *name);	/* -1: no such parameter */
/* Setters check nothing but memory; range checks are the caller's (options.c). They copy. */
int plugin_args_set_strings(struct plugin_args *a, size_t param, const char *const *strs, size_t n);
int plugin_args_set_string(struct plugin_args *a, size_t param, const char *str, size_t len);
int plugin_args_set_ints(struct plugin_args *a, size_t param, const int64_t *ints, size_t n);
int plugin_args_set_map(struct plugin_args *a, size_t param, const int64_t *ids, const double *values, size_t n);
void plugin_args_set_number(struct plugin_args *a, size_t param, int64_t i, double f);

#endif
