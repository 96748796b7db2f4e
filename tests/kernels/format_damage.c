/* Damaged and hostile safetensors, pickles, zip archives and folders: refused with a reason, and nothing is executed. */
#include <errno.h>
#include <sys/stat.h>

#include "format_test.h"
#include "kernels/format/format.h"
#include "kernels/format/pickle.h"

static void expect(int rc, const struct core_error *err, int code, const char *words, const char *what)
{
	if (rc != code || (rc < 0 && (err->code != rc || strstr(err->text, words) == NULL)))
		fail_msg("%s: code %d \"%s\", expected %d and \"%s\"", what, rc, err->text, code, words);
}

/* ---- safetensors ---- */

/* 16 bytes of data after a header. */
static int read_safetensors(const char *header, uint64_t claimed, size_t *tensors, struct core_error *err)
{
	static uint8_t file[4096];
	struct map m = {.data = file, .size = 8 + strlen(header) + 16};
	struct checkpoint *cp = calloc(1, sizeof *cp);
	int rc;

	memcpy(file, &claimed, 8);
	memcpy(file + 8, header, strlen(header));
	memset(file + 8 + strlen(header), 0, 16);
	*err = (struct core_error){0};
	rc = safetensors_read(cp, &m, "file", err);
	*tensors = checkpoint_count(cp);
	checkpoint_close(cp);
	return rc;
}

#define NORM "\"model.norm.weight\":"

static const struct {
	const char *header;
	int code;
	const char *words;
} safetensors[] = {
	{"{" NORM "{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}", 0, ""},
	{"{" NORM "{\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":[8,16]},\"__metadata__\":{\"format\":\"pt\"}}   ", 0, ""},
	{"{\"x\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]}}", 0, ""},
	{"{\"x\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", 0, ""},
	{"{" NORM "{\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":[0,4]}}", CORE_EUNSUPPORTED, "I8"},
	{"{" NORM "{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", CORE_EFORMAT, "shape"},
	{"{" NORM "{\"dtype\":\"F32\",\"shape\":[1,1,1,1,4],\"data_offsets\":[0,16]}}", CORE_EFORMAT, "shape"},
	{"{" NORM "{\"dtype\":\"F32\",\"shape\":[-4],\"data_offsets\":[0,16]}}", CORE_EFORMAT, "shape"},
	{"{" NORM "{\"shape\":[4],\"data_offsets\":[0,16]}}", CORE_EUNSUPPORTED, "dtype"},
	{"{" NORM "{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,16]}}", CORE_EFORMAT, "do not fit"},
	{"{" NORM "{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4,4,4],\"data_offsets\":[0,0]}}", CORE_EFORMAT, "do not fit"},
	{"{" NORM "{\"dtype\":\"F32\",\"shape\":[8],\"data_offsets\":[0,32]}}", CORE_EFORMAT, "data_offsets"},
	{"{" NORM "{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[-16,0]}}", CORE_EFORMAT, "data_offsets"},
	{"{" NORM "{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[16,0]}}", CORE_EFORMAT, "data_offsets"},
	{"{" NORM "{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0]}}", CORE_EFORMAT, "data_offsets"},
	{"{" NORM "{\"dtype\":\"F32\",\"shape\":[4]}}", CORE_EFORMAT, "data_offsets"},
	{"{" NORM "7}", CORE_EFORMAT, "data_offsets"},
	{"{" NORM "{},\"model.norm.weight\":{}}", CORE_EFORMAT, "uplicate"},
	{"[1]", CORE_EFORMAT, "object"},
	{"{\"a\":", CORE_EFORMAT, "JSON"},
};

static void safetensors_headers_are_checked(void **state)
{
	struct core_error err;
	size_t n;

	for (size_t i = 0; i < sizeof safetensors / sizeof safetensors[0]; i++) {
		const char *h = safetensors[i].header;
		expect(read_safetensors(h, strlen(h), &n, &err), &err, safetensors[i].code, safetensors[i].words, h);
		assert_true(safetensors[i].code == 0 || n == 0);
	}
	expect(read_safetensors("{}", 3 + 16, &n, &err), &err, CORE_EFORMAT, "does not fit", "a header longer than the file");
	expect(read_safetensors("{}", UINT64_MAX, &n, &err), &err, CORE_EFORMAT, "does not fit", "an endless header");
	expect(read_safetensors("{}", 0, &n, &err), &err, CORE_EFORMAT, "JSON", "an empty header");
}

