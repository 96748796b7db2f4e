/* vocab.c: tokenizer.model as bytes for the SentencePiece library, with the few facts that weft itself needs.
 *
 * The file is a protobuf message (ModelProto): repeated pieces = 1, trainer_spec = 2, normalizer_spec = 3, self_test_data = 4,
 * denormalizer_spec = 5. Messages concatenate: a later normalizer_spec overrides the fields that it names and no others. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "charsmap.h"
#include "gguf.h"
#include "vocab.h"

enum { VOCAB_FILE_MAX = 64 << 20 };

enum proto_field { PIECES = 1, TRAINER = 2, NORMALIZER = 3, SELF_TEST = 4, DENORMALIZER = 5 };
enum piece_field { SCORE = 2 };
enum trainer_field { SPACE_AS_SUFFIX = 24 };
enum normalizer_field { CHARSMAP = 2, ADD_DUMMY_PREFIX = 3, REMOVE_EXTRA = 4 };

/* One field of a message. */
struct field {
	uint32_t number;
	unsigned wire;		/* 0 varint, 1 eight bytes, 2 bytes, 5 four bytes */
	uint64_t value;		/* varint */
	const uint8_t *bytes;
	size_t len;
};

static uint64_t take_varint(struct cursor *c)
{
	uint64_t v = 0;

	for (unsigned shift = 0; shift < 64; shift += 7) {
		uint8_t b = cursor_u8(c);
		v |= (uint64_t)(b & 127) << shift;
		if (b < 128)
			return v;
	}
	c->bad = true;
	return 0;
}

/* false at the end, and on a broken message (c->bad). */
static bool next_field(struct cursor *c, struct field *f)
{
	uint64_t tag;

	if (c->bad || c->at == c->size)
		return false;
	tag = take_varint(c);
	*f = (struct field){.number = (uint32_t)(tag >> 3), .wire = tag & 7};
	switch (f->wire) {
	case 0: f->value = take_varint(c); break;
	case 1: f->len = 8; break;
	case 2: {
		uint64_t n = take_varint(c);
		f->len = n <= c->size ? (size_t)n : c->size + 1; /* too long either way: the take below fails */
		break;
	}
	case 5: f->len = 4; break;
	default: c->bad = true;
	}
	f->bytes = cursor_take(c, f->len);
	c->bad |= f->number == 0;
	return !c->bad;
}

/* ---- writing ---- */

int vocab_append(struct vocab *v, const void *bytes, size_t n, struct core_error *err)
{
	if (n > v->room - v->len) {
		size_t room = v->room + v->room / 2 + n + 4096;
		uint8_t *more = realloc(v->proto, room);
		if (more == NULL)
			return core_fail(err, CORE_ENOMEM, "out of memory for the vocabulary");
		v->proto = more;
		v->room = room;
	}
	memcpy(v->proto + v->len, bytes, n);
	v->len += n;
	return 0;
}

int vocab_drop_prefix(struct vocab *v, struct core_error *err)
{
	static const uint8_t off[] = {NORMALIZER << 3 | 2, 2, ADD_DUMMY_PREFIX << 3, 0};

	return vocab_append(v, off, sizeof off, err);
}

/* ---- tokenizer.model ---- */

static int read_normalizer(struct vocab *v, const struct field *spec, const char *path, struct core_error *err)
{
	struct cursor c = {.data = spec->bytes, .size = spec->len};
	struct field f;

	while (next_field(&c, &f)) {
		if (f.number == ADD_DUMMY_PREFIX && f.wire == 0)
			v->dummy_prefix = f.value != 0;
		if (f.number == REMOVE_EXTRA && f.wire == 0)
			v->trims = f.value != 0;
		if (f.number == CHARSMAP && f.wire == 2 && !charsmap_is_sound(f.bytes, f.len))
			return core_fail(err, CORE_EFORMAT, "%s: the normalisation rules (precompiled_charsmap) are damaged", path);
	}
	return 0;
}

static int check_piece(const struct field *piece, size_t id, const char *path, struct core_error *err)
{
	struct cursor c = {.data = piece->bytes, .size = piece->len};
	struct field f;
	float score;

	while (next_field(&c, &f)) {
		if (f.number != SCORE || f.wire != 5)
			continue;
		memcpy(&score, f.bytes, sizeof score);
		if (isnan(score)) /* would leave the order of merges undefined */
			return core_fail(err, CORE_EFORMAT, "%s: the score of token %zu is not a number", path, id);
	}
	return 0;
}

static int check_trainer(const struct field *spec, const char *path, struct core_error *err)
{
	struct cursor c = {.data = spec->bytes, .size = spec->len};
	struct field f;

	while (next_field(&c, &f))
		if (f.number == SPACE_AS_SUFFIX && f.wire == 0 && f.value != 0)
			return core_fail(err, CORE_EUNSUPPORTED, "%s: treat_whitespace_as_suffix is not supported", path);
	return 0;
}

static int check_denormalizer(const struct field *spec, const char *path, struct core_error *err)
{
	struct cursor c = {.data = spec->bytes, .size = spec->len};
	struct field f;

	while (next_field(&c, &f))
		if (f.number == CHARSMAP && f.len > 0)
			return core_fail(err, CORE_EUNSUPPORTED,
					 "%s: a denormalizer is not supported: it cannot run token by token", path);
	return 0;
}

static int read_model(struct vocab *v, const struct map *m, const char *path, struct core_error *err)
{
	struct cursor c = {.data = m->data, .size = m->size};
	struct field f;
	size_t pieces = 0, start = 0;
	int rc = 0;

	v->dummy_prefix = v->trims = true; /* the schema's defaults */
	while (rc == 0 && next_field(&c, &f)) {
		if (f.wire == 2 && f.number == PIECES)
			rc = check_piece(&f, pieces++, path, err);
		if (f.wire == 2 && f.number == TRAINER)
			rc = check_trainer(&f, path, err);
		if (f.wire == 2 && f.number == NORMALIZER)
			rc = read_normalizer(v, &f, path, err);
		if (f.wire == 2 && f.number == DENORMALIZER)
			rc = check_denormalizer(&f, path, err);
		/* Samples recorded with the prefix on would fail the load with the prefix off, so they stay out. */
		if (rc == 0 && f.number != SELF_TEST)
			rc = vocab_append(v, m->data + start, c.at - start, err);
		start = c.at;
	}
	if (rc == 0 && (c.at != c.size || c.bad || pieces == 0))
		rc = core_fail(err, CORE_EFORMAT, "%s: neither a SentencePiece model nor a GGUF file", path);
	return rc;
}

int vocab_parse(struct vocab *v, const struct map *m, const char *path, struct core_error *err)
{
	int rc;

	*v = (struct vocab){.bos = VOCAB_OWN, .eos = VOCAB_OWN};
	if (gguf_probe(m))
		rc = vocab_from_gguf(v, m, path, err);
	else if (m->size > VOCAB_FILE_MAX)
		rc = core_fail(err, CORE_EFORMAT, "%s: %zu bytes; a SentencePiece model has at most %d", path, m->size,
			       VOCAB_FILE_MAX);
	else
		rc = read_model(v, m, path, err);
	if (rc < 0)
		vocab_finish(v);
	return rc;
}

int vocab_read(struct vocab *v, const char *path, struct core_error *err)
{
	struct map m;
	int rc = map_open(&m, path, err);

	if (rc < 0)
		return rc;
	rc = vocab_parse(v, &m, path, err);
	map_close(&m);
	return rc;
}

void vocab_finish(struct vocab *v)
{
	free(v->proto);
	*v = (struct vocab){0};
}
