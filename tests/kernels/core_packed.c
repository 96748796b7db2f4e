/* core_packed.c: weights that are mapped from the file of an earlier start are those of a fresh packing, whatever happened to file or source. */
#include "gguf_model.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sodium.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "kernels/model.h"
#include "kernels/pack.h"

static char folder[64], file[4096];	/* of the cache, and the one file in it */
static char source[128], weights[160];	/* a copy of a model that may be changed, and its weights */
static uint64_t most;			/* bytes of the cache; 0: no bound */

/* ---- files ---- */

static void copy(const char *from, const char *to)
{
	char buffer[4096];
	FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
	size_t n;

	assert_non_null(in);
	assert_non_null(out);
	while ((n = fread(buffer, 1, sizeof(buffer), in)))
		assert_int_equal(fwrite(buffer, 1, n, out), n);
	fclose(in);
	assert_int_equal(fclose(out), 0);
}

static void copy_model(const char *name)
{
	char from[600], to[160];

	snprintf(from, sizeof(from), "%s/config.json", golden_path(name));
	snprintf(to, sizeof(to), "%s/config.json", source);
	copy(from, to);
	snprintf(from, sizeof(from), "%s/model.safetensors", golden_path(name));
	copy(from, weights);
}

static size_t size_of(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return (size_t)st.st_size;
}

/* The byte before it was turned over. */
static void flip(const char *path, size_t at)
{
	unsigned char byte;
	int fd = open(path, O_RDWR);

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
	byte ^= 0x10;
	assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
	close(fd);
}

/* How many files the cache has; `file` becomes the last of them. */
static unsigned files(void)
{
	DIR *d = opendir(folder);
	struct dirent *e;
	unsigned n = 0;

	if (!d)
		return 0;
	while ((e = readdir(d)))
		if (e->d_name[0] != '.') {
			snprintf(file, sizeof(file), "%s/%s", folder, e->d_name);
			n++;
		}
	closedir(d);
	return n;
}

static int empty(void **state)
{
	while (files())
		unlink(file);
	rmdir(folder);
	most = 0;
	return 0;
}

/* ---- models ---- */

static struct core_model *load_cached(const char *path, enum core_quant quant, enum core_cache want, const char *note)
{
	struct core_model_params p = { .path = path, .quant = quant, .cache = folder, .cache_most = most };
	struct core_model *m = NULL;
	const char *said;

	must(core_model_load(&m, &p, &why));
	if (core_model_cache(m, &said) != want || !strstr(said, note))
		fail_msg("the cache says %d (%s), not %d (%s)", core_model_cache(m, &said), said, want, note);
	return m;
}

static void same_model(const struct core_model *a, const struct core_model *b)
{
	assert_int_equal(a->arena_bytes, b->arena_bytes);
	assert_memory_equal(a->arena, b->arena, a->arena_bytes);
	assert_memory_equal(&a->info, &b->info, sizeof(a->info));
	assert_int_equal(a->groups, b->groups);
	assert_int_equal(a->head.codes - a->arena, b->head.codes - b->arena);
}

static void same_logits(const struct core_model *a, const struct core_model *b)
{
	static const int32_t tokens[] = { 1, 5, 9, 30 };
	struct core_ctx *ca = new_ctx(a, NULL, 1, 4, 8), *cb = new_ctx(b, NULL, 1, 4, 8);
	struct core_seq *sa = core_seq_new(ca), *sb = core_seq_new(cb);

	feed(ca, sa, tokens, 4);
	feed(cb, sb, tokens, 4);
	for (uint32_t i = 0; i < 4; i++)
		assert_memory_equal(core_logits(ca, i), core_logits(cb, i), a->info.vocab * sizeof(float));
	core_seq_free(ca, sa);
	core_seq_free(cb, sb);
	core_ctx_free(ca);
	core_ctx_free(cb);
}

/* Loads with the cache; the model must be that of a fresh packing. */
static void check(const char *path, enum core_quant quant, enum core_cache want, const char *note)
{
	struct core_model *fresh = load_model(path, quant), *m = load_cached(path, quant, want, note);

	same_model(fresh, m);
	core_model_free(fresh);
	core_model_free(m);
}

