/* fuzz_safetensors.c: one .safetensors file. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct map m = {.data = data, .size = size};
	struct checkpoint *cp = calloc(1, sizeof *cp);
	struct core_error err = {0};
	int rc = safetensors_read(cp, &m, "fuzz.safetensors", &err);

	fuzz_check(rc, &err);
	if (rc == 0)
		fuzz_read_rows(cp);
	checkpoint_close(cp);
	return 0;
}
