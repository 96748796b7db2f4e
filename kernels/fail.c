/* fail.c: how every function of the core says why it failed. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "kernels/core.h"
#include "kernels/utf8.h"

/* Messages quote names out of files and are cut to length, but travel as UTF-8 text: what is not plain text becomes '?'. */
static void clean(char *text)
{
	for (size_t left = strlen(text); left > 0;) {
		int k = utf8_next((const unsigned char *)text, left);
		if (k <= 0 || (unsigned char)*text < ' ' || *text == 0x7f) {
			*text = '?';
			k = 1;
		}
		text += k;
		left -= (size_t)k;
	}
}

int core_fail(struct core_error *err, int code, const char *fmt, ...)
{
	if (err != NULL) {
		va_list ap;
		err->code = code;
		va_start(ap, fmt);
		vsnprintf(err->text, sizeof err->text, fmt, ap);
		va_end(ap);
		clean(err->text);
	}
	return code;
}
