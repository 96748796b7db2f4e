/* gpu.h: the words that every .cu file is written in. One source, two compilers: with nvcc they mean the device, with the host's
 * C++ compiler they mean the shim (tests/shim), which runs every thread of a block as a fiber and checks what it does.
 *
 *   KERNEL name(...)                a kernel; LAUNCH(name, grid, block, shared bytes, stream, ...) starts it, returns cudaError_t
 *   shared_at<T>(offset, count)     a typed piece of the block's dynamic shared memory: s[i], s.load16(i)
 *   load16, load16_once, load8, 4   vector loads from global memory, aligned; _once: streamed past the caches, for weights
 *   copy_async16, commit, wait<N>   cp.async: global to shared, in groups
 *   mma_*                           one warp-wide tensor-core product; fragments as PTX has them (tables below); mma_*_from: the sum begins at a
 *                                   number instead of what d holds
 *   select_bytes                    four of the eight bytes of two words
 *   sync_block, sync_warp, shuffle_xor, shuffle
 *
 * Blocks are one-dimensional. Every thread of a warp calls the warp-wide words (mma, shuffle, sync_warp) together. Floats are fused
 * only where fmaf() is written, on both sides. PTX is written in ptx.h and nowhere else.
 *
 * Fragments of D[16][8] += A[16][K] B[K][8], thread t = 4 g + q of the warp (g = 0..7, q = 0..3); a register holds 4 bytes:
 *   A   a0: row g      k 4/w q ..     a1: row g + 8, same k      a2: row g, k + half      a3: row g + 8, k + half
 *   B   b0: column g   k 4/w q ..     b1: k + half               (w: bytes of an element; half: K / 2)
 *   D   d0: row g, column 2q   d1: row g, 2q + 1   d2: row g + 8, 2q   d3: row g + 8, 2q + 1 */
#ifndef WEFT_CUDA_GPU_H
#define WEFT_CUDA_GPU_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { WARP = 32 };

#ifdef __CUDACC__
#include "ptx.h"
#else
#include "tests/shim/shim.h"
#endif

/* Both sides: where am I. */
DEVICE uint32_t lane(void)
{
	return threadIdx.x % WARP;
}

DEVICE uint32_t warp(void)
{
	return threadIdx.x / WARP;
}

DEVICE double bits_to_double(uint64_t u)
{
	double d;

	memcpy(&d, &u, 8);
	return d;
}

DEVICE uint64_t double_to_bits(double d)
{
	uint64_t u;

	memcpy(&u, &d, 8);
	return u;
}

/* The sum and the largest over the warp, the same bits in every lane: a butterfly, 16 first. */
DEVICE float warp_sum(float x)
{
	for (uint32_t w = WARP / 2; w; w /= 2)
		x += shuffle_xor(x, w);
	return x;
}

DEVICE float warp_max(float x)
{
	for (uint32_t w = WARP / 2; w; w /= 2) {
		float y = shuffle_xor(x, w);

		x = y > x ? y : x;
	}
	return x;
}

#endif
