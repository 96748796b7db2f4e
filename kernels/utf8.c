/* utf8.c: see utf8.h. */
#include <string.h>

#include "utf8.h"

int utf8_next(const unsigned char *p, size_t n)
{
	unsigned char lead = p[0], low = 0x80, high = 0xbf; /* bounds of the second byte */
	int len;

	if (lead < 0x80)
		return 1;
	if (lead < 0xc2 || lead > 0xf4)
		return -1;
	len = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
	if (lead == 0xe0)
		low = 0xa0; /* shorter forms */
	else if (lead == 0xed)
		high = 0x9f; /* surrogates */
	else if (lead == 0xf0)
		low = 0x90; /* shorter forms */
	else if (lead == 0xf4)
		high = 0x8f; /* above U+10FFFF */
	if (n > 1 && (p[1] < low || p[1] > high))
		return -1;
	for (int i = 2; i < len && (size_t)i < n; i++)
		if (p[i] < 0x80 || p[i] > 0xbf)
			return -1;
	return n < (size_t)len ? 0 : len;
}

size_t utf8_repair(const char *text, size_t len, char *out)
{
	size_t n = 0;

	for (size_t i = 0; i < len;) {
		int k = utf8_next((const unsigned char *)text + i, len - i);
		const char *from = k > 0 ? text + i : UTF8_REPLACEMENT;
		size_t width = k > 0 ? (size_t)k : strlen(UTF8_REPLACEMENT);
		if (out != NULL)
			memcpy(out + n, from, width);
		n += width;
		i += k > 0 ? (size_t)k : 1;
	}
	return n;
}