/* ---- pickles ---- */

#define P "\x80\x02"				/* protocol 2 */
#define STORAGE "(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0" "0X\x03\0\0\0" "cpuK\x04tQ"
#define REBUILD "ctorch._utils\n_rebuild_tensor_v2\n"
#define HOOKS "\x89" "ccollections\nOrderedDict\n)R"
#define TENSOR_OF(offset, size, stride) REBUILD "(" STORAGE "K" offset "K" size "\x85K" stride "\x85" HOOKS "tR"
#define BYTES(s) s, sizeof(s) - 1

static const struct {
	const char *bytes;
	size_t len;
	int code;
	const char *words;	/* of the refusal */
	size_t tensors;
} pickles[] = {
	{BYTES(P "}X\x01\0\0\0a" TENSOR_OF("\0", "\x04", "\x01") "s."), 0, "", 1},
	{BYTES(P "ccollections\nOrderedDict\n)Rq\0(X\x01\0\0\0a" TENSOR_OF("\x01", "\x03",
									   "\x01") "X\x01\0\0\0bK\x07u}X\x01\0\0\0_}sb."),
	 0, "", 1},
	{BYTES(P "}X\x01\0\0\0a](K\x01K\x02"
		 "eK\x03"
		 "asX\x01\0\0\0b\x8a\x01\xfeG01234567\x86s."),
	 0, "", 0},
	{BYTES(P "}X\x01\0\0\0a" REBUILD "(" STORAGE "K\0K\x04\x85K\x01\x85" HOOKS "}tRs."), 0, "", 1},
	{BYTES(P REBUILD "(" STORAGE "K\0K\x04\x85K\x01\x85" HOOKS "}X\x04\0\0\0conj\x88stR."), CORE_EUNSUPPORTED, "view flags", 0},
	{BYTES(P "cos\nsystem\nX\x02\0\0\0ls\x85R."), CORE_EUNSUPPORTED, "os.system", 0},
	{BYTES(P "cbuiltins\neval\n."), CORE_EUNSUPPORTED, "builtins.eval", 0},
	{BYTES(P "ctorch\nload\n."), CORE_EUNSUPPORTED, "torch.load", 0},
	{BYTES(P "ctorch._utils\n_rebuild_tensor_v3\n."), CORE_EUNSUPPORTED, "_rebuild_tensor_v3", 0},
	{BYTES(P "ctorch\nFloatStorage\n)R."), CORE_EUNSUPPORTED, "FloatStorage", 0},
	{BYTES(P "ccollections\nOrderedDict\n]\x85R."), CORE_EUNSUPPORTED, "Python 2", 0},
	{BYTES(P "ios\nsystem\n(R."), CORE_EUNSUPPORTED, "0x69", 0}, /* INST */
	{BYTES(P "\x93."), CORE_EUNSUPPORTED, "0x93", 0},            /* STACK_GLOBAL */
	{BYTES(P "}\x81."), CORE_EUNSUPPORTED, "0x81", 0},           /* NEWOBJ */
	{BYTES(P "\x82\x01."), CORE_EUNSUPPORTED, "0x82", 0},        /* EXT1 */
	{BYTES("\x80\x04}."), CORE_EUNSUPPORTED, "protocol 2", 0},
	{BYTES("}."), CORE_EUNSUPPORTED, "protocol 2", 0},
	{BYTES(""), CORE_EUNSUPPORTED, "protocol 2", 0},
	{BYTES(P), CORE_EFORMAT, "without a stop", 0},
	{BYTES(P "}"), CORE_EFORMAT, "without a stop", 0},
	{BYTES(P "."), CORE_EUNSUPPORTED, "not a dictionary", 0},
	{BYTES(P "K\x01."), CORE_EUNSUPPORTED, "not a dictionary", 0},
	{BYTES(P "}}."), CORE_EUNSUPPORTED, "not a dictionary", 0},
	{BYTES(P "(."), CORE_EUNSUPPORTED, "not a dictionary", 0},
	{BYTES(P "X\xff\xff\xff\xff"
		 "abc"),
	 CORE_EFORMAT, "past the end", 0},
	{BYTES(P "J\x01\x02"), CORE_EFORMAT, "past the end", 0},
	{BYTES(P "\x8a\x09"
		 "123456789."),
	 CORE_EFORMAT, "64 bits", 0},
	{BYTES(P "cno-newline"), CORE_EFORMAT, "without an end", 0},
	{BYTES(P "t."), CORE_EFORMAT, "mark", 0},
	{BYTES(P "K\x01\x86."), CORE_EFORMAT, "tuple", 0},
	{BYTES(P "(K\x01\x86."), CORE_EFORMAT, "across a mark", 0},
	{BYTES(P "h\x05."), CORE_EFORMAT, "never set", 0},
	{BYTES(P "}r\xff\xff\xff\x7f."), CORE_EFORMAT, "out of order", 0},
	{BYTES(P "q\0."), CORE_EFORMAT, "out of order", 0},
	{BYTES(P "(q\0."), CORE_EFORMAT, "out of order", 0},
	{BYTES(P "}K\x01s."), CORE_EFORMAT, "too few", 0},
	{BYTES(P "}(K\x01u."), CORE_EFORMAT, "without a value", 0},
	{BYTES(P "(K\x01K\x01u."), CORE_EFORMAT, "without a mark or a dictionary", 0},
	{BYTES(P "}((K\x01K\x01u."), CORE_EFORMAT, "two marks", 0},
	{BYTES(P "](K\x01K\x01u."), CORE_EFORMAT, "not a dictionary", 0},
	{BYTES(P "}K\x01"
		 "a."),
	 CORE_EFORMAT, "not a list", 0},
	{BYTES(P "e."), CORE_EFORMAT, "without a mark", 0},
	{BYTES(P "]}b."), CORE_EUNSUPPORTED, "not a dictionary", 0},
	{BYTES(P "b."), CORE_EUNSUPPORTED, "not a dictionary", 0},
	{BYTES(P "Q."), CORE_EFORMAT, "five facts", 0},
	{BYTES(P "K\x01Q."), CORE_EFORMAT, "five facts", 0},
	{BYTES(P "R."), CORE_EFORMAT, "not a function", 0},
	{BYTES(P REBUILD ")R."), CORE_EFORMAT, "number of arguments", 0},
	{BYTES(P "ctorch._utils\n_rebuild_parameter\n)R."), CORE_EFORMAT, "without a tensor", 0},
	{BYTES(P REBUILD "(NK\0K\x01\x85K\x01\x85" HOOKS "tR."), CORE_EFORMAT, "without storage", 0},
	{BYTES(P REBUILD "(" STORAGE "K\0K\x01\x85)" HOOKS "tR."), CORE_EFORMAT, "sizes and strides", 0},
	{BYTES(P REBUILD "(" STORAGE "K\0\x8a\x01\xff\x85K\x01\x85" HOOKS "tR."), CORE_EFORMAT, "sizes and strides", 0},
	{BYTES(P REBUILD "(" STORAGE "K\0J\xff\xff\xff\xff\x85K\x01\x85" HOOKS "tR."), CORE_EFORMAT, "sizes and strides", 0},
};

