/* end_to_end.c: what reaches clients of the core's speed. `make bench-end-to-end` runs it; usage:
 * end_to_end [-t THREADS] [-q WEIGHTS] [-r ROUNDS] [-n PROBES] [-f FOLDER] [-d WEFTD] [-p PLUGINS]
 *
 * Rate: 16 clients of a weftd ask at once, each with a connection and a thread of its own, and have the answers streamed. What
 * counts is the time in which all of them get tokens: from the last one's first token to the first one's last. In turns with them
 * the core makes as many steps of 16 by itself, from the same prompts. What is between the two rates is all that weftd adds, and
 * what the clients take from the processors; so it is said, too, who used how much of them. When those together are busy all the time,
 * no more than (the core's time) / (all of their times) of the core's rate can be had. The memory of keys and values was all in use once before:
 * a system may take longer to give 2 MiB for the first time than a step takes (where a host has them back from its virtual machines
 * while they are free), and the core's side has the same few pages again and again.
 *
 * First token: batch-class requests keep every place of weftd's busy and more of them wait. Meanwhile, now and then, somebody asks
 * an interactive question; the time to the first token of its answer is held against the time that the core takes for a prefill
 * chunk, the largest step that weftd makes. */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client/weft.h"
#include "measure.h"

enum { CLIENTS = CHOIR_MOST, PROMPT = 32, ANSWER = 96, CHUNK = 256, PLACES = 16, LOADERS = 24, MOST = 99, PATIENCE_MS = 120000,
       ENGINE_NICE = 5 /* as weftd's */ };
#define KV_MEMORY "400M" /* 17 contexts of 1,040 tokens: what the second load asks for */
enum { TOUCH = 1100 };	 /* so many tokens of each client fill nearly all of it */

static struct options {
	int threads, rounds, probes;
	const char *folder, *weftd, *plugins;
	const struct weights *weights;
} options = {.rounds = 7, .probes = 30, .folder = "bench-model", .weftd = "daemon/weftd", .plugins = "plugins/.libs"};

static void fail(const char *what, const char *because)
{
	fprintf(stderr, "%s: %s\n", what, because);
	exit(1);
}

/* ---- the core ---- */

/* Like the engine the core runs on threads of lower priority: on a machine that is not free others take as much from both. */
static void be_nice(void)
{
	setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + ENGINE_NICE); /* of this thread and those that it starts, on Linux */
}

static void aside(void *(*what)(void *), void *arg)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, what, arg))
		fail("a thread", "not to be had");
	pthread_join(thread, NULL);
}

static void *core_open(void *arg)
{
	be_nice();
	bench_open(arg, options.weights, options.folder, options.threads);
	return NULL;
}

struct core_turn {
	struct bench *b;
	double rate, used;
};

/* The time of some prefill chunks. */
struct core_chunks {
	struct bench *b;
	double t[5];
};

static void *core_chunks(void *arg)
{
	struct core_chunks *c = arg;

	be_nice();
	for (int i = 0; i < 5; i++)
		c->t[i] = bench_prompt(c->b, CHUNK);
	return NULL;
}

/* ---- weftd ---- */

static struct house {
	char folder[32], request[64], answer[64]; /* folder: short, for a socket's path holds 107 bytes */
	pid_t pid;
} house;

static const char *number(char *text, int n)
{
	sprintf(text, "%d", n);
	return text;
}

static void exec_weftd(const char *model)
{
	char threads[16], rows[16], places[16];

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	execl(options.weftd, options.weftd, "--model", model, "--quant", core_quant_name(options.weights->quant), "--threads",
	      number(threads, options.threads), "--batch-rows", number(rows, CHUNK), "--max-running", number(places, PLACES),
	      "--context", "2048", "--kv-memory", KV_MEMORY, "--request", house.request, "--answer", house.answer, "--plugins", options.plugins,
	      "--log-level", "warning", (char *)NULL);
	perror(options.weftd);
	_exit(127);
}

