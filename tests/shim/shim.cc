/* shim.cc: fibers, barriers, warp-wide words and shared memory of shim.h. The runtime is in runtime.cc. */
#include "internal.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <csignal>
#include <sys/mman.h>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define ASAN_FIBERS 1
#else
#define ASAN_FIBERS 0
#endif
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace
{

enum { STACK = (ASAN_FIBERS ? 256 : 64) << 10, MAX_THREADS = 1024, MAX_SHARED = 227 << 10, LANES = 32 };
enum state { READY, AT_WARP, AT_BLOCK, DONE };

/* ---- switching ---- */

struct context {
#if defined(__x86_64__)
	void *sp;
#else
	ucontext_t uc;
#endif
	void *fake; /* of the address sanitizer */
};

struct pending { /* one cp.async on its way */
	unsigned char *to;
	const void *from;
	bool keep;
	uint32_t group;
};

struct fiber {
	context at;
	unsigned char *stack;
	state s;
	uint32_t tid;
	std::vector<pending> copies;
	uint32_t group; /* groups committed */
};

struct warp_state {
	void *arg[LANES];
	void (*op)(void *const arg[]);
	const char *word;
	unsigned arrived, alive;
	uint32_t epoch;
};

/* What is known of one byte of shared memory. */
struct shadow {
	uint16_t writer, reader;
	bool written, pending; /* in this block; by cp.async, not waited for */
	bool lanes, warps; /* more readers than `reader`: of its warp since its last barrier; of other warps in this block epoch */
	uint32_t w_block, w_warp, r_block, r_warp; /* epochs of the last write and read */
};

struct {
	const char *kernel;
	std::function<void()> *body;
	fiber fibers[MAX_THREADS];
	warp_state warps[MAX_THREADS / LANES];
	unsigned threads, n_warps, alive, at_block;
	uint32_t epoch; /* barriers of the block so far */
	size_t shared_bytes;
	fiber *now;
	context main;
	const void *main_stack;
	size_t main_stack_bytes;
	bool running, failed;
} g;
alignas(128) unsigned char block_memory[MAX_SHARED];
shadow shadows[MAX_SHARED];
uint64_t seed_state = 1;
char fault_text[600];
bool have_fault;

uint32_t draw(uint32_t n)
{
	seed_state ^= seed_state << 13;
	seed_state ^= seed_state >> 7;
	seed_state ^= seed_state << 17;
	return (uint32_t)((seed_state >> 33) % n);
}

void shuffle_list(uint32_t *list, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		list[i] = i;
	for (uint32_t i = n; i > 1; i--) {
		uint32_t k = draw(i), t = list[k];

		list[k] = list[i - 1];
		list[i - 1] = t;
	}
}

#if defined(__x86_64__)
extern "C" void shim_switch(void **save, void *to);
asm(".text\n"
    ".globl shim_switch\n"
    ".hidden shim_switch\n"
    ".type shim_switch, @function\n"
    "shim_switch:\n"
    "	pushq %rbp\n	pushq %rbx\n	pushq %r12\n	pushq %r13\n	pushq %r14\n	pushq %r15\n"
    "	movq %rsp, (%rdi)\n"
    "	movq %rsi, %rsp\n"
    "	popq %r15\n	popq %r14\n	popq %r13\n	popq %r12\n	popq %rbx\n	popq %rbp\n"
    "	ret\n"
    ".size shim_switch, . - shim_switch\n");
#endif

void enter(void);

void prepare(fiber *f)
{
	if (!f->stack) {
		f->stack = (unsigned char *)mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (f->stack == MAP_FAILED)
			abort();
	}
#if ASAN_FIBERS
	__asan_unpoison_memory_region(f->stack, STACK); /* a launch that ended with a fault left frames behind */
#endif
#if defined(__x86_64__)
	void **sp = (void **)(f->stack + STACK - 64);

	*--sp = NULL; /* where enter() would return to */
	*--sp = (void *)enter;
	for (int i = 0; i < 6; i++)
		*--sp = NULL;
	f->at.sp = sp;
#else
	getcontext(&f->at.uc);
	f->at.uc.uc_stack.ss_sp = f->stack;
	f->at.uc.uc_stack.ss_size = STACK;
	f->at.uc.uc_link = NULL;
	makecontext(&f->at.uc, enter, 0);
#endif
	f->at.fake = NULL;
}

void go(context *from, context *to, const void *stack, size_t bytes, bool last)
{
#if ASAN_FIBERS
	__sanitizer_start_switch_fiber(last ? NULL : &from->fake, stack, bytes);
#endif
#if defined(__x86_64__)
	shim_switch(&from->sp, to->sp);
#else
	swapcontext(&from->uc, &to->uc);
#endif
#if ASAN_FIBERS
	const void *old;
	size_t old_bytes;

	__sanitizer_finish_switch_fiber(from->fake, &old, &old_bytes);
	if (from == &g.main)
		return;
	g.main_stack = old;
	g.main_stack_bytes = old_bytes;
#endif
}

/* Back to the scheduler. */
void leave(bool last)
{
	go(&g.now->at, &g.main, g.main_stack, g.main_stack_bytes, last);
}

void run(fiber *f)
{
	g.now = f;
	threadIdx = dim3(f->tid);
	go(&g.main, &f->at, f->stack, STACK, false);
	g.now = NULL;
}

void enter(void)
{
#if ASAN_FIBERS
	__sanitizer_finish_switch_fiber(NULL, &g.main_stack, &g.main_stack_bytes);
#endif
	(*g.body)();
	g.now->s = DONE;
	g.alive--;
	g.warps[g.now->tid / LANES].alive--;
	leave(true);
	abort();
}

/* ---- a block ---- */

void start_block(void)
{
	memset(block_memory, 0xff, g.shared_bytes);
	memset((void *)shadows, 0, g.shared_bytes * sizeof(shadows[0]));
	g.alive = g.threads;
	g.at_block = 0;
	g.epoch = 1;
	for (unsigned i = 0; i < g.threads; i++) {
		g.fibers[i].s = READY;
		g.fibers[i].tid = i;
		g.fibers[i].group = 0;
		g.fibers[i].copies.clear();
		prepare(&g.fibers[i]);
	}
	for (unsigned i = 0; i < g.n_warps; i++) {
		g.warps[i] = warp_state();
		g.warps[i].alive = LANES;
		g.warps[i].epoch = 1;
	}
}

void fault_from_scheduler(const char *text)
{
	snprintf(fault_text, sizeof(fault_text), "%s, block (%u,%u,%u): %s", g.kernel, blockIdx.x, blockIdx.y, blockIdx.z, text);
	have_fault = g.failed = true;
}

/* One turn of a warp: its lanes, from a drawn one on, each until it waits. true: somebody moved. */
bool turn(unsigned w)
{
	unsigned first = draw(LANES);
	bool moved = false;

	for (unsigned i = 0; i < LANES && !g.failed; i++) {
		fiber *f = &g.fibers[w * LANES + (first + i) % LANES];

		if (f->s != READY)
			continue;
		run(f);
		moved = true;
	}
	return moved;
}

void run_block(void)
{
	uint32_t order[MAX_THREADS / LANES];

	start_block();
	while (g.alive && !g.failed) {
		bool moved = false;

		shuffle_list(order, g.n_warps);
		for (unsigned i = 0; i < g.n_warps && !g.failed; i++)
			for (unsigned turns = 1 + draw(16); turns && !g.failed && turn(order[i]); turns--)
				moved = true;
		if (moved || g.failed)
			continue;
		if (g.at_block)
			fault_from_scheduler(g.at_block < g.threads ? "a block barrier that some threads never reach"
								    : "a block barrier that does not open");
		else
			fault_from_scheduler("warp-wide words that some lanes never call");
	}
}

/* ---- warp-wide words ---- */

void open_warp(warp_state *w, unsigned index)
{
	w->arrived = 0;
	w->op = NULL;
	for (unsigned i = 0; i < LANES; i++)
		g.fibers[index * LANES + i].s = READY;
}

/* All 32 lanes bring an argument; the last to come computes for all of them. */
void together(const char *word, void (*op)(void *const arg[]), void *arg)
{
	unsigned index = g.now->tid / LANES;
	warp_state *w = &g.warps[index];

	if (w->arrived && w->op != op)
		shim_fail("lanes of a warp call %s and %s at the same time", w->word, word);
	w->op = op;
	w->word = word;
	w->arg[g.now->tid % LANES] = arg;
	if (++w->arrived == LANES) {
		op(w->arg);
		open_warp(w, index);
		return;
	}
	if (w->alive < LANES)
		shim_fail("%s after lanes of the warp have ended", word);
	g.now->s = AT_WARP;
	leave(false);
}

struct shuffle_arg {
	float x;
	uint32_t from;
	float got;
};

void shuffle_op(void *const arg[])
{
	for (unsigned i = 0; i < LANES; i++) {
		shuffle_arg *a = (shuffle_arg *)arg[i];

		a->got = ((shuffle_arg *)arg[a->from % LANES])->x;
	}
}

void warp_barrier_op(void *const arg[])
{
	g.warps[g.now->tid / LANES].epoch++;
}

struct mma_arg {
	void *d;
	const uint32_t *a, *b;
};

unsigned byte_of(uint32_t r, unsigned i)
{
	return r >> 8 * i & 255;
}

/* Both operands as whole matrices, from the registers that hold them: gpu.h's table. */
int32_t unsigned_byte(uint32_t r, unsigned i)
{
	return (int32_t)byte_of(r, i);
}

int32_t signed_byte(uint32_t r, unsigned i)
{
	return (int8_t)byte_of(r, i);
}

void mma_bytes(void *const arg[], int32_t (*value)(uint32_t, unsigned))
{
	int32_t a[16][32], b[8][32];

	for (unsigned t = 0; t < LANES; t++) {
		const mma_arg *m = (const mma_arg *)arg[t];

		for (unsigned r = 0; r < 4; r++)
			for (unsigned i = 0; i < 4; i++)
				a[t / 4 + r % 2 * 8][r / 2 * 16 + t % 4 * 4 + i] = value(m->a[r], i);
		for (unsigned r = 0; r < 2; r++)
			for (unsigned i = 0; i < 4; i++)
				b[t / 4][r * 16 + t % 4 * 4 + i] = signed_byte(m->b[r], i);
	}
	for (unsigned t = 0; t < LANES; t++)
		for (unsigned r = 0; r < 4; r++) {
			int32_t sum = 0;

			for (unsigned k = 0; k < 32; k++)
				sum += a[t / 4 + r / 2 * 8][k] * b[t % 4 * 2 + r % 2][k];
			((int32_t *)((const mma_arg *)arg[t])->d)[r] += sum;
		}
}

void mma_u8s8_op(void *const arg[])
{
	mma_bytes(arg, unsigned_byte);
}

void mma_s8s8_op(void *const arg[])
{
	mma_bytes(arg, signed_byte);
}

float bf16_bits_to_float(uint16_t h)
{
	return bits_to_float((uint32_t)h << 16);
}

/* Sums in double, rounded once: a device keeps some bits fewer, in an order of its own that does not depend on row or column. */
void mma_float(void *const arg[], float (*value)(uint16_t))
{
	double a[16][16], b[8][16];

	for (unsigned t = 0; t < LANES; t++) {
		const mma_arg *m = (const mma_arg *)arg[t];

		for (unsigned r = 0; r < 4; r++)
			for (unsigned i = 0; i < 2; i++)
				a[t / 4 + r % 2 * 8][r / 2 * 8 + t % 4 * 2 + i] = value((uint16_t)(m->a[r] >> 16 * i));
		for (unsigned r = 0; r < 2; r++)
			for (unsigned i = 0; i < 2; i++)
				b[t / 4][r * 8 + t % 4 * 2 + i] = value((uint16_t)(m->b[r] >> 16 * i));
	}
	for (unsigned t = 0; t < LANES; t++)
		for (unsigned r = 0; r < 4; r++) {
			float *d = (float *)((const mma_arg *)arg[t])->d + r;
			double sum = *d;

			for (unsigned k = 0; k < 16; k++)
				sum += a[t / 4 + r / 2 * 8][k] * b[t % 4 * 2 + r % 2][k];
			*d = (float)sum;
		}
}

void mma_f16_op(void *const arg[])
{
	mma_float(arg, half_bits_to_float);
}

void mma_bf16_op(void *const arg[])
{
	mma_float(arg, bf16_bits_to_float);
}

/* ---- shared memory ---- */

/* Another thread's access in this block epoch that no barrier separates from ours. */
bool meets(uint32_t other, uint32_t block, uint32_t warp_epoch)
{
	uint32_t me = g.now->tid;

	if (other == me || block != g.epoch)
		return false;
	return other / LANES != me / LANES || warp_epoch == g.warps[me / LANES].epoch;
}

void note_read(shadow *s)
{
	uint32_t me = g.now->tid, epoch = g.warps[me / LANES].epoch;

	if (s->r_block != g.epoch) {
		s->lanes = s->warps = false;
	} else if (s->reader / LANES != me / LANES) {
		s->warps = true;
	} else if (s->r_warp != epoch) {
		s->lanes = false;
	} else if (s->reader != me) {
		s->lanes = true;
	}
	s->reader = (uint16_t)me;
	s->r_block = g.epoch;
	s->r_warp = epoch;
}

bool read_meets(const shadow *s)
{
	uint32_t me = g.now->tid;

	if (s->r_block != g.epoch)
		return false;
	return s->warps || meets(s->reader, s->r_block, s->r_warp) ||
	       (s->lanes && s->reader / LANES == me / LANES && s->r_warp == g.warps[me / LANES].epoch);
}

void note_write(unsigned char *p, size_t bytes, const char *what)
{
	uint32_t me = g.now->tid;

	for (size_t i = 0; i < bytes; i++) {
		size_t at = (size_t)(p - block_memory) + i;
		shadow *s = &shadows[at];

		if (s->pending)
			shim_fail("%s byte %zu of shared memory, where a cp.async is on its way", what, at);
		if (s->written && meets(s->writer, s->w_block, s->w_warp))
			shim_fail("race: %s byte %zu of shared memory, thread %u wrote it with no barrier between", what, at,
				  s->writer);
		if (read_meets(s) && s->reader == me)
			shim_fail("race: %s byte %zu of shared memory, other threads read it with no barrier between", what, at);
		if (read_meets(s))
			shim_fail("race: %s byte %zu of shared memory, thread %u read it with no barrier between", what, at,
				  s->reader);
		s->written = true;
		s->writer = (uint16_t)me;
		s->w_block = g.epoch;
		s->w_warp = g.warps[me / LANES].epoch;
	}
}

/* ---- faults ---- */

void on_segv(int signal, siginfo_t *info, void *context)
{
	if (!g.now) {
		struct sigaction dfl;

		memset(&dfl, 0, sizeof(dfl));
		dfl.sa_handler = SIG_DFL;
		sigaction(signal, &dfl, NULL);
		return; /* and again, for the debugger */
	}
	shim_fail("global memory at %p, %s", info->si_addr, shim_where(info->si_addr));
}

} // namespace

