/* fuzz.h: what the fuzz targets of kernels/format share.
 *
 * Each fuzz_NAME.c is a libFuzzer target (configure --enable-fuzzers with clang). In `make check` the same file runs under
 * standalone.c over corpus/NAME and a few thousand deterministic mutations of it. */
#ifndef WEFT_FUZZ_H
#define WEFT_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/format/format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Neither a crash nor these: a failure without a reason, and more memory than the input can justify. */
static inline void fuzz_check(int rc, const struct core_error *err)
{
	if ((rc < 0 && (err->code != rc || err->text[0] == '\0')) || rc == CORE_ENOMEM) {
		fprintf(stderr, "code %d, reason %d \"%s\"\n", rc, err->code, err->text);
		abort();
	}
}

/* Reads the first and the last row of every tensor, so that a sanitizer sees where they lie. */
static inline void fuzz_read_rows(const struct checkpoint *cp)
{
	for (size_t i = 0; i < cp->n_tensors; i++) {
		const struct tensor *t = &cp->tensors[i];
		uint64_t rows = 1, columns = t->dims[t->n_dims - 1];
		float *row;
		for (unsigned d = 0; d + 1 < t->n_dims; d++)
			rows *= t->dims[d];
		if (rows == 0 || columns == 0)
			continue;
		row = malloc(columns * sizeof *row); /* at most 15 times the bytes of the row in the file */
		if (row == NULL)
			abort();
		if (t->permuted_heads == 0 || t->dims[0] % t->permuted_heads == 0) {
			tensor_row_f32(t, 0, row);
			tensor_row_f32(t, rows - 1, row);
		}
		free(row);
	}
}

#endif
