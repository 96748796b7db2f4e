/* fail.c: how every function of the core says why it failed. */
#include <stdarg.h>
#include <stdio.h>

#include "kernels/core.h"

int core_fail(struct core_error *err, int code, const char *fmt, ...)
{
	if (err != NULL) {
		va_list ap;
		err->code = code;
		va_start(ap, fmt);
		vsnprintf(err->text, sizeof err->text, fmt, ap);
		va_end(ap);
	}
	return code;
}
