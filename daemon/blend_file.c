/* blend_file.c: JSON in and out. */
#include "config.h"
#include "blend_file.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FORMAT_VERSION = 1, LISTED = 1024 };

void blend_file_free(struct blend_file *f)
{
	for (uint32_t i = 0; f && i < f->n; i++)
		free(f->part[i].weights);
	free(f);
}

static int bad(char *why, const char *text)
{
	snprintf(why, BLEND_FILE_WHY, "%s", text);
	return -1;
}

/* ---- reading ---- */

static bool take_text(const json_t *o, const char *key, char *out, size_t size)
{
	const json_t *v = json_object_get(o, key);
	if (!json_is_string(v) || json_string_length(v) >= size)
		return false;
	snprintf(out, size, "%s", json_string_value(v));
	return true;
}

static bool take_number(const json_t *v, float *out)
{
	*out = (float)json_number_value(v);
	return json_is_number(v) && isfinite(*out);
}

static int read_weights(struct blend_file_part *p, const json_t *layers, uint32_t n, char *why)
{
	double sum = 0;
	if (json_array_size(layers) != n)
		return bad(why, "weights: expected an array of as many layers as the base has");
	p->weights = malloc((size_t)n * CORE_LINEARS * sizeof *p->weights);
	if (!p->weights)
		return bad(why, "out of memory");
	for (size_t i = 0; i < n; i++) {
		const json_t *row = json_array_get(layers, i);
		if (json_array_size(row) != CORE_LINEARS)
			return bad(why, "weights: expected seven numbers for each layer");
		for (size_t l = 0; l < CORE_LINEARS; l++) {
			float *w = &p->weights[i * CORE_LINEARS + l];
			if (!take_number(json_array_get(row, l), w))
				return bad(why, "weights: expected numbers in the range of f32");
			sum += *w;
		}
	}
	p->weight = (float)(sum / (n * CORE_LINEARS));
	return 0;
}

static int read_part(struct blend_file *f, const json_t *o, char *why)
{
	struct blend_file_part *p = &f->part[f->n++];
	const json_t *weight = json_object_get(o, "weight"), *weights = json_object_get(o, "weights");
	if (!take_text(o, "name", p->name, sizeof p->name) || !adapter_name_valid(p->name, strlen(p->name)))
		return bad(why, "adapters: expected a name that an adapter can have");
	if (!take_text(o, "digest", p->digest, sizeof p->digest) || strlen(p->digest) != 64)
		return bad(why, "adapters: expected a digest of 64 hex characters");
	for (uint32_t i = 0; i + 1 < f->n; i++)
		if (strcmp(f->part[i].name, p->name) == 0)
			return bad(why, "adapters: one is named twice");
	if (!weight == !weights)
		return bad(why, "adapters: expected either weight or weights");
	if (weights)
		return read_weights(p, weights, f->layers, why);
	return take_number(weight, &p->weight) ? 0 : bad(why, "weight: expected a number in the range of f32");
}

static void read_learned(struct blend_file *f, const json_t *learned)
{
	const json_t *h = json_object_get(learned, "held_out"), *each = json_object_get(h, "adapters");
	take_text(learned, "by", f->by, sizeof f->by);
	take_text(learned, "method", f->method, sizeof f->method);
	f->held_out.base = json_number_value(json_object_get(h, "base"));
	f->held_out.uniform = json_number_value(json_object_get(h, "uniform"));
	f->held_out.learned = json_number_value(json_object_get(h, "learned"));
	f->has_losses = json_is_number(json_object_get(h, "learned"));
	for (uint32_t i = 0; i < f->n; i++)
		f->held_out.adapter[i] = json_number_value(json_object_get(each, f->part[i].name));
}

static int read_all(struct blend_file *f, const json_t *o, char *why)
{
	const json_t *version = json_object_get(o, "version"), *base = json_object_get(o, "base"),
		     *parts = json_object_get(o, "adapters"), *layers = json_object_get(base, "layers");
	const char *format = json_string_value(json_object_get(o, "format"));
	if (!format || strcmp(format, "weft-blend") != 0)
		return bad(why, "format: expected \"weft-blend\"");
	if (!json_is_integer(version) || json_integer_value(version) != FORMAT_VERSION)
		return bad(why, "version: expected 1");
	if (!json_is_integer(layers) || json_integer_value(layers) < 1 || json_integer_value(layers) > 65536)
		return bad(why, "base.layers: expected the number of the base's layers");
	take_text(base, "name", f->base, sizeof f->base);
	f->layers = (uint32_t)json_integer_value(layers);
	if (json_array_size(parts) < 1 || json_array_size(parts) > CORE_BLEND_MAX)
		return bad(why, "adapters: expected an array of 1 to 16");
	for (size_t i = 0; i < json_array_size(parts); i++)
		if (read_part(f, json_array_get(parts, i), why))
			return -1;
	read_learned(f, json_object_get(o, "learned"));
	return 0;
}

