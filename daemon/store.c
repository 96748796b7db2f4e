/* store.c: the front of the store: the list of ops, the writer thread, group commit, what happens when the disk or the server does
 * not play along.
 *
 *     WORKING --- commit fails: full, down, broken ---> FAILING
 *        ^                                                 |
 *        +--- a try succeeds (pauses grow to PAUSE_MAX) ---+
 *
 * While it fails, every op that can be answered gets the code; stubborn ones, and what stands behind them of the same job, wait in
 * front; reads are served where that is possible.
 *
 * A transaction that fails for another reason (one op is bad, not the world) is run again op by op, so that one bad op fails alone.
 */
#include "config.h"
#include "bell.h"
#include "store.h"
#include "store_op.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { GROUP_OPS = 4096, GROUP_TRIES = 8, PAUSE_MIN = 50, PAUSE_MAX = 1000, CLOSE_MS = 5000, TIDY_MS = 1000 };
static const size_t group_bytes = 16 << 20;

struct oplist {
	struct store_op *first, **tail;
	size_t n;
};

struct store {
	const struct store_backend *backend;
	void *self;
	void (*wake)(void *arg);
	void (*log)(void *arg, int level, const char *text);
	void *arg;
	pthread_t thread;
	struct bell bell; /* look at `in`; rung while the writer waits only */

	pthread_mutex_t lock; /* guards what follows up to here */
	struct oplist in, out;
	bool hint, closing, asleep;
	struct store_health health;

	/* of the writer */
	struct oplist waiting;             /* in order; stubborn ones that failed in front */
	struct oplist doubt;               /* a group whose commit nobody knows about */
	int64_t try_at, close_at, tidy_at; /* monotonic ms; try_at 0: now */
	int pause;
	int bad; /* 0, or the failure that lasts */
	bool tidy_more;
};

static int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * (int64_t)1000 + t.tv_nsec / 1000000;
}

static int64_t now_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * (int64_t)1000000 + t.tv_nsec / 1000;
}

/* ---- lists ----------------------------------------------------------------------------------------------------------------------
 */

static void list_init(struct oplist *l)
{
	*l = (struct oplist){NULL, &l->first, 0};
}

static void list_add(struct oplist *l, struct store_op *op)
{
	op->next = NULL;
	*l->tail = op;
	l->tail = &op->next;
	l->n++;
}

static struct store_op *list_take(struct oplist *l)
{
	struct store_op *op = l->first;
	if (!op)
		return NULL;
	l->first = op->next;
	if (!l->first)
		l->tail = &l->first;
	l->n--;
	return op;
}

/* All of b behind a; b is empty then. */
static void list_append(struct oplist *a, struct oplist *b)
{
	if (!b->first)
		return;
	*a->tail = b->first;
	a->tail = b->tail;
	a->n += b->n;
	list_init(b);
}

static void list_prepend(struct oplist *a, struct oplist *b)
{
	list_append(b, a);
	a->first = b->first;
	a->tail = b->first ? b->tail : &a->first;
	a->n = b->n;
	list_init(b);
}

/* ---- finishing ------------------------------------------------------------------------------------------------------------------
 */

static void finish_list(struct store *s, struct oplist *done)
{
	if (!done->first)
		return;
	pthread_mutex_lock(&s->lock);
	bool was_empty = !s->out.first;
	s->health.waiting -= done->n;
	list_append(&s->out, done);
	pthread_mutex_unlock(&s->lock);
	if (was_empty)
		s->wake(s->arg);
}

static void op_fail(struct store_op *op, int code, const char *text)
{
	store_op_restore(op);
	op->code = code;
	snprintf(op->text, sizeof(op->text), "%s", text);
}

static void say(struct store *s, int level, const char *what, const char *text)
{
	char line[STORE_TEXT + 64];
	if (!s->log)
		return;
	snprintf(line, sizeof(line), "store: %s%s%s", what, text[0] ? ": " : "", text);
	s->log(s->arg, level, line);
}

