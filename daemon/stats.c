/* stats.c: the reply's keys are the rows of these tables; PROTOCOL.md's section on stats is checked against them. */
#include "stats.h"
#include "server.h"

/* ---- histogram ---- */

static unsigned bucket_of(uint64_t v)
{
	if (v < 8)
		return (unsigned)v;
	unsigned exponent = 63 - (unsigned)__builtin_clzll(v);
	unsigned b = (exponent - 2) * 8 + (unsigned)(v >> (exponent - 3) & 7);
	return b < HISTOGRAM_BUCKETS ? b : HISTOGRAM_BUCKETS - 1;
}

static uint64_t bucket_top(unsigned b)
{
	if (b < 8)
		return b;
	unsigned exponent = b / 8 + 2;
	return ((uint64_t)(8 + b % 8 + 1) << (exponent - 3)) - 1;
}

void histogram_add(struct histogram *h, uint64_t v)
{
	h->count[bucket_of(v)]++;
	h->n++;
	if (v > h->max)
		h->max = v;
}

uint64_t histogram_quantile(const struct histogram *h, double share)
{
	uint64_t seen = 0;
	for (unsigned b = 0; b < HISTOGRAM_BUCKETS; b++) {
		seen += h->count[b];
		if (h->n && (double)seen >= share * (double)h->n)
			return bucket_top(b) < h->max ? bucket_top(b) : h->max;
	}
	return h->max;
}

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
		{"running", atomic_load(&e->running)},
		{"pages_used", atomic_load(&e->pages_used)},
		{"pages_total", s->pages_total},
	};
	wire_map(b, sizeof rows / sizeof *rows + 3);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		wire_str(b, rows[i].key);
		wire_uint(b, rows[i].value);
	}
	wire_str(b, "step_ms_mean");
	wire_float(b, steps ? (double)atomic_load(&e->step_ns) / (double)steps / 1e6 : 0);
	wire_str(b, "last_step_age_ms");
	int64_t age = clock_now() - (int64_t)last;
	last ? wire_uint(b, (uint64_t)(age > 0 ? age / 1000000 : 0)) : wire_nil(b);
	wire_str(b, "busy");
	wire_bool(b, atomic_load(&e->busy));
}

static void write_loop(const struct server *s, struct wire_buf *b)
{
	wire_map(b, 3);
	wire_str(b, "lag_ms_p50");
	wire_float(b, ms(histogram_quantile(&s->lag, 0.50)));
	wire_str(b, "lag_ms_p99");
	wire_float(b, ms(histogram_quantile(&s->lag, 0.99)));
	wire_str(b, "lag_ms_max");
	wire_float(b, ms(s->lag.max));
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

static const struct {
	const char *key;
	void (*write)(const struct server *s, struct wire_buf *b);
} rows[] = {
	{"uptime_ms", write_uptime}, {"state", write_state},     {"jobs", write_jobs},         {"engine", write_engine},
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
