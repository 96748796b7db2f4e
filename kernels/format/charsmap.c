/* charsmap.c: see charsmap.h.
 *
 * A map is u32 bytes of the trie, the trie, then the replacements: texts that each end with a NUL. The trie is a double array
 * (darts-clone) of u32 units:
 *     bits 0-7 and 31  the label that leads to this unit (bit 31: a value, which no label reaches)
 *     bit 8            a value hangs on this unit
 *     bits 9, 10-30    offset: (unit >> 10), times 256 when bit 9 is set
 * A walk stands at `base`; the unit for the next byte c is base ^ c, and where its label is c, the next base is that index ^ its
 * offset, where its value, an index into the replacements, lies. So a map is sound when every base that can be reached has its 256
 * neighbours inside the array, and every value a text. */
#include <stdlib.h>
#include <string.h>

#include "charsmap.h"

/* The largest map that ships with SentencePiece has about 250 kB; the walk looks at 256 neighbours of each unit. */
enum { MAP_MAX = 4 << 20 };

struct trie {
	const uint8_t *units;
	uint32_t n;
	uint32_t texts;		/* bytes of the replacements; the last is NUL */
	uint32_t *todo;		/* bases to visit */
	uint32_t n_todo;
	uint8_t *seen;		/* of a base: one byte each */
};

static uint32_t unit_at(const struct trie *t, uint32_t i)
{
	uint32_t u;

	memcpy(&u, t->units + (size_t)i * 4, 4);
	return u;
}

static uint32_t offset_of(uint32_t unit)
{
	return (unit >> 10) << ((unit & 1 << 9) >> 6);
}

static bool reach(struct trie *t, uint32_t base)
{
	if ((base | 255) >= t->n)
		return false;
	if (!t->seen[base]) {
		t->seen[base] = 1;
		t->todo[t->n_todo++] = base;
	}
	return true;
}

static bool visit(struct trie *t, uint32_t base)
{
	for (uint32_t c = 0; c < 256; c++) {
		uint32_t at = base ^ c, unit = unit_at(t, at), next = at ^ offset_of(unit);
		if ((unit & (1u << 31 | 255)) != c)
			continue;
		if (!reach(t, next))
			return false;
		if ((unit & 1 << 8) != 0 && (unit_at(t, next) & 0x7fffffff) >= t->texts)
			return false;
	}
	return true;
}

bool charsmap_is_sound(const uint8_t *map, size_t len)
{
	struct trie t = {0};
	uint32_t bytes;
	bool sound;

	if (len == 0) /* no rules */
		return true;
	if (len < 5 || len > MAP_MAX)
		return false;
	memcpy(&bytes, map, 4);
	if (bytes == 0 || bytes % 4 != 0 || bytes >= len - 4 || map[len - 1] != 0)
		return false;
	t.units = map + 4;
	t.n = bytes / 4;
	t.texts = (uint32_t)(len - 4 - bytes);
	t.todo = malloc((size_t)t.n * sizeof *t.todo);
	t.seen = calloc(t.n, 1);
	sound = t.todo != NULL && t.seen != NULL && reach(&t, offset_of(unit_at(&t, 0)));
	while (sound && t.n_todo > 0)
		sound = visit(&t, t.todo[--t.n_todo]);
	free(t.todo);
	free(t.seen);
	return sound;
}