static void house_close(void)
{
	if (house.pid > 0) {
		kill(house.pid, SIGTERM);
		waitpid(house.pid, NULL, 0);
	}
	unlink(house.request + sizeof("ipc://") - 1);
	unlink(house.answer + sizeof("ipc://") - 1);
	rmdir(house.folder);
}

static void house_open(void)
{
	char *model = model_need(options.folder, options.weights->type);

	strcpy(house.folder, "/tmp/weft-XXXXXX");
	if (!mkdtemp(house.folder))
		fail("a folder in /tmp", strerror(errno));
	snprintf(house.request, sizeof(house.request), "ipc://%s/request", house.folder);
	snprintf(house.answer, sizeof(house.answer), "ipc://%s/answer", house.folder);
	house.pid = fork();
	if (house.pid < 0)
		fail("a process for weftd", strerror(errno));
	if (house.pid == 0)
		exec_weftd(model);
	atexit(house_close);
	free(model);
}

/* ---- clients ---- */

static struct weft_client *client_new(void)
{
	struct weft_client_params p = {.request = house.request, .answer = house.answer};
	struct weft_client_error error;
	struct weft_client *c;

	if (weft_client_new(&c, &p, &error) < 0)
		fail("a client", error.text);
	if (weft_client_connect(c, NULL, PATIENCE_MS) < 0)
		fail("weftd", weft_client_error(c)->text);
	return c;
}

struct ask {
	uint32_t prompt, answer; /* tokens */
	bool batch;
};

/* No two prompts begin alike, so that none is known already. */
static struct weft_request *request_new(const struct ask *a)
{
	static atomic_uint asked;
	uint32_t *tokens = malloc(a->prompt * sizeof(*tokens)), s = atomic_fetch_add(&asked, 1) * 2654435761u;
	struct weft_request *r = weft_request_new("generate");

	if (!tokens || !r)
		fail("a request", "out of memory");
	for (uint32_t i = 0; i < a->prompt; i++) {
		s = s * 1664525 + 1013904223;
		tokens[i] = 1000 + (s >> 8) % (VOCAB - 1000);
	}
	weft_request_tokens(r, "tokens", tokens, a->prompt);
	weft_request_uint(r, "max_tokens", a->answer);
	weft_request_float(r, "temperature", 0);
	weft_request_bool(r, "ignore_eos", true);
	weft_request_str(r, "class", a->batch ? "batch" : "interactive");
	free(tokens);
	return r;
}

/* Asks and hears the whole answer; seconds to its first token, or a negative number when *stop put an end to it. at: NULL, or
 * [answer] the moments of its tokens. */
static double ask(struct weft_client *c, const struct ask *a, double *at, atomic_bool *stop)
{
	struct weft_request *r = request_new(a);
	const struct weft_event *e = NULL;
	double begin = now(), first = -1;
	uint64_t job;
	uint32_t n = 0;

	if (weft_client_submit(c, r, &job, NULL, PATIENCE_MS) < 0)
		fail("a request", weft_client_error(c)->text);
	weft_request_free(r);
	for (bool cancelled = false;;) {
		int err = weft_client_next(c, &e, stop ? 100 : PATIENCE_MS);
		if (err < 0 && !(stop && err == WEFT_CLIENT_ETIMEOUT))
			fail("an answer", weft_client_error(c)->text);
		if (err == 0 && e->kind == WEFT_EVENT_DELTA && first < 0)
			first = now() - begin;
		if (err == 0 && e->kind == WEFT_EVENT_DELTA && at)
			for (size_t i = 0; i < e->n_tokens && n < a->answer; i++)
				at[n++] = now();
		if (err == 0 && e->kind == WEFT_EVENT_DONE)
			break;
		if (stop && !cancelled && atomic_load(stop)) {
			cancelled = true;
			if (weft_client_cancel(c, job, PATIENCE_MS) < 0 && weft_client_error(c)->code != WEFT_CLIENT_EREFUSED)
				fail("to cancel", weft_client_error(c)->text); /* refused: it has ended just now */
		}
	}
	if (!stop && e->completion_tokens != a->answer)
		fail("an answer", "it has not the length that was asked for");
	return first;
}

