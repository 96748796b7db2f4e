/* run.c: one job from its birth to its end, seen from the outside. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/host.h"
#include "daemon/philox.h"
#include "daemon/run.h"

static const int64_t progress_every_ns = 100 * 1000 * 1000;

int64_t run_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- birth and death ---- */

struct weft_job *run_new(struct engine_job *spec, const struct run_model *model, struct core_ctx *core, struct run_out *out)
{
	struct weft_job *job = calloc(1, sizeof *job);

	if (job == NULL)
		return NULL;
	job->spec = spec;
	job->model = model;
	job->core = core;
	job->out = out;
	return job;
}

static void choice_free(struct choice *c)
{
	if (c->has_chain)
		chain_finish(&c->chain);
	free(c);
}

/* What the job has on the engine's side; the plugins' instances go first, since they borrow from the spec. */
void run_release(struct weft_job *job)
{
	for (uint32_t i = 0; i < job->n_choices; i++)
		choice_free(job->choices[i]);
	free(job->choices);
	job->choices = NULL;
	job->n_choices = job->choices_cap = 0;
	if (job->decoder != NULL)
		job->spec->decoder.plugin->desc->decoder->destroy(job->decoder);
	job->decoder = NULL;
	seq_free_all(job);
	arena_finish(&job->arena);
	free(job->feeds);
	free(job->detok_text);
	free(job->identity.data);
	job->identity = (struct bytes_out){0};
	job->feeds = NULL;
	job->n_feeds = job->feeds_cap = 0;
	job->detok_text = NULL;
}

void run_free(struct weft_job *job)
{
	if (!job->ended) {
		run_release(job);
		engine_job_free(job->spec);
	}
	free(job);
}

static void say_done(struct engine_job *spec, struct run_out *out, enum engine_end end, int code, const char *text,
		     uint64_t completion, uint64_t cached)
{
	struct engine_event *e = spec->last;

	e->kind = EV_DONE;
	e->job = spec->id;
	e->end = end;
	e->code = code;
	e->text = end == END_FAILED ? strdup(text) : NULL;
	e->text_len = e->text == NULL ? 0 : strlen(e->text);
	e->prompt_tokens = spec->n_prompt;
	e->completion_tokens = completion;
	e->cached_tokens = cached < spec->n_prompt ? cached : spec->n_prompt; /* a decoder may feed its prompt more than once */
	e->at_ns = run_now_ns();
	e->spent = spec;
	spec->last = NULL;
	*out->last = e;
	out->last = &e->next;
}

void run_end(struct weft_job *job, enum engine_end end, int code, const char *fmt, ...)
{
	char text[RUN_REASON];
	va_list ap;

	if (job->ended || job->late)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (job->aside) { /* nothing ends a job there but its failure */
		memcpy(job->late_text, text, sizeof text);
		job->late_code = code;
		job->late = true;
		return;
	}
	run_release(job);
	job->ended = true;
	say_done(job->spec, job->out, end, code, text, job->drawn + job->scored, job->cached);
}

void run_return(struct weft_job *job)
{
	bool late = job->late;

	job->aside = job->late = false;
	if (late)
		run_end(job, END_FAILED, job->late_code, "%s", job->late_text);
}

void run_refuse(struct engine_job *spec, struct run_out *out, const char *text)
{
	say_done(spec, out, END_FAILED, WEFT_ENOMEM, text, 0, 0);
}

/* ---- calls of plugins ---- */

void run_enter(struct weft_job *job, enum run_phase phase, const struct plugin *caller, uint32_t choice)
{
	job->phase = phase;
	if (job->caller != caller)
		job->caller_stream = philox_stream(caller->desc->name);
	job->caller = caller;
	job->caller_choice = choice;
	job->call_events = 0;
	job->call_bytes = 0;
	job->said_code = job->breach_code = 0;
}

