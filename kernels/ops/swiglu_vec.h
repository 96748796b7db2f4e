/* swiglu_vec.h: swiglu.h on 16 lanes. */
#include "swiglu.h"
#include "vec16.h"

VEC void swiglu_vec(float *out, const float *gate, const float *up, uint32_t n)
{
	for (uint32_t k = 0; k < n; k += 16) {
		v16 g = v16_load(gate + k), e = v16_expo(v16_sub(v16_all(-0.0f), g));

		v16_store(out + k, v16_mul(v16_div(g, v16_add(v16_all(1.0f), e)), v16_load(up + k)));
	}
}
