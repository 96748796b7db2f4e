/* fuzz_gguf.c: a whole GGUF model: metadata, tensors, names, shape. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct map m = {.data = data, .size = size};
	struct checkpoint *cp = calloc(1, sizeof *cp);
	struct core_error err = {0};
	int rc = gguf_read(cp, &m, "fuzz.gguf", &err);

	fuzz_check(rc, &err);
	if (rc == 0) {
		fuzz_read_rows(cp);
		fuzz_check(checkpoint_finish(cp, "fuzz.gguf", &err), &err);
		fuzz_read_rows(cp);
	}
	checkpoint_close(cp);
	return 0;
}