static char *read_bytes(const char *path, size_t *len, char *why)
{
	FILE *file = fopen(path, "rbe");
	struct stat st;
	char *text = NULL;
	if (!file || fstat(fileno(file), &st)) {
		bad(why, strerror(errno));
	} else if (!S_ISREG(st.st_mode) || st.st_size > BLEND_FILE_MAX) {
		bad(why, "it is no file, or larger than 4 MiB");
	} else if (!(text = malloc((size_t)st.st_size + 1))) {
		bad(why, "out of memory");
	} else {
		*len = fread(text, 1, (size_t)st.st_size, file);
	}
	if (file)
		fclose(file);
	return text;
}

struct blend_file *blend_file_read(const char *path, const char *name, char why[static BLEND_FILE_WHY])
{
	size_t len;
	char *text = read_bytes(path, &len, why);
	struct blend_file *f = text ? calloc(1, sizeof *f) : NULL;
	json_error_t error;
	json_t *o = f ? json_loadb(text, len, JSON_REJECT_DUPLICATES, &error) : NULL;
	int rc = -1;
	if (o)
		rc = read_all(f, o, why);
	else if (f)
		snprintf(why, BLEND_FILE_WHY, "line %d: %.200s", error.line, error.text);
	else if (text)
		bad(why, "out of memory");
	json_decref(o);
	free(text);
	if (rc) {
		blend_file_free(f);
		return NULL;
	}
	snprintf(f->name, sizeof f->name, "%s", name);
	return f;
}

void blend_file_wishes(const struct blend_file *f, struct adapter_wish *out, size_t *n)
{
	*n = f->n;
	for (uint32_t i = 0; i < f->n; i++) {
		const struct blend_file_part *p = &f->part[i];
		out[i] = (struct adapter_wish){.scale = p->weights ? 1 : p->weight, .digest = p->digest, .weights = p->weights};
		memcpy(out[i].name, p->name, sizeof out[i].name);
	}
}

/* ---- writing ---- */

/* What reads back as the same f32. */
static json_t *single(float f)
{
	char text[32];
	snprintf(text, sizeof text, "%.9g", (double)f);
	return json_real(strtod(text, NULL));
}

static json_t *part_json(const struct blend_file *f, const struct blend_file_part *p)
{
	json_t *o = json_pack("{s:s, s:s}", "name", p->name, "digest", p->digest), *layers;
	if (!p->weights) {
		json_object_set_new(o, "weight", single(p->weight));
		return o;
	}
	layers = json_array();
	for (uint32_t i = 0; i < f->layers; i++) {
		json_t *row = json_array();
		for (unsigned l = 0; l < CORE_LINEARS; l++)
			json_array_append_new(row, single(p->weights[i * CORE_LINEARS + l]));
		json_array_append_new(layers, row);
	}
	json_object_set_new(o, "weights", layers);
	return o;
}

static json_t *losses_json(const struct blend_file *f, const struct core_learn_losses *h)
{
	json_t *o = json_pack("{s:f, s:f, s:f}", "base", h->base, "uniform", h->uniform, "learned", h->learned), *each = json_object();
	for (uint32_t i = 0; i < f->n; i++)
		json_object_set_new(each, f->part[i].name, json_real(h->adapter[i]));
	json_object_set_new(o, "adapters", each);
	return o;
}

static json_t *learned_json(const struct blend_file *f, const struct blend_learned *how)
{
	const struct core_learn_params *q = how->params;
	const struct core_learn_result *r = how->result;
	bool search = q->method == CORE_LEARN_SEARCH;
	json_t *curve = json_array();
	json_t *o = json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:f, s:I, s:I, s:I}", "method", core_learn_method_name(q->method), "by",
			      core_learn_by_name(q->by), "form", core_learn_form_name(q->form), "seed", (json_int_t)q->seed, "steps",
			      (json_int_t)r->steps, "batch", (json_int_t)q->batch, "penalty", q->l1, "examples", (json_int_t)r->n_learned,
			      "held_out_examples", (json_int_t)r->n_held_out, "held_out_tokens", (json_int_t)r->answer_tokens);
	if (search)
		json_object_set_new(o, "bound", json_real(q->bound));
	else
		json_object_set_new(o, "rate", json_real(q->rate));
	json_object_set_new(o, "held_out", losses_json(f, &r->held_out));
	for (uint32_t i = 0; i < r->steps; i++)
		json_array_append_new(curve, json_real(r->curve[i]));
	json_object_set_new(o, "curve", curve);
	return o;
}

