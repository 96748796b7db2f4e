/* toys.cu: small kernels, each with one fault, and their sound twins. The shim must name every fault and leave the twins alone. */
#include "kernels/cuda/gpu.h"

#include "toys.h"

/* ---- sound ---- */

KERNEL sum_block(const float *x, float *out, uint32_t n)
{
	shared<float> s = shared_at<float>(0, 128);
	uint32_t i = threadIdx.x;

	s[i] = blockIdx.x * 128 + i < n ? x[blockIdx.x * 128 + i] : 0;
	for (uint32_t w = 64; w; w /= 2) {
		sync_block();
		if (i < w)
			s[i] += s[i + w];
	}
	if (i == 0)
		out[blockIdx.x] = s[0];
}

KERNEL sound_copy(const uint8_t *from, float *out)
{
	shared<unsigned char> s = shared_at<unsigned char>(0, 64 * 16);

	copy_async16(s, threadIdx.x * 16, from + threadIdx.x * 16, true);
	copy_commit();
	copy_wait<0>();
	sync_block();
	out[threadIdx.x] = s[(threadIdx.x * 16 + 16) % 1024];
}

KERNEL sound_warps(float *out)
{
	shared<float> s = shared_at<float>(0, 64);

	s[threadIdx.x] = threadIdx.x;
	sync_warp();
	out[threadIdx.x] = s[threadIdx.x ^ 1] + warp_sum(1);
}

/* ---- broken ---- */

KERNEL no_barrier(const float *x, float *out)
{
	shared<float> s = shared_at<float>(0, 64);

	s[threadIdx.x] = x[threadIdx.x];
	out[threadIdx.x] = s[(threadIdx.x + 32) % 64]; /* another warp's */
}

KERNEL no_warp_barrier(const float *x, float *out)
{
	shared<float> s = shared_at<float>(0, 64);

	s[threadIdx.x] = x[threadIdx.x];
	out[threadIdx.x] = s[threadIdx.x ^ 1]; /* another lane's: a device may well get away with it */
}

KERNEL write_after_read(float *out)
{
	shared<float> s = shared_at<float>(0, 64);

	s[threadIdx.x] = 1;
	sync_block();
	out[threadIdx.x] = s[(threadIdx.x + 32) % 64];
	s[threadIdx.x] = 2; /* while others read */
}

KERNEL two_writers(float *out)
{
	shared<float> s = shared_at<float>(0, 64);

	s[threadIdx.x / 2] = threadIdx.x;
	sync_block();
	out[threadIdx.x] = s[threadIdx.x / 2];
}

KERNEL beyond_shared(float *out)
{
	shared<float> s = shared_at<float>(0, 64);

	s[threadIdx.x + 1] = 1;
	out[threadIdx.x] = 0;
}

KERNEL more_shared_than_launched(float *out)
{
	shared<float> s = shared_at<float>(0, 128);

	s[threadIdx.x] = 1;
	out[threadIdx.x] = 0;
}

KERNEL unwritten_shared(float *out)
{
	shared<float> s = shared_at<float>(0, 64);

	if (threadIdx.x)
		s[threadIdx.x] = 1;
	sync_block();
	out[threadIdx.x] = s[threadIdx.x];
}

KERNEL no_wait(const uint8_t *from, float *out)
{
	shared<unsigned char> s = shared_at<unsigned char>(0, 64 * 16);

	copy_async16(s, threadIdx.x * 16, from + threadIdx.x * 16, true);
	copy_commit();
	out[threadIdx.x] = s[threadIdx.x * 16];
}

KERNEL wait_for_too_few(const uint8_t *from, float *out)
{
	shared<unsigned char> s = shared_at<unsigned char>(0, 64 * 32);

	for (uint32_t i = 0; i < 2; i++) {
		copy_async16(s, i * 1024 + threadIdx.x * 16, from + threadIdx.x * 16, true);
		copy_commit();
	}
	copy_wait<1>();
	out[threadIdx.x] = s[1024 + threadIdx.x * 16];
}

KERNEL copied_without_barrier(const uint8_t *from, float *out)
{
	shared<unsigned char> s = shared_at<unsigned char>(0, 64 * 16);

	copy_async16(s, threadIdx.x * 16, from + threadIdx.x * 16, true);
	copy_commit();
	copy_wait<0>();
	out[threadIdx.x] = s[(threadIdx.x * 16 + 512) % 1024];
}

KERNEL divergent_barrier(float *out)
{
	if (threadIdx.x < 40)
		sync_block();
	out[threadIdx.x] = 0;
}

KERNEL early_exit(float *out)
{
	if (threadIdx.x == 7)
		return;
	out[threadIdx.x] = shuffle_xor(1, 1);
}

KERNEL mixed_words(float *out)
{
	if (threadIdx.x % 2)
		sync_warp();
	else
		out[threadIdx.x] = shuffle_xor(1, 1);
}

KERNEL past_the_end(const float *x, float *out)
{
	out[threadIdx.x] = x[threadIdx.x + 1];
}

KERNEL before_the_beginning(float *out)
{
	out[(int)threadIdx.x - 1000] = 0;
}

KERNEL misaligned(const float *x, float *out)
{
	out[threadIdx.x] = bits_to_float(load16(x + 1).x);
}

KERNEL host_pointer(const float *x, float *out)
{
	out[threadIdx.x] = x[0];
}

struct box {
	uint32_t n;
	const float *x;
};
KERNEL host_pointer_in_a_struct(const struct box b, float *out)
{
	out[threadIdx.x] = b.x[0];
}

cudaError_t toy_sum(const float *x, float *out, uint32_t n, cudaStream_t s)
{
	return LAUNCH(sum_block, dim3((n + 127) / 128), 128u, 128 * sizeof(float), s, x, out, n);
}

#define TOY(name, bytes, ...)                                                                                                      \
	{                                                                                                                          \
#name, [](const float *x, float *out,                                                                              \
			  cudaStream_t s) { return LAUNCH(name, dim3(3), 64u, (size_t)(bytes), s, __VA_ARGS__); }                  \
	}
static const float on_the_host[4] = {1, 2, 3, 4};
#define AS_BYTES ((const uint8_t *)x)

const struct toy sound_toys[] = {TOY(sound_copy, 1024, AS_BYTES, out), TOY(sound_warps, 256, out), {NULL, NULL}};
const struct toy broken_toys[] = {TOY(no_barrier, 256, x, out),
				  TOY(no_warp_barrier, 256, x, out),
				  TOY(write_after_read, 256, out),
				  TOY(two_writers, 256, out),
				  TOY(beyond_shared, 256, out),
				  TOY(more_shared_than_launched, 256, out),
				  TOY(unwritten_shared, 256, out),
				  TOY(no_wait, 1024, AS_BYTES, out),
				  TOY(wait_for_too_few, 2048, AS_BYTES, out),
				  TOY(copied_without_barrier, 1024, AS_BYTES, out),
				  TOY(divergent_barrier, 0, out),
				  TOY(early_exit, 0, out),
				  TOY(mixed_words, 0, out),
				  TOY(past_the_end, 0, x + 256 - 64, out),
				  TOY(before_the_beginning, 0, out),
				  TOY(misaligned, 0, x, out),
				  TOY(host_pointer, 0, on_the_host, out),
				  TOY(host_pointer_in_a_struct, 0, (box{1, on_the_host}), out),
				  {NULL, NULL}};
