/* quant_nf4.c: bitsandbytes' quantiser. The thresholds are its own: the middles between codes, as its kernels have them. */
#include "quant_nf4.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const float thresholds[15] = {
	-0.8480964004993439f, -0.6106329262256622f, -0.4599952697753906f, -0.33967943489551544f, -0.23460740596055984f,
	-0.13791173323988914f, -0.045525018125772476f, 0.03979014977812767f, 0.1202552504837513f, 0.2035212516784668f,
	0.2920137718319893f, 0.3893125355243683f, 0.5016634166240692f, 0.6427869200706482f, 0.8614784181118011f
};

enum { ZERO = 7 };	/* the code of 0 */

void nf4_init(struct nf4_matrix *m, const struct tensor *from)
{
	*m = (struct nf4_matrix){ .t = *from, .from = from };
	m->t.type = TENSOR_NF4;
	m->t.bytes = from->dims[0] * from->dims[1] / 2;
	m->t.permuted_heads = 0;	/* rows are read in HF order */
	m->t.nf4 = &m->s;
	m->s.nested = true;
	memcpy(m->s.map, nf4_map, sizeof(m->s.map));
}

static uint64_t blocks_of(const struct nf4_matrix *m)
{
	return m->from->dims[0] * m->from->dims[1] / NF4_BLOCK;
}

int nf4_room(struct nf4_matrix *m, struct core_error *err)
{
	uint64_t blocks = blocks_of(m);

	m->t.data = m->codes = malloc(m->t.bytes);
	m->absmax = malloc(blocks * sizeof(float));
	m->s.absmax8 = m->absmax8 = malloc(blocks);
	m->s.floats = m->nested = malloc((blocks + NF4_NESTED - 1) / NF4_NESTED * sizeof(float));
	if (m->codes && m->absmax && m->absmax8 && m->nested)
		return CORE_OK;
	return core_fail(err, CORE_ENOMEM, "no memory to quantise %s", m->from->name);
}

void nf4_finish(struct nf4_matrix *m)
{
	free(m->codes);
	free(m->absmax);
	free(m->absmax8);
	free(m->nested);
}

/* ---- codes ---- */

/* absmax; infinite or NaN when a value is not finite. */
static float magnitude(const float *x)
{
	float top = 0, zero = 0;

	for (unsigned k = 0; k < NF4_BLOCK; k++) {
		top = fabsf(x[k]) > top ? fabsf(x[k]) : top;
		zero += x[k] * 0;
	}
	return top + zero;
}

/* A block of zeros stays one (bitsandbytes makes it all -1: its absmax is no longer 0 when it went to 8 bits). */
static void block_codes(const float *x, float absmax, uint8_t *out)
{
	float inverse = 1 / absmax;
	int32_t code[NF4_BLOCK] = { 0 };

	for (unsigned i = 0; i < sizeof(thresholds) / sizeof(thresholds[0]); i++)
		for (unsigned k = 0; k < NF4_BLOCK; k++)
			code[k] += x[k] * inverse > thresholds[i];
	for (unsigned k = 0; k < NF4_BLOCK; k += 2)
		out[k / 2] = isfinite(inverse) ? (uint8_t)(code[k] << 4 | code[k + 1]) : ZERO << 4 | ZERO;
}

int nf4_rows(struct nf4_matrix *m, uint64_t r0, uint64_t r1, struct core_error *err)
{
	uint64_t cols = m->from->dims[1];
	float *x = malloc(cols * sizeof(*x));
	int rc = x ? CORE_OK : core_fail(err, CORE_ENOMEM, "no memory to quantise %s", m->from->name);

	for (uint64_t r = r0; r < r1 && !rc; r++) {
		tensor_row_f32(m->from, r, x);
		for (uint64_t k = 0; k < cols && !rc; k += NF4_BLOCK) {
			uint64_t at = r * cols + k;
			float absmax = magnitude(x + k);

			if (!isfinite(absmax))
				rc = core_fail(err, CORE_EFORMAT, "tensor %s, row %u: a weight is not finite", m->from->name,
					       (unsigned)r);
			m->absmax[at / NF4_BLOCK] = absmax;
			block_codes(x + k, absmax, m->codes + at / 2);
		}
	}
	free(x);
	return rc;
}

/* ---- their scales ---- */

/* The nearest of the map. */
static uint8_t map_code(float x)
{
	unsigned low = 0, high = 255;

	while (low < high) {
		unsigned middle = (low + high) / 2;

		if (x > (nf4_map[middle] + nf4_map[middle + 1]) * 0.5f)
			low = middle + 1;
		else
			high = middle;
	}
	return (uint8_t)low;
}

void nf4_scales(struct nf4_matrix *m)
{
	uint64_t blocks = blocks_of(m);
	double sum = 0;

	for (uint64_t i = 0; i < blocks; i++)
		sum += m->absmax[i];
	m->s.offset = (float)(sum / (double)blocks);
	for (uint64_t i = 0; i < blocks; i += NF4_NESTED) {
		uint64_t end = i + NF4_NESTED < blocks ? i + NF4_NESTED : blocks;
		float top = 0, inverse;

		for (uint64_t k = i; k < end; k++)
			top = fmaxf(top, fabsf(m->absmax[k] - m->s.offset));
		inverse = top > 0 ? 1 / top : 0;
		m->nested[i / NF4_NESTED] = top;
		for (uint64_t k = i; k < end; k++)
			m->absmax8[k] = map_code((m->absmax[k] - m->s.offset) * inverse);
	}
}
