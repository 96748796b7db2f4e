/* fuzz_vocab.c: a vocabulary, as SentencePiece's ModelProto or in a GGUF file, up to the bytes that the library is given. */
#include "fuzz.h"
#include "kernels/format/vocab.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct map m = {.data = data, .size = size};
	struct core_error err = {0};
	struct vocab v;
	int rc = vocab_parse(&v, &m, "fuzz.model", &err);

	fuzz_check(rc, &err);
	if (rc == 0)
		fuzz_check(vocab_drop_prefix(&v, &err), &err);
	vocab_finish(&v);
	return 0;
}
