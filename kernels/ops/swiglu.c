/* swiglu.c: the plain reference. */
#include "swiglu.h"

#include "expo.h"

void swiglu_plain(float *out, const float *gate, const float *up, uint32_t n)
{
	for (uint32_t k = 0; k < n; k++)
		out[k] = gate[k] / (1.0f + expo(-gate[k])) * up[k];
}
