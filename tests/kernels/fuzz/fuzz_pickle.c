/* fuzz_pickle.c: a torch checkpoint: a pickle by itself, or the whole zip archive when the input is one. */
#include "fuzz.h"
#include "kernels/format/pickle.h"
#include "kernels/format/zip.h"

static int read_archive(const struct map *m, struct core_error *err)
{
	struct checkpoint *cp = calloc(1, sizeof *cp);
	int rc = torch_read(cp, m, "fuzz.bin", err);

	if (rc == 0)
		fuzz_read_rows(cp);
	checkpoint_close(cp);
	return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct map m = {.data = data, .size = size};
	struct core_error err = {0};
	struct pickle p;
	int rc;

	if (zip_probe(&m)) {
		fuzz_check(read_archive(&m, &err), &err);
		return 0;
	}
	rc = pickle_read(&p, data, size, "fuzz.bin", &err);
	fuzz_check(rc, &err);
	for (size_t i = 0; i < p.n; i++)
		if (p.tensors[i].contiguous && p.tensors[i].offset + p.tensors[i].elements > p.tensors[i].storage)
			abort();
	pickle_finish(&p);
	return 0;
}
