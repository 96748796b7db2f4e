/* draw_device.h: the kernel that draws, on the shim, for a test in C. */
#ifndef WEFT_TESTS_DRAW_DEVICE_H
#define WEFT_TESTS_DRAW_DEVICE_H

#include "kernels/core.h"

#ifdef __cplusplus
extern "C" {
#endif
/* logits[m][n] -> out[m]. NULL, or what went wrong. */
const char *draw_on_device(const float *logits, uint32_t n, uint32_t m, const struct core_draw *draws, struct core_drawn *out);
#ifdef __cplusplus
}
#endif
#endif
