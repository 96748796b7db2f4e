/* loop.c: the event loop; it and its parts (loop_*.c) are the files that know libuv. Every round of the loop goes through the same steps:
 *
 *      timers    one timer for the nearest deadline, one that measures lag, one that ticks for systemd
 *      prepare   is anything left to do? then idle keeps poll from sleeping
 *      poll      sleeps until a socket, the engine (its bell), a worker or a signal wakes it
 *      check     dispatch(): requests, subscriptions, engine events, deadlines: each bounded per round, so that none starves
 * another
 *
 * A ZeroMQ file descriptor is edge-triggered and tells of any change, and a send may use up the edge of a receive. So its callback
 * does nothing but wake the loop, and prepare and check ask the sockets themselves. Any number of rings are one: the engine's
 * list is taken whole.
 *
 * Life: LOADING (a worker reads the model) -> TESTING (one token through the engine) -> SERVING (sockets are bound, READY was said)
 *       -> LEAVING (the loop ends after this round). SIGTERM while LOADING ends the process at once: nothing was promised to
 * anybody. */
#include "loop.h"
#include "bell.h"
#include "boot.h"
#include "checker.h"
#include "fuse.h"
#include "loader.h"
#include "log.h"
#include "loop_parts.h"
#include "metrics_http.h"
#include "notify.h"
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	REQUESTS_PER_ROUND = 64,
	SUBSCRIPTIONS_PER_ROUND = 256,
	EVENTS_PER_ROUND = 512,
	DEADLINES_PER_ROUND = 256,
	LAG_MS = 20, /* how often lag is measured */
	ENGINE_NICE = 5,
	SLICE_NS = 200000,
	LINGER_MS = 2000 /* last events and replies get so long to leave */
};
#define ROUND_NS 2000000 /* about what requests may take of one round */

enum phase { LOADING, TESTING, SERVING, LEAVING };

struct loop {
	const struct loop_params *params;
	struct conf *conf;
	uv_loop_t uv;
	enum phase phase;
	int exit_code;
	/* handles, in the order of starting */
	uv_signal_t signals[5];
	uv_poll_t wake, loader_wake; /* of these bells */
	uv_timer_t tick, lag_timer, deadline_timer;
	uv_prepare_t prepare;
	uv_check_t check;
	uv_idle_t idle;
	uv_poll_t request_poll, answer_poll;
	bool polling; /* the two polls are there */
	uv_work_t loading;
	struct reload reload;
	struct bell bell, loader_bell;
	/* parts */
	struct core_model *model;
	struct engine *engine;
	struct loader *loader;
	struct checker *checker;
	struct sockets *sockets;
	struct metrics_http *http; /* NULL: not configured */
	struct server server;
	bool server_ready;
	atomic_int load_progress; /* 0..1000 */
	char why[CONF_WHY];       /* of the loading worker */
	int load_code;
	/* work in hand */
	struct in_hand in_hand;
	struct engine_event *events; /* taken, not handled yet */
	bool store_left;             /* ops are finished and were not looked at yet */
	size_t n_reviving;           /* claimed jobs with workers */
	uint64_t ids[2];             /* numbers for jobs, from the store */
	int terms;                   /* SIGTERMs so far */
	int64_t lag_due;
	uint64_t status_tokens; /* at the last tick */
	int64_t status_at;
};

static void serve(struct loop *l);

static void leave(struct loop *l, int code)
{
	if (l->phase == LEAVING)
		return;
	l->phase = LEAVING;
	l->exit_code = code;
	l->reload.ending = true;
	uv_stop(&l->uv);
}

/* ---- requests ---- */

static bool may_take_requests(const struct loop *l)
{
	return l->phase == SERVING && l->in_hand.n + l->n_reviving < IN_HAND_MOST;
}

static void take_requests(struct loop *l)
{
	int64_t until = clock_now() + ROUND_NS;
	for (int i = 0; i < REQUESTS_PER_ROUND && may_take_requests(l) && clock_now() < until; i++) {
		struct incoming *in = sockets_receive(l->sockets);
		if (!in)
			return;
		in_hand_take(&l->in_hand, in);
	}
}

