/* shim.h: the words of kernels/cuda/gpu.h on the host, and the part of the CUDA runtime that the CUDA core uses.
 *
 * A launch runs its blocks one after the other in an order drawn from the seed; a block's threads are fibers, whose warps and lanes
 * take turns in an order drawn from the seed. What a device would do silently or now and then is a fault here, always:
 *   - shared memory: outside the array, unwritten in this block, two threads of which one writes with no barrier between them,
 *     touched between cp.async and its wait; misaligned vector access anywhere
 *   - global memory: outside an allocation (guard pages before and behind), never written (filled with NaNs), a pointer of the host
 *   - a barrier that some threads do not reach, warp-wide words that not all lanes call together, fibers that wait for each other
 * The first fault ends the launch; it is what cudaGetLastError() and every later call on that device return (shim_fault()
 * has the text).
 *
 * Streams do not run until somebody waits for them, so a copy that nobody waited for shows; or, told to be eager, at once, so that one that
 * should have waited for another stream shows. Graphs record and replay. */
#ifndef WEFT_SHIM_H
#define WEFT_SHIM_H

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>

#define KERNEL static void
#define DEVICE static inline
#define DEVICE_METHOD
#define BLOCK_OF(...)

struct dim3 {
	unsigned x, y, z;
	dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z)
	{
	}
};
struct uint2 {
	uint32_t x, y;
};
struct uint4 {
	uint32_t x, y, z, w;
};
extern dim3 threadIdx, blockIdx, blockDim, gridDim;

/* ---- the runtime ---- */

enum cudaError_t {
	cudaSuccess = 0,
	cudaErrorInvalidValue = 1,
	cudaErrorMemoryAllocation = 2,
	cudaErrorInvalidConfiguration = 9,
	cudaErrorNoDevice = 100,
	cudaErrorInvalidDevice = 101,
	cudaErrorNotReady = 600,
	cudaErrorLaunchFailure = 719
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice };
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2 };
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };

typedef struct shim_stream *cudaStream_t;
typedef struct shim_event *cudaEvent_t;
typedef struct shim_graph *cudaGraph_t;
typedef struct shim_graph *cudaGraphExec_t;

struct cudaDeviceProp {
	char name[256];
	size_t totalGlobalMem;
	int major, minor, multiProcessorCount;
	size_t sharedMemPerBlockOptin;
};

const char *cudaGetErrorString(cudaError_t e);
cudaError_t cudaGetLastError(void);
cudaError_t cudaGetDeviceCount(int *n);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device);
cudaError_t cudaMemGetInfo(size_t *free, size_t *total);
cudaError_t shim_malloc(void **p, size_t bytes);
template <typename T> static inline cudaError_t cudaMalloc(T **p, size_t bytes)
{
	return shim_malloc((void **)p, bytes);
}
cudaError_t cudaFree(void *p);
cudaError_t shim_malloc_host(void **p, size_t bytes);
template <typename T> static inline cudaError_t cudaMallocHost(T **p, size_t bytes)
{
	return shim_malloc_host((void **)p, bytes);
}
cudaError_t cudaFreeHost(void *p);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t s);
cudaError_t cudaMemsetAsync(void *to, int byte, size_t bytes, cudaStream_t s);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t s);
cudaError_t cudaStreamSynchronize(cudaStream_t s);
cudaError_t cudaStreamQuery(cudaStream_t s);
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned flags);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t e);
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s);
cudaError_t cudaEventSynchronize(cudaEvent_t e);
cudaError_t cudaDeviceSynchronize(void);
cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *x, cudaGraph_t g, unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t x, cudaStream_t s);
cudaError_t cudaGraphDestroy(cudaGraph_t g);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t x);

/* ---- for tests ---- */

#pragma GCC visibility push(default)
extern "C" {
void shim_seed(uint64_t seed);  /* of the orders to come */
const char *shim_fault(void);   /* NULL: none since shim_reset() */
void shim_reset(void);          /* forget the fault */
void shim_eager(int at_once);   /* streams run as soon as they can, not as late as they may */
void shim_memory(size_t bytes); /* of the pretended device; what is allocated counts against it */
void shim_devices(int n);
uint64_t shim_launches(void); /* kernels run so far, those of graphs included */
size_t shim_allocated(void);  /* bytes of the device in use */
}
#pragma GCC visibility pop

/* ---- launching ---- */

/* A word of a kernel's arguments: faults when it is the address of something that the host has mapped and the device has not. */
void shim_check_words(const char *kernel, const void *p, size_t bytes);
cudaError_t shim_launch(const char *kernel, dim3 grid, unsigned block, size_t shared, cudaStream_t s, std::function<void()> body);

template <typename... P, typename... A>
static inline cudaError_t shim_start(const char *name, void (*kernel)(P...), dim3 grid, unsigned block, size_t shared,
				     cudaStream_t s, A... a)
{
	(shim_check_words(name, &a, sizeof(a)), ...);
	return shim_launch(name, grid, block, shared, s, [=] { kernel(a...); });
}
#define LAUNCH(kernel, grid, block, shared, stream, ...) shim_start(#kernel, kernel, grid, block, shared, stream, __VA_ARGS__)

/* ---- shared memory ---- */

[[noreturn]] void shim_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
unsigned char *shim_shared(size_t offset, size_t bytes, size_t align);
void shim_read(const void *p, size_t bytes);
void shim_write(void *p, size_t bytes);

