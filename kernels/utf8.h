/* utf8.h: what is and is not a character. */
#ifndef WEFT_UTF8_H
#define WEFT_UTF8_H

#include <stddef.h>

#define UTF8_REPLACEMENT "\xef\xbf\xbd"	/* U+FFFD, three bytes */

/* How p[0..n) begins, n > 0. Above 0: a character of that many bytes; 0: the start of one, more bytes are needed; -1: p[0] is bad
 * (a stray follower, a shorter form, a surrogate, above U+10FFFF, or a start that the next bytes do not go on from). */
int utf8_next(const unsigned char *p, size_t n);
/* Copies text to out with every bad byte replaced by U+FFFD; returns the length. out NULL: only the length (at most 3 * len). */
size_t utf8_repair(const char *text, size_t len, char *out);

#endif