/* ---- claimed jobs ---- */

struct reviving {
	uv_work_t work;
	struct loop *loop;
	struct revival *revival;
};

static void prepare_revival(uv_work_t *w)
{
	revival_prepare(((struct reviving *)w->data)->revival);
}

static void revived(uv_work_t *w, int status)
{
	struct reviving *g = w->data;
	g->loop->n_reviving--;
	durable_revived(&g->loop->server, g->revival);
	free(g);
}

static bool submit_revival(void *arg, struct revival *v)
{
	struct loop *l = arg;
	struct reviving *g = calloc(1, sizeof *g);
	if (!g)
		return false;
	*g = (struct reviving){.work.data = g, .loop = l, .revival = v};
	if (uv_queue_work(&l->uv, &g->work, prepare_revival, revived)) {
		free(g);
		return false;
	}
	l->n_reviving++;
	return true;
}

/* ---- adapters ---- */

static bool submit_load(void *arg, struct adapter_load *load)
{
	struct loop *l = (struct loop *)((char *)arg - offsetof(struct loop, server));
	loader_submit(l->loader, load);
	return true;
}

static void submit_check(void *arg, struct adapter_check *check)
{
	struct loop *l = (struct loop *)((char *)arg - offsetof(struct loop, server));
	checker_submit(l->checker, check);
}

static void on_loader_wake(void *arg)
{
	struct loop *l = arg;
	bell_ring(&l->loader_bell);
}

static void on_loaded(uv_poll_t *h, int status, int events)
{
	struct loop *l = h->data;
	bell_hear(&l->loader_bell);
	struct adapter_load *load;
	while (l->loader && (load = loader_take(l->loader)))
		server_adapter_loaded(&l->server, load);
	struct adapter_check *check = l->checker ? checker_take(l->checker) : NULL;
	if (check)
		adapters_checked(&l->server.adapters, check);
}

/* ---- subscriptions and events ---- */

static void take_subscriptions(struct loop *l)
{
	const char *topic;
	size_t len;
	for (int i = 0; i < SUBSCRIPTIONS_PER_ROUND; i++) {
		int on = sockets_subscription(l->sockets, &topic, &len);
		if (on < 0)
			return;
		if (!on) {
			sockets_admit(l->sockets, false, topic, len);
			server_unsubscribed(&l->server, topic, len);
		} else if (server_subscribed(&l->server, topic, len)) {
			sockets_admit(l->sockets, true, topic, len);
		}
	}
}

static void publish(void *arg, const char *topic, const void *data, size_t len)
{
	struct loop *l = arg;
	if (l->sockets)
		sockets_publish(l->sockets, topic, data, len);
}

static void on_test_event(struct loop *l, const struct engine_event *e)
{
	if (e->kind != EV_DONE)
		return;
	if (e->end == END_DONE && e->completion_tokens >= 1) {
		serve(l);
		return;
	}
	log_error("the self-test failed: %s", e->text ? e->text : "no token came out of the engine");
	leave(l, EXIT_INTERNAL);
}

/* The engine's list is taken whole when ours is empty, and worked off in portions. */
static void take_events(struct loop *l)
{
	for (int i = 0; i < EVENTS_PER_ROUND && l->engine; i++) {
		if (!l->events)
			l->events = engine_take_events(l->engine);
		struct engine_event *e = l->events;
		if (!e)
			return;
		l->events = e->next;
		if (e->job == BOOT_TEST_ID)
			on_test_event(l, e);
		else if (l->server_ready)
			server_engine_event(&l->server, e);
		engine_event_free(e);
	}
}

/* ---- metrics ---- */

static char *metrics_page(const struct loop *l, bool vllm)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	if (!f)
		return NULL;
	metrics_write(&l->server, f, vllm);
	if (fclose(f)) {
		free(text);
		return NULL;
	}
	return text;
}

/* Somebody waits for a page: it is written now, so it is true, and the loop is seen to turn. */
static void answer_metrics(struct loop *l)
{
	struct metrics_pages p = {.metrics = metrics_page(l, false), .vllm = metrics_page(l, true)};
	p.ready = server_ready(&l->server, p.health, sizeof p.health);
	metrics_http_answer(l->http, &p);
}

