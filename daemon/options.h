/* options.h: the options of one request, judged by the parameter tables of the plugins alone: a new plugin needs no change here.
 *
 * A struct options is begun with the decoder and the chain, takes options one by one, and then is what the engine job gets. Each
 * option goes to every plugin of the job that declares it (the shared ones). It borrows the plugin set. [any thread] */
#ifndef WEFT_DAEMON_OPTIONS_H
#define WEFT_DAEMON_OPTIONS_H

#include "plugin.h"
#include "problem.h"

struct options {
	const struct plugin_set *set;
	uint32_t vocab; /* bound of token ids */
	struct plugin_args decoder;
	struct plugin_args *samplers; /* [n_samplers], in chain order */
	size_t n_samplers;
	bool named_chain; /* the request gave `samplers` */
};

/* Decoder and chain. decoder: the request's map, or NULL for `fallback`; its members beside `name` are options of the decoder.
 * samplers: the request's array, or NULL for all samplers in default order. with_samplers false: no chain at all.
 * 0, or -1 with the problem; options_finish() is due in both cases. */
int options_begin(struct options *o, const struct plugin_set *set, uint32_t vocab, const msgpack_object *decoder,
		  const char *fallback, const msgpack_object *samplers, bool with_samplers, struct problem *p);
/* One flat option of the request. */
int options_take(struct options *o, const char *name, size_t len, const msgpack_object *value, struct problem *p);
/* Adds strings to the option `stop`, if the decoder has one: those that are missing, as long as there is room. -1: out of memory.
 */
int options_add_stops(struct options *o, const char *const *stops, size_t n);
/* The value of an integer option of the decoder; `fallback` when it has none of that name. */
int64_t options_int(const struct options *o, const char *name, int64_t fallback);
/* Every option with its value, as key and value pairs of a map that is being written. */
size_t options_count(const struct options *o);
void options_write(const struct options *o, struct wire_buf *b);
void options_finish(struct options *o);

/* The samplers of a set in their default order. Returns how many; writes at most cap. */
size_t options_chain(const struct plugin_set *set, const struct plugin **out, size_t cap);
const struct weft_param *options_param(const struct plugin *p, size_t i);
/* One parameter's default, as options_write() writes values. */
void options_write_default(const struct weft_param *d, struct wire_buf *b);

#endif
