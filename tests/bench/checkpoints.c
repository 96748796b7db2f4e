/* checkpoints.c: what checkpoints cost the engine: tokens/s of a full batch of jobs on the demo model with and without them, in
 * turns, in one run. The demo model's steps are tiny, so this is the worst case. `make bench-checkpoints` runs it; usage:
 * checkpoints [-t THREADS] [-j JOBS]
 * [-n TOKENS] [-r ROUNDS] [-m MODEL] [-p PLUGINS]
 *
 * Three paces in each round: none; the usual one; and the usual one without its pause between two checkpoints, as if the daemon's
 * disk and the answers were endless. Every job samples with penalties (a history to keep) and top_p. */
#include "config.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "daemon/engine.h"

enum { PACES = 3, ROUNDS_MAX = 99, PROMPT_TOKENS = 24 };
static const char *const pace_names[PACES] = {"none", "usual", "no pause"};

static struct options {
	int threads, jobs, tokens, rounds;
	const char *model, *plugins;
} options = {1, 64, 256, 7, "tests/demo/model", "plugins/.libs"};

static struct core_model *model;
static struct plugin_set *plugins;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t woken = PTHREAD_COND_INITIALIZER;
static int wakes;

static void wake(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&lock);
	wakes++;
	pthread_cond_signal(&woken);
	pthread_mutex_unlock(&lock);
}