/* ---- the round ---- */

static void dispatch(struct loop *l)
{
	if (l->phase == SERVING) {
		take_requests(l);
		take_subscriptions(l);
	}
	take_events(l);
	if (l->phase != SERVING)
		return;
	if (l->http && metrics_http_wanted(l->http))
		answer_metrics(l);
	server_task_events(&l->server);
	l->store_left = durable_round(&l->server);
	deadlines_run(&l->server.deadlines, clock_now(), DEADLINES_PER_ROUND, &l->server);
	if (server_drained(&l->server) && l->in_hand.n + l->n_reviving == 0) {
		log_notice("all jobs have ended: leaving");
		leave(l, EXIT_CLEAN);
	}
}

static bool work_left(const struct loop *l)
{
	if (l->events || l->store_left)
		return true;
	return l->phase == SERVING &&
	       ((may_take_requests(l) && sockets_request_ready(l->sockets)) || sockets_answer_ready(l->sockets));
}

static void on_idle(uv_idle_t *h)
{
}

static void on_deadline_timer(uv_timer_t *h)
{
}

static void arm_deadline_timer(struct loop *l)
{
	int64_t next = deadlines_next(&l->server.deadlines);
	if (next == INT64_MAX) {
		uv_timer_stop(&l->deadline_timer);
		return;
	}
	int64_t wait = next - clock_now();
	uv_update_time(&l->uv);
	uv_timer_start(&l->deadline_timer, on_deadline_timer, wait > 0 ? (uint64_t)wait / 1000000 + 1 : 0, 0);
}

/* At the end of a round the events that held blends of dropped adapters are freed: now the last reference is the loader's. */
static void drop_adapters(struct loop *l)
{
	struct adapter_version *dropped = adapters_take_dropped(&l->server.adapters);
	if (dropped)
		loader_drop(l->loader, dropped);
}

static void on_prepare(uv_prepare_t *h)
{
	struct loop *l = h->data;
	if (l->phase == SERVING)
		arm_deadline_timer(l);
	if (l->server_ready)
		drop_adapters(l);
	if (work_left(l))
		uv_idle_start(&l->idle, on_idle);
	else
		uv_idle_stop(&l->idle);
}

static void on_check(uv_check_t *h)
{
	struct loop *l = h->data;
	uv_idle_stop(&l->idle);
	dispatch(l);
}

static void on_wake(uv_poll_t *h, int status, int events)
{
	struct loop *l = h->data;
	bell_hear(&l->bell); /* check follows in the same round and takes the events */
}

/* [engine, tasks] */
static void on_engine_wake(void *arg)
{
	struct loop *l = arg;
	bell_ring(&l->bell);
}

static void on_poll(uv_poll_t *h, int status, int events)
{
	/* see the top of this file */
}

/* How late a timer comes is how long everything else has to wait. libuv counts in whole milliseconds: below one, this is noise. */
static void on_lag(uv_timer_t *h)
{
	struct loop *l = h->data;
	int64_t now = clock_now(), late = now - l->lag_due;
	if (l->lag_due)
		histogram_add(&l->server.lag, late > 0 ? (uint64_t)late / 1000 : 0);
	l->lag_due = now + LAG_MS * 1000000;
}

/* ---- systemd ---- */

static void tell_status(struct loop *l)
{
	const struct engine_stats *e = engine_stats(l->engine);
	const struct jobs *j = &l->server.jobs;
	uint64_t tokens = atomic_load(&e->draws);
	int64_t now = clock_now();
	double rate = l->status_at ? (double)(tokens - l->status_tokens) * 1e9 / (double)(now - l->status_at) : 0;
	notify_send("STATUS=%s: %s, %" PRIu64 " running, %" PRIu64 " waiting, %.1f tokens/s", core_model_info(l->model)->name,
		    server_state_name(&l->server), j->count[JOB_RUNNING], j->count[JOB_QUEUED] + j->count[JOB_PREEMPTED], rate);
	l->status_tokens = tokens;
	l->status_at = now;
}