static void set_health(struct store *s, int code, const char *text)
{
	pthread_mutex_lock(&s->lock);
	bool changed = s->health.code != code;
	if (changed) {
		s->health.code = code;
		s->health.since_ms = now_ms();
	}
	snprintf(s->health.text, sizeof(s->health.text), "%s", text);
	pthread_mutex_unlock(&s->lock);
	if (changed && code == STORE_OK)
		say(s, 5, "works again", "");
	else if (changed)
		say(s, 3,
		    code == STORE_EFULL   ? "no space, or read-only"
		    : code == STORE_EDOWN ? "cannot be reached"
					  : "needs a person",
		    text);
}

static void works(struct store *s)
{
	s->pause = 0;
	s->try_at = 0;
	if (s->bad)
		set_health(s, STORE_OK, "");
	s->bad = 0;
}

static void fails(struct store *s, int code, const char *text)
{
	s->pause = s->pause ? s->pause * 2 : PAUSE_MIN;
	if (s->pause > PAUSE_MAX)
		s->pause = PAUSE_MAX;
	/* Not all daemons of a fleet at the same moment. */
	s->try_at = now_ms() + s->pause - (s->backend->fleet ? (int64_t)(now_us() % (s->pause / 2)) : 0);
	s->bad = code;
	set_health(s, code, text);
}

static bool is_lasting(int code)
{
	return code == STORE_EFULL || code == STORE_EDOWN || code == STORE_EBROKEN;
}

/* ---- one transaction ------------------------------------------------------------------------------------------------------------
 */

static void count_commit(struct store *s, size_t ops, int64_t us)
{
	pthread_mutex_lock(&s->lock);
	struct store_health *h = &s->health;
	h->commits++;
	h->ops += ops;
	h->commit_us_total += (uint64_t)us;
	if ((uint64_t)us > h->commit_us_max)
		h->commit_us_max = (uint64_t)us;
	pthread_mutex_unlock(&s->lock);
}

/* All of l in one transaction. On failure nothing of it happened, except with STORE_DOUBT. */
static int run_once(struct store *s, const struct oplist *l, char text[static STORE_TEXT])
{
	const struct store_backend *b = s->backend;
	int64_t start = now_us();
	int rc = b->begin(s->self, text);
	for (struct store_op *op = l->first; op && rc >= 0; op = op->next) {
		store_op_restore(op);
		rc = b->apply(s->self, op, text);
	}
	if (rc >= 0)
		rc = b->commit(s->self, text);
	if (rc < 0 && rc != STORE_DOUBT)
		b->rollback(s->self);
	if (rc >= 0)
		count_commit(s, l->n, now_us() - start);
	return rc;
}

static int run(struct store *s, const struct oplist *l, char text[static STORE_TEXT])
{
	int rc = STORE_AGAIN;
	for (int i = 0; i < GROUP_TRIES && rc == STORE_AGAIN; i++) {
		if (i) {
			pthread_mutex_lock(&s->lock);
			s->health.retries++;
			pthread_mutex_unlock(&s->lock);
		}
		rc = run_once(s, l, text);
	}
	return rc == STORE_AGAIN ? STORE_EDOWN : rc;
}

/* ---- groups ---------------------------------------------------------------------------------------------------------------------
 */

/* As much from the front of the list as one transaction should have. */
static void take_group(struct store *s, struct oplist *group)
{
	size_t bytes = 0;
	list_init(group);
	while (s->waiting.first && group->n < GROUP_OPS) {
		size_t more = store_op_bytes(s->waiting.first);
		if (group->n && bytes + more > group_bytes)
			break;
		bytes += more;
		list_add(group, list_take(&s->waiting));
	}
}

/* The world is bad: finishes all but the stubborn ones, and what stands behind one of the same job (ops of a job finish in order).
 */
