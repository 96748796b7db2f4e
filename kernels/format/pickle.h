/* pickle.h: the tensors that torch's data.pkl describes, without running it.
 *
 * Python's pickle is a program for a small stack machine that may call any function. This machine knows the few instructions that
 * torch.save writes for a dictionary of tensors and five functions, which it carries out as data; anything else is refused by name.
 * Work and memory grow with the length of the pickle only: every instruction makes at most one value. */
#ifndef WEFT_FORMAT_PICKLE_H
#define WEFT_FORMAT_PICKLE_H

#include "format.h"

/* What a storage holds: one of the three types that the core reads, or just a size. */
struct pickle_dtype {
	const char *name;	/* "FloatStorage" */
	unsigned bytes;
	bool known;
	enum tensor_type type;	/* when known */
};

struct pickle_text {
	const char *s;		/* inside the pickle, not terminated */
	size_t len;
};

struct pickle_tensor {
	struct pickle_text name;	/* its key in the dictionary */
	struct pickle_text key;		/* of its storage: the archive member data/KEY */
	const struct pickle_dtype *dtype;
	uint64_t storage;		/* elements in the storage */
	uint64_t offset;		/* first element */
	unsigned n_dims;		/* may be more than 4; dims has the first 4 */
	uint64_t dims[4];
	uint64_t elements;		/* product of all sizes; offset + elements <= storage */
	bool contiguous;		/* row-major without gaps */
};

struct pickle {
	struct pickle_tensor *tensors;	/* owned */
	size_t n;
};

int pickle_read(struct pickle *p, const uint8_t *data, size_t len, const char *path, struct core_error *err);
void pickle_finish(struct pickle *p);

#endif