static void both_starts_are_right(const char *path, enum core_quant quant)
{
	struct core_model *fresh = load_model(path, quant);
	struct core_model *first = load_cached(path, quant, CORE_CACHE_WRITTEN, "written to ");
	struct core_model *second = load_cached(path, quant, CORE_CACHE_MAPPED, "from ");

	same_model(fresh, first);
	same_model(fresh, second);
	same_logits(fresh, second);
	core_model_free(fresh);
	core_model_free(first);
	core_model_free(second);
}

/* ---- the facts ---- */

static void mapped_weights_are_those_of_a_fresh_packing(void **state)
{
	static const char *const names[] = { "gqa-untied", "mha-tied", "odd-sizes", "rope-yarn" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		for (int q = CORE_QUANT_NONE; q <= CORE_QUANT_Q4; q++)
			both_starts_are_right(golden_path(names[i]), (enum core_quant)q);
	both_starts_are_right(golden_path("../nf4/model"), CORE_QUANT_NONE);	/* as bitsandbytes saved it */
	assert_int_equal(files(), 13);	/* one for each source and quantisation */
}

static void each_rank_has_a_file_of_its_own(void **state)
{
	for (uint32_t rank = 0; rank < 2; rank++) {
		struct core_model_params p = { .path = golden_path("mha-tied"), .quant = CORE_QUANT_NONE, .rank = rank, .ranks = 2 };
		struct core_model *fresh = NULL, *m = NULL;
		const char *note;

		must(core_model_load(&fresh, &p, &why));
		p.cache = folder;
		for (int start = 0; start < 2; start++) {
			must(core_model_load(&m, &p, &why));
			assert_int_equal(core_model_cache(m, &note), start ? CORE_CACHE_MAPPED : CORE_CACHE_WRITTEN);
			same_model(fresh, m);
			core_model_free(m);
		}
		core_model_free(fresh);
		assert_int_equal(files(), rank + 1);
	}
}

static void every_gguf_type_is_mapped_as_it_was_packed(void **state)
{
	for (unsigned which = 0; which < N_SPREADS; which++) {
		const char *path = write_gguf(which, false);

		both_starts_are_right(path, CORE_QUANT_NONE);
		empty(NULL);
	}
	both_starts_are_right(write_gguf(0, true), CORE_QUANT_NONE);
	both_starts_are_right(write_gguf(0, true), CORE_QUANT_NF4);
}

static void a_flipped_bit_is_noticed_wherever_it_is(void **state)
{
	enum { HEAD = 144, HEAD_BYTES = 4096 };
	const char *path = golden_path("gqa-untied");
	size_t size;

	check(path, CORE_QUANT_Q4, CORE_CACHE_WRITTEN, "written to ");
	assert_int_equal(files(), 1);
	size = size_of(file);
	for (size_t at = 0; at < size; at += at + 3 < HEAD ? 3 : at < HEAD_BYTES ? HEAD_BYTES - at : 997) {
		flip(file, at);
		check(path, CORE_QUANT_Q4, CORE_CACHE_WRITTEN, at / 4 == 2 ? "another version" : "it was damaged");
	}
	flip(file, size - 1);
	check(path, CORE_QUANT_Q4, CORE_CACHE_WRITTEN, "it was damaged");
	check(path, CORE_QUANT_Q4, CORE_CACHE_MAPPED, "from ");
}

static void a_file_of_another_length_is_noticed(void **state)
{
	const char *path = golden_path("odd-sizes");
	size_t size, lengths[6];

	check(path, CORE_QUANT_Q8, CORE_CACHE_WRITTEN, "written to ");
	assert_int_equal(files(), 1);
	size = size_of(file);
	memcpy(lengths, (size_t[]){ 0, 1, 143, 4096, size - 1, size + 1 }, sizeof(lengths));
	for (int i = 0; i < 6; i++) {
		assert_int_equal(truncate(file, (off_t)lengths[i]), 0);
		check(path, CORE_QUANT_Q8, CORE_CACHE_WRITTEN, "it had another length");
		assert_int_equal(size_of(file), size);
	}
	assert_int_equal(unlink(file), 0);
	assert_int_equal(mkdir(file, 0700), 0);	/* what cannot be replaced is let be */
	check(path, CORE_QUANT_Q8, CORE_CACHE_FAILED, "not kept in ");
	assert_int_equal(rmdir(file), 0);
	assert_int_equal(files(), 0);
}

/* Where the first weight of a safetensors file is. */
static size_t first_weight(void)
{
	uint64_t header;
	FILE *f = fopen(weights, "rb");

	assert_non_null(f);
	assert_int_equal(fread(&header, sizeof(header), 1, f), 1);
	fclose(f);
	return sizeof(header) + (size_t)header;
}

/* The cheapest lie: the same size, the same time, one bit of one weight, which is not among those that the key has a sample of. */
static void a_source_that_was_written_into_is_packed_anew(void **state)
{
	struct stat st;

	copy_model("gqa-untied");
	check(source, CORE_QUANT_Q8, CORE_CACHE_WRITTEN, "written to ");
	check(source, CORE_QUANT_Q8, CORE_CACHE_MAPPED, "from ");
	assert_int_equal(stat(weights, &st), 0);
	flip(weights, first_weight() + 2);
	assert_int_equal(utimensat(AT_FDCWD, weights, (struct timespec[]){ st.st_atim, st.st_mtim }, 0), 0);
	check(source, CORE_QUANT_Q8, CORE_CACHE_WRITTEN, "the source has changed");
	check(source, CORE_QUANT_Q8, CORE_CACHE_MAPPED, "from ");
	assert_int_equal(files(), 1);
}

static void a_source_that_another_took_the_place_of_is_packed_anew(void **state)
{
	char aside[200];

	copy_model("gqa-untied");
	check(source, CORE_QUANT_NONE, CORE_CACHE_WRITTEN, "written to ");
	snprintf(aside, sizeof(aside), "%s.new", weights);
	copy(weights, aside);
	assert_int_equal(rename(aside, weights), 0);
	check(source, CORE_QUANT_NONE, CORE_CACHE_WRITTEN, "the source has changed");
	copy_model("mha-tied");	/* another shape under the same name */
	check(source, CORE_QUANT_NONE, CORE_CACHE_WRITTEN, "the source has changed");
	check(source, CORE_QUANT_NONE, CORE_CACHE_MAPPED, "from ");
	assert_int_equal(files(), 1);
}

static void write_into_the_source(void *arg, double done)
{
	if (done < 1)
		flip(weights, *(size_t *)arg);
}

/* What was packed is neither the old nor the new: this start has what it read, as it always had, but the next must not. */
static void what_was_packed_while_the_source_changed_is_not_kept(void **state)
{
	struct core_model_params p = { .path = source, .cache = folder, .progress = write_into_the_source };
	struct core_model *m = NULL;
	const char *note;
	size_t last;

	copy_model("gqa-untied");
	last = size_of(weights) - 1;
	p.progress_arg = &last;
	must(core_model_load(&m, &p, &why));
	assert_int_equal(core_model_cache(m, &note), CORE_CACHE_FAILED);
	assert_non_null(strstr(note, "the source changed meanwhile"));
	core_model_free(m);
	assert_int_equal(files(), 0);
}

static void without_room_the_model_is_as_good_and_nothing_is_left_over(void **state)
{
	const char *path = golden_path("gqa-untied");
	struct rlimit old, small = { 20000, 0 };

	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small.rlim_max = old.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	check(path, CORE_QUANT_NONE, CORE_CACHE_FAILED, strerror(EFBIG));
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(files(), 0);
	check(path, CORE_QUANT_NONE, CORE_CACHE_WRITTEN, "written to ");
}

static void without_a_folder_the_model_is_as_good(void **state)
{
	char kept[sizeof(folder)];

	copy_model("gqa-untied");
	memcpy(kept, folder, sizeof(folder));
	snprintf(folder, sizeof(folder), "%.50s/none/there", kept);
	check(source, CORE_QUANT_Q8, CORE_CACHE_FAILED, strerror(ENOENT));
	memcpy(folder, kept, sizeof(folder));
	if (geteuid() == 0)
		return;	/* may write anywhere */
	assert_int_equal(mkdir(folder, 0500), 0);
	check(source, CORE_QUANT_Q8, CORE_CACHE_FAILED, strerror(EACCES));
}

static void a_writer_is_let_alone_and_a_dead_ones_leavings_are_used(void **state)
{
	const char *path = golden_path("mha-tied");
	char part[4200];
	int fd;

	check(path, CORE_QUANT_Q8, CORE_CACHE_WRITTEN, "written to ");
	assert_int_equal(files(), 1);
	snprintf(part, sizeof(part), "%s.part", file);
	assert_int_equal(rename(file, part), 0);
	flip(part, 5000);
	fd = open(part, O_RDWR);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	check(path, CORE_QUANT_Q8, CORE_CACHE_FAILED, "another process is writing it");
	close(fd);
	check(path, CORE_QUANT_Q8, CORE_CACHE_WRITTEN, "written to ");
	check(path, CORE_QUANT_Q8, CORE_CACHE_MAPPED, "from ");
	assert_int_equal(files(), 1);
}

/* Exits with 0 when its model is that of a fresh packing. */
static void start_with_others(const char *path, int gate)
{
	struct core_model_params p = { .path = path, .quant = CORE_QUANT_Q4 };
	struct core_model *fresh, *m;
	char go;
	int bad = core_model_load(&fresh, &p, NULL);

	p.cache = folder;
	bad |= read(gate, &go, 1) != 0;	/* the end of the file: all of them at once */
	bad |= core_model_load(&m, &p, NULL);
	_exit(bad || memcmp(fresh->arena, m->arena, m->arena_bytes) || strcmp(fresh->info.digest, m->info.digest));
}

static void those_who_start_at_once_are_all_right(void **state)
{
	enum { N = 6 };
	const char *path = golden_path("gqa-untied");
	int gate[2], status;

	for (int round = 0; round < 10; round++) {
		assert_int_equal(pipe(gate), 0);
		for (int i = 0; i < N; i++)
			if (fork() == 0) {
				close(gate[1]);
				start_with_others(path, gate[0]);
			}
		close(gate[0]);
		close(gate[1]);
		for (int i = 0; i < N; i++) {
			assert_true(wait(&status) > 0);
			assert_int_equal(status, 0);
		}
		check(path, CORE_QUANT_Q4, CORE_CACHE_MAPPED, "from ");
		assert_int_equal(files(), 1);
		empty(NULL);
	}
}

/* A file that another one takes the place of, or that goes, is still there for those who have it. */
static void a_mapped_file_may_go(void **state)
{
	const char *path = golden_path("gqa-untied");
	struct core_model *fresh = load_model(path, CORE_QUANT_Q8), *m;

	check(path, CORE_QUANT_Q8, CORE_CACHE_WRITTEN, "written to ");
	m = load_cached(path, CORE_QUANT_Q8, CORE_CACHE_MAPPED, "from ");
	assert_int_equal(files(), 1);
	assert_int_equal(unlink(file), 0);
	same_logits(fresh, m);
	core_model_free(m);
	core_model_free(fresh);
}

static void writing_to_weights_ends_the_process(struct core_model *m)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		struct rlimit none = { 0, 0 };

		setrlimit(RLIMIT_CORE, &none);
		signal(SIGSEGV, SIG_DFL);
		*(volatile unsigned char *)m->arena = 1;
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_not_equal(status, 0);
	core_model_free(m);
}