static void fail(const char *what, const char *why)
{
	fprintf(stderr, "%s: %s\n", what, why);
	exit(1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void set(struct plugin_args *a, const char *name, double value)
{
	int i = plugin_param_index(a->plugin, name);

	if (i >= 0)
		plugin_args_set_number(a, (size_t)i, (int64_t)value, value);
}

static struct engine_job *job(uint64_t id, bool checkpoints)
{
	static const char *const samplers[] = {"penalties", "temperature", "top_p"};
	struct engine_job *j = engine_job_new();
	uint32_t vocab = core_model_info(model)->vocab;

	if (j == NULL || (j->samplers = calloc(3, sizeof *j->samplers)) == NULL ||
	    (j->prompt = malloc(PROMPT_TOKENS * sizeof *j->prompt)) == NULL)
		fail("job", "out of memory");
	j->id = j->seed = id;
	j->checkpoints = checkpoints;
	j->plugins = plugin_set_ref(plugins);
	for (; j->n_prompt < PROMPT_TOKENS; j->n_prompt++)
		j->prompt[j->n_prompt] = (int32_t)(300 + (id * 31 + j->n_prompt * 7) % (vocab - 300));
	plugin_args_init(&j->decoder, plugin_find(plugins, "sample"));
	set(&j->decoder, "max_tokens", options.tokens);
	set(&j->decoder, "ignore_eos", 1);
	for (size_t i = 0; i < 3; i++, j->n_samplers++) {
		struct plugin_args *a = &j->samplers[i];
		plugin_args_init(a, plugin_find(plugins, samplers[i]));
		set(a, "repetition_penalty", 1.1);
		set(a, "temperature", 0.8);
		set(a, "top_p", 0.9);
	}
	return j;
}

/* Takes events, and frees them as a daemon would, until all jobs are done. */
static void drain(struct engine *e, int jobs)
{
	while (jobs > 0) {
		pthread_mutex_lock(&lock);
		while (wakes == 0)
			pthread_cond_wait(&woken, &lock);
		wakes = 0;
		pthread_mutex_unlock(&lock);
		for (struct engine_event *ev = engine_take_events(e), *next; ev != NULL; ev = next) {
			next = ev->next;
			if (ev->kind == EV_DONE && ev->end != END_DONE)
				fail("a job", ev->text == NULL ? "did not end well" : ev->text);
			jobs -= ev->kind == EV_DONE;
			engine_event_free(ev);
		}
	}
}

struct figures {
	double rate;         /* tokens/s */
	double share;        /* of the step's time in making checkpoints */
	double count, bytes; /* checkpoints per job, their bytes per token */
};

static struct figures measure(int which)
{
	struct engine_pace pace = engine_usual_pace;
	uint32_t pages = (uint32_t)options.jobs * (uint32_t)((PROMPT_TOKENS + options.tokens) / CORE_PAGE + 2);
	struct engine_params p = {.model = model,
				  .threads = options.threads,
				  .kv_pages = pages,
				  .max_rows = 256,
				  .max_jobs = 4096,
				  .pace = &pace,
				  .wake = wake};
	struct core_error err;
	struct engine *e;

	pace.ms = which == 2 ? 0 : pace.ms;
	if (engine_new(&e, &p, &err) != 0)
		fail("engine", err.text);
	double from = now();
	for (int i = 1; i <= options.jobs; i++)
		engine_submit(e, job((uint64_t)i, which > 0));
	drain(e, options.jobs);
	double took = now() - from, tokens = (double)options.jobs * options.tokens;
	const struct engine_stats *s = engine_stats(e);
	struct figures f = {.rate = tokens / took,
			    .share = (double)atomic_load(&s->checkpoint_ns) / (double)atomic_load(&s->step_ns),
			    .count = (double)atomic_load(&s->checkpoints) / options.jobs,
			    .bytes = (double)atomic_load(&s->checkpoint_bytes) / tokens};
	engine_free(e);
	return f;
}

static int by_rate(const void *x, const void *y)
{
	double a = ((const struct figures *)x)->rate, b = ((const struct figures *)y)->rate;

	return (a > b) - (a < b);
}

static void read_options(int argc, char **argv)
{
	int opt;

	while ((opt = getopt(argc, argv, "t:j:n:r:m:p:")) != -1) {
		if (opt == 't')
			options.threads = atoi(optarg);
		else if (opt == 'j')
			options.jobs = atoi(optarg);
		else if (opt == 'n')
			options.tokens = atoi(optarg);
		else if (opt == 'r')
			options.rounds = atoi(optarg);
		else if (opt == 'm')
			options.model = optarg;
		else if (opt == 'p')
			options.plugins = optarg;
		else
			exit(2);
	}
	if (options.jobs < 1 || options.tokens < 1 || options.rounds < 1 || options.rounds > ROUNDS_MAX)
		fail("checkpoints", "each number must be at least 1, and rounds at most 99");
}

int main(int argc, char **argv)
{
	static struct figures f[PACES][ROUNDS_MAX];
	struct core_error err;

	read_options(argc, argv);
	struct core_model_params mp = {.path = options.model, .quant = CORE_QUANT_NONE};
	if (core_model_load(&model, &mp, &err) != 0)
		fail(options.model, err.text);
	plugins = plugin_set_load(&options.plugins, 1, NULL, NULL);
	if (plugins == NULL || plugin_find(plugins, "sample") == NULL || plugin_find(plugins, "penalties") == NULL)
		fail(options.plugins, "the plugins are not there");
	measure(0); /* warm */
	for (int r = 0; r < options.rounds; r++)
		for (int k = 0; k < PACES; k++) /* each pace has each place in a round equally often */
			f[(r + k) % PACES][r] = measure((r + k) % PACES);
	printf("%d jobs of %d tokens, %d threads, medians of %d rounds\n\n", options.jobs, options.tokens, options.threads,
	       options.rounds);
	printf("| pace     | tokens/s | of none | share of the step | checkpoints/job | bytes/token "
	       "|\n|---|---|---|---|---|---|\n");
	double none = 0;
	for (int k = 0; k < PACES; k++) {
		qsort(f[k], (size_t)options.rounds, sizeof f[k][0], by_rate);
		const struct figures *m = &f[k][options.rounds / 2];
		none = k == 0 ? m->rate : none;
		printf("| %-8s | %8.0f | %6.1f%% | %16.2f%% | %15.1f | %11.1f |\n", pace_names[k], m->rate, 100 * m->rate / none,
		       100 * m->share, m->count, m->bytes);
	}
	plugin_set_unref(plugins);
	core_model_free(model);
	return 0;
}