static void pickles_are_read_or_refused_by_name(void **state)
{
	struct core_error err;
	struct pickle p;

	for (size_t i = 0; i < sizeof pickles / sizeof pickles[0]; i++) {
		char what[16];
		int rc;
		snprintf(what, sizeof what, "pickle %zu", i);
		err = (struct core_error){0};
		rc = pickle_read(&p, (const uint8_t *)pickles[i].bytes, pickles[i].len, "file", &err);
		expect(rc, &err, pickles[i].code, pickles[i].words, what);
		assert_int_equal(p.n, pickles[i].tensors);
		pickle_finish(&p);
	}
}

static void a_tensor_larger_than_its_storage_is_not_contiguous(void **state)
{
	static const char bytes[] = P "}X\x01\0\0\0a" TENSOR_OF("\x01", "\x04", "\x01") "s.";
	struct core_error err;
	struct pickle p;

	assert_int_equal(pickle_read(&p, (const uint8_t *)bytes, sizeof bytes - 1, "file", &err), 0);
	assert_int_equal(p.n, 1);
	assert_false(p.tensors[0].contiguous);
	pickle_finish(&p);
}

/* ---- files of a real checkpoint, cut off ---- */

static uint8_t *slurp(const char *name, size_t *size)
{
	FILE *f = fopen(fixture(name), "rb");
	uint8_t *data = malloc(1 << 16);

	assert_non_null(f);
	*size = fread(data, 1, 1 << 16, f);
	fclose(f);
	assert_true(*size > 0 && *size < 1 << 16);
	return data;
}

