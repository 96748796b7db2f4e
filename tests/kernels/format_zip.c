/* Zip archives written here, as torch writes them and otherwise: zip64, comments, compression, members that are not there. */
#include "format_test.h"
#include "kernels/format/format.h"
#include "kernels/format/zip.h"

enum { ROOM = 1 << 14, MEMBERS = 8 };

static uint8_t bytes[ROOM];
static size_t n_bytes;

/* What the directory will say of each member; a test may lie. */
static struct member {
	const char *name;
	uint64_t size, at;
	uint16_t method, flags;
} members[MEMBERS];
static unsigned n_members;

static void put(const void *p, size_t n)
{
	assert_true(n_bytes + n <= ROOM);
	memcpy(bytes + n_bytes, p, n);
	n_bytes += n;
}

static void put_le(uint64_t v, unsigned n)
{
	put(&v, n);
}

static void put_zeros(size_t n)
{
	static const uint8_t zeros[32];

	put(zeros, n);
}

static void begin(void)
{
	n_bytes = n_members = 0;
}

/* Local header and data, with an extra field between them as torch has for alignment. */
static struct member *add(const char *name, const void *data, size_t size)
{
	struct member *m = &members[n_members++];

	*m = (struct member){.name = name, .size = size, .at = n_bytes};
	put_le(0x04034b50, 4);
	put_zeros(22);
	put_le(strlen(name), 2);
	put_le(5, 2);
	put(name, strlen(name));
	put("FB\1\0Z", 5);
	put(data, size);
	return m;
}

static void put_central(const struct member *m, bool zip64)
{
	put_le(0x02014b50, 4);
	put_le(0, 4);
	put_le(m->flags, 2);
	put_le(m->method, 2);
	put_le(0, 8);
	put_le(zip64 ? UINT32_MAX : m->size, 4);
	put_le(zip64 ? UINT32_MAX : m->size, 4);
	put_le(strlen(m->name), 2);
	put_le(zip64 ? 4 + 3 + 4 + 24 : 0, 2);
	put_le(0, 2);
	put_le(0, 8);
	put_le(zip64 ? UINT32_MAX : m->at, 4);
	put(m->name, strlen(m->name));
	if (!zip64)
		return;
	put_le(0x7777, 2); /* a field of somebody else's first */
	put_le(3, 2);
	put("xyz", 3);
	put_le(1, 2);
	put_le(24, 2);
	put_le(m->size, 8);
	put_le(m->size, 8);
	put_le(m->at, 8);
}

static void finish(bool zip64, const char *comment)
{
	size_t start = n_bytes, end;

	for (unsigned i = 0; i < n_members; i++)
		put_central(&members[i], zip64);
	end = n_bytes;
	if (zip64) {
		put_le(0x06064b50, 4);
		put_le(44, 8);
		put_zeros(12);
		put_le(n_members, 8);
		put_le(n_members, 8);
		put_le(end - start, 8);
		put_le(start, 8);
		put_le(0x07064b50, 4);
		put_le(0, 4);
		put_le(end, 8);
		put_le(1, 4);
	}
	put_le(0x06054b50, 4);
	put_le(0, 4);
	put_le(zip64 ? UINT16_MAX : n_members, 2);
	put_le(zip64 ? UINT16_MAX : n_members, 2);
	put_le(zip64 ? UINT32_MAX : end - start, 4);
	put_le(zip64 ? UINT32_MAX : start, 4);
	put_le(strlen(comment), 2);
	put(comment, strlen(comment));
}

static void expect_open(int code, const char *words)
{
	struct map m = {bytes, n_bytes};
	struct core_error err = {0};
	struct zip z;
	int rc = zip_open(&z, &m, "file", &err);

	if (rc != code || (code < 0 && strstr(err.text, words) == NULL))
		fail_msg("code %d \"%s\", expected %d and \"%s\"", rc, err.text, code, words);
	zip_finish(&z);
}

