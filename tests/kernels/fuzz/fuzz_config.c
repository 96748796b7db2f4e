/* fuzz_config.c: config.json. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct llama_config c;
	struct core_error err = {0};
	int rc = config_parse(&c, (const char *)data, size, &err);

	fuzz_check(rc, &err);
	if (rc == 0 &&
	    (c.layers == 0 || c.heads == 0 || c.kv_heads == 0 || c.heads % c.kv_heads != 0 || c.head_dim % 2 != 0 || c.vocab == 0 ||
	     !(c.rope_theta > 0) || !(c.norm_eps > 0) || (c.scaling != ROPE_NONE && !(c.scaling_factor > 0))))
		abort();
	return 0;
}
