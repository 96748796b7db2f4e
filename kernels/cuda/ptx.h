/* ptx.h: the words of gpu.h on a device. The only file with PTX in it; tests/shim/shim.h means the same on the host. */
#ifndef WEFT_CUDA_PTX_H
#define WEFT_CUDA_PTX_H

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define KERNEL static __global__ void
#define DEVICE static __device__ __forceinline__
#define DEVICE_METHOD __device__ __forceinline__
#define BLOCK_OF(...) __launch_bounds__(__VA_ARGS__) /* threads, and perhaps how many blocks an SM shall hold at least */

/* ---- launching ---- */

template <typename... P, typename... A>
static inline cudaError_t launch_kernel(void (*kernel)(P...), dim3 grid, unsigned block, size_t shared, cudaStream_t stream, A... a)
{
	if (shared > 48 << 10) {
		cudaError_t rc =
			cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);

		if (rc != cudaSuccess)
			return rc;
	}
	kernel<<<grid, block, shared, stream>>>(a...);
	return cudaGetLastError();
}
#define LAUNCH(kernel, grid, block, shared, stream, ...) launch_kernel(kernel, grid, block, shared, stream, __VA_ARGS__)

/* ---- shared memory ---- */

extern __shared__ __align__(128) unsigned char block_memory[];

template <typename T> struct shared {
	T *p;
	__device__ __forceinline__ T &operator[](uint32_t i) const
	{
		return p[i];
	}
	/* 16 bytes from element i on; 16-byte aligned. */
	__device__ __forceinline__ uint4 load16(uint32_t i) const
	{
		return *reinterpret_cast<const uint4 *>(p + i);
	}
	__device__ __forceinline__ uint2 load8(uint32_t i) const
	{
		return *reinterpret_cast<const uint2 *>(p + i);
	}
	__device__ __forceinline__ uint32_t load4(uint32_t i) const
	{
		return *reinterpret_cast<const uint32_t *>(p + i);
	}
};

template <typename T> DEVICE shared<T> shared_at(uint32_t offset, uint32_t count)
{
	return shared<T>{reinterpret_cast<T *>(block_memory + offset)};
}

DEVICE void sync_block(void)
{
	__syncthreads();
}

DEVICE void sync_warp(void)
{
	__syncwarp();
}

DEVICE float shuffle_xor(float x, uint32_t mask)
{
	return __shfl_xor_sync(0xffffffff, x, (int)mask);
}

DEVICE float shuffle(float x, uint32_t from)
{
	return __shfl_sync(0xffffffff, x, (int)from);
}

/* ---- global memory ---- */

DEVICE uint4 load16(const void *p)
{
	return *static_cast<const uint4 *>(p);
}

DEVICE uint32_t load4(const void *p)
{
	return *static_cast<const uint32_t *>(p);
}

DEVICE uint2 load8(const void *p)
{
	return *static_cast<const uint2 *>(p);
}

/* A policy for load16_once: what it loads is the first to leave L2. Pure, so that a loop makes it once. */
DEVICE uint64_t policy_once(void)
{
	uint64_t policy;

	asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
	return policy;
}

/* Read once by the whole grid: not kept in L1, the first to leave L2. */
DEVICE uint4 load16_once(const void *p)
{
	uint4 v;

	asm volatile("ld.global.nc.L1::no_allocate.L2::cache_hint.v4.u32 {%0, %1, %2, %3}, [%4], %5;"
		     : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
		     : "l"(p), "l"(policy_once()));
	return v;
}

/* keep false: zeros are written and src is not read. */
DEVICE void copy_async16(const shared<unsigned char> &to, uint32_t at, const void *src, bool keep)
{
	uint32_t dst = (uint32_t)__cvta_generic_to_shared(to.p + at), bytes = keep ? 16 : 0;

	asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(dst), "l"(src), "r"(bytes) : "memory");
}

DEVICE void copy_commit(void)
{
	asm volatile("cp.async.commit_group;" ::: "memory");
}

/* All groups but the last N have arrived, for this thread; sync_block() makes it so for all. */
template <int N> DEVICE void copy_wait(void)
{
	asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/* ---- numbers ---- */

DEVICE float half_bits_to_float(uint16_t h)
{
	return __half2float(__ushort_as_half(h));
}

DEVICE uint16_t float_to_half_bits(float f)
{
	return __half_as_ushort(__float2half_rn(f));
}

DEVICE uint32_t pack_half(float low, float high)
{
	return (uint32_t)float_to_half_bits(low) | (uint32_t)float_to_half_bits(high) << 16;
}

DEVICE uint16_t float_to_bf16_bits(float f)
{
	return __bfloat16_as_ushort(__float2bfloat16_rn(f));
}

DEVICE float bits_to_float(uint32_t u)
{
	return __uint_as_float(u);
}

DEVICE uint32_t float_to_bits(float f)
{
	return __float_as_uint(f);
}

/* Byte i of the result: which[i] of low's four bytes and high's four; which: a nibble each, 0 to 7. */
DEVICE uint32_t select_bytes(uint32_t low, uint32_t high, uint32_t which)
{
	return __byte_perm(low, high, which);
}

DEVICE int32_t round_to_int(float f)
{
	return __float2int_rn(f);
}

/* 2^x, to about 2 ulp; 0 for -infinity. */
DEVICE float power_of_two(float x)
{
	float y;

	asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
	return y;
}

/* ---- tensor cores ---- */

/* K = 32: unsigned times signed bytes; exact. */
DEVICE void mma_u8s8(int32_t d[4], const uint32_t a[4], const uint32_t b[2])
{
	asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
	    : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
	    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* d = start + product, K = 32: bytes of a and b. */
DEVICE void mma_u8s8_from(int32_t d[4], int32_t start, const uint32_t a[4], const uint32_t b[2])
{
	asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %10, %10, %10};"
	    : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
	    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(start));
}

DEVICE void mma_s8s8_from(int32_t d[4], int32_t start, const uint32_t a[4], const uint32_t b[2])
{
	asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %10, %10, %10};"
	    : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
	    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(start));
}

DEVICE void mma_s8s8(int32_t d[4], const uint32_t a[4], const uint32_t b[2])
{
	asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
	    : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
	    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* K = 16, f32 sums. */
DEVICE void mma_f16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
	asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
	    : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
	    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

DEVICE void mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
	asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
	    : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
	    : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#endif