void shim_fail(const char *fmt, ...)
{
	size_t at;
	va_list args;

	if (!g.now) {
		fprintf(stderr, "shim: %s outside a kernel\n", fmt);
		abort();
	}
	at = (size_t)snprintf(fault_text, sizeof(fault_text), "%s, block (%u,%u,%u), thread %u: ", g.kernel, blockIdx.x, blockIdx.y,
			      blockIdx.z, g.now->tid);
	va_start(args, fmt);
	vsnprintf(fault_text + at, sizeof(fault_text) - at, fmt, args);
	va_end(args);
	have_fault = g.failed = true;
	leave(false); /* for good: the scheduler sees `failed` */
	abort();
}

const char *shim_fault(void)
{
	return have_fault ? fault_text : NULL;
}

void shim_set_fault(const char *kernel, const char *text)
{
	if (have_fault)
		return;
	snprintf(fault_text, sizeof(fault_text), "%s: %s", kernel, text);
	have_fault = true;
}

void shim_reset(void)
{
	have_fault = g.failed = false;
}

void shim_seed(uint64_t seed)
{
	seed_state = seed * 0x9e3779b97f4a7c15u + 0x1234567;
	seed_state = seed_state ? seed_state : 1;
}

unsigned char *shim_shared(size_t offset, size_t bytes, size_t align)
{
	if (offset + bytes > g.shared_bytes)
		shim_fail("shared memory up to byte %zu, launched with %zu", offset + bytes, g.shared_bytes);
	if (offset % align)
		shim_fail("a shared array of %zu-byte elements at byte %zu", align, offset);
	return block_memory + offset;
}

