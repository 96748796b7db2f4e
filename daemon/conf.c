/* conf.c: the table of options, and what follows from it. */
#include "config.h"
#include "conf.h"
#include "names.h"
#include "template.h"
#include <errno.h>
#include <ini.h>
#include <stdlib.h>
#include <string.h>

#define AT(field) offsetof(struct conf, field)
#define GIB ((int64_t)1 << 30)
#define HOUR ((int64_t)3600000)

const struct conf_option conf_options[] = {
	{"model", "model", CONF_STRING, AT(model), "", 0, 0, NULL, 0,
	 "Folder of a Hugging Face checkpoint, or a .gguf file; must be given."},
	{"model", "device", CONF_STRING, AT(device), "cpu", 0, 0, NULL, 0,
	 "Where the model runs: cpu; cuda:N, and a device that is not there is an error, never a silent change; or auto, the first CUDA "
	 "device if it can be used, else the CPU, and the log says why."},
	{"model", "cuda_module", CONF_STRING, AT(cuda_module), "", 0, 0, NULL, 0,
	 "The CUDA core, weft-cuda.so; empty is the installed one."},
	{"model", "quant", CONF_CHOICE, AT(quant), "none", 0, 0, "none|q8|q4|nf4", 0,
	 "What the weights of the linear layers become at load: none keeps the file's precision, q8 and q4 pack them; nf4 packs them by "
	 "bitsandbytes' rule for NF4 with double quantisation, the base that QLoRA trains on."},
	{"model", "packed_cache", CONF_STRING, AT(packed_cache), "auto", 0, 0, NULL, 0,
	 "Where packed weights are kept for the next start: a folder; none; or auto, which is $CACHE_DIRECTORY, or else the folder cache in "
	 "the state folder, or without either nowhere."},
	{"model", "packed_cache_max", CONF_SIZE, AT(packed_cache_max), "64G", 0, (int64_t)1 << 50, NULL, 0,
	 "Most bytes of packed weights that are kept: when a model's are added, those that were used longest ago go, but none that a "
	 "daemon is using, whatever its size; 0 is no bound."},
	{"model", "threads", CONF_INT, AT(threads), "0", 0, 1024, NULL, 0, "Threads of the engine; 0 is one per CPU."},
	{"model", "context", CONF_INT, AT(context), "0", 0, 1 << 24, NULL, 0, "Longest sequence in tokens; 0 is the model's own."},
	{"model", "kv_memory", CONF_SIZE, AT(kv_memory), "0", 0, (int64_t)1 << 50, NULL, 0,
	 "Memory for keys and values; 0 takes what max_running (at least 64) full contexts need, at most an eighth of the "
	 "machine's memory."},
	{"model", "kv_type", CONF_CHOICE, AT(kv_type), "auto", 0, 0, "auto|f16|f32|int8", 0,
	 "How keys and values are kept: auto is f32 for weights of f32, else f16; int8 takes about half of f16's memory and long "
	 "contexts become faster. A CUDA device has f16 and int8; auto is f16 there."},
	{"model", "prefix_cache", CONF_BOOL, AT(prefix_cache), "yes", 0, 0, NULL, 0,
	 "Keeps what was computed of prompts and answers in the part of kv_memory that no job holds: what begins like it is not computed again."},
	{"model", "batch_rows", CONF_INT, AT(batch_rows), "256", 1, 65536, NULL, 0,
	 "Most tokens of one engine step, all jobs together; long prompts are fed in chunks."},
	{"model", "template", CONF_CHOICE, AT(template), "fashiongpt", 0, 0, TEMPLATE_NAMES, CONF_RELOADABLE,
	 "Prompt template of chat messages when the request names none."},
	{"model", "adapter_quant", CONF_CHOICE, AT(adapter_quant), "exact", 0, 0, "auto|exact|q8", 0,
	 "What the factors of adapters become at load: exact keeps the file's precision, q8 nearly halves their memory; auto is "
	 "q8 beside a base in q8, q4 or GGUF blocks, else exact."},
	{"model", "adapters", CONF_STRING, AT(adapters), "", 0, 0, NULL, 0,
	 "Folders of LoRA adapters, separated by colons: each PEFT folder or .gguf file in them can be named by requests."},
	{"model", "adapters_memory", CONF_SIZE, AT(adapters_memory), "2G", 1 << 16, (int64_t)1 << 50, NULL, 0,
	 "Memory for adapters that are loaded; beyond it those that were used longest ago go, but none that a job is using."},
	{"model", "adapters_check", CONF_TIME, AT(adapters_check), "10s", 0, 3600000, NULL, CONF_RELOADABLE,
	 "CPU time for checking an adapter once it is loaded: does it do, woven in, what it does merged into the weights? 0: no check."},
	{"model", "blends", CONF_STRING, AT(blends), "", 0, 0, NULL, 0,
	 "Names for sums of adapters, for the field model of requests: NAME=ADAPTER:SCALE,ADAPTER:SCALE with blanks between them."},
	{"model", "fuse_output", CONF_STRING, AT(fuse_output), "", 0, 0, NULL, 0,
	 "Folder in which adapter.fuse makes merged bases; empty is none: then merging is refused."},

	{"listen", "request", CONF_STRING, AT(request), "ipc:///run/weft/request", 0, 0, NULL, 0,
	 "Endpoint of the request socket (ROUTER)."},
	{"listen", "answer", CONF_STRING, AT(answer), "ipc:///run/weft/answer", 0, 0, NULL, 0,
	 "Endpoint of the answer socket (XPUB)."},
	{"listen", "curve_secret", CONF_STRING, AT(curve_secret), "", 0, 0, NULL, 0,
	 "File with the server's CURVE secret key; when empty, the systemd credential weftd.curve.secret is used if there is one."},
	{"listen", "curve_clients", CONF_STRING, AT(curve_clients), "", 0, 0, NULL, CONF_RELOADABLE,
	 "Folder of client public keys, one file each; only these clients may connect over tcp; read again at reload."},
	{"listen", "allow_plain_tcp", CONF_BOOL, AT(allow_plain_tcp), "no", 0, 0, NULL, 0,
	 "Lets a tcp endpoint run without CURVE: anyone who reaches the port may use the service and read every answer."},
	{"listen", "metrics", CONF_STRING, AT(metrics), "", 0, 0, NULL, 0,
	 "HOST:PORT where /metrics (Prometheus), /healthz and /readyz are served over HTTP; keep it on loopback; empty is none."},
	{"listen", "max_message", CONF_SIZE, AT(max_message), "4M", 4096, 16 << 20, NULL, 0, "Largest request that is read."},
	{"listen", "disconnect_grace", CONF_TIME, AT(disconnect_grace), "5s", 0, 24 * HOUR, NULL, CONF_RELOADABLE,
	 "How long a topic may be without a listener before on_disconnect takes effect."},

	{"queue", "max_running", CONF_INT, AT(max_running), "32", 1, 4096, NULL, 0, "Jobs that run at once."},
	{"queue", "max_running_bytes", CONF_SIZE, AT(max_running_bytes), "1G", 1 << 20, (int64_t)1 << 40, NULL, CONF_RELOADABLE,
	 "Memory outside keys and values that jobs which have started may come to need, at worst, with all log-probabilities; others wait."},
	{"queue", "max_tasks", CONF_INT, AT(max_tasks), "1", 1, 16, NULL, CONF_RELOADABLE,
	 "Tasks (jobs that decode nothing, such as fusing adapters) that run at once, each on a thread of its own."},
	{"queue", "max_queue", CONF_INT, AT(max_queue), "1000", 1, 1000000, NULL, CONF_RELOADABLE, "Jobs that may wait."},
	{"queue", "max_queue_tokens", CONF_INT, AT(max_queue_tokens), "4000000", 1, (int64_t)1 << 40, NULL, CONF_RELOADABLE,
	 "Tokens (prompts and longest answers) that may wait."},
	{"queue", "max_queue_bytes", CONF_SIZE, AT(max_queue_bytes), "256M", 65536, (int64_t)1 << 40, NULL, CONF_RELOADABLE,
	 "Memory that waiting jobs may come to need for their prompts and longest answers."},
	{"queue", "ageing", CONF_TIME, AT(ageing), "60s", 1, 24 * HOUR, NULL, CONF_RELOADABLE,
	 "Waiting this long makes up for 1000 steps of priority, or for the class batch against interactive."},
	{"queue", "preempt", CONF_BOOL, AT(preempt), "yes", 0, 0, NULL, CONF_RELOADABLE,
	 "Interactive jobs that wait may park running batch jobs; these go on later with the same bytes."},
	{"queue", "queue_timeout", CONF_TIME, AT(queue_timeout), "0", 0, 720 * HOUR, NULL, CONF_RELOADABLE,
	 "queue_ms of requests that name none: the longest wait before a job expires; 0 is no limit."},
	{"queue", "drain_timeout", CONF_TIME, AT(drain_timeout), "60s", 0, 24 * HOUR, NULL, CONF_RELOADABLE,
	 "How long SIGTERM lets accepted jobs go on before the rest is ended with finish shutdown; durable jobs go back to the store."},
	{"queue", "stall_timeout", CONF_TIME, AT(stall_timeout), "60s", 1000, 24 * HOUR, NULL, CONF_RELOADABLE,
	 "An engine that has work and makes no step for this long counts as dead: the watchdog is no longer fed."},
	{"queue", "results_jobs", CONF_INT, AT(results_jobs), "1000", 0, 1000000, NULL, CONF_RELOADABLE,
	 "Ended jobs whose events are kept."},
	{"queue", "results_bytes", CONF_SIZE, AT(results_bytes), "64M", 0, (int64_t)1 << 40, NULL, CONF_RELOADABLE,
	 "Memory of the events that are kept of ended jobs."},
	{"queue", "results_time", CONF_TIME, AT(results_time), "10min", 0, 720 * HOUR, NULL, CONF_RELOADABLE,
	 "How long the events of an ended job are kept."},
	{"queue", "state", CONF_STRING, AT(state), "", 0, 0, NULL, 0,
	 "Folder that belongs to this daemon: it holds the lock that keeps a second one out, and the store; empty is none."},
	{"queue", "store", CONF_STRING, AT(store), "auto", 0, 0, NULL, 0,
	 "Where durable jobs are kept: auto (a file in the state folder, if there is one), none, sqlite:PATH, or a URL postgresql://... "
	 "that several daemons share."},
	{"queue", "store_lease", CONF_TIME, AT(store_lease), "30s", 1000, HOUR, NULL, 0,
	 "How long a daemon that does not answer any more keeps its jobs in a shared store."},
	{"queue", "store_results_time", CONF_TIME, AT(store_results_time), "168h", 0, 8760 * HOUR, NULL, CONF_RELOADABLE,
	 "How long ended durable jobs are kept that no client has closed; those of a batch stay as long as the batch."},

	{"plugins", "plugins", CONF_STRING, AT(plugins), PKGLIBDIR "/plugins", 0, 0, NULL, CONF_RELOADABLE,
	 "Folders of plugins, separated by colons; read again at reload, for new requests."},

	{"log", "log_level", CONF_CHOICE, AT(log_level), "info", 0, 0, "error|warning|notice|info|debug", CONF_RELOADABLE,
	 "Lines above this level are dropped."},
};
const size_t conf_n_options = sizeof conf_options / sizeof *conf_options;

