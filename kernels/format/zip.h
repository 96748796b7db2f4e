/* zip.h: the members of a zip archive whose bytes are stored as they are (which is how torch writes checkpoints). */
#ifndef WEFT_FORMAT_ZIP_H
#define WEFT_FORMAT_ZIP_H

#include "format.h"

struct zip_entry {
	const char *name;	/* inside the map, not terminated */
	size_t name_len;
	const uint8_t *data;	/* inside the map */
	uint64_t size;
};

struct zip {
	struct zip_entry *entries;	/* owned; sorted by name */
	size_t n;
};

/* True when the file ends like a zip archive. */
bool zip_probe(const struct map *m);
/* The archive must outlive *z. `path` is for messages. Compressed or encrypted members are refused. */
int zip_open(struct zip *z, const struct map *m, const char *path, struct core_error *err);
void zip_finish(struct zip *z);
const struct zip_entry *zip_find(const struct zip *z, const char *name, size_t len);	/* NULL: absent */

#endif
