/* write_base.c: the result added to the base, as a HF folder of its own.
 *
 * One tensor after another goes from the base's map to a shard: as it is, or with s B A added in double and rounded once to the
 * tensor's own type (FACTS 2.5). Neither the base nor the result is ever in memory as a whole; what was read of the map is given
 * back. */
#include "config.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "plan.h"

enum { SHARD_NAME = 64 };
static const uint64_t usual_shard = 5000000000, copy_max = 256 << 20;

/* ---- one tensor ---- */

static void give_back(const struct tensor *t)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = ((uintptr_t)t->data + page - 1) / page * page,
		  end = ((uintptr_t)t->data + t->bytes) / page * page;

	if (end > begin)
		madvise((void *)begin, end - begin, MADV_DONTNEED);
}

static int copy_tensor(struct plan *p, struct file *f, const struct tensor *t, struct core_error *err)
{
	int rc = 0;

	for (uint64_t at = 0; at < t->bytes && rc == 0; at += 1 << 20) {
		uint64_t some = t->bytes - at < 1 << 20 ? t->bytes - at : 1 << 20;
		rc = file_write(f, (const char *)t->data + at, some, err);
		if (rc == 0)
			rc = fuse_stopped(p->watch, err);
	}
	return rc;
}

/* Row of the weight += what the factors add to it. The embedding's rows are tokens: columns of A, and B's columns are directions.
 * */
static void add_factors(const struct plan_module *m, const struct fuse_factors *f, const float *directions, uint64_t row,
			uint64_t columns, double *values)
{
	for (uint32_t k = 0; k < f->rank; k++) {
		double x = (double)(m->kind == LORA_EMBED ? f->a[k * m->in + row] : f->b[row * f->rank + k]);
		const float *d = directions + k * columns;
		for (uint64_t c = 0; c < columns; c++)
			values[c] += x * (double)d[c];
	}
}

/* [rank][columns]: A itself, or the embedding's B transposed (owned by the caller). */
static float *directions_of(const struct plan_module *m, const struct fuse_factors *f)
{
	float *d;

	if (m->kind != LORA_EMBED)
		return f->a;
	d = calloc(f->rank * m->out, sizeof *d);
	for (uint64_t o = 0; o < m->out && d != NULL; o++)
		for (uint32_t k = 0; k < f->rank; k++)
			d[k * m->out + o] = f->b[o * f->rank + k];
	return d;
}

static int merge_rows(struct plan *p, struct file *f, const struct tensor *t, const struct plan_module *m,
		      const struct fuse_factors *factors, struct core_error *err)
{
	uint64_t columns = t->dims[1];
	float *row = calloc(columns, sizeof *row), *directions = directions_of(m, factors);
	double *sum = calloc(columns, sizeof *sum), *values = calloc(columns, sizeof *values);
	int rc = row != NULL && directions != NULL && sum != NULL && values != NULL
			 ? 0
			 : core_fail(err, CORE_ENOMEM, "%s: out of memory", t->name);

	for (uint64_t r = 0; r < t->dims[0] && rc == 0; r++) {
		tensor_row_f32(t, r, row);
		memset(sum, 0, columns * sizeof *sum);
		add_factors(m, factors, directions, r, columns, sum);
		for (uint64_t c = 0; c < columns; c++)
			values[c] = (double)row[c] + sum[c];
		rc = st_values(f, t->type, values, columns, t->name, err);
		if (rc == 0)
			rc = fuse_stopped(p->watch, err);
	}
	if (directions != factors->a)
		free(directions);
	free(row);
	free(sum);
	free(values);
	return rc;
}

static const struct plan_module *module_of(const struct plan *p, const struct tensor *t)
{
	size_t n = strlen(t->name);

	for (size_t i = 0; i < p->n; i++) {
		size_t k = strlen(p->modules[i].name);
		if (n == k + strlen(".weight") && strncmp(t->name, p->modules[i].name, k) == 0 &&
		    strcmp(t->name + k, ".weight") == 0)
			return &p->modules[i];
	}
	return NULL;
}

