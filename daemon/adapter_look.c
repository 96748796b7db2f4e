/* adapter_look.c: what lies in the adapters' folders: their listings, and prints by which a changed file is known. [any], may block: what is read here
 * of a struct adapters does not change while it lives. */
#include "config.h"
#include "adapters.h"
#include "log.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

bool adapter_name_valid(const char *name, size_t len)
{
	if (len == 0 || len > ADAPTER_NAME_MAX || name[0] == '.')
		return false;
	for (size_t i = 0; i < len; i++)
		if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-", name[i]) || !name[i])
			return false;
	return true;
}

/* ---- prints ---- */

static bool stamp(struct adapter_stamp *s, const char *path)
{
	struct stat st;
	memset(s, 0, sizeof *s);
	if (stat(path, &st))
		return false;
	*s = (struct adapter_stamp){.device = st.st_dev,
				    .inode = st.st_ino,
				    .size = S_ISDIR(st.st_mode) ? 0 : (uint64_t)st.st_size,
				    .modified = st.st_mtim,
				    .changed = st.st_ctim};
	return true;
}

bool adapter_take_print(struct adapter_print *p, const char *path)
{
	static const char *const names[ADAPTER_FILES] = {"adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"};
	char file[4096];
	struct stat st;
	memset(p, 0, sizeof *p);
	if (stat(path, &st))
		return false;
	if (!S_ISDIR(st.st_mode))
		return stamp(&p->file[0], path);
	for (int i = 0; i < ADAPTER_FILES; i++) {
		snprintf(file, sizeof file, "%s/%s", path, names[i]);
		stamp(&p->file[i], file);
	}
	return true;
}

bool adapter_same_print(const struct adapter_print *a, const struct adapter_print *b)
{
	for (int i = 0; i < ADAPTER_FILES; i++) {
		const struct adapter_stamp *x = &a->file[i], *y = &b->file[i];
		if (x->device != y->device || x->inode != y->inode || x->size != y->size ||
		    x->modified.tv_sec != y->modified.tv_sec || x->modified.tv_nsec != y->modified.tv_nsec ||
		    x->changed.tv_sec != y->changed.tv_sec || x->changed.tv_nsec != y->changed.tv_nsec)
			return false;
	}
	return true;
}

/* ---- folders ---- */

static bool is_gguf(const char *name)
{
	size_t len = strlen(name);
	return len > 5 && strcmp(name + len - 5, ".gguf") == 0;
}

static bool is_candidate(const char *folder, const struct dirent *d)
{
	char path[4096];
	struct stat st;
	bool gguf = is_gguf(d->d_name);
	if (!adapter_name_valid(d->d_name, strlen(d->d_name)))
		return false;
	if (d->d_type == DT_DIR || (d->d_type == DT_REG && gguf))
		return true;
	if (d->d_type != DT_LNK && d->d_type != DT_UNKNOWN)
		return false;
	snprintf(path, sizeof path, "%s/%s", folder, d->d_name);
	return stat(path, &st) == 0 && (S_ISDIR(st.st_mode) || (S_ISREG(st.st_mode) && gguf));
}

static int by_name_then_folder(const void *x, const void *y)
{
	const struct adapter_listed *a = x, *b = y;
	int order = strcmp(a->name, b->name);
	return order ? order : a->folder < b->folder ? -1 : a->folder > b->folder;
}

static bool list_name(struct adapter_listing *l, const char *name, size_t folder)
{
	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 256;
		struct adapter_listed *grown = realloc(l->list, cap * sizeof *grown);
		if (!grown)
			return false;
		l->list = grown;
		l->cap = cap;
	}
	l->list[l->n].folder = folder;
	return (l->list[l->n].name = strdup(name)) && ++l->n;
}

static void list_folder(const struct adapters *a, size_t folder, struct adapter_listing *l)
{
	DIR *dir = opendir(a->folders[folder]);
	const struct dirent *d;
	if (!dir) {
		log_warning("adapters: %s: %s", a->folders[folder], strerror(errno));
		return;
	}
	while ((d = readdir(dir)))
		if (is_candidate(a->folders[folder], d) && !list_name(l, d->d_name, folder)) {
			log_warning("adapters: %s: out of memory", a->folders[folder]);
			break;
		}
	closedir(dir);
}

void adapters_list(const struct adapters *a, struct adapter_listing *l)
{
	size_t kept = 0;
	*l = (struct adapter_listing){0};
	for (size_t i = 0; i < a->n_folders; i++)
		list_folder(a, i, l);
	if (l->n)
		qsort(l->list, l->n, sizeof *l->list, by_name_then_folder);
	for (size_t i = 0; i < l->n; i++)
		if (kept && strcmp(l->list[kept - 1].name, l->list[i].name) == 0)
			free(l->list[i].name); /* the first folder that has a name gives it */
		else
			l->list[kept++] = l->list[i];
	l->n = kept;
}

void adapter_listing_finish(struct adapter_listing *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->list[i].name);
	free(l->list);
	*l = (struct adapter_listing){0};
}

void adapters_look(const struct adapters *a, const char *name, struct adapter_sight *out)
{
	char path[4096];
	struct stat st;
	*out = (struct adapter_sight){0};
	if (!adapter_name_valid(name, strlen(name)))
		return;
	for (size_t i = 0; i < a->n_folders && !out->there; i++) {
		snprintf(path, sizeof path, "%s/%s", a->folders[i], name);
		if (stat(path, &st) || !(S_ISDIR(st.st_mode) || (S_ISREG(st.st_mode) && is_gguf(name))))
			continue;
		out->there = adapter_take_print(&out->print, path);
		out->folder = i;
	}
}

bool adapter_sight_same(const struct adapter_sight *a, const struct adapter_sight *b)
{
	return a->there == b->there && a->folder == b->folder && adapter_same_print(&a->print, &b->print);
}
