/* engine_kit.c: a real engine on the demo model with the plugins that ship, for tests. */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "engine_kit.h"

enum { PATIENCE_S = 60 };

static const char *place(const char *variable, const char *otherwise)
{
	const char *v = getenv(variable);

	return v == NULL || v[0] == '\0' ? otherwise : v;
}

static void skip_all(const char *why)
{
	printf("skipped: %s\n", why);
	exit(77);
}

/* ---- model and plugins ---- */

static void left_out(void *arg, const char *text)
{
	fprintf(stderr, "plugin: %s\n", text);
}

void kit_init(struct kit *k, const char *const *extra)
{
	char path[4096], own[4096], link[4200], dir[] = "/tmp/weft-kit-XXXXXX";

	*k = (struct kit){0};
	struct core_error err;

	snprintf(path, sizeof path, "%s/tests/demo/model", place("top_srcdir", "."));
	if (access(path, R_OK) != 0)
		skip_all("the demo model is not there");
	struct core_model_params p = {.path = path, .quant = CORE_QUANT_NONE};
	if (core_model_load(&k->model, &p, &err) != 0)
		fail_msg("%s: %s", path, err.text);
	snprintf(path, sizeof path, "%s/plugins/.libs", place("top_builddir", "."));
	if (mkdtemp(dir) == NULL)
		fail_msg("mkdtemp: %s", strerror(errno));
	for (size_t i = 0; extra != NULL && extra[i] != NULL; i++) {
		if (realpath(place("top_builddir", "."), own) == NULL)
			fail_msg("realpath: %s", strerror(errno));
		snprintf(link, sizeof link, "%s/%s.so", dir, extra[i]);
		snprintf(own + strlen(own), sizeof own - strlen(own), "/tests/daemon/.libs/%s.so", extra[i]);
		if (symlink(own, link) != 0)
			fail_msg("symlink: %s", strerror(errno));
	}
	k->plugins = plugin_set_load((const char *const[]){path, dir}, 2, left_out, NULL);
	assert_non_null(k->plugins);
	for (size_t i = 0; extra != NULL && extra[i] != NULL; i++) {
		snprintf(link, sizeof link, "%s/%s.so", dir, extra[i]);
		unlink(link);
	}
	rmdir(dir);
	if (plugin_find(k->plugins, "sample") == NULL || plugin_find(k->plugins, "score") == NULL)
		skip_all("the plugins sample and score are not built");
}

void kit_finish(struct kit *k)
{
	plugin_set_unref(k->plugins);
	core_adapter_unref(k->adapters[0]);
	core_adapter_unref(k->adapters[1]);
	core_model_free(k->model);
}

/* ---- jobs ---- */

static void set_list(struct plugin_args *a, size_t i, char *value)
{
	const char *strs[32];
	int64_t ints[32];
	size_t n = 0;
	char *rest;

	for (char *s = strtok_r(value, "|", &rest); s != NULL && n < 32; s = strtok_r(NULL, "|", &rest), n++) {
		strs[n] = s;
		ints[n] = atoll(s);
	}
	if (a->plugin->desc->params[i].type == WEFT_STRING_LIST)
		assert_int_equal(plugin_args_set_strings(a, i, strs, n), 0);
	else
		assert_int_equal(plugin_args_set_ints(a, i, ints, n), 0);
}

/* "3:2.5|7:-100" */
static void set_map(struct plugin_args *a, size_t i, char *value)
{
	int64_t ids[32];
	double values[32];
	size_t n = 0;
	char *rest;

	for (char *s = strtok_r(value, "|", &rest); s != NULL && n < 32; s = strtok_r(NULL, "|", &rest), n++) {
		ids[n] = atoll(s);
		values[n] = atof(strchr(s, ':') + 1);
	}
	assert_int_equal(plugin_args_set_map(a, i, ids, values, n), 0);
}

static bool set_param(struct plugin_args *a, const char *name, const char *value)
{
	int i = plugin_param_index(a->plugin, name);
	char copy[512];

	if (i < 0)
		return false;
	snprintf(copy, sizeof copy, "%s", value);
	switch (a->plugin->desc->params[i].type) {
	case WEFT_STRING:
		assert_int_equal(plugin_args_set_string(a, (size_t)i, value, strlen(value)), 0);
		break;
	case WEFT_INT_LIST:
	case WEFT_STRING_LIST:
		set_list(a, (size_t)i, copy);
		break;
	case WEFT_TOKEN_MAP:
		set_map(a, (size_t)i, copy);
		break;
	default:
		plugin_args_set_number(a, (size_t)i, atoll(value), atof(value));
	}
	return true;
}

