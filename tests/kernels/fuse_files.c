/* Whole fusions of the fixtures' adapters: each form says what the blend says; what is cut short leaves nothing. */
#include "config.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "adapter_test.h"
#include "kernels/format/blocks.h"
#include "kernels/fuse/fuse.h"

/* ---- folders ---- */

static char folder[64];

static void remove_tree(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;

	while (d != NULL && (e = readdir(d)) != NULL) {
		char inner[700];
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		snprintf(inner, sizeof inner, "%s/%s", path, e->d_name);
		if (unlink(inner) < 0)
			remove_tree(inner);
	}
	if (d != NULL)
		closedir(d);
	rmdir(path);
}

static int make_folder(void **state)
{
	snprintf(folder, sizeof folder, "/tmp/weft-fuse-XXXXXX");
	return mkdtemp(folder) != NULL ? 0 : -1;
}

static int drop_folder(void **state)
{
	remove_tree(folder);
	return 0;
}

static const char *in_folder(const char *name)
{
	static char paths[4][400];
	static unsigned next;
	char *p = paths[next++ % 4];

	snprintf(p, sizeof paths[0], "%s/%s", folder, name);
	return p;
}

static bool exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

/* Names in the folder, without "." and "..". */
static unsigned count_names(const char *path)
{
	DIR *d = opendir(path);
	unsigned n = 0;

	assert_non_null(d);
	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n - 2;
}

static char *read_all(const char *path, size_t *n)
{
	FILE *f = fopen(path, "rb");
	char *text = malloc(4 << 20);

	if (f == NULL)
		fail_msg("%s is not there", path);
	*n = fread(text, 1, (4 << 20) - 1, f);
	text[*n] = '\0';
	fclose(f);
	return text;
}

static void expect_same_bytes(const char *a, const char *b)
{
	size_t n, m;
	char *x = read_all(a, &n), *y = read_all(b, &m);

	assert_int_equal(n, m);
	assert_memory_equal(x, y, n);
	free(x);
	free(y);
}

/* ---- a job on fixtures ---- */

enum { MOST = 3 };

struct work {
	struct checkpoint *base;
	struct lora_file files[MOST];
	struct fuse_input inputs[MOST];
	struct fuse_job job;
	char path[512];
};

static void work_begin(struct work *w, const char *base, const char *const *names, const double *weights, unsigned n)
{
	snprintf(w->path, sizeof w->path, "%s", golden_path(base));
	must(checkpoint_open(&w->base, w->path, &why));
	for (unsigned i = 0; i < n; i++) {
		must(lora_open(&w->files[i], adapter_path(names[i]), checkpoint_config(w->base), &why));
		w->inputs[i] = (struct fuse_input){names[i], weights[i], &w->files[i]};
	}
	w->job = (struct fuse_job){.base = w->base,
				   .base_path = w->path,
				   .inputs = w->inputs,
				   .n_inputs = n,
				   .recipe = {.type = FUSE_CAT},
				   .form = FUSE_TO_PEFT,
				   .type = TENSOR_F32};
}

static void work_end(struct work *w)
{
	for (unsigned i = 0; i < w->job.n_inputs; i++)
		lora_close(&w->files[i]);
	checkpoint_close(w->base);
}

static void make(struct work *w, enum fuse_form form, const char *target)
{
	w->job.form = form;
	w->job.target = target;
	must(fuse_run(&w->job, NULL, NULL, &why));
}

/* ---- forms against the blend ---- */

enum { TOKENS = 20 };

