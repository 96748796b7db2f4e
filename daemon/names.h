/* names.h: the nearest name, for "did you mean". Knows nothing else. [any thread] */
#ifndef WEFT_DAEMON_NAMES_H
#define WEFT_DAEMON_NAMES_H

#include <stddef.h>

struct names {            /* the best candidate so far */
	const char *word; /* what was written; borrowed; not NUL-terminated */
	size_t len;
	const char *best; /* borrowed; NULL: nothing is near */
	size_t distance;
};
void names_start(struct names *n, const char *word, size_t len);
void names_offer(struct names *n, const char *candidate);
/* Writes `; did you mean "best"?` or nothing; returns buf. */
const char *names_hint(const struct names *n, char *buf, size_t size);

#endif