const struct conf_option *conf_find(const char *name)
{
	for (size_t i = 0; i < conf_n_options; i++)
		if (strcmp(conf_options[i].name, name) == 0)
			return &conf_options[i];
	return NULL;
}

static char **string_at(const struct conf *c, const struct conf_option *o)
{
	return (char **)((char *)c + o->offset);
}

static bool is_string(const struct conf_option *o)
{
	return o->type == CONF_STRING || o->type == CONF_CHOICE;
}

/* ---- values ---- */

struct unit {
	const char *name;
	int64_t factor;
};
static const struct unit size_units[] = {{"", 1}, {"K", 1 << 10}, {"M", 1 << 20}, {"G", GIB}, {"T", GIB << 10}, {NULL, 0}};
static const struct unit time_units[] = {{"", 1000}, {"ms", 1}, {"s", 1000}, {"min", 60000}, {"h", HOUR}, {NULL, 0}};
static const struct unit no_units[] = {{"", 1}, {NULL, 0}};

static const struct unit *units_of(const struct conf_option *o)
{
	return o->type == CONF_SIZE ? size_units : o->type == CONF_TIME ? time_units : no_units;
}

static int parse_number(const struct conf_option *o, const char *value, int64_t *out, char *why)
{
	char *end;
	errno = 0;
	long long n = strtoll(value, &end, 10);
	if (end == value || errno == ERANGE)
		goto bad;
	while (*end == ' ')
		end++;
	for (const struct unit *u = units_of(o); u->name; u++) {
		if (strcmp(end, u->name) != 0)
			continue;
		int64_t v;
		if (__builtin_mul_overflow((int64_t)n, u->factor, &v) || v < o->min || v > o->max) {
			const char *what = o->type == CONF_TIME ? " ms" : o->type == CONF_SIZE ? " bytes" : "";
			snprintf(why, CONF_WHY, "%s = %s: must be from %lld to %lld%s", o->name, value, (long long)o->min,
				 (long long)o->max, what);
			return -1;
		}
		*out = v;
		return 0;
	}
bad:
	snprintf(why, CONF_WHY, "%s = %s: expected a whole number%s", o->name, value,
		 o->type == CONF_SIZE   ? " of bytes, with K, M, G or T if you like"
		 : o->type == CONF_TIME ? " with ms, s, min or h (alone: seconds)"
					: "");
	return -1;
}