static void expect_cut_refused(const char *name, checkpoint_reader read)
{
	size_t whole;
	uint8_t *data = slurp(name, &whole);

	for (size_t n = 0; n < whole; n += 1 + n / 16) {
		struct checkpoint *cp = calloc(1, sizeof *cp);
		struct map m = {.data = data, .size = n};
		struct core_error err = {0};
		expect(read(cp, &m, "file", &err), &err, CORE_EFORMAT, "", name);
		checkpoint_close(cp);
	}
	free(data);
}

static void files_cut_anywhere_are_refused(void **state)
{
	expect_cut_refused("bin_f16/pytorch_model.bin", torch_read);
	expect_cut_refused("safetensors_f32/model.safetensors", safetensors_read);
}

/* ---- folders ---- */

static char dir[64];

static void write_file(const char *name, const void *bytes, size_t n)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	f = fopen(path, "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(bytes, 1, n, f), n);
	fclose(f);
}

static void copy_fixture(const char *from, const char *to)
{
	size_t n;
	uint8_t *data = slurp(from, &n);

	write_file(to, data, n);
	free(data);
}

static int make_dir(void **state)
{
	snprintf(dir, sizeof dir, "format-damage-%d", (int)getpid());
	return mkdir(dir, 0777) < 0 && errno != EEXIST ? -1 : 0;
}

static int remove_dir(void **state)
{
	char command[128];

	snprintf(command, sizeof command, "rm -rf %s", dir);
	return system(command);
}

static void expect_folder(int code, const char *words)
{
	struct checkpoint *cp;
	struct core_error err = {0};
	int rc = checkpoint_open(&cp, dir, &err);

	expect(rc, &err, code, words, "folder");
	checkpoint_close(cp);
}

static void a_folder_without_weights_says_what_it_looked_for(void **state)
{
	expect_folder(CORE_EIO, "config.json");
	copy_fixture("safetensors_f32/config.json", "config.json");
	expect_folder(CORE_EIO, "pytorch_model.bin");
}

static void an_index_cannot_leave_its_folder(void **state)
{
	static const char *const indexes[] = {
		"{\"weight_map\":{\"model.norm.weight\":\"../safetensors_f32/model.safetensors\"}}",
		"{\"weight_map\":{\"model.norm.weight\":\"/etc/passwd\"}}",
		"{\"weight_map\":{\"model.norm.weight\":\"..\"}}",
		"{\"weight_map\":{\"model.norm.weight\":\"\"}}",
		"{\"weight_map\":{\"model.norm.weight\":7}}",
		"{\"weight_map\":[]}",
		"{\"weight_map\":{}}",
		"{}",
		"[]",
	};

	copy_fixture("safetensors_f32/config.json", "config.json");
	for (size_t i = 0; i < sizeof indexes / sizeof indexes[0]; i++) {
		write_file("model.safetensors.index.json", indexes[i], strlen(indexes[i]));
		expect_folder(CORE_EFORMAT, "weight_map");
	}
	write_file("model.safetensors.index.json", "{", 1);
	expect_folder(CORE_EFORMAT, "JSON");
}