/* Logits of every token of a fixed text, [TOKENS][vocab]. */
static float *logits_of(const struct core_model *m, struct core_blend *b)
{
	uint32_t vocab = core_model_info(m)->vocab;
	struct core_ctx *c = new_ctx(m, "plain", 1, 8, 64);
	struct core_seq *s = core_seq_new(c);
	struct core_row rows[TOKENS];
	float *all = malloc(TOKENS * vocab * sizeof *all);

	must(core_seq_set_blend(c, s, b));
	for (int i = 0; i < TOKENS; i++)
		rows[i] = (struct core_row){s, (int32_t)((unsigned)(i * 31 + i * i * 3 + 7) % vocab), CORE_PROMPT, true};
	must(core_forward(c, rows, TOKENS, &why));
	for (uint32_t i = 0; i < TOKENS; i++)
		memcpy(all + i * vocab, core_logits(c, i), vocab * sizeof *all);
	core_seq_free(c, s);
	core_ctx_free(c);
	return all;
}

static double largest(const float *a, const float *b, size_t n)
{
	double most = 0;

	for (size_t i = 0; i < n; i++)
		most = fmax(most, fabs((double)a[i] - (b != NULL ? (double)b[i] : 0)));
	return most;
}

/* The blend's logits, and those of `path`: an adapter at scale 1, or (alone) a model. */
static void expect_logits(const struct work *w, const char *path, bool alone)
{
	struct core_model *m = load_model(w->path, CORE_QUANT_NONE), *other = alone ? load_model(path, CORE_QUANT_NONE) : m;
	size_t n = TOKENS * core_model_info(m)->vocab;
	struct core_blend_part parts[MOST], one = {.scale = 1};
	struct core_blend *blend, *fused = NULL;
	float *want, *got, *plain = logits_of(m, NULL);

	for (unsigned i = 0; i < w->job.n_inputs; i++)
		parts[i] = (struct core_blend_part){.adapter = load_adapter(m, w->inputs[i].name),
						    .scale = (float)w->inputs[i].weight};
	must(core_blend_new(&blend, parts, w->job.n_inputs, &why));
	want = logits_of(m, blend);
	if (!alone) {
		must(core_adapter_load(&one.adapter, m, path, &why));
		must(core_blend_new(&fused, &one, 1, &why));
		core_adapter_unref(one.adapter);
	}
	got = logits_of(other, fused);
	assert_true(largest(plain, want, n) > 1e-2 * largest(want, NULL, n)); /* the adapters matter */
	if (!(largest(want, got, n) < 1e-4 * largest(want, NULL, n)))
		fail_msg("%s: off by %g of %g", path, largest(want, got, n), largest(want, NULL, n));
	for (unsigned i = 0; i < w->job.n_inputs; i++)
		core_adapter_unref(parts[i].adapter);
	core_blend_unref(blend);
	core_blend_unref(fused);
	if (alone)
		core_model_free(other);
	core_model_free(m);
	free(want);
	free(got);
	free(plain);
}

static void expect_every_form(const char *base, const char *const *names, const double *weights, unsigned n, enum fuse_type type)
{
	struct work w;

	work_begin(&w, base, names, weights, n);
	w.job.recipe = (struct fuse_recipe){.type = type, .svd_rank = type == FUSE_SVD ? 64 : 0};
	make(&w, FUSE_TO_PEFT, in_folder("as-peft"));
	expect_logits(&w, in_folder("as-peft"), false);
	make(&w, FUSE_TO_GGUF, in_folder("as.gguf"));
	expect_logits(&w, in_folder("as.gguf"), false);
	make(&w, FUSE_TO_BASE, in_folder("as-base"));
	expect_logits(&w, in_folder("as-base"), true);
	assert_int_equal(count_names(folder), 3);
	work_end(&w);
}

static void cat_in_every_form_is_the_blend(void **state)
{
	expect_every_form("gqa-untied", (const char *const[]){"plain", "rslora", "bf16"}, (double[]){0.9, -0.6, 0.25}, 3, FUSE_CAT);
}

static void svd_of_full_rank_in_every_form_is_the_blend(void **state)
{
	expect_every_form("gqa-untied", (const char *const[]){"plain", "patterns"}, (double[]){0.7, -0.4}, 2, FUSE_SVD);
}

