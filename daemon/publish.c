/* publish.c: one function for each event; PROTOCOL.md section 10 is what they write. */
#include "publish.h"
#include "log.h"
#include "pairs.h"
#include <stdlib.h>
#include <string.h>

/* ---- frame ---- */

static void begin_as(struct wire_buf *b, const struct job *j, uint64_t seq, const char *event, size_t more)
{
	wire_buf_init(b);
	wire_map(b, 4 + more);
	wire_str(b, "v");
	wire_uint(b, WIRE_VERSION);
	wire_str(b, "job");
	wire_uint(b, j->id);
	wire_str(b, "seq");
	wire_uint(b, seq);
	wire_str(b, "event");
	wire_str(b, event);
}

static void begin(struct wire_buf *b, const struct job *j, const char *event, size_t more)
{
	begin_as(b, j, j->n_events, event, more);
}

/* PASSING: of a moment. SAID: of the answer, which came further with it. */
enum weight { PASSING, SAID, LAST };

/* Keeps first, then publishes: a seq that was published can always be asked for again. Of a durable job it is published when it is on
 * disk. */
static void finish(struct server *s, struct job *j, struct wire_buf *b, enum weight weight)
{
	if (j->journal && j->journal->quiet && weight != LAST) {
		wire_buf_finish(b);
		return;
	}
	size_t len;
	void *data = wire_buf_take(b, &len);
	wire_buf_finish(b);
	if (!data || job_keep_event(&s->jobs, j, data, len)) {
		j->broken = "out of memory for its events";
		log_line(LOG_AT_ERROR, j->id, "out of memory: event %zu could not be made", j->n_events);
		return;
	}
	if (j->journal)
		journal_note(s, j, len, weight != PASSING);
	else
		s->publish(s->publish_arg, j->topic, data, len);
}

static void pair_ms(struct wire_buf *b, const char *key, int64_t ns)
{
	wire_str(b, key);
	wire_float(b, (double)ns / 1e6);
}

/* ---- small events ---- */

void publish_queued(struct server *s, struct job *j, uint64_t position)
{
	struct wire_buf b;
	begin(&b, j, "queued", 1);
	pair_uint(&b, "position", position);
	finish(s, j, &b, PASSING);
}

void publish_plain(struct server *s, struct job *j, const char *event)
{
	struct wire_buf b;
	begin(&b, j, event, 0);
	finish(s, j, &b, PASSING);
}

void publish_recovered(struct server *s, struct job *j)
{
	struct wire_buf b;
	begin(&b, j, "recovered", 2);
	pair_uint(&b, "attempt", j->journal->attempt);
	pair_uint(&b, "crashes", j->journal->crashes);
	finish(s, j, &b, PASSING);
}

void publish_progress(struct server *s, struct job *j, uint64_t done, uint64_t total, const void *detail, size_t len)
{
	struct wire_buf b;
	begin(&b, j, "progress", 2 + (detail != NULL));
	pair_uint(&b, "done", done);
	pair_uint(&b, "total", total);
	if (detail) {
		wire_str(&b, "detail");
		wire_raw(&b, detail, len);
	}
	finish(s, j, &b, PASSING);
}

/* ---- tokens ---- */

static void write_top(struct wire_buf *b, const struct engine_token *t)
{
	wire_array(b, t->n_top);
	for (uint32_t i = 0; i < t->n_top; i++) {
		wire_array(b, 2);
		wire_int(b, t->top[i].token);
		wire_float(b, t->top[i].logprob);
	}
}

static void write_ids(struct wire_buf *b, const struct engine_token *t, size_t n)
{
	wire_str(b, "tokens");
	wire_array(b, n);
	for (size_t i = 0; i < n; i++)
		wire_int(b, t[i].token);
}

