/* openai.h: bodies of OpenAI's completion endpoints as weft requests, and finished jobs as their answers. JSON in, JSON out: knows
 * no sockets and no files. [any thread]
 *
 * What has a counterpart is translated; options of weft that OpenAI does not have (top_k, adapters, ...) pass through under their
 * own names, so the server judges them; what would change the answer and cannot be done (tools, a JSON response format, stream in a
 * batch) is refused. Four keys have no influence on an answer and are taken without one: user, metadata, store, service_tier. */
#ifndef WEFT_OPENAI_H
#define WEFT_OPENAI_H

#include <jansson.h>
#include <stdbool.h>

enum openai_endpoint { OPENAI_CHAT, OPENAI_COMPLETIONS };

struct openai_problem {
	const char *code; /* of PROTOCOL.md's table: "invalid_argument", "unsupported" */
	char text[256];   /* which field, and what was expected */
};

bool openai_endpoint_parse(const char *url, enum openai_endpoint *out); /* "/v1/chat/completions", "/v1/completions" */

/* The fields of a generate request (without v, id, op and topic), a new reference; NULL: *problem says why. The body is not
 * changed. */
json_t *openai_request(enum openai_endpoint endpoint, const json_t *body, struct openai_problem *problem);

/* The response body for a job that ended as done: `done` is its event, `model` the name that the request gave, `created` in seconds
 * since 1970. A new reference; NULL: out of memory. */
json_t *openai_response(enum openai_endpoint endpoint, const json_t *done, const char *model, long long created);

#endif