static void modules_and_layers_that_only_some_have_are_kept(void **state)
{
	expect_every_form("gqa-untied", (const char *const[]){"query-value", "one-layer", "embedding"}, (double[]){1, 0.5, 0.8}, 3,
			  FUSE_CAT);
}

static void the_embedding_of_a_gguf_adapter_is_read_by_token(void **state)
{
	expect_every_form("gqa-untied", (const char *const[]){"embedding.gguf", "plain.gguf"}, (double[]){0.8, 0.3}, 2, FUSE_SVD);
}

static void sizes_that_no_vector_divides(void **state)
{
	expect_every_form("odd-sizes", (const char *const[]){"odd-sizes"}, (double[]){-1.5}, 1, FUSE_LINEAR);
}

/* Every type goes through: same input, same bytes. */
static void every_type_is_written_twice_alike(void **state)
{
	struct work w;

	work_begin(&w, "gqa-untied", (const char *const[]){"plain", "f16"}, (double[]){0.7, 0.5}, 2);
	for (unsigned t = 0; t < FUSE_TYPES; t++) {
		bool thin = t != FUSE_LINEAR && t != FUSE_CAT && t != FUSE_SVD,
		     random = strstr(fuse_type_name((enum fuse_type)t), "dare") != NULL;
		char a[400], b[400];
		w.job.recipe = (struct fuse_recipe){.type = (enum fuse_type)t, .density = thin ? 0.4 : 0, .seed = random ? 3 : 0};
		snprintf(a, sizeof a, "%s/a%u", folder, t);
		snprintf(b, sizeof b, "%s/b%u", folder, t);
		make(&w, FUSE_TO_PEFT, a);
		make(&w, FUSE_TO_PEFT, b);
		strcat(a, "/adapter_model.safetensors");
		strcat(b, "/adapter_model.safetensors");
		expect_same_bytes(a, b);
	}
	work_end(&w);
}

static void halves_are_rounded_once_and_read_back(void **state)
{
	static const enum tensor_type types[] = {TENSOR_F16, TENSOR_BF16};
	struct work w;

	work_begin(&w, "gqa-untied", (const char *const[]){"plain"}, (double[]){0.7}, 1);
	for (int k = 0; k < 2; k++) {
		struct lora_file f;
		const char *path = in_folder(k == 0 ? "f16" : "bf16");
		float row[64], from[64];
		w.job.type = types[k];
		w.job.recipe.type = FUSE_CAT;
		make(&w, FUSE_TO_PEFT, path);
		must(lora_open(&f, path, checkpoint_config(w.base), &why));
		assert_int_equal(f.pairs[0].a->type, types[k]);
		assert_true(f.pairs[0].scale == 1 && f.pairs[0].a->dims[1] <= 64);
		tensor_row_f32(f.pairs[0].a, 1, row);
		tensor_row_f32(w.files[0].pairs[0].a, 1, from);
		for (uint64_t c = 0; c < f.pairs[0].a->dims[1]; c++) {
			float v = (float)(0.7 * (double)w.files[0].pairs[0].scale * (double)from[c]);
			assert_true(row[c] == (k == 0 ? half_to_float(float_to_half(v)) : bf16_to_float(float_to_bf16(v))));
		}
		lora_close(&f);
	}
	work_end(&w);
}

/* ---- merging ---- */

