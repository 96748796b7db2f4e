/* store_kit.c: see store_kit.h. */
#include "config.h"
#include "store_kit.h"
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void kit_check(bool ok, const char *what, const char *file, int line)
{
	if (ok)
		return;
	fprintf(stderr, "%s:%d: not so: %s\n", file, line, what);
	exit(1);
}

void kit_check_int(long long a, long long b, const char *what, const char *file, int line)
{
	if (a == b)
		return;
	fprintf(stderr, "%s:%d: not so: %s: %lld, %lld\n", file, line, what, a, b);
	exit(1);
}

void kit_check_str(const char *a, const char *b, const char *what, const char *file, int line)
{
	if (a && b && strcmp(a, b) == 0)
		return;
	fprintf(stderr, "%s:%d: not so: %s: \"%s\", \"%s\"\n", file, line, what, a ? a : "(null)", b ? b : "(null)");
	exit(1);
}

/* ---- folders --------------------------------------------------------------------------------------------------------------------
 */

static char *folders[16];
static int n_folders;
static pid_t folders_of;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static void remove_folders(void)
{
	if (getpid() != folders_of)
		return;
	for (int i = 0; i < n_folders; i++)
		nftw(folders[i], remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

char *kit_folder(void)
{
	const char *tmp = getenv("TMPDIR");
	char path[256];
	snprintf(path, sizeof(path), "%s/weft-store.XXXXXX", tmp ? tmp : "/tmp");
	CHECK(mkdtemp(path) != NULL);
	CHECK(n_folders < 16);
	if (!n_folders) {
		folders_of = getpid();
		atexit(remove_folders);
	}
	folders[n_folders++] = strdup(path);
	return strdup(path);
}

/* ---- the store ------------------------------------------------------------------------------------------------------------------
 */

static void wake(void *arg)
{
	struct kit *k = arg;
	if (write(k->wake[1], "", 1) < 0 && errno != EAGAIN)
		abort();
}

static void log_line(void *arg, int level, const char *text)
{
	struct kit *k = arg;
	if (!k->quiet)
		fprintf(stderr, "  %s: %s\n", k->owner, text);
}

int kit_open(struct kit *k, char text[static STORE_TEXT])
{
	if (!k->owner[0])
		snprintf(k->owner, sizeof(k->owner), "test:%ld", (long)getpid());
	struct store_params p = {.url = k->url,
				 .owner = k->owner,
				 .model = k->model,
				 .lease_ms = k->lease_ms ? k->lease_ms : 30000,
				 .wake = wake,
				 .log = log_line,
				 .arg = k};
	CHECK(pipe(k->wake) == 0);
	fcntl(k->wake[0], F_SETFL, O_NONBLOCK);
	fcntl(k->wake[1], F_SETFL, O_NONBLOCK);
	text[0] = 0;
	int rc = store_open(&k->store, &p, text);
	if (rc < 0) {
		close(k->wake[0]);
		close(k->wake[1]);
		k->store = NULL;
	}
	return rc;
}

void kit_close(struct kit *k)
{
	if (!k->store)
		return;
	store_close(k->store);
	close(k->wake[0]);
	close(k->wake[1]);
	k->store = NULL;
}

void kit_lease(struct kit *k, int64_t ms)
{
	char text[STORE_TEXT];
	kit_close(k);
	k->lease_ms = ms;
	CHECK_INT(kit_open(k, text), STORE_OK);
}

static int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * (int64_t)1000 + t.tv_nsec / 1000000;
}

void kit_poll(struct kit *k, int ms)
{
	struct pollfd fd = {.fd = k->wake[0], .events = POLLIN};
	char buf[64];
	poll(&fd, 1, ms);
	while (read(k->wake[0], buf, sizeof(buf)) > 0)
		;
}

void kit_wait(struct kit *k, int ms)
{
	kit_poll(k, ms);
	while (store_take(k->store, 1000, NULL))
		;
}

static void op_done(struct store_op *op, void *arg)
{
	op->arg = op; /* it is finished */
}

struct store_op *kit_op(enum store_kind kind)
{
	struct store_op *op = store_op_new(kind, op_done, NULL);
	CHECK(op != NULL);
	return op;
}

void kit_submit(struct kit *k, struct store_op *op)
{
	op->arg = NULL;
	store_submit(k->store, op);
}

int kit_wait_for(struct kit *k, struct store_op *op)
{
	int64_t end = now_ms() + 30000;
	while (op->arg != op) {
		if (now_ms() >= end) {
			fprintf(stderr, "op of kind %d is not done in 30 s\n", op->kind);
			exit(1);
		}
		kit_wait(k, 100);
	}
	return op->code;
}

int kit_run(struct kit *k, struct store_op *op)
{
	kit_submit(k, op);
	return kit_wait_for(k, op);
}

/* ---- ops ------------------------------------------------------------------------------------------------------------------------
 */

struct store_bytes kit_bytes(const void *data, size_t len)
{
	struct store_bytes b = {malloc(len ? len : 1), len};
	CHECK(b.data != NULL);
	memcpy(b.data, data, len);
	return b;
}

struct store_bytes kit_chunk(int n, const char *const *events)
{
	size_t len = 0;
	for (int i = 0; i < n; i++)
		len += 4 + strlen(events[i]);
	uint8_t *p = malloc(len ? len : 1);
	struct store_bytes b = {p, len};
	for (int i = 0; i < n; i++) {
		uint32_t size = (uint32_t)strlen(events[i]);
		for (int k = 0; k < 4; k++)
			*p++ = (uint8_t)(size >> 8 * k);
		memcpy(p, events[i], size);
		p += size;
	}
	return b;
}

uint64_t kit_ids(struct kit *k, uint32_t n)
{
	struct store_op *op = kit_op(STORE_OP_IDS);
	op->n[0] = n;
	CHECK_INT(kit_run(k, op), STORE_OK);
	uint64_t first = op->first;
	store_op_free(op);
	return first;
}

struct store_new kit_job(uint64_t id)
{
	return (struct store_new){.id = id,
				  .identity = "me",
				  .topic = "00112233445566778899aabbccddeeff",
				  .op = "generate",
				  .batch_class = true,
				  .priority = 100,
				  .rank = (int64_t)id,
				  .model = "",
				  .accepted_at = 1000,
				  .request = "request",
				  .request_len = 7};
}

int kit_add(struct kit *k, struct store_new *a)
{
	struct store_op *op = kit_op(STORE_OP_ADD);
	op->add = malloc(sizeof(*a));
	op->add[0] = *a;
	op->n_add = 1;
	int rc = kit_run(k, op);
	a->code = op->add[0].code;
	a->existing = op->add[0].existing;
	store_op_free(op);
	return rc < 0 ? rc : a->code;
}

struct store_op *kit_claim(struct kit *k, uint32_t interactive, uint32_t batch)
{
	struct store_op *op = kit_op(STORE_OP_CLAIM);
	op->n[0] = interactive;
	op->n[1] = batch;
	CHECK_INT(kit_run(k, op), STORE_OK);
	return op;
}

int kit_log(struct kit *k, uint64_t job, uint64_t token, uint32_t from, int n, const char *const *events, int state)
{
	struct store_op *op = kit_op(STORE_OP_LOG);
	op->job = job;
	op->token = token;
	op->from = from;
	op->n_events = (uint32_t)n;
	op->events = kit_chunk(n, events);
	op->state = state;
	int rc = kit_run(k, op);
	store_op_free(op);
	return rc;
}

int kit_release(struct kit *k, uint64_t job, uint64_t token, int state)
{
	struct store_op *op = kit_op(STORE_OP_RELEASE);
	op->job = job;
	op->token = token;
	op->state = state;
	int rc = kit_run(k, op);
	store_op_free(op);
	return rc;
}

struct store_op *kit_view(struct kit *k, uint64_t job)
{
	struct store_op *op = kit_op(STORE_OP_VIEW);
	op->job = job;
	kit_run(k, op);
	return op;
}

int kit_state(struct kit *k, uint64_t job)
{
	struct store_op *op = kit_view(k, job);
	int state = op->code < 0 ? op->code : (int)op->views[0].state;
	store_op_free(op);
	return state;
}

int kit_verb(struct kit *k, uint64_t job, const char *identity, enum store_verb verb, int64_t run_at)
{
	struct store_op *op = kit_op(STORE_OP_VERB);
	op->job = job;
	op->verb = verb;
	op->run_at = run_at;
	snprintf(op->identity, sizeof(op->identity), "%s", identity);
	int rc = kit_run(k, op);
	store_op_free(op);
	return rc;
}

struct store_op *kit_events(struct kit *k, uint64_t job, const char *identity, uint32_t from, size_t max_bytes)
{
	struct store_op *op = kit_op(STORE_OP_EVENTS);
	op->job = job;
	op->from = from;
	op->max_bytes = max_bytes;
	snprintf(op->identity, sizeof(op->identity), "%s", identity);
	kit_run(k, op);
	return op;
}

struct store_op *kit_batch_op(enum store_kind kind, uint64_t batch)
{
	struct store_op *op = kit_op(kind);
	op->batch = batch;
	snprintf(op->identity, sizeof(op->identity), "me");
	return op;
}

int kit_batch(struct kit *k, enum store_kind kind, uint64_t batch)
{
	struct store_op *op = kit_batch_op(kind, batch);
	int rc = kit_run(k, op);
	store_op_free(op);
	return rc;
}
