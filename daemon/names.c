/* names.c: edit distance over short names. */
#include "names.h"
#include <stdio.h>
#include <string.h>

enum { NAME_MAX_LEN = 64 }; /* longer words have no near name: option names are shorter */

/* Levenshtein distance with two rows; both words are at most NAME_MAX_LEN bytes. */
static size_t distance(const char *a, size_t na, const char *b, size_t nb)
{
	size_t row[NAME_MAX_LEN + 1];
	for (size_t j = 0; j <= nb; j++)
		row[j] = j;
	for (size_t i = 1; i <= na; i++) {
		size_t diagonal = row[0];
		row[0] = i;
		for (size_t j = 1; j <= nb; j++) {
			size_t best = diagonal + (a[i - 1] != b[j - 1]);
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			diagonal = row[j];
			row[j] = best;
		}
	}
	return row[nb];
}

void names_start(struct names *n, const char *word, size_t len)
{
	*n = (struct names){.word = word, .len = len};
}

/* Near means: at most a third of the letters differ, and at least one agrees. */
void names_offer(struct names *n, const char *candidate)
{
	size_t len = strlen(candidate);
	if (n->len == 0 || n->len > NAME_MAX_LEN || len > NAME_MAX_LEN)
		return;
	size_t d = distance(n->word, n->len, candidate, len);
	if (d > (n->len + 2) / 3 || d >= len)
		return;
	if (!n->best || d < n->distance) {
		n->best = candidate;
		n->distance = d;
	}
}

const char *names_hint(const struct names *n, char *buf, size_t size)
{
	if (n->best)
		snprintf(buf, size, "; did you mean \"%s\"?", n->best);
	else
		buf[0] = 0;
	return buf;
}
