/* tokenizer.c: text to tokens by SentencePiece, tokens to text here.
 *
 * Decoding is ours because it must also run one token at a time: core_tokenizer_decode is core_detok_push in a loop, so a stream
 * and the whole text cannot differ. The rules are SentencePiece's own: a byte token is a raw byte; bytes that do not form UTF-8
 * become U+FFFD each; any other token ends a run of bytes; control tokens are silent; the dummy space is dropped from the first
 * piece. */
#include <stdlib.h>
#include <string.h>

#include "format/vocab.h"
#include "tokenizer_spm.h"
#include "utf8.h"

enum { TEXT_MAX = 64 << 20, REPLACEMENT_LEN = sizeof UTF8_REPLACEMENT - 1 };

static const char space_mark[] = "\xe2\x96\x81";	/* U+2581 stands for a space in the vocabulary */

struct piece {
	uint32_t at, len;	/* in core_tokenizer.bytes */
	uint8_t kind;		/* enum spm_kind */
	bool marked;		/* starts with the space mark, which text has as its first byte */
};

struct core_tokenizer {
	struct spm *spm;	/* puts the dummy prefix, if the model has one */
	struct spm *bare;	/* the same without it; NULL: the model has none */
	struct piece *pieces;
	char *bytes;
	uint32_t size, longest;
	int32_t bos, eos;
	bool no_bos, dummy_prefix, trims;
};

/* ---- loading ---- */

/* "<0x0A>" to 10; -1 when the spelling is another. */
static int byte_value(const char *piece, size_t len)
{
	int v = 0;

	if (len != 6 || memcmp(piece, "<0x", 3) != 0 || piece[5] != '>')
		return -1;
	for (int i = 3; i < 5; i++) {
		char c = piece[i];
		if (c >= '0' && c <= '9')
			v = v * 16 + c - '0';
		else if (c >= 'A' && c <= 'F')
			v = v * 16 + c - 'A' + 10;
		else
			return -1;
	}
	return v;
}

/* The piece as it reads in text; returns its length. out has room for len bytes. */
static size_t unmark(const char *piece, size_t len, char *out)
{
	size_t n = 0;

	for (size_t i = 0; i < len;) {
		if (len - i >= 3 && memcmp(piece + i, space_mark, 3) == 0) {
			out[n++] = ' ';
			i += 3;
		} else {
			out[n++] = piece[i++];
		}
	}
	return n;
}

static int fill_piece(struct core_tokenizer *t, uint32_t id, const char *unknown, size_t *at, struct core_error *err)
{
	struct piece *p = &t->pieces[id];
	size_t len;
	const char *text = spm_piece(t->spm, id, &len);
	int byte;

	p->kind = (uint8_t)spm_kind(t->spm, id);
	p->at = (uint32_t)*at;
	switch (p->kind) {
	case SPM_BYTE:
		byte = byte_value(text, len);
		if (byte < 0)
			return core_fail(err, CORE_EFORMAT, "token %u is a byte but is not spelled <0xHH>", (unsigned)id);
		t->bytes[*at] = (char)byte;
		p->len = 1;
		break;
	case SPM_CONTROL:
		break;
	case SPM_UNKNOWN:
		p->len = (uint32_t)strlen(unknown);
		memcpy(t->bytes + *at, unknown, p->len);
		break;
	default:
		if (utf8_repair(text, len, NULL) != len)
			return core_fail(err, CORE_EFORMAT, "token %u is not UTF-8 text", (unsigned)id);
		p->marked = len >= 3 && memcmp(text, space_mark, 3) == 0;
		p->len = (uint32_t)unmark(text, len, t->bytes + *at);
	}
	*at += p->len;
	if (p->len > t->longest)
		t->longest = p->len;
	return 0;
}

