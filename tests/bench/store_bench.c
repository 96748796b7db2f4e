/* store_bench.c: what the durable store costs: store_bench [--rows N] [--seconds S] FOLDER [URL]. FOLDER is on the disk to measure;
 * without a URL the store is SQLite there.
 *
 *     limit    the same disk, one 4 KiB append and fdatasync after the other
 *     accept   jobs with a request of 1 KiB and their first event, each an op of its own and told to be kept; with 1, 16 and 256 in
 * flight journal  64 held jobs, each a chunk of 200 bytes in turn, as a batch of 64 writes its tokens rows     a batch of N rows:
 * adding them, opening the store again, claiming 64, following the results; peak memory */
#include "config.h"
#include "tests/daemon/store_kit.h"
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static double seconds = 3;
static uint64_t n_rows = 1000000;

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double limit_of(const char *folder)
{
	static char block[4096];
	char path[512];
	int n = 0;
	snprintf(path, sizeof(path), "%s/limit", folder);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	CHECK(fd >= 0);
	double start = now();
	for (; now() - start < 1.0; n++)
		CHECK(write(fd, block, sizeof(block)) == sizeof(block) && fdatasync(fd) == 0);
	double rate = n / (now() - start);
	close(fd);
	unlink(path);
	return rate;
}

static void print_rate(const char *what, unsigned in_flight, uint64_t ops, double t, const struct store_health *a,
		       const struct store_health *b)
{
	uint64_t commits = b->commits - a->commits, us = b->commit_us_total - a->commit_us_total;
	printf("%-8s %4u in flight  %9.0f /s  %7.0f commits/s  %6.1f ops a commit  %6.2f ms each\n", what, in_flight,
	       (double)ops / t, (double)commits / t, commits ? (double)(b->ops - a->ops) / (double)commits : 0.0,
	       commits ? (double)us / 1000.0 / (double)commits : 0.0);
	fflush(stdout);
}

static char request[1024];

static struct store_op *add_op(uint64_t id, const struct store_bytes *event)
{
	struct store_op *op = kit_op(STORE_OP_ADD);
	op->add = malloc(sizeof(*op->add));
	op->add[0] = kit_job(id);
	op->add[0].batch_class = false;
	op->add[0].hold = true;
	op->add[0].token = 1;
	op->add[0].request = request;
	op->add[0].request_len = sizeof(request);
	op->add[0].events = event->data;
	op->add[0].events_len = event->len;
	op->add[0].n_events = 1;
	op->n_add = 1;
	return op;
}

static void bench_accept(struct kit *k, unsigned in_flight)
{
	const char *list[] = {"{\"v\":1,\"job\":1,\"seq\":0,\"event\":\"queued\",\"position\":12,\"class\":\"interactive\"}"};
	struct store_bytes event = kit_chunk(1, list);
	struct store_op **op = calloc(in_flight, sizeof(struct store_op *));
	struct store_health before, after;
	uint64_t n = 0, id = kit_ids(k, 10000000);
	store_get_health(k->store, &before);
	double start = now(), end = start + seconds;
	for (unsigned i = 0; i < in_flight; i++)
		kit_submit(k, op[i] = add_op(id++, &event));
	while (now() < end) { /* whoever is done comes again */
		bool any = false;
		for (unsigned i = 0; i < in_flight; i++) {
			if (op[i]->arg != op[i])
				continue;
			CHECK_INT(op[i]->code, STORE_OK);
			store_op_free(op[i]);
			kit_submit(k, op[i] = add_op(id++, &event));
			n++;
			any = true;
		}
		kit_wait(k, any ? 0 : 100);
	}
	double t = now() - start;
	store_get_health(k->store, &after);
	for (unsigned i = 0; i < in_flight; i++) {
		CHECK_INT(kit_wait_for(k, op[i]), STORE_OK);
		store_op_free(op[i]);
	}
	print_rate("accept", in_flight, n, t, &before, &after);
	free(op);
	free(event.data);
}

static void bench_journal(struct kit *k)
{
	enum { JOBS = 64 };
	char event[200];
	const char *list[] = {event};
	struct store_op *op[JOBS];
	uint32_t seq = 0;
	uint64_t id = kit_ids(k, JOBS);
	struct store_health before, after;
	memset(event, 'e', sizeof(event) - 1);
	event[sizeof(event) - 1] = 0;
	for (uint64_t i = 0; i < JOBS; i++) {
		struct store_new a = kit_job(id + i);
		a.hold = true;
		a.token = 1;
		CHECK_INT(kit_add(k, &a), STORE_OK);
	}
	store_get_health(k->store, &before);
	double start = now();
	for (; now() - start < seconds; seq++) {
		for (uint64_t i = 0; i < JOBS; i++) {
			op[i] = kit_op(STORE_OP_LOG);
			op[i]->job = id + i;
			op[i]->token = 1;
			op[i]->from = seq;
			op[i]->n_events = 1;
			op[i]->events = kit_chunk(1, list);
			kit_submit(k, op[i]);
		}
		for (int i = 0; i < JOBS; i++) {
			CHECK_INT(kit_wait_for(k, op[i]), STORE_OK);
			store_op_free(op[i]);
		}
	}
	store_get_health(k->store, &after);
	print_rate("journal", JOBS, (uint64_t)seq * JOBS, now() - start, &before, &after);
}

