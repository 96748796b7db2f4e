/* ops.h: the operators whose speed depends on the instruction set, as one table per set. All tables give the same
 * bits, but for what stands at the end of the table. */
#ifndef WEFT_OPS_OPS_H
#define WEFT_OPS_OPS_H

#include "../core.h"
#include "attention.h"
#include "matmul.h"
#include "quantize.h"
#include "rmsnorm.h"
#include "swiglu.h"
#include "tiles.h"

struct ops {
	rmsnorm_fn *rmsnorm;
	quantize_fn *quantize;
	matmul_fn *matmul, *matmul_add;
	matmul_few_fn *matmul_few;
	kv_store_fn *kv_store;
	attention_fn *attention;
	swiglu_fn *swiglu;

	/* Or NULL, both. Where they are, they multiply rows of the prompt's path, and all rows by weights of bf16: core_ctx_bits(). */
	split_fn *split;
	tiles_fn *tiles;
	/* Of prompt rows, with KV in f16 or int8. The bits are other ones where tiles are. */
	attention_fn *attention_prompt;
};

/* NULL: this build has none for that set. */
const struct ops *ops_for(enum core_cpu cpu);

#endif