void shim_read(const void *p, size_t bytes)
{
	size_t at = (size_t)((const unsigned char *)p - block_memory);

	for (size_t i = at; i < at + bytes; i++) {
		shadow *s = &shadows[i];

		if (s->pending)
			shim_fail("reads byte %zu of shared memory, where a cp.async is on its way", i);
		if (!s->written)
			shim_fail("reads byte %zu of shared memory, which nobody has written in this block", i);
		if (meets(s->writer, s->w_block, s->w_warp))
			shim_fail("race: reads byte %zu of shared memory, thread %u wrote it with no barrier between", i,
				  s->writer);
		note_read(s);
	}
}

void shim_write(void *p, size_t bytes)
{
	note_write((unsigned char *)p, bytes, "writes");
}

void shim_copy_async(unsigned char *to, const void *src, bool keep)
{
	note_write(to, 16, "copies (cp.async) to");
	if (keep)
		(void)*(const volatile unsigned char *)src; /* faults now, where the source is outside */
	for (unsigned i = 0; i < 16; i++)
		shadows[to - block_memory + i].pending = true;
	g.now->copies.push_back(pending{to, src, keep, g.now->group});
}

void copy_commit(void)
{
	g.now->group++;
}

void shim_copy_wait(int groups)
{
	std::vector<pending> &list = g.now->copies;
	size_t left = 0;

	for (size_t i = 0; i < list.size(); i++) {
		pending c = list[i];

		if (c.group + (uint32_t)groups >= g.now->group) {
			list[left++] = c;
			continue;
		}
		for (unsigned k = 0; k < 16; k++)
			shadows[c.to - block_memory + k].pending = false;
		if (c.keep)
			memcpy(c.to, c.from, 16);
		else
			memset(c.to, 0, 16);
		for (unsigned k = 0; k < 16; k++)
			shadows[c.to - block_memory + k].w_block = 0; /* ours: no race with the cp.async itself */
		note_write(c.to, 16, "cp.async lands on");
	}
	list.resize(left);
}