static void write_logprobs(struct wire_buf *b, const struct engine_event *e)
{
	wire_str(b, "logprobs");
	wire_array(b, e->n_tokens);
	for (size_t i = 0; i < e->n_tokens; i++) {
		const struct engine_token *t = &e->tokens[i];
		bool none = i == 0 && e->first_null;
		wire_map(b, 4);
		wire_str(b, "token");
		wire_int(b, t->token);
		wire_str(b, "logprob");
		none ? wire_nil(b) : wire_float(b, t->logprob);
		wire_str(b, "greedy");
		wire_bool(b, !none && t->greedy);
		wire_str(b, "top");
		write_top(b, t);
	}
}

/* Of a row of a batch: tokens come with their texts, as who reads them has no deltas to put beside them. */
static void write_texted(struct wire_buf *b, const struct core_tokenizer *t, int32_t token, bool null, float logprob)
{
	size_t len;
	const char *piece = core_tokenizer_piece(t, token, &len);
	wire_str(b, "token");
	wire_int(b, token);
	wire_str(b, "text");
	piece && wire_utf8_valid(piece, len) ? wire_strn(b, piece, len) : wire_str(b, "\xef\xbf\xbd");
	wire_str(b, "logprob");
	null ? wire_nil(b) : wire_float(b, logprob);
}

static void keep_logprobs(struct server *s, struct job *j, const struct engine_event *e)
{
	const struct core_tokenizer *tokenizer = core_model_tokenizer(s->model);
	struct wire_buf b;
	wire_buf_init(&b);
	for (size_t i = 0; i < e->n_tokens; i++) {
		const struct engine_token *t = &e->tokens[i];
		bool none = i == 0 && e->first_null;
		wire_map(&b, 5);
		write_texted(&b, tokenizer, t->token, none, t->logprob);
		wire_str(&b, "greedy");
		wire_bool(&b, !none && t->greedy);
		wire_str(&b, "top");
		wire_array(&b, t->n_top);
		for (uint32_t k = 0; k < t->n_top; k++) {
			wire_map(&b, 3);
			write_texted(&b, tokenizer, t->top[k].token, false, t->top[k].logprob);
		}
	}
	if (b.failed || job_add_logprobs(j, e->choice, b.out.data, b.out.size, e->n_tokens))
		j->broken = "out of memory for its logprobs";
	wire_buf_finish(&b);
}

static void write_delta(struct wire_buf *b, const struct job *j, uint64_t seq, const struct engine_event *e)
{
	begin_as(b, j, seq, "delta", 3 + e->has_logprobs);
	pair_uint(b, "choice", e->choice);
	wire_str(b, "text");
	wire_strn(b, e->text ? e->text : "", e->text_len);
	write_ids(b, e->tokens, e->n_tokens);
	if (e->has_logprobs)
		write_logprobs(b, e);
}

/* The next delta of those that the engine is saying again; false: there is none left. */
static bool find_again(struct journal *g, const struct job *j)
{
	while (g->replay < g->replay_end && !j->events[g->replay].delta)
		g->replay++;
	return g->replay < g->replay_end;
}

/* It was published before: it must be the same, byte for byte. */
static int compare_delta(struct job *j, const struct engine_event *e)
{
	struct journal *g = j->journal;
	const struct job_event *before = &j->events[g->replay];
	struct wire_buf b;
	write_delta(&b, j, g->replay, e);
	int rc = !b.failed && b.out.size == before->len && memcmp(b.out.data, before->data, before->len) == 0 ? 0 : -1;
	wire_buf_finish(&b);
	g->replay++;
	find_again(g, j);
	return rc;
}

int publish_delta(struct server *s, struct job *j, const struct engine_event *e)
{
	struct wire_buf b;
	if (j->journal && find_again(j->journal, j))
		return compare_delta(j, e);
	if (j->journal && j->journal->quiet) {
		if (e->has_logprobs)
			keep_logprobs(s, j, e);
		return 0;
	}
	write_delta(&b, j, j->n_events, e);
	size_t n = j->n_events;
	finish(s, j, &b, SAID);
	if (j->n_events > n)
		j->events[n].delta = true;
	return 0;
}

