/* store_sqlite_test.c: what is special about the store in a file: who may open it, its modes, its size. */
#include "config.h"
#include "store_kit.h"
#include <fcntl.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char *folder;

static struct kit kit_at(const char *name)
{
	struct kit k = {.quiet = true};
	snprintf(k.url, sizeof(k.url), "sqlite:%s/%s", folder, name);
	return k;
}

static const char *path_of(const struct kit *k)
{
	return k->url + strlen("sqlite:");
}

static void raw(const struct kit *k, const char *sql)
{
	sqlite3 *db;
	CHECK_INT(sqlite3_open(path_of(k), &db), SQLITE_OK);
	CHECK_INT(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

static void a_second_daemon_is_refused_with_the_process_that_has_it(void)
{
	struct kit a = kit_at("two.db"), b = a;
	char text[STORE_TEXT], pid[32];
	CHECK_INT(kit_open(&a, text), STORE_OK);
	CHECK_INT(kit_open(&b, text), STORE_EBROKEN);
	snprintf(pid, sizeof(pid), "process %ld)", (long)getpid());
	CHECK(strstr(text, "in use") != NULL && strstr(text, pid) != NULL);
	kit_close(&a);
	CHECK_INT(kit_open(&b, text), STORE_OK);
	kit_close(&b);
}

static void its_files_are_for_the_daemon_alone(void)
{
	static const char *const ends[] = {"", "-wal", "-lock"};
	struct kit k = kit_at("modes.db");
	char text[STORE_TEXT], path[1200];
	mode_t mask = umask(0);
	CHECK_INT(kit_open(&k, text), STORE_OK);
	kit_ids(&k, 1);
	for (int i = 0; i < 3; i++) {
		struct stat st;
		snprintf(path, sizeof(path), "%s%s", path_of(&k), ends[i]);
		CHECK_INT(stat(path, &st), 0);
		CHECK_INT(st.st_mode & 07777, 0600);
	}
	snprintf(path, sizeof(path), "%s-shm", path_of(&k)); /* one connection needs none */
	CHECK(access(path, F_OK) != 0);
	umask(mask);
	kit_close(&k);
}

static void a_newer_schema_is_refused(void)
{
	struct kit k = kit_at("newer.db");
	char text[STORE_TEXT];
	CHECK_INT(kit_open(&k, text), STORE_OK);
	kit_close(&k);
	raw(&k, "PRAGMA user_version = 99");
	CHECK_INT(kit_open(&k, text), STORE_EBROKEN);
	CHECK(strstr(text, "schema 99") != NULL && strstr(text, "newer") != NULL);
	raw(&k, "PRAGMA user_version = 2");
	CHECK_INT(kit_open(&k, text), STORE_OK);
	kit_close(&k);
}

static void a_damaged_file_is_refused(void)
{
	struct kit k = kit_at("damaged.db");
	char text[STORE_TEXT], junk[5000];
	CHECK_INT(kit_open(&k, text), STORE_OK);
	for (int i = 0; i < 300; i++) {
		struct store_new a = kit_job(kit_ids(&k, 1));
		CHECK_INT(kit_add(&k, &a), STORE_OK);
	}
	kit_close(&k);
	int fd = open(path_of(&k), O_RDWR);
	memset(junk, 0x5a, sizeof(junk));
	CHECK_INT(pwrite(fd, junk, sizeof(junk), 5 * 4096), sizeof(junk));
	close(fd);
	CHECK_INT(kit_open(&k, text), STORE_EBROKEN);
	fd = open(path_of(&k), O_RDWR | O_TRUNC);
	CHECK_INT(write(fd, junk, sizeof(junk)), sizeof(junk));
	close(fd);
	CHECK_INT(kit_open(&k, text), STORE_EBROKEN);
	CHECK(strstr(text, "not a database") != NULL);
}

static void other_urls_are_refused_with_the_reason(void)
{
	struct kit k = kit_at("none/such.db");
	char text[STORE_TEXT];
	CHECK_INT(kit_open(&k, text), STORE_EDOWN);
	CHECK(strstr(text, "No such file") != NULL);
	snprintf(k.url, sizeof(k.url), "sqlite:");
	CHECK(kit_open(&k, text) < 0);
	CHECK(strstr(text, "path") != NULL);
	snprintf(k.url, sizeof(k.url), "mysql://localhost");
	CHECK_INT(kit_open(&k, text), STORE_EBROKEN);
	CHECK(strstr(text, "sqlite:PATH or postgresql://") != NULL);
	snprintf(k.url, sizeof(k.url), "postgresql://nobody@/none?host=%s", folder);
	CHECK(kit_open(&k, text) < 0);
#ifdef HAVE_POSTGRESQL
	CHECK(strstr(text, "connect") != NULL);
	snprintf(k.url, sizeof(k.url), "postgresql://nobody@/none?host=%s&schema=Robert'); DROP", folder);
	CHECK_INT(kit_open(&k, text), STORE_EBROKEN);
	CHECK(strstr(text, "schema in the store's URL") != NULL);
#else
	CHECK(strstr(text, "without PostgreSQL") != NULL);
#endif
}

static off_t size_of(const struct kit *k, const char *end)
{
	char path[1200];
	struct stat st;
	snprintf(path, sizeof(path), "%s%s", path_of(k), end);
	return stat(path, &st) == 0 ? st.st_size : -1;
}

/* 24 jobs of 4 MiB come and go. */
static void the_file_gets_shorter_again_and_the_log_stays_short(void)
{
	enum { N = 24, SIZE = 4 << 20 };
	struct kit k = kit_at("size.db");
	char text[STORE_TEXT];
	void *large = calloc(1, SIZE);
	CHECK_INT(kit_open(&k, text), STORE_OK);
	for (int i = 0; i < N; i++) {
		struct store_new a = kit_job(kit_ids(&k, 1));
		a.request = large;
		a.request_len = SIZE;
		CHECK_INT(kit_add(&k, &a), STORE_OK);
		CHECK(size_of(&k, "-wal") < 40 << 20);
	}
	off_t before = 0;
	for (int i = 0; i < 1000 && before < (off_t)(N - 6) * SIZE; i++) { /* checkpoints bring it into the file */
		kit_wait(&k, 10);
		kit_ids(&k, 1);
		before = size_of(&k, "");
	}
	CHECK(before >= (off_t)(N - 6) * SIZE);
	struct store_op *c = kit_claim(&k, 0, N);
	CHECK_INT(c->n_out, N);
	for (int i = 0; i < N; i++)
		CHECK_INT(kit_log(&k, c->jobs[i].id, c->jobs[i].token, 0, 0, NULL, STORE_DONE), STORE_OK);
	store_op_free(c);
	off_t now = before;
	for (int i = 0; i < 2000 && now > 30 << 20; i++) {
		kit_wait(&k, 10);
		kit_ids(&k, 1);
		now = size_of(&k, "");
	}
	CHECK(now <= 30 << 20);
	printf("%lld MiB, then %lld MiB\n", (long long)before >> 20, (long long)now >> 20);
	free(large);
	kit_close(&k);
}

int main(void)
{
	folder = kit_folder();
	a_second_daemon_is_refused_with_the_process_that_has_it();
	its_files_are_for_the_daemon_alone();
	a_newer_schema_is_refused();
	a_damaged_file_is_refused();
	other_urls_are_refused_with_the_reason();
	the_file_gets_shorter_again_and_the_log_stays_short();
	free(folder);
	return 0;
}