static void add_sampler(struct engine_job *j, const struct plugin *p)
{
	j->samplers = realloc(j->samplers, (j->n_samplers + 1) * sizeof *j->samplers);
	assert_non_null(j->samplers);
	size_t at = j->n_samplers++;
	struct plugin_args a;
	assert_int_equal(plugin_args_init(&a, p), 0);
	j->samplers[at] = a;
}

static void choose_samplers(struct engine_job *j, const struct plugin_set *s, char *names)
{
	char *rest;

	for (char *n = names == NULL ? NULL : strtok_r(names, ",", &rest); n != NULL; n = strtok_r(NULL, ",", &rest)) {
		if (plugin_find(s, n) == NULL)
			fail_msg("no sampler %s", n);
		add_sampler(j, plugin_find(s, n));
	}
	if (names != NULL)
		return;
	for (uint32_t order = 0; order < 10000; order += 100) /* those that ship are hundreds apart */
		for (size_t i = 0; i < s->n; i++)
			if (s->list[i]->desc->sampler != NULL && s->list[i]->desc->sampler->order == order && order != 0)
				add_sampler(j, s->list[i]);
}

static void set_word(struct engine_job *j, const char *name, const char *value)
{
	bool known = set_param(&j->decoder, name, value);

	for (size_t i = 0; i < j->n_samplers; i++)
		known |= set_param(&j->samplers[i], name, value);
	if (!known)
		fail_msg("no parameter %s", name);
}

static const char *const adapter_names[2] = {"tailor", "orderline"};

/* One of the demo's adapters in the job's blend. */
static void add_adapter(struct kit *k, struct core_blend_part *parts, uint32_t *n, size_t which, const char *scale)
{
	struct core_error err;
	char path[4096];

	snprintf(path, sizeof path, "%s/tests/demo/adapters/%s", place("top_srcdir", "."), adapter_names[which]);
	if (k->adapters[which] == NULL && core_adapter_load(&k->adapters[which], k->model, path, &err) != 0)
		fail_msg("%s: %s", path, err.text);
	parts[(*n)++] = (struct core_blend_part){.adapter = k->adapters[which], .scale = (float)atof(scale)};
}

/* Is w one of the job's own words, and no parameter? */
static bool own_word(const char *w)
{
	static const char *const own[] = {"decoder", "samplers", "seed", "class", "priority", "checkpoints", "tailor", "orderline",
					  "salt"};

	for (size_t i = 0; i < sizeof own / sizeof *own; i++)
		if (strcmp(w, own[i]) == 0)
			return true;
	return false;
}

/* First the words that make the job, then those that are parameters. */
static void set_words(struct engine_job *j, struct kit *k, const char *words)
{
	char copy[2048], *rest, *decoder = NULL, *samplers = NULL;
	const struct plugin_set *s = k->plugins;
	struct core_blend_part parts[2];
	uint32_t n_parts = 0;

	snprintf(copy, sizeof copy, "%s", words);
	for (char *w = strtok_r(copy, " ", &rest); w != NULL; w = strtok_r(NULL, " ", &rest)) {
		char *value = strchr(w, '=') + 1;
		if (strncmp(w, "decoder=", 8) == 0)
			decoder = value;
		else if (strncmp(w, "samplers=", 9) == 0)
			samplers = value;
		else if (strncmp(w, "seed=", 5) == 0)
			j->seed = strtoull(value, NULL, 10);
		else if (strncmp(w, "class=", 6) == 0)
			j->class = strcmp(value, "batch") == 0 ? CLASS_BATCH : CLASS_INTERACTIVE;
		else if (strncmp(w, "priority=", 9) == 0)
			j->priority = (uint32_t)atoi(value);
		else if (strncmp(w, "checkpoints=", 12) == 0)
			j->checkpoints = value[0] == '1';
		else if (strncmp(w, "tailor=", 7) == 0)
			add_adapter(k, parts, &n_parts, 0, value);
		else if (strncmp(w, "orderline=", 10) == 0)
			add_adapter(k, parts, &n_parts, 1, value);
		else if (strncmp(w, "salt=", 5) == 0)
			j->salt_len = (size_t)snprintf(j->salt, sizeof j->salt, "%s", value);
	}
	if (n_parts > 0)
		assert_int_equal(core_blend_new(&j->blend, parts, n_parts, NULL), 0);
	const struct plugin *p = plugin_find(s, decoder == NULL ? "sample" : decoder);
	if (p == NULL)
		fail_msg("no decoder %s", decoder);
	assert_int_equal(plugin_args_init(&j->decoder, p), 0);
	if (strcmp(p->desc->name, "score") != 0)
		choose_samplers(j, s, samplers);
	snprintf(copy, sizeof copy, "%s", words);
	for (char *w = strtok_r(copy, " ", &rest); w != NULL; w = strtok_r(NULL, " ", &rest)) {
		char *value = strchr(w, '=');
		*value++ = '\0';
		if (!own_word(w))
			set_word(j, w, value);
	}
}

