/* chain.h: one choice's samplers in order, and the draw at their end. [engine]
 *
 * draw: logits of a row -> each sampler edits the candidates -> softmax over what is left -> Philox(seed, position, choice) picks one ->
 * each sampler accepts it. Nothing of it depends on other choices or jobs, so a choice draws the same tokens under any load (P1). */
#ifndef WEFT_DAEMON_CHAIN_H
#define WEFT_DAEMON_CHAIN_H

#include "daemon/bytes.h"
#include "daemon/logits.h"
#include "daemon/plugin.h"
#include "kernels/core.h"

struct chain_link {
	const struct plugin *plugin;
	void *self;
	uint32_t place;		/* in the job's list of samplers */
};

struct chain {
	struct chain_link *links;	/* [n]; samplers that said that their values are neutral are not in it */
	size_t n;
	uint32_t choice;
	uint64_t generated;		/* tokens drawn so far */
	bool side_by_side;		/* all of them may run on any thread, beside those of other jobs */
	bool replays;			/* a sampler's state follows from accept() alone: a checkpoint has the history */
	int32_t *history;		/* [generated] when it replays */
	uint64_t history_cap;
};

/* What came of reading a checkpoint, or a part of one. */
enum restored {
	RESTORED,
	RESTORE_REFUSED,	/* it does not fit, with the reason: the job may begin again */
	RESTORE_ENDED		/* a plugin, or lack of memory, has ended the job */
};

/* Buffers for one draw, shared by all chains of an engine. */
struct chain_room {
	uint32_t vocab;
	int32_t *ids;		/* [vocab] */
	int32_t *all;		/* [vocab]: 0, 1, 2 .. */
	float *logits;		/* [vocab] */
	double *sums;		/* [logits_blocks(vocab)] */
};
int chain_room_init(struct chain_room *r, uint32_t vocab);	/* -1: out of memory */
void chain_room_finish(struct chain_room *r);

/* Makes the samplers of job->spec and lets those that want it see the prompt. False: the job has ended, with the reason; finish is fine. */
bool chain_init(struct chain *c, struct weft_job *job, uint32_t choice);
/* The samplers' states to bytes: by save(), or as the history that accept() is told again. 0, or a code with the reason in why (of RUN_REASON). */
int chain_save(const struct chain *c, struct weft_job *job, struct bytes_out *o, char *why);
/* In place of chain_init. */
enum restored chain_restore(struct chain *c, struct weft_job *job, uint32_t choice, struct bytes_in *in, char *why);
void chain_finish(struct chain *c);
/* Draws the token at `position` from a row of logits that logits_weigh has measured, and lets the samplers accept it. False: the job has
 * ended. */
bool chain_draw(struct chain *c, struct weft_job *job, struct chain_room *room, const float *logits, const struct logits_row *row,
		uint64_t position, int32_t *token);

/* What the next draw is, as numbers that a core may draw by: false where a sampler has no formula, or they stand in another order than that of
 * struct core_draw, or edit too many tokens. out->edits lies in edits. A token that was drawn so is taken as chain_draw takes its own. */
bool chain_formula(const struct chain *c, const struct weft_job *job, uint64_t position, struct core_draw *out,
		   struct core_edit edits[static CORE_EDITS]);
bool chain_take(struct chain *c, struct weft_job *job, int32_t token);

#endif
