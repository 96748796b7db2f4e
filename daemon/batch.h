/* batch.h: the rows of one step: who gets how many, and who gives way when pages are short. [engine]
 *
 * Shares of a step, in this order, each divided evenly among the jobs of the group (one that wants less leaves its rest to the others):
 *   1. jobs that had no row for BATCH_PATIENCE steps, together at most a quarter of the rows; beside jobs of 4 also at most a quarter of what
 *      prompts may have;
 *   2. jobs that generate, interactive class; 3. the same, batch class: beside jobs of 4 these leave them a quarter of what is left;
 *   4. jobs that are in a prompt or a rebuild, interactive class; 5. the same, batch class: beside rows of 4 only so many as beside
 *      generating jobs, for somebody waits for a first token.
 * A prompt that goes on with the same page of KV as that of a job of higher rank has no row: it takes the page from the prefix cache when it is
 * there. So those who come together compute what they have in common once.
 *
 * So a generating job of the interactive class waits for no more than the one step that runs, whatever prompts arrive, and no job waits for
 * ever. How long a step may take is the engine's to say: it sets how many rows of prompts and rebuilds fit beside generating jobs, and
 * without them. */
#ifndef WEFT_DAEMON_BATCH_H
#define WEFT_DAEMON_BATCH_H

#include "daemon/run.h"

enum {
	BATCH_PATIENCE = 8,	/* steps */
	BATCH_SHORT_FEED = 32,	/* tokens: a feed of the answer up to this long counts as generating */
	BATCH_LEAST = 16	/* rows: a prompt gets no smaller piece when many wait; the others have their turn in the next step */
};

struct batch_from {	/* whose row it is */
	struct weft_job *job;
	struct seq *seq;
	struct feed *feed;	/* NULL: the row rebuilds what the job had before it was parked */
	uint32_t row;		/* of the feed */
};

struct batch_turn {	/* one job's claim */
	struct weft_job *job;
	uint32_t want, group;
	bool generates;
};

struct batch_page {	/* that a job's prompt fills next */
	struct weft_job *job;
	unsigned char key[CORE_PAGE_KEY];
	bool all;	/* of feed_page() */
};

struct batch {
	uint32_t cap, n;
	struct core_row *rows;		/* [n] */
	struct batch_from *from;	/* [n] */
	struct batch_turn *turns;	/* [turns_cap] */
	struct batch_page *pages;	/* [pages_cap] */
	uint32_t turns_cap, pages_cap;
	uint32_t pages_left;		/* of the pool, after the rows that are in */
	uint32_t beside, alone;		/* most rows of prompts and rebuilds in a step with and without generating jobs; 0: no limit */
	uint32_t prompt_left;		/* of that limit, after the rows that are in */
	uint32_t first_tokens;		/* rows that jobs of 4 want */
};
int batch_init(struct batch *b, uint32_t max_rows);	/* -1: out of memory */
void batch_finish(struct batch *b);

enum batch_state {
	BATCH_READY,	/* n rows; 0: no job wants any */
	BATCH_PREEMPT,	/* pages are short: park *who, then build again */
	BATCH_STUCK,	/* *who cannot go on, not even alone: there are too few pages in all */
	BATCH_NO_MEMORY
};
/* Forgets the rows. Before anything that frees a job's sequences or feeds. */
void batch_clear(struct batch *b);
enum batch_state batch_build(struct batch *b, struct weft_job *jobs, struct core_ctx *core, struct weft_job **who);
struct batch_rows {
	uint32_t prompt, generated, rebuilt;
};
/* After the forward pass: the tokens of the batch have become part of their sequences. The rows stay listed for their logits. */
struct batch_rows batch_ran(struct batch *b);
/* The active job of lowest rank that holds pages: batch class before interactive, then the higher priority number, then the younger. */
struct weft_job *batch_lowest(struct weft_job *jobs);

#endif
