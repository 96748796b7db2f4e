/* weights.cu: the packed matrices as the host has them are what the kernels read (ops.h), but for f16, whose k are paired here. */
#include "weights.h"

#include <string.h>

/* ---- uploading ---- */

cudaError_t uploader_init(struct uploader *u, cudaStream_t s, size_t piece)
{
	cudaError_t rc = cudaSuccess;

	memset(u, 0, sizeof(*u));
	u->stream = s;
	u->piece = piece;
	for (int i = 0; i < 2 && rc == cudaSuccess; i++) {
		rc = cudaMallocHost(&u->staging[i], piece);
		if (rc == cudaSuccess)
			rc = cudaEventCreateWithFlags(&u->sent[i], cudaEventDisableTiming);
	}
	return rc == cudaSuccess ? cudaMalloc(&u->raw, 2 * piece) : rc;
}

void uploader_finish(struct uploader *u)
{
	if (u->stream)
		cudaStreamSynchronize(u->stream);
	for (int i = 0; i < 2; i++) {
		cudaFreeHost(u->staging[i]);
		if (u->sent[i])
			cudaEventDestroy(u->sent[i]);
	}
	cudaFree(u->raw);
	memset(u, 0, sizeof(*u));
}

/* One piece into the next staging buffer and on its way to `to`. */
static cudaError_t send(struct uploader *u, void *to, const void *from, size_t bytes)
{
	unsigned i = u->next++ % 2;
	cudaError_t rc = cudaEventSynchronize(u->sent[i]); /* at first: an event never recorded is done */

	if (rc != cudaSuccess)
		return rc;
	memcpy(u->staging[i], from, bytes);
	rc = cudaMemcpyAsync(to, u->staging[i], bytes, cudaMemcpyHostToDevice, u->stream);
	return rc == cudaSuccess ? cudaEventRecord(u->sent[i], u->stream) : rc;
}

cudaError_t upload(struct uploader *u, void *to, const void *from, size_t bytes)
{
	cudaError_t rc = cudaSuccess;

	for (size_t at = 0; at < bytes && rc == cudaSuccess; at += u->piece)
		rc = send(u, (unsigned char *)to + at, (const unsigned char *)from + at, bytes - at < u->piece ? bytes - at : u->piece);
	return rc;
}

/* ---- f16 ---- */

/* [k][16] to [k / 2][16][2]; elements from `first` of the whole matrix on, a multiple of 32. width: k of a block on the
 * host; an odd one gets a zero behind it. */
KERNEL BLOCK_OF(256) pair(uint16_t *to, const uint16_t *from, uint64_t first, uint64_t n, uint32_t width, uint64_t to_block)
{
	for (uint64_t i = blockIdx.x * 256ull + threadIdx.x; i < n; i += gridDim.x * 256ull) {
		uint64_t at = first + i, block = at / ((uint64_t)width * 16);
		uint32_t k = (uint32_t)(at / 16 % width), r = (uint32_t)(at % 16);
		uint16_t *word = to + block * to_block + ((uint64_t)k / 2 * 16 + r) * 2;

		word[k % 2] = from[i];
		if (k + 1 == width && width % 2)
			word[1] = 0;
	}
}

static cudaError_t upload_f16(struct uploader *u, struct dmatrix *out, const struct matrix *w)
{
	uint64_t n = (uint64_t)w->blocks * w->kpad * 16, step = u->piece / 2;
	cudaError_t rc = cudaSuccess;

	for (uint64_t at = 0; at < n && rc == cudaSuccess; at += step) {
		uint64_t some = n - at < step ? n - at : step;
		unsigned char *raw = u->raw + u->next % 2 * u->piece; /* the stream keeps the order: free again */

		rc = send(u, raw, w->codes + 2 * at, 2 * some);
		if (rc == cudaSuccess)
			rc = LAUNCH(pair, dim3((unsigned)((some + 1023) / 1024)), 256u, (size_t)0, u->stream,
				    (uint16_t *)(uintptr_t)out->codes, (const uint16_t *)raw, at, some, w->kpad,
				    out->block_bytes / 2);
	}
	return rc;
}

/* ---- matrices ---- */

static enum form form_of_matrix(const struct matrix *w)
{
	switch (w->kind) {
	case PACK_F32:
		return FORM_F32;
	case PACK_F16:
		return FORM_F16;
	case PACK_BF16:
		return FORM_BF16;
	case PACK_NF4:
		return FORM_NF4;
	default:
		return w->bits == 4 ? FORM_I4 : FORM_I8;
	}
}

size_t weights_bytes(const struct backend_weights *w)
{
	return w->w->kind == PACK_F16 ? (size_t)w->w->blocks * ((w->w->kpad + 1) / 2) * 64 : w->bytes;
}

/* All but the pointers. */
static void shape_of(struct dmatrix *out, const struct matrix *w)
{
	memset(out, 0, sizeof(*out));
	out->form = form_of_matrix(w);
	out->rows = w->rows;
	out->cols = w->cols;
	out->blocks = w->blocks;
	out->group = w->group;
	out->groups = w->groups;
	out->zero = w->zero;
	out->block_bytes = w->kind == PACK_F16 ? (size_t)(w->kpad + 1) / 2 * 64 : matrix_block_bytes(w);
	out->block_scales = w->kind == PACK_INT ? (uint32_t)matrix_block_scales(w) : 0;
}

cudaError_t weights_upload(struct uploader *u, struct dmatrix *out, const struct backend_weights *from)
{
	const struct matrix *w = from->w;
	unsigned char *memory;
	cudaError_t rc;

	shape_of(out, w);
	rc = cudaMalloc(&memory, weights_bytes(from));
	if (rc != cudaSuccess)
		return rc;
	out->codes = memory;
	if (w->kind == PACK_INT) { /* the parts lie as they do on the host */
		out->scales = (const uint16_t *)(memory + ((const unsigned char *)w->scales - w->codes));
		out->mins = w->has_min ? (const uint16_t *)(memory + ((const unsigned char *)w->mins - w->codes)) : NULL;
		out->sub_scales =
			w->two_level ? (const int8_t *)(memory + ((const unsigned char *)w->sub_scales - w->codes)) : NULL;
		out->sub_mins = w->two_level && w->has_min
					? (const int8_t *)(memory + ((const unsigned char *)w->sub_mins - w->codes))
					: NULL;
	}
	if (w->kind == PACK_NF4) {
		out->absmax = (const float *)(memory + ((const unsigned char *)w->absmax - w->codes));
		out->sub_scales =
			w->two_level ? (const int8_t *)(memory + ((const unsigned char *)w->sub_scales - w->codes)) : NULL;
	}
	return w->kind == PACK_F16 ? upload_f16(u, out, w) : upload(u, memory, w->codes, from->bytes);
}
