/* standalone.c: runs a fuzz target without libFuzzer: every file of its corpus, then mutations of each, the same ones every time.
 *
 * The corpus of fuzz_NAME_fixed is $top_srcdir/tests/kernels/fuzz/corpus/NAME; an argument names another folder. */
#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include "fuzz.h"

/* MEMORY is what one input may make the reader ask for on top of what the program has when it starts. */
enum { MUTATIONS = 4000, INPUT_MAX = 1 << 20, MEMORY = 64 << 20, DEADLINE = 300 };

static uint64_t random_state;

/* splitmix64 */
static uint64_t next_random(void)
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* One change of n bytes at data, with room for INPUT_MAX; returns the new length. */
static size_t mutate(uint8_t *data, size_t n)
{
	static const uint64_t edges[] = {0,      1,          0x7f,       0x80,      0xff,       0x7fff,
					 0xffff, 0x7fffffff, 0xffffffff, INT64_MAX, UINT64_MAX, 1ull << 40};
	size_t at = n != 0 ? next_random() % n : 0, len = next_random() % 16;
	uint64_t edge = edges[next_random() % (sizeof edges / sizeof edges[0])];

	switch (next_random() % 6) {
	case 0: /* a bit */
		if (n != 0)
			data[at] ^= (uint8_t)(1 << next_random() % 8);
		return n;
	case 1: /* a byte */
		if (n != 0)
			data[at] = (uint8_t)next_random();
		return n;
	case 2: /* a number at the edge of its type */
		memcpy(data + at, &edge, n - at < 8 ? n - at : 8);
		return n;
	case 3: /* cut off */
		return at;
	case 4: /* take some bytes out */
		len = len < n - at ? len : n - at;
		memmove(data + at, data + at + len, n - at - len);
		return n - len;
	default: /* repeat some bytes */
		len = len < n - at ? len : n - at;
		len = n + len <= INPUT_MAX ? len : 0;
		memmove(data + at + len, data + at, n - at);
		return n + len;
	}
}

/* The target sees a copy of the exact size, so that a sanitizer notices a byte too far. */
static void run(const uint8_t *data, size_t n)
{
	uint8_t *copy = malloc(n + (n == 0));

	if (copy == NULL)
		abort();
	memcpy(copy, data, n);
	LLVMFuzzerTestOneInput(copy, n);
	free(copy);
}

static void run_file(const char *path, unsigned mutations)
{
	static uint8_t original[INPUT_MAX], data[INPUT_MAX];
	FILE *f = fopen(path, "rb");
	size_t n, len;

	if (f == NULL)
		return;
	n = fread(original, 1, INPUT_MAX / 2, f);
	fclose(f);
	printf("%s: %zu bytes and %u mutations\n", path, n, mutations);
	fflush(stdout);
	run(original, n);
	for (unsigned i = 0; i < mutations; i++) {
		random_state = i;
		memcpy(data, original, n);
		len = n;
		for (uint64_t k = next_random() % 4 + 1; k > 0; k--)
			len = mutate(data, len);
		run(data, len);
	}
}

/* Runs the files of a folder; with mutations 0 only counts them. */
static unsigned each_file(const char *folder, unsigned mutations)
{
	DIR *d = opendir(folder);
	const struct dirent *e;
	char path[4096];
	unsigned n = 0;

	while (d != NULL && (e = readdir(d)) != NULL) {
		if (e->d_name[0] == '.')
			continue;
		n++;
		snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
		if (mutations != 0)
			run_file(path, mutations);
	}
	if (d != NULL)
		closedir(d);
	return n;
}

/* fuzz_gguf_fixed: corpus/gguf. libtool may run it as lt-fuzz_gguf_fixed. */
static void corpus_of(const char *program, char *folder, size_t room)
{
	const char *top = getenv("top_srcdir"), *name = strstr(program, "fuzz_"), *next;

	while (name != NULL && (next = strstr(name + 1, "fuzz_")) != NULL)
		name = next;
	name = name != NULL ? name + strlen("fuzz_") : "";
	snprintf(folder, room, "%s/tests/kernels/fuzz/corpus/%.*s", top != NULL ? top : ".", (int)strcspn(name, "_"), name);
}

/* Asking for more memory than this then fails, which the targets take for a bug. Sanitizers need the address space themselves. */
static void limit_memory(void)
{
#if !defined(__SANITIZE_ADDRESS__)
	struct rlimit limit;
	unsigned long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	if (f == NULL || fscanf(f, "%lu", &pages) != 1)
		pages = 0;
	if (f != NULL)
		fclose(f);
	limit.rlim_cur = limit.rlim_max = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + MEMORY;
	if (pages != 0)
		setrlimit(RLIMIT_AS, &limit);
#endif
}

int main(int argc, char **argv)
{
	char folder[4096];
	unsigned files;

	alarm(DEADLINE); /* a target that hangs fails */
	if (argc > 1)
		snprintf(folder, sizeof folder, "%s", argv[1]);
	else
		corpus_of(argv[0], folder, sizeof folder);
	limit_memory();
	files = each_file(folder, 0);
	if (files == 0) {
		printf("no corpus in %s\n", folder);
		return 1;
	}
	each_file(folder, MUTATIONS / files + 1);
	return 0;
}
