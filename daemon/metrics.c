/* metrics.c: the page is a list of families; PROTOCOL.md's stats and this page read the same counters. */
#include "config.h"
#include "metrics.h"
#include "publish.h"
#include "server.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- counting ---- */

static void observe(struct histogram *h, double *sum, int64_t ns)
{
	if (ns < 0)
		ns = 0;
	histogram_add(h, (uint64_t)ns / 1000);
	*sum += (double)ns / 1e9;
}

static void count(struct metrics_count *list, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++) {
		if (!list[i].name)
			list[i].name = name;
		if (strcmp(list[i].name, name) == 0) {
			list[i].n++;
			return;
		}
	}
}

void metrics_delta(struct metrics *m, struct job *j, int64_t at_ns)
{
	if (j->last_delta_at)
		observe(&m->between, &m->between_sum, at_ns - j->last_delta_at);
	j->last_delta_at = at_ns;
}

void metrics_rejected(struct metrics *m, const char *cause)
{
	count(m->rejects, METRICS_CAUSES, cause);
}

static struct metrics_adapter *adapter_row(struct metrics *m, const char *name)
{
	struct metrics_adapter *other = &m->adapters[METRICS_ADAPTERS];
	for (size_t i = 0; i < m->n_adapters; i++)
		if (strcmp(m->adapters[i].name, name) == 0)
			return &m->adapters[i];
	if (m->n_adapters == METRICS_ADAPTERS) {
		strcpy(other->name, "other");
		return other;
	}
	struct metrics_adapter *a = &m->adapters[m->n_adapters++];
	snprintf(a->name, sizeof a->name, "%s", name);
	return a;
}

static void count_adapters(struct metrics *m, const struct job *j)
{
	for (size_t i = 0; j->adapters && i < j->adapters->n; i++) {
		struct metrics_adapter *a = adapter_row(m, j->adapters->part[i].entry->name);
		a->requests++;
		a->prompt_tokens += j->prompt_tokens;
		a->completion_tokens += j->completion_tokens;
	}
}

void metrics_job_ended(struct metrics *m, const struct job *j)
{
	for (uint32_t i = 0; j->choices && i < j->n_choices; i++)
		count(m->finishes, METRICS_FINISHES, publish_finish_name(j, j->choices[i].finish));
	m->prompt_tokens += j->prompt_tokens;
	m->completion_tokens += j->completion_tokens;
	m->cached_tokens += j->cached_tokens;
	count_adapters(m, j);
	observe(&m->total, &m->total_sum, j->ended_at - j->accepted_at);
	observe(&m->queued, &m->queued_sum, (j->started_at ? j->started_at : j->ended_at) - j->accepted_at);
	if (!j->first_delta_at)
		return;
	observe(&m->first, &m->first_sum, j->first_delta_at - j->accepted_at);
	observe(&m->prefill, &m->prefill_sum, j->first_delta_at - j->started_at);
	observe(&m->decode, &m->decode_sum, j->ended_at - j->first_delta_at);
}

/* ---- writing ---- */

