/* philox.h: counter-based random numbers, so that a draw depends on what it is for and never on what was drawn before. [any thread]
 *
 * Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). The key is the request's seed;
 * the counter is (position, choice, stream, k), so no two draws of a request share a block. A stream is the FNV-1a hash of a name: each
 * plugin has its own, and the final draw has PHILOX_DRAW, which no plugin name can be (names have no dot). */
#ifndef WEFT_DAEMON_PHILOX_H
#define WEFT_DAEMON_PHILOX_H

#include <stdint.h>

#define PHILOX_DRAW "weft.draw"

void philox4x32_10(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);
uint32_t philox_stream(const char *name);
/* Uniform in [0, 1), 53 bits. position must be below 2^32, as every context is. */
double philox_uniform(uint64_t seed, uint64_t position, uint32_t choice, uint32_t stream, uint32_t k);

#endif