/* So every test of the core shows that nothing writes to them. */
static void weights_are_read_only_packed_or_mapped(void **state)
{
	const char *path = golden_path("gqa-untied");

	writing_to_weights_ends_the_process(load_cached(path, CORE_QUANT_Q8, CORE_CACHE_WRITTEN, "written to "));
	writing_to_weights_ends_the_process(load_cached(path, CORE_QUANT_Q8, CORE_CACHE_MAPPED, "from "));
}

/* ---- PACK_VERSION ---- */

static void take_packed(crypto_generichash_state *h, enum tensor_type type, enum pack_form form)
{
	enum { ROWS = 21, COLS = 512 };
	struct tensor t = random_tensor(type, ROWS, COLS);
	struct matrix w;

	pack_whole(&w, &t, form);
	crypto_generichash_update(h, w.codes, pack_bytes(&w));
	free(w.codes);
	free((void *)t.data);
}

static void packed_bytes_are_those_of_pack_version(void **state)
{
	static const char *const known[] = { NULL, "b74aa21e17b22e211d98ac2ef6cf7840" };
	crypto_generichash_state h;
	unsigned char digest[16];
	char hex[33];

	crypto_generichash_init(&h, NULL, 0, sizeof(digest));
	for (int i = 0; i < N_TYPES; i++)
		take_packed(&h, all_types[i], PACK_KEEP);
	take_packed(&h, TENSOR_F32, PACK_Q8);
	take_packed(&h, TENSOR_F32, PACK_Q4);
	crypto_generichash_final(&h, digest, sizeof(digest));
	sodium_bin2hex(hex, sizeof(hex), digest, sizeof(digest));
	if (PACK_VERSION >= sizeof(known) / sizeof(known[0]) || strcmp(hex, known[PACK_VERSION]))
		fail_msg("the packed bytes are %s: not those of PACK_VERSION %d. Was that intended? Then raise it (pack.h).", hex, PACK_VERSION);
}

