/* vocab.h: a vocabulary on disk as SentencePiece's serialised ModelProto, whatever file it came from. */
#ifndef WEFT_FORMAT_VOCAB_H
#define WEFT_FORMAT_VOCAB_H

#include "format.h"

enum { VOCAB_OWN = -2 };	/* the file names no token: the vocabulary's own <s> and </s>, if it has them */

struct vocab {
	uint8_t *proto;		/* owned */
	size_t len, room;
	int32_t bos, eos;	/* VOCAB_OWN, -1 for none, or an id */
	bool no_bos;		/* the file says that prompts do not start with BOS */
	bool dummy_prefix;	/* a space goes in front of the text */
	bool trims;		/* runs of spaces are collapsed and leading ones dropped */
};
int vocab_read(struct vocab *v, const char *path, struct core_error *err);	/* tokenizer.model or .gguf */
int vocab_parse(struct vocab *v, const struct map *m, const char *path, struct core_error *err);	/* the same from memory */
void vocab_finish(struct vocab *v);
/* Appends the switch that takes the dummy prefix out of the model and nothing else. */
int vocab_drop_prefix(struct vocab *v, struct core_error *err);

/* The pieces of vocab_read: more bytes of the message; the one reader that has a file of its own. */
int vocab_append(struct vocab *v, const void *bytes, size_t n, struct core_error *err);
int vocab_from_gguf(struct vocab *v, const struct map *m, const char *path, struct core_error *err);

#endif
