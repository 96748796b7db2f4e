/* declare.h: short forms for the tables of the plugins that ship, and the parameters that several plugins share. Private. */
#ifndef WEFT_DECLARE_H
#define WEFT_DECLARE_H

#include "weft-plugin.h"

#define PARAM(t, n, d, lo, hi, items, both, text)                                                                                  \
	{                                                                                                                          \
		.size = sizeof(struct weft_param), .type = t, .name = n, .doc = text, .def = d, .min = lo, .max = hi,              \
		.max_items = items, .shared = both                                                                                 \
	}
#define PARAM_INT(n, d, lo, hi, text) PARAM(WEFT_INT, n, d, lo, hi, 0, 0, text)
#define PARAM_FLOAT(n, d, lo, hi, text) PARAM(WEFT_FLOAT, n, d, lo, hi, 0, 0, text)
#define PARAM_LIST(t, n, lo, hi, items, text) PARAM(t, n, 0, lo, hi, items, 0, text)

/* Token ids that a list may hold; ids outside the model's own vocabulary are refused when the instance is made. */
#define TOKEN_MAX 16777215

/* Shared: those of sample that other plugins read as well, or that a decoder from outside may want under the same names. */
enum { N_MAX = 64, STOP_MAX_ITEMS = 32, TOP_MAX = 20, LENGTH_MAX = 1 << 24 };
#define SHARED_MAX_TOKENS                                                                                                          \
	PARAM(WEFT_INT, "max_tokens", 0, 0, LENGTH_MAX, 0, 1, "Tokens an answer has at most; 0: until the context is full.")
#define SHARED_MIN_TOKENS                                                                                                          \
	PARAM(WEFT_INT, "min_tokens", 0, 0, LENGTH_MAX, 0, 1,                                                                      \
	      "Tokens an answer has at least: until then nothing that would end it is drawn, and stop strings do not count; 0 is " \
	      "off.")
#define SHARED_N PARAM(WEFT_INT, "n", 1, 1, N_MAX, 0, 1, "Answers to draw from one prompt; 1 is neutral.")
#define SHARED_STOP                                                                                                                \
	PARAM(WEFT_STRING_LIST, "stop", 0, 0, 0, STOP_MAX_ITEMS, 1,                                                                \
	      "Strings of 1 to 256 bytes that end the answer where they begin; they are not returned; empty is off.")
#define SHARED_STOP_TOKEN_IDS                                                                                                      \
	PARAM(WEFT_INT_LIST, "stop_token_ids", 0, 0, TOKEN_MAX, 256, 1,                                                            \
	      "Tokens that end the answer as the end-of-text token does; empty is off.")
#define SHARED_IGNORE_EOS                                                                                                          \
	PARAM(WEFT_BOOL, "ignore_eos", 0, 0, 1, 0, 1,                                                                              \
	      "When true the end-of-text token is a token like any other and does not end the answer; false is neutral.")
#define SHARED_LOGPROBS                                                                                                            \
	PARAM(WEFT_INT, "logprobs", -1, -1, TOP_MAX, 0, 1,                                                                         \
	      "Report each token's log-probability and this many of the likeliest tokens beside it (0: only the token's own); -1 " \
	      "is off.")
#define SHARED_PROMPT_LOGPROBS                                                                                                     \
	PARAM(WEFT_INT, "prompt_logprobs", -1, -1, TOP_MAX, 0, 1,                                                                  \
	      "Report the log-probability of each prompt token and this many of the likeliest tokens beside it; -1 is off.")
#define SHARED_ECHO                                                                                                                \
	PARAM(WEFT_BOOL, "echo", 0, 0, 1, 0, 1,                                                                                    \
	      "Give the prompt back as well, with its log-probabilities where they are asked for; false is off.")

#define PARAMS(table) .params = table, .n_params = sizeof(table) / sizeof((table)[0])
#define PLUGIN(n, text) .size = sizeof(struct weft_plugin), .abi = WEFT_ABI, .name = n, .version = "1.0", .doc = text

#endif