static int write_tensor(struct plan *p, struct file *f, const struct tensor *t, struct core_error *err)
{
	const struct plan_module *m = module_of(p, t);
	struct fuse_factors factors = {0};
	int rc;

	if (m == NULL) {
		rc = copy_tensor(p, f, t, err);
	} else {
		rc = plan_combine(p, m, &factors, err);
		if (rc == 0)
			rc = merge_rows(p, f, t, m, &factors, err);
		fuse_factors_finish(&factors);
	}
	give_back(t);
	return rc == 0 ? plan_advance(p, (double)t->bytes, err) : rc;
}

/* ---- shards ---- */

struct shards {
	size_t *first; /* [n + 1]: the tensors of shard i are first[i] .. first[i + 1] - 1 */
	size_t n;
	uint64_t bytes; /* of all tensors */
};

static int divide(const struct plan *p, struct shards *s, struct core_error *err)
{
	const struct checkpoint *cp = p->job->base;
	uint64_t most = p->job->shard_bytes > 0 ? p->job->shard_bytes : usual_shard, used = 0;

	s->first = calloc(checkpoint_count(cp) + 1, sizeof *s->first);
	if (s->first == NULL)
		return core_fail(err, CORE_ENOMEM, "out of memory for the tensor list");
	s->n = 1;
	for (size_t i = 0; i < checkpoint_count(cp); i++) {
		uint64_t bytes = checkpoint_at(cp, i)->bytes;
		if (used > 0 && bytes > most - (used < most ? used : most)) {
			s->first[s->n++] = i;
			used = 0;
		}
		used += bytes;
		s->bytes += bytes;
	}
	s->first[s->n] = checkpoint_count(cp);
	return 0;
}

static void shard_name(char *out, const struct shards *s, size_t i)
{
	if (s->n == 1)
		snprintf(out, SHARD_NAME, "model.safetensors");
	else
		snprintf(out, SHARD_NAME, "model-%05zu-of-%05zu.safetensors", i + 1, s->n);
}

static int write_shard(struct plan *p, struct stage *stage, const struct shards *s, size_t i, struct core_error *err)
{
	const struct checkpoint *cp = p->job->base;
	size_t n = s->first[i + 1] - s->first[i];
	struct st_tensor *list = calloc(n, sizeof *list);
	struct file f = {0};
	char name[SHARD_NAME];
	int rc = list != NULL ? 0 : core_fail(err, CORE_ENOMEM, "out of memory for the tensor list");

	shard_name(name, s, i);
	for (size_t k = 0; k < n && rc == 0; k++) {
		const struct tensor *t = checkpoint_at(cp, s->first[i] + k);
		list[k] = (struct st_tensor){t->name, t->type, t->n_dims, t->dims, t->bytes};
	}
	if (rc == 0)
		rc = file_open(&f, stage, name, err);
	if (rc == 0)
		f.sum = &p->sum;
	if (rc == 0)
		rc = st_begin(&f, list, n, err);
	for (size_t k = 0; k < n && rc == 0; k++)
		rc = write_tensor(p, &f, checkpoint_at(cp, s->first[i] + k), err);
	if (rc == 0)
		rc = file_close(&f, err);
	file_drop(&f);
	free(list);
	return rc;
}

static int write_index(const struct plan *p, struct stage *stage, const struct shards *s, struct core_error *err)
{
	json_t *map = json_object(), *root;
	char name[SHARD_NAME], *text;
	int rc;

	for (size_t i = 0; i < s->n; i++) {
		shard_name(name, s, i);
		for (size_t k = s->first[i]; k < s->first[i + 1]; k++)
			json_object_set_new(map, checkpoint_at(p->job->base, k)->name, json_string(name));
	}
	root = json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)s->bytes, "weight_map", map);
	text = root != NULL ? json_dumps(root, JSON_INDENT(1)) : NULL;
	rc = write_text(stage, "model.safetensors.index.json", text, err);
	json_decref(root);
	free(text);
	return rc;
}

