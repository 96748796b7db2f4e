/* problem.c: the texts may hold parts of what a client sent: they are cut where a UTF-8 character ends. */
#include "problem.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void cut(char *s, size_t limit)
{
	size_t len = strlen(s);
	if (len < limit)
		return;
	while (len > 0 && !wire_utf8_valid(s, len))
		len--;
	s[len] = 0;
}

int problem_set(struct problem *p, enum wire_code code, const char *field, const char *fmt, ...)
{
	va_list ap;
	*p = (struct problem){.code = code};
	snprintf(p->field, sizeof p->field, "%s", field ? field : "");
	va_start(ap, fmt);
	vsnprintf(p->text, sizeof p->text, fmt, ap);
	va_end(ap);
	cut(p->field, sizeof p->field - 1);
	cut(p->text, sizeof p->text - 1);
	return -1;
}

int problem_type(struct problem *p, const char *field, const char *expected, const msgpack_object *got)
{
	if (!got)
		return problem_set(p, WIRE_INVALID_ARGUMENT, field, "missing: expected %s", expected);
	return problem_set(p, WIRE_INVALID_ARGUMENT, field, "expected %s, got %s", expected, wire_type_name(got));
}

const char *problem_name(char buf[static 65], const char *s, size_t len)
{
	if (len > 64)
		len = 64;
	while (len > 0 && !wire_utf8_valid(s, len))
		len--;
	memcpy(buf, s, len);
	buf[len] = 0;
	return buf;
}