/* ---- tidying ---- */

enum { KIND_NONE = 1, KIND_Q8 = 2, KIND_Q4 = 4, KIND_NF4 = 8 };
static const char *const kinds[] = { "-none-", "-q8-", "-q4-", "-nf4-" };

static const char *demo(void)
{
	static char path[600];
	const char *top = getenv("top_srcdir");

	snprintf(path, sizeof(path), "%s/tests/demo/model", top ? top : ".");
	return path;
}

/* Which quantisations of the one source have a file. */
static unsigned kept(void)
{
	DIR *d = opendir(folder);
	struct dirent *e;
	unsigned set = 0;

	assert_non_null(d);
	while ((e = readdir(d)))
		for (unsigned i = 0; i < 4; i++)
			if (strstr(e->d_name, kinds[i]))
				set |= 1u << i;
	closedir(d);
	return set;
}

static const char *file_of(enum core_quant quant)
{
	DIR *d = opendir(folder);
	struct dirent *e;

	assert_non_null(d);
	*file = 0;
	while ((e = readdir(d)))
		if (strstr(e->d_name, kinds[quant]))
			snprintf(file, sizeof(file), "%s/%s", folder, e->d_name);
	closedir(d);
	assert_true(*file);
	return file;
}

/* As if it had been used last so many hours ago. */
static void set_used(enum core_quant quant, int hours)
{
	struct timespec t[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = time(NULL) - hours * 3600 } };

	assert_int_equal(utimensat(AT_FDCWD, file_of(quant), t, 0), 0);
}

