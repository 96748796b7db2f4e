/* store_history.h: a random but repeatable history of ops on a store, and the question whether what a store holds is a prefix of
 * it. [one thread]
 *
 * Op i depends on the seed and on ops 0..i-1 having happened, so the same history can be made again by another process. Ops run in
 * order; so after any accident the store must hold exactly what the first m ops leave, for one m that is not below the number that
 * was acknowledged: nothing is lost, nothing is there by half, nothing overtakes. */
#ifndef WEFT_TESTS_STORE_HISTORY_H
#define WEFT_TESTS_STORE_HISTORY_H

#include "store_kit.h"

struct history;
/* Jobs get numbers from first_id on. large: one request in so many has 100 to 300 KB; 0: none. */
struct history *history_new(uint64_t seed, uint64_t first_id, unsigned large);
void history_free(struct history *h);
/* The next op, which the caller submits; its done() counts. Memory it borrows is the history's. */
struct store_op *history_op(struct history *h, void (*acked)(void *arg), void *arg);
void history_skip(struct history *h); /* makes the next op without building it */
size_t history_made(const struct history *h);
size_t history_acked(const struct history *h); /* finished with STORE_OK, before the first that was not */
uint64_t history_next_id(const struct history *h);
/* Does the store, opened again, hold a prefix of at least `acked` ops? Prints what differs. claims: looks at requests and
 * checkpoints, too, by claiming. */
bool history_check(struct history *h, struct kit *k, size_t acked, bool claims);

#endif
