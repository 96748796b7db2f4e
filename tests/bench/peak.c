/* peak.c: the instructions are written out, so that this file needs no flags of the compiler's and runs wherever nobody calls them. */
#include "config.h"

#include <string.h>

#include "kernels/pool.h"
#include "measure.h"
#include "peak.h"

/* 16 rows of 64 bytes: a tile's worth of values that are neither zero nor subnormal, whatever they are read as. */
static _Alignas(64) unsigned char values[1024];

struct kind {
	const char *by;
	double ops;		/* of one turn */
	uint64_t turns;		/* of a part: about a millisecond */
	void (*run)(uint64_t turns);
};

#ifdef HAVE_X86
#define VECTORS                                                                                                                            \
	"xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"
/* Twelve sums that do not wait for each other: enough for two instructions a cycle that take five cycles each. */
#define TWELVE(do) do(4) do(5) do(6) do(7) do(8) do(9) do(10) do(11) do(12) do(13) do(14) do(15)
#define LOOP(sums) "1:\n" sums "dec %0\njnz 1b\nvzeroupper\n"

#define ZERO(i) "vpxor %%xmm" #i ", %%xmm" #i ", %%xmm" #i "\n"
#define RUN(name, load, sums)                                                                                                              \
	static void name(uint64_t turns)                                                                                                   \
	{                                                                                                                                  \
		__asm__ volatile(load TWELVE(ZERO) LOOP(sums) : "+r"(turns) : "r"(values) : "cc", "memory", VECTORS);                      \
	}

#define LOAD_WIDE "vmovups (%1), %%zmm0\nvmovups 64(%1), %%zmm1\n"
#define LOAD "vmovups (%1), %%ymm0\nvmovups 64(%1), %%ymm1\n"
#define DPBUSD(i) "vpdpbusd %%zmm1, %%zmm0, %%zmm" #i "\n"
#define FMA_WIDE(i) "vfmadd231ps %%zmm1, %%zmm0, %%zmm" #i "\n"
#define FMA(i) "vfmadd231ps %%ymm1, %%ymm0, %%ymm" #i "\n"
RUN(vnni, LOAD_WIDE, TWELVE(DPBUSD))
RUN(fma_wide, LOAD_WIDE, TWELVE(FMA_WIDE))
RUN(fma_narrow, LOAD, TWELVE(FMA))

/* As matmul_avx2.c has it: pairs in 16 bits, two of them added, then to 32 bits. */
#define PAIRS(i)                                                                                                                           \
	"vpmaddubsw %%ymm1, %%ymm0, %%ymm2\nvpmaddubsw %%ymm0, %%ymm1, %%ymm3\nvpaddw %%ymm2, %%ymm3, %%ymm2\n"                            \
	"vpmaddwd %%ymm0, %%ymm2, %%ymm2\nvpaddd %%ymm2, %%ymm" #i ", %%ymm" #i "\n"
RUN(maddubs, LOAD, TWELVE(PAIRS))

static const struct kind kind_vnni = {"vpdpbusd, 512 bits", 12 * 64 * 2, 200000, vnni},
			 kind_fma_wide = {"fma, 512 bits", 12 * 16 * 2, 200000, fma_wide},
			 kind_fma = {"fma, 256 bits", 12 * 8 * 2, 200000, fma_narrow},
			 kind_maddubs = {"vpmaddubsw, 256 bits", 12 * 64 * 2, 50000, maddubs};
#endif

#ifdef HAVE_AMX
struct tile_config {
	uint8_t palette, start_row, reserved[14];
	uint16_t bytes[16];
	uint8_t rows[16];
};

/* Tiles 4 to 7 are values, 0 to 3 sums: four products of 16 cycles each hide what one takes. */
static void tiles_begin(void)
{
	struct tile_config c = {.palette = 1};

	for (int i = 0; i < 8; i++) {
		c.rows[i] = 16;
		c.bytes[i] = 64;
	}
	__asm__ volatile("ldtilecfg %0" : : "m"(c));
	__asm__ volatile("tilezero %%tmm0\ntilezero %%tmm1\ntilezero %%tmm2\ntilezero %%tmm3\n"
			 "tileloadd (%0,%1,1), %%tmm4\ntileloadd (%0,%1,1), %%tmm5\n"
			 "tileloadd (%0,%1,1), %%tmm6\ntileloadd (%0,%1,1), %%tmm7\n"
			 :
			 : "r"(values), "r"((size_t)64)
			 : "memory");
}

#define TILES(name, product)                                                                                                               \
	static void name(uint64_t turns)                                                                                                   \
	{                                                                                                                                  \
		tiles_begin();                                                                                                             \
		__asm__ volatile("1:\n" product " %%tmm6, %%tmm4, %%tmm0\n" product " %%tmm7, %%tmm4, %%tmm1\n" product                    \
				 " %%tmm6, %%tmm5, %%tmm2\n" product " %%tmm7, %%tmm5, %%tmm3\ndec %0\njnz 1b\ntilerelease\n"              \
				 : "+r"(turns)                                                                                             \
				 :                                                                                                         \
				 : "cc", "memory");                                                                                        \
	}
TILES(tiles_int8, "tdpbssd")
TILES(tiles_bf16, "tdpbf16ps")

static const struct kind kind_int8 = {"int8 tiles", 4.0 * 16 * 16 * 64 * 2, 40000, tiles_int8},
			 kind_bf16 = {"bf16 tiles", 4.0 * 16 * 16 * 32 * 2, 40000, tiles_bf16};
#endif

enum { PARTS = 16, TURNS = 7 };

static void part(void *arg, uint32_t i)
{
	const struct kind *k = arg;

	k->run(k->turns);
}

static struct peak measure(const struct kind *k, int threads)
{
	struct pool *p = NULL;
	double t[TURNS];

	if (!k)
		return (struct peak){0};
	must(pool_new(&p, threads, &why));
	for (int i = 0; i < TURNS; i++) {
		t[i] = now();
		pool_run(p, part, (void *)k, (uint32_t)threads * PARTS);
		t[i] = now() - t[i];
	}
	pool_free(p);
	median(t, TURNS);
	return (struct peak){k->by, k->ops * (double)k->turns * threads * PARTS / t[1]}; /* as read_bandwidth(): nearly the best */
}

struct peaks peaks_measure(enum core_cpu cpu, int threads)
{
	static const struct kind *const ints[] = {
#ifdef HAVE_X86
		[CORE_CPU_AVX2] = &kind_maddubs, [CORE_CPU_AVX512] = &kind_vnni,
#endif
#ifdef HAVE_AMX
		[CORE_CPU_AMX] = &kind_int8,
#else
		[CORE_CPU_AMX] = NULL,
#endif
	}, *const floats[] = {
#ifdef HAVE_X86
		[CORE_CPU_AVX2] = &kind_fma, [CORE_CPU_AVX512] = &kind_fma_wide,
#endif
#ifdef HAVE_AMX
		[CORE_CPU_AMX] = &kind_bf16,
#else
		[CORE_CPU_AMX] = NULL,
#endif
	};

	for (size_t i = 0; i < sizeof(values); i++) /* 0x3d.. as bf16 and as f32: a few hundredths */
		values[i] = i % 2 ? 0x3d : (unsigned char)(i * 37);
	return (struct peaks){measure(ints[cpu], threads), measure(floats[cpu], threads)};
}
