/* peak.h: what the arithmetic of this machine comes to: one instruction over and over on values in registers, by all threads at once. */
#ifndef WEFT_BENCH_PEAK_H
#define WEFT_BENCH_PEAK_H

#include "kernels/core.h"

struct peak {
	const char *by;		/* which instruction, for people; NULL: this instruction set has none */
	double ops;		/* a second; a multiplication and an addition are two */
};

/* The best that a set has for integers of 8 bits and for floating point. The set must be one that core_cpu_pick() gave. */
struct peaks {
	struct peak ints, floats;
};
struct peaks peaks_measure(enum core_cpu cpu, int threads);

#endif