/* W + s B A for one q_proj of a tiny model in 16 bits: each number of the result is the type's nearest to the sum in double. */
static void expect_nearest(const char *base, enum tensor_type type)
{
	static float a[2 * 8], b[8 * 2], first[8];
	struct tensor ta = {.name = "a", .type = TENSOR_F32, .n_dims = 2, .dims = {2, 8}, .data = a, .bytes = sizeof a};
	struct tensor tb = {.name = "b", .type = TENSOR_F32, .n_dims = 2, .dims = {8, 2}, .data = b, .bytes = sizeof b};
	struct lora_pair pair = {.layer = 1, .kind = CORE_Q, .rank = 2, .scale = 1, .a = &ta, .b = &tb};
	struct lora_file file = {.pairs = &pair, .n_pairs = 1};
	struct fuse_input in = {"mine", 1, &file};
	struct checkpoint *cp, *made;
	char path[600];
	struct fuse_job job = {.base_path = path, .inputs = &in, .n_inputs = 1, .form = FUSE_TO_BASE, .target = in_folder(base)};
	const struct tensor *old, *new;

	snprintf(path, sizeof path, "%s/tests/kernels/fixtures/format/%s",
		 getenv("top_srcdir") != NULL ? getenv("top_srcdir") : ".", base);
	must(checkpoint_open(&cp, path, &why));
	old = checkpoint_find(cp, "model.layers.1.self_attn.q_proj.weight");
	tensor_row_f32(old, 0, first);
	/* In row 0 a little more than half a step is added: rounding to f32 on the way would make it a tie, and the tie go back. */
	for (int i = 0; i < 8; i++) {
		int exponent;
		frexp((double)first[i], &exponent);
		a[i] = ldexpf(1, exponent - (type == TENSOR_F16 ? 12 : 9));
		a[8 + i] = 0x1p-40f;
	}
	for (int i = 0; i < 16; i++)
		b[i] = i < 2 ? 1 : (float)cos(3 * i + 1);
	job.base = cp;
	must(fuse_run(&job, NULL, NULL, &why));
	must(checkpoint_open(&made, job.target, &why));
	new = checkpoint_find(made, "model.layers.1.self_attn.q_proj.weight");
	assert_int_equal(new->type, type);
	for (uint64_t r = 0; r < 8; r++) {
		float was[8], is[8];
		const uint16_t *bits = (const uint16_t *)new->data + r * 8;
		tensor_row_f32(old, r, was);
		tensor_row_f32(new, r, is);
		for (int c = 0; c < 8; c++) {
			double exact = (double)was[c] + ((double)b[2 * r] * (double)a[c] + (double)b[2 * r + 1] * (double)a[8 + c]);
			for (int step = -1; step <= 1; step += 2) {
				uint16_t beside = (uint16_t)(bits[c] + step);
				float v = type == TENSOR_F16 ? half_to_float(beside) : bf16_to_float(beside);
				assert_true(!(fabs((double)v - exact) < fabs((double)is[c] - exact)));
			}
		}
	}
	for (size_t i = 0; i < checkpoint_count(cp); i++) {
		const struct tensor *t = checkpoint_at(cp, i), *u = checkpoint_find(made, t->name);
		assert_non_null(u);
		if (t != old)
			assert_memory_equal(t->data, u->data, t->bytes);
	}
	checkpoint_close(cp);
	checkpoint_close(made);
}

static void a_merge_rounds_once_to_the_bases_type(void **state)
{
	expect_nearest("safetensors_f16", TENSOR_F16);
	expect_nearest("bin_f16", TENSOR_F16);
	expect_nearest("safetensors_bf16_sharded", TENSOR_BF16);
}

static void a_merge_is_cut_into_shards_and_keeps_the_other_files(void **state)
{
	struct work w;
	char path[600];
	struct checkpoint *whole, *cut;

	work_begin(&w, "gqa-untied", (const char *const[]){"plain"}, (double[]){1}, 1);
	make(&w, FUSE_TO_BASE, in_folder("whole"));
	w.job.shard_bytes = 20000;
	make(&w, FUSE_TO_BASE, in_folder("cut"));
	snprintf(path, sizeof path, "%s/cut/model.safetensors.index.json", folder);
	assert_true(exists(path));
	snprintf(path, sizeof path, "%s/cut/model.safetensors", folder);
	assert_false(exists(path));
	snprintf(path, sizeof path, "%s/config.json", w.path);
	{
		char copy[600];
		snprintf(copy, sizeof copy, "%s/cut/config.json", folder);
		expect_same_bytes(path, copy);
	}
	must(checkpoint_open(&whole, in_folder("whole"), &why));
	must(checkpoint_open(&cut, in_folder("cut"), &why));
	assert_int_equal(checkpoint_count(whole), checkpoint_count(cut));
	for (size_t i = 0; i < checkpoint_count(whole); i++)
		assert_memory_equal(checkpoint_at(whole, i)->data, checkpoint_at(cut, i)->data, checkpoint_at(whole, i)->bytes);
	checkpoint_close(whole);
	checkpoint_close(cut);
	work_end(&w);
}