static int fill_pieces(struct core_tokenizer *t, const char *unknown, struct core_error *err)
{
	size_t total = 0, at = 0, len;
	int rc = 0;

	t->size = spm_size(t->spm);
	for (uint32_t i = 0; i < t->size; i++) {
		spm_piece(t->spm, i, &len);
		total += len + (spm_kind(t->spm, i) == SPM_UNKNOWN ? strlen(unknown) : 0);
	}
	if (total > UINT32_MAX)
		return core_fail(err, CORE_EFORMAT, "the vocabulary's text is longer than 4 GiB");
	t->pieces = calloc(t->size + 1, sizeof *t->pieces);
	t->bytes = malloc(total + 1);
	if (t->pieces == NULL || t->bytes == NULL)
		return core_fail(err, CORE_ENOMEM, "out of memory for %u tokens", (unsigned)t->size);
	for (uint32_t i = 0; i < t->size && rc == 0; i++)
		rc = fill_piece(t, i, unknown, &at, err);
	return rc;
}

static int build(struct core_tokenizer *t, struct vocab *v, struct core_error *err)
{
	char *unknown;
	int rc = spm_new(&t->spm, v->proto, v->len, err);

	if (rc == 0 && v->dummy_prefix) {
		rc = vocab_drop_prefix(v, err);
		if (rc == 0)
			rc = spm_new(&t->bare, v->proto, v->len, err);
	}
	if (rc < 0)
		return rc;
	t->dummy_prefix = v->dummy_prefix;
	t->trims = v->trims;
	t->no_bos = v->no_bos;
	unknown = spm_unknown_text(t->spm);
	if (unknown == NULL)
		return core_fail(err, CORE_ENOMEM, "out of memory for the vocabulary");
	rc = fill_pieces(t, unknown, err);
	free(unknown);
	if (rc < 0)
		return rc;
	t->bos = v->bos == VOCAB_OWN ? spm_bos(t->spm) : v->bos;
	t->eos = v->eos == VOCAB_OWN ? spm_eos(t->spm) : v->eos;
	if (t->bos >= (int64_t)t->size || t->eos >= (int64_t)t->size)
		return core_fail(err, CORE_EFORMAT, "BOS %d or EOS %d is outside the vocabulary of %u tokens", t->bos, t->eos,
				 (unsigned)t->size);
	return 0;
}

int core_tokenizer_load(struct core_tokenizer **out, const char *path, struct core_error *err)
{
	struct core_error why = {0};
	struct core_tokenizer *t;
	struct vocab v;
	int rc = vocab_read(&v, path, err);

	*out = NULL;
	if (rc < 0)
		return rc;
	t = calloc(1, sizeof *t);
	rc = t != NULL ? build(t, &v, &why) : core_fail(&why, CORE_ENOMEM, "out of memory");
	vocab_finish(&v);
	if (rc < 0) {
		core_tokenizer_free(t);
		return core_fail(err, rc, "%.200s: %s", path, why.text);
	}
	*out = t;
	return 0;
}

void core_tokenizer_free(struct core_tokenizer *t)
{
	if (t == NULL)
		return;
	spm_free(t->spm);
	spm_free(t->bare);
	free(t->pieces);
	free(t->bytes);
	free(t);
}

uint32_t core_tokenizer_size(const struct core_tokenizer *t)
{
	return t->size;
}

int32_t core_tokenizer_bos(const struct core_tokenizer *t)
{
	return t->bos;
}

int32_t core_tokenizer_eos(const struct core_tokenizer *t)
{
	return t->eos;
}

const char *core_tokenizer_piece(const struct core_tokenizer *t, int32_t id, size_t *len)
{
	if (id < 0 || (uint32_t)id >= t->size) {
		*len = 0;
		return NULL;
	}
	*len = t->pieces[id].len;
	return t->bytes + t->pieces[id].at;
}

bool core_tokenizer_is_control(const struct core_tokenizer *t, int32_t id)
{
	return id >= 0 && (uint32_t)id < t->size && t->pieces[id].kind == SPM_CONTROL;
}

/* ---- encoding ---- */

