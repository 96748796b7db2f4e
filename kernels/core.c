/* core.c: names, and the choice of instruction set. */
#include "config.h"
#include "core.h"

#include <stdlib.h>
#include <string.h>

#ifdef HAVE_X86
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

static const char *const quant_names[] = {
	[CORE_QUANT_NONE] = "none",
	[CORE_QUANT_Q8] = "q8",
	[CORE_QUANT_Q4] = "q4",
	[CORE_QUANT_NF4] = "nf4",
};

const char *core_quant_name(enum core_quant q)
{
	return (unsigned)q < sizeof(quant_names) / sizeof(quant_names[0]) ? quant_names[q] : "?";
}

int core_quant_parse(const char *name, enum core_quant *out)
{
	for (unsigned i = 0; i < sizeof(quant_names) / sizeof(quant_names[0]); i++)
		if (!strcmp(name, quant_names[i])) {
			*out = (enum core_quant)i;
			return CORE_OK;
		}
	return CORE_EINVAL;
}

int core_factors_parse(const char *name, enum core_factors *out)
{
	static const char *const names[] = {
		[CORE_FACTORS_AUTO] = "auto",
		[CORE_FACTORS_EXACT] = "exact",
		[CORE_FACTORS_Q8] = "q8",
	};

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcmp(name, names[i])) {
			*out = (enum core_factors)i;
			return CORE_OK;
		}
	return CORE_EINVAL;
}

static const char *const kv_type_names[] = {
	[CORE_KV_AUTO] = "auto",
	[CORE_KV_F16] = "f16",
	[CORE_KV_F32] = "f32",
	[CORE_KV_INT8] = "int8",
};

const char *core_kv_type_name(enum core_kv_type t)
{
	return (unsigned)t < sizeof(kv_type_names) / sizeof(kv_type_names[0]) ? kv_type_names[t] : "?";
}

int core_kv_type_parse(const char *name, enum core_kv_type *out)
{
	for (unsigned i = 0; i < sizeof(kv_type_names) / sizeof(kv_type_names[0]); i++)
		if (!strcmp(name, kv_type_names[i])) {
			*out = (enum core_kv_type)i;
			return CORE_OK;
		}
	return CORE_EINVAL;
}

static const char *const cpu_names[] = {
	[CORE_CPU_PLAIN] = "plain",
	[CORE_CPU_AVX2] = "avx2",
	[CORE_CPU_AVX512] = "avx512",
	[CORE_CPU_AMX] = "amx",
};

const char *core_cpu_name(enum core_cpu cpu)
{
	return (unsigned)cpu < sizeof(cpu_names) / sizeof(cpu_names[0]) ? cpu_names[cpu] : "?";
}

#ifdef HAVE_X86
/* Not every compiler that has the check by name knows this name. */
static bool has_f16c(void)
{
	unsigned a, b, c, d;

	return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

#ifdef HAVE_AMX
/* Linux gives tiles on request, to the whole process; the state of every thread grows with their first use. */
static bool may_use_tiles(void)
{
	enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };

	return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

static bool has_tiles(void)
{
	enum { TILE = 1 << 24, INT8 = 1 << 25, BF16 = 1 << 22 };
	unsigned a, b, c, d;

	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & TILE) && (d & INT8) && (d & BF16) && __builtin_cpu_supports("avx512bf16") &&
	       __builtin_cpu_supports("avx512vbmi");
}

static const char *amx_lacks(const char *avx512)
{
	return avx512		 ? avx512
	       : !has_tiles()	 ? "this machine lacks AMX TILE, INT8 or BF16, or AVX-512 BF16 or VBMI"
	       : may_use_tiles() ? NULL
				 : "the system does not give this process AMX tiles";
}
#endif

/* NULL: this machine and this build can run it; else the reason why not. The compiler's check asks cpuid and xgetbv, so a
 * kernel that does not save the wide registers counts as a machine that lacks them. */
static const char *cpu_lacks(enum core_cpu cpu)
{
	switch (cpu) {
	case CORE_CPU_PLAIN:
		return NULL;
#ifdef HAVE_X86
	case CORE_CPU_AVX2:
		__builtin_cpu_init();
		return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c()
			       ? NULL : "this machine lacks AVX2, FMA or F16C";
	case CORE_CPU_AVX512:
		__builtin_cpu_init();
		return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
				       __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
				       __builtin_cpu_supports("avx512vnni")
			       ? NULL
			       : "this machine lacks AVX-512 F, BW, VL, DQ or VNNI";
#else
	case CORE_CPU_AVX2:
	case CORE_CPU_AVX512:
		return "this build is not for x86-64";
#endif
	case CORE_CPU_AMX:
#ifdef HAVE_AMX
		return amx_lacks(cpu_lacks(CORE_CPU_AVX512));
#else
		return "this build has no AMX kernels";
#endif
	}
	return "no such instruction set";
}

int core_cpu_pick(enum core_cpu *out, struct core_error *err)
{
	const char *want = getenv("WEFT_CPU");

	if (!want || !*want) {
		for (*out = CORE_CPU_AMX; cpu_lacks(*out); (*out)--)
			;
		return CORE_OK;
	}
	for (unsigned i = 0; i < sizeof(cpu_names) / sizeof(cpu_names[0]); i++) {
		const char *why;

		if (strcmp(want, cpu_names[i]))
			continue;
		why = cpu_lacks((enum core_cpu)i);
		if (why)
			return core_fail(err, CORE_EUNSUPPORTED, "WEFT_CPU=%s: %s", want, why);
		*out = (enum core_cpu)i;
		return CORE_OK;
	}
	return core_fail(err, CORE_EUNSUPPORTED, "WEFT_CPU=%s: expected plain, avx2, avx512 or amx", want);
}