static int32_t *encode(const struct kit *k, const char *text, unsigned flags, size_t *n)
{
	struct core_error err;
	int32_t *out;

	if (core_tokenizer_encode(core_model_tokenizer(k->model), text, strlen(text), flags, &out, n, &err) != 0)
		fail_msg("%s", err.text);
	return out;
}

struct engine_job *kit_job(struct kit *k, uint64_t id, const struct kit_ask *ask)
{
	struct engine_job *j = engine_job_new();

	assert_non_null(j);
	j->id = id;
	j->plugins = plugin_set_ref(k->plugins);
	set_words(j, k, ask->words);
	if (ask->prompt != NULL) {
		j->prompt = encode(k, ask->prompt, CORE_ENCODE_BOS, &j->n_prompt);
	} else {
		j->n_prompt = ask->n_tokens;
		j->prompt = malloc(ask->n_tokens * sizeof *j->prompt);
		memcpy(j->prompt, ask->tokens, ask->n_tokens * sizeof *j->prompt);
	}
	for (; j->n_continuations < KIT_CONTINUATIONS && ask->continuations[j->n_continuations] != NULL; j->n_continuations++) {
		if (j->continuations == NULL) {
			j->continuations = calloc(KIT_CONTINUATIONS, sizeof *j->continuations);
			j->continuation_len = calloc(KIT_CONTINUATIONS, sizeof *j->continuation_len);
		}
		j->continuations[j->n_continuations] = encode(k, ask->continuations[j->n_continuations], CORE_ENCODE_NO_PREFIX,
							      &j->continuation_len[j->n_continuations]);
	}
	return j;
}

/* ---- events ---- */

static void append(char **bytes, size_t *len, const void *data, size_t n)
{
	*bytes = realloc(*bytes, *len + n + 1);
	assert_non_null(*bytes);
	if (n > 0)
		memcpy(*bytes + *len, data, n);
	*len += n;
	(*bytes)[*len] = '\0';
}

static void append_line(struct kit_stream *s, const char *fmt, ...)
{
	char line[256];
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	append(&s->bytes, &s->len, line, (size_t)n);
}

/* Floats in hexadecimal: every bit shows. */
static void append_tokens(struct kit_stream *s, const struct engine_event *e)
{
	for (size_t i = 0; i < e->n_tokens; i++) {
		const struct engine_token *t = &e->tokens[i];
		append_line(s, " %d", t->token);
		if (!e->has_logprobs || (i == 0 && e->first_null))
			continue;
		append_line(s, "(%a%s", t->logprob, t->greedy ? " greedy" : "");
		for (uint32_t k = 0; k < t->n_top; k++)
			append_line(s, " %d:%a", t->top[k].token, t->top[k].logprob);
		append_line(s, ")");
	}
}

static void keep_tokens(struct kit_stream *s, const struct engine_event *e)
{
	s->tokens = realloc(s->tokens, (s->n_tokens + e->n_tokens + 1) * sizeof *s->tokens);
	s->logprobs = realloc(s->logprobs, (s->n_tokens + e->n_tokens + 1) * sizeof *s->logprobs);
	assert_true(s->tokens != NULL && s->logprobs != NULL);
	for (size_t i = 0; i < e->n_tokens; i++) {
		s->tokens[s->n_tokens] = e->tokens[i].token;
		s->logprobs[s->n_tokens++] = e->tokens[i].logprob;
	}
}

static struct kit_stream *stream(struct kit_answer *a, uint32_t choice)
{
	size_t at = 0;

	while (at < a->n_streams && a->streams[at].choice < choice)
		at++;
	if (at < a->n_streams && a->streams[at].choice == choice)
		return &a->streams[at];
	a->streams = realloc(a->streams, (a->n_streams + 1) * sizeof *a->streams);
	assert_non_null(a->streams);
	memmove(a->streams + at + 1, a->streams + at, (a->n_streams - at) * sizeof *a->streams);
	a->streams[at] = (struct kit_stream){.choice = choice};
	a->n_streams++;
	return &a->streams[at];
}