/* ---- refusals ---- */

static void expect_refused(struct work *w, int code, const char *reason)
{
	struct core_error err = {0};
	int rc = fuse_run(&w->job, NULL, NULL, &err);

	if (rc != code || strstr(err.text, reason) == NULL)
		fail_msg("%d \"%s\": expected %d and %s", rc, err.text, code, reason);
}

static void what_is_no_sum_of_products_is_refused(void **state)
{
	struct work w;

	work_begin(&w, "gqa-untied", (const char *const[]){"dora", "plain"}, (double[]){1, 1}, 2);
	w.job.target = in_folder("x");
	expect_refused(&w, CORE_EUNSUPPORTED, "use_dora");
	work_end(&w);
	work_begin(&w, "gqa-untied", (const char *const[]){"plain", "rslora"}, (double[]){1, 1}, 2);
	w.job.target = in_folder("x");
	w.job.recipe.type = FUSE_LINEAR;
	expect_refused(&w, CORE_EINVAL, "linear needs equal ranks");
	w.job.recipe = (struct fuse_recipe){.type = FUSE_CAT};
	w.job.type = TENSOR_Q8_0;
	expect_refused(&w, CORE_EINVAL, "BF16");
	w.job.n_inputs = 0;
	expect_refused(&w, CORE_EINVAL, "adapters");
	w.job.n_inputs = 2;
	work_end(&w);
	work_begin(&w, "mha-tied", (const char *const[]){"embedding-tied"}, (double[]){1}, 1);
	w.job.target = in_folder("x");
	w.job.form = FUSE_TO_BASE;
	expect_refused(&w, CORE_EUNSUPPORTED, "lm_head shares");
	work_end(&w);
	assert_int_equal(count_names(folder), 0);
}

static void whole_weights_must_be_the_bases_own(void **state)
{
	static float numbers[4096];
	struct tensor other = {.name = "base_model.model.model.norm.weight", .type = TENSOR_F32, .n_dims = 1, .data = numbers};
	struct lora_copy copy = {.kind = LORA_COPY_NORM, .t = &other};
	struct work w;

	work_begin(&w, "gqa-untied", (const char *const[]){"plain"}, (double[]){1}, 1);
	other.dims[0] = checkpoint_config(w.base)->dim;
	tensor_row_f32(checkpoint_find(w.base, "model.norm.weight"), 0, numbers);
	w.files[0].copies = &copy;
	w.files[0].n_copies = 1;
	w.job.target = in_folder("x");
	numbers[3] *= 2;
	expect_refused(&w, CORE_EUNSUPPORTED, "not the base's own");
	numbers[3] *= 0.501f;
	make(&w, FUSE_TO_PEFT, in_folder("x"));
	w.files[0].copies = NULL;
	work_end(&w);
}

static void targets_are_never_written_over(void **state)
{
	static const char *const bad[] = {"", "/", ".hidden", "..", "."};
	struct work w;
	FILE *f = fopen(in_folder("taken"), "w");
	char path[300];

	fputs("mine", f);
	fclose(f);
	work_begin(&w, "gqa-untied", (const char *const[]){"plain"}, (double[]){1}, 1);
	w.job.target = in_folder("taken");
	expect_refused(&w, CORE_EINVAL, "there already");
	w.job.target = in_folder("nowhere/x");
	expect_refused(&w, CORE_EIO, "nowhere");
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		snprintf(path, sizeof path, "%s", bad[i]);
		w.job.target = path;
		expect_refused(&w, CORE_EINVAL, "dot");
	}
	memset(path, 'n', 250);
	path[250] = '\0';
	w.job.target = in_folder(path);
	expect_refused(&w, CORE_EINVAL, "too long");
	work_end(&w);
	assert_int_equal(count_names(folder), 1);
}

