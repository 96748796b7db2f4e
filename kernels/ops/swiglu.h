/* swiglu.h: out[k] = silu(gate[k]) * up[k], silu(g) = g / (1 + e^-g), one row. */
#ifndef WEFT_OPS_SWIGLU_H
#define WEFT_OPS_SWIGLU_H

#include <stdint.h>

/* out[n], gate[n], up[n]; out may be gate. All three are readable and writable up to the next multiple of 16 elements after n. */
typedef void swiglu_fn(float *out, const float *gate, const float *up, uint32_t n);

swiglu_fn swiglu_plain, swiglu_avx2, swiglu_avx512;

#endif