static int parse_bool(const struct conf_option *o, const char *value, bool *out, char *why)
{
	static const char *const words[] = {"no", "yes", "false", "true", "off", "on", "0", "1"};
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (strcmp(value, words[i]) == 0) {
			*out = i & 1;
			return 0;
		}
	snprintf(why, CONF_WHY, "%s = %s: expected yes or no", o->name, value);
	return -1;
}

static bool among(const char *words, const char *value)
{
	size_t len = strlen(value);
	for (const char *w = words; *w;) {
		size_t n = strcspn(w, "|");
		if (n == len && memcmp(w, value, n) == 0)
			return true;
		w += n + (w[n] == '|');
	}
	return false;
}

static int set_string(struct conf *c, const struct conf_option *o, const char *value, char *why)
{
	if (o->type == CONF_CHOICE && !among(o->words, value)) {
		snprintf(why, CONF_WHY, "%s = %s: expected one of %s", o->name, value, o->words);
		return -1;
	}
	char *copy = strdup(value);
	if (!copy) {
		snprintf(why, CONF_WHY, "%s: out of memory", o->name);
		return -1;
	}
	free(*string_at(c, o));
	*string_at(c, o) = copy;
	return 0;
}

int conf_set(struct conf *c, const struct conf_option *o, const char *value, char why[static CONF_WHY])
{
	char *field = (char *)c + o->offset;
	switch (o->type) {
	case CONF_STRING:
	case CONF_CHOICE:
		return set_string(c, o, value, why);
	case CONF_BOOL:
		return parse_bool(o, value, (bool *)field, why);
	case CONF_INT:
	case CONF_SIZE:
	case CONF_TIME:
		return parse_number(o, value, (int64_t *)field, why);
	}
	return -1;
}

