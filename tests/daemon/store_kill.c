/* store_kill.c [KILLS [SEED]]: a process that works on a store is killed with SIGKILL at random moments: while it opens the store,
 * migrates an older schema, commits, makes a checkpoint, and while it takes over from the one killed before. What it told us
 * through a pipe to be kept is there, nothing is there by half, and a store in the middle of a migration opens. */
#include "config.h"
#include "store_history.h"
#include "daemon/store_sql.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

enum { OPS = 150 };

static uint64_t random_state;
static uint32_t draw(uint32_t below)
{
	random_state = random_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(random_state >> 33) % below;
}

/* ---- the process that is killed -------------------------------------------------------------------------------------------------
 */

static void tell(void *arg)
{
	if (write(1, "a", 1) != 1)
		_exit(3);
}

static int child(char **argv)
{
	struct kit k = {.quiet = true};
	char text[STORE_TEXT];
	snprintf(k.url, sizeof(k.url), "%s", argv[2]);
	random_state = strtoull(argv[3], NULL, 0);
	struct history *h = history_new(random_state, strtoull(argv[4], NULL, 0), (unsigned)atoi(argv[5]));
	if (kit_open(&k, text) != STORE_OK) {
		fprintf(stderr, "%s\n", text);
		return 2;
	}
	if (write(1, "o", 1) != 1)
		return 3;
	unsigned window = 1 + draw(30);
	struct store_health health;
	for (int i = 0; i < OPS; i++) {
		store_submit(k.store, history_op(h, tell, NULL));
		do {
			kit_wait(&k, 0);
			store_get_health(k.store, &health);
			if (health.waiting >= window)
				kit_wait(&k, 5);
		} while (health.waiting >= window);
	}
	for (;;) /* all is done: we wait for our end */
		kit_wait(&k, 1000);
}

/* ---- the one that kills ---------------------------------------------------------------------------------------------------------
 */

struct victim {
	pid_t pid;
	int out;
};

static struct victim start(char *self, const char *url, uint64_t seed, uint64_t first_id, unsigned large)
{
	char seed_text[32], id_text[32], large_text[16];
	char *argv[] = {self, "--child", (char *)url, seed_text, id_text, large_text, NULL};
	int fd[2];
	snprintf(seed_text, sizeof(seed_text), "%llu", (unsigned long long)seed);
	snprintf(id_text, sizeof(id_text), "%llu", (unsigned long long)first_id);
	snprintf(large_text, sizeof(large_text), "%u", large);
	CHECK(pipe(fd) == 0);
	struct victim v = {fork(), fd[0]};
	CHECK(v.pid >= 0);
	if (v.pid == 0) {
		dup2(fd[1], 1);
		close(fd[0]);
		close(fd[1]);
		execv(self, argv);
		_exit(127);
	}
	close(fd[1]);
	return v;
}

/* Reads until `acks` acknowledgements came, or for `us` microseconds when that is not 0. */
static size_t wait_acks(struct victim *v, size_t acks, uint32_t us)
{
	size_t n = 0;
	char buf[256];
	struct pollfd fd = {.fd = v->out, .events = POLLIN};
	struct timespec t = {.tv_nsec = us * 1000l};
	if (us) {
		ppoll(NULL, 0, &t, NULL);
		return 0;
	}
	while (n < acks) {
		CHECK(poll(&fd, 1, 60000) == 1);
		ssize_t got = read(v->out, buf, 1);
		CHECK(got == 1);
		n += buf[0] == 'a';
	}
	return n;
}

/* What it said before it was killed counts, also what was still in the pipe. */
static size_t kill_it(struct victim *v)
{
	size_t n = 0;
	char buf[256];
	ssize_t got;
	int status;
	CHECK(kill(v->pid, SIGKILL) == 0);
	while ((got = read(v->out, buf, sizeof(buf))) > 0)
		for (ssize_t i = 0; i < got; i++)
			n += buf[i] == 'a';
	close(v->out);
	CHECK(waitpid(v->pid, &status, 0) == v->pid);
	if (!WIFSIGNALED(status)) {
		fprintf(stderr, "the child ended by itself: %d\n", status);
		exit(1);
	}
	return n;
}

static void kill_rounds(char *self, const char *folder, unsigned kills, uint64_t seed)
{
	struct kit k = {.quiet = true};
	char text[STORE_TEXT];
	uint64_t first_id = 1000;
	size_t total = 0, unfinished = 0;
	snprintf(k.url, sizeof(k.url), "sqlite:%s/kill.db", folder);
	for (unsigned round = 0; round < kills; round++) {
		unsigned large = round % 8 == 7 ? 3 : 0;
		random_state = seed + round;
		struct victim v = start(self, k.url, seed + round, first_id, large);
		size_t acked = round % 5 == 4 ? wait_acks(&v, 0, 1 + draw(20000)) : wait_acks(&v, draw(OPS), 0);
		acked += kill_it(&v);
		CHECK_INT(kit_open(&k, text), STORE_OK);
		struct history *h = history_new(seed + round, first_id, large);
		while (history_made(h) < OPS)
			history_skip(h);
		if (!history_check(h, &k, acked, round % 3 == 0)) {
			fprintf(stderr, "round %u of seed %llu\n", round, (unsigned long long)seed);
			exit(1);
		}
		total += acked;
		unfinished += acked < OPS;
		first_id = history_next_id(h);
		history_free(h);
		kit_close(&k);
	}
	CHECK(unfinished > kills / 2);
	printf("%u kills (%zu of them amid its work): %zu acknowledged ops, none lost, none by half\n", kills, unfinished, total);
}

