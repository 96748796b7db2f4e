/* device.h: the core's half of backend.h: a module loaded at run time, and what the core has in the module's words. */
#ifndef WEFT_DEVICE_H
#define WEFT_DEVICE_H

#include "core.h"

struct core_ctx;
struct device;

/* what: "cuda:N", or "auto" for the first one. module NULL: weft-cuda.so among the installed files. p's model stays in use. */
int device_open(struct device **out, const char *what, const char *module, const struct core_ctx_params *p, uint32_t max_context,
		struct core_error *err);
void device_close(struct device *d);                 /* NULL is fine */
const char *device_describe(const struct device *d); /* which, and what it holds: one line */
const char *device_name(const struct device *d);     /* "cuda:0" */

/* A blend on the device; release what was acquired. NULL gives NULL. */
int device_acquire(struct device *d, void **resident, const struct core_blend *b, struct core_error *err);
void device_release(struct device *d, void *resident);
bool device_ready(struct device *d, void *resident, bool wait); /* core_seq_ready() */

/* Row `row` of the next pass, in the caller's order, may give a token. */
void device_want_token(struct device *d, uint32_t row, const struct core_draw *draw);
void device_forget_tokens(struct device *d); /* after the pass */

/* c's rows are checked and have their pages; gives c its logits, and what was drawn. */
int device_forward(struct core_ctx *c, struct core_error *err);

#endif