static void on_tick(uv_timer_t *h)
{
	struct loop *l = h->data;
	if (l->phase == LOADING || l->phase == TESTING) {
		notify_send("EXTEND_TIMEOUT_USEC=30000000\nSTATUS=loading %s: %d %%", l->conf->model,
			    atomic_load(&l->load_progress) / 10);
		return;
	}
	if (l->phase != SERVING)
		return;
	if (l->server.state == SERVER_DRAINING)
		notify_send("EXTEND_TIMEOUT_USEC=10000000");
	tell_status(l);
	/* Honest: this loop ticks, or we would not be here; and the engine makes steps, or has none to make. */
	if (server_engine_alive(&l->server, clock_now()))
		notify_send("WATCHDOG=1");
	else
		log_error("the engine has work and made no step for %" PRId64 " ms", l->conf->stall_timeout);
}

/* ---- signals ---- */

static void on_terminate(struct loop *l)
{
	l->terms++;
	notify_send("STOPPING=1");
	if (l->phase == LOADING) {
		/* The worker cannot be interrupted, and nobody was promised anything. */
		log_notice("told to stop while loading");
		_Exit(EXIT_CLEAN);
	}
	if (l->phase != SERVING) {
		leave(l, EXIT_CLEAN);
	} else if (l->terms == 1) {
		log_notice("told to stop: draining for at most %" PRId64 " ms", l->conf->drain_timeout);
		server_drain(&l->server);
	} else {
		log_notice("told to stop again: stopping now");
		server_stop_now(&l->server);
	}
}

static void on_signal(uv_signal_t *h, int number)
{
	struct loop *l = h->data;
	switch (number) {
	case SIGTERM:
	case SIGINT:
		on_terminate(l);
		break;
	case SIGHUP:
		if (l->phase == SERVING)
			reload_ask(&l->reload);
		break;
	case SIGUSR1:
	case SIGUSR2:
		if (l->phase == SERVING && server_pause(&l->server, number == SIGUSR1) == 0)
			log_notice(number == SIGUSR1 ? "paused: no new work until SIGUSR2 or `resume`" : "resumed");
		break;
	}
}

/* ---- start ---- */

static int open_store(struct loop *l)
{
	const struct core_model_info *m = core_model_info(l->model);
	char model[160];
	if (strcmp(l->conf->store, "none") == 0 || (strcmp(l->conf->store, "auto") == 0 && !l->conf->state[0]))
		return 0;
	snprintf(model, sizeof model, "%.64s/%s", m->digest, m->quant);
	return durable_open(&l->server.durable, l->ids, l->conf, model, on_engine_wake, l, l->why, sizeof l->why);
}

/* The engine's threads are born of this one and inherit its niceness: they use every CPU there is, and the loop must get one at
 * once when it wakes. On a machine of its own this costs the engine nothing. */
static void load(uv_work_t *w)
{
	struct loop *l = w->data;
	setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + ENGINE_NICE); /* of the calling thread, on Linux */
	fuse_sweep_all(l->conf->adapters, l->conf->fuse_output);
	l->load_code = boot_model(&l->model, l->conf, &l->load_progress, l->why);
	if (!l->load_code)
		l->load_code = boot_engine(&l->engine, l->conf, l->model, on_engine_wake, l, l->why);
	if (!l->load_code)
		l->load_code = open_store(l);
}

static void loaded(uv_work_t *w, int status)
{
	struct loop *l = w->data;
	const struct core_model_info *m = l->model ? core_model_info(l->model) : NULL;
	if (l->load_code) {
		log_error("%s", l->why);
		leave(l, l->load_code);
		return;
	}
	log_info("%s: %s, %u layers, %" PRIu64 " parameters, %s, context %u, %s, %d threads, %u pages of %s", m->name, m->arch,
		 m->layers, m->parameters, m->quant, engine_context(l->engine), engine_backend(l->engine), engine_threads(l->engine),
		 engine_pages_total(l->engine), engine_kv_type(l->engine));
	l->server.plugins = boot_plugins(l->conf, l->why);
	struct engine_job *test = l->server.plugins ? boot_test_job(l->server.plugins, l->model, l->why) : NULL;
	if (!test) {
		log_error("%s", l->why);
		leave(l, EXIT_UNAVAILABLE);
		return;
	}
	l->phase = TESTING;
	engine_submit(l->engine, test);
}

