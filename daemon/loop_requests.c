/* loop_requests.c: requests in hand, from the socket to their replies. What is small and asks nothing of the file system is answered at
 * once; a worker prepares the rest, and what the same sender sent after it waits behind it. */
#include "log.h"
#include "loop_parts.h"
#include "request.h"
#include <stdlib.h>

/* A request on its way, and those of the same sender that came after it. */
struct ticket {
	uv_work_t work;
	struct in_hand *hand;
	struct incoming *in;
	unsigned counts; /* in hand->n */
	bool prepared;
	struct request request;
	TAILQ_ENTRY(ticket) link; /* in hand->working, or in followers */
	struct ticket_list followers;
};

static void end_ticket(struct ticket *t)
{
	t->hand->n -= t->counts;
	free(t);
}

/* The ticket ends with its reply, now or when the store has spoken. */
static void answer(struct ticket *t)
{
	struct in_hand *h = t->hand;
	struct incoming *in = t->in;
	struct request *r = &t->request;
	struct wire_buf reply;
	size_t len = 0;
	wire_buf_init(&reply);
	if (!request_answer(r, h->server, &reply)) {
		wire_buf_finish(&reply);
		return;
	}
	void *data = wire_buf_take(&reply, &len);
	wire_buf_finish(&reply);
	if (!data)
		log_error("out of memory: a request was not answered");
	if (!data || !sockets_reply(h->sockets, in, data, len))
		h->server->replies_lost++;
	if (!data)
		incoming_free(in);
	free(data);
	request_finish(r);
	end_ticket(t);
}

static void on_store_result(struct request *r)
{
	answer((struct ticket *)((char *)r - offsetof(struct ticket, request)));
}

/* [worker] */
static void work_on(uv_work_t *w)
{
	struct ticket *t = w->data;
	if (!t->prepared)
		request_prepare(&t->request);
	request_look(&t->request);
}

static void worked_on(uv_work_t *w, int status);

/* True: a worker has it. Else it was answered, and t is gone. */
static bool set_out(struct ticket *t)
{
	struct in_hand *h = t->hand;
	size_t size;
	const void *data = incoming_data(t->in, &size);
	request_init(&t->request, h->server, incoming_identity(t->in), data, size);
	t->request.ready = on_store_result;
	if (size <= REQUEST_SMALL) {
		request_prepare(&t->request);
		t->prepared = true;
	}
	t->work.data = t;
	if (!t->prepared || request_looks(&t->request)) {
		if (uv_queue_work(h->uv, &t->work, work_on, worked_on) == 0) {
			TAILQ_INSERT_TAIL(&h->working, t, link);
			return true;
		}
		work_on(&t->work);
	}
	answer(t);
	return false;
}

static void worked_on(uv_work_t *w, int status)
{
	struct ticket *t = w->data, *f;
	struct ticket_list followers = TAILQ_HEAD_INITIALIZER(followers);
	TAILQ_REMOVE(&t->hand->working, t, link);
	TAILQ_CONCAT(&followers, &t->followers, link);
	answer(t);
	while ((f = TAILQ_FIRST(&followers))) {
		TAILQ_REMOVE(&followers, f, link);
		if (set_out(f)) {
			TAILQ_CONCAT(&f->followers, &followers, link);
			break;
		}
	}
}

void in_hand_init(struct in_hand *h, uv_loop_t *uv, struct server *server, struct sockets *sockets)
{
	*h = (struct in_hand){.uv = uv, .server = server, .sockets = sockets};
	TAILQ_INIT(&h->working);
}

void in_hand_take(struct in_hand *h, struct incoming *in)
{
	struct ticket *before, *t = calloc(1, sizeof *t);
	size_t size;
	if (!t) {
		log_error("out of memory: a request was dropped");
		incoming_free(in);
		return;
	}
	incoming_data(in, &size);
	t->hand = h;
	t->in = in;
	t->counts = size > REQUEST_SMALL ? IN_HAND_LARGE : 1;
	h->n += t->counts;
	TAILQ_INIT(&t->followers);
	TAILQ_FOREACH(before, &h->working, link)
	if (incoming_same_sender(before->in, in))
		break;
	if (before)
		TAILQ_INSERT_TAIL(&before->followers, t, link);
	else
		set_out(t);
}

static void drop_tickets(struct ticket_list *list)
{
	struct ticket *t;
	while ((t = TAILQ_FIRST(list))) {
		TAILQ_REMOVE(list, t, link);
		incoming_free(t->in);
		end_ticket(t);
	}
}

void in_hand_drop_waiting(struct in_hand *h)
{
	struct ticket *t;
	TAILQ_FOREACH(t, &h->working, link)
	drop_tickets(&t->followers);
}

bool in_hand_has_workers(const struct in_hand *h)
{
	return !TAILQ_EMPTY(&h->working);
}