static json_t *file_json(const struct blend_file *f, const struct blend_learned *how)
{
	json_t *parts = json_array();
	json_t *o = json_pack("{s:s, s:i, s:{s:s, s:I}}", "format", "weft-blend", "version", FORMAT_VERSION, "base", "name", f->base, "layers",
			      (json_int_t)f->layers);
	for (uint32_t i = 0; i < f->n; i++)
		json_array_append_new(parts, part_json(f, &f->part[i]));
	json_object_set_new(o, "adapters", parts);
	json_object_set_new(o, "learned", learned_json(f, how));
	return o;
}

static int sync_folder(const char *path)
{
	char folder[4096];
	int fd;
	snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path), path);
	fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	int rc = fsync(fd);
	close(fd);
	return rc;
}

/* Beside its place under a hidden name, then flushed, then named. */
static int put(const char *text, size_t len, const char *path, bool replace, char *why)
{
	const char *name = strrchr(path, '/') + 1;
	char *draft = NULL;
	int fd = -1, rc = -1;
	if (asprintf(&draft, "%.*s.%s.draft", (int)(name - path), path, name) < 0)
		return bad(why, "out of memory");
	unlink(draft); /* of one that was killed */
	fd = open(draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	while (fd >= 0 && len) {
		ssize_t n = write(fd, text, len);
		if (n < 0)
			break;
		text += n;
		len -= (size_t)n;
	}
	bool written = fd >= 0 && !len && fsync(fd) == 0;
	if (!written)
		bad(why, strerror(errno));
	else if (replace ? rename(draft, path) == 0 : link(draft, path) == 0)
		rc = sync_folder(path) ? bad(why, strerror(errno)) : 0;
	else
		rc = errno == EEXIST ? bad(why, "there is something of that name already"), -2 : bad(why, strerror(errno));
	if (fd >= 0)
		close(fd);
	unlink(draft);
	free(draft);
	return rc;
}

int blend_file_write(const struct blend_file *f, const struct blend_learned *how, const char *path, bool replace,
		     char why[static BLEND_FILE_WHY])
{
	json_t *o = file_json(f, how);
	char *text = o ? json_dumps(o, JSON_INDENT(1) | JSON_REAL_PRECISION(17)) : NULL;
	int rc = text ? put(text, strlen(text), path, replace, why) : bad(why, "out of memory");
	json_decref(o);
	free(text);
	return rc;
}

/* ---- listing ---- */

static bool blend_name(const char *file, char name[static ADAPTER_NAME_MAX + 1])
{
	size_t len = strlen(file), tail = strlen(BLEND_FILE_SUFFIX);
	if (len <= tail || strcmp(file + len - tail, BLEND_FILE_SUFFIX) != 0 || !adapter_name_valid(file, len - tail))
		return false;
	memcpy(name, file, len - tail);
	name[len - tail] = 0;
	return true;
}

static void list_folder(struct blend_listing *l, const char *folder)
{
	DIR *dir = opendir(folder);
	const struct dirent *d;
	while (dir && (d = readdir(dir)) && l->n < LISTED) {
		struct blend_listed *b = &l->list[l->n];
		char path[4096];
		bool known = false;
		if (!blend_name(d->d_name, b->name))
			continue;
		for (size_t i = 0; i < l->n; i++)
			known |= strcmp(l->list[i].name, b->name) == 0; /* the first folder that has a name gives it */
		if (known)
			continue;
		snprintf(path, sizeof path, "%s/%s", folder, d->d_name);
		b->file = blend_file_read(path, b->name, b->why);
		l->n++;
	}
	if (dir)
		closedir(dir);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct blend_listed *)a)->name, ((const struct blend_listed *)b)->name);
}

void blend_files_list(const struct adapters *a, struct blend_listing *l)
{
	*l = (struct blend_listing){.list = calloc(LISTED, sizeof *l->list)};
	for (size_t i = 0; l->list && i < a->n_folders; i++)
		list_folder(l, a->folders[i]);
	if (l->n)
		qsort(l->list, l->n, sizeof *l->list, by_name);
}

void blend_listing_finish(struct blend_listing *l)
{
	for (size_t i = 0; i < l->n; i++)
		blend_file_free(l->list[i].file);
	free(l->list);
	*l = (struct blend_listing){0};
}