int run_verdict(struct weft_job *job, const char *function, int rc, char text[static RUN_REASON])
{
	const char *name = job->caller->desc->name;

	job->phase = PHASE_NONE;
	if (job->breach_code != 0) {
		snprintf(text, RUN_REASON, "the plugin %s failed: %s", name, job->breach);
		return job->breach_code;
	}
	if (rc > 0 || rc < WEFT_EINTERNAL) {
		snprintf(text, RUN_REASON, "the plugin %s failed: %s() returned %d, which is no code", name, function, rc);
		return WEFT_EINTERNAL;
	}
	if (rc != 0 && job->said_code != 0)
		snprintf(text, RUN_REASON, "%s: %s", name, job->said);
	else if (rc != 0)
		snprintf(text, RUN_REASON, "the plugin %s failed: %s() returned %d without a reason", name, function, rc);
	return rc;
}

bool run_leave(struct weft_job *job, const char *function, int rc)
{
	char text[RUN_REASON];

	if (rc == 0 && job->breach_code == 0) {
		job->phase = PHASE_NONE;
		return true;
	}
	rc = run_verdict(job, function, rc, text);
	run_end(job, END_FAILED, rc, "%s", text);
	return false;
}

int run_breach(struct weft_job *job, int code, const char *fmt, ...)
{
	va_list ap;

	if (job->breach_code == 0) {
		job->breach_code = code;
		va_start(ap, fmt);
		vsnprintf(job->breach, sizeof job->breach, fmt, ap);
		va_end(ap);
	}
	return code;
}

struct engine_event *run_event(struct weft_job *job, enum engine_event_kind kind)
{
	struct engine_event *e = calloc(1, sizeof *e);

	if (e == NULL) {
		run_breach(job, WEFT_ENOMEM, "out of memory");
		return NULL;
	}
	e->kind = kind;
	e->job = job->spec->id;
	e->at_ns = run_now_ns();
	*job->out->last = e;
	job->out->last = &e->next;
	return e;
}

/* ---- choices ---- */

/* An answer that begins the sequence (its prompt is nothing but control tokens) loses its leading space, as whole-sequence decoding
 * does. */
static bool begins_text(const struct weft_job *job)
{
	for (size_t i = 0; i < job->spec->n_prompt; i++)
		if (!core_tokenizer_is_control(job->model->tokenizer, job->spec->prompt[i]))
			return false;
	return true;
}