static void give_up(struct store *s, int code, const char *text)
{
	struct oplist kept, done;
	struct store_op *op;
	uint64_t stuck[16] = {0}; /* of jobs: one bit by the low bits of the number; a false hit only waits */
	list_init(&kept);
	list_init(&done);
	while ((op = list_take(&s->waiting))) {
		unsigned bit = (unsigned)(op->job & 1023);
		bool behind = op->job && (stuck[bit / 64] >> bit % 64 & 1);
		if (!op->stubborn && !behind) {
			op_fail(op, code, text);
			list_add(&done, op);
			continue;
		}
		if (op->job)
			stuck[bit / 64] |= 1ull << bit % 64;
		list_add(&kept, op);
	}
	s->waiting = kept;
	if (!kept.first)
		list_init(&s->waiting);
	finish_list(s, &done);
}

/* One op is bad, not the world: each runs alone, and fails alone. */
static void run_singly(struct store *s, struct oplist *group)
{
	struct store_op *op;
	char text[STORE_TEXT] = "";
	while ((op = list_take(group))) {
		struct oplist one, rest;
		list_init(&one);
		list_add(&one, op);
		int rc = run(s, &one, text);
		if (rc == STORE_DOUBT || is_lasting(rc)) {
			rest = *group;
			if (!rest.first)
				list_init(&rest);
			list_init(group);
			list_prepend(&s->waiting, &rest);
			if (rc == STORE_DOUBT)
				list_append(&s->doubt, &one);
			else
				list_prepend(&s->waiting, &one);
			fails(s, rc == STORE_DOUBT ? STORE_EDOWN : rc, text);
			return;
		}
		if (rc < 0)
			op_fail(op, rc, text);
		else
			works(s);
		finish_list(s, &one);
	}
}

static void run_group(struct store *s)
{
	struct oplist group;
	char text[STORE_TEXT] = "";
	take_group(s, &group);
	int rc = run(s, &group, text);
	if (rc >= 0) {
		works(s);
		finish_list(s, &group);
	} else if (rc == STORE_DOUBT) {
		list_append(&s->doubt, &group);
		fails(s, STORE_EDOWN, text);
	} else if (is_lasting(rc)) {
		list_prepend(&s->waiting, &group);
		fails(s, rc, text);
	} else if (group.n > 1) {
		run_singly(s, &group);
	} else {
		op_fail(group.first, rc, text);
		finish_list(s, &group);
	}
}

/* While nothing can be written: what only reads is answered at once, when it stands behind nothing of its job. */
static void serve_reads(struct store *s)
{
	struct oplist reads, rest;
	struct store_op *op;
	uint64_t stuck[16] = {0};
	char text[STORE_TEXT] = "";
	list_init(&reads);
	list_init(&rest);
	while ((op = list_take(&s->waiting))) {
		unsigned bit = (unsigned)(op->job & 1023);
		bool behind = op->job && (stuck[bit / 64] >> bit % 64 & 1);
		if (store_op_reads(op) && !behind && reads.n < GROUP_OPS) {
			list_add(&reads, op);
			continue;
		}
		if (op->job)
			stuck[bit / 64] |= 1ull << bit % 64;
		list_add(&rest, op);
	}
	list_append(&s->waiting, &rest);
	if (!reads.first)
		return;
	if (run(s, &reads, text) >= 0)
		finish_list(s, &reads);
	else
		list_prepend(&s->waiting, &reads);
}

/* The fate of a commit during which the server went. Its ops wait for the truth, whatever they are. */
static void settle(struct store *s)
{
	char text[STORE_TEXT] = "";
	int rc = s->backend->settle(s->self, text);
	if (rc == STORE_OK) {
		works(s);
		finish_list(s, &s->doubt);
	} else if (rc == STORE_STALE) {
		works(s);
		list_prepend(&s->waiting, &s->doubt); /* nothing of it happened: it is run as if it were new */
	} else {
		fails(s, rc, text);
	}
}

/* ---- the writer -----------------------------------------------------------------------------------------------------------------
 */

static int wait_ms(const struct store *s, int64_t now)
{
	int64_t until = s->tidy_more && !s->bad ? now : s->tidy_at;
	if (s->waiting.first || s->doubt.first)
		until = s->bad ? s->try_at : now;
	else if (s->bad && s->try_at < until)
		until = s->try_at;
	if (s->close_at && s->close_at < until)
		until = s->close_at;
	return until <= now ? 0 : until - now > 60000 ? 60000 : (int)(until - now);
}

