/* boot.c: each step says why it failed, and with which exit code. */
#include "boot.h"
#include "deadline.h"
#include "draft.h"
#include "log.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- model ---- */

static void on_progress(void *arg, double done)
{
	atomic_store((atomic_int *)arg, (int)(done * 1000));
}

/* NULL: packed weights are not kept. buf holds it where it is not the option itself. */
static const char *cache_folder(const struct conf *c, char *buf, size_t size)
{
	const char *given = getenv("CACHE_DIRECTORY"); /* systemd's: folders, separated by colons */
	if (strcmp(c->packed_cache, "none") == 0)
		return NULL;
	if (strcmp(c->packed_cache, "auto") != 0)
		return c->packed_cache;
	if (given && *given)
		snprintf(buf, size, "%.*s", (int)strcspn(given, ":"), given);
	else if (c->state[0])
		snprintf(buf, size, "%s/cache", c->state);
	else
		return NULL;
	return buf;
}

static void tell_weights(const struct core_model *m, int64_t began)
{
	const char *note;
	enum core_cache cache = core_model_cache(m, &note);
	double seconds = (double)(clock_now() - began) / 1e9;
	if (cache == CORE_CACHE_FAILED)
		log_warning("weights packed in %.2f s, %s", seconds, note);
	else
		log_info("weights %s in %.2f s%s%s", cache == CORE_CACHE_MAPPED ? "mapped" : "packed", seconds, note ? ", " : "", note ? note : "");
}

int boot_model(struct core_model **out, const struct conf *c, atomic_int *progress, char why[static CONF_WHY])
{
	char folder[4096];
	struct core_model_params p = {.path = c->model,
				      .cache = cache_folder(c, folder, sizeof folder),
				      .cache_most = (uint64_t)c->packed_cache_max,
				      .progress = on_progress,
				      .progress_arg = progress};
	struct core_error err = {0};
	int64_t began = clock_now();
	if (core_quant_parse(c->quant, &p.quant)) {
		snprintf(why, CONF_WHY, "quant = %s: unsupported", c->quant);
		return EXIT_CONFIG;
	}
	if (core_factors_parse(c->adapter_quant, &p.factors)) {
		snprintf(why, CONF_WHY, "adapter_quant = %s: unsupported", c->adapter_quant);
		return EXIT_CONFIG;
	}
	if (core_model_load(out, &p, &err)) {
		snprintf(why, CONF_WHY, "%s", err.text);
		return EXIT_UNAVAILABLE;
	}
	tell_weights(*out, began);
	return 0;
}

/* ---- plugins ---- */

static void report_plugin(void *arg, const char *text)
{
	log_warning("plugin left out: %s", text);
}

struct plugin_set *boot_plugins(const struct conf *c, char why[static CONF_WHY])
{
	enum { FOLDERS = 32 };
	const char *folders[FOLDERS];
	size_t n = 0, decoders = 0;
	char *copy = strdup(c->plugins), *rest = copy, *folder;
	while (rest && n < FOLDERS && (folder = strsep(&rest, ":")))
		if (*folder)
			folders[n++] = folder;
	struct plugin_set *set = copy ? plugin_set_load(folders, n, report_plugin, NULL) : NULL;
	free(copy);
	if (!set) {
		snprintf(why, CONF_WHY, "plugins: out of memory");
		return NULL;
	}
	for (size_t i = 0; i < set->n; i++)
		decoders += set->list[i]->desc->decoder != NULL;
	if (decoders == 0) {
		snprintf(why, CONF_WHY, "plugins = %s: no decoder in it: nothing could be answered", c->plugins);
		plugin_set_unref(set);
		return NULL;
	}
	log_info("%zu plugins, %zu of them decoders", set->n, decoders);
	return set;
}

/* ---- engine ---- */

static void on_engine_log(void *arg, uint64_t job, int level, const char *text)
{
	if (level < LOG_AT_ERROR)
		level = LOG_AT_ERROR;
	log_line(level > LOG_AT_DEBUG ? LOG_AT_DEBUG : (enum log_level)level, job == BOOT_TEST_ID ? 0 : job, "%s", text);
}

/* Enough for max_running full contexts (or 64: one job may have 64 answers), but without a word from the operator at most an eighth
 * of the machine's memory. */