static int start_polls(struct loop *l)
{
	if (uv_poll_init(&l->uv, &l->request_poll, sockets_request_fd(l->sockets)) ||
	    uv_poll_init(&l->uv, &l->answer_poll, sockets_answer_fd(l->sockets)))
		return -1;
	l->polling = true;
	return uv_poll_start(&l->request_poll, UV_READABLE, on_poll) || uv_poll_start(&l->answer_poll, UV_READABLE, on_poll) ? -1
															     : 0;
}

/* Asks the scheduler for short and prompt turns (Linux 6.12 and later honour it without privilege): this thread works for
 * microseconds and then sleeps. The socket threads are born later and inherit it. Where it is not honoured, nothing is lost but
 * some lag. */
static void ask_for_short_slices(void)
{
	struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period; /* ns; runtime: the slice of an ordinary thread */
	} attr = {.size = sizeof attr, .policy = SCHED_OTHER, .nice = getpriority(PRIO_PROCESS, 0), .runtime = SLICE_NS};
	syscall(SYS_sched_setattr, 0, &attr, 0);
}

static int open_sockets(struct loop *l)
{
	struct keys keys;
	char why[CONF_WHY];
	if (keys_load(&keys, l->conf, why)) {
		log_error("%s", why);
		return EXIT_CONFIG;
	}
	if (keys.wanted)
		log_info("CURVE: the server's public key is %s, %zu clients may connect", keys.public, keys.clients.n);
	if (l->conf->allow_plain_tcp)
		log_warning("allow_plain_tcp = yes: anyone who reaches the port may use the service and read every answer");
	int rc = sockets_open(&l->sockets, l->conf, &keys, why);
	keys_finish(&keys);
	if (rc)
		log_error("%s", why);
	return rc;
}

/* The self-test has passed: now the sockets may be seen. */
static void serve(struct loop *l)
{
	struct server *s = &l->server;
	s->conf = l->conf;
	s->model = l->model;
	s->engine = l->engine;
	s->publish = publish;
	s->publish_arg = l;
	if (loader_new(&l->loader, on_loader_wake, l)) {
		log_error("the thread that loads adapters does not start");
		leave(l, EXIT_INTERNAL);
		return;
	}
	if (checker_new(&l->checker, on_loader_wake, l)) {
		log_error("the thread that checks adapters does not start");
		leave(l, EXIT_INTERNAL);
		return;
	}
	s->adapters.submit = submit_load;
	s->adapters.check = submit_check;
	s->adapters.arg = s;
	s->durable.submit = submit_revival;
	s->durable.arg = l;
	s->tasks.wake = on_engine_wake;
	s->tasks.arg = l;
	if (server_init(s, l->why)) {
		log_error("%s", l->why);
		leave(l, EXIT_CONFIG);
		return;
	}
	if (s->durable.store) {
		jobs_add_ids(&s->jobs, l->ids[0], l->ids[1]);
		log_info("store: %s, this daemon is %s", store_backend_name(s->durable.store), s->durable.owner);
	}
	l->server_ready = true;
	ask_for_short_slices();
	int rc = open_sockets(l);
	if (rc || start_polls(l)) {
		leave(l, rc ? rc : EXIT_INTERNAL);
		return;
	}
	if (l->conf->metrics[0] && metrics_http_start(&l->http, l->conf->metrics, on_engine_wake, l, l->why)) {
		log_error("%s", l->why);
		leave(l, EXIT_CONFIG);
		return;
	}
	in_hand_init(&l->in_hand, &l->uv, s, l->sockets);
	reload_init(&l->reload, &l->uv, s, l->sockets, l->params);
	l->phase = SERVING;
	uv_timer_start(&l->lag_timer, on_lag, LAG_MS, LAG_MS);
	notify_send("READY=1");
	tell_status(l);
	log_notice("ready: requests on %s, answers on %s", l->conf->request, l->conf->answer);
	if (l->http)
		log_notice("metrics on port %u of %s", metrics_http_port(l->http), l->conf->metrics);
}

