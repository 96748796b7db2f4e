/* bench_peer.c: the core beside llama.cpp, on the same files, in one run. `make bench-peer` runs it; usage:
 * bench_peer [-c] [-t THREADS] [-r ROUNDS] [-f FOLDER] [-q TYPE]... -- COMMAND... [-- COMMAND...]
 *
 * COMMAND, with a file, a number of threads and a clock behind it, is the peer at the other end of a pipe (peer.py says what is
 * spoken there). Where there are two, the better one of each cell is the peer there. In each round everyone does each measure once, in
 * an order that turns from round to round, and nobody else is at work meanwhile: what the host takes away from this machine, it takes
 * from all. Rates are medians, ratios are ratios of medians.
 *
 * Before anything is timed, each peer's logits at the end of a prompt are held against those of the core on the same file: a peer that
 * computes something else (llama.cpp by a compiler that drops the stores to AMX's configuration did) is nothing to compare with.
 *
 * -c counts CPU time per thread, as that of bench does: with -t 1 the ratios of prefill and decode 16 then say something while
 * others use the machine, too. */
#include "config.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "measure.h"

enum { PROMPT = 512, CONTEXT_BEFORE = 64, STEPS = 12, BATCH = 16, ROUNDS_MAX = 99 };
enum { JUDGED = 200 };	       /* tokens of the prompt whose logits are compared */
static const double far = 0.4; /* of their size: builds of the peer have been 0.11 from us, and unrelated logits of one size would be 1.4 */
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
}; /* the last one is the file as it is */
enum { COLUMNS = sizeof(columns) / sizeof(columns[0]) };

enum { PEERS = 2, WORDS_MAX = 32 };
static struct options {
	int threads, rounds, peers;
	bool cpu_time;
	const char *folder;
	struct {
		char **words;
		int n;
	} command[PEERS];
} options = {.rounds = 3, .folder = "bench-model"};

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

static void peer_exec(int which, const char *file, int in, int out)
{
	char threads[16], path[1024], clock[8], *argv[WORDS_MAX + 4] = {NULL};
	int n = options.command[which].n;

	memcpy(argv, options.command[which].words, (size_t)n * sizeof(*argv));
	snprintf(path, sizeof(path), "%s", file);
	snprintf(clock, sizeof(clock), "%s", options.cpu_time ? "cpu" : "wall");
	snprintf(threads, sizeof(threads), "%d", options.threads);
	argv[n] = path;
	argv[n + 1] = threads;
	argv[n + 2] = clock;
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	dup2(in, 0);
	dup2(out, 1);
	execvp(argv[0], argv);
	perror(argv[0]);
	_exit(127);
}

