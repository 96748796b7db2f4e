/* store_op.h: what the front of the store needs of an op. */
#ifndef WEFT_DAEMON_STORE_OP_H
#define WEFT_DAEMON_STORE_OP_H

#include "store.h"

void store_op_save(struct store_op *op);    /* before the first try */
void store_op_restore(struct store_op *op); /* before each: as it was submitted, without results */
size_t store_op_bytes(const struct store_op *op);
bool store_op_reads(const struct store_op *op); /* it changes nothing */

#endif