static void family(FILE *f, const char *name, const char *type, const char *help)
{
	fprintf(f, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void one(FILE *f, const char *name, const char *type, const char *help, double value)
{
	family(f, name, type, help);
	fprintf(f, "%s %.17g\n", name, value);
}

static void labelled(FILE *f, const char *name, const char *label, const char *value, uint64_t n)
{
	/* Values are words of ours and names of adapters: nothing in them needs escaping. */
	fprintf(f, "%s{%s=\"%s\"} %" PRIu64 "\n", name, label, value, n);
}

/* Seconds, at bounds that go 1, 2.5, 5, 10; each from the bucket below it, so a bound is right within an eighth. */
static void histogram(FILE *f, const char *name, const char *help, const struct histogram *h, double sum)
{
	static const double bounds[] = {.001, .0025, .005, .01, .025, .05, .1,  .25,  .5,   1,   2.5,
					5,    10,    25,   50,  100,  250, 500, 1000, 2500, 5000};
	uint64_t below = 0;
	unsigned bucket = 0;
	family(f, name, "histogram", help);
	for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++) {
		while (bucket < HISTOGRAM_BUCKETS && (double)histogram_border(bucket) <= bounds[i] * 1e6)
			below += histogram_count(h, bucket++);
		fprintf(f, "%s_bucket{le=\"%g\"} %" PRIu64 "\n", name, bounds[i], below);
	}
	while (bucket < HISTOGRAM_BUCKETS)
		below += histogram_count(h, bucket++);
	fprintf(f, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n%s_sum %.9g\n%s_count %" PRIu64 "\n", name, below, name, sum, name, below);
}

static void write_jobs(const struct server *s, FILE *f)
{
	static const enum job_state now[] = {JOB_QUEUED, JOB_RUNNING, JOB_PREEMPTED};
	static const enum job_state ends[] = {JOB_DONE, JOB_FAILED, JOB_CANCELLED, JOB_EXPIRED, JOB_DEAD};
	family(f, "weft_jobs", "gauge", "Jobs in this daemon's memory that have not ended, by state.");
	for (size_t i = 0; i < sizeof now / sizeof *now; i++)
		labelled(f, "weft_jobs", "state", job_state_name(now[i]), s->jobs.count[now[i]]);
	one(f, "weft_jobs_accepted_total", "counter", "Jobs accepted.", (double)s->accepted);
	family(f, "weft_jobs_ended_total", "counter", "Jobs that ended, by state.");
	for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
		labelled(f, "weft_jobs_ended_total", "state", job_state_name(ends[i]), s->jobs.total[ends[i]]);
	family(f, "weft_jobs_rejected_total", "counter", "Requests for jobs that were refused for want of room, by cause.");
	for (size_t i = 0; i < METRICS_CAUSES && s->metrics.rejects[i].name; i++)
		labelled(f, "weft_jobs_rejected_total", "cause", s->metrics.rejects[i].name, s->metrics.rejects[i].n);
	family(f, "weft_choices_finished_total", "counter", "Answers, by the reason of their end.");
	for (size_t i = 0; i < METRICS_FINISHES && s->metrics.finishes[i].name; i++)
		labelled(f, "weft_choices_finished_total", "finish", s->metrics.finishes[i].name, s->metrics.finishes[i].n);
}

static double oldest_age(const struct server *s)
{
	const struct queue_entry *e = queue_first(&s->queue);
	const struct job *j = e ? job_find(&s->jobs, e->id) : NULL;
	return j ? (double)(clock_now() - j->accepted_at) / 1e9 : 0;
}

static void write_queue(const struct server *s, FILE *f)
{
	one(f, "weft_queue_tokens", "gauge", "Tokens that waiting jobs may come to.", (double)s->queue.tokens);
	one(f, "weft_queue_bytes", "gauge", "Memory outside the engine that waiting jobs may come to need.",
	    (double)s->queue.bytes);
	one(f, "weft_queue_first_age_seconds", "gauge", "Age of the job that goes next.", oldest_age(s));
	one(f, "weft_clients", "gauge", "Topics with a subscriber.", (double)s->topics.listened);
	one(f, "weft_requests_total", "counter", "Frames answered.", (double)s->requests);
	one(f, "weft_replies_lost_total", "counter", "Replies that no longer had a receiver.", (double)s->replies_lost);
	one(f, "weft_loop_lag_seconds_p99", "gauge", "How late timers of the loop come, 99th percentile since the start.",
	    (double)histogram_quantile(&s->lag, 0.99) / 1e6);
	one(f, "weft_loop_lag_seconds_max", "gauge", "The worst of them.", (double)histogram_max(&s->lag) / 1e6);
}

static void write_engine(const struct server *s, FILE *f)
{
	const struct engine_stats *e = engine_stats(s->engine);
	uint64_t last = atomic_load(&e->last_step_at_ns);
	int64_t age = clock_now() - (int64_t)last;
	const struct {
		const char *name, *help;
		uint64_t value;
	} counters[] = {
		{"weft_engine_steps_total", "Forward passes.", atomic_load(&e->steps)},
		{"weft_engine_prompt_tokens_total", "Prompt tokens run.", atomic_load(&e->prompt_rows)},
		{"weft_engine_generated_tokens_total", "Tokens drawn.", atomic_load(&e->draws)},
		{"weft_engine_rebuilt_tokens_total", "Tokens run again after a pre-emption or a restart.",
		 atomic_load(&e->rebuilt_rows)},
		{"weft_engine_preemptions_total", "Jobs parked for others.", atomic_load(&e->preemptions)},
		{"weft_prefix_hits_total", "Times that the prefix cache had the beginning of a prompt or of a rebuild.",
		 atomic_load(&e->prefix_hits)},
		{"weft_prefix_tokens_total", "Tokens that it had, and that were not run.", atomic_load(&e->prefix_tokens)},
		{"weft_prefix_evictions_total", "Pages of it that made room.", atomic_load(&e->prefix_evictions)},
	};
	for (size_t i = 0; i < sizeof counters / sizeof *counters; i++)
		one(f, counters[i].name, "counter", counters[i].help, (double)counters[i].value);
	one(f, "weft_engine_step_seconds_total", "counter", "Time spent in steps.", (double)atomic_load(&e->step_ns) / 1e9);
	one(f, "weft_engine_forward_seconds_total", "counter", "Of it, inside the model.",
	    (double)atomic_load(&e->forward_ns) / 1e9);
	one(f, "weft_engine_plugin_seconds_total", "counter", "Of it, in decoders, samplers and the reduction of logits.",
	    (double)atomic_load(&e->plugin_ns) / 1e9);
	one(f, "weft_engine_busy", "gauge", "1 while a job wants steps.", atomic_load(&e->busy));
	one(f, "weft_engine_last_step_age_seconds", "gauge", "Since the last step; while busy this must stay small.",
	    last ? (double)(age > 0 ? age : 0) / 1e9 : 0);
	one(f, "weft_kv_pages_used", "gauge", "KV cache pages in use.", atomic_load(&e->pages_used));
	one(f, "weft_prefix_pages", "gauge", "KV cache pages that the prefix cache has; those that no job holds are not in use.",
	    atomic_load(&e->prefix_pages));
	one(f, "weft_kv_pages", "gauge", "KV cache pages.", s->pages_total);
}

static void write_latencies(const struct server *s, FILE *f)
{
	const struct metrics *m = &s->metrics;
	histogram(f, "weft_queue_seconds", "From acceptance to the first start.", &m->queued, m->queued_sum);
	histogram(f, "weft_time_to_first_token_seconds", "From acceptance to the first token.", &m->first, m->first_sum);
	histogram(f, "weft_prefill_seconds", "From the first start to the first token.", &m->prefill, m->prefill_sum);
	histogram(f, "weft_decode_seconds", "From the first token to the end.", &m->decode, m->decode_sum);
	histogram(f, "weft_job_seconds", "From acceptance to the end.", &m->total, m->total_sum);
	histogram(f, "weft_inter_token_seconds", "Between two pieces of an answer.", &m->between, m->between_sum);
	one(f, "weft_prompt_tokens_total", "counter", "Prompt tokens of jobs that ended.", (double)m->prompt_tokens);
	one(f, "weft_completion_tokens_total", "counter", "Answer tokens of jobs that ended.", (double)m->completion_tokens);
	one(f, "weft_cached_tokens_total", "counter",
	    "Prompt tokens of jobs that ended that were not run because their KV was there.", (double)m->cached_tokens);
}

static void write_adapters(const struct server *s, FILE *f)
{
	const struct metrics *m = &s->metrics;
	const struct {
		const char *name, *help;
		size_t offset;
	} rows[] = {
		{"weft_adapter_requests_total", "Jobs that ended, by adapter; a blend counts for each of its adapters.",
		 offsetof(struct metrics_adapter, requests)},
		{"weft_adapter_prompt_tokens_total", "Their prompt tokens.", offsetof(struct metrics_adapter, prompt_tokens)},
		{"weft_adapter_completion_tokens_total", "Their answer tokens.",
		 offsetof(struct metrics_adapter, completion_tokens)},
	};
	one(f, "weft_adapters_resident_bytes", "gauge", "Memory of loaded adapters.", (double)s->adapters.resident);
	one(f, "weft_adapters_memory_bytes", "gauge", "Its limit.", (double)s->adapters.limit);
	one(f, "weft_adapter_evictions_total", "counter", "Adapters let go to keep the limit.", (double)s->adapters.evictions);
	for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
		family(f, rows[k].name, "counter", rows[k].help);
		for (size_t i = 0; i <= METRICS_ADAPTERS; i++)
			if (m->adapters[i].name[0])
				labelled(f, rows[k].name, "adapter", m->adapters[i].name,
					 *(const uint64_t *)((const char *)&m->adapters[i] + rows[k].offset));
	}
}

/* The names that gateways of the Kubernetes inference extension ask for. */
static void write_vllm(const struct server *s, FILE *f)
{
	double used = s->pages_total ? (double)atomic_load(&engine_stats(s->engine)->pages_used) / s->pages_total : 0;
	one(f, "vllm:num_requests_waiting", "gauge", "Jobs that wait.",
	    (double)(s->jobs.count[JOB_QUEUED] + s->jobs.count[JOB_PREEMPTED]));
	one(f, "vllm:num_requests_running", "gauge", "Jobs that run.", (double)s->jobs.count[JOB_RUNNING]);
	one(f, "vllm:kv_cache_usage_perc", "gauge", "Share of KV pages in use, 0 to 1.", used);
}

void metrics_write(const struct server *s, FILE *f, bool vllm)
{
	const struct core_model_info *m = core_model_info(s->model);
	family(f, "weft_info", "gauge", "What runs here; always 1.");
	fprintf(f, "weft_info{version=\"%s\",arch=\"%s\",quant=\"%s\",digest=\"%.16s\"} 1\n", PACKAGE_VERSION, m->arch, m->quant,
		m->digest);
	one(f, "weft_uptime_seconds", "gauge", "Since the start.", (double)(clock_now() - s->started_at) / 1e9);
	family(f, "weft_state", "gauge", "1 for the state that the server is in.");
	for (enum server_state i = SERVER_RUNNING; i <= SERVER_DRAINING; i++) {
		static const char *const names[] = {"running", "paused", "draining"};
		labelled(f, "weft_state", "state", names[i], s->state == i);
	}
	write_jobs(s, f);
	write_queue(s, f);
	write_engine(s, f);
	write_latencies(s, f);
	write_adapters(s, f);
	if (vllm)
		write_vllm(s, f);
}
