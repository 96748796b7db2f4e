/* metrics.h: what operators watch, as text in the Prometheus exposition format (version 0.0.4). Counts and histograms are kept
 * here, gauges are read from their owners when a page is written. [loop]
 *
 * Labels have few values: states, classes, causes, finish reasons; adapters by name, up to METRICS_ADAPTERS of them, the rest as
 * "other". Never prompts, topics, keys or job numbers. */
#ifndef WEFT_DAEMON_METRICS_H
#define WEFT_DAEMON_METRICS_H

#include "adapters.h"
#include "histogram.h"
#include <stdint.h>
#include <stdio.h>

struct job;
struct server;

enum { METRICS_ADAPTERS = 256, METRICS_FINISHES = 16, METRICS_CAUSES = 16 };

struct metrics_adapter {
	char name[ADAPTER_NAME_MAX + 1];
	uint64_t requests, prompt_tokens, completion_tokens;
};

struct metrics_count {
	const char *name; /* static */
	uint64_t n;
};

struct metrics {
	/* microseconds */
	struct histogram queued;  /* acceptance to first start */
	struct histogram first;   /* acceptance to first token (time to first token) */
	struct histogram prefill; /* first start to first token */
	struct histogram decode;  /* first token to end */
	struct histogram total;   /* acceptance to end */
	struct histogram between; /* two pieces of a stream (inter-token latency) */
	double queued_sum, first_sum, prefill_sum, decode_sum, total_sum, between_sum; /* seconds */
	struct metrics_count finishes[METRICS_FINISHES];                               /* of choices */
	struct metrics_count rejects[METRICS_CAUSES];
	uint64_t prompt_tokens, completion_tokens, cached_tokens; /* of ended jobs */
	struct metrics_adapter adapters[METRICS_ADAPTERS + 1];    /* [n_adapters]; the last place is "other" */
	size_t n_adapters;
};

void metrics_delta(struct metrics *m, struct job *j,
		   int64_t at_ns);                              /* a piece of the answer; looks at j->last_delta_at and sets it */
void metrics_job_ended(struct metrics *m, const struct job *j); /* in its final state, its answer and adapters still there */
void metrics_rejected(struct metrics *m, const char *cause);    /* cause: static, a word */
/* The page; names of vLLM's metrics as well when `vllm` (for gateways that ask for those). */
void metrics_write(const struct server *s, FILE *out, bool vllm);

#endif
