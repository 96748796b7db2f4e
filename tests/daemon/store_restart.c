/* store_restart.c URL ROUNDS COMMAND: COMMAND makes the server crash and come up again, while jobs are added and events are logged.
 * An addition that was told to be kept is kept; one that was told to have failed is not there, even where the server went in the
 * middle of its commit; a stubborn op waits for the server. */
#include "store_kit.h"
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

enum { OPS_MAX = 20000, WINDOW = 64 };

static pid_t restart(const char *command)
{
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	return pid;
}

static struct store_op *add_op(uint64_t id)
{
	struct store_op *op = kit_op(STORE_OP_ADD);
	op->add = malloc(sizeof(struct store_new));
	op->add[0] = kit_job(id);
	op->n_add = 1;
	return op;
}

static struct store_op *log_op(uint64_t job, uint32_t from)
{
	const char *list[] = {"event"};
	struct store_op *op = kit_op(STORE_OP_LOG);
	op->job = job;
	op->token = 7;
	op->from = from;
	op->n_events = 1;
	op->events = kit_chunk(1, list);
	op->stubborn = true;
	return op;
}

/* At least so many ops before and after the server has gone. */
static int work_while(struct kit *k, pid_t pid, uint64_t job, uint32_t *seq, uint64_t first, struct store_op **op)
{
	int n = 0, waited = 0, status = 0, after = 0;
	bool over = false;
	while (n < OPS_MAX && after < 200) {
		op[n] = n % 4 ? add_op(first + (uint64_t)n) : log_op(job, (*seq)++);
		kit_submit(k, op[n]);
		n++;
		while (n - waited >= WINDOW)
			kit_wait_for(k, op[waited++]);
		over = over || waitpid(pid, &status, WNOHANG) == pid;
		after += over;
		if (!over && n % 16 == 0)
			poll(NULL, 0, 2); /* not all ops before the server even went */
	}
	if (!over)
		CHECK(waitpid(pid, &status, 0) == pid);
	CHECK_INT(status, 0);
	while (waited < n)
		kit_wait_for(k, op[waited++]);
	return n;
}

int main(int argc, char **argv)
{
	CHECK_INT(argc, 4);
	static struct store_op *op[OPS_MAX];
	struct kit k = {.quiet = true};
	char text[STORE_TEXT];
	size_t kept = 0, refused = 0;
	uint32_t seq = 0;
	snprintf(k.url, sizeof(k.url), "%s&schema=restart", argv[1]);
	CHECK_INT(kit_open(&k, text), STORE_OK);
	struct store_new a = kit_job(kit_ids(&k, 1));
	a.hold = true;
	a.token = 7;
	CHECK_INT(kit_add(&k, &a), STORE_OK);
	for (int round = 0; round < atoi(argv[2]); round++) {
		uint64_t first = kit_ids(&k, OPS_MAX);
		int n = work_while(&k, restart(argv[3]), a.id, &seq, first, op);
		for (int i = 0; i < n; i++) {
			if (op[i]->kind == STORE_OP_LOG) {
				CHECK_INT(op[i]->code, STORE_OK);
			} else {
				CHECK(op[i]->code == STORE_OK || op[i]->code == STORE_EDOWN);
				CHECK_INT(kit_state(&k, first + (uint64_t)i),
					  op[i]->code == STORE_OK ? STORE_QUEUED : STORE_NOTFOUND);
				kept += op[i]->code == STORE_OK;
				refused += op[i]->code != STORE_OK;
			}
			store_op_free(op[i]);
		}
		struct store_op *v = kit_view(&k, a.id);
		CHECK_INT(v->views[0].n_events, seq);
		store_op_free(v);
	}
	CHECK(kept > 0);
	printf("%s crashes of the server: %zu jobs kept, %zu refused and not there, %u events in order\n", argv[2], kept, refused,
	       seq);
	kit_close(&k);
	return 0;
}