static void put_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

/* What is there gives way to the result of its own kind, whole, and is gone then; a link gives way itself. */
static void what_has_the_name_is_replaced_when_told_so(void **state)
{
	static const enum fuse_form forms[] = {FUSE_TO_PEFT, FUSE_TO_GGUF, FUSE_TO_BASE};
	struct work w;
	struct stat st;
	char target[400];

	snprintf(target, sizeof target, "%s", in_folder("x"));
	work_begin(&w, "gqa-untied", (const char *const[]){"plain", "rslora"}, (double[]){1, -0.5}, 2);
	w.job.replace = true;
	for (size_t i = 0; i < 3; i++) {
		if (forms[i] == FUSE_TO_GGUF) {
			put_file(target, "old");
		} else {
			assert_int_equal(mkdir(target, 0777), 0);
			put_file(in_folder("x/adapter_config.json"), "old");
			put_file(in_folder("x/notes.txt"), "old");
		}
		make(&w, forms[i], target); /* over the old one */
		make(&w, forms[i], target); /* over ours */
		expect_logits(&w, target, forms[i] == FUSE_TO_BASE);
		assert_false(exists(in_folder("x/notes.txt")));
		assert_int_equal(count_names(folder), 1);
		remove_tree(target);
		unlink(target);
	}
	assert_int_equal(mkdir(in_folder("elsewhere"), 0777), 0);
	put_file(in_folder("elsewhere/notes.txt"), "theirs");
	assert_int_equal(symlink("elsewhere", in_folder("x")), 0);
	make(&w, FUSE_TO_PEFT, in_folder("x"));
	assert_true(lstat(in_folder("x"), &st) == 0 && S_ISDIR(st.st_mode));
	assert_true(exists(in_folder("elsewhere/notes.txt")));
	assert_int_equal(count_names(folder), 2);
	make(&w, FUSE_TO_PEFT, in_folder("new")); /* nothing to replace is fine, too */
	work_end(&w);
}

static void what_is_not_of_our_making_is_not_replaced(void **state)
{
	struct work w;
	char target[400];

	work_begin(&w, "gqa-untied", (const char *const[]){"plain"}, (double[]){1}, 1);
	snprintf(target, sizeof target, "%s", in_folder("x"));
	w.job.replace = true;
	w.job.target = target;
	put_file(in_folder("x"), "a file");
	expect_refused(&w, CORE_EINVAL, "no folder");
	unlink(in_folder("x"));
	assert_int_equal(mkdir(in_folder("x"), 0777), 0);
	assert_int_equal(mkdir(in_folder("x/inner"), 0777), 0);
	expect_refused(&w, CORE_EINVAL, "folder of files only");
	w.job.form = FUSE_TO_GGUF;
	expect_refused(&w, CORE_EINVAL, "a folder");
	assert_true(exists(in_folder("x/inner")));
	assert_int_equal(count_names(folder), 1);
	work_end(&w);
}

/* ---- cut short ---- */

struct stop {
	atomic_bool cancel;
	int after, calls;
	double last;
};

static void stop_after(void *arg, double done)
{
	struct stop *s = arg;

	assert_true(done >= s->last && done <= 1);
	s->last = done;
	if (++s->calls == s->after)
		atomic_store(&s->cancel, true);
}