/* ---- the end ---- */

const char *publish_finish_name(const struct job *j, int finish)
{
	switch (finish) {
	case WEFT_FINISH_STOP:
		return "stop";
	case WEFT_FINISH_STOP_STRING:
		return "stop_string";
	case WEFT_FINISH_LENGTH:
		return "length";
	case WEFT_FINISH_CONTEXT:
		return "context";
	case WEFT_FINISH_ERROR:
		return "error";
	}
	/* The job ended before the choice did; a decoder that ends without a word about a choice has simply stopped. */
	switch (j->state) {
	case JOB_EXPIRED:
		return "expired";
	case JOB_CANCELLED:
		return j->why == WHY_SHUTDOWN ? "shutdown" : "cancelled";
	case JOB_DONE:
		return "stop";
	default:
		return "error";
	}
}

static void write_choices(struct wire_buf *b, const struct job *j)
{
	wire_array(b, j->choices ? j->n_choices : 0);
	for (uint32_t i = 0; j->choices && i < j->n_choices; i++) {
		const struct job_choice *c = &j->choices[i];
		wire_map(b, 3 + (c->n_logprobs != 0));
		pair_str(b, "finish", publish_finish_name(j, c->finish));
		wire_str(b, "text");
		wire_strn(b, c->text ? c->text : "", c->len);
		wire_str(b, "tokens");
		wire_array(b, c->n_tokens);
		for (size_t k = 0; k < c->n_tokens; k++)
			wire_int(b, c->tokens[k]);
		if (!c->n_logprobs)
			continue;
		wire_str(b, "logprobs");
		wire_array(b, c->n_logprobs);
		wire_raw(b, c->logprobs, c->logprobs_len);
	}
}

static bool has_tops(const struct job_score *s)
{
	for (size_t i = 0; i < s->n_tokens; i++)
		if (s->tokens[i].n_top)
			return true;
	return false;
}

/* token_logprobs, tokens and top: what a scored continuation and a scored prompt have in common. */
static void write_scored_tokens(struct wire_buf *b, const struct job_score *s)
{
	wire_str(b, "token_logprobs");
	wire_array(b, s->n_tokens);
	for (size_t i = 0; i < s->n_tokens; i++)
		i == 0 && s->first_null ? wire_nil(b) : wire_float(b, s->tokens[i].logprob);
	write_ids(b, s->tokens, s->n_tokens);
	if (!has_tops(s))
		return;
	wire_str(b, "top");
	wire_array(b, s->n_tokens);
	for (size_t i = 0; i < s->n_tokens; i++)
		i == 0 && s->first_null ? wire_nil(b) : write_top(b, &s->tokens[i]);
}

static void write_scores(struct wire_buf *b, const struct job *j)
{
	size_t n = j->state == JOB_DONE ? j->n_scores : 0;
	wire_array(b, n);
	for (size_t i = 0; i < n; i++) {
		const struct job_score *s = &j->scores[i];
		wire_map(b, 4 + has_tops(s));
		wire_str(b, "logprob");
		wire_float(b, s->logprob);
		wire_str(b, "greedy");
		wire_bool(b, s->greedy);
		write_scored_tokens(b, s);
	}
}

static void write_usage(struct wire_buf *b, const struct job *j)
{
	wire_str(b, "usage");
	wire_map(b, 3);
	pair_uint(b, "prompt_tokens", j->prompt_tokens);
	pair_uint(b, "completion_tokens", j->completion_tokens);
	pair_uint(b, "cached_tokens", j->cached_tokens);
	int64_t queued = (j->started_at ? j->started_at : j->ended_at) - j->accepted_at;
	int64_t prefilled = j->first_delta_at ? j->first_delta_at : j->ended_at;
	wire_str(b, "timing");
	wire_map(b, 3);
	pair_ms(b, "queued_ms", queued);
	pair_ms(b, "prefill_ms", j->started_at ? prefilled - j->started_at : 0);
	pair_ms(b, "total_ms", j->ended_at - j->accepted_at);
}

