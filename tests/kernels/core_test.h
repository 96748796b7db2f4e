/* core_test.h: what the tests of the core include: cmocka, and a few helpers that stop the test with the core's own words. */
#ifndef WEFT_CORE_TEST_H
#define WEFT_CORE_TEST_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "kernels/core.h"

#define must(call)                                                                                                                 \
	do {                                                                                                                       \
		if ((call) != CORE_OK)                                                                                             \
			fail_msg("%s: %s", #call, why.text);                                                                       \
	} while (0)

static struct core_error why __attribute__((unused));

/* $top_srcdir/tests/kernels/fixtures/golden/NAME, in a static buffer. */
static inline const char *golden_path(const char *name)
{
	static char path[512];
	const char *top = getenv("top_srcdir");

	snprintf(path, sizeof(path), "%s/tests/kernels/fixtures/golden/%s", top ? top : ".", name);
	return path;
}

static inline struct core_model *load_model_with(const char *path, enum core_quant quant, enum core_factors factors)
{
	struct core_model_params p = { .path = path, .quant = quant, .factors = factors };
	struct core_model *m = NULL;

	must(core_model_load(&m, &p, &why));
	return m;
}

static inline struct core_model *load_model(const char *path, enum core_quant quant)
{
	return load_model_with(path, quant, CORE_FACTORS_AUTO);
}

static inline struct core_ctx *new_ctx(const struct core_model *m, const char *cpu, int threads, uint32_t pages, uint32_t max_rows)
{
	struct core_ctx_params p = { .model = m, .threads = threads, .kv_pages = pages, .max_rows = max_rows };
	struct core_ctx *c = NULL;

	if (cpu)
		setenv("WEFT_CPU", cpu, 1);
	else
		unsetenv("WEFT_CPU");
	must(core_ctx_new(&c, &p, &why));
	return c;
}

/* The instruction sets that this machine has: "plain" first. Ends with NULL. */
static inline const char *const *cpus_here(void)
{
	static const char *list[5];
	unsigned n = 0;

	for (int cpu = CORE_CPU_PLAIN; cpu <= CORE_CPU_AMX; cpu++) {
		enum core_cpu got;

		setenv("WEFT_CPU", core_cpu_name((enum core_cpu)cpu), 1);
		if (core_cpu_pick(&got, NULL) == CORE_OK)
			list[n++] = core_cpu_name((enum core_cpu)cpu);
	}
	list[n] = NULL;
	return list;
}

/* Feeds tokens[n] in one pass; every row wants logits. */
static inline void feed(struct core_ctx *c, struct core_seq *s, const int32_t *tokens, uint32_t n)
{
	struct core_row *rows = calloc(n, sizeof(*rows));

	for (uint32_t i = 0; i < n; i++)
		rows[i] = (struct core_row){ s, tokens[i], CORE_PROMPT, true };
	must(core_forward(c, rows, n, &why));
	free(rows);
}

#endif
