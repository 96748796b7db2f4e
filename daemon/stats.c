/* stats.c: the reply's keys are the rows of these tables; PROTOCOL.md's section on stats is checked against them. */
#include "stats.h"
#include "server.h"
#include <stdio.h>

/* ---- the reply ---- */

static double ms(uint64_t microseconds)
{
	return (double)microseconds / 1000;
}

static void write_jobs(const struct server *s, struct wire_buf *b)
{
	const struct jobs *j = &s->jobs;
	const struct {
		const char *key;
		uint64_t value;
	} rows[] = {
		{"queued", j->count[JOB_QUEUED]},
		{"running", j->count[JOB_RUNNING]},
		{"preempted", j->count[JOB_PREEMPTED]},
		{"accepted", s->accepted},
		{"done", j->total[JOB_DONE]},
		{"failed", j->total[JOB_FAILED]},
		{"cancelled", j->total[JOB_CANCELLED]},
		{"expired", j->total[JOB_EXPIRED]},
		{"rejected", s->rejected},
	};
	wire_map(b, sizeof rows / sizeof *rows);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		wire_str(b, rows[i].key);
		wire_uint(b, rows[i].value);
	}
}

static void write_quantiles(const char *name, const struct histogram *h, struct wire_buf *b)
{
	const struct {
		const char *suffix;
		uint64_t value;
	} rows[] = {{"p50", histogram_quantile(h, 0.50)}, {"p99", histogram_quantile(h, 0.99)}, {"max", histogram_max(h)}};
	char key[32];
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		snprintf(key, sizeof key, "%s_%s", name, rows[i].suffix);
		wire_str(b, key);
		wire_float(b, ms(rows[i].value));
	}
}

/* The buckets that are not empty. Two replies can be subtracted: what came between them. */
static void write_counts(const struct histogram *h, struct wire_buf *b)
{
	uint64_t count[HISTOGRAM_BUCKETS];
	size_t n = 0;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		n += (count[i] = histogram_count(h, i)) > 0;
	wire_array(b, n);
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		if (!count[i])
			continue;
		wire_array(b, 2);
		wire_float(b, ms(histogram_border(i)));
		wire_uint(b, count[i]);
	}
}

static void write_engine(const struct server *s, struct wire_buf *b)
{
	const struct engine_stats *e = engine_stats(s->engine);
	uint64_t steps = atomic_load(&e->steps), last = atomic_load(&e->last_step_at_ns);
	const struct {
		const char *key;
		uint64_t value;
	} rows[] = {
		{"steps", steps},
		{"prompt_tokens", atomic_load(&e->prompt_rows)},
		{"generated_tokens", atomic_load(&e->draws)},
		{"preemptions", atomic_load(&e->preemptions)},
		{"checkpoints", atomic_load(&e->checkpoints)},
		{"checkpoint_bytes", atomic_load(&e->checkpoint_bytes)},
		{"prefix_hits", atomic_load(&e->prefix_hits)},
		{"prefix_tokens", atomic_load(&e->prefix_tokens)},
		{"prefix_pages", atomic_load(&e->prefix_pages)},
		{"prefix_evictions", atomic_load(&e->prefix_evictions)},
		{"running", atomic_load(&e->running)},
		{"pages_used", atomic_load(&e->pages_used)},
		{"pages_total", s->pages_total},
	};
	wire_map(b, sizeof rows / sizeof *rows + 7);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		wire_str(b, rows[i].key);
		wire_uint(b, rows[i].value);
	}
	wire_str(b, "step_ms_mean");
	wire_float(b, steps ? (double)atomic_load(&e->step_ns) / (double)steps / 1e6 : 0);
	write_quantiles("step_ms", &e->step_us, b);
	wire_str(b, "step_ms_counts");
	write_counts(&e->step_us, b);
	wire_str(b, "last_step_age_ms");
	int64_t age = clock_now() - (int64_t)last;
	last ? wire_uint(b, (uint64_t)(age > 0 ? age / 1000000 : 0)) : wire_nil(b);
	wire_str(b, "busy");
	wire_bool(b, atomic_load(&e->busy));
}

static void write_loop(const struct server *s, struct wire_buf *b)
{
	wire_map(b, 3);
	write_quantiles("lag_ms", &s->lag, b);
}

static void write_uptime(const struct server *s, struct wire_buf *b)
{
	wire_uint(b, (uint64_t)((clock_now() - s->started_at) / 1000000));
}

static void write_state(const struct server *s, struct wire_buf *b)
{
	wire_str(b, server_state_name(s));
}

static void write_clients(const struct server *s, struct wire_buf *b)
{
	wire_uint(b, s->topics.listened);
}

static void write_requests(const struct server *s, struct wire_buf *b)
{
	wire_uint(b, s->requests);
}

static void write_replies_lost(const struct server *s, struct wire_buf *b)
{
	wire_uint(b, s->replies_lost);
}

const char *stats_store_state(const struct server *s)
{
	struct store_health h;
	if (!s->durable.store)
		return "none";
	store_get_health(s->durable.store, &h);
	switch (h.code) {
	case STORE_OK:
		return s->durable.away ? "behind" : "ok";
	case STORE_EFULL:
		return "full";
	case STORE_EDOWN:
		return "unreachable";
	default:
		return "broken";
	}
}

static void write_store(const struct server *s, struct wire_buf *b)
{
	struct store_health h = {0};
	const struct durable *d = &s->durable;
	if (d->store)
		store_get_health(d->store, &h);
	const struct {
		const char *key;
		uint64_t value;
	} rows[] = {
		{"waiting", h.waiting},       {"commits", h.commits}, {"operations", h.ops},   {"retries", h.retries},
		{"backlog_bytes", d->backlog}, {"held_interactive", d->held[0]}, {"held_batch", d->held[1]}, {"claimed", d->claimed},
		{"recovered", d->recovered},  {"lost", d->lost},
	};
	wire_map(b, sizeof rows / sizeof *rows + 10);
	wire_str(b, "backend");
	wire_str(b, d->store ? store_backend_name(d->store) : "none");
	wire_str(b, "state");
	wire_str(b, stats_store_state(s));
	wire_str(b, "reason");
	wire_str(b, h.code ? h.text : "");
	wire_str(b, "state_ms");
	int64_t since = h.since_ms ? clock_now() / 1000000 - h.since_ms : 0;
	wire_uint(b, (uint64_t)(since > 0 ? since : 0));
	wire_str(b, "owner");
	wire_str(b, d->owner);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		wire_str(b, rows[i].key);
		wire_uint(b, rows[i].value);
	}
	wire_str(b, "commit_ms_mean");
	wire_float(b, h.commits ? ms(h.commit_us_total) / (double)h.commits : 0);
	wire_str(b, "commit_ms_max");
	wire_float(b, ms(h.commit_us_max));
	write_quantiles("journal_ms", &d->commit, b);
}

static const struct {
	const char *key;
	void (*write)(const struct server *s, struct wire_buf *b);
} rows[] = {
	{"uptime_ms", write_uptime}, {"state", write_state},     {"jobs", write_jobs},         {"engine", write_engine},
	{"store", write_store},
	{"loop", write_loop},        {"clients", write_clients}, {"requests", write_requests}, {"replies_lost", write_replies_lost},
};

size_t stats_count(void)
{
	return sizeof rows / sizeof *rows;
}

void stats_write(const struct server *s, struct wire_buf *b)
{
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		wire_str(b, rows[i].key);
		rows[i].write(s, b);
	}
}
