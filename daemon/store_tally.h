/* store_tally.h: what a transaction did to the counts: kept aside and written once, just before the commit, so that the rows of
 * counts that daemons share are locked for a moment only. The same for the order of ends within a batch: its number is given while
 * the batch's row is locked until the commit, so numbers become visible in their order and a cursor over them misses nothing.
 * [writer] */
#ifndef WEFT_DAEMON_STORE_TALLY_H
#define WEFT_DAEMON_STORE_TALLY_H

#include "store.h"

enum { TALLY_PROMPT = STORE_STATES, TALLY_COMPLETION, TALLY_KINDS };

struct tally_line {
	char identity[64];
	uint64_t batch;
	int64_t n[TALLY_KINDS];
};
struct tally_end {
	uint64_t batch, job;
};
struct tally {
	struct tally_line *line;
	size_t n_lines, lines_cap;
	struct tally_end *end;
	size_t n_ends, ends_cap;
};

struct db;
void tally_clear(struct tally *t); /* keeps the memory */
void tally_finish(struct tally *t);
int tally_count(struct db *db, const char *identity, uint64_t batch, int kind, int64_t by);
int tally_move(struct db *db, const char *identity, uint64_t batch, enum store_state from, enum store_state to);
int tally_ended(struct db *db, uint64_t batch, uint64_t job); /* batch 0: nothing */
int tally_flush(struct db *db);

#endif