/* Until there is something to do. The bell is rung only while `asleep` is set, which is set under the lock with an empty list.
 */
static void wait_for_work(struct store *s)
{
	struct pollfd fds[2] = {{.fd = bell_fd(&s->bell), .events = POLLIN}, {.fd = s->backend->hint_fd(s->self), .events = POLLIN}};
	int ms = wait_ms(s, now_ms());
	pthread_mutex_lock(&s->lock);
	bool look = s->in.first || (s->closing && !s->close_at) || ms == 0;
	s->asleep = !look;
	pthread_mutex_unlock(&s->lock);
	if (!look)
		poll(fds, fds[1].fd >= 0 ? 2 : 1, ms);
	pthread_mutex_lock(&s->lock);
	s->asleep = false;
	bell_hear(&s->bell);
	list_append(&s->waiting, &s->in);
	if (s->closing && !s->close_at)
		s->close_at = now_ms() + CLOSE_MS;
	pthread_mutex_unlock(&s->lock);
}

static void look_for_hint(struct store *s)
{
	if (!s->backend->take_hint(s->self))
		return;
	pthread_mutex_lock(&s->lock);
	s->hint = true;
	pthread_mutex_unlock(&s->lock);
	s->wake(s->arg);
}

static void tidy(struct store *s)
{
	char text[STORE_TEXT] = "";
	int rc = s->backend->tidy(s->self, text);
	s->tidy_more = rc == 1;
	s->tidy_at = now_ms() + TIDY_MS;
	if (is_lasting(rc))
		fails(s, rc, text);
	else if (rc < 0)
		say(s, 4, "tidying", text);
}

/* While it fails and no op waits: does a write work again? */
static void probe(struct store *s)
{
	struct store_op op = {.kind = STORE_OP_IDS};
	struct oplist one;
	char text[STORE_TEXT] = "";
	store_op_save(&op);
	list_init(&one);
	list_add(&one, &op);
	int rc = run(s, &one, text);
	if (rc == STORE_DOUBT) /* of no consequence */
		rc = STORE_EDOWN;
	if (rc >= 0)
		works(s);
	else
		fails(s, is_lasting(rc) ? rc : s->bad, text);
}

/* The code that lasts is in s->bad, its text in the health. */
static void answer_failing(struct store *s)
{
	if (s->bad == STORE_EFULL && !s->doubt.first)
		serve_reads(s);
	give_up(s, s->bad, s->health.text);
}

static void work(struct store *s)
{
	if (s->bad && now_ms() < s->try_at) {
		if (s->bad == STORE_EFULL && !s->doubt.first)
			serve_reads(s);
		return;
	}
	if (s->doubt.first)
		settle(s);
	else if (s->waiting.first)
		run_group(s);
	else if (s->bad)
		probe(s);
	if (s->bad) {
		answer_failing(s);
		return;
	}
	if (s->tidy_more || now_ms() >= s->tidy_at || s->backend->wants_tidy(s->self))
		tidy(s);
}

static void *writer(void *arg)
{
	struct store *s = arg;
	for (;;) {
		wait_for_work(s);
		bool over = s->close_at && ((!s->waiting.first && !s->doubt.first) || now_ms() >= s->close_at);
		if (over)
			return NULL;
		work(s);
		look_for_hint(s);
	}
}

/* ---- the loop's side ------------------------------------------------------------------------------------------------------------
 */

void store_submit(struct store *s, struct store_op *op)
{
	store_op_save(op);
	pthread_mutex_lock(&s->lock);
	list_add(&s->in, op);
	s->health.waiting++;
	bool asleep = s->asleep;
	s->asleep = false;
	pthread_mutex_unlock(&s->lock);
	if (asleep)
		bell_ring(&s->bell);
}