/* ---- the base's other files ---- */

static bool ends(const char *name, const char *tail)
{
	size_t n = strlen(name), k = strlen(tail);

	return n >= k && strcmp(name + n - k, tail) == 0;
}

/* Configs, tokenizers and licences; no weights in any form, no lists of them, nothing hidden. */
static bool is_companion(const char *name)
{
	static const char *const tails[] = {".json", ".model", ".txt", ".jinja", ".md"}, *const heads[] = {"LICENSE", "NOTICE",
													   "USE_POLICY"};

	if (name[0] == '.' || ends(name, ".index.json") || strcmp(name, "fuse.json") == 0 || strcasecmp(name, "README.md") == 0)
		return false;
	for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++)
		if (ends(name, tails[i]))
			return true;
	for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
		if (strncasecmp(name, heads[i], strlen(heads[i])) == 0)
			return true;
	return false;
}

static int copy_bytes(int from, struct file *to, struct core_error *err)
{
	char some[65536];
	ssize_t n;
	int rc = 0;

	while (rc == 0 && (n = read(from, some, sizeof some)) != 0) {
		if (n > 0)
			rc = file_write(to, some, (size_t)n, err);
		else if (errno != EINTR)
			rc = core_fail(err, CORE_EIO, "%s: %s", to->name, strerror(errno));
	}
	return rc == 0 ? file_close(to, err) : rc;
}

/* Follows links: a hub cache is made of them. A folder or a device of such a name is left where it is. */
static int copy_companion(int folder, const char *name, struct stage *s, struct core_error *err)
{
	int from = openat(folder, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC), rc = 0;
	struct file to = {0};
	struct stat st;

	if (from < 0 || fstat(from, &st) < 0)
		rc = core_fail(err, CORE_EIO, "%.100s: %s", name, strerror(errno));
	else if (S_ISREG(st.st_mode) && (uint64_t)st.st_size > copy_max)
		rc = core_fail(err, CORE_EUNSUPPORTED,
			       "%.100s: more than %" PRIu64 " bytes: not copied as a config or tokenizer file", name, copy_max);
	else if (S_ISREG(st.st_mode)) {
		rc = file_open(&to, s, name, err);
		if (rc == 0)
			rc = copy_bytes(from, &to, err);
	}
	file_drop(&to);
	if (from >= 0)
		close(from);
	return rc;
}

static int copy_companions(const struct plan *p, struct stage *s, struct core_error *err)
{
	DIR *d = opendir(p->job->base_path);
	struct dirent *e;
	int rc = d != NULL ? 0 : core_fail(err, CORE_EIO, "%.200s: %s", p->job->base_path, strerror(errno));

	while (rc == 0 && (e = readdir(d)) != NULL)
		if (is_companion(e->d_name))
			rc = copy_companion(dirfd(d), e->d_name, s, err);
	if (d != NULL)
		closedir(d);
	return rc;
}

/* ---- all ---- */

int write_base(struct plan *p, struct stage *stage, struct core_error *err)
{
	const struct llama_config *c = checkpoint_config(p->job->base);
	struct shards s = {0};
	char *record = plan_record(p);
	int rc = 0;

	if (c->tied && p->modules[p->n - 1].kind == LORA_EMBED)
		rc = core_fail(err, CORE_EUNSUPPORTED,
			       "model.embed_tokens: the base's lm_head shares this weight and would change with it");
	if (rc == 0)
		rc = divide(p, &s, err);
	p->work = (double)s.bytes;
	if (rc == 0)
		rc = copy_companions(p, stage, err);
	if (rc == 0)
		rc = write_text(stage, "fuse.json", record, err);
	for (size_t i = 0; i < s.n && rc == 0; i++)
		rc = write_shard(p, stage, &s, i, err);
	if (rc == 0 && s.n > 1)
		rc = write_index(p, stage, &s, err);
	free(s.first);
	free(record);
	return rc;
}