static void file_done(struct kit_answer *a, const struct engine_event *e)
{
	char line[1024];

	a->done++;
	a->end = e->end;
	a->code = e->code;
	a->prompt_tokens = e->prompt_tokens;
	a->completion_tokens = e->completion_tokens;
	a->cached_tokens = e->cached_tokens;
	snprintf(a->reason, sizeof a->reason, "%s", e->text == NULL ? "" : e->text);
	free(a->bytes);
	a->bytes = NULL;
	a->len = 0;
	for (size_t i = 0; i < a->n_streams; i++) {
		snprintf(line, sizeof line, "choice %u:\n", a->streams[i].choice);
		append(&a->bytes, &a->len, line, strlen(line));
		append(&a->bytes, &a->len, a->streams[i].bytes, a->streams[i].len);
	}
	snprintf(line, sizeof line, "end %d code %d usage %llu %llu %s\n", e->end, e->code, (unsigned long long)e->prompt_tokens,
		 (unsigned long long)e->completion_tokens, a->reason);
	append(&a->bytes, &a->len, line, strlen(line));
}

static void file_cut(struct kit_answer *a, struct engine_event *e)
{
	a->cuts = realloc(a->cuts, (a->n_cuts + 1) * sizeof *a->cuts);
	assert_non_null(a->cuts);
	a->cuts[a->n_cuts++] = (struct kit_cut){a->log_len, e->blob, e->blob_len};
	e->blob = NULL;
}

/* What an event of P1's kind has added to its stream. */
static void file_log(struct kit_answer *a, uint32_t choice, const char *bytes, size_t len)
{
	char line[40];
	int n = snprintf(line, sizeof line, "%u: ", choice);

	append(&a->log, &a->log_len, line, (size_t)n);
	append(&a->log, &a->log_len, bytes, len);
}

static void weigh(struct kit_answer *a, const struct engine_event *e)
{
	a->event_bytes += sizeof *e + e->text_len + e->n_tokens * sizeof *e->tokens;
	for (size_t i = 0; i < e->n_tokens; i++)
		a->event_bytes += e->tokens[i].n_top * sizeof *e->tokens[i].top;
}

static void file_event(struct kit_answer *a, struct engine_event *e)
{
	struct kit_stream *s = NULL;
	size_t before = 0;

	weigh(a, e);
	if (e->kind == EV_DELTA || e->kind == EV_SCORE || e->kind == EV_FINISH)
		before = stream(a, e->choice)->len;
	a->after_done += a->done > 0;
	switch (e->kind) {
	case EV_STARTED:
		a->started++;
		break;
	case EV_RESUMED:
		a->resumed++;
		break;
	case EV_PREEMPTED:
		a->preempted++;
		break;
	case EV_PROGRESS:
		assert_true(e->done <= e->total);
		a->progress++;
		break;
	case EV_DELTA:
		a->deltas++;
		s = stream(a, e->choice);
		append_line(s, "delta");
		append_tokens(s, e);
		keep_tokens(s, e);
		append_line(s, " '");
		append(&s->bytes, &s->len, e->text, e->text_len);
		append_line(s, "'\n");
		append(&s->text, &s->text_len, e->text, e->text_len);
		break;
	case EV_SCORE:
		s = stream(a, e->choice);
		append_line(s, "score %a%s", e->logprob, e->greedy ? " greedy" : "");
		append_tokens(s, e);
		append_line(s, "\n");
		break;
	case EV_FINISH:
		s = stream(a, e->choice);
		s->finishes++;
		append_line(s, "finish %d\n", e->finish);
		break;
	case EV_CHECKPOINT:
		file_cut(a, e);
		break;
	case EV_DONE:
		file_done(a, e);
		break;
	}
	if (s != NULL)
		file_log(a, e->choice, s->bytes + before, s->len - before);
}

struct kit_answer *kit_answer(struct kit_run *r, uint64_t id)
{
	for (size_t i = 0; i < r->n; i++)
		if (r->answers[i].id == id)
			return &r->answers[i];
	return NULL;
}

