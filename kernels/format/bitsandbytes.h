/* bitsandbytes.h: linears that bitsandbytes saved in 4 bits. Private to this folder. */
#ifndef WEFT_FORMAT_BITSANDBYTES_H
#define WEFT_FORMAT_BITSANDBYTES_H

struct checkpoint;
struct core_error;

/* Sorts the tensors. Every NAME with NAME.quant_state.bitsandbytes__nf4 and the other parts beside it becomes one tensor of TENSOR_NF4 with
 * its linear's shape, and the parts are tensors no more. Anything but nf4 is refused by name. */
int bitsandbytes_join(struct checkpoint *cp, const char *path, struct core_error *err);

#endif