/* ---- CPU time ---- */

/* Seconds; the engine's threads are those of weftd that are neither the loop nor libzmq's. */
struct used {
	double engine, loop, sockets, here;
};

static double used_by(const char *task, const char *file)
{
	char path[400];
	unsigned long long ns = 0;

	snprintf(path, sizeof(path), "/proc/%d/task/%s/%s", (int)house.pid, task, file);
	FILE *f = fopen(path, "r");
	if (f && fscanf(f, "%llu", &ns) != 1)
		ns = 0;
	if (f)
		fclose(f);
	return (double)ns / 1e9;
}

static bool is_of_zmq(const char *task)
{
	char path[400], name[32] = "";

	snprintf(path, sizeof(path), "/proc/%d/task/%s/comm", (int)house.pid, task);
	FILE *f = fopen(path, "r");
	if (f && !fgets(name, sizeof(name), f))
		name[0] = 0;
	if (f)
		fclose(f);
	return strncmp(name, "ZMQ", 3) == 0;
}

static struct used used_now(void)
{
	char path[64];
	struct used u = {0};
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	u.here = (double)t.tv_sec + (double)t.tv_nsec / 1e9;
	snprintf(path, sizeof(path), "/proc/%d/task", (int)house.pid);
	DIR *d = opendir(path);
	for (struct dirent *e; d && (e = readdir(d));)
		if (e->d_name[0] != '.')
			*(atoi(e->d_name) == house.pid	  ? &u.loop
			  : is_of_zmq(e->d_name)	  ? &u.sockets
							  : &u.engine) += used_by(e->d_name, "schedstat");
	if (d)
		closedir(d);
	return u;
}

/* What was used since `from`, each in milliseconds a token of n. */
static struct used used_since(const struct used *from, int n)
{
	struct used u = used_now();
	double scale = 1e3 / n;

	return (struct used){(u.engine - from->engine) * scale, (u.loop - from->loop) * scale, (u.sockets - from->sockets) * scale,
			     (u.here - from->here) * scale};
}

/* ---- rate ---- */

struct asker {
	struct weft_client *c;
	double at[ANSWER]; /* of its tokens */
};

static void *ask_long(void *arg)
{
	static const struct ask question = {TOUCH, 1, false};

	ask(((struct asker *)arg)->c, &question, NULL, NULL);
	return NULL;
}

static void *ask_once(void *arg)
{
	static const struct ask question = {PROMPT, ANSWER, false};
	struct asker *a = arg;

	ask(a->c, &question, a->at, NULL);
	return NULL;
}

/* Tokens a second while all of them get some. */
static double rate_of_all(const struct asker *a)
{
	double from = 0, to = a->at[ANSWER - 1];
	int n = 0;

	for (int i = 0; i < CLIENTS; i++) {
		from = a[i].at[0] > from ? a[i].at[0] : from;
		to = a[i].at[ANSWER - 1] < to ? a[i].at[ANSWER - 1] : to;
	}
	for (int i = 0; i < CLIENTS; i++)
		for (int k = 0; k < ANSWER; k++)
			n += a[i].at[k] > from && a[i].at[k] <= to;
	return n / (to - from);
}

static void all_ask(struct asker *a, void *(*how)(void *asker))
{
	pthread_t thread[CLIENTS];

	for (int i = 0; i < CLIENTS; i++)
		if (pthread_create(&thread[i], NULL, how, &a[i]))
			fail("a thread", "not to be had");
	for (int i = 0; i < CLIENTS; i++)
		pthread_join(thread[i], NULL);
}