static void file_all(struct kit_run *r)
{
	struct engine_event *next;

	for (struct engine_event *e = engine_take_events(r->engine); e != NULL; e = next) {
		next = e->next;
		struct kit_answer *a = kit_answer(r, e->job);
		if (a == NULL) {
			r->answers = realloc(r->answers, (r->n + 1) * sizeof *r->answers);
			assert_non_null(r->answers);
			a = &r->answers[r->n++];
			*a = (struct kit_answer){.id = e->job};
		}
		file_event(a, e);
		r->done += e->kind == EV_DONE;
		engine_event_free(e);
	}
}

static void wake(void *arg)
{
	struct kit_run *r = arg;

	pthread_mutex_lock(&r->lock);
	r->wakes++;
	pthread_cond_signal(&r->woken);
	pthread_mutex_unlock(&r->lock);
}

static void say(void *arg, uint64_t job, int level, const char *text)
{
	fprintf(stderr, "log: job %llu: %s\n", (unsigned long long)job, text);
}

void kit_wait(struct kit_run *r)
{
	struct timespec until;
	int rc = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += PATIENCE_S;
	pthread_mutex_lock(&r->lock);
	while (r->wakes == 0 && rc == 0)
		rc = pthread_cond_timedwait(&r->woken, &r->lock, &until);
	r->wakes = 0;
	pthread_mutex_unlock(&r->lock);
	if (rc != 0)
		fail_msg("the engine said nothing for %d s; %zu jobs are done", PATIENCE_S, r->done);
	file_all(r);
}

void kit_wait_done(struct kit_run *r, size_t n)
{
	while (r->done < n)
		kit_wait(r);
}

/* ---- runs ---- */

void kit_start(struct kit_run *r, const struct kit *k, const struct kit_params *p)
{
	struct engine_params ep = {.model = k->model,
				   .threads = p->threads,
				   .kv_pages = p->kv_pages,
				   .max_rows = p->max_rows,
				   .max_jobs = 4096,
				   .max_context = p->max_context,
				   .kv_type = p->kv_type,
				   .prefix_cache = !p->no_prefix_cache,
				   .pace = p->pace,
				   .device = p->device,
				   .module = p->module,
				   .wake = wake,
				   .log = say,
				   .arg = r};
	struct core_error err;

	memset(r, 0, sizeof *r);
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->woken, NULL);
	if (engine_new(&r->engine, &ep, &err) != 0)
		fail_msg("engine_new: %s", err.text);
}

void kit_stop(struct kit_run *r)
{
	engine_free(r->engine);
	for (size_t i = 0; i < r->n; i++) {
		for (size_t s = 0; s < r->answers[i].n_streams; s++) {
			free(r->answers[i].streams[s].bytes);
			free(r->answers[i].streams[s].text);
			free(r->answers[i].streams[s].tokens);
			free(r->answers[i].streams[s].logprobs);
		}
		for (size_t c = 0; c < r->answers[i].n_cuts; c++)
			free(r->answers[i].cuts[c].blob);
		free(r->answers[i].cuts);
		free(r->answers[i].log);
		free(r->answers[i].streams);
		free(r->answers[i].bytes);
	}
	free(r->answers);
	pthread_cond_destroy(&r->woken);
	pthread_mutex_destroy(&r->lock);
}

char *kit_alone(struct kit *k, const struct kit_params *p, const struct kit_ask *ask, size_t *len)
{
	struct kit_run r;

	kit_start(&r, k, p);
	engine_submit(r.engine, kit_job(k, 1, ask));
	kit_wait_done(&r, 1);
	char *bytes = r.answers[0].bytes;
	*len = r.answers[0].len;
	r.answers[0].bytes = NULL;
	kit_assert_idle(&r);
	kit_stop(&r);
	return bytes;
}

void kit_same(const char *what, const char *a, size_t a_len, const char *b, size_t b_len)
{
	size_t at = 0;

	if (a_len == b_len && memcmp(a, b, a_len) == 0)
		return;
	while (at < a_len && at < b_len && a[at] == b[at])
		at++;
	size_t from = at < 200 ? 0 : at - 200;
	fail_msg("%s: another answer from byte %zu on\n--- expected\n%.400s\n--- got\n%.400s", what, at, a + from, b + from);
}

void kit_assert_idle(struct kit_run *r)
{
	const struct engine_stats *s = engine_stats(r->engine);

	/* gauges are never older than the events that were taken */
	if (atomic_load(&s->running) + atomic_load(&s->parked) == 0 && !atomic_load(&s->busy) && atomic_load(&s->pages_used) == 0)
		return;
	fail_msg("not idle: %u running, %u parked, %u pages used", atomic_load(&s->running), atomic_load(&s->parked),
		 atomic_load(&s->pages_used));
}
