/* quantize.h: one activation row to int8, once per group of `group` elements, for the integer matmul.
 *
 *     a     = max |x|                      over the group
 *     scale = a / 127
 *     q     = round to nearest even(x * (127 / a))          -127 .. 127
 *     sum   = sum of q
 *
 * A group whose a is below QUANTIZE_TINY counts as zeros (127 / a must stay finite). A group with an infinity or a NaN has the
 * scale NaN and zero codes, so that the outputs show NaN instead of plausible numbers. */
#ifndef WEFT_OPS_QUANTIZE_H
#define WEFT_OPS_QUANTIZE_H

#include <stdint.h>

#define QUANTIZE_TINY 1e-30f

/* x[n]; q[kpad], scale[kpad / group], sum[kpad / group]; elements from n to kpad count as zeros. x is readable up to the next
 * multiple of 16 elements after n, whatever stands there. */
typedef void quantize_fn(int8_t *q, float *scale, int32_t *sum, const float *x, uint32_t n, uint32_t kpad, uint32_t group);

quantize_fn quantize_plain, quantize_avx2, quantize_avx512;

#endif
