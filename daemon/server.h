/* server.h: what weftd does, without sockets: accepts jobs, starts and parks them, turns engine events into job events, ends jobs.
 * The loop feeds it; it speaks through `publish` and to the engine. Everything here runs on the loop thread. [loop] */
#ifndef WEFT_DAEMON_SERVER_H
#define WEFT_DAEMON_SERVER_H

#include "conf.h"
#include "draft.h"
#include "durable.h"
#include "histogram.h"
#include "job.h"
#include "metrics.h"
#include "stats.h"
#include "topics.h"

enum server_state { SERVER_RUNNING, SERVER_PAUSED, SERVER_DRAINING };

struct server {
	struct conf *conf;
	struct core_model *model;
	struct engine *engine;
	struct plugin_set *plugins;                           /* for new requests */
	struct adapters adapters;                             /* its model and callbacks are the loop's */
	uint64_t loading_jobs, loading_tokens, loading_bytes; /* of jobs that wait for adapters: they count as waiting */
	struct draft_env env;                                 /* follows conf and plugins */
	enum server_state state;
	struct jobs jobs;
	struct queue queue, task_queue; /* for the engine; for the room of tasks */
	struct tasks tasks;             /* wake and arg are the loop's */
	struct deadlines deadlines;
	struct topics topics;
	struct job **running; /* [n_running]: jobs that hold a slot */
	size_t n_running;
	uint32_t pages_held, pages_total;
	uint64_t bytes_started; /* of memory that jobs which have started may come to need */
	struct queue_entry **scratch;        /* [2 * max_running], for victims */
	struct deadline drain;               /* armed while draining */
	int drain_stage;                     /* what was asked of the jobs that are left */
	struct deadline trim;                /* armed when more ended jobs are kept than retention allows */
	int64_t busy_since;                  /* when the engine was first seen with work; 0: it has none */
	struct metrics metrics;
	struct histogram lag;                /* of the loop, microseconds */
	int64_t started_at;
	struct durable durable;
	uint64_t accepted, rejected, requests, replies_lost;
	void (*publish)(void *arg, const char *topic, const void *data, size_t len);
	void *publish_arg;
};

/* The parts must be there: conf, model, engine, plugins, publish, adapters.submit, tasks.wake. 0, or -1 with the reason. */
int server_init(struct server *s, char why[static CONF_WHY]);
/* Frees what init made, and the jobs; not the parts. The engine must be gone, and no task may run. */
void server_finish(struct server *s);

/* Accepts a draft (takes what it owns) for this identity. 0 and the job, or -1 with the problem. */
int server_accept(struct server *s, struct draft *d, const char *identity, struct job **out, struct problem *p);
void server_schedule(struct server *s); /* after the acceptance was answered */

/* Durable jobs. First it is made, unknown to everybody; when it is in the store (or was refused there) it enters, or goes. *held: there
 * is room for it in memory; else it stays in the store until it is claimed. */
int server_make_durable(struct server *s, struct draft *d, const char *identity, struct job **out, bool *held, struct problem *p);
void server_enter_durable(struct server *s, struct job *j, const struct draft *d, bool held);
void server_unmake(struct server *s, struct job *j);
/* One that was claimed; takes what d owns. problem: it cannot run, and fails with it. */
void server_revive(struct server *s, struct draft *d, const struct revival *v, const struct problem *problem);
void server_begun(struct server *s, struct job *j); /* it is on disk that it runs */
void server_kept(struct server *s, struct job *j);  /* its end is on disk */
void server_left(struct server *s, struct job *j);  /* given back to the store */
void server_lost(struct server *s, struct job *j, int code, const char *text); /* another daemon has it */
void server_leave(struct server *s, struct job *j, int state, int64_t run_at); /* gives it back as soon as the engine lets go */
void server_store_changed(struct server *s, bool away);
void server_park_durable(struct server *s);
/* The state that clients see: a durable job's end counts when it is on disk. */
enum job_state server_state_of(const struct job *j);

uint64_t server_position(const struct server *s, const struct job *j); /* jobs that go before it */
/* Ends a job as `why` says: at once when it waits, after its current step when it runs. false: it had ended. */
bool server_end(struct server *s, struct job *j, enum job_why why);
void server_adapter_loaded(struct server *s, struct adapter_load *load); /* a worker is done with it; takes it */
void server_engine_event(struct server *s, struct engine_event *e);      /* e stays the caller's */
void server_task_events(struct server *s);                               /* all that there is */
bool server_subscribed(struct server *s, const char *topic, size_t len); /* false: do not admit */
void server_unsubscribed(struct server *s, const char *topic, size_t len);
void server_hello(struct server *s, const char *topic); /* publishes the hello event */
void server_forget(struct server *s, struct job *j);    /* an ended job */

int server_pause(struct server *s, bool paused); /* -1: draining */
void server_drain(struct server *s);
bool server_drained(const struct server *s); /* draining, and no job is left */
/* Every job that is left gets its terminal event now, whatever the engine is doing. */
void server_stop_now(struct server *s);
void server_new_plugins(struct server *s, struct plugin_set *set); /* takes the reference */
void server_conf_changed(struct server *s);
const char *server_state_name(const struct server *s);
/* The engine makes progress, or has nothing to do. */
/* New work is taken and done; else the line says why not. */
bool server_ready(struct server *s, char *line, size_t size);
bool server_engine_alive(struct server *s, int64_t now);

#endif
