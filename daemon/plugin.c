/* plugin.c: finding, opening and closing plugins. plugin_check.c says what is wrong with one. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/host.h"
#include "daemon/plugin.h"
#include "daemon/plugin_check.h"

enum { FILES_MAX = 1024 }; /* plugin files in one folder */

struct reporter {
	void (*report)(void *arg, const char *text);
	void *arg;
};

static void __attribute__((format(printf, 2, 3))) say(const struct reporter *r, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	if (r->report == NULL)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	r->report(r->arg, text);
}

/* ---- init and fini: once per opened file, however many sets hold it ---- */

struct user {
	const struct weft_plugin *origin;
	unsigned sets;
	struct user *next;
};
static struct user *users; /* [loop] */

static bool first_use(struct plugin *p, struct plugin_reason *why)
{
	struct user *u;

	for (u = users; u != NULL && u->origin != p->origin; u = u->next)
		;
	if (u == NULL) {
		u = calloc(1, sizeof *u);
		if (u == NULL) {
			snprintf(why->text, sizeof why->text, "out of memory");
			return false;
		}
		host_orphan_clear();
		int rc = p->desc->init == NULL ? 0 : p->desc->init(&host_table);
		if (rc != 0) {
			const char *text = host_orphan_reason();
			snprintf(why->text, sizeof why->text, "init() failed with code %d%s%s", rc, text[0] == '\0' ? "" : ": ",
				 text);
			free(u);
			return false;
		}
		u->origin = p->origin;
		u->next = users;
		users = u;
	}
	u->sets++;
	p->inited = true;
	return true;
}

static void last_use(struct plugin *p)
{
	for (struct user **at = &users; *at != NULL; at = &(*at)->next) {
		struct user *u = *at;
		if (u->origin != p->origin)
			continue;
		if (--u->sets == 0) {
			*at = u->next;
			free(u);
			if (p->desc->fini != NULL)
				p->desc->fini();
		}
		return;
	}
}

/* ---- one file ---- */

static bool digest_file(const char *path, char hex[65])
{
	crypto_hash_sha256_state state;
	unsigned char buf[16384], hash[crypto_hash_sha256_BYTES];
	size_t n;
	FILE *f = fopen(path, "rbe");

	if (f == NULL)
		return false;
	crypto_hash_sha256_init(&state);
	while ((n = fread(buf, 1, sizeof buf, f)) > 0)
		crypto_hash_sha256_update(&state, buf, n);
	bool ok = !ferror(f);
	fclose(f);
	crypto_hash_sha256_final(&state, hash);
	sodium_bin2hex(hex, 65, hash, sizeof hash);
	return ok;
}

static void plugin_free(struct plugin *p)
{
	if (p == NULL)
		return;
	if (p->inited)
		last_use(p);
	if (p->handle != NULL)
		dlclose(p->handle);
	free(p->params);
	free(p->path);
	free(p);
}

static bool open_file(struct plugin *p, struct plugin_reason *why)
{
	const struct weft_plugin *(*entry)(void);
	struct stat st;

	if (stat(p->path, &st) != 0 || !S_ISREG(st.st_mode) || !digest_file(p->path, p->digest)) {
		snprintf(why->text, sizeof why->text, "it cannot be read as a file");
		return false;
	}
	p->handle = dlopen(p->path, RTLD_NOW | RTLD_LOCAL);
	if (p->handle == NULL) {
		snprintf(why->text, sizeof why->text, "it cannot be opened: %s", dlerror());
		return false;
	}
	*(void **)&entry = dlsym(p->handle, "weft_plugin");
	if (entry == NULL) {
		snprintf(why->text, sizeof why->text, "it does not export weft_plugin");
		return false;
	}
	p->origin = entry();
	return plugin_check(p, p->origin, why);
}

/* A plugin that passes every check and is init()ed, or NULL with one line reported. */
static struct plugin *plugin_open(const char *dir, const char *file, const struct plugin_set *set, const struct reporter *r)
{
	struct plugin_reason why = {""};
	struct plugin *p = calloc(1, sizeof *p);
	size_t len = strlen(dir) + strlen(file) + 2;

	if (p == NULL || (p->path = malloc(len)) == NULL) {
		say(r, "%s/%s: out of memory", dir, file);
		plugin_free(p);
		return NULL;
	}
	snprintf(p->path, len, "%s/%s", dir, file);
	if (!open_file(p, &why) || !plugin_check_set(p, set, &why) || !first_use(p, &why)) {
		say(r, "%s: left out: %s", p->path, why.text);
		plugin_free(p);
		return NULL;
	}
	return p;
}

/* ---- the set ---- */

static int set_add(struct plugin_set *s, struct plugin *p)
{
	struct plugin **list = realloc(s->list, (s->n + 1) * sizeof *list);
	size_t at = s->n;

	if (list == NULL)
		return -1;
	s->list = list;
	for (; at > 0 && strcmp(list[at - 1]->desc->name, p->desc->name) > 0; at--)
		list[at] = list[at - 1];
	list[at] = p;
	s->n++;
	return 0;
}

static int is_plugin_file(const struct dirent *d)
{
	size_t n = strlen(d->d_name);

	return n > 3 && d->d_name[0] != '.' && strcmp(d->d_name + n - 3, ".so") == 0;
}

/* Byte order, so that a folder loads alike in every locale. */
static int by_bytes(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int load_dir(struct plugin_set *s, const char *dir, const struct reporter *r)
{
	struct dirent **files = NULL;
	int n = scandir(dir, &files, is_plugin_file, by_bytes), rc = 0;

	if (n < 0) {
		say(r, "%s: the folder cannot be read: %s", dir, strerror(errno));
		return 0;
	}
	if (n > FILES_MAX)
		say(r, "%s: holds %d files; those behind the first %d are left out", dir, n, FILES_MAX);
	for (int i = 0; i < n; i++) {
		struct plugin *p = rc == 0 && i < FILES_MAX ? plugin_open(dir, files[i]->d_name, s, r) : NULL;
		if (p != NULL && set_add(s, p) != 0) {
			plugin_free(p);
			rc = -1;
		}
		free(files[i]);
	}
	free(files);
	return rc;
}

struct plugin_set *plugin_set_load(const char *const *dirs, size_t n_dirs, void (*report)(void *arg, const char *text), void *arg)
{
	struct reporter r = {report, arg};
	struct plugin_set *s = calloc(1, sizeof *s);

	if (s == NULL)
		return NULL;
	s->refs = 1;
	for (size_t i = 0; i < n_dirs; i++)
		if (load_dir(s, dirs[i], &r) != 0) {
			plugin_set_unref(s);
			return NULL;
		}
	return s;
}

struct plugin_set *plugin_set_ref(struct plugin_set *s)
{
	s->refs++;
	return s;
}

void plugin_set_unref(struct plugin_set *s)
{
	if (s == NULL || --s->refs > 0)
		return;
	for (size_t i = s->n; i > 0; i--)
		plugin_free(s->list[i - 1]);
	free(s->list);
	free(s);
}

const struct plugin *plugin_find(const struct plugin_set *s, const char *name)
{
	for (size_t i = 0; i < s->n; i++)
		if (strcmp(s->list[i]->desc->name, name) == 0)
			return s->list[i];
	return NULL;
}
