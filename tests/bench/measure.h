/* measure.h: the clock, and what the core and the memory of this machine do by it. What fails is told on stderr, and the program
 * ends. */
#ifndef WEFT_BENCH_MEASURE_H
#define WEFT_BENCH_MEASURE_H

#include <stdio.h>
#include <stdlib.h>

#include "kernels/core.h"
#include "model.h"

extern struct core_error why;

#define must(call)                                                                                                                 \
	do {                                                                                                                       \
		if ((call) != CORE_OK) {                                                                                           \
			fprintf(stderr, "%s: %s\n", #call, why.text);                                                              \
			exit(1);                                                                                                   \
		}                                                                                                                  \
	} while (0)

void clock_counts_cpu_of(int threads); /* their CPU time, divided by their number, is what now() tells from here on; 0: wall time */
double now(void);                      /* seconds */
double median(double *x, int n);       /* sorts x */
void print_machine(int threads);       /* date, processor, instruction set, threads, compiler, clock: two lines */

/* Bytes a second of reading a block much larger than the caches, by that many threads, in parts handed out as the core hands out
 * its own. The block is made at the first call and stays. */
double read_bandwidth(int threads);

/* A model that runs. */
struct bench {
	const char *name; /* of the weights */
	struct core_model *model;
	struct core_ctx *ctx;
	int threads;
	double load_s;
	double bytes; /* what a step of one row reads: the linears and the head */
};
enum { BENCH_ROWS = 512 };                                                                  /* of the largest pass */
void bench_open(struct bench *b, const struct weights *w, const char *folder, int threads); /* folder: see model_need() */
void bench_close(struct bench *b);

/* Seconds of a pass over a prompt of n tokens. */
double bench_prompt(struct bench *b, uint32_t n);
/* The logits behind such a prompt: core_logits() until the next pass. */
const float *bench_logits(struct bench *b, uint32_t n);

/* Sequences that generate side by side. */
enum { CHOIR_MOST = 16 };
struct choir {
	struct bench *b;
	uint32_t n, context; /* tokens of each */
	struct core_seq *seq[CHOIR_MOST];
};
/* Their prompts run in passes of up to `rows` rows. */
void choir_open(struct choir *c, struct bench *b, uint32_t n, uint32_t context, uint32_t rows);
/* Seconds of that many steps of them all; after it they stand where they stood before. */
double choir_steps(struct choir *c, int steps);
void choir_close(struct choir *c);

#endif
