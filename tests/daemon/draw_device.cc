#include "draw_device.h"

#include <vector>

#include "kernels/cuda/ops.h"

/* What a pass has on the device. */
struct there {
	std::vector<void *> memory;
	cudaStream_t stream;
	cudaError_t rc;
};

template <typename T> static T *put(struct there *t, const T *from, size_t n)
{
	T *to = NULL;

	if (t->rc == cudaSuccess)
		t->rc = cudaMalloc(&to, (n ? n : 1) * sizeof(T));
	if (t->rc == cudaSuccess && from && n)
		t->rc = cudaMemcpyAsync(to, from, n * sizeof(T), cudaMemcpyHostToDevice, t->stream);
	t->memory.push_back(to);
	return to;
}

template <typename T> static void get(struct there *t, T *to, const T *from, size_t n)
{
	if (t->rc == cudaSuccess && n)
		t->rc = cudaMemcpyAsync(to, from, n * sizeof(T), cudaMemcpyDeviceToHost, t->stream);
}

static void run(struct there *t, const std::vector<float> &rows, uint32_t ld, uint32_t n, uint32_t m, const struct core_draw *asked,
		struct core_drawn *out, struct core_top *tops, std::vector<float> *views)
{
	std::vector<struct core_draw> draws(asked, asked + m);
	struct draw_args a;

	for (uint32_t i = 0; i < m; i++)
		draws[i].edits = put(t, asked[i].edits, asked[i].n_edits);
	a.logits = put(t, rows.data(), rows.size());
	a.ld = ld;
	a.n = n;
	a.m = m;
	a.draw = put(t, draws.data(), m);
	a.out = put<struct core_drawn>(t, NULL, m);
	a.tops = put<struct core_top>(t, NULL, (size_t)m * CORE_TOP);
	a.scaled = put<float>(t, NULL, (size_t)DRAW_ROWS * ld);
	if (t->rc == cudaSuccess)
		t->rc = draw_cuda(&a, t->stream);
	get(t, out, a.out, m);
	get(t, tops, a.tops, (size_t)m * CORE_TOP);
	get(t, views->data(), a.scaled, views->size());
	if (t->rc == cudaSuccess)
		t->rc = cudaStreamSynchronize(t->stream);
}

const char *draw_on_device(const float *logits, uint32_t n, uint32_t m, const struct core_draw *draws, struct core_drawn *out,
			   struct core_top *tops, float *views)
{
	const uint32_t ld = (n + 15) / 16 * 16, last = (m - 1) % DRAW_ROWS + 1;
	std::vector<float> rows((size_t)m * ld, INFINITY); /* behind a row: what nobody may read */
	std::vector<float> seen(views ? (size_t)last * ld : 0);
	struct there t;

	for (uint32_t i = 0; i < m; i++)
		memcpy(&rows[(size_t)i * ld], logits + (size_t)i * n, n * sizeof(float));
	t.rc = cudaStreamCreateWithFlags(&t.stream, cudaStreamNonBlocking);
	if (t.rc != cudaSuccess)
		return "no stream";
	run(&t, rows, ld, n, m, draws, out, tops, &seen);
	for (void *p : t.memory)
		cudaFree(p);
	cudaStreamDestroy(t.stream);
	for (uint32_t i = 0; i < m; i++)
		out[i].top = tops + (size_t)i * CORE_TOP;
	for (uint32_t i = 0; views && i < last; i++)
		memcpy(views + (size_t)i * n, &seen[(size_t)i * ld], n * sizeof(float));
	return t.rc == cudaSuccess ? NULL : shim_fault() ? shim_fault() : cudaGetErrorString(t.rc);
}
