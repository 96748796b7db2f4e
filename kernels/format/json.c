/* json.c: JSON texts of model folders. */
#include <jansson.h>

#include "format.h"

int json_parse(struct json_t **out, const char *text, size_t len, const char *what, struct core_error *err)
{
	json_error_t je;

	/* An empty file maps to no memory at all, which jansson takes for a caller's mistake. */
	*out = json_loadb(len > 0 ? text : "", len, JSON_REJECT_DUPLICATES, &je);
	if (*out != NULL)
		return 0;
	if (json_error_code(&je) == json_error_out_of_memory)
		return core_fail(err, CORE_ENOMEM, "%s: out of memory for %zu bytes of JSON", what, len);
	return core_fail(err, CORE_EFORMAT, "%s: JSON, line %d: %s", what, je.line, je.text);
}