int core_tokenizer_encode(const struct core_tokenizer *t, const char *text, size_t len, unsigned flags, int32_t **out,
			  size_t *n_out, struct core_error *err)
{
	const struct spm *spm = (flags & CORE_ENCODE_NO_PREFIX) && t->bare != NULL ? t->bare : t->spm;
	size_t ahead = (flags & CORE_ENCODE_BOS) && t->bos >= 0 && !t->no_bos ? 1 : 0, whole;
	char *repaired = NULL;
	int rc;

	*out = NULL;
	*n_out = 0;
	if (len > TEXT_MAX)
		return core_fail(err, CORE_EINVAL, "the text has %zu bytes; at most %d are encoded at once", len, TEXT_MAX);
	whole = utf8_repair(text, len, NULL);
	if (whole != len) {
		repaired = malloc(whole);
		if (repaired == NULL)
			return core_fail(err, CORE_ENOMEM, "out of memory to encode %zu bytes", len);
		utf8_repair(text, len, repaired);
	}
	rc = spm_encode(spm, repaired != NULL ? repaired : text, whole, ahead, out, n_out, err);
	free(repaired);
	if (rc == 0 && ahead == 1) {
		(*out)[0] = t->bos;
		++*n_out;
	}
	return rc;
}

/* ---- decoding ---- */

static size_t put(char *out, const void *bytes, size_t n)
{
	memcpy(out, bytes, n);
	return n;
}

/* Whole characters of the held bytes; all: also the unfinished one, replaced byte by byte. */
static size_t release(struct core_detok *d, char *out, bool all)
{
	size_t n = 0;

	while (d->n_held > 0) {
		int k = utf8_next(d->held, d->n_held);
		unsigned used = k > 0 ? (unsigned)k : 1;
		if (k == 0 && !all)
			break;
		n += k > 0 ? put(out + n, d->held, used) : put(out + n, UTF8_REPLACEMENT, REPLACEMENT_LEN);
		d->n_held -= used;
		memmove(d->held, d->held + used, d->n_held);
	}
	return n;
}

size_t core_detok_push(struct core_detok *d, const struct core_tokenizer *t, int32_t token, char *out)
{
	const struct piece *p;
	const char *text;
	size_t n, len;

	if (token < 0 || (uint32_t)token >= t->size)
		return 0;
	p = &t->pieces[token];
	text = t->bytes + p->at;
	len = p->len;
	if (p->kind == SPM_BYTE) {
		d->strip_space = false;
		d->held[d->n_held++] = (unsigned char)text[0];
		return release(d, out, false);
	}
	n = release(d, out, true);
	if (d->strip_space && p->kind == SPM_TEXT && p->marked && (t->dummy_prefix || t->trims)) {
		text++;
		len--;
		d->strip_space = t->trims; /* a model that trims drops every leading space */
	}
	if (len > 0)
		d->strip_space = false;
	return n + put(out + n, text, len);
}

size_t core_detok_flush(struct core_detok *d, char *out)
{
	return release(d, out, true);
}

size_t core_detok_bound(const struct core_tokenizer *t)
{
	return sizeof((struct core_detok *)0)->held * REPLACEMENT_LEN + t->longest;
}

int core_tokenizer_decode(const struct core_tokenizer *t, const int32_t *tokens, size_t n, char **out, size_t *len,
			  struct core_error *err)
{
	struct core_detok d = {.strip_space = true};
	size_t room = 4 * REPLACEMENT_LEN + 1, at = 0; /* what a flush can add, and a final NUL */

	*out = NULL;
	*len = 0;
	for (size_t i = 0; i < n; i++) {
		if (tokens[i] < 0 || (uint32_t)tokens[i] >= t->size)
			return core_fail(err, CORE_EINVAL, "token %d is outside the vocabulary of %u", tokens[i],
					 (unsigned)t->size);
		/* A byte makes at most one replacement, now or later. */
		room += t->pieces[tokens[i]].kind == SPM_BYTE ? REPLACEMENT_LEN : t->pieces[tokens[i]].len;
	}
	*out = malloc(room);
	if (*out == NULL)
		return core_fail(err, CORE_ENOMEM, "out of memory to decode %zu tokens", n);
	for (size_t i = 0; i < n; i++)
		at += core_detok_push(&d, t, tokens[i], *out + at);
	at += core_detok_flush(&d, *out + at);
	(*out)[at] = '\0';
	*len = at;
	return 0;
}