void sync_block(void)
{
	if (++g.at_block < g.threads) {
		g.now->s = AT_BLOCK;
		leave(false);
		return;
	}
	g.at_block = 0;
	g.epoch++;
	for (unsigned i = 0; i < g.threads; i++)
		if (g.fibers[i].s == AT_BLOCK)
			g.fibers[i].s = READY;
}

void sync_warp(void)
{
	together("sync_warp", warp_barrier_op, NULL);
}

float shuffle(float x, uint32_t from)
{
	shuffle_arg a = {x, from, 0};

	together("shuffle", shuffle_op, &a);
	return a.got;
}

float shuffle_xor(float x, uint32_t mask)
{
	return shuffle(x, g.now->tid % LANES ^ mask);
}

void mma_u8s8(int32_t d[4], const uint32_t a[4], const uint32_t b[2])
{
	mma_arg m = {d, a, b};

	together("mma_u8s8", mma_u8s8_op, &m);
}

void mma_s8s8(int32_t d[4], const uint32_t a[4], const uint32_t b[2])
{
	mma_arg m = {d, a, b};

	together("mma_s8s8", mma_s8s8_op, &m);
}

void mma_f16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
	mma_arg m = {d, a, b};

	together("mma_f16", mma_f16_op, &m);
}

void mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
	mma_arg m = {d, a, b};

	together("mma_bf16", mma_bf16_op, &m);
}

