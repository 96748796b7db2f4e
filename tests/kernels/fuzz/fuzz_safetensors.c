/* fuzz_safetensors.c: one .safetensors file, of floats and as bitsandbytes saves it. */
#include "fuzz.h"

#include "kernels/format/bitsandbytes.h"

static void read_one(const uint8_t *data, size_t size, bool bitsandbytes)
{
	struct map m = {.data = data, .size = size};
	struct checkpoint *cp = calloc(1, sizeof *cp);
	struct core_error err = {0};
	int rc;

	cp->config.bitsandbytes = bitsandbytes;
	rc = safetensors_read(cp, &m, "fuzz.safetensors", &err);
	if (rc == 0 && bitsandbytes)
		rc = bitsandbytes_join(cp, "fuzz.safetensors", &err);
	fuzz_check(rc, &err);
	for (size_t i = 0; i < cp->n_tensors && rc == 0; i++)
		if (cp->tensors[i].type == TENSOR_U8) /* whoever opens a checkpoint refuses those that are left */
			cp->tensors[i].dims[cp->tensors[i].n_dims - 1] = 0;
	if (rc == 0)
		fuzz_read_rows(cp);
	checkpoint_close(cp);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	read_one(data, size, false);
	read_one(data, size, true);
	return 0;
}
