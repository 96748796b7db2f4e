/* Fuzz target: a job from the bytes of a checkpoint, and its life from there to its end. The first byte chooses a request; the rest
 * is what stands behind the digest and the identity of its checkpoint, which are put in front, so that the bytes are read at all.
 * What must hold: no crash, no leak, exactly one end, and a failure has its reason. */
#include "daemon/engine.h"
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(x)                                                                                                                   \
	do {                                                                                                                       \
		if (!(x)) {                                                                                                        \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                                                    \
			abort();                                                                                                   \
		}                                                                                                                  \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { REQUESTS = 3, DIGEST = 16, HEAD = 12 + DIGEST, CUTS = 16, BODY = 4096 };

/* What is read of an honest checkpoint of each request. */
static struct request {
	uint8_t identity[DIGEST * 16];
	size_t identity_len;
	uint8_t *body[CUTS]; /* seeds */
	size_t body_len[CUTS];
	int n;
} requests[REQUESTS];

static struct core_model *model;
static struct plugin_set *plugins;
static struct engine *engine;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t woken = PTHREAD_COND_INITIALIZER;
static int wakes;

static void wake(void *arg)
{
	pthread_mutex_lock(&lock);
	wakes++;
	pthread_cond_signal(&woken);
	pthread_mutex_unlock(&lock);
}

static void report(void *arg, const char *text)
{
	fprintf(stderr, "%s\n", text);
}

/* ---- requests ---- */

static void set(struct plugin_args *a, const char *name, double value)
{
	int i = plugin_param_index(a->plugin, name);

	if (i >= 0)
		plugin_args_set_number(a, (size_t)i, (int64_t)value, value);
}

static void add_sampler(struct engine_job *j, const char *name)
{
	struct plugin_args *a = &j->samplers[j->n_samplers++];

	CHECK(plugin_args_init(a, plugin_find(plugins, name)) == 0);
	set(a, "repetition_penalty", 1.2);
	set(a, "mirostat", 2);
	set(a, "dry_multiplier", 1);
}

static void add_continuations(struct engine_job *j)
{
	enum { N = 20 };

	j->continuations = calloc(N, sizeof *j->continuations);
	j->continuation_len = calloc(N, sizeof *j->continuation_len);
	CHECK(j->continuations && j->continuation_len);
	for (size_t i = 0; i < N; i++, j->n_continuations++) {
		j->continuations[i] = malloc(3 * sizeof *j->continuations[i]);
		CHECK(j->continuations[i]);
		for (int k = 0; k < 3; k++)
			j->continuations[i][k] = 300 + 3 * (int)i + k;
		j->continuation_len[i] = 1 + i % 3;
	}
}

static struct engine_job *make_job(int which)
{
	static const char *const stops[] = {"e", "the"};
	struct engine_job *j = engine_job_new();

	CHECK(j && (j->samplers = calloc(4, sizeof *j->samplers)) && (j->prompt = malloc(6 * sizeof *j->prompt)));
	j->id = 1;
	j->plugins = plugin_set_ref(plugins);
	for (; j->n_prompt < 6; j->n_prompt++)
		j->prompt[j->n_prompt] = 300 + (int)j->n_prompt;
	CHECK(plugin_args_init(&j->decoder, plugin_find(plugins, which == 2 ? "score" : "sample")) == 0);
	set(&j->decoder, "max_tokens", 12);
	set(&j->decoder, "logprobs", 2);
	if (which == 2) {
		add_continuations(j);
		return j;
	}
	set(&j->decoder, "n", which == 0 ? 1 : 3);
	if (which == 1)
		plugin_args_set_strings(&j->decoder, (size_t)plugin_param_index(j->decoder.plugin, "stop"), stops, 2);
	add_sampler(j, "penalties");
	add_sampler(j, "dry");
	add_sampler(j, "mirostat");
	return j;
}

/* ---- the engine ---- */

static void keep_seed(struct request *r, const struct engine_event *e, size_t n_samplers)
{
	const uint8_t *blob = e->blob;

	r->identity_len = DIGEST * (5 + n_samplers);
	CHECK(e->blob_len > HEAD + r->identity_len && r->identity_len <= sizeof r->identity);
	memcpy(r->identity, blob + HEAD, r->identity_len);
	if (r->n == CUTS)
		return;
	size_t len = e->blob_len - HEAD - r->identity_len;
	CHECK(len < BODY && (r->body[r->n] = malloc(len)));
	memcpy(r->body[r->n], blob + HEAD + r->identity_len, len);
	r->body_len[r->n++] = len;
}

/* Runs a job to its end. r: its checkpoints are kept there; NULL: they are not looked at. */
static void run(struct engine_job *j, struct request *r)
{
	size_t n_samplers = j->n_samplers;
	int ends = 0;

	engine_submit(engine, j);
	while (ends == 0) {
		pthread_mutex_lock(&lock);
		while (wakes == 0)
			pthread_cond_wait(&woken, &lock);
		wakes = 0;
		pthread_mutex_unlock(&lock);
		for (struct engine_event *e = engine_take_events(engine), *next; e; e = next) {
			next = e->next;
			CHECK(ends == 0);
			if (e->kind == EV_CHECKPOINT && r)
				keep_seed(r, e, n_samplers);
			ends += e->kind == EV_DONE;
			CHECK(e->kind != EV_DONE || e->end == END_DONE ||
			      (e->end == END_FAILED && e->code < 0 && e->text && e->text[0]));
			CHECK(e->kind != EV_DONE || !r || e->end == END_DONE);
			engine_event_free(e);
		}
	}
	CHECK(atomic_load(&engine_stats(engine)->pages_used) == 0);
}

static void set_up(void)
{
	static const struct engine_pace each_step = {.tokens = 1, .bytes = UINT32_MAX};
	const char *top = getenv("top_srcdir"), *build = getenv("top_builddir");
	char path[1024], dir[1024];
	struct core_error err;

	snprintf(path, sizeof path, "%s/tests/demo/model", top ? top : ".");
	snprintf(dir, sizeof dir, "%s/plugins/.libs", build ? build : ".");
	struct core_model_params mp = {.path = path, .quant = CORE_QUANT_NONE};
	if (core_model_load(&model, &mp, &err)) {
		printf("SKIP: %s\n", err.text);
		exit(77);
	}
	plugins = plugin_set_load((const char *const[]){dir}, 1, report, NULL);
	CHECK(plugins && plugin_find(plugins, "sample") && plugin_find(plugins, "score") && plugin_find(plugins, "mirostat"));
	struct engine_params p = {
		.model = model, .threads = 1, .kv_pages = 64, .max_rows = 64, .max_context = 32, .pace = &each_step, .wake = wake};
	CHECK(engine_new(&engine, &p, &err) == 0);
	for (int i = 0; i < REQUESTS; i++) {
		struct engine_job *j = make_job(i);
		j->checkpoints = true;
		run(j, &requests[i]);
		CHECK(requests[i].n > 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!engine)
		set_up();
	if (size == 0)
		return 0;
	const struct request *r = &requests[data[0] % REQUESTS];
	struct engine_job *j = make_job(data[0] % REQUESTS);
	size_t behind = r->identity_len + size - 1;
	uint8_t *blob = malloc(HEAD + behind); /* exactly as long as it is, so that a sanitizer sees its end */
	CHECK(blob);
	memcpy(blob, "weftckpt\1\0\0\0", 12);
	memcpy(blob + HEAD, r->identity, r->identity_len);
	memcpy(blob + HEAD + r->identity_len, data + 1, size - 1);
	crypto_generichash(blob + 12, DIGEST, blob + HEAD, behind, NULL, 0);
	j->resume = blob;
	j->resume_len = HEAD + behind;
	j->or_restart = data[0] >= 128;
	run(j, NULL);
	return 0;
}

#ifdef FUZZ_STANDALONE
static uint32_t next_random(uint32_t *x) /* xorshift32 */
{
	*x ^= *x << 13;
	*x ^= *x >> 17;
	*x ^= *x << 5;
	return *x;
}

/* A byte, a small number, or the largest there is, at any place; now and then the end is cut off. */
static size_t damage(uint8_t *at, size_t n, uint32_t *x)
{
	static const uint32_t words[] = {0, 1, 2, 0x7fffffff, 0x80000000, 0xffffffff};

	for (unsigned edits = 1 + next_random(x) % 3; edits > 0; edits--) {
		size_t i = 1 + next_random(x) % (n - 1);
		uint32_t kind = next_random(x) % 8;
		if (kind == 0)
			return i;
		if (kind < 3 && i + 4 <= n)
			memcpy(at + i, &words[next_random(x) % 6], 4);
		else
			at[i] = kind < 6 ? (uint8_t)(at[i] ^ 1 << next_random(x) % 8) : (uint8_t)next_random(x);
	}
	return n;
}

int main(void)
{
	enum { MUTATIONS = 3000 };
	uint32_t x = 88172645u;
	uint8_t input[BODY + 1];

	set_up();
	for (int i = 0; i < MUTATIONS; i++) {
		int which = i % REQUESTS;
		const struct request *r = &requests[which];
		int cut = (int)(next_random(&x) % (unsigned)r->n);
		size_t n = 1 + r->body_len[cut];
		input[0] = (uint8_t)(which + (next_random(&x) % 2 ? 0 : 129));
		memcpy(input + 1, r->body[cut], n - 1);
		n = i < 2 * REQUESTS ? n : damage(input, n, &x); /* the first ones are as they were */
		LLVMFuzzerTestOneInput(input, n);
	}
	engine_free(engine);
	for (int i = 0; i < REQUESTS; i++)
		for (int k = 0; k < requests[i].n; k++)
			free(requests[i].body[k]);
	plugin_set_unref(plugins);
	core_model_free(model);
	return 0;
}
#endif
