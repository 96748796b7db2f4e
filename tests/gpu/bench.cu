/* bench.cu: the kernels of the CUDA core on a device: what it can do at all first, then each kernel as a share of that, then
 * steps of whole models put together from their layers. Random weights made on the device, as many copies of a layer as keep L2
 * cold. Medians. */
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "kernels/cuda/ops.h"
#include "kernels/ops/matrix.h"

static cudaStream_t stream;
static double read_rate, copy_rate; /* bytes/s */

static void good(cudaError_t rc, int line)
{
	if (rc == cudaSuccess)
		return;
	printf("line %d: %s\n", line, cudaGetErrorString(rc));
	exit(1);
}
#define GOOD(call) good(call, __LINE__)

static std::vector<void *> taken;
template <typename T> static T *take(size_t n)
{
	T *p;

	GOOD(cudaMalloc(&p, n * sizeof(T)));
	taken.push_back(p);
	return p;
}

static void give_all(void)
{
	GOOD(cudaStreamSynchronize(stream));
	for (void *p : taken)
		GOOD(cudaFree(p));
	taken.clear();
}

/* ---- numbers ---- */

KERNEL fill_bits(uint32_t *x, uint64_t n, uint32_t mask, uint32_t base)
{
	for (uint64_t i = blockIdx.x * 256ull + threadIdx.x; i < n; i += gridDim.x * 256ull) {
		uint32_t h = (uint32_t)(i * 2654435761u) ^ (uint32_t)(i >> 13);

		h ^= h >> 15;
		h *= 0x2c1b3c6du;
		h ^= h >> 12;
		x[i] = (h & mask) + base;
	}
}

/* Words of random bits under a mask: what they are as f16, bf16 or codes is the caller's matter. */
static void fill(void *p, size_t bytes, uint32_t mask, uint32_t base)
{
	GOOD(LAUNCH(fill_bits, dim3(2048), 256u, (size_t)0, stream, (uint32_t *)p, (uint64_t)bytes / 4, mask, base));
}

KERNEL read_all(const uint4 *x, uint64_t n, uint32_t *out)
{
	uint32_t a = 0;

	for (uint64_t i = blockIdx.x * 512ull + threadIdx.x; i < n; i += gridDim.x * 512ull * 4)
		for (uint64_t k = 0; k < 4; k++)
			if (i + k * gridDim.x * 512ull < n) {
				uint4 v = load16_once(x + i + k * gridDim.x * 512ull);

				a ^= v.x ^ v.y ^ v.z ^ v.w;
			}
	if (a == 0x12345678)
		*out = a;
}

KERNEL mma_rate_bf16(float *out, uint32_t n)
{
	uint32_t a[4] = {threadIdx.x, 1, 2, 3}, b[2] = {5, 6};
	float d[8][4] = {};

	for (uint32_t i = 0; i < n; i++)
		for (int k = 0; k < 8; k++)
			mma_bf16(d[k], a, b);
	for (int k = 0; k < 8; k++)
		if (d[k][0] == 1.5f)
			out[0] = d[k][1];
}

KERNEL mma_rate_int8(int32_t *out, uint32_t n)
{
	uint32_t a[4] = {threadIdx.x, 1, 2, 3}, b[2] = {5, 6};
	int32_t d[8][4] = {};

	for (uint32_t i = 0; i < n; i++)
		for (int k = 0; k < 8; k++)
			mma_u8s8(d[k], a, b);
	for (int k = 0; k < 8; k++)
		if (d[k][0] == 77)
			out[0] = d[k][1];
}

/* Median seconds of f, 15 times, after two. */
template <typename F> static double time_of(F f)
{
	cudaEvent_t a, b;
	std::vector<float> ms;

	GOOD(cudaEventCreate(&a));
	GOOD(cudaEventCreate(&b));
	for (int i = 0; i < 17; i++) {
		float t;

		GOOD(cudaEventRecord(a, stream));
		f();
		GOOD(cudaEventRecord(b, stream));
		GOOD(cudaEventSynchronize(b));
		GOOD(cudaEventElapsedTime(&t, a, b));
		if (i >= 2)
			ms.push_back(t);
	}
	cudaEventDestroy(a);
	cudaEventDestroy(b);
	std::sort(ms.begin(), ms.end());
	return ms[ms.size() / 2] * 1e-3;
}

