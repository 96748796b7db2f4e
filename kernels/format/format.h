/* format.h: what the readers of kernels/format share. Private to this folder and the tokenizer.
 *
 * A reader maps a file, walks it with a struct cursor that cannot leave the map, and adds what it finds to a struct checkpoint.
 * Failing functions return core_fail()'s code; whoever made the checkpoint closes it. */
#ifndef WEFT_FORMAT_FORMAT_H
#define WEFT_FORMAT_FORMAT_H

#include "checkpoint.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- files ---- */

struct map {
	const uint8_t *data;	/* NULL for an empty file */
	size_t size;
};
int map_open(struct map *m, const char *path, struct core_error *err);
/* The same from a copy in memory, for files that may be rewritten meanwhile: touching a map beyond the end of a file that was cut
 * short ends the process. Longer than `most`: refused. */
int map_read(struct map *m, const char *path, uint64_t most, struct core_error *err);
void map_close(struct map *m);	/* an all-zero map is fine */
char *path_join(const char *folder, const char *name);	/* malloc'ed; NULL: out of memory */

/* Reads little-endian numbers off a piece of memory. A read past the end sets `bad` and gives zeros. */
struct cursor {
	const uint8_t *data;
	size_t size, at;
	bool bad;
};
/* The next n bytes, or NULL (and bad) when fewer are left. */
const uint8_t *cursor_take(struct cursor *c, uint64_t n);
uint8_t cursor_u8(struct cursor *c);
uint16_t cursor_u16(struct cursor *c);
uint32_t cursor_u32(struct cursor *c);
uint64_t cursor_u64(struct cursor *c);

/* ---- the checkpoint under construction ---- */

struct checkpoint {
	struct llama_config config;
	struct tensor *tensors;	/* owns the names; sorted by name once checkpoint_open is done */
	size_t n_tensors, room;
	struct map *maps;
	struct file_stamp *stamps;	/* [n_maps] */
	size_t n_maps;
	char *tokenizer_path;
	float *rope_freqs;	/* owned; config.rope_freqs points here */
	bool gguf;
	bool adapter;		/* a LoRA adapter (peft.h): every tensor counts, so one that cannot be read is refused, not skipped */
	float alpha;		/* of a GGUF adapter */
	uint64_t part, parts;	/* a split GGUF: which is being read, and how many there are; 0: none yet */
};

typedef int (*checkpoint_reader)(struct checkpoint *cp, const struct map *m, const char *path, struct core_error *err);
/* Maps (an adapter: reads into memory) one more file, for as long as the checkpoint lives, and reads it. */
int checkpoint_read_file(struct checkpoint *cp, const char *path, checkpoint_reader read, struct core_error *err);
/* Adds a tensor; the name is copied. `where` names the file in messages. Bounds of data were checked by the caller. */
int checkpoint_add(struct checkpoint *cp, const struct tensor *t, const char *where, struct core_error *err);
/* True for the tensors that make up the model: those must have a type that the core computes with. */
bool tensor_is_weight(const char *name);
/* Bytes of the tensor by its type and dims. false: overflow, or a row that is not whole blocks. */
bool tensor_size(const struct tensor *t, uint64_t *bytes);

struct json_t;

/* ---- readers ---- */

int folder_read(struct checkpoint *cp, const char *folder, struct core_error *err);
int gguf_read(struct checkpoint *cp, const struct map *m, const char *path, struct core_error *err);
int safetensors_read(struct checkpoint *cp, const struct map *m, const char *path, struct core_error *err);
int torch_read(struct checkpoint *cp, const struct map *m, const char *path, struct core_error *err);
void checkpoint_sort(struct checkpoint *cp);	/* by name; checkpoint_find() needs it */
/* Sorts the tensors, then checks that they are the ones the config asks for, with its shapes, and none twice. */
int checkpoint_finish(struct checkpoint *cp, const char *path, struct core_error *err);
/* A JSON text as jansson's tree, which the caller gives back with json_decref(); `what` is the file to name. */
int json_parse(struct json_t **out, const char *text, size_t len, const char *what, struct core_error *err);

/* config.json's text to a config. */
int config_parse(struct llama_config *c, const char *json, size_t len, struct core_error *err);
/* What both containers promise about the shape; `where` is the file to name. */
int config_check(const struct llama_config *c, const char *where, struct core_error *err);

#ifdef __cplusplus
}
#endif
#endif
