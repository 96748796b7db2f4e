/* ranks.cu: see ranks.h. NCCL is loaded when a part of a model is, so that nobody else needs it; the few functions are declared here as its
 * manual has them. Of its collectives only ncclAllGather is used: what it does to bytes has no order. */
#include "ranks.h"
#include "core.h"

#include <dlfcn.h>
#include <string.h>

enum { NCCL_FLOAT32 = 7 };

struct nccl_id {
	char bytes[CORE_GROUP_ID];
};

struct nccl {
	void *comm;
	int (*init)(void **comm, int ranks, struct nccl_id id, int rank);
	int (*gather)(const void *from, void *to, size_t count, int type, void *comm, cudaStream_t s);
	int (*destroy)(void *comm);
	const char *(*text)(int rc);
};

template <typename F> static bool find(void *library, F *to, const char *name)
{
	void *f = dlsym(library, name);

	memcpy(to, &f, sizeof(f));
	return f != NULL;
}

static int load_nccl(struct cuda_core *c, struct core_error *err)
{
	const char *path = c->ranks.reduce.nccl ? c->ranks.reduce.nccl : "libnccl.so.2";
	void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
	struct nccl *n = new nccl();
	bool all;

	c->ranks.nccl = n;
	if (!library)
		return cuda_fail(err, CORE_EUNSUPPORTED, "cuda:%d: a model in parts for %u ranks: %s", c->device, c->ranks.n, dlerror());
	all = find(library, &n->init, "ncclCommInitRank") && find(library, &n->gather, "ncclAllGather") &&
	      find(library, &n->destroy, "ncclCommDestroy") && find(library, &n->text, "ncclGetErrorString");
	dlclose(library);
	return all ? CORE_OK : cuda_fail(err, CORE_EUNSUPPORTED, "cuda:%d: %s is not NCCL", c->device, path);
}

static int join_group(struct cuda_core *c, struct core_error *err)
{
	struct nccl *n = c->ranks.nccl;
	struct nccl_id id;
	int rc;

	memcpy(id.bytes, c->ranks.reduce.group, sizeof(id.bytes));
	rc = n->init(&n->comm, (int)c->ranks.n, id, (int)c->ranks.rank);
	if (!rc)
		return CORE_OK;
	n->comm = NULL;
	return cuda_fail(err, CORE_EIO, "cuda:%d: NCCL, rank %u of %u: %s", c->device, c->ranks.rank, c->ranks.n, n->text(rc));
}

int ranks_open(struct cuda_core *c, struct core_error *err)
{
	cudaError_t rc;
	int failed;

	if (c->ranks.n <= 1)
		return CORE_OK;
	if (c->ranks.reduce.group) {
		failed = load_nccl(c, err);
		return failed ? failed : join_group(c, err);
	}
	c->no_graphs = true;
	rc = cudaMallocHost(&c->ranks.host, (size_t)c->max_rows * c->ld_dim * sizeof(float));
	return rc == cudaSuccess ? CORE_OK : cuda_fail_with(err, c, rc, "memory for the sums of ranks");
}

void ranks_close(struct cuda_core *c)
{
	struct nccl *n = c->ranks.nccl;

	cudaFreeHost(c->ranks.host);
	if (n && n->comm)
		n->destroy(n->comm);
	delete n;
}

/* ---- sums ---- */

/* out[m][dim] = the sum of parts[n][m][ld] in the order of n; four elements a thread. */
KERNEL BLOCK_OF(256) add_parts(float *out, const float *parts, uint32_t n, uint32_t m, uint32_t ld)
{
	const size_t at = (size_t)blockIdx.x * ld + 4 * (blockIdx.y * 256 + threadIdx.x);
	float all[4] = {0, 0, 0, 0};
	uint4 sum;

	if (4 * (blockIdx.y * 256 + threadIdx.x) >= ld)
		return;
	for (uint32_t i = 0; i < n; i++) {
		uint4 u = load16(parts + (size_t)i * m * ld + at);

		all[0] += bits_to_float(u.x);
		all[1] += bits_to_float(u.y);
		all[2] += bits_to_float(u.z);
		all[3] += bits_to_float(u.w);
	}
	sum.x = float_to_bits(all[0]);
	sum.y = float_to_bits(all[1]);
	sum.z = float_to_bits(all[2]);
	sum.w = float_to_bits(all[3]);
	*(uint4 *)(out + at) = sum;
}

static cudaError_t sum_on_devices(struct cuda_core *c, float *delta, uint32_t m)
{
	struct nccl *n = c->ranks.nccl;
	int rc = n->gather(delta, c->ranks.parts, (size_t)m * c->ld_dim, NCCL_FLOAT32, n->comm, c->stream);

	if (rc) {
		c->ranks.reason = n->text(rc);
		return cudaErrorLaunchFailure;
	}
	return LAUNCH(add_parts, dim3(m, (c->ld_dim + 1023) / 1024), 256u, (size_t)0, c->stream, delta, c->ranks.parts, c->ranks.n, m,
		      c->ld_dim);
}

static cudaError_t sum_on_host(struct cuda_core *c, uint32_t m)
{
	const size_t bytes = (size_t)m * c->ld_dim * sizeof(float);
	cudaError_t rc = cudaMemcpyAsync(c->ranks.host, c->delta, bytes, cudaMemcpyDeviceToHost, c->stream);

	if (rc == cudaSuccess)
		rc = cudaStreamSynchronize(c->stream);
	if (rc != cudaSuccess)
		return rc;
	c->ranks.reduce.sum(c->ranks.reduce.arg, c->ranks.host, m, c->dim, c->ld_dim);
	return cudaMemcpyAsync(c->delta, c->ranks.host, bytes, cudaMemcpyHostToDevice, c->stream);
}

cudaError_t ranks_sum(struct cuda_core *c, uint32_t m)
{
	cudaError_t rc = cudaSuccess;

	if (c->ranks.n <= 1)
		return rc;
	if (!c->ranks.nccl)
		return sum_on_host(c, m);
	for (uint32_t i = 0; i < m && rc == cudaSuccess; i += RANK_ROWS)
		rc = sum_on_devices(c, c->delta + (size_t)i * c->ld_dim, m - i < RANK_ROWS ? m - i : (uint32_t)RANK_ROWS);
	return rc;
}
