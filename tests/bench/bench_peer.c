/* bench_peer.c: the core beside llama.cpp, on the same files, in one run. `make bench-peer` runs it; usage:
 * bench_peer [-c] [-t THREADS] [-r ROUNDS] [-f FOLDER] [-q TYPE]... -- COMMAND...
 *
 * COMMAND, with a file, a number of threads and a clock behind it, is the peer at the other end of a pipe (peer.py says what is
 * spoken there). In each round everyone does each measure once, in an order that turns from round to round, and nobody else is at
 * work meanwhile: what the host takes away from this machine, it takes from all. Rates are medians, ratios are ratios of medians.
 *
 * -c counts CPU time per thread, as that of bench does: with -t 1 the ratios of prefill and decode 16 then say something while
 * others use the machine, too. */
#include "config.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "measure.h"

enum { PROMPT = 512, CONTEXT_BEFORE = 64, STEPS = 12, BATCH = 16, ROUNDS_MAX = 99 };
enum measure { PREFILL, DECODE_1, DECODE_16, MEASURES };
static const struct {
	const char *name;
	uint32_t batch, tokens; /* batch 0: a prompt; tokens of a turn */
} measures[MEASURES] = {
	{"prefill 512", 0, PROMPT},
	{"decode 1", 1, STEPS},
	{"decode 16", BATCH, STEPS * BATCH},
};

/* A file of the peer's, and what runs against it: the file itself, and weft's own form of that size. */
enum { OURS = 2 };
static const struct column {
	const char *type;
	const char *ours[OURS]; /* NULL: no more */
} columns[] = {
	{"Q4_0", {"q4", "Q4_0"}},
	{"Q8_0", {"q8", "Q8_0"}},
	{"BF16", {"bf16", NULL}},
	{"Q4_K_M", {"Q4_K_M", NULL}},
};
enum { COLUMNS = sizeof(columns) / sizeof(columns[0]) };

static struct options {
	int threads, rounds;
	bool cpu_time;
	const char *folder;
	char **peer; /* its command, ends with NULL */
	int n_peer;
} options = {.rounds = 5, .folder = "bench-model"};

/* ---- the peer ---- */

struct peer {
	pid_t pid;
	FILE *ask, *answer;
};

static void peer_fail(const char *what)
{
	fprintf(stderr, "the peer: %s\n", what);
	exit(1);
}

static void peer_line(struct peer *p, char *line, int room)
{
	if (!fgets(line, room, p->answer))
		peer_fail("it has gone");
	line[strcspn(line, "\n")] = 0;
}

static void peer_exec(const char *file, int in, int out)
{
	char threads[16], path[1024], clock[8], **argv = calloc((size_t)options.n_peer + 4, sizeof(*argv));

	if (!argv)
		_exit(127);
	memcpy(argv, options.peer, (size_t)options.n_peer * sizeof(*argv));
	snprintf(path, sizeof(path), "%s", file);
	snprintf(clock, sizeof(clock), "%s", options.cpu_time ? "cpu" : "wall");
	snprintf(threads, sizeof(threads), "%d", options.threads);
	argv[options.n_peer] = path;
	argv[options.n_peer + 1] = threads;
	argv[options.n_peer + 2] = clock;
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	dup2(in, 0);
	dup2(out, 1);
	execvp(argv[0], argv);
	perror(argv[0]);
	_exit(127);
}

static void peer_open(struct peer *p, const char *file)
{
	int to[2], from[2];

	if (pipe2(to, O_CLOEXEC) || pipe2(from, O_CLOEXEC) || (p->pid = fork()) < 0)
		peer_fail("no pipe or no process to be had");
	if (p->pid == 0)
		peer_exec(file, to[0], from[1]);
	close(to[0]);
	close(from[1]);
	p->ask = fdopen(to[1], "w");
	p->answer = fdopen(from[0], "r");
	if (!p->ask || !p->answer)
		peer_fail("out of memory");
}

static double peer_seconds(struct peer *p, enum measure m)
{
	char line[64];

	if (measures[m].batch == 0)
		fprintf(p->ask, "prompt %d\n", PROMPT);
	else
		fprintf(p->ask, "steps %d %u %d\n", STEPS, measures[m].batch, CONTEXT_BEFORE);
	fflush(p->ask);
	peer_line(p, line, sizeof(line));
	return atof(line);
}

static void peer_close(struct peer *p)
{
	fclose(p->ask);
	fclose(p->answer);
	waitpid(p->pid, NULL, 0);
}

/* ---- turns ---- */

enum { PEER = OURS, SIDES };

struct match {
	const struct column *column;
	int ours;
	struct bench bench[OURS];
	struct choir one[OURS], many[OURS];
	struct peer peer;
	double t[MEASURES][SIDES][ROUNDS_MAX], read[ROUNDS_MAX]; /* seconds; bytes/s */
};

static double our_seconds(struct match *w, int side, enum measure m)
{
	if (m == PREFILL)
		return bench_prompt(&w->bench[side], PROMPT);
	return choir_steps(m == DECODE_1 ? &w->one[side] : &w->many[side], STEPS);
}

/* Threads wait awake for a while after their work: until they sleep, the next one's turn does not begin. */
static void settle(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 50 * 1000 * 1000}, NULL);
}

