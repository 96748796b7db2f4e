/* internal.h: what shim.cc and runtime.cc share. */
#ifndef WEFT_SHIM_INTERNAL_H
#define WEFT_SHIM_INTERNAL_H

#include <mutex>

#include "shim.h"

/* Ranks are threads of one process: each call of the runtime holds this, and what it runs with it. */
extern std::recursive_mutex shim_lock;
typedef std::lock_guard<std::recursive_mutex> shim_hold;

/* On the stream, when its turn comes. */
cudaError_t shim_put(cudaStream_t s, std::function<void()> what);

/* Runs a kernel now, unless a fault is pending. */
void shim_run(const char *kernel, dim3 grid, unsigned block, size_t shared, std::function<void()> *body);
void shim_set_fault(const char *kernel, const char *text);
/* Where a faulting address lies, in words: behind which allocation, or nowhere. */
const char *shim_where(const void *p);

#endif