static void a_cancelled_fusion_leaves_nothing(void **state)
{
	struct work w;

	work_begin(&w, "gqa-untied", (const char *const[]){"plain", "rslora"}, (double[]){1, 1}, 2);
	w.job.target = in_folder("x");
	for (enum fuse_form form = FUSE_TO_PEFT; form <= FUSE_TO_BASE; form++)
		for (int after = 1; after <= 14; after += 6) {
			struct stop stop = {.after = after};
			struct fuse_watch watch = {.progress = stop_after, .arg = &stop, .cancel = &stop.cancel};
			struct core_error err = {0};
			w.job.form = form;
			assert_int_equal(fuse_run(&w.job, &watch, NULL, &err), FUSE_CANCELLED);
			assert_int_equal(stop.calls, after);
			assert_int_equal(count_names(folder), 0);
		}
	work_end(&w);
}

static void progress_ends_at_one(void **state)
{
	struct work w;

	work_begin(&w, "gqa-untied", (const char *const[]){"plain"}, (double[]){1}, 1);
	for (enum fuse_form form = FUSE_TO_PEFT; form <= FUSE_TO_BASE; form++) {
		struct stop stop = {.after = -1};
		struct fuse_watch watch = {.progress = stop_after, .arg = &stop};
		char target[100];
		snprintf(target, sizeof target, "%s/%d", folder, (int)form);
		w.job.form = form;
		w.job.target = target;
		must(fuse_run(&w.job, &watch, NULL, &why));
		assert_true(stop.last > 1 - 1e-9);
	}
	work_end(&w);
}

/* A byte per call to the pipe, and wait for one where `hold` says so. */
struct teller {
	int to, hold;
};

static void tell(void *arg, double done)
{
	struct teller *t = arg;
	char c = 'x';

	if (write(t->to, &c, 1) != 1 || (t->hold >= 0 && read(t->hold, &c, 1) != 1))
		_exit(3);
}

/* Runs the job in a child; says() becomes readable at each step. */
static pid_t start(struct work *w, int *says, int hold)
{
	int ends[2];
	pid_t child;

	assert_int_equal(pipe(ends), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		struct teller t = {ends[1], hold};
		struct fuse_watch watch = {.progress = tell, .arg = &t};
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* a failing test leaves nobody waiting */
		close(ends[0]);
		_exit(fuse_run(&w->job, &watch, NULL, NULL) == 0 ? 0 : 1);
	}
	close(ends[1]);
	*says = ends[0];
	return child;
}

static void hear(int says)
{
	struct pollfd p = {says, POLLIN, 0};
	char c;

	assert_int_equal(poll(&p, 1, 60000), 1);
	assert_true(read(says, &c, 1) >= 0);
}

static void a_killed_fusion_leaves_nothing_behind_its_name(void **state)
{
	struct work w;
	unsigned cut = 0, seed = 12345;

	work_begin(&w, "gqa-untied", (const char *const[]){"plain", "rslora"}, (double[]){1, 1}, 2);
	for (int round = 0; round < 24; round++) {
		int says, status, steps;
		pid_t child;
		w.job.form = (enum fuse_form)(round % 3);
		w.job.target = in_folder("x");
		child = start(&w, &says, -1);
		seed = seed * 1103515245 + 12345;
		steps = (int)(seed >> 16) % 16; /* 0: at once */
		for (int i = 0; i < steps; i++)
			hear(says);
		kill(child, SIGKILL);
		assert_int_equal(waitpid(child, &status, 0), child);
		close(says);
		cut += WIFSIGNALED(status);
		if (exists(w.job.target)) { /* the kill came after the rename: then all of it is there */
			expect_logits(&w, w.job.target, w.job.form == FUSE_TO_BASE);
			remove_tree(w.job.target);
			unlink(w.job.target);
		}
		assert_true(count_names(folder) <= 1); /* the leavings of this round; earlier ones were swept */
	}
	assert_true(cut >= 6);
	assert_true(fuse_sweep(folder, &why) >= 0);
	assert_int_equal(count_names(folder), 0);
	work_end(&w);
}

