/* store_cut.c SOCKET URL CRASH: a connection that is cut at the very moment of a commit: once before the server got the word, once after,
 * and once with a server that crashes in that moment and then gives the transaction's number to another one that commits. Each time the
 * store finds out what became of it and says the truth. Between them stands a proxy on a Unix socket that knows the word COMMIT.
 *
 * CRASH is a command; it ends with 0 when the number was given again, and with 3 when the server had written it down. */
#include "config.h"
#include "store_kit.h"
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

enum cut { CUT_NOT, CUT_BEFORE, CUT_AFTER, CUT_CRASH };
enum { CRASHES = 8 }; /* of them one at least gives a number again: nearly always it is the first */
static atomic_int cut, cuts_made, given_again;
static const char *crash;
static struct sockaddr_un server;

static struct sockaddr_un address(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	return a;
}

static bool has_commit(const char *p, ssize_t n)
{
	return memmem(p, (size_t)n, "COMMIT", 6) != NULL;
}

static bool pass(int to, const char *p, ssize_t n)
{
	while (n > 0) {
		ssize_t m = send(to, p, (size_t)n, MSG_NOSIGNAL);
		if (m <= 0)
			return false;
		p += m;
		n -= m;
	}
	return true;
}

static void crash_server(void)
{
	int status = system(crash);
	CHECK(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 3));
	atomic_fetch_add(&given_again, WEXITSTATUS(status) == 0);
}

/* Until one side ends, or the word comes at which we cut. After it, the server's answer is waited for, so that it did commit. */
static void relay(int client, int upstream)
{
	struct pollfd fds[2] = {{.fd = client, .events = POLLIN}, {.fd = upstream, .events = POLLIN}};
	char buf[65536];
	while (poll(fds, 2, -1) > 0) {
		for (int i = 0; i < 2; i++) {
			ssize_t n = fds[i].revents ? recv(fds[i].fd, buf, sizeof(buf), 0) : -2;
			if (n == -2)
				continue;
			if (n <= 0)
				return;
			int how = i == 0 && has_commit(buf, n) ? atomic_exchange(&cut, CUT_NOT) : CUT_NOT;
			if (how != CUT_NOT)
				atomic_fetch_add(&cuts_made, 1);
			if (how == CUT_CRASH)
				crash_server();
			if (how == CUT_BEFORE || how == CUT_CRASH || !pass(fds[1 - i].fd, buf, n))
				return;
			if (how == CUT_AFTER) {
				recv(upstream, buf, sizeof(buf), 0);
				return;
			}
		}
	}
}

static void *serve(void *arg)
{
	int fd = *(int *)arg;
	for (int client; (client = accept(fd, NULL, NULL)) >= 0;) { /* the store has one connection at a time */
		int upstream = socket(AF_UNIX, SOCK_STREAM, 0);
		if (connect(upstream, (struct sockaddr *)&server, sizeof(server)) == 0)
			relay(client, upstream);
		close(client);
		close(upstream);
	}
	return NULL;
}

static void a_cut_commit_is_told_truly(struct kit *k, enum cut how, bool stubborn)
{
	struct store_new a = kit_job(kit_ids(k, 1));
	struct store_op *op = kit_op(STORE_OP_ADD);
	int before = atomic_load(&cuts_made);
	op->stubborn = stubborn;
	op->add = malloc(sizeof(a));
	op->add[0] = a;
	op->n_add = 1;
	atomic_store(&cut, (int)how);
	CHECK_INT(kit_run(k, op), STORE_OK);
	CHECK(atomic_load(&cuts_made) > before);
	store_op_free(op);
	CHECK_INT(kit_state(k, a.id), STORE_QUEUED);
}

int main(int argc, char **argv)
{
	char *folder = kit_folder(), text[STORE_TEXT], path[300];
	struct kit k = {.quiet = true};
	pthread_t thread;
	CHECK_INT(argc, 4);
	server = address(argv[1]);
	crash = argv[3];
	snprintf(path, sizeof(path), "%s/.s.PGSQL.5432", folder);
	struct sockaddr_un own = address(path);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK_INT(bind(fd, (struct sockaddr *)&own, sizeof(own)), 0);
	CHECK_INT(listen(fd, 8), 0);
	CHECK_INT(pthread_create(&thread, NULL, serve, &fd), 0);
	snprintf(k.url, sizeof(k.url), "%s?host=%s&schema=cut", argv[2], folder);
	CHECK_INT(kit_open(&k, text), STORE_OK);
	for (int i = 0; i < 20; i++)
		a_cut_commit_is_told_truly(&k, i % 2 ? CUT_AFTER : CUT_BEFORE, i % 4 < 2);
	for (int i = 0; i < CRASHES && atomic_load(&given_again) == 0; i++)
		a_cut_commit_is_told_truly(&k, CUT_CRASH, false);
	CHECK(atomic_load(&given_again) > 0);
	kit_close(&k);
	printf("%d commits cut, %d with a number that another transaction had then\n", atomic_load(&cuts_made), atomic_load(&given_again));
	free(folder);
	return 0;
}