int conf_init(struct conf *c)
{
	char why[CONF_WHY];
	memset(c, 0, sizeof *c);
	for (size_t i = 0; i < conf_n_options; i++)
		if (conf_set(c, &conf_options[i], conf_options[i].def, why)) {
			conf_finish(c);
			return -1;
		}
	return 0;
}

void conf_finish(struct conf *c)
{
	for (size_t i = 0; i < conf_n_options; i++)
		if (is_string(&conf_options[i]))
			free(*string_at(c, &conf_options[i]));
	memset(c, 0, sizeof *c);
}

/* ---- the file ---- */

struct reading {
	struct conf *conf;
	FILE *file;
	const char *path;
	char *why; /* the first reason; "" so far: none */
	int line;  /* being read */
};

/* For inih, which hands over lines but not their numbers to the handler, and would split a line that its buffer cannot hold. */
static char *read_line(char *buf, int size, void *arg)
{
	struct reading *r = arg;
	if (r->why[0] || !fgets(buf, size, r->file))
		return NULL;
	r->line++;
	size_t len = strlen(buf);
	if (len + 1 == (size_t)size && buf[len - 1] != '\n') {
		snprintf(r->why, CONF_WHY, "%s:%d: the line is longer than %d bytes", r->path, r->line, size - 3);
		return NULL;
	}
	return buf;
}