/* The same as a graph, without the host's launching. */
template <typename F> static double time_of_graph(F f)
{
	cudaGraph_t g;
	cudaGraphExec_t x;
	double t;

	GOOD(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
	f();
	GOOD(cudaStreamEndCapture(stream, &g));
	GOOD(cudaGraphInstantiate(&x, g, 0));
	t = time_of([&] { GOOD(cudaGraphLaunch(x, stream)); });
	cudaGraphExecDestroy(x);
	cudaGraphDestroy(g);
	return t;
}

static void limits(int sms)
{
	size_t bytes = (size_t)4 << 30;
	unsigned char *a = take<unsigned char>(bytes), *b = take<unsigned char>(bytes);
	uint32_t n = 20000;
	double t;

	t = time_of([&] {
		GOOD(LAUNCH(read_all, dim3((unsigned)sms * 4), 512u, (size_t)0, stream, (const uint4 *)a, (uint64_t)bytes / 16,
			    (uint32_t *)b));
	});
	read_rate = (double)bytes / t;
	t = time_of([&] { GOOD(cudaMemcpyAsync(b, a, bytes, cudaMemcpyDeviceToDevice, stream)); });
	copy_rate = 2 * (double)bytes / t;
	printf("%-58s %8.0f GB/s\n%-58s %8.0f GB/s\n", "memory, reading", read_rate * 1e-9, "memory, copying (read + write)",
	       copy_rate * 1e-9);
	t = time_of([&] { GOOD(LAUNCH(mma_rate_bf16, dim3((unsigned)sms * 2), 256u, (size_t)0, stream, (float *)a, n)); });
	printf("%-58s %8.0f TFLOP/s\n", "mma.sync bf16", sms * 2.0 * 8 * 8 * n * 4096 / t * 1e-12);
	t = time_of([&] { GOOD(LAUNCH(mma_rate_int8, dim3((unsigned)sms * 2), 256u, (size_t)0, stream, (int32_t *)a, n)); });
	printf("%-58s %8.0f TOP/s\n", "mma.sync int8", sms * 2.0 * 8 * 8 * n * 8192 / t * 1e-12);
	give_all();
}

/* ---- a model's shapes ---- */

struct shape {
	const char *name;
	uint32_t layers, dim, ffn, heads, kv_heads, vocab;
};
static const struct shape llama7b = {"7B", 32, 4096, 11008, 32, 32, 32000}, llama70b = {"70B", 80, 8192, 28672, 64, 8, 32000};

static const char *form_name(enum form f)
{
	return f == FORM_I4 ? "q4" : f == FORM_I8 ? "q8" : f == FORM_NF4 ? "nf4" : "bf16";
}

/* absmax of a NF4 matrix, with double quantisation. */
static void random_absmax(struct dmatrix *w)
{
	size_t n = NF4_NESTED_AT + ((size_t)w->blocks * 16 * w->groups + 255) / 256, blocks = (size_t)w->blocks * w->groups * 16;
	float *floats = take<float>(n);
	int8_t *codes = take<int8_t>(blocks);

	fill(floats, n * sizeof(float), 0x80ffffff, 0x3c000000);
	fill(codes, blocks, 0xffffffff, 0);
	w->absmax = floats;
	w->sub_scales = codes;
}

static struct dmatrix random_matrix(enum form f, uint32_t rows, uint32_t cols)
{
	struct dmatrix w;
	size_t scales;

	memset(&w, 0, sizeof(w));
	w.form = f;
	w.rows = rows;
	w.cols = cols;
	w.blocks = rows / 16;
	w.group = f == FORM_I4 || f == FORM_NF4 ? 64 : f == FORM_I8 ? 128 : 0;
	w.groups = w.group ? cols / w.group : 0;
	w.block_scales = f == FORM_NF4 ? 0 : w.groups * 16;
	w.zero = f == FORM_I8 ? 128 : 0;
	w.block_bytes = (uint64_t)cols * 16 * (f == FORM_I4 || f == FORM_NF4 ? 4 : f == FORM_I8 ? 8 : 16) / 8;
	w.codes = take<unsigned char>(w.blocks * w.block_bytes);
	if (f == FORM_BF16)
		fill((void *)w.codes, w.blocks * w.block_bytes, 0x807f807f, 0x3c003c00);
	else
		fill((void *)w.codes, w.blocks * w.block_bytes, 0xffffffff, 0);
	scales = (size_t)w.blocks * w.block_scales;
	if (f == FORM_NF4)
		random_absmax(&w);
	if (!scales)
		return w;
	w.scales = take<uint16_t>(scales);
	fill((void *)w.scales, scales * 2, 0x00ff00ff, 0x20002000);
	if (f == FORM_I4) {
		w.mins = take<uint16_t>(scales);
		fill((void *)w.mins, scales * 2, 0x00ff00ff, 0x20002000);
	}
	return w;
}

static double bytes_of(const struct dmatrix &w)
{
	return (double)w.blocks * w.block_bytes + (double)w.blocks * w.block_scales * 2 * (w.mins ? 2 : 1) +
	       (w.absmax ? (double)w.blocks * w.groups * 16 : 0);
}

static struct dforms forms_of(enum form f, uint32_t group, uint32_t n, uint32_t m)
{
	struct dforms to;
	struct dform *x = &to.form[0];

	memset(&to, 0, sizeof(to));
	to.n = 1;
	x->form = f == FORM_BF16 ? f : f == FORM_NF4 ? FORM_F16 : FORM_I8;
	x->group = group;
	x->ldx = ((x->form == FORM_I8 ? n : 2 * n) + 63) & ~63u;
	x->ldm = (m + 7) & ~7u;
	x->x = take<unsigned char>((size_t)m * x->ldx);
	x->scale = take<float>((size_t)(n / 16 + 1) * x->ldm);
	x->sum = take<int32_t>((size_t)(n / 16 + 1) * x->ldm);
	return to;
}

/* A layer, with everything that its launches read and write. */
struct layer {
	struct dmatrix q, k, v, o, gate, up, down;
};
struct rig {
	struct shape s;
	enum form form;
	uint32_t m, context;
	std::vector<struct layer> layers; /* copies, taken in turn */
	struct dmatrix head;
	struct dforms in, mid, wide;
	float *x, *h, *delta, *qb, *kb, *vb, *a, *g, *u, *logits, *norm, *angles, *partial;
	struct drow *rows;
	uint32_t *decode, *pages;
	struct dkv kv;
	double weight_bytes; /* of a layer */
};

static struct rig make_rig(const struct shape &s, enum form f, uint32_t m, uint32_t context, bool int8 = false)
{
	struct rig r;
	uint32_t hd = 128, kvw = s.kv_heads * hd, per = (context + 15) / 16;
	std::vector<struct drow> rows;
	std::vector<uint32_t> decode, pages;

	r.s = s;
	r.form = f;
	r.m = m;
	r.context = context;
	for (int i = 0; i < 3; i++) {
		struct layer y = {random_matrix(f, s.heads * hd, s.dim), random_matrix(f, kvw, s.dim),
				  random_matrix(f, kvw, s.dim),          random_matrix(f, s.dim, s.heads * hd),
				  random_matrix(f, s.ffn, s.dim),        random_matrix(f, s.ffn, s.dim),
				  random_matrix(f, s.dim, s.ffn)};

		r.layers.push_back(y);
	}
	const struct layer &y = r.layers[0];

	r.weight_bytes = bytes_of(y.q) + bytes_of(y.k) + bytes_of(y.v) + bytes_of(y.o) + bytes_of(y.gate) + bytes_of(y.up) +
			 bytes_of(y.down);
	r.head = random_matrix(f == FORM_I4 ? FORM_I8 : f, s.vocab, s.dim);
	r.in = forms_of(f, y.q.group, s.dim, m);
	r.mid = forms_of(f, y.o.group, s.heads * hd, m);
	r.wide = forms_of(f, y.down.group, s.ffn, m);
	r.x = take<float>((size_t)m * s.dim);
	r.h = take<float>((size_t)m * s.dim);
	r.delta = take<float>((size_t)m * s.dim);
	r.qb = take<float>((size_t)m * s.heads * hd);
	r.a = take<float>((size_t)m * s.heads * hd);
	r.kb = take<float>((size_t)m * kvw);
	r.vb = take<float>((size_t)m * kvw);
	r.g = take<float>((size_t)m * s.ffn);
	r.u = take<float>((size_t)m * s.ffn);
	r.logits = take<float>((size_t)m * s.vocab);
	r.norm = take<float>(s.dim);
	r.angles = take<float>((size_t)context * hd);
	fill(r.x, (size_t)m * s.dim * 4, 0x807fffff, 0x3c000000);
	fill(r.delta, (size_t)m * s.dim * 4, 0x807fffff, 0x3c000000);
	fill(r.norm, s.dim * 4, 0x007fffff, 0x3f000000);
	fill(r.angles, (size_t)context * hd * 4, 0x007fffff, 0x3f000000);
	for (uint32_t i = 0; i < m; i++) {
		rows.push_back(drow{context - 1, (int32_t)(i * per + per - 1), i * per});
		decode.push_back(i);
		for (uint32_t p = 0; p < per; p++)
			pages.push_back(i * per + p);
	}
	r.rows = take<struct drow>(m);
	r.decode = take<uint32_t>(m);
	r.pages = take<uint32_t>(pages.size());
	GOOD(cudaMemcpyAsync(r.rows, rows.data(), rows.size() * sizeof(rows[0]), cudaMemcpyHostToDevice, stream));
	GOOD(cudaMemcpyAsync(r.decode, decode.data(), decode.size() * 4, cudaMemcpyHostToDevice, stream));
	GOOD(cudaMemcpyAsync(r.pages, pages.data(), pages.size() * 4, cudaMemcpyHostToDevice, stream));
	GOOD(cudaStreamSynchronize(stream));
	memset(&r.kv, 0, sizeof(r.kv));
	r.kv.heads = s.heads;
	r.kv.kv_heads = s.kv_heads;
	r.kv.head_dim = r.kv.pad = hd;
	r.kv.int8 = int8;
	r.kv.head = kv_head_bytes(hd, int8);
	r.kv.page = r.kv.layer = s.kv_heads * r.kv.head;
	r.kv.pool = take<unsigned char>((size_t)m * per * r.kv.page);
	fill(r.kv.pool, (size_t)m * per * r.kv.page, int8 ? 0x007fffff : 0x83ff83ff, int8 ? 0x3c000000 : 0x30003000); /* scales are some, too */
	r.partial = take<float>((size_t)m * s.heads * (context / ATTENTION_SPLIT + 1) * (hd + 2));
	return r;
}

static void multiply(const struct rig &r, const struct dforms &in, std::vector<const struct dmatrix *> w, std::vector<float *> out)
{
	struct matmul_args a;

	memset(&a, 0, sizeof(a));
	for (size_t i = 0; i < w.size(); i++) {
		a.w[i] = *w[i];
		a.out[i] = out[i];
		a.ldo[i] = w[i]->rows;
	}
	a.n = (uint32_t)w.size();
	a.m = r.m;
	a.x = in.form[0];
	GOOD(matmul_cuda(&a, stream));
}

static void attention(const struct rig &r)
{
	struct attention_args a;

	memset(&a, 0, sizeof(a));
	a.out = r.a;
	a.q = r.qb;
	a.ld = r.s.heads * 128;
	a.rows = r.rows;
	a.pages = r.pages;
	a.kv = r.kv;
	a.scale = 0.088388f;
	a.decode = r.decode;
	a.n_decode = r.m;
	a.splits = (r.context - 1) / ATTENTION_SPLIT + 1;
	a.partial = r.partial;
	GOOD(attention_cuda(&a, stream));
}

static void run_layer(const struct rig &r, uint32_t i)
{
	const struct layer &y = r.layers[i % r.layers.size()];
	struct norm_args n = {r.h, r.x, r.delta, r.norm, NULL, r.s.dim, r.m, r.s.dim, 1e-5f, r.in};
	struct rope_args p = {r.qb, r.kb, r.vb, r.angles, r.s.heads * 128, r.s.kv_heads * 128, r.m, 0, r.rows, r.kv};

	GOOD(rmsnorm_cuda(&n, stream));
	multiply(r, r.in, {&y.q, &y.k, &y.v}, {r.qb, r.kb, r.vb});
	GOOD(rope_store_cuda(&p, stream));
	attention(r);
	GOOD(prepare_cuda(&r.mid, r.a, r.s.heads * 128, r.m, r.s.heads * 128, stream));
	multiply(r, r.mid, {&y.o}, {r.delta});
	GOOD(rmsnorm_cuda(&n, stream));
	multiply(r, r.in, {&y.gate, &y.up}, {r.g, r.u});
	GOOD(swiglu_cuda(&r.wide, r.g, r.u, r.s.ffn, r.m, r.s.ffn, stream));
	multiply(r, r.wide, {&y.down}, {r.delta});
}

/* A whole step: layers taken in turn from three copies, then the head. */
static void step(const struct shape &s, enum form f, uint32_t m, uint32_t context)
{
	struct rig r = make_rig(s, f, m, context);
	double bytes = r.weight_bytes * s.layers + bytes_of(r.head) + (double)m * context * s.kv_heads * 512 * s.layers, t;
	char name[80];

	t = time_of_graph([&] {
		for (uint32_t i = 0; i < s.layers; i++)
			run_layer(r, i);
		multiply(r, r.in, {&r.head}, {r.logits});
	});
	snprintf(name, sizeof(name), "step of %s %s, batch %u, context %u", s.name, form_name(f), m, context);
	printf("%-58s %8.1f tok/s %7.2f ms %5.0f%% of reading\n", name, m / t, t * 1e3, bytes / t / read_rate * 100);
	fflush(stdout);
	give_all();
}

static void products(const struct shape &s, enum form f)
{
	static const uint32_t ms[] = {1, 16, 64, 512, 4096};

	for (unsigned i = 0; i < sizeof(ms) / sizeof(ms[0]); i++) {
		struct rig r = make_rig(s, f, ms[i], 16);
		char name[80];
		uint32_t turn = 0;
		double t = time_of([&] {
			const struct layer &y = r.layers[turn++ % 3];

			multiply(r, r.in, {&y.gate, &y.up}, {r.g, r.u});
		});
		double ops = 4.0 * ms[i] * s.dim * s.ffn, bytes = bytes_of(r.layers[0].gate) + bytes_of(r.layers[0].up);

		snprintf(name, sizeof(name), "gate and up of %s %s, %u rows", s.name, form_name(f), ms[i]);
		printf("%-58s %8.1f us %5.0f%% of reading %7.0f TOP/s\n", name, t * 1e6, bytes / t / read_rate * 100,
		       ops / t * 1e-12);
		fflush(stdout);
		give_all();
	}
}

static void decode_attention(uint32_t m, uint32_t context, bool int8)
{
	struct shape s = llama70b;
	struct rig r;
	char name[80];
	double t;

	s.ffn = 512; /* only the attention is looked at */
	s.vocab = 512;
	r = make_rig(s, FORM_I8, m, context, int8);
	t = time_of([&] { attention(r); });
	snprintf(name, sizeof(name), "decode attention, 70B heads, batch %u, context %u%s", m, context, int8 ? ", int8" : "");
	printf("%-58s %8.1f us %5.0f%% of reading\n", name, t * 1e6, (double)m * context * s.kv_heads * (int8 ? 264 : 512) / t / read_rate * 100);
	fflush(stdout);
	give_all();
}

/* With an argument: says which device there is, and no more. */
int main(int argc, char **argv)
{
	struct cudaDeviceProp p;
	size_t free_bytes, total;
	int n = 0;

	if (cudaGetDeviceCount(&n) != cudaSuccess || !n) {
		printf("no CUDA device\n");
		return 77;
	}
	GOOD(cudaGetDeviceProperties(&p, 0));
	GOOD(cudaMemGetInfo(&free_bytes, &total));
	GOOD(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
	printf("%s, sm_%d%d, %d SMs, %.0f GB free\n", p.name, p.major, p.minor, p.multiProcessorCount, (double)free_bytes * 1e-9);
	if (argc > 1)
		return 0;
	limits(p.multiProcessorCount);
	for (enum form f : {FORM_I4, FORM_NF4, FORM_I8, FORM_BF16})
		products(llama70b, f);
	for (bool int8 : {false, true}) {
		decode_attention(1, 8192, int8);
		decode_attention(64, 1024, int8);
		decode_attention(64, 8192, int8);
	}
	for (enum form f : {FORM_I4, FORM_I8, FORM_BF16}) {
		step(llama7b, f, 1, 128);
		step(llama70b, f, 1, 128);
		step(llama70b, f, 32, 512);
	}
	step(llama70b, FORM_I8, 180, 1152);
	GOOD(cudaStreamDestroy(stream));
	return 0;
}