static void add_rows(struct kit *k, uint64_t batch)
{
	enum { AT_ONCE = 1000 };
	double start = now();
	for (uint64_t row = 0; row < n_rows; row += AT_ONCE) {
		uint64_t id = kit_ids(k, AT_ONCE);
		struct store_op *op = kit_op(STORE_OP_ADD);
		op->add = calloc(AT_ONCE, sizeof(*op->add));
		op->n_add = AT_ONCE;
		for (uint64_t i = 0; i < AT_ONCE; i++) {
			op->add[i] = kit_job(id + i);
			op->add[i].rank = 5000000000000;
			op->add[i].batch = batch;
			op->add[i].row = row + i;
			op->add[i].custom_id = "row-1234567";
			op->add[i].request = request;
			op->add[i].request_len = 300;
		}
		CHECK_INT(kit_run(k, op), STORE_OK);
		CHECK_INT(op->add[AT_ONCE - 1].code, STORE_OK);
		store_op_free(op);
	}
	double t = now() - start;
	printf("rows     %llu added in %.1f s: %.0f /s\n", (unsigned long long)n_rows, t, (double)n_rows / t);
	fflush(stdout);
}

static void bench_claims(struct kit *k)
{
	enum { CLAIMS = 100 };
	double total = 0, worst = 0;
	for (int i = 0; i < CLAIMS; i++) {
		double start = now();
		struct store_op *c = kit_claim(k, 0, 64);
		double t = now() - start;
		CHECK_INT(c->n_out, 64);
		store_op_free(c);
		total += t;
		worst = t > worst ? t : worst;
	}
	printf("rows     a claim of 64: %.2f ms, at worst %.2f ms\n", total * 1000 / CLAIMS, worst * 1000);
}

static void bench_rows(struct kit *k, const char *folder)
{
	char text[STORE_TEXT];
	struct store_op *b = kit_batch_op(STORE_OP_BATCH_OPEN, 0);
	CHECK_INT(kit_run(k, b), STORE_OK);
	uint64_t batch = b->batches[0].id;
	store_op_free(b);
	add_rows(k, batch);
	kit_close(k);
	double start = now();
	CHECK_INT(kit_open(k, text), STORE_OK);
	double opened = now() - start;
	start = now();
	struct store_op *c = kit_claim(k, 0, 1);
	printf("rows     opened in %.2f s; the first claim took %.2f ms\n", opened, (now() - start) * 1000);
	CHECK_INT(c->n_out, 1);
	store_op_free(c);
	bench_claims(k);
	start = now();
	struct store_op *v = kit_batch_op(STORE_OP_BATCH_VIEW, batch);
	CHECK_INT(kit_run(k, v), STORE_OK);
	CHECK_INT(v->batches[0].rows, n_rows);
	printf("rows     a view of the batch: %.2f ms\n", (now() - start) * 1000);
	store_op_free(v);
	struct rusage r;
	getrusage(RUSAGE_SELF, &r);
	printf("rows     peak memory of this process: %ld MiB\n", r.ru_maxrss / 1024);
}

static int usage(void)
{
	fprintf(stderr, "usage: store_bench [--rows N] [--seconds S] FOLDER [URL]\n");
	return 2;
}

int main(int argc, char **argv)
{
	struct kit k = {.quiet = true};
	char text[STORE_TEXT];
	int i = 1;
	for (; i + 1 < argc && argv[i][0] == '-'; i += 2) {
		if (strcmp(argv[i], "--rows") == 0)
			n_rows = strtoull(argv[i + 1], NULL, 10) / 1000 * 1000;
		else if (strcmp(argv[i], "--seconds") == 0)
			seconds = atof(argv[i + 1]);
		else
			return usage();
	}
	if (i >= argc)
		return usage();
	memset(request, 'r', sizeof(request));
	if (i + 1 < argc)
		snprintf(k.url, sizeof(k.url), "%s", argv[i + 1]);
	else
		snprintf(k.url, sizeof(k.url), "sqlite:%s/bench.db", argv[i]);
	CHECK_INT(kit_open(&k, text), STORE_OK);
	printf("%s\n", store_backend_name(k.store));
	printf("limit                    %9.0f fdatasync/s\n", limit_of(argv[i]));
	bench_accept(&k, 1);
	bench_accept(&k, 16);
	bench_accept(&k, 256);
	bench_journal(&k);
	printf("limit                    %9.0f fdatasync/s\n", limit_of(argv[i]));
	if (n_rows)
		bench_rows(&k, argv[i]);
	kit_close(&k);
	return 0;
}
