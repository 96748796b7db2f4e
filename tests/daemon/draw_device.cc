#include "draw_device.h"

#include <vector>

#include "kernels/cuda/ops.h"

static const char *run(const std::vector<float> &rows, uint32_t ld, uint32_t n, uint32_t m, const struct core_draw *draws,
		       struct core_drawn *out, cudaStream_t s)
{
	float *logits = NULL, *scaled = NULL;
	struct core_draw *d = NULL;
	struct core_drawn *drawn = NULL;
	cudaError_t rc = cudaSuccess, each[] = {cudaMalloc(&logits, rows.size() * sizeof(float)),
						cudaMalloc(&scaled, (size_t)DRAW_ROWS * ld * sizeof(float)), cudaMalloc(&d, m * sizeof(*d)),
						cudaMalloc(&drawn, m * sizeof(*drawn))};
	struct draw_args a = {logits, ld, n, m, d, drawn, scaled};

	for (cudaError_t e : each)
		rc = rc == cudaSuccess ? e : rc;
	if (rc == cudaSuccess)
		rc = cudaMemcpyAsync(logits, rows.data(), rows.size() * sizeof(float), cudaMemcpyHostToDevice, s);
	if (rc == cudaSuccess)
		rc = cudaMemcpyAsync(d, draws, m * sizeof(*d), cudaMemcpyHostToDevice, s);
	if (rc == cudaSuccess)
		rc = draw_cuda(&a, s);
	if (rc == cudaSuccess)
		rc = cudaMemcpyAsync(out, drawn, m * sizeof(*drawn), cudaMemcpyDeviceToHost, s);
	if (rc == cudaSuccess)
		rc = cudaStreamSynchronize(s);
	cudaFree(logits);
	cudaFree(scaled);
	cudaFree(d);
	cudaFree(drawn);
	return rc == cudaSuccess ? NULL : cudaGetErrorString(rc);
}

const char *draw_on_device(const float *logits, uint32_t n, uint32_t m, const struct core_draw *draws, struct core_drawn *out)
{
	const uint32_t ld = (n + 15) / 16 * 16;
	std::vector<float> rows((size_t)m * ld, INFINITY); /* behind a row: what nobody may read */
	cudaStream_t s;
	const char *wrong;

	for (uint32_t i = 0; i < m; i++)
		memcpy(&rows[(size_t)i * ld], logits + (size_t)i * n, n * sizeof(float));
	if (cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking) != cudaSuccess)
		return "no stream";
	wrong = run(rows, ld, n, m, draws, out, s);
	cudaStreamDestroy(s);
	return wrong ? (shim_fault() ? shim_fault() : wrong) : NULL;
}
