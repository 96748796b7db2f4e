/* shim_test.cc: the shim finds what it says it finds (toys.cu), computes what a device computes, and lets sound kernels pass. */
#include <csetjmp>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <vector>
extern "C" {
#include <cmocka.h>
}

#include "toys.h"

struct device {
	cudaStream_t s;
	float *x, *out;
};

static device open_device(void)
{
	device d;
	std::vector<float> x(256);

	shim_reset();
	for (int i = 0; i < 256; i++)
		x[i] = (float)(i % 13);
	assert_int_equal(cudaStreamCreateWithFlags(&d.s, 0), cudaSuccess);
	assert_int_equal(cudaMalloc(&d.x, 256 * sizeof(float)), cudaSuccess);
	assert_int_equal(cudaMalloc(&d.out, 192 * sizeof(float)), cudaSuccess);
	assert_int_equal(cudaMemcpyAsync(d.x, x.data(), 256 * sizeof(float), cudaMemcpyHostToDevice, d.s), cudaSuccess);
	assert_int_equal(cudaStreamSynchronize(d.s), cudaSuccess);
	return d;
}

static void close_device(device *d)
{
	shim_reset();
	cudaStreamDestroy(d->s);
	cudaFree(d->x);
	cudaFree(d->out);
	shim_reset();
}

static void every_broken_kernel_is_named(void **)
{
	for (const toy *t = broken_toys; t->name; t++)
		for (int seed = 1; seed <= 5; seed++) {
			device d = open_device();

			shim_seed(seed);
			t->run(d.x, d.out, d.s);
			if (cudaStreamSynchronize(d.s) == cudaSuccess)
				fail_msg("%s (seed %d) passed", t->name, seed);
			assert_non_null(strstr(shim_fault(), t->name));
			if (seed == 1)
				printf("%s\n", shim_fault());
			close_device(&d);
		}
}

static void sound_kernels_pass_in_any_order(void **)
{
	for (const toy *t = sound_toys; t->name; t++)
		for (int seed = 1; seed <= 20; seed++) {
			device d = open_device();

			shim_seed(seed);
			t->run(d.x, d.out, d.s);
			if (cudaStreamSynchronize(d.s) != cudaSuccess)
				fail_msg("%s (seed %d): %s", t->name, seed, shim_fault());
			close_device(&d);
		}
}

static void blocks_and_threads_compute(void **)
{
	device d = open_device();
	float got[2], want[2] = {0, 0};

	for (int i = 0; i < 200; i++)
		want[i / 128] += (float)(i % 13);
	assert_int_equal(toy_sum(d.x, d.out, 200, d.s), cudaSuccess);
	assert_int_equal(cudaMemcpyAsync(got, d.out, sizeof(got), cudaMemcpyDeviceToHost, d.s), cudaSuccess);
	assert_int_equal(cudaStreamSynchronize(d.s), cudaSuccess);
	assert_memory_equal(got, want, sizeof(got));
	close_device(&d);
}

static void a_stream_runs_when_somebody_waits(void **)
{
	device d = open_device();
	float got = -1;

	assert_int_equal(toy_sum(d.x, d.out, 100, d.s), cudaSuccess);
	assert_int_equal(cudaMemcpyAsync(&got, d.out, sizeof(got), cudaMemcpyDeviceToHost, d.s), cudaSuccess);
	assert_true(got == -1);
	assert_int_equal(cudaStreamSynchronize(d.s), cudaSuccess);
	assert_true(got > 0);
	close_device(&d);
}

static void a_stream_that_another_does_not_wait_for_is_late(void **)
{
	for (int waits = 0; waits < 2; waits++) {
		device d = open_device();
		std::vector<float> ones(256, 1.0f);
		cudaStream_t copies;
		cudaEvent_t there;
		float got;

		assert_int_equal(cudaStreamCreateWithFlags(&copies, cudaStreamNonBlocking), cudaSuccess);
		assert_int_equal(cudaEventCreateWithFlags(&there, cudaEventDisableTiming), cudaSuccess);
		assert_int_equal(cudaMemcpyAsync(d.x, ones.data(), 1024, cudaMemcpyHostToDevice, copies), cudaSuccess);
		assert_int_equal(cudaEventRecord(there, copies), cudaSuccess);
		if (waits)
			assert_int_equal(cudaStreamWaitEvent(d.s, there, 0), cudaSuccess);
		assert_int_equal(toy_sum(d.x, d.out, 100, d.s), cudaSuccess);
		assert_int_equal(cudaMemcpyAsync(&got, d.out, sizeof(got), cudaMemcpyDeviceToHost, d.s), cudaSuccess);
		assert_int_equal(cudaStreamSynchronize(d.s), cudaSuccess);
		assert_int_equal(got == 100, waits);
		cudaStreamDestroy(copies);
		cudaEventDestroy(there);
		close_device(&d);
	}
}

