/* packed.h: the packed weights of a model in a file, so that the next start maps them and packs nothing.
 *
 * A folder holds one file for each source (by its path), quantisation and rank. Its key says what the weights were made of: a file with another
 * key is of no use, and the next one that is written takes its place. packed_tidy() removes those that were used longest ago, where all
 * together are more than is wanted; a file's time of modification is its last use. Anybody may remove one at any time.
 *
 * A file appears whole or not at all: it is written beside as NAME.part, flushed, and renamed. A flock(2) on that keeps a second writer
 * away, who then does without; a killed writer's leavings are overwritten, or go when somebody tidies. Whoever has a file mapped keeps it when
 * another takes its place. While a model is in use, a shared lock on its file keeps tidiers away.
 *
 * Reading checks everything: the head, then all weights, by a checksum as fast as memory, which brings them there as the first token
 * would have done. It finds what went wrong, not what was forged: the folder must be as trustworthy as the model. Once mapped, the
 * file must not be written into (checkpoint.h says the same of the source).
 *
 * The weights are borrowed from whoever maps; a pool is used by one thread at a time. */
#ifndef WEFT_PACKED_H
#define WEFT_PACKED_H

#include "pool.h"

enum { PACKED_KEY = 32, PACKED_DIGEST = 65, PACKED_WHY = 300 };

struct packed {
	const char *folder;			/* made when it is written to and only its last part is missing */
	char path[4096];			/* of the file in it */
	unsigned char key[PACKED_KEY];
	uint64_t bytes;				/* of the weights: a multiple of 64 */
	int lock;				/* once mapped or written: a descriptor, to be closed with the weights */
};

/* The file's name, from what people call the model, how it is packed (quantisation, rank) and the real path of the source. false: too long,
 * or no such source. */
bool packed_name(struct packed *p, const char *folder, const char *name, const char *form, const char *source);
/* The weights, read-only and 64-byte aligned, and the model's digest beside them. NULL with the reason, which is "" when there is no file. */
unsigned char *packed_map(struct packed *p, struct pool *pool, char digest[static PACKED_DIGEST], char why[static PACKED_WHY]);
void packed_unmap(unsigned char *weights, uint64_t bytes);	/* NULL is fine */
/* 0, or a negative errno: then nothing has changed and nothing is left over. -EBUSY: another process is writing it. */
int packed_write(struct packed *p, struct pool *pool, const unsigned char *weights, const char *digest);

struct packed_tidied {
	unsigned files;
	uint64_t bytes;
};

/* Removes packed weights from a folder, those that were used longest ago first, until no more than `most` bytes are there; never a file that
 * a process has in use or is writing, so that more may stay. Leavings of killed writers go, too. Only names as packed_name() makes them. */
struct packed_tidied packed_tidy(const char *folder, uint64_t most);

#endif