static void write_error(struct wire_buf *b, const char *code, const char *reason)
{
	wire_str(b, "error");
	wire_map(b, 2);
	pair_str(b, "code", code);
	pair_str(b, "message", reason);
}

/* Of a task: nothing was decoded, and there is a result instead. */
static void publish_task_done(struct server *s, struct job *j, const char *code, const char *reason)
{
	struct wire_buf b;
	size_t len = 0;
	const void *result = j->state == JOB_DONE ? task_result_data(j->task, &len) : NULL;
	begin(&b, j, "done", 2 + (result != NULL) + (code != NULL));
	pair_str(&b, "state", job_state_name(j->state));
	if (result) {
		wire_str(&b, "result");
		wire_raw(&b, result, len);
	}
	wire_str(&b, "timing");
	wire_map(&b, 2);
	pair_ms(&b, "queued_ms", (j->started_at ? j->started_at : j->ended_at) - j->accepted_at);
	pair_ms(&b, "total_ms", j->ended_at - j->accepted_at);
	if (code)
		write_error(&b, code, reason);
	finish(s, j, &b, LAST);
}

void publish_done(struct server *s, struct job *j, const char *code, const char *reason)
{
	struct wire_buf b;
	char digest[65];
	if (j->task) {
		publish_task_done(s, j, code, reason);
		return;
	}
	job_digest(j, digest);
	begin(&b, j, "done", 5 + j->prompt_score.present + (code != NULL) + (j->blend[0] != 0));
	pair_str(&b, "state", job_state_name(j->state));
	wire_str(&b, "choices");
	j->score ? write_scores(&b, j) : write_choices(&b, j);
	if (j->prompt_score.present) {
		wire_str(&b, "prompt_logprobs");
		wire_map(&b, 2 + has_tops(&j->prompt_score));
		write_scored_tokens(&b, &j->prompt_score);
	}
	write_usage(&b, j);
	pair_str(&b, "digest", digest);
	if (j->blend[0])
		pair_str(&b, "blend", j->blend);
	if (code)
		write_error(&b, code, reason);
	finish(s, j, &b, LAST);
}

/* ---- ends without a daemon ---- */

static const char *unheld_state(int state)
{
	switch (state) {
	case STORE_DONE:
		return "done";
	case STORE_FAILED:
		return "failed";
	case STORE_EXPIRED:
		return "expired";
	case STORE_DEAD:
		return "dead";
	default:
		return "cancelled";
	}
}

void publish_write_unheld_end(struct wire_buf *b, uint64_t job, uint64_t seq, int state, const char *code, const char *reason)
{
	static const char *const usage[] = {"prompt_tokens", "completion_tokens", "cached_tokens"};
	bool error = (state == STORE_FAILED || state == STORE_DEAD) && code && code[0]; /* a cancelled job has a reason for the store only */
	wire_map(b, 7 + error);
	wire_str(b, "v");
	wire_uint(b, WIRE_VERSION);
	pair_uint(b, "job", job);
	pair_uint(b, "seq", seq);
	pair_str(b, "event", "done");
	pair_str(b, "state", unheld_state(state));
	wire_str(b, "choices");
	wire_array(b, 0);
	wire_str(b, "usage");
	wire_map(b, 3);
	for (size_t i = 0; i < 3; i++)
		pair_uint(b, usage[i], 0);
	if (error)
		write_error(b, code, reason ? reason : "");
}

void publish_unheld_end(struct server *s, const char *topic, uint64_t job, uint64_t seq, int state, const char *code,
			const char *reason)
{
	struct wire_buf b;
	if (!wire_topic_valid(topic, strlen(topic)))
		return;
	wire_buf_init(&b);
	publish_write_unheld_end(&b, job, seq, state, code, reason);
	if (!b.failed)
		s->publish(s->publish_arg, topic, b.out.data, b.out.size);
	wire_buf_finish(&b);
}