static uint32_t count_pages(const struct conf *c, const struct core_model *m, enum core_kv_type kv, uint32_t context)
{
	uint64_t page = core_kv_page_bytes(m, kv);
	uint64_t contexts = c->max_running > DRAFT_MAX_N ? (uint64_t)c->max_running : DRAFT_MAX_N;
	uint64_t full = contexts * ((context + CORE_PAGE - 1) / CORE_PAGE + 1);
	uint64_t memory = (uint64_t)c->kv_memory;
	if (memory == 0)
		memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGE_SIZE) / 8;
	uint64_t pages = memory / page < full ? memory / page : full;
	return pages > UINT32_MAX ? UINT32_MAX : (uint32_t)pages;
}

int boot_engine(struct engine **out, const struct conf *c, const struct core_model *model, void (*wake)(void *arg), void *arg,
		char why[static CONF_WHY])
{
	const struct core_model_info *info = core_model_info(model);
	struct core_error err = {0};
	enum core_kv_type kv;
	uint32_t context = c->context ? (uint32_t)c->context : info->context;
	if (context > info->context) {
		snprintf(why, CONF_WHY, "context = %u: the model has %u", context, info->context);
		return EXIT_CONFIG;
	}
	if (core_kv_type_parse(c->kv_type, &kv)) {
		snprintf(why, CONF_WHY, "kv_type = %s: unsupported", c->kv_type);
		return EXIT_CONFIG;
	}
	struct engine_params p = {.model = model,
				  .threads = (int)c->threads,
				  .kv_pages = count_pages(c, model, kv, context),
				  .kv_type = kv,
				  .max_rows = (uint32_t)c->batch_rows,
				  .max_jobs = (uint32_t)c->max_running,
				  .max_context = context,
				  .prefix_cache = c->prefix_cache,
				  .device = c->device,
				  .module = *c->cuda_module ? c->cuda_module : NULL,
				  .wake = wake,
				  .log = on_engine_log,
				  .arg = arg};
	if (p.kv_pages < (context + CORE_PAGE - 1) / CORE_PAGE) {
		snprintf(why, CONF_WHY, "kv_memory: %u pages of %llu bytes are too few for one context of %u tokens", p.kv_pages,
			 (unsigned long long)core_kv_page_bytes(model, kv), context);
		return EXIT_CONFIG;
	}
	if (engine_new(out, &p, &err)) {
		snprintf(why, CONF_WHY, "device = %s: %s", c->device, err.text);
		return EXIT_UNAVAILABLE;
	}
	if (engine_note(*out))
		log_info("device = %s: %s%s", c->device, strncmp(engine_backend(*out), "cpu", 3) ? "" : "the CPU, because ", engine_note(*out));
	return 0;
}

struct engine_job *boot_test_job(struct plugin_set *plugins, const struct core_model *model, char why[static CONF_WHY])
{
	const struct plugin *sample = plugin_find(plugins, "sample");
	int max_tokens = sample ? plugin_param_index(sample, "max_tokens") : -1;
	if (max_tokens < 0) {
		snprintf(why, CONF_WHY, "plugins: the decoder sample is missing");
		return NULL;
	}
	int32_t bos = core_tokenizer_bos(core_model_tokenizer(model));
	struct engine_job *j = engine_job_new();
	snprintf(why, CONF_WHY, "out of memory");
	if (!j)
		return NULL;
	j->id = BOOT_TEST_ID;
	j->prompt = malloc(sizeof *j->prompt);
	if (!j->prompt || plugin_args_init(&j->decoder, sample)) {
		engine_job_free(j);
		return NULL;
	}
	j->prompt[0] = bos >= 0 ? bos : 0;
	j->n_prompt = 1;
	j->plugins = plugin_set_ref(plugins);
	plugin_args_set_number(&j->decoder, (size_t)max_tokens, 1, 1);
	return j;
}

/* ---- state folder ---- */

int boot_lock_state(const char *folder, char why[static CONF_WHY])
{
	char path[4096];
	if (mkdir(folder, 0750) && errno != EEXIST)
		goto fail;
	snprintf(path, sizeof path, "%s/weftd.lock", folder);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		goto fail;
	if (flock(fd, LOCK_EX | LOCK_NB)) {
		snprintf(why, CONF_WHY, "state = %s: another weftd has it", folder);
		return EXIT_CANTBIND;
	}
	return 0; /* fd stays open on purpose: the lock lives as long as the process */
fail:
	snprintf(why, CONF_WHY, "state = %s: %s", folder, strerror(errno));
	return EXIT_CANTBIND;
}
