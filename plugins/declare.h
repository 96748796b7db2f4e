/* declare.h: short forms for the tables of the plugins that ship, and the parameters that two of them share. Private. */
#ifndef WEFT_DECLARE_H
#define WEFT_DECLARE_H

#include "weft-plugin.h"

#define PARAM_NUMBER(t, n, d, lo, hi, text) {.size = sizeof(struct weft_param), .type = t, .name = n, .doc = text, .def = d, .min = lo, .max = hi}
#define PARAM_BOOL(n, text) PARAM_NUMBER(WEFT_BOOL, n, 0, 0, 1, text)
#define PARAM_INT(n, d, lo, hi, text) PARAM_NUMBER(WEFT_INT, n, d, lo, hi, text)
#define PARAM_FLOAT(n, d, lo, hi, text) PARAM_NUMBER(WEFT_FLOAT, n, d, lo, hi, text)
#define PARAM_LIST(t, n, lo, hi, items, text) \
	{.size = sizeof(struct weft_param), .type = t, .name = n, .doc = text, .min = lo, .max = hi, .max_items = items}

/* Token ids that a list may hold; ids outside the model's own vocabulary are refused when the instance is made. */
#define TOKEN_MAX 16777215

/* Shared: sample and bans both must know what would end an answer; sample and score both report the likeliest tokens. */
#define SHARED(...) {__VA_ARGS__, .shared = 1}
#define SHARED_MIN_TOKENS                                                                                                       \
	SHARED(.size = sizeof(struct weft_param), .type = WEFT_INT, .name = "min_tokens", .min = 0, .max = 1 << 24,             \
	       .doc = "Tokens an answer has at least: until then nothing that would end it is drawn, and stop strings do not count; 0 is off.")
#define SHARED_STOP_TOKEN_IDS                                                                                                   \
	SHARED(.size = sizeof(struct weft_param), .type = WEFT_INT_LIST, .name = "stop_token_ids", .min = 0, .max = TOKEN_MAX,  \
	       .max_items = 256, .doc = "Tokens that end the answer as the end-of-text token does; empty is off.")
#define SHARED_IGNORE_EOS                                                                                                       \
	SHARED(.size = sizeof(struct weft_param), .type = WEFT_BOOL, .name = "ignore_eos", .min = 0, .max = 1,                  \
	       .doc = "When true the end-of-text token is a token like any other and does not end the answer; false is neutral.")
#define SHARED_LOGPROBS                                                                                                         \
	SHARED(.size = sizeof(struct weft_param), .type = WEFT_INT, .name = "logprobs", .def = -1, .min = -1, .max = 20,        \
	       .doc = "Report each token's log-probability and this many of the likeliest tokens beside it (0: only the token's own); -1 is off.")
#define SHARED_ECHO                                                                                                             \
	SHARED(.size = sizeof(struct weft_param), .type = WEFT_BOOL, .name = "echo", .min = 0, .max = 1,                        \
	       .doc = "Give the prompt back as well, with its log-probabilities where they are asked for; false is off.")

#define PARAMS(table) .params = table, .n_params = sizeof(table) / sizeof((table)[0])
#define PLUGIN(n, text) .size = sizeof(struct weft_plugin), .abi = WEFT_ABI, .name = n, .version = "1.0", .doc = text

#endif