static void load_and_leave(enum core_quant quant, enum core_cache want, const char *note)
{
	core_model_free(load_cached(demo(), quant, want, note));
}

/* Files of three kinds that nobody uses: q8's was used last, and then that without quantisation. */
static void three_old_files(void)
{
	load_and_leave(CORE_QUANT_NONE, CORE_CACHE_WRITTEN, "");
	load_and_leave(CORE_QUANT_Q8, CORE_CACHE_WRITTEN, "");
	load_and_leave(CORE_QUANT_Q4, CORE_CACHE_WRITTEN, "");
	set_used(CORE_QUANT_Q8, 1);
	set_used(CORE_QUANT_NONE, 2);
	set_used(CORE_QUANT_Q4, 3);
}

static void beyond_the_bound_those_go_that_were_used_longest_ago(void **state)
{
	three_old_files();
	load_and_leave(CORE_QUANT_NF4, CORE_CACHE_WRITTEN, "");
	assert_int_equal(kept(), KIND_NONE | KIND_Q8 | KIND_Q4 | KIND_NF4);	/* no bound */
	most = size_of(file_of(CORE_QUANT_NONE)) + size_of(file_of(CORE_QUANT_Q8)) + size_of(file_of(CORE_QUANT_NF4));
	unlink(file);
	load_and_leave(CORE_QUANT_NF4, CORE_CACHE_WRITTEN, "1 older file of ");
	assert_int_equal(kept(), KIND_NONE | KIND_Q8 | KIND_NF4);
}

static void a_start_that_maps_a_file_uses_it_and_removes_none(void **state)
{
	three_old_files();
	most = size_of(file_of(CORE_QUANT_Q4));
	load_and_leave(CORE_QUANT_Q4, CORE_CACHE_MAPPED, "");
	assert_int_equal(kept(), KIND_NONE | KIND_Q8 | KIND_Q4);
	most = size_of(file_of(CORE_QUANT_NONE)) + size_of(file_of(CORE_QUANT_Q4)) + 1;
	load_and_leave(CORE_QUANT_NF4, CORE_CACHE_WRITTEN, "older file");
	assert_int_equal(kept() & (KIND_Q4 | KIND_NONE), KIND_Q4);	/* it was that used longest ago before */
}

