/* blend_file.h: NAME.blend.json in a folder of adapters: a blend under a name, as learning makes it. It serves as `model` of
 * generate and score, like the blends of the configuration.
 *
 *     {"format": "weft-blend", "version": 1, "base": {"name": "...", "layers": 4},
 *      "adapters": [{"name": "tailor", "digest": "64 hex characters", "weight": 0.9}, ...],
 *      "learned": {...}}
 *
 * An adapter's `weight` is a number for all of it, or "weights" holds an array of layers, each an array of seven numbers: q, k, v, o,
 * gate, up, down. The digest pins the adapter's contents: what has been replaced since is another blend, and is refused. `learned`
 * tells how it was made and what it is worth; only its `by`, `method` and `held_out` are read again, for `adapters`. [any thread] */
#ifndef WEFT_DAEMON_BLEND_FILE_H
#define WEFT_DAEMON_BLEND_FILE_H

#include "adapters.h"

#define BLEND_FILE_SUFFIX ".blend.json"
enum { BLEND_FILE_MAX = 4 << 20, BLEND_FILE_WHY = 256 };

struct blend_file {
	char name[ADAPTER_NAME_MAX + 1];
	char base[128];
	uint32_t layers, n; /* of the base; parts */
	struct blend_file_part {
		char name[ADAPTER_NAME_MAX + 1], digest[65];
		float weight;   /* of all of it; the mean, where weights are there */
		float *weights; /* [layers][CORE_LINEARS]; owned; NULL: none */
	} part[CORE_BLEND_MAX];
	char by[8], method[16]; /* "": not told */
	bool has_losses;
	struct core_learn_losses held_out; /* adapter[i]: of part i */
};

/* NULL with the reason. May block. */
struct blend_file *blend_file_read(const char *path, const char *name, char why[static BLEND_FILE_WHY]);
void blend_file_free(struct blend_file *f); /* NULL is fine */

/* How a blend was learned: what goes into its file beside the blend. */
struct blend_learned {
	const struct core_learn_params *params;
	const struct core_learn_result *result;
};
/* Writes it whole or not at all; replace: what has that path gives way. 0, -1 with the reason, or -2: there is something already. */
int blend_file_write(const struct blend_file *f, const struct blend_learned *how, const char *path, bool replace,
		     char why[static BLEND_FILE_WHY]);

/* What the wishes of a request for this blend are: they point into f. */
void blend_file_wishes(const struct blend_file *f, struct adapter_wish *out, size_t *n);

struct blend_listing { /* all of them in the folders, by name */
	struct blend_listed {
		char name[ADAPTER_NAME_MAX + 1];
		struct blend_file *file;   /* NULL: */
		char why[BLEND_FILE_WHY]; /* it cannot be used */
	} * list;
	size_t n;
};
void blend_files_list(const struct adapters *a, struct blend_listing *out);
void blend_listing_finish(struct blend_listing *l);

#endif
