/* cuda_ops.cc: every operator of the CUDA core against the plain reference, on small and odd shapes, and P1: a row's bits do
 * not depend on the rows beside it. Runs on the shim with the host's compiler, and on a device when it is built with nvcc
 * (tests/gpu/run). */
#include <cmath>
#include <csetjmp>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>
extern "C" {
#include <cmocka.h>
#include "hard_numbers.h"
#include "kernels/format/blocks.h"
#include "kernels/format/nf4.h"
#include "kernels/ops/ops.h"
#include "kernels/pack.h"

/* Of attention_words.h, whose power_of_two() is another one than a device's. */
kv_store_fn kv_store_int8_plain;
void attention_words_row(float *out, const float *q, uint32_t heads, const struct kv_view *kv, uint32_t n_keys);
}

#include "kernels/cuda/weights.h"

/* ---- a device, and numbers ---- */

static cudaStream_t stream;
static struct uploader uploads;

static void good(cudaError_t rc, const char *what)
{
	if (rc != cudaSuccess)
		fail_msg("%s: %s", what, cudaGetErrorString(rc));
}
#define GOOD(call) good(call, #call)

static int open_device(void **)
{
#ifdef WEFT_SHIM_H
	const char *seed = getenv("SHIM_SEED");

	shim_seed(seed ? strtoull(seed, NULL, 10) : 1);
#else
	int n = 0;

	if (cudaGetDeviceCount(&n) != cudaSuccess || !n) {
		printf("no CUDA device\n");
		exit(77);
	}
#endif
	GOOD(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
	GOOD(uploader_init(&uploads, stream, UPLOAD_PIECE));
	return 0;
}

static int close_device(void **)
{
	uploader_finish(&uploads);
	GOOD(cudaStreamDestroy(stream));
	return 0;
}

/* Device memory of n T, freed with it. Filled with 0xff: NaNs. */
template <typename T> struct on_device {
	T *p = NULL;
	size_t n;
	explicit on_device(size_t n) : n(n)
	{
		GOOD(cudaMalloc(&p, n * sizeof(T)));
		GOOD(cudaMemsetAsync(p, 0xff, n * sizeof(T), stream));
	}
	explicit on_device(const std::vector<T> &v) : on_device(v.size())
	{
		GOOD(upload(&uploads, p, v.data(), n * sizeof(T)));
	}
	on_device(const on_device &) = delete;
	~on_device()
	{
		cudaStreamSynchronize(stream);
		cudaFree(p);
	}
	std::vector<T> get() const
	{
		std::vector<T> v(n);

		GOOD(cudaMemcpyAsync(v.data(), p, n * sizeof(T), cudaMemcpyDeviceToHost, stream));
		GOOD(cudaStreamSynchronize(stream));
		return v;
	}
};

static uint32_t round_up(uint32_t n, uint32_t to)
{
	return (n + to - 1) / to * to;
}

/* m rows of n, stride ld; what lies behind a row are NaNs. */
static std::vector<float> hard_rows(uint32_t m, uint32_t n, uint32_t ld)
{
	std::vector<float> x((size_t)m * ld, NAN);

	for (uint32_t i = 0; i < m; i++)
		for (uint32_t k = 0; k < n; k++)
			x[(size_t)i * ld + k] = random_hard();
	return x;
}

/* ---- weights ---- */

static const enum tensor_type block_types[] = {TENSOR_Q4_0, TENSOR_Q4_1, TENSOR_Q5_0, TENSOR_Q5_1, TENSOR_Q8_0,
					       TENSOR_Q2_K, TENSOR_Q3_K, TENSOR_Q4_K, TENSOR_Q5_K, TENSOR_Q6_K};

static std::vector<unsigned char> tensor_data(enum tensor_type type, uint32_t rows, uint32_t cols)
{
	std::vector<unsigned char> data((size_t)rows * cols / tensor_type_block(type) * tensor_type_bytes(type));

	for (size_t i = 0; i < data.size(); i += tensor_type_bytes(type)) {
		float f = random_unit();
		uint16_t h = type == TENSOR_F16 ? float_to_half(f) : float_to_bf16(f);

		for (unsigned k = 0; k < tensor_type_bytes(type); k++)
			data[i + k] = (unsigned char)random_bits();
		if (type == TENSOR_F32)
			memcpy(&data[i], &f, 4);
		else if (type == TENSOR_F16 || type == TENSOR_BF16)
			memcpy(&data[i], &h, 2);
		else
			put_factors(type, &data[i]);
	}
	return data;
}

/* As the core packs it, into memory. */
static void pack_tensor(struct matrix *w, std::vector<unsigned char> *memory, enum tensor_type type, enum pack_form form, uint32_t rows,
			uint32_t cols, const std::vector<unsigned char> &data, const struct nf4 *nf4 = NULL)
{
	struct tensor t;
	struct core_error why;

	memset(&t, 0, sizeof(t));
	t.name = "w";
	t.type = type;
	t.n_dims = 2;
	t.dims[0] = rows;
	t.dims[1] = cols;
	t.bytes = data.size();
	t.data = data.data();
	t.nf4 = nf4;
	pack_plan(w, &t, form);
	memory->assign(pack_bytes(w) + 64, 0);
	pack_place(w, memory->data() + (64 - (uintptr_t)memory->data() % 64) % 64);
	if (pack_blocks(w, &t, form, 0, w->blocks, &why))
		fail_msg("%s", why.text);
}

/* The scales of a TENSOR_NF4. */
struct nf4_scales {
	std::vector<unsigned char> absmax8;
	std::vector<float> floats;
	struct nf4 s;
	nf4_scales(uint32_t blocks, bool nested) : absmax8(blocks), floats(nested ? (blocks + 255) / 256 : blocks)
	{
		for (unsigned char &c : absmax8)
			c = (unsigned char)random_bits();
		for (float &f : floats)
			f = random_unit();
		s.nested = nested;
		s.absmax8 = absmax8.data();
		s.floats = floats.data();
		s.offset = 0.3f;
		memcpy(s.map, nf4_map, sizeof(s.map));
	}
};

/* A matrix on the host and on the device. nested: of NF4. */
struct weights {
	std::vector<unsigned char> data, memory;
	struct matrix w;
	struct dmatrix d;
	weights(enum tensor_type type, enum pack_form form, uint32_t rows, uint32_t cols, bool nested = true)
		: data(tensor_data(type, rows, cols))
	{
		nf4_scales scales(rows * cols / NF4_BLOCK, nested);

		pack_tensor(&w, &memory, type, form, rows, cols, data, type == TENSOR_NF4 ? &scales.s : NULL);
		struct backend_weights b = {&w, pack_bytes(&w)};
		GOOD(weights_upload(&uploads, &d, &b));
	}
	weights(const weights &) = delete;
	~weights()
	{
		cudaStreamSynchronize(stream);
		cudaFree((void *)(uintptr_t)d.codes);
	}
};

/* The forms of m rows for one matrix, in memory of their own. */
struct prepared {
	struct dforms forms;
	std::unique_ptr<on_device<unsigned char>> x;
	std::unique_ptr<on_device<float>> scale;
	std::unique_ptr<on_device<int32_t>> sum;
	prepared(enum form form, uint32_t group, uint32_t n, uint32_t m)
	{
		bool integer = form == FORM_I4 || form == FORM_I8;
		struct dform *f = &forms.form[0];

		memset(&forms, 0, sizeof(forms));
		if (form == FORM_NF4)
			form = FORM_F16;
		if (form == FORM_F32)
			return;
		forms.n = 1;
		f->form = integer ? FORM_I8 : form;
		f->group = group;
		f->ldx = round_up(integer ? n : 2 * n, 64);
		f->ldm = round_up(m, 8);
		x.reset(new on_device<unsigned char>((size_t)m * f->ldx));
		f->x = x->p;
		if (form == FORM_BF16)
			return;
		scale.reset(new on_device<float>(integer ? (size_t)round_up(n, group) / group * f->ldm : m));
		f->scale = scale->p;
		if (!integer)
			return;
		sum.reset(new on_device<int32_t>((size_t)round_up(n, group) / group * f->ldm));
		f->sum = sum->p;
	}
};

static std::vector<float> run_matmul(const struct dmatrix *const w[], uint32_t n, const std::vector<float> &x, uint32_t ld,
				     uint32_t m)
{
	prepared p(w[0]->form, w[0]->group, w[0]->cols, m);
	on_device<float> dx(x);
	std::vector<std::unique_ptr<on_device<float>>> out;
	std::vector<float> all;
	struct matmul_args a;

	memset(&a, 0, sizeof(a));
	for (uint32_t i = 0; i < n; i++) {
		out.emplace_back(new on_device<float>((size_t)m * w[i]->blocks * 16));
		a.w[i] = *w[i];
		a.out[i] = out[i]->p;
		a.ldo[i] = w[i]->blocks * 16;
	}
	a.n = n;
	a.m = m;
	a.x = p.forms.form[0];
	a.f = dx.p;
	a.ldf = ld;
	GOOD(prepare_cuda(&p.forms, dx.p, ld, m, w[0]->cols, stream));
	GOOD(matmul_cuda(&a, stream));
	for (uint32_t i = 0; i < n; i++) {
		std::vector<float> one = out[i]->get();

		all.insert(all.end(), one.begin(), one.end());
	}
	return all;
}

/* ---- integers: the bits of the plain sum, slice by slice ---- */

static int code_at(const struct matrix *w, uint32_t b, uint32_t lane, uint32_t k)
{
	const unsigned char *c = w->codes + b * matrix_block_bytes(w);

	if (w->bits == 8)
		return c[(size_t)k / 4 * 64 + lane * 4 + k % 4];
	c += (size_t)k / 8 * 64 + lane * 4 + k % 4;
	return k % 8 < 4 ? *c & 15 : *c >> 4;
}

static float factor_at(const struct matrix *w, const uint16_t *high, const int8_t *sub, uint32_t b, uint32_t lane, uint32_t g)
{
	high += b * matrix_block_scales(w);
	if (!w->two_level)
		return half_to_float(high[(size_t)g * 16 + lane]);
	sub += ((size_t)b * w->groups + g) * 16;
	return half_to_float(high[(size_t)g * w->group / 256 * 16 + lane]) * (float)sub[lane];
}

static float sliced_sum(const struct matrix *w, const struct dmatrix *d, uint32_t r, const int8_t *q, const float *xs,
			const int32_t *sum)
{
	uint32_t steps = matmul_steps(d), unit = w->group > 32 ? w->group / 32 : 1, units = (steps + unit - 1) / unit;
	float total = 0;

	for (uint32_t s = 0; s < SLICES; s++) {
		uint32_t k0 = units * s / SLICES * unit * 32, k1 = units * (s + 1) / SLICES * unit * 32;
		float acc = 0;

		for (uint32_t g = k0 / w->group; g < w->groups && g * w->group < k1; g++) {
			int32_t n = 0;

			for (uint32_t k = g * w->group; k < (g + 1) * w->group; k++)
				n += (code_at(w, r / 16, r % 16, k) - w->zero) * q[k];
			acc = fmaf(factor_at(w, w->scales, w->sub_scales, r / 16, r % 16, g) * xs[g], (float)n, acc);
			if (w->has_min)
				acc = fmaf(factor_at(w, w->mins, w->sub_mins, r / 16, r % 16, g), -(xs[g] * (float)sum[g]), acc);
		}
		total += acc;
	}
	return total;
}

static void check_integers(enum tensor_type type, enum pack_form form, uint32_t rows, uint32_t cols, uint32_t m)
{
	weights w(type, form, rows, cols);
	uint32_t ld = round_up(cols, 16), wide = w.w.blocks * 16;
	std::vector<float> x = hard_rows(m, cols, ld), plain(wide);
	const struct dmatrix *list[] = {&w.d};
	std::vector<float> got = run_matmul(list, 1, x, ld, m);
	std::vector<int8_t> q(w.w.kpad);
	std::vector<float> xs(w.w.groups);
	std::vector<int32_t> sum(w.w.groups);

	for (uint32_t i = 0; i < m; i++) {
		struct rows r;

		memset(&r, 0, sizeof(r));
		quantize_plain(q.data(), xs.data(), sum.data(), &x[(size_t)i * ld], cols, w.w.kpad, w.w.group);
		r.q = q.data();
		r.scale = xs.data();
		r.sum = sum.data();
		matmul_plain(plain.data(), wide, &w.w, &r, 1, 0, w.w.blocks);
		for (uint32_t k = 0; k < wide; k++) {
			float want = sliced_sum(&w.w, &w.d, k, q.data(), xs.data(), sum.data()), v = got[(size_t)i * wide + k];

			if (memcmp(&want, &v, 4))
				fail_msg("%s form %d %ux%u, row %u of %u, output %u: %a, expected %a", tensor_type_name(type), form,
					 rows, cols, i, m, k, v, want);
			if (!(fabsf(v - plain[k]) <= 1e-3f * (1 + fabsf(plain[k])))) /* the same sum in another order */
				fail_msg("%s form %d %ux%u, output %u: %g, the CPU has %g", tensor_type_name(type), form, rows,
					 cols, k, v, plain[k]);
		}
	}
}

static void integer_products_have_the_bits_of_the_plain_sum(void **)
{
	static const uint32_t ms[] = {1, 8, 9, 17, 33, 70};

	for (unsigned i = 0; i < sizeof(ms) / sizeof(ms[0]); i++) {
		check_integers(TENSOR_F32, PACK_Q8, 40, 512, ms[i]);
		check_integers(TENSOR_F32, PACK_Q4, 40, 512, ms[i]);
	}
	for (uint32_t m = 2; m <= 40; m += 38) {
		check_integers(TENSOR_F32, PACK_Q8, 150, 1024, m);
		check_integers(TENSOR_F32, PACK_Q4, 130, 64, m);
		check_integers(TENSOR_F32, PACK_Q8, 16, 96, m); /* groups of 32 */
		check_integers(TENSOR_F32, PACK_Q4, 33, 96, m);
		check_integers(TENSOR_F32, PACK_Q8, 17, 80, m); /* groups of 16, half a step at the end */
		check_integers(TENSOR_F32, PACK_Q4, 17, 80, m);
		check_integers(TENSOR_F32, PACK_Q8, 5, 39, m); /* padded */
		check_integers(TENSOR_F32, PACK_Q4, 5, 51, m);
		check_integers(TENSOR_F32, PACK_Q4, 1, 7, m);
	}
}

static void blocks_of_gguf_have_the_bits_of_the_plain_sum(void **)
{
	for (unsigned i = 0; i < sizeof(block_types) / sizeof(block_types[0]); i++)
		for (uint32_t m = 3; m <= 36; m += 33)
			check_integers(block_types[i], PACK_KEEP, 35, 768, m);
}

/* ---- floats ---- */

static double rounded(enum form f, float x)
{
	return f == FORM_F16 ? half_to_float(float_to_half(x)) : f == FORM_BF16 ? bf16_to_float(float_to_bf16(x)) : x;
}

/* A row as the product takes it: the codes of NF4 become f16. */
static void row_as_taken(const struct matrix *w, uint32_t r, float *out)
{
	matrix_row_f32(w, r, out);
	for (uint32_t k = 0; k < w->cols && w->kind == PACK_NF4; k++)
		out[k] = half_to_float(float_to_half(matrix_nf4[code_at(w, r / 16, r % 16, k)])) * matrix_absmax(w, r, k / w->group);
}

static void check_floats(enum tensor_type type, uint32_t rows, uint32_t cols, uint32_t m, bool nested = true)
{
	weights w(type, PACK_KEEP, rows, cols, nested);
	bool half = type == TENSOR_F16 || type == TENSOR_NF4;
	uint32_t ld = round_up(cols, 16), wide = w.w.blocks * 16;
	std::vector<float> x = hard_rows(m, cols, ld), row(cols);
	const struct dmatrix *list[] = {&w.d};

	if (half) /* beyond what f16 holds: the row is scaled */
		x[(size_t)(m - 1) * ld + cols / 2] = 3e6f;
	std::vector<float> got = run_matmul(list, 1, x, ld, m);

	for (uint32_t r = 0; r < rows; r++) {
		row_as_taken(&w.w, r, row.data());
		for (uint32_t i = 0; i < m; i++) {
			double sum = 0, size = 0,
			       factor = half && i == m - 1 ? 0x1p-7 : 1; /* 3e6 is between 2^21 and 2^22 */
			float v = got[(size_t)i * wide + r];

			for (uint32_t k = 0; k < cols; k++) {
				double a = rounded(half ? FORM_F16 : w.d.form, (float)(x[(size_t)i * ld + k] * factor)) / factor * row[k];

				sum += a;
				size += fabs(a);
			}
			if (!(fabs(v - sum) <= 1e-6 * size + 1e-30))
				fail_msg("%s %ux%u, row %u of %u, output %u: %g, expected %g (of %g)", tensor_type_name(type), rows,
					 cols, i, m, r, v, sum, size);
		}
	}
}

static void float_products_are_near_the_exact_sum_of_rounded_rows(void **)
{
	static const enum tensor_type types[] = {TENSOR_BF16, TENSOR_F16, TENSOR_F32};

	for (unsigned t = 0; t < 3; t++) {
		check_floats(types[t], 40, 256, 1);
		check_floats(types[t], 33, 300, 12);
		check_floats(types[t], 150, 128, 70);
		check_floats(types[t], 5, 39, 3);
		check_floats(types[t], 5, 39, 35);
		check_floats(types[t], 16, 1, 2);
	}
}

static void nf4_products_are_near_the_exact_sum_of_codes_and_rows_in_f16(void **)
{
	for (int nested = 0; nested < 2; nested++) {
		check_floats(TENSOR_NF4, 40, 256, 1, nested);
		check_floats(TENSOR_NF4, 33, 320, 12, nested);
		check_floats(TENSOR_NF4, 150, 128, 70, nested);
		check_floats(TENSOR_NF4, 5, 64, 35, nested);
		check_floats(TENSOR_NF4, 17, 1088, 33, nested);
	}
}

/* ---- P1 of products ---- */

static void check_alone(enum tensor_type type, enum pack_form form, uint32_t m)
{
	const uint32_t cols = 512, ld = 512;
	weights a(type, form, 48, cols), b(type, form, 20, cols);
	const struct dmatrix *both[] = {&a.d, &b.d}, *second[] = {&b.d};
	std::vector<float> x = hard_rows(m, cols, ld), all = run_matmul(both, 2, x, ld, m);

	for (uint32_t i = 0; i < m; i += 1 + m / 5) {
		std::vector<float> one(x.begin() + (size_t)i * ld, x.begin() + (size_t)(i + 1) * ld),
			alone = run_matmul(both, 2, one, ld, 1);

		assert_memory_equal(&all[(size_t)i * 48], &alone[0], 48 * 4);
		assert_memory_equal(&all[(size_t)m * 48 + (size_t)i * 32], &alone[48], 32 * 4);
		alone = run_matmul(second, 1, one, ld, 1);
		assert_memory_equal(&all[(size_t)m * 48 + (size_t)i * 32], &alone[0], 32 * 4);
	}
}

static void a_row_of_a_product_is_the_same_alone(void **)
{
	for (uint32_t m = 7; m <= 77; m += 70) {
		check_alone(TENSOR_F32, PACK_Q8, m);
		check_alone(TENSOR_F32, PACK_Q4, m);
		check_alone(TENSOR_Q6_K, PACK_KEEP, m);
		check_alone(TENSOR_BF16, PACK_KEEP, m);
		check_alone(TENSOR_F16, PACK_KEEP, m);
		check_alone(TENSOR_NF4, PACK_KEEP, m);
		check_alone(TENSOR_F32, PACK_KEEP, m);
	}
}

/* The first m of n rows, for every m: n is 9, or what WEFT_SWEEP says (256 on a device). */
static uint32_t sweep_to(void)
{
	const char *n = getenv("WEFT_SWEEP");

	return n ? (uint32_t)strtoul(n, NULL, 10) : 9;
}

static void sweep_products(enum tensor_type type, enum pack_form form)
{
	const uint32_t n = sweep_to(), cols = 768, ld = 768, rows = 48;
	weights w(type, form, rows, cols);
	const struct dmatrix *list[] = {&w.d};
	std::vector<float> x = hard_rows(n, cols, ld), all = run_matmul(list, 1, x, ld, n);

	for (uint32_t m = 1; m < n; m++) {
		std::vector<float> some(x.begin(), x.begin() + (size_t)m * ld), got = run_matmul(list, 1, some, ld, m);

		if (memcmp(got.data(), all.data(), got.size() * 4))
			fail_msg("%s form %d: %u rows differ from the first rows of %u", tensor_type_name(type), form, m, n);
	}
}

static void products_are_the_same_for_every_number_of_rows(void **)
{
	sweep_products(TENSOR_F32, PACK_Q8);
	sweep_products(TENSOR_F32, PACK_Q4);
	sweep_products(TENSOR_Q6_K, PACK_KEEP);
	sweep_products(TENSOR_BF16, PACK_KEEP);
	sweep_products(TENSOR_F16, PACK_KEEP);
	sweep_products(TENSOR_NF4, PACK_KEEP);
}

/* ---- rows ---- */

static void check_prepared(uint32_t n, uint32_t group)
{
	const uint32_t m = 3, ld = round_up(n, 16), groups = round_up(n, group) / group;
	prepared p(FORM_I8, group, n, m);
	std::vector<float> x = hard_rows(m, n, ld);

	for (uint32_t k = 0; k < n && k < group; k++)
		x[k] = 1e-31f; /* counts as zeros */
	x[(size_t)2 * ld + n - 1] = n % 2 ? INFINITY : NAN;
	on_device<float> dx(x);
	GOOD(prepare_cuda(&p.forms, dx.p, ld, m, n, stream));

	std::vector<unsigned char> q = p.x->get();
	std::vector<float> scale = p.scale->get(), want_scale(groups);
	std::vector<int32_t> sum = p.sum->get(), want_sum(groups);
	std::vector<int8_t> want(groups * group);

	for (uint32_t i = 0; i < m; i++) {
		quantize_plain(want.data(), want_scale.data(), want_sum.data(), &x[(size_t)i * ld], n, groups * group, group);
		for (uint32_t k = 0; k < p.forms.form[0].ldx; k++)
			assert_int_equal((int8_t)q[(size_t)i * p.forms.form[0].ldx + k], k < groups * group ? want[k] : 0);
		for (uint32_t g = 0; g < groups; g++) {
			float s = scale[(size_t)g * p.forms.form[0].ldm + i];

			assert_true(s == want_scale[g] || (std::isnan(s) && std::isnan(want_scale[g])));
			assert_int_equal(sum[(size_t)g * p.forms.form[0].ldm + i], want_sum[g]);
		}
	}
}

static void rows_are_quantised_to_the_bits_of_the_plain_reference(void **)
{
	for (uint32_t group = 16; group <= 128; group *= 2) {
		check_prepared(1, group);
		check_prepared(group, group);
		check_prepared(333, group);
		check_prepared(4096 + 200, group);
	}
}

static void check_norm(uint32_t n, bool with_delta, bool picked)
{
	const uint32_t m = 3, ld = round_up(n, 16);
	std::vector<float> x = hard_rows(m, n, ld), delta = hard_rows(m, n, ld), weight = hard_rows(1, n, ld);
	on_device<float> dx(x), dd(delta), dw(weight), h((size_t)m * ld);
	on_device<uint32_t> rows(std::vector<uint32_t>{2, 0});
	prepared p(FORM_I8, 32, n, m);
	struct norm_args a;

	memset(&a, 0, sizeof(a));
	a.h = h.p;
	a.x = dx.p;
	a.delta = with_delta ? dd.p : NULL;
	a.weight = dw.p;
	a.rows = picked ? rows.p : NULL;
	a.ld = ld;
	a.m = picked ? 2 : m;
	a.n = n;
	a.eps = 1e-5f;
	a.to = p.forms;
	GOOD(rmsnorm_cuda(&a, stream));

	std::vector<float> got = h.get(), after = dx.get(), want(n), row(n);
	std::vector<unsigned char> q = p.x->get();
	std::vector<int8_t> want_q(round_up(n, 32));
	std::vector<float> s(want_q.size() / 32);
	std::vector<int32_t> sum(want_q.size() / 32);

	for (uint32_t i = 0; i < a.m; i++) {
		uint32_t from = picked ? (i ? 0 : 2) : i;

		for (uint32_t k = 0; k < n; k++)
			row[k] = x[(size_t)from * ld + k] + (with_delta ? delta[(size_t)from * ld + k] : 0);
		rmsnorm_plain(want.data(), row.data(), weight.data(), n, 1e-5f);
		for (uint32_t k = 0; k < n; k++) {
			float v = got[(size_t)i * ld + k];

			if (!(fabsf(v - want[k]) <= 2e-6f * fabsf(want[k]) + 1e-30f))
				fail_msg("n %u, row %u, element %u: %g, expected %g", n, i, k, v, want[k]);
			assert_true(after[(size_t)from * ld + k] == (picked ? x[(size_t)from * ld + k] : row[k]));
		}
		quantize_plain(want_q.data(), s.data(), sum.data(), &got[(size_t)i * ld], n, round_up(n, 32), 32);
		for (uint32_t k = 0; k < n; k++)
			assert_int_equal((int8_t)q[(size_t)i * p.forms.form[0].ldx + k], want_q[k]);
	}
}

static void rmsnorm_adds_the_residual_normalises_and_quantises(void **)
{
	static const uint32_t ns[] = {1, 39, 256, 2048, 5000};

	for (unsigned i = 0; i < 5; i++) {
		check_norm(ns[i], false, false);
		check_norm(ns[i], true, false);
		check_norm(ns[i], true, true);
	}
}

static void swiglu_is_near_the_plain_reference(void **)
{
	static const uint32_t ns[] = {1, 51, 640, 5000};

	for (unsigned c = 0; c < 4; c++) {
		const uint32_t n = ns[c], m = 2, ld = round_up(n, 16);
		std::vector<float> gate = hard_rows(m, n, ld), up = hard_rows(m, n, ld), want(ld), g(gate), u(up);
		on_device<float> dg(gate), du(up);
		prepared p(c % 2 ? FORM_F16 : FORM_I8, 64, n, m);

		GOOD(swiglu_cuda(&p.forms, dg.p, du.p, ld, m, n, stream));
		std::vector<float> got = dg.get();

		for (uint32_t i = 0; i < m; i++) {
			swiglu_plain(want.data(), &g[(size_t)i * ld], &u[(size_t)i * ld], n);
			for (uint32_t k = 0; k < n; k++)
				if (!(fabsf(got[(size_t)i * ld + k] - want[k]) <= 4e-5f * fabsf(want[k]) + 1e-30f))
					fail_msg("n %u, element %u: %g, expected %g", n, k, got[(size_t)i * ld + k], want[k]);
		}
		if (c % 2)
			continue;
		std::vector<unsigned char> q = p.x->get();
		std::vector<int8_t> want_q(round_up(n, 64));
		std::vector<float> s(want_q.size() / 64);
		std::vector<int32_t> sum(want_q.size() / 64);

		quantize_plain(want_q.data(), s.data(), sum.data(), &got[ld], n, round_up(n, 64), 64);
		for (uint32_t k = 0; k < n; k++)
			assert_int_equal((int8_t)q[p.forms.form[0].ldx + k], want_q[k]);
	}
}

static void check_embed(enum tensor_type type, enum pack_form form, uint32_t rows, uint32_t cols)
{
	weights w(type, form, rows, cols);
	const uint32_t ld = round_up(cols, 16);
	const std::vector<int32_t> token = {(int32_t)rows - 1, 0, (int32_t)rows / 2};
	on_device<int32_t> dt(token);
	on_device<float> x(3 * ld);

	GOOD(embed_cuda(x.p, ld, &w.d, dt.p, 3, stream));
	std::vector<float> got = x.get(), want(cols);

	for (uint32_t i = 0; i < 3; i++) {
		matrix_row_f32(&w.w, (uint32_t)token[i], want.data());
		assert_memory_equal(&got[(size_t)i * ld], want.data(), cols * 4);
	}
}

static void the_embedding_gives_the_plain_rows(void **)
{
	check_embed(TENSOR_F32, PACK_KEEP, 81, 39);
	check_embed(TENSOR_F16, PACK_KEEP, 81, 39);
	check_embed(TENSOR_BF16, PACK_KEEP, 81, 39);
	check_embed(TENSOR_F32, PACK_Q8, 20, 300);
	check_embed(TENSOR_F32, PACK_Q4, 20, 300);
	for (unsigned i = 0; i < sizeof(block_types) / sizeof(block_types[0]); i++)
		check_embed(block_types[i], PACK_KEEP, 19, 256);
}

/* ---- attention ---- */

/* One layer of one sequence of `keys` tokens, on the device and in the CPU's pages; pages stand in descending order, and
 * hold NaNs where nothing was filed. */
struct story {
	uint32_t heads, kv_heads, hd, keys, ldq, ldk;
	bool int8;
	std::vector<float> q, unrotated, k, v, angles, rotated, want;
	std::vector<uint32_t> table;
	std::vector<unsigned char> pool;
	struct dkv kv;
	std::unique_ptr<on_device<unsigned char>> dpool;
	std::unique_ptr<on_device<float>> dq, dk, dv, da;
	std::unique_ptr<on_device<uint32_t>> dpages;
	std::unique_ptr<on_device<struct drow>> drows;

	void rotate(float *x, uint32_t n, uint32_t position) const
	{
		const float *a = &angles[(size_t)position * hd];

		for (uint32_t h = 0; h < n; h++, x += hd)
			for (uint32_t i = 0; i < hd / 2; i++) {
				float lo = x[i], hi = x[i + hd / 2];

				x[i] = lo * a[i] - hi * a[hd / 2 + i];
				x[i + hd / 2] = lo * a[hd / 2 + i] + hi * a[i];
			}
	}

	struct kv_view view(uint32_t h)
	{
		uint32_t pad = round_up(hd, 16);
		size_t bytes = (size_t)16 * (hd + pad) * (int8 ? 1 : 2) + (int8 ? 128 : 0);
		struct kv_view s;

		s.page_bytes = kv_heads * bytes;
		s.pool = pool.data() + h * bytes;
		s.table = table.data();
		s.head_dim = hd;
		s.head_pad = pad;
		s.kind = int8 ? KV_INT8 : KV_F16;
		return s;
	}

	story(uint32_t heads, uint32_t kv_heads, uint32_t hd, uint32_t keys, bool int8)
		: heads(heads), kv_heads(kv_heads), hd(hd), keys(keys), int8(int8)
	{
		uint32_t pages = (keys + 15) / 16, pad = hd <= 32 ? 32 : hd <= 64 ? 64 : hd <= 96 ? 96 : hd <= 128 ? 128 : 256;
		std::vector<struct drow> rows;

		ldq = round_up(heads * hd, 16);
		ldk = round_up(kv_heads * hd, 16);
		q = hard_rows(keys, heads * hd, ldq);
		k = hard_rows(keys, kv_heads * hd, ldk);
		v = hard_rows(keys, kv_heads * hd, ldk);
		for (float &x : q)
			x *= 0.02f;
		unrotated = q;
		for (uint32_t i = 0; i < keys * hd; i++)
			angles.push_back(i % hd < hd / 2 ? (float)cos(i / hd * (0.3 + i % hd))
							 : (float)sin(i / hd * (0.3 + i % hd - hd / 2)));
		for (uint32_t i = 0; i < pages; i++)
			table.push_back(pages - i); /* page 0 is nobody's */
		for (uint32_t i = 0; i < keys; i++)
			rows.push_back(drow{i, (int32_t)table[i / 16], 0});
		memset(&kv, 0, sizeof(kv));
		kv.int8 = int8;
		kv.head = kv_head_bytes(pad, int8);
		kv.layer = kv_heads * kv.head;
		kv.page = 2 * kv.layer; /* two layers; the second is used */
		kv.heads = heads;
		kv.kv_heads = kv_heads;
		kv.head_dim = hd;
		kv.pad = pad;
		dpool.reset(new on_device<unsigned char>((pages + 1) * kv.page));
		kv.pool = dpool->p;
		dq.reset(new on_device<float>(q));
		dk.reset(new on_device<float>(k));
		dv.reset(new on_device<float>(v));
		da.reset(new on_device<float>(angles));
		dpages.reset(new on_device<uint32_t>(table));
		drows.reset(new on_device<struct drow>(rows));

		file();
		compute_want(pages);
	}

	/* Rotates; so a second time needs the queries of the first. */
	void file()
	{
		struct rope_args r = {dq->p, dk->p, dv->p, da->p, ldq, ldk, keys, 1, drows->p, kv};

		GOOD(rope_store_cuda(&r, stream));
	}

	void compute_want(uint32_t pages)
	{
		pool.assign((size_t)(pages + 1) * view(0).page_bytes, 0xff);
		want.assign(q.size(), 0);
		rotated = k;
		for (uint32_t i = 0; i < keys; i++) {
			float *kr = &rotated[(size_t)i * ldk];

			rotate(&q[(size_t)i * ldq], heads, i);
			rotate(kr, kv_heads, i);
			for (uint32_t h = 0; h < kv_heads; h++) {
				struct kv_view s = view(h);

				(int8 ? kv_store_int8_plain : kv_store_plain)(&s, i, &kr[h * hd], &v[(size_t)i * ldk + h * hd]);
			}
		}
		for (uint32_t i = 0; i < keys; i++)
			for (uint32_t h = 0; h < kv_heads; h++) {
				struct kv_view s = view(h);
				size_t at = (size_t)i * ldq + (size_t)h * (heads / kv_heads) * hd;

				(int8 ? attention_words_row : attention_plain)(&want[at], &q[at], heads / kv_heads, &s, i + 1);
			}
	}

	std::vector<float> attend(const std::vector<uint32_t> &decode, uint32_t splits, const std::vector<struct dtile> &tiles)
	{
		on_device<float> out((size_t)keys * ldq), partial(1 + decode.size() * heads * splits * (kv.pad + 2));
		on_device<uint32_t> dd(decode.empty() ? std::vector<uint32_t>(1) : decode);
		on_device<struct dtile> dt(tiles.empty() ? std::vector<struct dtile>(1) : tiles);
		struct attention_args a;

		memset(&a, 0, sizeof(a));
		a.out = out.p;
		a.q = dq->p;
		a.ld = ldq;
		a.layer = 1;
		a.rows = drows->p;
		a.pages = dpages->p;
		a.kv = kv;
		a.scale = 1 / sqrtf((float)hd);
		a.decode = dd.p;
		a.n_decode = (uint32_t)decode.size();
		a.splits = splits;
		a.partial = partial.p;
		a.tiles = dt.p;
		a.n_tiles = (uint32_t)tiles.size();
		GOOD(attention_cuda(&a, stream));
		return out.get();
	}

	/* The largest score that head h of row i could have had without cancellation. */
	float score_size(uint32_t i, uint32_t h) const
	{
		float most = 0;

		for (uint32_t j = 0; j <= i; j++) {
			const float *x = &q[(size_t)i * ldq + h * hd], *y = &rotated[(size_t)j * ldk + h / (heads / kv_heads) * hd];
			float size = 0;

			for (uint32_t d = 0; d < hd; d++)
				size += fabsf(x[d] * y[d]);
			most = fmaxf(most, size / sqrtf((float)hd));
		}
		return most;
	}

	/* [2][16]: of keys, of values. */
	static const float *kv_page_scales(const struct kv_view *v, uint32_t i)
	{
		return (const float *)(const void *)(kv_page_k(v, i) + (size_t)(v->head_dim + v->head_pad) * 16);
	}

	/* The codes and scales of the CPU's page, wherever the device has them: gpu.h's table of fragments, for keys of 32 dimensions and values
	 * of 16 tokens. */
	void same_codes(uint32_t position, uint32_t h)
	{
		std::vector<unsigned char> all = dpool->get();
		struct kv_view s = view(h);
		const unsigned char *got = &all[table[position / 16] * kv.page + kv.layer + h * kv.head];
		const float *scales = (const float *)(const void *)(got + 32 * kv.pad), *want_scales = kv_page_scales(&s, position / 16);
		uint32_t t = position % 16, pair = t / 4, j = t / 2 % 2, column = 2 * pair + t % 2;

		for (uint32_t d = 0; d < kv.pad; d++) {
			unsigned char k = got[d / 32 * 512 + (column * 4 + d % 32 / 8) * 16 + j * 8 + d % 8];
			unsigned char v = got[16 * kv.pad + d / 32 * 512 + (d % 8 * 4 + pair) * 16 + d % 32 / 8 * 4 + t % 4];

			assert_int_equal(k, d < hd ? kv_page_k(&s, position / 16)[d / 2 * 32 + t * 2 + d % 2] : 0);
			assert_int_equal(v, d < hd ? kv_page_v(&s, position / 16)[t / 2 * s.head_pad * 2 + d * 2 + t % 2] : 0);
		}
		assert_memory_equal(&scales[t], &want_scales[t], 4);
		assert_memory_equal(&scales[16 + t], &want_scales[16 + t], 4);
	}

	/* One output in double, of the values that the codes stand for. */
	double exact(uint32_t i, uint32_t h, uint32_t d)
	{
		struct kv_view s = view(h / (heads / kv_heads));
		double top = -INFINITY, sum = 0, out = 0;
		std::vector<double> x;

		for (uint32_t t = 0; t <= i; t++) {
			const int8_t *k = (const int8_t *)kv_page_k(&s, t / 16) + t % 16 * 2;
			double score = 0;

			for (uint32_t e = 0; e < hd; e++)
				score += (double)q[(size_t)i * ldq + h * hd + e] * k[e / 2 * 32 + e % 2];
			x.push_back(score * kv_page_scales(&s, t / 16)[t % 16] / sqrt((double)hd));
			top = fmax(top, x.back());
		}
		for (uint32_t t = 0; t <= i; t++) {
			const int8_t *v = (const int8_t *)kv_page_v(&s, t / 16) + t % 16 / 2 * s.head_pad * 2 + t % 2;

			sum += exp(x[t] - top);
			out += exp(x[t] - top) * v[2 * d] * kv_page_scales(&s, t / 16)[16 + t % 16];
		}
		return out / sum;
	}

	/* int8 has the integers of the plain reference; ex2 moves a weight by 2^-22 and a score's last bits, and where that is beyond
	 * a half, a weight's last bit. What a head's queries and weights lose by their 16 bits is in the distance to the sum in double. */
	void near_int8(const std::vector<float> &got, uint32_t i, const char *path)
	{
		float top = 0;

		for (uint32_t j = 0; j <= i; j++)
			for (uint32_t d = 0; d < kv_heads * hd; d++)
				top = fmaxf(top, fabsf(v[(size_t)j * ldk + d]));
		for (uint32_t h = 0; h < heads; h++) {
			float size = score_size(i, h) + 1, bound = top * (size * 0x1p-20f + 0x1p-14f), far = top * (size * 0x1p-12f + 0x1p-12f);

			for (uint32_t d = 0; d < hd; d++) {
				size_t at = (size_t)i * ldq + h * hd + d;

				if (!(fabsf(got[at] - want[at]) <= bound))
					fail_msg("%s in 8 bits, %u heads on %u, head_dim %u: position %u, element %u: %g, expected %g (bound %g)", path,
						 heads, kv_heads, hd, i, h * hd + d, got[at], want[at], bound);
				if (d % 7 == 0 && !(fabs(got[at] - exact(i, h, d)) <= far))
					fail_msg("%s in 8 bits, %u heads on %u, head_dim %u: position %u, element %u: %g, in double %g (bound %g)", path,
						 heads, kv_heads, hd, i, h * hd + d, got[at], exact(i, h, d), far);
			}
		}
	}

	/* q and p are rounded to f16: a score moves by its size times 2^-11, a weight by that and 2^-11 of its own, an output by twice that
	 * of the largest value. */
	void near_want(const std::vector<float> &got, uint32_t i, const char *path)
	{
		float top = 0;

		if (int8) {
			near_int8(got, i, path);
			return;
		}

		for (uint32_t j = 0; j <= i; j++)
			for (uint32_t d = 0; d < kv_heads * hd; d++)
				top = fmaxf(top, fabsf(v[(size_t)j * ldk + d]));
		for (uint32_t h = 0; h < heads; h++) {
			float bound = 2 * top * (score_size(i, h) + 1) * 0x1p-11f;

			for (uint32_t d = h * hd; d < (h + 1) * hd; d++) {
				float x = got[(size_t)i * ldq + d], y = want[(size_t)i * ldq + d];

				if (!(fabsf(x - y) <= bound))
					fail_msg("%s, %u heads on %u, head_dim %u: position %u, element %u: %g, expected %g (bound %g)", path, heads,
						 kv_heads, hd, i, d, x, y, bound);
			}
		}
	}
};

/* Tiles of n rows from `from` on, as many as there are. */
static std::vector<struct dtile> tiles_of(const story &s, uint32_t from, uint32_t n)
{
	std::vector<struct dtile> t;

	for (; from < s.keys; from += n)
		t.push_back(dtile{from, s.keys - from < n ? s.keys - from : n});
	return t;
}

static void check_attention(uint32_t heads, uint32_t kv_heads, uint32_t hd, uint32_t keys, bool int8)
{
	story s(heads, kv_heads, hd, keys, int8);
	uint32_t most = attention_tile_rows(heads, kv_heads);
	std::vector<uint32_t> decode;

	for (uint32_t i = 0; i < keys; i += 1 + keys / 9)
		decode.push_back(i);
	if (decode.back() != keys - 1)
		decode.push_back(keys - 1);
	std::vector<float> got = s.attend(decode, keys / ATTENTION_SPLIT + 1, {}),
			   more = s.attend({keys - 1}, keys / ATTENTION_SPLIT + 3, {});

	for (uint32_t i : decode)
		s.near_want(got, i, "generated");
	assert_memory_equal(&got[(size_t)(keys - 1) * s.ldq], &more[(size_t)(keys - 1) * s.ldq], heads * hd * 4);
	if (keys > 300)
		return;
	got = s.attend({}, 1, tiles_of(s, 0, most));
	for (uint32_t i = 0; i < keys; i++)
		s.near_want(got, i, "prompt");
	more = s.attend({}, 1, tiles_of(s, 3, most > 2 ? most / 2 : 1)); /* other neighbours */
	for (uint32_t i = 3; i < keys; i++)
		assert_memory_equal(&got[(size_t)i * s.ldq], &more[(size_t)i * s.ldq], heads * hd * 4);
}

static void check_attentions(bool int8)
{
	check_attention(8, 2, 32, 70, int8);
	check_attention(8, 1, 128, 40, int8);
	check_attention(2, 2, 64, 130, int8);
	check_attention(3, 1, 10, 17, int8);
	check_attention(16, 1, 8, 33, int8);
	check_attention(4, 4, 80, 20, int8);
	check_attention(2, 1, 256, 19, int8);
	check_attention(6, 2, 16, 1, int8);
	check_attention(4, 1, 8, 1100, int8);
}

static void attention_is_near_the_plain_reference_and_the_same_in_any_tile(void **)
{
	check_attentions(false);
}

static void attention_in_8_bits_has_the_integers_of_the_plain_reference(void **)
{
	check_attentions(true);
}

static void keys_and_values_in_8_bits_have_the_codes_of_the_plain_reference(void **)
{
	static const uint32_t shape[][3] = {{8, 2, 32}, {8, 1, 128}, {3, 3, 10}, {4, 2, 80}, {2, 1, 256}};

	for (unsigned i = 0; i < sizeof(shape) / sizeof(shape[0]); i++) {
		story s(shape[i][0], shape[i][1], shape[i][2], 21, true);

		for (uint32_t t = 0; t < s.keys; t++)
			for (uint32_t h = 0; h < s.kv_heads; h++)
				s.same_codes(t, h);
	}
}

/* A key or a value that is not finite makes NaN of every row that sees it, and changes no bit of those that do not; nor do scales of 0. */
static void what_is_not_finite_in_8_bits_is_nan_for_those_who_see_it(void **)
{
	enum { KEYS = 40, BAD = 21 };

	for (int what = 0; what < 4; what++) {
		story s(4, 2, 16, KEYS, true);
		std::vector<float> before = s.attend({}, 1, tiles_of(s, 0, 32)), x = what < 2 ? s.k : s.v;
		std::vector<uint32_t> all;

		for (uint32_t i = 0; i < KEYS; i++)
			all.push_back(i);
		x[(size_t)BAD * s.ldk + 3] = what % 2 ? INFINITY : NAN;
		GOOD(upload(&uploads, (what < 2 ? s.dk : s.dv)->p, x.data(), x.size() * sizeof(float)));
		GOOD(upload(&uploads, s.dq->p, s.unrotated.data(), s.unrotated.size() * sizeof(float)));
		s.file();
		for (int path = 0; path < 2; path++) {
			std::vector<float> got = path ? s.attend(all, 1, {}) : s.attend({}, 1, tiles_of(s, 0, 32));

			for (uint32_t i = 0; i < KEYS; i++)
				for (uint32_t d = 0; d < 32; d++) { /* heads of the first KV head */
					size_t at = (size_t)i * s.ldq + d;

					if (i >= BAD)
						assert_true(std::isnan(got[at]));
					else if (!path)
						assert_memory_equal(&got[at], &before[at], 4);
					else
						assert_false(std::isnan(got[at]));
				}
		}
	}
}

static void sweep_generated(bool int8)
{
	const uint32_t n = sweep_to() + 20;
	story s(8, 1, 128, n, int8);
	std::vector<uint32_t> decode;

	for (uint32_t i = 0; i < n; i++)
		decode.push_back(n - 1 - i);
	std::vector<float> all = s.attend(decode, 1, {});

	for (uint32_t m = 1; m < sweep_to(); m++) {
		std::vector<float> got = s.attend(std::vector<uint32_t>(decode.begin(), decode.begin() + m), 1, {});

		for (uint32_t i = 0; i < m; i++)
			assert_memory_equal(&got[(size_t)decode[i] * s.ldq], &all[(size_t)decode[i] * s.ldq], 8 * 128 * 4);
	}
}

static void generated_rows_are_the_same_for_every_number_of_rows(void **)
{
	sweep_generated(false);
	sweep_generated(true);
}

/* ---- adapters ---- */

/* A factor as the host has it: f16 is not paired here, bytes are signed. */
struct factor {
	std::vector<unsigned char> data, host;
	struct matrix w;
	std::unique_ptr<on_device<unsigned char>> values;
	std::unique_ptr<on_device<uint16_t>> scales;
	struct dfactor d;
	factor(enum tensor_type type, enum pack_form form, uint32_t rows, uint32_t cols) : data(tensor_data(type, rows, cols))
	{
		size_t n;

		pack_tensor(&w, &host, type, form, rows, cols, data);
		n = w.blocks * matrix_block_bytes(&w);
		values.reset(new on_device<unsigned char>(std::vector<unsigned char>(w.codes, w.codes + n)));
		memset(&d, 0, sizeof(d));
		d.values = values->p;
		d.k = w.kpad;
		d.blocks = w.blocks;
		d.form = w.kind == PACK_F16 ? FORM_F16 : w.kind == PACK_BF16 ? FORM_BF16 : w.kind == PACK_S8 ? FORM_I8 : FORM_F32;
		if (w.kind != PACK_S8)
			return;
		n = w.blocks * matrix_block_scales(&w);
		scales.reset(new on_device<uint16_t>(std::vector<uint16_t>(w.scales, w.scales + n)));
		d.scales = scales->p;
		d.group = w.group;
	}
};

static void check_lora(enum tensor_type type, enum pack_form form, uint32_t k, uint32_t rank, uint32_t outputs, uint32_t m)
{
	const uint32_t ldx = round_up(k, 16), ldo = round_up(outputs, 16), width = round_up(rank, 16), rows = m + 2;
	factor a0(type, form, rank, k), b0(type, form, outputs, rank), a1(type, form, rank, k), b1(type, form, outputs, rank);
	std::vector<float> x = hard_rows(rows, k, ldx), y = hard_rows(rows, outputs, ldo), table = {0.5f, 0, 0, 0, 0, 0, 0},
			   other = table;
	struct dlora_layer l0, l1;

	other[0] = -1.25f;
	memset(&l0, 0, sizeof(l0));
	l0.a[0] = a0.d;
	l0.b[0] = b0.d;
	l0.rank[0] = rank;
	l1 = l0;
	l1.a[0] = a1.d;
	l1.b[0] = b1.d;
	on_device<struct dlora_layer> d0(std::vector<struct dlora_layer>{l0}), d1(std::vector<struct dlora_layer>{l1});
	on_device<float> f0(table), f1(other), dx(x), dy(y), h((size_t)((k + LORA_SPLIT - 1) / LORA_SPLIT) * rows * 2 * width),
		alone(y);
	on_device<struct dpart> parts(std::vector<struct dpart>{{d0.p, f0.p, 0}, {d1.p, f1.p, width}});
	std::vector<struct dlora_item> items;
	std::vector<struct dlora_piece> pieces;

	/* rows 1 .. m of the pass have both parts; row 0 and the last one are the base's */
	for (uint32_t i = 0; i < m; i += LORA_ROWS) {
		uint32_t n = m - i < LORA_ROWS ? m - i : (uint32_t)LORA_ROWS;

		pieces.push_back(dlora_piece{(uint32_t)items.size(), 0});
		pieces.push_back(dlora_piece{(uint32_t)items.size(), 1});
		items.push_back(dlora_item{1 + i, n, 0, 2});
	}
	on_device<struct dlora_item> di(items), one(std::vector<struct dlora_item>{{m, 1, 0, 2}});
	on_device<struct dlora_piece> dp(pieces);
	struct lora_args a;

	memset(&a, 0, sizeof(a));
	a.items = di.p;
	a.pieces = dp.p;
	a.parts = parts.p;
	a.n_items = (uint32_t)items.size();
	a.n_pieces = (uint32_t)pieces.size();
	a.a_blocks = width / 16;
	a.linears = 1;
	a.x = dx.p;
	a.ldx = ldx;
	a.k = k;
	a.h = h.p;
	a.ldh = 2 * width;
	a.max_rows = rows;
	a.out[0] = dy.p;
	a.ldo[0] = ldo;
	a.rows[0] = outputs;
	GOOD(lora_cuda(&a, stream));
	a.items = one.p;
	a.n_items = 1;
	a.n_pieces = 2;
	a.out[0] = alone.p;
	GOOD(lora_cuda(&a, stream));

	std::vector<float> got = dy.get(), single = alone.get();

	assert_memory_equal(&got[(size_t)m * ldo], &single[(size_t)m * ldo],
			    outputs * 4); /* the last row, with and without neighbours */
	std::vector<double> hidden(rank);
	std::vector<float> row(k > rank ? k : rank);

	for (uint32_t i = 0; i < rows; i++) {
		std::vector<double> want(y.begin() + (size_t)i * ldo, y.begin() + (size_t)i * ldo + outputs);

		for (int p = 0; p < 2 && i && i <= m; p++) {
			const factor &fa = p ? a1 : a0, &fb = p ? b1 : b0;

			for (uint32_t r = 0; r < rank; r++) {
				matrix_row_f32(&fa.w, r, row.data());
				hidden[r] = 0;
				for (uint32_t j = 0; j < k; j++)
					hidden[r] += (double)row[j] * x[(size_t)i * ldx + j];
			}
			for (uint32_t o = 0; o < outputs; o++) {
				matrix_row_f32(&fb.w, o, row.data());
				for (uint32_t r = 0; r < rank; r++)
					want[o] += (p ? -1.25 : 0.5) * row[r] * hidden[r];
			}
		}
		for (uint32_t o = 0; o < outputs; o++)
			if (!(fabs(got[(size_t)i * ldo + o] - want[o]) <= 2e-5 * (300 + fabs(want[o]))))
				fail_msg("%s rank %u, k %u: row %u, output %u: %g, expected %g", tensor_type_name(type), rank, k, i,
					 o, got[(size_t)i * ldo + o], want[o]);
	}
}

static void blends_add_their_parts_in_order(void **)
{
	check_lora(TENSOR_F32, PACK_KEEP, 256, 8, 256, 3);
	check_lora(TENSOR_F16, PACK_KEEP, 39, 3, 51, 1);
	check_lora(TENSOR_BF16, PACK_KEEP, 39, 3, 51, 9);
	check_lora(TENSOR_F32, PACK_KEEP, 1100, 70, 300, 17); /* three splits, two chunks of h */
	check_lora(TENSOR_BF16, PACK_KEEP, 512, 16, 272, 8);
	check_lora(TENSOR_F32, PACK_FACTOR, 512, 16, 272, 9);	/* bytes in groups of 32 and 16 */
	check_lora(TENSOR_F16, PACK_FACTOR, 100, 12, 40, 2);	/* of 25 and 12 */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_are_quantised_to_the_bits_of_the_plain_reference),
		cmocka_unit_test(rmsnorm_adds_the_residual_normalises_and_quantises),
		cmocka_unit_test(swiglu_is_near_the_plain_reference),
		cmocka_unit_test(the_embedding_gives_the_plain_rows),
		cmocka_unit_test(integer_products_have_the_bits_of_the_plain_sum),
		cmocka_unit_test(blocks_of_gguf_have_the_bits_of_the_plain_sum),
		cmocka_unit_test(float_products_are_near_the_exact_sum_of_rounded_rows),
		cmocka_unit_test(nf4_products_are_near_the_exact_sum_of_codes_and_rows_in_f16),
		cmocka_unit_test(a_row_of_a_product_is_the_same_alone),
		cmocka_unit_test(products_are_the_same_for_every_number_of_rows),
		cmocka_unit_test(keys_and_values_in_8_bits_have_the_codes_of_the_plain_reference),
		cmocka_unit_test(attention_in_8_bits_has_the_integers_of_the_plain_reference),
		cmocka_unit_test(what_is_not_finite_in_8_bits_is_nan_for_those_who_see_it),
		cmocka_unit_test(generated_rows_are_the_same_for_every_number_of_rows),
		cmocka_unit_test(attention_is_near_the_plain_reference_and_the_same_in_any_tile),
		cmocka_unit_test(blends_add_their_parts_in_order),
	};

	return cmocka_run_group_tests(tests, open_device, close_device);
}