static void what_is_in_use_and_what_was_just_added_stays_whatever_its_size(void **state)
{
	struct core_model *written, *mapped;

	written = load_cached(demo(), CORE_QUANT_Q4, CORE_CACHE_WRITTEN, "");
	load_and_leave(CORE_QUANT_Q8, CORE_CACHE_WRITTEN, "");
	mapped = load_cached(demo(), CORE_QUANT_Q8, CORE_CACHE_MAPPED, "");
	set_used(CORE_QUANT_Q4, 3);
	set_used(CORE_QUANT_Q8, 2);
	most = 1;
	load_and_leave(CORE_QUANT_NONE, CORE_CACHE_WRITTEN, "written to ");
	assert_int_equal(kept(), KIND_NONE | KIND_Q8 | KIND_Q4);
	core_model_free(written);
	core_model_free(mapped);
	load_and_leave(CORE_QUANT_NF4, CORE_CACHE_WRITTEN, "3 older files of ");
	assert_int_equal(kept(), KIND_NF4);
}

static void leave(const char *name)
{
	FILE *f;

	snprintf(file, sizeof(file), "%s/%s", folder, name);
	f = fopen(file, "w");
	assert_non_null(f);
	fputs("not weft's", f);
	assert_int_equal(fclose(f), 0);
}

static void only_what_weft_wrote_goes_and_leavings_of_the_killed_do(void **state)
{
	char busy[4096];
	int fd;

	three_old_files();
	leave("notes.txt");
	leave("gone-q8-0.packed.part");
	leave("busy-q8-0.packed.part");
	snprintf(busy, sizeof(busy), "%s", file);
	fd = open(busy, O_WRONLY);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	most = 1;
	load_and_leave(CORE_QUANT_NF4, CORE_CACHE_WRITTEN, "3 older files of ");
	assert_int_equal(files(), 3);	/* this one, the notes, and what is being written */
	assert_int_equal(access(busy, F_OK), 0);
	snprintf(busy, sizeof(busy), "%s/notes.txt", folder);
	assert_int_equal(access(busy, F_OK), 0);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(packed_bytes_are_those_of_pack_version),
		cmocka_unit_test_teardown(mapped_weights_are_those_of_a_fresh_packing, empty),
		cmocka_unit_test_teardown(each_rank_has_a_file_of_its_own, empty),
		cmocka_unit_test_teardown(every_gguf_type_is_mapped_as_it_was_packed, empty),
		cmocka_unit_test_teardown(a_flipped_bit_is_noticed_wherever_it_is, empty),
		cmocka_unit_test_teardown(a_file_of_another_length_is_noticed, empty),
		cmocka_unit_test_teardown(a_source_that_was_written_into_is_packed_anew, empty),
		cmocka_unit_test_teardown(a_source_that_another_took_the_place_of_is_packed_anew, empty),
		cmocka_unit_test_teardown(what_was_packed_while_the_source_changed_is_not_kept, empty),
		cmocka_unit_test_teardown(without_room_the_model_is_as_good_and_nothing_is_left_over, empty),
		cmocka_unit_test_teardown(without_a_folder_the_model_is_as_good, empty),
		cmocka_unit_test_teardown(a_writer_is_let_alone_and_a_dead_ones_leavings_are_used, empty),
		cmocka_unit_test_teardown(those_who_start_at_once_are_all_right, empty),
		cmocka_unit_test_teardown(a_mapped_file_may_go, empty),
		cmocka_unit_test_teardown(weights_are_read_only_packed_or_mapped, empty),
		cmocka_unit_test_teardown(beyond_the_bound_those_go_that_were_used_longest_ago, empty),
		cmocka_unit_test_teardown(a_start_that_maps_a_file_uses_it_and_removes_none, empty),
		cmocka_unit_test_teardown(what_is_in_use_and_what_was_just_added_stays_whatever_its_size, empty),
		cmocka_unit_test_teardown(only_what_weft_wrote_goes_and_leavings_of_the_killed_do, empty),
	};
	char config[160];
	int rc;

	snprintf(folder, sizeof(folder), "packed-%d", (int)getpid());
	snprintf(source, sizeof(source), "packed-source-%d", (int)getpid());
	snprintf(weights, sizeof(weights), "%s/model.safetensors", source);
	snprintf(config, sizeof(config), "%s/config.json", source);
	if (mkdir(source, 0700))
		return 1;
	rc = cmocka_run_group_tests(tests, NULL, build_remove);
	unlink(weights);
	unlink(config);
	rmdir(source);
	return rc;
}