/* ---- numbers ---- */

float half_bits_to_float(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = h >> 10 & 31, m = h & 1023;

	if (e == 31)
		return bits_to_float(sign | 0x7f800000 | m << 13);
	if (e)
		return bits_to_float(sign | (e + 112) << 23 | m << 13);
	return (sign ? -1.0f : 1.0f) * (float)m * 0x1p-24f;
}

/* To nearest, ties to even; beyond the range to infinity, as the device does. */
uint16_t float_to_half_bits(float f)
{
	uint32_t u = float_to_bits(f), sign = u >> 16 & 0x8000, a = u & 0x7fffffff;

	if (a > 0x7f800000)
		return 0x7fff;
	if (a >= 0x477ff000)
		return (uint16_t)(sign | 0x7c00);
	if (a < 0x38800000)
		return (uint16_t)(sign | (uint32_t)lrintf(bits_to_float(a) * 0x1p24f));
	a += 0xfff + (a >> 13 & 1);
	return (uint16_t)(sign | ((a >> 13) - (112 << 10)));
}

/* ---- a launch ---- */

void shim_run(const char *kernel, dim3 grid, unsigned block, size_t shared, std::function<void()> *body)
{
	uint32_t n = grid.x * grid.y * grid.z;
	std::vector<uint32_t> order(n);
	struct sigaction act, old[2];

	if (have_fault)
		return;
	memset(&act, 0, sizeof(act));
	act.sa_sigaction = on_segv;
	act.sa_flags = SA_SIGINFO | SA_NODEFER;
	sigaction(SIGSEGV, &act, &old[0]);
	sigaction(SIGBUS, &act, &old[1]);
	g.kernel = kernel;
	g.body = body;
	g.threads = block;
	g.n_warps = block / LANES;
	g.shared_bytes = shared;
	g.failed = false;
	gridDim = grid;
	blockDim = dim3(block);
	shuffle_list(order.data(), n);
	for (uint32_t i = 0; i < n && !g.failed; i++) {
		blockIdx = dim3(order[i] % grid.x, order[i] / grid.x % grid.y, order[i] / grid.x / grid.y);
		run_block();
	}
	sigaction(SIGSEGV, &old[0], NULL);
	sigaction(SIGBUS, &old[1], NULL);
}