static void peer_open(struct peer *p, int which, const char *file)
{
	int to[2], from[2];

	if (pipe2(to, O_CLOEXEC) || pipe2(from, O_CLOEXEC) || (p->pid = fork()) < 0)
		peer_fail("no pipe or no process to be had");
	if (p->pid == 0)
		peer_exec(which, file, to[0], from[1]);
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

/* How far the peer's logits of a prompt are from ours: root mean squares. */
static double peer_error(struct peer *p, const float *ours)
{
	double difference = 0, size = 0, logit;

	fprintf(p->ask, "logits %d\n", JUDGED);
	fflush(p->ask);
	for (int i = 0; i < VOCAB; i++) {
		if (fscanf(p->answer, "%lf", &logit) != 1)
			peer_fail("it has no logits");
		difference += (logit - ours[i]) * (logit - ours[i]);
		size += (double)ours[i] * ours[i];
	}
	fgetc(p->answer); /* the line's end */
	return sqrt(difference / size);
}

static void peer_close(struct peer *p)
{
	fclose(p->ask);
	fclose(p->answer);
	waitpid(p->pid, NULL, 0);
}

/* ---- turns ---- */

enum { PEER = OURS, SIDES = PEER + PEERS };

struct match {
	const struct column *column;
	int ours;
	struct bench bench[OURS];
	struct choir one[OURS], many[OURS];
	struct peer peer[PEERS];
	double t[MEASURES][SIDES][ROUNDS_MAX], read[ROUNDS_MAX]; /* seconds; bytes/s */
	double error[PEERS];					 /* of its logits */
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
	int sides = w->ours + options.peers;

	for (int k = 0; k < sides; k++) {
		int side = (k + round) % sides;

		settle();
		if (side < w->ours)
			w->t[m][side][round] = our_seconds(w, side, m);
		else
			w->t[m][PEER + side - w->ours][round] = peer_seconds(&w->peer[side - w->ours], m);
	}
}

static void print_head(void)
{
	printf("shape of TinyLlama-1.1B, random weights; tokens/s, medians of %d turns each; decode begins at %d tokens\n\n",
	       options.rounds, CONTEXT_BEFORE);
	printf("| weft | peer | its logits |");
	for (enum measure m = 0; m < MEASURES; m++)
		printf(" %s | peer | ratio |%s", measures[m].name, m == DECODE_1 ? " read GB/s | of it |" : "");
	printf("\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n");
}

/* What it says of itself; then it warms up: pages are touched, caches of shapes are made. */
static void peer_greet(struct match *w, int which, bool tell)
{
	struct peer *p = &w->peer[which];
	char line[1024];

	peer_line(p, line, sizeof(line));
	if (tell)
		printf("peer %c: %s\n", 'a' + which, line);
	for (enum measure m = 0; m < MEASURES; m++)
		peer_seconds(p, m);
	w->error[which] = peer_error(p, bench_logits(&w->bench[w->ours - 1], JUDGED));
	if (w->error[which] <= far)
		return;
	fprintf(stderr, "peer %c computes something else on %s: its logits are off by %.2g of their size\n", 'a' + which, w->column->type,
		w->error[which]);
	exit(1);
}

static void match_open(struct match *w, const struct column *c)
{
	char *file = model_need(options.folder, c->type);
	static bool said;

	*w = (struct match){.column = c};
	for (int i = 0; i < options.peers; i++)
		peer_open(&w->peer[i], i, file);
	for (; w->ours < OURS && c->ours[w->ours]; w->ours++) {
		struct bench *b = &w->bench[w->ours];

		bench_open(b, weights_named(c->ours[w->ours]), options.folder, options.threads);
		choir_open(&w->one[w->ours], b, 1, CONTEXT_BEFORE, BENCH_ROWS);
		choir_open(&w->many[w->ours], b, BATCH, CONTEXT_BEFORE, BENCH_ROWS);
	}
	if (!said)
		print_machine(options.threads);
	for (int i = 0; i < options.peers; i++)
		peer_greet(w, i, !said);
	if (!said)
		print_head();
	said = true;
	free(file);
}

static void match_close(struct match *w)
{
	for (int i = 0; i < w->ours; i++) {
		choir_close(&w->one[i]);
		choir_close(&w->many[i]);
		bench_close(&w->bench[i]);
	}
	for (int i = 0; i < options.peers; i++)
		peer_close(&w->peer[i]);
}

static void match_print(struct match *w)
{
	double read = median(w->read, options.rounds), rate[MEASURES][SIDES], error = 0;
	int best[MEASURES];

	for (enum measure m = 0; m < MEASURES; m++) {
		for (int side = 0; side < PEER + options.peers; side++)
			rate[m][side] = measures[m].tokens / median(w->t[m][side], options.rounds);
		best[m] = PEER;
		for (int side = PEER + 1; side < PEER + options.peers; side++)
			best[m] = rate[m][side] > rate[m][best[m]] ? side : best[m];
	}
	for (int k = 0; k < options.peers; k++)
		error = w->error[k] > error ? w->error[k] : error;
	for (int i = 0; i < w->ours; i++) {
		printf("| %-6s | %-6s | %.3f |", w->column->ours[i], w->column->type, error);
		for (enum measure m = 0; m < MEASURES; m++) {
			double peer = rate[m][best[m]];

			printf(" %7.2f | %7.2f %c | %4.2f |", rate[m][i], peer, 'a' + best[m] - PEER, rate[m][i] / peer);
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
		"usage: bench_peer [-c] [-t THREADS] [-r ROUNDS] [-f FOLDER] [-q Q4_0|Q8_0|BF16|Q4_K_M]... -- COMMAND... "
		"[-- COMMAND...]\n");
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

static bool known(const char *type)
{
	for (int i = 0; i < COLUMNS; i++)
		if (!strcmp(type, columns[i].type))
			return true;
	return false;
}

/* Commands, between which "--" stands. false: none, too many, or too long. */
static bool take_commands(char **words, int n)
{
	for (int i = 0; i < n; i++, words++) {
		if (!strcmp(*words, "--"))
			continue;
		if (i == 0 || !strcmp(words[-1], "--"))
			options.peers++;
		if (options.peers > PEERS || options.command[options.peers - 1].n == WORDS_MAX)
			return false;
		if (options.command[options.peers - 1].n++ == 0)
			options.command[options.peers - 1].words = words;
	}
	return options.peers > 0;
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
		else if (opt == 'q' && n < COLUMNS && known(optarg))
			types[n++] = optarg;
		else
			usage();
	}
	if (!take_commands(argv + optind, argc - optind) || options.threads < 1 || options.rounds < 1 || options.rounds > ROUNDS_MAX)
		usage();
	clock_counts_cpu_of(options.cpu_time ? options.threads : 0);
	signal(SIGPIPE, SIG_IGN); /* its end is told when its answer is missing */
	for (int i = 0; i < COLUMNS; i++)
		if (wanted(&columns[i], types, n))
			match(&columns[i]);
	return 0;
}