static double clients_rate(struct asker *a, struct used *used)
{
	struct used from = used_now();

	all_ask(a, ask_once);
	*used = used_since(&from, CLIENTS * ANSWER);
	return rate_of_all(a);
}

static void *core_turn(void *arg)
{
	struct core_turn *turn = arg;
	struct used from = used_now();
	struct choir c;
	double t;

	be_nice();
	choir_open(&c, turn->b, CLIENTS, PROMPT, CHUNK);
	t = choir_steps(&c, ANSWER - 1);
	choir_close(&c);
	turn->used = used_since(&from, CLIENTS * ANSWER).here; /* the prompts are in it on both sides */
	turn->rate = CLIENTS * (ANSWER - 1) / t;
	return NULL;
}

static double core_rate(struct bench *b, double *used)
{
	struct core_turn turn = {.b = b};

	aside(core_turn, &turn);
	*used = turn.used;
	return turn.rate;
}

static void print_used(struct used *u, double *core, int n)
{
	double engine[MOST], loop[MOST], sockets[MOST], here[MOST], c = median(core, n), all;

	for (int i = 0; i < n; i++) {
		engine[i] = u[i].engine;
		loop[i] = u[i].loop;
		sockets[i] = u[i].sockets;
		here[i] = u[i].here;
	}
	all = median(engine, n) + median(loop, n) + median(sockets, n) + median(here, n);
	printf("CPU time, prompts included, ms a token: engine %.3f, loop %.3f, its sockets %.3f, clients %.3f; the core alone %.3f: %.1f%% of "
	       "all, %.1f%% of weftd's, %.1f%% of the engine's\n\n",
	       engine[n / 2], loop[n / 2], sockets[n / 2], here[n / 2], c, 100 * c / all, 100 * c / (all - here[n / 2]), 100 * c / engine[n / 2]);
}

static void measure_rate(struct bench *b)
{
	static struct asker a[CLIENTS];
	static struct used used[MOST];
	double clients[MOST], core[MOST], core_used[MOST], m_clients, m_core;

	for (int i = 0; i < CLIENTS; i++)
		a[i].c = client_new();
	all_ask(a, ask_long); /* pages are touched */
	clients_rate(a, used);
	core_rate(b, core_used);
	for (int r = 0; r < options.rounds; r++) {
		if (r % 2)
			core[r] = core_rate(b, &core_used[r]);
		clients[r] = clients_rate(a, &used[r]);
		if (r % 2 == 0)
			core[r] = core_rate(b, &core_used[r]);
	}
	for (int i = 0; i < CLIENTS; i++)
		weft_client_free(a[i].c);
	m_clients = median(clients, options.rounds);
	m_core = median(core, options.rounds);
	printf("%d clients, prompts of %d tokens, answers of %d; medians of %d turns:\n", CLIENTS, PROMPT, ANSWER, options.rounds);
	printf("clients %.1f tokens/s, core alone %.1f: %.1f%% (wanted: 97%%)\n", m_clients, m_core, 100 * m_clients / m_core);
	print_used(used, core_used, options.rounds);
	fflush(stdout);
}

/* ---- first token ---- */

struct load {
	const char *name;
	struct ask ask;
	atomic_bool stop;
};

static void *keep_asking(void *arg)
{
	struct load *l = arg;
	struct weft_client *c = client_new();

	while (!atomic_load(&l->stop))
		ask(c, &l->ask, NULL, &l->stop);
	weft_client_free(c);
	return NULL;
}

static double engine_steps(struct weft_client *c)
{
	struct weft_request *r = weft_request_new("stats");
	struct weft_reply *reply;
	uint64_t steps;

	if (!r || weft_client_call(c, r, &reply, PATIENCE_MS) < 0 || !weft_reply_uint(reply, "engine.steps", &steps))
		fail("stats", weft_client_error(c)->text);
	weft_reply_free(reply);
	weft_request_free(r);
	return (double)steps;
}