static void unknown_option(struct reading *r, const char *section, const char *name)
{
	struct names n;
	char hint[96];
	bool known_section = false;
	names_start(&n, name, strlen(name));
	for (size_t i = 0; i < conf_n_options; i++) {
		names_offer(&n, conf_options[i].name);
		known_section |= strcmp(conf_options[i].section, section) == 0;
	}
	const struct conf_option *elsewhere = conf_find(name);
	if (elsewhere)
		snprintf(r->why, CONF_WHY, "%s:%d: %s belongs into section [%s], not [%s]", r->path, r->line, name,
			 elsewhere->section, section);
	else if (!known_section)
		snprintf(r->why, CONF_WHY, "%s:%d: no section [%s]", r->path, r->line, section);
	else
		snprintf(r->why, CONF_WHY, "%s:%d: no option %s%s", r->path, r->line, name, names_hint(&n, hint, sizeof hint));
}

static int take_pair(void *arg, const char *section, const char *name, const char *value)
{
	struct reading *r = arg;
	char why[CONF_WHY];
	if (r->why[0])
		return 0;
	const struct conf_option *o = name ? conf_find(name) : NULL;
	if (!o || strcmp(o->section, section) != 0) {
		unknown_option(r, section, name ? name : "");
		return 0;
	}
	if (conf_set(r->conf, o, value ? value : "", why)) {
		snprintf(r->why, CONF_WHY, "%s:%d: %.*s", r->path, r->line, CONF_WHY - 100, why);
		return 0;
	}
	return 1;
}

int conf_parse(struct conf *c, FILE *file, const char *path, char why[static CONF_WHY])
{
	struct reading r = {.conf = c, .file = file, .path = path, .why = why};
	why[0] = 0;
	int rc = ini_parse_stream(read_line, &r, take_pair, &r);
	if (rc && !why[0])
		snprintf(why, CONF_WHY, "%s:%d: expected [section] or option = value", path, rc > 0 ? rc : r.line);
	if (ferror(file) && !why[0])
		snprintf(why, CONF_WHY, "%s: %s", path, strerror(errno));
	return why[0] ? -1 : 0;
}

int conf_read(struct conf *c, const char *path, char why[static CONF_WHY])
{
	FILE *file = fopen(path, "re");
	if (!file) {
		snprintf(why, CONF_WHY, "%s: %s", path, strerror(errno));
		return -1;
	}
	int rc = conf_parse(c, file, path, why);
	fclose(file);
	return rc;
}

/* ---- judgement ---- */

static bool endpoint_known(const char *endpoint)
{
	return strncmp(endpoint, "ipc://", 6) == 0 || strncmp(endpoint, "tcp://", 6) == 0;
}

static int check_endpoint(const char *name, const char *endpoint, char *why)
{
	if (!endpoint_known(endpoint) || strlen(endpoint) == 6) {
		snprintf(why, CONF_WHY, "%s = %s: expected ipc://PATH or tcp://ADDRESS:PORT", name, endpoint);
		return -1;
	}
	if (strncmp(endpoint, "ipc://@", 7) == 0 || (endpoint[0] == 'i' && endpoint[6] != '/')) {
		snprintf(why, CONF_WHY, "%s = %s: an ipc endpoint needs an absolute path (file modes guard it)", name, endpoint);
		return -1;
	}
	return 0;
}

static bool is_tcp(const struct conf *c)
{
	return strncmp(c->request, "tcp://", 6) == 0 || strncmp(c->answer, "tcp://", 6) == 0;
}

static int check_listen(const struct conf *c, char *why)
{
	if (check_endpoint("request", c->request, why) || check_endpoint("answer", c->answer, why))
		return EXIT_CONFIG;
	if (strcmp(c->request, c->answer) == 0) {
		snprintf(why, CONF_WHY, "request and answer are the same endpoint: %s", c->request);
		return EXIT_CONFIG;
	}
	bool keys = c->curve_clients[0] != 0;
	if (is_tcp(c) && !keys && !c->allow_plain_tcp) {
		snprintf(why, CONF_WHY,
			 "a tcp endpoint without keys: name curve_secret and curve_clients, or say allow_plain_tcp = yes "
			 "(then anyone who reaches the port may use the service)");
		return EXIT_CONFIG;
	}
	if (keys && c->allow_plain_tcp) {
		snprintf(why, CONF_WHY, "allow_plain_tcp = yes contradicts curve_clients: choose one");
		return EXIT_CONFIG;
	}
	return 0;
}

