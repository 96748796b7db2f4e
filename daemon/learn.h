/* learn.h: adapter.learn, a task: the weights of a blend, learned from prompts and answers by kernels' core_learn; the result is a
 * blend under a name (blend_file.h). The adapters are read from their files by the task itself, so that those that serve are not in
 * its way. */
#ifndef WEFT_DAEMON_LEARN_H
#define WEFT_DAEMON_LEARN_H

#include "draft.h"

#define LEARN_FIELDS                                                                                                               \
	DRAFT_FIELDS "name adapters data held_out template by method form steps batch rate penalty population bound seed replace "

/* [any thread] Judges the fields and tokenises the data; d gets a task and the effective options. */
int learn_prepare(struct draft *d, const struct draft_env *env, const msgpack_object *body, struct problem *p);
/* [any thread, may block] Finds the adapters, and the place of the result. */
int learn_look(struct draft *d, const struct adapters *a, struct problem *p);

#endif
