/* chain.h: one choice's samplers in order, and the draw at their end. [engine]
 *
 * draw: logits of a row -> each sampler edits the candidates -> softmax over what is left -> Philox(seed, position, choice) picks one ->
 * each sampler accepts it. Nothing of it depends on other choices or jobs, so a choice draws the same tokens under any load (P1). */
#ifndef WEFT_DAEMON_CHAIN_H
#define WEFT_DAEMON_CHAIN_H

#include "daemon/logits.h"
#include "daemon/plugin.h"

struct chain_link {
	const struct plugin *plugin;
	void *self;
};

struct chain {
	struct chain_link *links;	/* [n]; samplers that said that their values are neutral are not in it */
	size_t n;
	uint32_t choice;
	uint64_t generated;		/* tokens drawn so far */
};

/* Buffers for one draw, shared by all chains of an engine. */
struct chain_room {
	uint32_t vocab;
	int32_t *ids;		/* [vocab] */
	float *logits;		/* [vocab] */
	struct logits_room weigh;
	const float *weighed;	/* the row whose weights stand in `weigh`; NULL: none */
};
int chain_room_init(struct chain_room *r, uint32_t vocab);	/* -1: out of memory */
void chain_room_finish(struct chain_room *r);

/* Makes the samplers of job->spec and lets those that want it see the prompt. False: the job has ended, with the reason; finish is fine. */
bool chain_init(struct chain *c, struct weft_job *job, uint32_t choice);
void chain_finish(struct chain *c);
/* Draws the token at `position` from a row of logits that logits_weigh has just measured into room->weigh (row, room->weighed == logits), and
 * lets the samplers accept it. False: the job has ended. */
bool chain_draw(struct chain *c, struct weft_job *job, struct chain_room *room, const float *logits, const struct logits_row *row,
		uint64_t position, int32_t *token);

#endif
