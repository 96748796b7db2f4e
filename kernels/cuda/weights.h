/* weights.h: matrices of the host on the device. */
#ifndef WEFT_CUDA_WEIGHTS_H
#define WEFT_CUDA_WEIGHTS_H

#include "kernels/backend.h"
#include "ops.h"

/* Copies through two pinned buffers: the host fills one (from memory-mapped files at best) while the other is on its way. */
struct uploader {
	cudaStream_t stream;
	unsigned char *staging[2]; /* pinned */
	cudaEvent_t sent[2];
	unsigned char *raw; /* on the device: f16 before it is paired; [2][piece] */
	unsigned next;
	size_t piece;
};
/* Of weights; of adapters, where a pass may end while the host fills one: 0.1 ms. Small on the shim, so that small models have many. */
#ifdef WEFT_SHIM_H
enum { UPLOAD_PIECE = 64 << 10, UPLOAD_BESIDE = 8 << 10 };
#else
enum { UPLOAD_PIECE = 8 << 20, UPLOAD_BESIDE = 1 << 20 };
#endif

cudaError_t uploader_init(struct uploader *u, cudaStream_t s, size_t piece);
void uploader_finish(struct uploader *u); /* after a failed init, too */
/* to: device memory. Returns when the host's bytes have been read; the copy itself is on the stream. */
cudaError_t upload(struct uploader *u, void *to, const void *from, size_t bytes);

/* What a matrix takes on the device. */
size_t weights_bytes(const struct backend_weights *w);
/* Allocates and fills; out->codes is the one block to cudaFree(). */
cudaError_t weights_upload(struct uploader *u, struct dmatrix *out, const struct backend_weights *w);

#endif
