/* fuse.h: adapter.fuse, a task: what the request asks for, judged; the adapters found; the work done by kernels' core_fuse. */
#ifndef WEFT_DAEMON_FUSE_H
#define WEFT_DAEMON_FUSE_H

#include "draft.h"

#define FUSE_FIELDS                                                                                                                \
	DRAFT_FIELDS "name adapters type mathematics density sign_method svd_rank svd_clamp seed form dtype shard_bytes replace "

/* [any thread] Judges the fields; d gets a task and the effective options. */
int fuse_prepare(struct draft *d, const struct draft_env *env, const msgpack_object *body, struct problem *p);
/* [any thread, may block] Finds the adapters, and the place of the result. */
int fuse_look(struct draft *d, const struct draft_env *env, const struct adapters *a, struct problem *p);
/* [any thread, may block] Removes what killed fusions left in the folders of adapters and of merged bases. */
void fuse_sweep_all(const char *adapters, const char *output);

#endif