static void an_eager_stream_runs_at_once_and_a_lazy_one_when_asked(void **)
{
	for (int eager = 0; eager < 2; eager++) {
		device d = open_device();
		float got = -1;

		shim_eager(eager);
		assert_int_equal(toy_sum(d.x, d.out, 100, d.s), cudaSuccess);
		assert_int_equal(cudaMemcpyAsync(&got, d.out, sizeof(got), cudaMemcpyDeviceToHost, d.s), cudaSuccess);
		assert_int_equal(got > 0, eager);
		assert_int_equal(cudaStreamQuery(d.s), eager ? cudaSuccess : cudaErrorNotReady);
		assert_int_equal(cudaStreamQuery(d.s), cudaSuccess);
		assert_true(got > 0);
		shim_eager(0);
		close_device(&d);
	}
}

static void a_graph_replays_with_what_memory_holds_then(void **)
{
	device d = open_device();
	std::vector<float> ones(256, 1.0f);
	cudaGraph_t g;
	cudaGraphExec_t x;
	float got;

	assert_int_equal(cudaStreamBeginCapture(d.s, cudaStreamCaptureModeThreadLocal), cudaSuccess);
	assert_int_equal(toy_sum(d.x, d.out, 100, d.s), cudaSuccess);
	assert_int_equal(cudaStreamEndCapture(d.s, &g), cudaSuccess);
	assert_int_equal(cudaGraphInstantiate(&x, g, 0), cudaSuccess);
	cudaGraphDestroy(g);
	assert_int_equal(cudaMemcpyAsync(d.x, ones.data(), 1024, cudaMemcpyHostToDevice, d.s), cudaSuccess);
	assert_int_equal(cudaGraphLaunch(x, d.s), cudaSuccess);
	assert_int_equal(cudaMemcpyAsync(&got, d.out, sizeof(got), cudaMemcpyDeviceToHost, d.s), cudaSuccess);
	assert_int_equal(cudaStreamSynchronize(d.s), cudaSuccess);
	assert_true(got == 100);
	cudaGraphExecDestroy(x);
	close_device(&d);
}

static void writing_beside_an_allocation_shows_when_it_is_freed(void **)
{
	device d = open_device();
	unsigned char *p;

	assert_int_equal(cudaMalloc(&p, 13), cudaSuccess);
	p[14] = 0;
	cudaFree(p);
	assert_non_null(shim_fault());
	close_device(&d);
}

static void halves_are_the_devices_halves(void **)
{
	static const struct {
		float f;
		uint16_t h;
	} pair[] = {{0, 0},
		    {-0.0f, 0x8000},
		    {1, 0x3c00},
		    {65504, 0x7bff},
		    {65519, 0x7bff},
		    {65520, 0x7c00},
		    {1e9f, 0x7c00},
		    {0x1p-24f, 1},
		    {0x1.8p-24f, 2},
		    {0x1p-25f, 0},
		    {0x1.1p-25f, 1},
		    {0x1p-14f, 0x0400},
		    {0x1.002p0f, 0x3c00},
		    {0x1.006p0f, 0x3c02},
		    {0x1.ff8p-15f, 0x03ff},
		    {INFINITY, 0x7c00}};

	for (unsigned i = 0; i < sizeof(pair) / sizeof(pair[0]); i++)
		if (float_to_half_bits(pair[i].f) != pair[i].h)
			fail_msg("%a gives %04x, not %04x", pair[i].f, float_to_half_bits(pair[i].f), pair[i].h);
	for (unsigned h = 0; h < 0x7c00; h++)
		assert_int_equal(float_to_half_bits(half_bits_to_float((uint16_t)h)), h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_broken_kernel_is_named),
		cmocka_unit_test(sound_kernels_pass_in_any_order),
		cmocka_unit_test(blocks_and_threads_compute),
		cmocka_unit_test(a_stream_runs_when_somebody_waits),
		cmocka_unit_test(a_stream_that_another_does_not_wait_for_is_late),
		cmocka_unit_test(an_eager_stream_runs_at_once_and_a_lazy_one_when_asked),
		cmocka_unit_test(a_graph_replays_with_what_memory_holds_then),
		cmocka_unit_test(writing_beside_an_allocation_shows_when_it_is_freed),
		cmocka_unit_test(halves_are_the_devices_halves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