static void match_turns(struct match *w, enum measure m, int round)
{
	int sides = w->ours + 1;

	for (int k = 0; k < sides; k++) {
		int side = (k + round) % sides;

		settle();
		if (side == w->ours)
			w->t[m][PEER][round] = peer_seconds(&w->peer, m);
		else
			w->t[m][side][round] = our_seconds(w, side, m);
	}
}

static void print_head(const char *peer)
{
	print_machine(options.threads);
	printf("peer: %s\n", peer);
	printf("shape of TinyLlama-1.1B, random weights; tokens/s, medians of %d turns each; decode begins at %d tokens\n\n",
	       options.rounds, CONTEXT_BEFORE);
	printf("| weft | peer |");
	for (enum measure m = 0; m < MEASURES; m++)
		printf(" %s | peer | ratio |%s", measures[m].name, m == DECODE_1 ? " read GB/s | of it |" : "");
	printf("\n|---|---|---|---|---|---|---|---|---|---|---|---|---|\n");
}

static void match_open(struct match *w, const struct column *c)
{
	char line[1024], *file = model_need(options.folder, c->type);
	static bool said;

	*w = (struct match){.column = c};
	peer_open(&w->peer, file);
	for (; w->ours < OURS && c->ours[w->ours]; w->ours++) {
		struct bench *b = &w->bench[w->ours];

		bench_open(b, weights_named(c->ours[w->ours]), options.folder, options.threads);
		choir_open(&w->one[w->ours], b, 1, CONTEXT_BEFORE, BENCH_ROWS);
		choir_open(&w->many[w->ours], b, BATCH, CONTEXT_BEFORE, BENCH_ROWS);
	}
	peer_line(&w->peer, line, sizeof(line));
	if (!said)
		print_head(line);
	said = true;
	for (enum measure m = 0; m < MEASURES; m++) /* pages are touched, caches of shapes are made */
		peer_seconds(&w->peer, m);
	free(file);
}

static void match_close(struct match *w)
{
	for (int i = 0; i < w->ours; i++) {
		choir_close(&w->one[i]);
		choir_close(&w->many[i]);
		bench_close(&w->bench[i]);
	}
	peer_close(&w->peer);
}

static void match_print(struct match *w)
{
	double read = median(w->read, options.rounds), rate[MEASURES][SIDES];

	for (enum measure m = 0; m < MEASURES; m++)
		for (int side = 0; side < SIDES; side++)
			rate[m][side] = measures[m].tokens / median(w->t[m][side], options.rounds);
	for (int i = 0; i < w->ours; i++) {
		printf("| %-6s | %-6s |", w->column->ours[i], w->column->type);
		for (enum measure m = 0; m < MEASURES; m++) {
			printf(" %7.2f | %7.2f | %4.2f |", rate[m][i], rate[m][PEER], rate[m][i] / rate[m][PEER]);
			if (m == DECODE_1)
				printf(" %5.1f | %3.0f%% |", read / 1e9, 100 * w->bench[i].bytes * rate[m][i] / read);
		}
		printf("\n");
	}
	fflush(stdout);
}

static void match(const struct column *c)
{
	static struct match w;

	match_open(&w, c);
	for (int round = 0; round < options.rounds; round++) {
		match_turns(&w, PREFILL, round);
		match_turns(&w, DECODE_1, round);
		settle();
		w.read[round] = read_bandwidth(options.threads);
		match_turns(&w, DECODE_16, round);
	}
	match_print(&w);
	match_close(&w);
}

/* ---- what is asked for ---- */

static void usage(void)
{
	fprintf(stderr,
		"usage: bench_peer [-c] [-t THREADS] [-r ROUNDS] [-f FOLDER] [-q Q4_0|Q8_0|BF16|Q4_K_M]... -- COMMAND...\n");
	exit(2);
}

/* All are, unless -q names some. */
static bool wanted(const struct column *c, char *const *types, int n)
{
	bool found = n == 0;

	for (int i = 0; i < n; i++)
		found |= !strcmp(types[i], c->type);
	return found;
}

int main(int argc, char **argv)
{
	char *types[COLUMNS];
	int n = 0, opt;

	options.threads = (int)sysconf(_SC_NPROCESSORS_ONLN);
	while ((opt = getopt(argc, argv, "+ct:r:f:q:")) != -1) {
		if (opt == 'c')
			options.cpu_time = true;
		else if (opt == 't')
			options.threads = atoi(optarg);
		else if (opt == 'r')
			options.rounds = atoi(optarg);
		else if (opt == 'f')
			options.folder = optarg;
		else if (opt == 'q' && n < COLUMNS)
			types[n++] = optarg;
		else
			usage();
	}
	options.peer = argv + optind;
	options.n_peer = argc - optind;
	if (options.n_peer == 0 || options.threads < 1 || options.rounds < 1 || options.rounds > ROUNDS_MAX)
		usage();
	clock_counts_cpu_of(options.cpu_time ? options.threads : 0);
	signal(SIGPIPE, SIG_IGN); /* its end is told when its answer is missing */
	for (int i = 0; i < COLUMNS; i++)
		if (wanted(&columns[i], types, n))
			match(&columns[i]);
	return 0;
}
