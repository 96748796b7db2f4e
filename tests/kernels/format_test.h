/* format_test.h: what the tests of kernels/format and the tokenizer include. */
#ifndef WEFT_FORMAT_TEST_H
#define WEFT_FORMAT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "kernels/format/checkpoint.h"
#include "kernels/utf8.h"

/* Path of a committed fixture; one of four buffers, so that a call may take several. */
static inline const char *fixture(const char *name)
{
	static char paths[4][1024];
	static unsigned next;
	const char *top = getenv("top_srcdir");
	char *p = paths[next++ % 4];

	snprintf(p, sizeof paths[0], "%s/tests/kernels/fixtures/format/%s", top != NULL ? top : ".", name);
	return p;
}

#endif
