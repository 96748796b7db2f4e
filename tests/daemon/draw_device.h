/* draw_device.h: the kernel that draws, on the shim, for a test in C. */
#ifndef WEFT_TESTS_DRAW_DEVICE_H
#define WEFT_TESTS_DRAW_DEVICE_H

#include "kernels/core.h"

#ifdef __cplusplus
extern "C" {
#endif
/* logits[m][n] -> out[m], whose top lies in tops[m][CORE_TOP]; and what is left of edits and temperature of the last 64 rows or fewer,
 * views[..][n] (NULL: not wanted). NULL, or what went wrong. */
const char *draw_on_device(const float *logits, uint32_t n, uint32_t m, const struct core_draw *draws, struct core_drawn *out,
			   struct core_top *tops, float *views);
#ifdef __cplusplus
}
#endif
#endif