bool store_take(struct store *s, unsigned max, bool *hint)
{
	struct oplist done;
	struct store_op *op;
	list_init(&done);
	pthread_mutex_lock(&s->lock);
	while (max-- > 0 && (op = list_take(&s->out)))
		list_add(&done, op);
	bool more = s->out.first != NULL;
	if (hint) {
		*hint = s->hint;
		s->hint = false;
	}
	pthread_mutex_unlock(&s->lock);
	while ((op = list_take(&done)))
		op->done(op, op->arg);
	return more;
}

void store_get_health(struct store *s, struct store_health *out)
{
	pthread_mutex_lock(&s->lock);
	*out = s->health;
	pthread_mutex_unlock(&s->lock);
}

bool store_is_fleet(const struct store *s)
{
	return s->backend->fleet;
}

const char *store_backend_name(const struct store *s)
{
	return s->backend->name;
}

/* ---- opening and closing --------------------------------------------------------------------------------------------------------
 */

static const struct store_backend *find_backend(const char *url, char text[static STORE_TEXT])
{
	static const struct store_backend *const backends[] = {
		&store_sqlite,
#ifdef HAVE_POSTGRESQL
		&store_postgres,
#endif
	};
	size_t scheme = strcspn(url, ":");
	for (size_t i = 0; i < sizeof(backends) / sizeof(backends[0]); i++)
		if (strlen(backends[i]->scheme) == scheme && strncmp(url, backends[i]->scheme, scheme) == 0)
			return backends[i];
	if (strncmp(url, "postgresql:", 11) == 0)
		snprintf(text, STORE_TEXT, "this weftd was built without PostgreSQL (configure --with-postgresql)");
	else
		snprintf(text, STORE_TEXT, "a store is sqlite:PATH or postgresql://...");
	return NULL;
}

static void no_wake(void *arg)
{
}

static void destroy(struct store *s)
{
	if (s->self)
		s->backend->close(s->self);
	bell_close(&s->bell);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

int store_open(struct store **out, const struct store_params *p, char text[static STORE_TEXT])
{
	const struct store_backend *b = find_backend(p->url, text);
	struct store *s = b ? calloc(1, sizeof(*s)) : NULL;
	if (!b)
		return STORE_EBROKEN;
	if (!s) {
		snprintf(text, STORE_TEXT, "out of memory");
		return STORE_ENOMEM;
	}
	s->backend = b;
	s->wake = p->wake ? p->wake : no_wake;
	s->log = p->log;
	s->arg = p->arg;
	pthread_mutex_init(&s->lock, NULL);
	list_init(&s->in);
	list_init(&s->out);
	list_init(&s->waiting);
	list_init(&s->doubt);
	s->health.since_ms = now_ms();
	int rc = STORE_EDOWN;
	if (bell_open(&s->bell) == 0)
		rc = b->open(&s->self, p, text);
	else
		snprintf(text, STORE_TEXT, "pipe: %s", strerror(errno));
	if (rc >= 0 && (errno = pthread_create(&s->thread, NULL, writer, s)) != 0) {
		snprintf(text, STORE_TEXT, "thread: %s", strerror(errno));
		rc = STORE_EDOWN;
	}
	if (rc < 0) {
		destroy(s);
		return rc;
	}
	*out = s;
	return 0;
}

void store_close(struct store *s)
{
	struct oplist left;
	struct store_op *op;
	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	s->closing = true;
	pthread_mutex_unlock(&s->lock);
	if (s->backend->hurry)
		s->backend->hurry(s->self);
	bell_ring(&s->bell);
	pthread_join(s->thread, NULL);
	list_init(&left);
	while ((op = list_take(&s->doubt))) {
		op_fail(op, STORE_EDOWN, "closed before the server told whether it is kept");
		list_add(&left, op);
	}
	do { /* a done() may submit once more */
		list_append(&s->waiting, &s->in);
		while ((op = list_take(&s->waiting))) {
			op_fail(op, STORE_EDOWN, s->bad ? s->health.text : "the store is closed");
			list_add(&left, op);
		}
		finish_list(s, &left);
	} while (store_take(s, 1000, NULL) || s->in.first);
	destroy(s);
}