template <typename T> struct shared_ref {
	T *p;
	operator T() const
	{
		shim_read(p, sizeof(T));
		return *p;
	}
	T operator=(T v) const
	{
		shim_write(p, sizeof(T));
		return *p = v;
	}
	T operator=(const shared_ref &o) const
	{
		return *this = (T)o;
	}
	T operator+=(T v) const
	{
		return *this = (T)((T) * this + v);
	}
};

template <typename T> struct shared {
	T *p;
	size_t count;
	shared_ref<T> operator[](size_t i) const
	{
		if (i >= count)
			shim_fail("element %zu of a shared array of %zu", i, count);
		return shared_ref<T>{p + i};
	}
	template <typename V> V vector(size_t i) const
	{
		V v;

		if (i * sizeof(T) + sizeof(V) > count * sizeof(T))
			shim_fail("%zu bytes from element %zu of a shared array of %zu", sizeof(V), i, count);
		if ((uintptr_t)(p + i) % sizeof(V))
			shim_fail("a load of %zu bytes from shared memory is misaligned (element %zu)", sizeof(V), i);
		shim_read(p + i, sizeof(V));
		memcpy(&v, p + i, sizeof(V));
		return v;
	}
	uint4 load16(size_t i) const
	{
		return vector<uint4>(i);
	}
	uint2 load8(size_t i) const
	{
		return vector<uint2>(i);
	}
	uint32_t load4(size_t i) const
	{
		return vector<uint32_t>(i);
	}
};

template <typename T> DEVICE shared<T> shared_at(uint32_t offset, uint32_t count)
{
	return shared<T>{(T *)shim_shared(offset, count * sizeof(T), sizeof(T)), count};
}

void sync_block(void);
void sync_warp(void);
float shuffle_xor(float x, uint32_t mask);
float shuffle(float x, uint32_t from);

/* ---- global memory ---- */

template <typename V> DEVICE V shim_load(const void *p)
{
	V v;

	if ((uintptr_t)p % sizeof(V))
		shim_fail("a load of %zu bytes from global memory is misaligned (%p)", sizeof(V), p);
	memcpy(&v, p, sizeof(V));
	return v;
}

DEVICE uint4 load16(const void *p)
{
	return shim_load<uint4>(p);
}

DEVICE uint4 load16_once(const void *p)
{
	return shim_load<uint4>(p);
}

DEVICE uint32_t load4(const void *p)
{
	return shim_load<uint32_t>(p);
}

DEVICE uint2 load8(const void *p)
{
	return shim_load<uint2>(p);
}

void shim_copy_async(unsigned char *to, const void *src, bool keep);
DEVICE void copy_async16(const shared<unsigned char> &to, uint32_t at, const void *src, bool keep)
{
	if (at + 16 > to.count)
		shim_fail("cp.async to byte %u of a shared array of %zu", at, to.count);
	if ((uintptr_t)(to.p + at) % 16 || (keep && (uintptr_t)src % 16))
		shim_fail("cp.async is misaligned (from %p to byte %u)", src, at);
	shim_copy_async(to.p + at, src, keep);
}
void copy_commit(void);
void shim_copy_wait(int groups);
template <int N> DEVICE void copy_wait(void)
{
	shim_copy_wait(N);
}

/* ---- numbers ---- */

DEVICE float bits_to_float(uint32_t u)
{
	float f;

	memcpy(&f, &u, 4);
	return f;
}

DEVICE uint32_t float_to_bits(float f)
{
	uint32_t u;

	memcpy(&u, &f, 4);
	return u;
}

float half_bits_to_float(uint16_t h);
uint16_t float_to_half_bits(float f);

DEVICE uint32_t select_bytes(uint32_t low, uint32_t high, uint32_t which)
{
	uint64_t both = (uint64_t)high << 32 | low;
	uint32_t out = 0;

	for (unsigned i = 0; i < 4; i++)
		out |= (uint32_t)(both >> (which >> 4 * i & 7) * 8 & 255) << 8 * i;
	return out;
}

DEVICE uint32_t pack_half(float low, float high)
{
	return (uint32_t)float_to_half_bits(low) | (uint32_t)float_to_half_bits(high) << 16;
}

DEVICE uint16_t float_to_bf16_bits(float f)
{
	uint32_t u = float_to_bits(f);

	if ((u & 0x7fffffff) > 0x7f800000)
		return 0x7fff;
	return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

DEVICE int32_t round_to_int(float f)
{
	return f != f ? 0 : (int32_t)lrintf(f);
}

DEVICE float power_of_two(float x)
{
	return exp2f(x);
}

/* ---- tensor cores ---- */

void mma_u8s8(int32_t d[4], const uint32_t a[4], const uint32_t b[2]);
void mma_s8s8(int32_t d[4], const uint32_t a[4], const uint32_t b[2]);
DEVICE void mma_u8s8_from(int32_t d[4], int32_t start, const uint32_t a[4], const uint32_t b[2])
{
	d[0] = d[1] = d[2] = d[3] = start;
	mma_u8s8(d, a, b);
}
DEVICE void mma_s8s8_from(int32_t d[4], int32_t start, const uint32_t a[4], const uint32_t b[2])
{
	d[0] = d[1] = d[2] = d[3] = start;
	mma_s8s8(d, a, b);
}
void mma_f16(float d[4], const uint32_t a[4], const uint32_t b[2]);
void mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2]);

#endif