static void expect_two_members(bool zip64, const char *comment)
{
	struct map m;
	struct core_error err = {0};
	const struct zip_entry *e;
	struct zip z;

	begin();
	add("b/second", "22", 2);
	add("a/first", "1", 1);
	finish(zip64, comment);
	m = (struct map){bytes, n_bytes};
	assert_true(zip_probe(&m));
	if (zip_open(&z, &m, "file", &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(z.n, 2);
	e = zip_find(&z, "b/second", 8);
	assert_non_null(e);
	assert_int_equal(e->size, 2);
	assert_memory_equal(e->data, "22", 2);
	assert_memory_equal(zip_find(&z, "a/first", 7)->data, "1", 1);
	assert_null(zip_find(&z, "a/firs", 6));
	assert_null(zip_find(&z, "a/first2", 8));
	zip_finish(&z);
}

static void members_are_found_by_name(void **state)
{
	expect_two_members(false, "");
}

static void zip64_is_read(void **state)
{
	expect_two_members(true, "");
}

static void a_comment_at_the_end_is_skipped(void **state)
{
	expect_two_members(false, "a comment with PK in it");
	expect_two_members(true, "another");
}

static void what_torch_does_not_write_is_refused(void **state)
{
	begin();
	add("a", "1", 1)->method = 8;
	finish(false, "");
	expect_open(CORE_EUNSUPPORTED, "compressed");
	begin();
	add("a", "1", 1)->flags = 1;
	finish(false, "");
	expect_open(CORE_EUNSUPPORTED, "encrypted");
	begin();
	add("a", "1", 1);
	add("a", "2", 1);
	finish(false, "");
	expect_open(CORE_EFORMAT, "same name");
	begin();
	finish(false, "");
	expect_open(0, "");
}

static void members_outside_the_file_are_refused(void **state)
{
	for (int zip64 = 0; zip64 < 2; zip64++) {
		begin();
		add("a", "1", 1)->size = 4000;
		finish(zip64, "");
		expect_open(CORE_EFORMAT, "inside the file");
		begin();
		add("a", "1", 1)->at = 4000;
		finish(zip64, "");
		expect_open(CORE_EFORMAT, "inside the file");
		begin();
		add("a", "1", 1)->at = 1; /* not a local header */
		finish(zip64, "");
		expect_open(CORE_EFORMAT, "inside the file");
	}
	begin();
	add("a", "1", 1)->size = UINT64_MAX - 8;
	finish(true, "");
	expect_open(CORE_EFORMAT, "inside the file");
}

static void damaged_directories_are_refused(void **state)
{
	size_t end;

	begin();
	add("a", "1", 1);
	finish(false, "");
	end = n_bytes - 22;
	bytes[end + 10] = 200; /* more entries than the directory has room for */
	expect_open(CORE_EFORMAT, "not a zip archive");
	bytes[end + 10] = 1;
	bytes[end + 16] ^= 1; /* the directory starts elsewhere */
	expect_open(CORE_EFORMAT, "");
	n_bytes = 10;
	expect_open(CORE_EFORMAT, "not a zip archive");
	n_bytes = 0;
	expect_open(CORE_EFORMAT, "not a zip archive");
}

/* ---- as a checkpoint ---- */

#define DATA_PKL                                                                                                                   \
	"\x80\x02}X\x11\0\0\0model.norm.weightctorch._utils\n_rebuild_tensor_v2\n(("                                               \
	"X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0"                                                                      \
	"0X\x03\0\0\0"                                                                                                             \
	"cpuK\x04tQK\0K\x04\x85K\x01\x85\x89"                                                                                      \
	"ccollections\nOrderedDict\n)RtRs."

static void expect_checkpoint(int code, const char *words)
{
	struct map m = {bytes, n_bytes};
	struct checkpoint *cp = calloc(1, sizeof *cp);
	struct core_error err = {0};
	int rc = torch_read(cp, &m, "file", &err);

	if (rc != code || (code < 0 && strstr(err.text, words) == NULL))
		fail_msg("code %d \"%s\", expected %d and \"%s\"", rc, err.text, code, words);
	assert_int_equal(cp->n_tensors, rc == 0 ? 1 : 0);
	checkpoint_close(cp);
}

static void a_checkpoint_has_its_storages_beside_its_pickle(void **state)
{
	static const float four[4] = {1, 2, 3, 4};

	begin();
	add("archive/data.pkl", DATA_PKL, sizeof DATA_PKL - 1);
	add("archive/byteorder", "little", 6);
	add("archive/data/0", four, sizeof four);
	finish(true, "");
	expect_checkpoint(0, "");
	begin();
	add("archive/data.pkl", DATA_PKL, sizeof DATA_PKL - 1);
	add("archive/data/1", four, sizeof four);
	finish(false, "");
	expect_checkpoint(CORE_EFORMAT, "data/0 is not in the archive");
	begin();
	add("archive/data.pkl", DATA_PKL, sizeof DATA_PKL - 1);
	add("archive/data/0", four, sizeof four - 1);
	finish(false, "");
	expect_checkpoint(CORE_EFORMAT, "too few");
	begin();
	add("archive/data.pkl", DATA_PKL, sizeof DATA_PKL - 1);
	add("archive/byteorder", "big", 3);
	add("archive/data/0", four, sizeof four);
	finish(false, "");
	expect_checkpoint(CORE_EUNSUPPORTED, "big-endian");
	begin();
	add("data.pkl", DATA_PKL, sizeof DATA_PKL - 1);
	finish(false, "");
	expect_checkpoint(CORE_EFORMAT, "without data.pkl");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(members_are_found_by_name),
		cmocka_unit_test(zip64_is_read),
		cmocka_unit_test(a_comment_at_the_end_is_skipped),
		cmocka_unit_test(what_torch_does_not_write_is_refused),
		cmocka_unit_test(members_outside_the_file_are_refused),
		cmocka_unit_test(damaged_directories_are_refused),
		cmocka_unit_test(a_checkpoint_has_its_storages_beside_its_pickle),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
