/* internal.h: what shim.cc and runtime.cc share. */
#ifndef WEFT_SHIM_INTERNAL_H
#define WEFT_SHIM_INTERNAL_H

#include "shim.h"

/* Runs a kernel now, unless a fault is pending. */
void shim_run(const char *kernel, dim3 grid, unsigned block, size_t shared, std::function<void()> *body);
void shim_set_fault(const char *kernel, const char *text);
/* Where a faulting address lies, in words: behind which allocation, or nowhere. */
const char *shim_where(const void *p);

#endif