/* ---- migration ------------------------------------------------------------------------------------------------------------------
 */

/* A file as version 1 left it, with n jobs in it. */
static void make_old(const char *path, int n)
{
	struct kit k = {.quiet = true};
	char text[STORE_TEXT];
	sqlite3 *db;
	snprintf(k.url, sizeof(k.url), "sqlite:%s", path);
	schema_upto = 1;
	CHECK_INT(kit_open(&k, text), STORE_OK);
	kit_close(&k);
	schema_upto = STORE_SCHEMA;
	CHECK_INT(sqlite3_open(path, &db), SQLITE_OK);
	char sql[1024];
	snprintf(sql, sizeof(sql),
		 "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < %d) INSERT INTO job (id, identity, "
		 "topic, op, body, class, priority, rank, "
		 "affinity, batch, row_no, custom_id, model, state, accepted_at, run_at, deadline_at, queue_until, owner, token, "
		 "attempt, n_events, prompt_tokens) "
		 "SELECT i, CASE WHEN i %% 3 THEN 'me' ELSE 'you' END, '', 'generate', x'00', 1, 0, i, 0, 0, 0, '', '', i %% 9, 1, "
		 "0, 0, 0, '', 0, 0, 0, 2 FROM c",
		 n);
	CHECK_INT(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

static void copy(const char *from, const char *to)
{
	char buf[65536];
	ssize_t n;
	int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	CHECK(in >= 0 && out >= 0);
	while ((n = read(in, buf, sizeof(buf))) > 0)
		CHECK(write(out, buf, (size_t)n) == n);
	close(in);
	close(out);
}

static int version_of(const char *path)
{
	sqlite3 *db;
	sqlite3_stmt *stmt;
	CHECK_INT(sqlite3_open(path, &db), SQLITE_OK);
	CHECK_INT(sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &stmt, NULL), SQLITE_OK);
	CHECK_INT(sqlite3_step(stmt), SQLITE_ROW);
	int v = sqlite3_column_int(stmt, 0);
	sqlite3_finalize(stmt);
	sqlite3_close(db);
	return v;
}

static uint32_t time_to_open(struct victim *v)
{
	struct timespec a, b;
	char byte = 0;
	clock_gettime(CLOCK_MONOTONIC, &a);
	CHECK(read(v->out, &byte, 1) == 1 && byte == 'o');
	clock_gettime(CLOCK_MONOTONIC, &b);
	int64_t us = (b.tv_sec - a.tv_sec) * (int64_t)1000000 + (b.tv_nsec - a.tv_nsec) / 1000;
	return us < 900000 ? (uint32_t)us : 700000;
}

static void migration_rounds(char *self, const char *folder, unsigned kills, uint64_t seed)
{
	enum { JOBS = 9000 };
	char old[512], path[512], wal[600], text[STORE_TEXT];
	struct kit k = {.quiet = true};
	unsigned before = 0, after = 0;
	uint32_t whole = 0; /* microseconds from its start to an open store */
	snprintf(old, sizeof(old), "%s/old.db", folder);
	snprintf(path, sizeof(path), "%s/new.db", folder);
	snprintf(wal, sizeof(wal), "%s-wal", path);
	snprintf(k.url, sizeof(k.url), "sqlite:%s", path);
	make_old(old, JOBS);
	CHECK_INT(version_of(old), 1);
	for (unsigned round = 0; round < kills; round++) {
		random_state = seed + round;
		copy(old, path);
		unlink(wal);
		struct victim v = start(self, k.url, seed, 1000000, 0);
		if (round == 0)
			whole = time_to_open(&v);
		else
			wait_acks(&v, 0, 1 + draw(whole + whole / 4));
		kill_it(&v);
		int version = version_of(path);
		CHECK(version == 1 || version == STORE_SCHEMA);
		before += version == 1;
		after += version != 1;
		CHECK_INT(kit_open(&k, text), STORE_OK);
		struct store_op *l = kit_op(STORE_OP_LIST);
		snprintf(l->identity, sizeof(l->identity), "you");
		CHECK_INT(kit_run(&k, l), STORE_OK);
		for (int i = 0; i < STORE_STATES; i++) /* what was held is queued again */
			CHECK_INT(l->counts[i], i % 3 ? 0 : i == STORE_QUEUED ? 2 * JOBS / 9 : i == STORE_RUNNING ? 0 : JOBS / 9);
		store_op_free(l);
		kit_close(&k);
		CHECK_INT(version_of(path), STORE_SCHEMA);
	}
	printf("%u kills around a migration: %u found the old schema, %u the new one, all went on\n", kills, before, after);
}

int main(int argc, char **argv)
{
	if (argc == 6 && strcmp(argv[1], "--child") == 0)
		return child(argv);
	unsigned kills = argc > 1 ? (unsigned)atoi(argv[1]) : 100;
	uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	char *folder = kit_folder(), self[512];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	CHECK(n > 0);
	self[n] = 0;
	kill_rounds(self, folder, kills, seed);
	migration_rounds(self, folder, kills / 4, seed);
	free(folder);
	return 0;
}