static void an_index_of_missing_or_overlapping_shards_is_refused(void **state)
{
	static const char missing[] = "{\"weight_map\":{\"model.norm.weight\":\"model-00001-of-00002.safetensors\"}}";
	static const char half[] = "{\"weight_map\":{\"lm_head.weight\":\"a.safetensors\"}}";
	static const char twice[] =
		"{\"weight_map\":{\"lm_head.weight\":\"a.safetensors\",\"model.norm.weight\":\"b.safetensors\"}}";

	copy_fixture("safetensors_f32/config.json", "config.json");
	write_file("model.safetensors.index.json", missing, strlen(missing));
	expect_folder(CORE_EIO, "model-00001-of-00002.safetensors");
	copy_fixture("safetensors_bf16_sharded/model-00001-of-00002.safetensors", "a.safetensors");
	write_file("model.safetensors.index.json", half, strlen(half));
	expect_folder(CORE_EFORMAT, "is missing");
	copy_fixture("safetensors_bf16_sharded/model-00001-of-00002.safetensors", "b.safetensors");
	write_file("model.safetensors.index.json", twice, strlen(twice));
	expect_folder(CORE_EFORMAT, "twice");
}

/* The fixture's config with one number changed disagrees with the weights. */
static void a_config_that_does_not_fit_the_weights_is_refused(void **state)
{
	static const struct {
		const char *from, *to;
		int code;
		const char *words;
	} changes[] = {
		{"\"vocab_size\": 9", "\"vocab_size\": 8", CORE_EFORMAT, "[9, 8], the config says [8, 8]"},
		{"\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1", CORE_EFORMAT, "1 layers"},
		{"\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", CORE_EFORMAT,
		 "model.layers.2.self_attn.q_proj.weight is missing"},
		{"\"num_key_value_heads\": 1", "\"num_key_value_heads\": 2", CORE_EFORMAT, "k_proj"},
	};
	size_t n;
	char *config = (char *)slurp("safetensors_f32/config.json", &n);

	config[n] = '\0';
	copy_fixture("safetensors_f32/model.safetensors", "model.safetensors");
	for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
		char *at = strstr(config, changes[i].from);
		assert_non_null(at);
		memcpy(at, changes[i].to, strlen(changes[i].to));
		write_file("config.json", config, n);
		expect_folder(changes[i].code, changes[i].words);
		memcpy(at, changes[i].from, strlen(changes[i].from));
	}
	free(config);
}

static void a_tensor_that_the_core_does_not_compute_is_refused(void **state)
{
	size_t n;
	uint8_t *data = slurp("safetensors_f32/model.safetensors", &n);
	char *name = NULL;

	copy_fixture("safetensors_f32/config.json", "config.json");
	for (size_t i = 0; i + 40 < n && name == NULL; i++)
		if (memcmp(data + i, "model.layers.1.mlp.up_proj.weight", 33) == 0)
			name = (char *)data + i;
	assert_non_null(name);
	memcpy(name, "model.layers.1.mlp.up_proj.biases", 33);
	write_file("model.safetensors", data, n);
	expect_folder(CORE_EUNSUPPORTED, "up_proj.biases");
	free(data);
}

static void a_fifo_in_place_of_a_file_does_not_hang(void **state)
{
	char path[256];

	snprintf(path, sizeof path, "%s/config.json", dir);
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	expect_folder(CORE_EIO, "regular file");
}

int main(void)
{
#define IN_A_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_dir)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(safetensors_headers_are_checked),
		cmocka_unit_test(pickles_are_read_or_refused_by_name),
		cmocka_unit_test(a_tensor_larger_than_its_storage_is_not_contiguous),
		cmocka_unit_test(files_cut_anywhere_are_refused),
		IN_A_FOLDER(a_folder_without_weights_says_what_it_looked_for),
		IN_A_FOLDER(an_index_cannot_leave_its_folder),
		IN_A_FOLDER(an_index_of_missing_or_overlapping_shards_is_refused),
		IN_A_FOLDER(a_config_that_does_not_fit_the_weights_is_refused),
		IN_A_FOLDER(a_tensor_that_the_core_does_not_compute_is_refused),
		IN_A_FOLDER(a_fifo_in_place_of_a_file_does_not_hang),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