static int check_device(const struct conf *c, char *why)
{
	if (strcmp(c->device, "auto") == 0 || strcmp(c->device, "cpu") == 0)
		return 0;
	const char *n = c->device + 5;
	if (strncmp(c->device, "cuda:", 5) == 0 && *n && strspn(n, "0123456789") == strlen(n) && strlen(n) <= 3)
		return 0;	/* whether it is there shows when the engine is made */
	snprintf(why, CONF_WHY, "device = %s: expected auto, cpu or cuda:N", c->device);
	return EXIT_CONFIG;
}

static int check_store(const struct conf *c, char *why)
{
	const char *s = c->store;
	if (strcmp(s, "auto") == 0 || strcmp(s, "none") == 0 || (strncmp(s, "sqlite:", 7) == 0 && s[7]))
		return 0;
	if (strncmp(s, "postgresql://", 13) == 0 || strncmp(s, "postgres://", 11) == 0)
		return 0;
	snprintf(why, CONF_WHY, "store = %s: expected auto, none, sqlite:PATH or postgresql://...", s);
	return -1;
}

int conf_check(const struct conf *c, char why[static CONF_WHY])
{
	if (!c->model[0]) {
		snprintf(why, CONF_WHY, "model: must name a checkpoint folder or a .gguf file");
		return EXIT_CONFIG;
	}
	if (check_store(c, why))
		return EXIT_CONFIG;
	if (!c->plugins[0]) {
		snprintf(why, CONF_WHY, "plugins: must name at least one folder: the decoders are plugins");
		return EXIT_CONFIG;
	}
	int rc = check_listen(c, why);
	return rc ? rc : check_device(c, why);
}

/* ---- reload, show, help ---- */

static bool same(const struct conf *a, const struct conf *b, const struct conf_option *o)
{
	const char *fa = (const char *)a + o->offset, *fb = (const char *)b + o->offset;
	if (is_string(o))
		return strcmp(*string_at(a, o), *string_at(b, o)) == 0;
	return o->type == CONF_BOOL ? *(const bool *)fa == *(const bool *)fb : *(const int64_t *)fa == *(const int64_t *)fb;
}

static void swap_value(struct conf *a, struct conf *b, const struct conf_option *o)
{
	char *fa = (char *)a + o->offset, *fb = (char *)b + o->offset, t[8];
	size_t size = is_string(o) ? sizeof(char *) : o->type == CONF_BOOL ? sizeof(bool) : sizeof(int64_t);
	memcpy(t, fa, size);
	memcpy(fa, fb, size);
	memcpy(fb, t, size);
}

void conf_reload(struct conf *c, struct conf *fresh, void (*kept)(const struct conf_option *o))
{
	for (size_t i = 0; i < conf_n_options; i++) {
		const struct conf_option *o = &conf_options[i];
		if (same(c, fresh, o))
			continue;
		if (o->flags & CONF_RELOADABLE)
			swap_value(c, fresh, o);
		else
			kept(o);
	}
}

void conf_show(const struct conf *c, const struct conf_option *o, char *buf, size_t size)
{
	const char *field = (const char *)c + o->offset;
	if (is_string(o)) {
		snprintf(buf, size, "%s", *string_at(c, o));
	} else if (o->type == CONF_BOOL) {
		snprintf(buf, size, "%s", *(const bool *)field ? "yes" : "no");
	} else {
		int64_t v = *(const int64_t *)field;
		const struct unit *best = units_of(o) + (o->type == CONF_TIME);
		for (const struct unit *u = best; u->name && v != 0; u++)
			if (v % u->factor == 0)
				best = u;
		snprintf(buf, size, "%lld%s", (long long)(v / best->factor), best->name);
	}
}

void conf_help(FILE *out)
{
	const char *section = "";
	for (size_t i = 0; i < conf_n_options; i++) {
		const struct conf_option *o = &conf_options[i];
		char flag[40];
		if (strcmp(section, o->section) != 0)
			fprintf(out, "\n[%s]\n", section = o->section);
		snprintf(flag, sizeof flag, "--%s", o->name);
		for (char *p = flag; *p; p++)
			if (*p == '_')
				*p = '-';
		fprintf(out, "  %-20s %s (default: %s)\n", flag, o->doc, o->def[0] ? o->def : "none");
	}
}