static const int signal_numbers[5] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2};

static int start(struct loop *l)
{
	uint64_t watchdog_ms = notify_watchdog_us() / 1000, tick = watchdog_ms && watchdog_ms < 1000 ? watchdog_ms : 1000;
	if (bell_open(&l->bell) || bell_open(&l->loader_bell) || uv_loop_init(&l->uv))
		return -1;
	for (int i = 0; i < 5; i++) {
		uv_signal_init(&l->uv, &l->signals[i]);
		l->signals[i].data = l;
		uv_signal_start(&l->signals[i], on_signal, signal_numbers[i]);
	}
	uv_poll_init(&l->uv, &l->wake, bell_fd(&l->bell));
	uv_poll_init(&l->uv, &l->loader_wake, bell_fd(&l->loader_bell));
	uv_timer_init(&l->uv, &l->tick);
	uv_timer_init(&l->uv, &l->lag_timer);
	uv_timer_init(&l->uv, &l->deadline_timer);
	uv_prepare_init(&l->uv, &l->prepare);
	uv_check_init(&l->uv, &l->check);
	uv_idle_init(&l->uv, &l->idle);
	l->wake.data = l->loader_wake.data = l->tick.data = l->lag_timer.data = l->prepare.data = l->check.data = l->loading.data = l;
	uv_poll_start(&l->wake, UV_READABLE, on_wake);
	uv_poll_start(&l->loader_wake, UV_READABLE, on_loaded);
	uv_timer_start(&l->tick, on_tick, 0, tick);
	uv_prepare_start(&l->prepare, on_prepare);
	uv_check_start(&l->check, on_check);
	return uv_queue_work(&l->uv, &l->loading, load, loaded);
}

/* ---- stop: start() and serve() backwards ---- */

static void close_handle(uv_handle_t *h, void *arg)
{
	if (!uv_is_closing(h))
		uv_close(h, NULL);
}

/* Clients first: the last events leave even if the engine hangs. The engine rings a bell, so it goes before the bells do. */
static void stop(struct loop *l)
{
	/* Workers that still prepare requests end first; nobody waits for their replies. */
	in_hand_drop_waiting(&l->in_hand);
	while (in_hand_has_workers(&l->in_hand) || l->n_reviving || l->reload.under_way)
		uv_run(&l->uv, UV_RUN_ONCE);
	loader_free(l->loader);
	l->loader = NULL;
	checker_free(l->checker);
	l->checker = NULL;
	if (l->polling) {
		uv_poll_stop(&l->request_poll);
		uv_poll_stop(&l->answer_poll);
	}
	metrics_http_stop(l->http); /* its thread wakes this loop: before the handles go */
	l->http = NULL;
	if (l->server_ready)
		durable_close(&l->server); /* the last replies and events come of it */
	else if (l->server.durable.store)
		store_close(l->server.durable.store);
	sockets_close(l->sockets, LINGER_MS);
	l->sockets = NULL;
	if (l->server_ready && !tasks_stop(&l->server.tasks, LINGER_MS)) {
		log_warning("a task does not stop: leaving without it; what it left is removed at the next start");
		_Exit(l->exit_code);
	}
	if (l->engine)
		engine_free(l->engine);
	while (l->events) {
		struct engine_event *e = l->events;
		l->events = e->next;
		engine_event_free(e);
	}
	uv_walk(&l->uv, close_handle, NULL);
	uv_run(&l->uv, UV_RUN_DEFAULT);
	uv_loop_close(&l->uv);
	bell_close(&l->bell);
	bell_close(&l->loader_bell);
	if (l->server_ready)
		server_finish(&l->server);
	plugin_set_unref(l->server.plugins);
	core_model_free(l->model);
}

int loop_run(const struct loop_params *p)
{
	struct loop *l = calloc(1, sizeof *l);
	if (!l || (l->params = p, l->conf = p->conf, start(l))) {
		log_error("the event loop does not start");
		free(l);
		return EXIT_INTERNAL;
	}
	uv_run(&l->uv, UV_RUN_DEFAULT);
	stop(l);
	int code = l->exit_code;
	free(l);
	return code;
}