static uint32_t choice_place(const struct weft_job *job, uint32_t index)
{
	uint32_t lo = 0, hi = job->n_choices;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		if (job->choices[mid]->index < index)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

struct choice *run_choice_make(struct weft_job *job, uint32_t index)
{
	uint32_t at = choice_place(job, index);

	if (at < job->n_choices && job->choices[at]->index == index)
		return job->choices[at];
	if (index >= 65536 || job->n_choices == RUN_CHOICES) {
		run_breach(job, WEFT_EINVAL, "it names the choice %u; there may be %d, each below 65536", index, RUN_CHOICES);
		return NULL;
	}
	if (job->n_choices == job->choices_cap) {
		uint32_t cap = job->choices_cap == 0 ? 4 : job->choices_cap * 2;
		struct choice **grown = realloc(job->choices, cap * sizeof *grown);
		if (grown == NULL) {
			run_breach(job, WEFT_ENOMEM, "out of memory");
			return NULL;
		}
		job->choices = grown;
		job->choices_cap = cap;
	}
	struct choice *c = calloc(1, sizeof *c);
	if (c == NULL) {
		run_breach(job, WEFT_ENOMEM, "out of memory");
		return NULL;
	}
	c->index = index;
	c->detok.strip_space = begins_text(job);
	memmove(job->choices + at + 1, job->choices + at, (job->n_choices - at) * sizeof *job->choices);
	job->choices[at] = c;
	job->n_choices++;
	return c;
}

bool run_choice_chain(struct weft_job *job, struct choice *c)
{
	if (c->has_chain)
		return true;
	c->has_chain = true;
	return chain_init(&c->chain, job, c->index);
}

/* ---- a decoder's turn ---- */

bool run_make_decoder(struct weft_job *job)
{
	const struct plugin_args *d = &job->spec->decoder;

	run_enter(job, PHASE_CREATE, d->plugin, 0);
	int rc = d->plugin->desc->decoder->create(&host_table, job, d->values, &job->decoder);
	if (rc == 0 && job->decoder == NULL)
		rc = run_breach(job, WEFT_EINTERNAL, "create() made no instance");
	if (rc != 0)
		job->decoder = NULL; /* nothing was made: nothing is to be destroyed */
	return run_leave(job, "create", rc);
}

static bool create_fresh(struct weft_job *job)
{
	if (seq_make(job) == NULL) {
		run_end(job, END_FAILED, WEFT_ENOMEM, "out of memory");
		return false;
	}
	if (!run_make_decoder(job))
		return false;
	if (job->spec->n_samplers == 0)
		return true;
	struct choice *first = run_choice_make(job, 0); /* a sampler that refuses its parameters does so before the model has run */
	if (first == NULL) {
		run_end(job, END_FAILED, WEFT_ENOMEM, "out of memory");
		return false;
	}
	return run_choice_chain(job, first);
}

static bool out_of_memory(struct weft_job *job)
{
	run_end(job, END_FAILED, WEFT_ENOMEM, "out of memory");
	return false;
}

/* As if nothing of the checkpoint had been read. */
static bool begin_again(struct weft_job *job, const char *why)
{
	char line[RUN_REASON + 80];

	snprintf(line, sizeof line, "starts from its prompt: %s", why);
	if (job->out->log != NULL)
		job->out->log(job->out->log_arg, job->spec->id, WEFT_LOG_WARNING, line);
	run_release(job);
	job->next_seq = 0;
	job->plan = job->drawn = job->scored = job->cached = 0;
	job->started = false;
	job->detok_text = malloc(core_detok_bound(job->model->tokenizer) + 1);
	return job->detok_text == NULL ? out_of_memory(job) : create_fresh(job);
}

bool run_create(struct weft_job *job)
{
	char why[RUN_REASON];

	job->saved_at = run_now_ns();
	job->detok_text = malloc(core_detok_bound(job->model->tokenizer) + 1);
	if (job->detok_text == NULL)
		return out_of_memory(job);
	if (job->spec->resume == NULL)
		return create_fresh(job);
	enum restored r = checkpoint_restore(job, why);
	if (r == RESTORE_ENDED)
		return false;
	free(job->spec->resume);
	job->spec->resume = NULL;
	if (r == RESTORED)
		return run_resume(job);
	if (job->spec->or_restart)
		return begin_again(job, why);
	run_end(job, END_FAILED, WEFT_EINVAL, "%s", why);
	return false;
}

/* A decoder that has said done leaves no answer without its end. */
static bool finished_all(struct weft_job *job)
{
	for (uint32_t i = 0; i < job->n_choices; i++)
		if (job->choices[i]->spoke && !job->choices[i]->finished) {
			run_end(job, END_FAILED, WEFT_EINTERNAL,
				"the plugin %s failed: it said done, and the choice %u has no finish",
				job->spec->decoder.plugin->desc->name, job->choices[i]->index);
			return false;
		}
	return true;
}

bool run_plan(struct weft_job *job)
{
	const struct plugin *p = job->spec->decoder.plugin;

	if (!job->started && run_event(job, EV_STARTED) == NULL) {
		run_end(job, END_FAILED, WEFT_ENOMEM, "out of memory");
		return false;
	}
	job->started = true;
	job->plan++;
	run_enter(job, PHASE_PLAN, p, 0);
	if (!run_leave(job, "plan", p->desc->decoder->plan(job->decoder, job)))
		return false;
	if (job->said_done) {
		if (job->n_feeds > 0)
			run_end(job, END_FAILED, WEFT_EINTERNAL, "the plugin %s failed: it said done and planned feeds",
				p->desc->name);
		else if (finished_all(job))
			run_end(job, END_DONE, 0, "%s", "");
		return false;
	}
	if (job->n_feeds == 0) {
		run_end(job, END_FAILED, WEFT_EINTERNAL, "the plugin %s failed: it planned nothing and did not say done",
			p->desc->name);
		return false;
	}
	return true;
}

/* ---- between commit and plan ---- */

/* Lets go of the job, saved if it can be. */
static void leave(struct weft_job *job)
{
	if (job->started && job->n_feeds == 0)
		checkpoint_make(job, false);
	run_end(job, END_RELEASED, 0, "%s", "");
}

static bool between(struct weft_job *job)
{
	if (job->leaving) {
		leave(job);
		return false;
	}
	if (job->wanted || checkpoint_due(job))
		checkpoint_make(job, job->wanted);
	job->wanted = false;
	return true;
}

void run_want_checkpoint(struct weft_job *job)
{
	job->wanted = !job->started || job->n_feeds > 0;
	if (!job->wanted)
		checkpoint_make(job, true);
}

void run_want_leave(struct weft_job *job)
{
	bool soon = job->n_feeds > 0 && !job->parked && !job->rebuilding && job->prompt_total == 0;

	job->leaving = soon;
	if (!soon)
		leave(job);
}

bool run_commit(struct weft_job *job)
{
	const struct plugin *p = job->spec->decoder.plugin;
	struct weft_result *results;

	if (feed_results(job, &results) != 0) {
		run_end(job, END_FAILED, WEFT_ENOMEM, "out of memory");
		return false;
	}
	run_enter(job, PHASE_COMMIT, p, 0);
	if (!run_leave(job, "commit", p->desc->decoder->commit(job->decoder, job, results, job->n_feeds)))
		return false;
	job->made += feed_work(job);
	feed_clear(job);
	if (!job->said_done)
		return between(job);
	if (finished_all(job))
		run_end(job, END_DONE, 0, "%s", "");
	return false;
}

/* ---- pages ---- */

bool run_holds_pages(const struct weft_job *job)
{
	for (uint32_t i = 0; i < job->n_seqs; i++)
		if (job->seqs[i]->kv != NULL && job->seqs[i]->present > 0)
			return true;
	return false;
}

void run_park(struct weft_job *job)
{
	seq_park(job);
	job->parked = true;
	job->rebuilding = false;
	if (run_event(job, EV_PREEMPTED) == NULL)
		out_of_memory(job);
	else if (job->leaving)
		leave(job); /* its feeds are open: nobody knows when they run */
}

bool run_resume(struct weft_job *job)
{
	if (seq_rebuild_begin(job) != 0 || (job->started && run_event(job, EV_RESUMED) == NULL)) {
		run_end(job, END_FAILED, WEFT_ENOMEM, "out of memory");
		return false;
	}
	job->parked = false;
	job->rebuilding = true;
	return true;
}

bool run_rebuild(struct weft_job *job)
{
	int over = seq_rebuild_settle(job);

	if (over < 0) {
		run_end(job, END_FAILED, WEFT_ENOMEM, "out of memory");
		return false;
	}
	job->rebuilding = over == 0;
	return true;
}

void run_progress(struct weft_job *job)
{
	int64_t now = run_now_ns();

	if (job->prompt_total == 0 || job->prompt_done == 0 || job->prompt_done == job->prompt_total)
		return;
	if (job->progress_at != 0 && now - job->progress_at < progress_every_ns)
		return;
	job->progress_at = now;
	struct engine_event *e = run_event(job, EV_PROGRESS);
	if (e == NULL)
		return; /* progress is a courtesy */
	e->done = job->prompt_done;
	e->total = job->prompt_total;
}
