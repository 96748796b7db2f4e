/* runtime.cc: the CUDA runtime of shim.h: memory between guard pages, streams that run when somebody waits, graphs. */
#include "internal.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <string>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

struct shim_stream {
	std::deque<std::function<void()>> todo;
	uint64_t put = 0, done = 0;
	struct shim_graph *capture = NULL;
};

struct shim_event {
	shim_stream *stream = NULL;
	uint64_t at = 0;
};

struct shim_graph {
	std::vector<std::function<void()>> nodes;
};

namespace
{

struct block {
	unsigned char *map;
	size_t map_bytes, bytes;
	bool device;
};

std::map<const unsigned char *, block> blocks; /* by the address handed out */
std::vector<shim_stream *> streams;
size_t device_bytes = (size_t)8 << 30, device_used;
int devices = 1;
bool eager;
uint64_t launches;

size_t page(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

/* Ends at a guard page (up to the alignment of 16), begins after one; filled with NaNs. */
cudaError_t take(void **out, size_t bytes, bool device)
{
	size_t pages = (bytes + 15) / 16 * 16, body = (pages + page() - 1) / page() * page();
	block b;
	unsigned char *p;

	if (device && bytes > device_bytes - device_used)
		return cudaErrorMemoryAllocation;
	b.map_bytes = body + 2 * page();
	b.map = (unsigned char *)mmap(NULL, b.map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (b.map == MAP_FAILED)
		return cudaErrorMemoryAllocation;
	mprotect(b.map + page(), body, PROT_READ | PROT_WRITE);
	memset(b.map + page(), 0xff, body);
	p = b.map + page() + body - pages;
	b.bytes = bytes;
	b.device = device;
	blocks[p] = b;
	device_used += device ? bytes : 0;
	*out = p;
	return cudaSuccess;
}

/* Bytes beside the block that somebody changed. */
bool redzone_broken(const unsigned char *p, const block *b)
{
	const unsigned char *begin = b->map + page(), *end = b->map + b->map_bytes - page();

	for (const unsigned char *c = begin; c < p; c++)
		if (*c != 0xff)
			return true;
	for (const unsigned char *c = p + b->bytes; c < end; c++)
		if (*c != 0xff)
			return true;
	return false;
}

cudaError_t give(void *ptr, bool device)
{
	if (!ptr)
		return cudaSuccess;
	auto i = blocks.find((const unsigned char *)ptr);

	if (i == blocks.end() || i->second.device != device)
		return cudaErrorInvalidValue;
	if (redzone_broken(i->first, &i->second))
		shim_set_fault("cudaFree", "somebody wrote beside this allocation");
	device_used -= device ? i->second.bytes : 0;
	munmap(i->second.map, i->second.map_bytes);
	blocks.erase(i);
	return cudaSuccess;
}

/* The allocation that holds p, or whose guard pages do. */
const block *block_at(const void *ptr, const unsigned char **start)
{
	const unsigned char *p = (const unsigned char *)ptr;
	auto i = blocks.upper_bound(p);

	if (i != blocks.end() && p >= i->second.map) {
		*start = i->first;
		return &i->second;
	}
	if (i == blocks.begin())
		return NULL;
	--i;
	*start = i->first;
	return p < i->second.map + i->second.map_bytes ? &i->second : NULL;
}

bool holds(const void *p, size_t bytes, bool device)
{
	const unsigned char *start;
	const block *b = block_at(p, &start);

	return b && b->device == device && p >= start && (const unsigned char *)p + bytes <= start + b->bytes;
}

void run_until(shim_stream *s, uint64_t at)
{
	while (s->done < at) {
		std::function<void()> next = std::move(s->todo.front());

		s->todo.pop_front();
		s->done++;
		next();
	}
}

cudaError_t put(shim_stream *s, std::function<void()> what)
{
	if (s->capture) {
		s->capture->nodes.push_back(std::move(what));
	} else {
		s->todo.push_back(std::move(what));
		s->put++;
		if (eager)
			run_until(s, s->put);
	}
	return cudaSuccess;
}

cudaError_t state(void)
{
	return shim_fault() ? cudaErrorLaunchFailure : cudaSuccess;
}

} // namespace

std::recursive_mutex shim_lock;

cudaError_t shim_put(cudaStream_t s, std::function<void()> what)
{
	return put(s, std::move(what));
}

const char *shim_where(const void *p)
{
	static char text[200];
	const unsigned char *start;
	const block *b = block_at(p, &start);

	if (!b)
		return "which the device does not have";
	snprintf(text, sizeof(text), "%td bytes from the beginning of an allocation of %zu", (const unsigned char *)p - start,
		 b->bytes);
	return text;
}

void shim_check_words(const char *kernel, const void *p, size_t bytes)
{
	shim_hold hold(shim_lock);

	for (size_t i = 0; i + 8 <= bytes; i += 8) {
		uint64_t word;
		const unsigned char *start;
		void *where;

		memcpy(&word, (const unsigned char *)p + i, 8);
		/* A small number beside another number, or beside what a struct's padding holds, is no address. */
		if ((uint32_t)word < 1u << 20 || word >> 47)
			continue;
		where = (void *)(word & ~(uint64_t)(page() - 1));
		if (msync(where, page(), MS_ASYNC) && errno == ENOMEM)
			continue; /* a number that looks like an address */
		const block *b = block_at((void *)word, &start);

		if (!b || !b->device)
			shim_set_fault(kernel, "an argument is an address of the host");
	}
}

cudaError_t shim_launch(const char *kernel, dim3 grid, unsigned block, size_t shared, cudaStream_t s, std::function<void()> body)
{
	shim_hold hold(shim_lock);

	if (!s || !grid.x || !grid.y || !grid.z || grid.y > 65535 || grid.z > 65535 || !block || block > 1024 || block % 32 ||
	    shared > (227u << 10)) {
		shim_set_fault(kernel, "the launch has an impossible shape");
		return cudaErrorInvalidConfiguration;
	}
	if (shim_fault())
		return cudaErrorLaunchFailure;
	return put(s, [=]() mutable {
		launches++;
		shim_run(kernel, grid, block, shared, &body);
	});
}

uint64_t shim_launches(void)
{
	shim_hold hold(shim_lock);

	return launches;
}

size_t shim_allocated(void)
{
	shim_hold hold(shim_lock);

	return device_used;
}

void shim_memory(size_t bytes)
{
	shim_hold hold(shim_lock);

	device_bytes = bytes;
}

void shim_eager(int now)
{
	eager = now;
}

void shim_devices(int n)
{
	shim_hold hold(shim_lock);

	devices = n;
}

/* ---- errors and devices ---- */

const char *cudaGetErrorString(cudaError_t e)
{
	switch (e) {
	case cudaSuccess:
		return "no error";
	case cudaErrorMemoryAllocation:
		return "out of memory";
	case cudaErrorNoDevice:
		return "no CUDA-capable device is detected";
	case cudaErrorInvalidDevice:
		return "invalid device ordinal";
	case cudaErrorLaunchFailure:
	case cudaErrorInvalidConfiguration:
		return shim_fault() ? shim_fault() : "unspecified launch failure";
	default:
		return "invalid argument";
	}
}

cudaError_t cudaGetLastError(void)
{
	shim_hold hold(shim_lock);

	return state();
}

cudaError_t cudaGetDeviceCount(int *n)
{
	shim_hold hold(shim_lock);

	*n = devices;
	return devices ? cudaSuccess : cudaErrorNoDevice;
}

cudaError_t cudaSetDevice(int device)
{
	shim_hold hold(shim_lock);

	return device >= 0 && device < devices ? cudaSuccess : cudaErrorInvalidDevice;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device)
{
	shim_hold hold(shim_lock);

	if (device < 0 || device >= devices)
		return cudaErrorInvalidDevice;
	memset(p, 0, sizeof(*p));
	snprintf(p->name, sizeof(p->name), "shim");
	p->totalGlobalMem = device_bytes;
	p->major = 9;
	p->multiProcessorCount = 4;
	p->sharedMemPerBlockOptin = 227 << 10;
	return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free, size_t *total)
{
	shim_hold hold(shim_lock);

	*free = device_bytes - device_used;
	*total = device_bytes;
	return cudaSuccess;
}

/* ---- memory ---- */

cudaError_t shim_malloc(void **p, size_t bytes)
{
	shim_hold hold(shim_lock);

	return take(p, bytes, true);
}

cudaError_t shim_malloc_host(void **p, size_t bytes)
{
	shim_hold hold(shim_lock);

	return take(p, bytes, false);
}

cudaError_t cudaFree(void *p)
{
	shim_hold hold(shim_lock);

	return give(p, true);
}

cudaError_t cudaFreeHost(void *p)
{
	shim_hold hold(shim_lock);

	return give(p, false);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t s)
{
	shim_hold hold(shim_lock);

	if ((kind != cudaMemcpyDeviceToHost && !holds(to, bytes, true)) ||
	    (kind != cudaMemcpyHostToDevice && !holds(from, bytes, true))) {
		shim_set_fault("cudaMemcpyAsync", "beyond the device's memory");
		return cudaErrorInvalidValue;
	}
	return put(s, [=] { memcpy(to, from, bytes); });
}

cudaError_t cudaMemsetAsync(void *to, int byte, size_t bytes, cudaStream_t s)
{
	shim_hold hold(shim_lock);

	if (!holds(to, bytes, true)) {
		shim_set_fault("cudaMemsetAsync", "beyond the device's memory");
		return cudaErrorInvalidValue;
	}
	return put(s, [=] { memset(to, byte, bytes); });
}

/* ---- streams, events, graphs ---- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags)
{
	shim_hold hold(shim_lock);

	*s = new shim_stream;
	streams.push_back(*s);
	return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
	shim_hold hold(shim_lock);

	run_until(s, s->put);
	for (size_t i = 0; i < streams.size(); i++)
		if (streams[i] == s)
			streams.erase(streams.begin() + (ptrdiff_t)i);
	delete s;
	return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
	shim_hold hold(shim_lock);

	run_until(s, s->put);
	return state();
}

/* A busy stream gets on by one thing whenever it is asked. */
cudaError_t cudaStreamQuery(cudaStream_t s)
{
	shim_hold hold(shim_lock);

	if (s->done < s->put)
		run_until(s, s->done + 1);
	return s->done < s->put ? cudaErrorNotReady : state();
}

cudaError_t cudaDeviceSynchronize(void)
{
	shim_hold hold(shim_lock);

	for (size_t i = 0; i < streams.size(); i++)
		run_until(streams[i], streams[i]->put);
	return state();
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags)
{
	shim_hold hold(shim_lock);

	*e = new shim_event;
	return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
	shim_hold hold(shim_lock);

	delete e;
	return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
	shim_hold hold(shim_lock);

	e->stream = s;
	e->at = s->put;
	return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
	shim_hold hold(shim_lock);

	if (e->stream)
		run_until(e->stream, e->at);
	return state();
}

cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned flags)
{
	shim_hold hold(shim_lock);
	shim_stream *of = e->stream;
	uint64_t at = e->at;

	if (!of || of == s)
		return cudaSuccess;
	return put(s, [=] { run_until(of, at); });
}

cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode mode)
{
	shim_hold hold(shim_lock);

	s->capture = new shim_graph;
	return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g)
{
	shim_hold hold(shim_lock);

	*g = s->capture;
	s->capture = NULL;
	return state();
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *x, cudaGraph_t g, unsigned long long flags)
{
	shim_hold hold(shim_lock);

	*x = new shim_graph(*g);
	return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t x, cudaStream_t s)
{
	shim_hold hold(shim_lock);
	shim_graph copy = *x;

	return put(s, [=]() mutable {
		for (size_t i = 0; i < copy.nodes.size(); i++)
			copy.nodes[i]();
	});
}

cudaError_t cudaGraphDestroy(cudaGraph_t g)
{
	shim_hold hold(shim_lock);

	delete g;
	return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t x)
{
	shim_hold hold(shim_lock);

	delete x;
	return cudaSuccess;
}