static void measure_first_token(struct load *l, double chunk)
{
	static const struct ask interactive = {PROMPT, 1, false};
	enum { UNMEASURED = 3 };
	struct weft_client *c = client_new();
	pthread_t thread[LOADERS];
	double t[MOST], steps[MOST];
	unsigned seed = 1;

	for (int i = 0; i < LOADERS; i++)
		if (pthread_create(&thread[i], NULL, keep_asking, l))
			fail("a thread", "not to be had");
	for (int i = -UNMEASURED; i < options.probes; i++) {
		long pause_ms = 100 + rand_r(&seed) % 900;

		nanosleep(&(struct timespec){pause_ms / 1000, pause_ms % 1000 * 1000000}, NULL);
		int at = i < 0 ? 0 : i;
		double before = engine_steps(c);
		t[at] = ask(c, &interactive, NULL, NULL);
		steps[at] = engine_steps(c) - before;
	}
	atomic_store(&l->stop, true);
	for (int i = 0; i < LOADERS; i++)
		pthread_join(thread[i], NULL);
	weft_client_free(c);
	double mid = median(t, options.probes), worst = t[options.probes - 1]; /* sorted by now */
	double mid_steps = median(steps, options.probes), worst_steps = steps[options.probes - 1];
	printf("| %s | %.0f | %.0f | %.2f | %.2f | %.0f | %.0f |\n", l->name, 1e3 * mid, 1e3 * worst, mid / chunk, worst / chunk,
	       mid_steps, worst_steps);
	fflush(stdout);
}

static void measure_first_tokens(struct bench *b)
{
	static struct load loads[] = {
		{"prompts of 512, answers of 64", {512, 64, true}, false},
		{"prompts of 1024, answers of 1", {1024, 1, true}, false},
	};
	struct core_chunks chunks = {.b = b};
	double *chunk = chunks.t;

	aside(core_chunks, &chunks);
	median(chunk, 5);
	printf("first token of an interactive request (%d tokens) beside batch requests of %d clients, %d at once; %d probes\n",
	       PROMPT, LOADERS, PLACES, options.probes);
	printf("a chunk of %d tokens takes the core %.0f ms (wanted: first tokens under 2 chunks)\n\n", CHUNK, 1e3 * chunk[2]);
	printf("| load | median ms | worst ms | median, chunks | worst, chunks | median, steps that ended meanwhile | worst |\n");
	printf("|---|---|---|---|---|---|---|\n");
	for (int i = 0; i < 2; i++)
		measure_first_token(&loads[i], chunk[2]);
}

int main(int argc, char **argv)
{
	struct bench b;
	int opt;

	options.threads = (int)sysconf(_SC_NPROCESSORS_ONLN);
	options.weights = weights_named("q8");
	while ((opt = getopt(argc, argv, "t:q:r:n:f:d:p:")) != -1) {
		if (opt == 't')
			options.threads = atoi(optarg);
		else if (opt == 'q')
			options.weights = weights_named(optarg);
		else if (opt == 'r')
			options.rounds = atoi(optarg);
		else if (opt == 'n')
			options.probes = atoi(optarg);
		else if (opt == 'f')
			options.folder = optarg;
		else if (opt == 'd')
			options.weftd = optarg;
		else if (opt == 'p')
			options.plugins = optarg;
		else
			return 2;
	}
	if (!options.weights || options.threads < 1 || options.rounds < 1 || options.rounds > MOST || options.probes < 1 ||
	    options.probes > MOST)
		fail("end_to_end", "-q is bf16, q8, q4, Q8_0, Q4_0 or Q4_K_M; numbers are 1 to 99");
	print_machine(options.threads);
	printf("shape of TinyLlama-1.1B, random weights, %s\n\n", options.weights->name);
	fflush(stdout);
	house_open();
	aside(core_open, &b);
	measure_rate(&b);
	measure_first_tokens(&b);
	bench_close(&b);
	return 0;
}
