/* conf.h: weftd's options: one table from which the file, the command line, the defaults, --help and the manual's test follow.
 *
 * A struct conf owns its strings. Nothing here opens what an option names: conf_check() judges values against each other, the parts
 * of weftd judge the files. [loop] */
#ifndef WEFT_DAEMON_CONF_H
#define WEFT_DAEMON_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct conf {
	/* [model] */
	char *model;             /* HF folder or .gguf; "" is refused by conf_check */
	char *device;            /* auto, cpu, cuda:N */
	char *cuda_module;       /* "": the installed one */
	char *quant;             /* none, q8, q4, nf4 */
	char *packed_cache;      /* folder of packed weights; auto, none */
	int64_t packed_cache_max; /* bytes; 0: no bound */
	char *adapter_quant;     /* auto, exact, q8 */
	int64_t threads;         /* 0: all CPUs */
	int64_t context;         /* tokens; 0: the model's */
	int64_t kv_memory;       /* bytes; 0: by context, max_running and the machine's memory */
	char *kv_type;           /* auto, f16, f32, int8 */
	bool prefix_cache;
	int64_t batch_rows;      /* rows of one engine step */
	char *template;          /* of `messages` when the request names none */
	char *adapters;          /* folders, separated by \':\'; "": none */
	char *blends;            /* names of sums of adapters */
	char *fuse_output;       /* folder of merged bases; "": none */
	int64_t adapters_memory; /* bytes */
	int64_t adapters_check;  /* ms of CPU time; 0: none */
	/* [listen] */
	char *request, *answer; /* ZeroMQ endpoints */
	char *curve_secret;     /* file with our secret key; "": the credential, if there is one */
	char *curve_clients;    /* folder of client public keys */
	bool allow_plain_tcp;
	char *metrics;            /* HOST:PORT of the pages for Prometheus; "": none */
	int64_t max_message;      /* bytes of one request */
	int64_t disconnect_grace; /* ms */
	/* [queue] */
	int64_t max_running, max_running_bytes, max_tasks, max_queue, max_queue_tokens, max_queue_bytes;
	int64_t ageing; /* ms: what 1000 steps of priority (or the class) are worth in waiting time */
	bool preempt;
	int64_t queue_timeout;                             /* ms; 0: none */
	int64_t drain_timeout, stall_timeout;              /* ms */
	int64_t results_jobs, results_bytes, results_time; /* what is kept of ended jobs: count, bytes, ms */
	char *state;                                       /* folder that this daemon owns; "": none */
	char *store;                                       /* auto, none, sqlite:PATH or a URL of PostgreSQL */
	int64_t store_lease, store_results_time;           /* ms */
	/* [plugins] */
	char *plugins; /* folders, separated by ':' */
	/* [log] */
	char *log_level;
};

enum conf_type {
	CONF_STRING,
	CONF_CHOICE, /* one word of `words` */
	CONF_INT,
	CONF_SIZE, /* bytes; K, M, G are powers of 1024 */
	CONF_TIME, /* held in ms; written with ms, s, min or h; a bare number is seconds */
	CONF_BOOL  /* yes, no, true, false, on, off, 1, 0 */
};
enum { CONF_RELOADABLE = 1 };

struct conf_option {
	const char *section, *name; /* name: [a-z_]; the command line says --name with '-' for '_' */
	enum conf_type type;
	size_t offset;     /* in struct conf */
	const char *def;   /* as text */
	int64_t min, max;  /* of INT, SIZE and TIME (ms) */
	const char *words; /* of CHOICE, separated by '|' */
	unsigned flags;
	const char *doc; /* one sentence */
};
extern const struct conf_option conf_options[];
extern const size_t conf_n_options;
const struct conf_option *conf_find(const char *name); /* NULL: none */

enum { CONF_WHY = 512 }; /* bytes of a reason */

int conf_init(struct conf *c); /* all defaults; -1: out of memory, nothing is held */
void conf_finish(struct conf *c);
/* Sets one option from text. 0, or -1 with the reason in why; then nothing has changed. */
int conf_set(struct conf *c, const struct conf_option *o, const char *value, char why[static CONF_WHY]);
/* Reads a file over what is there. why names file and line. */
int conf_parse(struct conf *c, FILE *file, const char *path, char why[static CONF_WHY]);
int conf_read(struct conf *c, const char *path, char why[static CONF_WHY]);
/* Values that contradict each other or ask for what this version does not have. Returns 0 or the exit code that fits. */
int conf_check(const struct conf *c, char why[static CONF_WHY]);
/* Takes over the reloadable options of `fresh`; calls kept() for every other option that differs and needs a restart. */
void conf_reload(struct conf *c, struct conf *fresh, void (*kept)(const struct conf_option *o));
/* The value of an option as text, as the file would say it. */
void conf_show(const struct conf *c, const struct conf_option *o, char *buf, size_t size);
void conf_help(FILE *out);

/* Exit codes of weftd (sysexits.h where one fits); weftd(8) documents them, the unit lists CONFIG in RestartPreventExitStatus. */
enum conf_exit {
	EXIT_CLEAN = 0,
	EXIT_USAGE = 64,       /* the command line is wrong */
	EXIT_UNAVAILABLE = 69, /* device, model, plugins or memory are not there: may be cured outside */
	EXIT_INTERNAL = 70,    /* a bug or a dead engine */
	EXIT_CANTBIND = 73,    /* an endpoint or lock is held by another, or cannot be made */
	EXIT_CONFIG = 78       /* the configuration is wrong: a restart cures nothing */
};

#endif