static void the_work_of_a_living_fusion_is_not_swept(void **state)
{
	struct work w;
	int says, status, hold[2];
	pid_t child;

	assert_int_equal(pipe(hold), 0);
	work_begin(&w, "gqa-untied", (const char *const[]){"plain"}, (double[]){1}, 1);
	w.job.target = in_folder("x");
	child = start(&w, &says, hold[0]);
	hear(says);
	assert_int_equal(count_names(folder), 1);
	assert_int_equal(fuse_sweep(folder, &why), 0);
	assert_int_equal(count_names(folder), 1);
	close(hold[0]);
	for (int i = 0; i < 64; i++)
		assert_int_equal(write(hold[1], "x", 1), 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	expect_logits(&w, in_folder("x"), false);
	close(says);
	close(hold[1]);
	work_end(&w);
}

static void only_our_leavings_are_swept(void **state)
{
	static const char *const theirs[] = {".x.fusing-0123456789abcdeg", ".x.fusing-123", "x.fusing-0123456789abcdef",
					     ".fusing-0123456789abcdef"};

	for (size_t i = 0; i < 4; i++)
		assert_int_equal(mkdir(in_folder(theirs[i]), 0777), 0);
	assert_int_equal(mkdir(in_folder(".x.fusing-0123456789abcdef"), 0777), 0);
	fclose(fopen(in_folder(".x.fusing-0123456789abcdef/model.safetensors"), "w"));
	fclose(fopen(in_folder(".y.gguf.fusing-0123456789abcdef"), "w"));
	assert_int_equal(symlink("/", in_folder(".z.fusing-0123456789abcdef")), 0);
	assert_int_equal(fuse_sweep(folder, &why), 2);
	assert_int_equal(count_names(folder), 5);
	assert_int_equal(fuse_sweep(in_folder("none"), &why), CORE_EIO);
}

/* For fuse_tools.py: `fuse_files make FOLDER` leaves one result of each form there. */
static int make_samples(const char *to)
{
	struct work w;
	static const char *const names[] = {"plain", "patterns", "embedding"};
	char target[500];

	work_begin(&w, "gqa-untied", names, (double[]){0.7, -0.4, 0.5}, 3);
	snprintf(target, sizeof target, "%s/peft", to);
	make(&w, FUSE_TO_PEFT, target);
	snprintf(target, sizeof target, "%s/lora.gguf", to);
	make(&w, FUSE_TO_GGUF, target);
	snprintf(target, sizeof target, "%s/merged", to);
	make(&w, FUSE_TO_BASE, target);
	work_end(&w);
	return 0;
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, drop_folder)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		IN_FOLDER(cat_in_every_form_is_the_blend),
		IN_FOLDER(svd_of_full_rank_in_every_form_is_the_blend),
		IN_FOLDER(modules_and_layers_that_only_some_have_are_kept),
		IN_FOLDER(the_embedding_of_a_gguf_adapter_is_read_by_token),
		IN_FOLDER(sizes_that_no_vector_divides),
		IN_FOLDER(every_type_is_written_twice_alike),
		IN_FOLDER(halves_are_rounded_once_and_read_back),
		IN_FOLDER(a_merge_rounds_once_to_the_bases_type),
		IN_FOLDER(a_merge_is_cut_into_shards_and_keeps_the_other_files),
		IN_FOLDER(what_is_no_sum_of_products_is_refused),
		IN_FOLDER(whole_weights_must_be_the_bases_own),
		IN_FOLDER(targets_are_never_written_over),
		IN_FOLDER(what_has_the_name_is_replaced_when_told_so),
		IN_FOLDER(what_is_not_of_our_making_is_not_replaced),
		IN_FOLDER(a_cancelled_fusion_leaves_nothing),
		IN_FOLDER(progress_ends_at_one),
		IN_FOLDER(a_killed_fusion_leaves_nothing_behind_its_name),
		IN_FOLDER(the_work_of_a_living_fusion_is_not_swept),
		IN_FOLDER(only_our_leavings_are_swept),
	};

	if (argc == 3 && strcmp(argv[1], "make") == 0)
		return make_samples(argv[2]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
