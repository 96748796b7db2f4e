/* stage.h: a file or folder that appears whole or not at all. Private to kernels/fuse.
 *
 *     stage_begin -> stage_open, file_write ..., file_close (each file) -> stage_commit
 *                \-> stage_abort at any point
 * The work goes on in ".NAME.fusing-<16 hex digits>" beside NAME, held by a flock(2) as long as its maker lives. A killed maker's
 * lock is gone, which is how stage_sweep() tells its leavings from work in progress. stage_commit() flushes all and renames. A NAME
 * that is there already is refused, or (replace) changes places with the new one, and is then removed under the hidden name. */
#ifndef WEFT_FUSE_STAGE_H
#define WEFT_FUSE_STAGE_H

#include <sodium.h>

#include "kernels/core.h"

enum { STAGE_NAME = 256 };

struct stage {
	int parent;			/* descriptor of the folder */
	int fd;				/* of the hidden folder, or of the hidden file; holds the lock */
	bool folder, replace;
	uint64_t bytes;			/* of the files that were closed */
	char name[STAGE_NAME];		/* NAME */
	char hidden[STAGE_NAME];
};

/* On failure there is nothing to abort. */
int stage_begin(struct stage *s, const char *target, bool folder, bool replace, struct core_error *err);
int stage_commit(struct stage *s, struct core_error *err);	/* in either case the stage is over */
void stage_abort(struct stage *s);
int stage_sweep(int parent);	/* how many were removed, or a negative errno */

/* A file being written, through a buffer. After a failure only file_drop() is left. */
struct file {
	int fd;
	char name[STAGE_NAME];		/* for messages */
	unsigned char *buffer;
	size_t used;
	uint64_t written;		/* bytes in all, buffered ones too */
	struct stage *stage;
	crypto_generichash_state *sum;	/* takes all bytes; NULL: none */
};
/* name NULL: the stage itself is the file. */
int file_open(struct file *f, struct stage *s, const char *name, struct core_error *err);
int file_write(struct file *f, const void *data, size_t n, struct core_error *err);
int file_pad(struct file *f, unsigned alignment, struct core_error *err);	/* zeros up to a multiple */
int file_close(struct file *f, struct core_error *err);		/* flushes to the disk; closed in either case */
void file_drop(struct file *f);					/* closes without a word; an all-zero f is fine */

#endif
