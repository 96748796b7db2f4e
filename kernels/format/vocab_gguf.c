/* vocab_gguf.c: the vocabulary of a GGUF file rewritten as SentencePiece's ModelProto.
 *
 * tokenizer.ggml.model "llama" is SentencePiece's BPE, and the token types have SentencePiece's numbers, so the same library runs
 * both kinds of file and there is one algorithm to trust. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "gguf.h"
#include "vocab.h"

enum token_type { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, USER_DEFINED = 4, UNUSED = 5, BYTE = 6 };
enum { MAX_TOKENS = 1 << 22, MAX_TOKEN_BYTES = 1 << 16, MODEL_TYPE_BPE = 2 };

struct token_list {
	struct cursor texts, scores, types;	/* each walks its array; types.data NULL: all normal */
	uint32_t n;
	uint64_t unknown;		/* the id that is unknown where no type says so */
	bool has_unknown, has_bytes;
};

/* ---- protobuf ---- */

static size_t put_varint(uint8_t *to, uint64_t v)
{
	size_t n = 0;

	for (; v > 127; v >>= 7)
		to[n++] = (uint8_t)(v | 128);
	to[n++] = (uint8_t)v;
	return n;
}

/* Message `number` whose body is the n bytes. */
static int append_message(struct vocab *v, unsigned number, const uint8_t *body, size_t n, struct core_error *err)
{
	uint8_t head[16];
	size_t at = 0;
	int rc;

	head[at++] = (uint8_t)(number << 3 | 2);
	at += put_varint(head + at, n);
	rc = vocab_append(v, head, at, err);
	return rc == 0 ? vocab_append(v, body, n, err) : rc;
}

/* SentencePiece{piece = 1, score = 2, type = 3} */
static int append_piece(struct vocab *v, struct gguf_text text, float score, enum token_type type, struct core_error *err)
{
	uint8_t head[32], tail[8];
	size_t at = 0, inner = 0;
	uint8_t len[10];
	int rc;

	tail[inner++] = 2 << 3 | 5;
	memcpy(tail + inner, &score, 4);
	inner += 4;
	tail[inner++] = 3 << 3;
	tail[inner++] = (uint8_t)type;
	head[at++] = 1 << 3 | 2;
	at += put_varint(head + at, 1 + put_varint(len, text.len) + text.len + inner);
	head[at++] = 1 << 3 | 2;
	at += put_varint(head + at, text.len);
	rc = vocab_append(v, head, at, err);
	if (rc == 0)
		rc = vocab_append(v, text.s, text.len, err);
	return rc == 0 ? vocab_append(v, tail, inner, err) : rc;
}

static int append_specs(struct vocab *v, const struct token_list *l, struct core_error *err)
{
	uint8_t trainer[24], normalizer[16];
	size_t t = 0, n = 0;
	int rc;

	trainer[t++] = 3 << 3; /* model_type */
	trainer[t++] = MODEL_TYPE_BPE;
	trainer[t++] = 4 << 3; /* vocab_size */
	t += put_varint(trainer + t, l->n);
	trainer[t++] = 0x98; /* byte_fallback = 35: a tag of two bytes */
	trainer[t++] = 0x02;
	trainer[t++] = l->has_bytes;
	normalizer[n++] = 3 << 3; /* add_dummy_prefix */
	normalizer[n++] = v->dummy_prefix;
	normalizer[n++] = 4 << 3; /* remove_extra_whitespaces */
	normalizer[n++] = v->trims;
	normalizer[n++] = 5 << 3; /* escape_whitespaces */
	normalizer[n++] = 1;
	rc = append_message(v, 2, trainer, t, err);
	return rc == 0 ? append_message(v, 3, normalizer, n, err) : rc;
}

/* ---- the token list ---- */

static int open_list(struct token_list *l, const struct gguf *g, struct core_error *err)
{
	const struct gguf_value *tokens, *scores, *types;
	int rc = gguf_array(g, "tokenizer.ggml.tokens", GGUF_STRING, true, &tokens, err);

	if (rc == 0)
		rc = gguf_array(g, "tokenizer.ggml.scores", GGUF_F32, true, &scores, err);
	if (rc == 0)
		rc = gguf_array(g, "tokenizer.ggml.token_type", GGUF_I32, true, &types, err);
	if (rc == 0)
		rc = gguf_uint(g, "tokenizer.ggml.unknown_token_id", false, UINT32_MAX, &l->unknown, err);
	if (rc < 0)
		return rc;
	if (tokens->count == 0 || tokens->count > MAX_TOKENS || scores->count != tokens->count || types->count != tokens->count)
		return core_fail(err, CORE_EFORMAT,
				 "%s: the vocabulary has %" PRIu64 " tokens, %" PRIu64 " scores and %" PRIu64
				 " types; expected the "
				 "same number of each, at most %d",
				 g->path, tokens->count, scores->count, types->count, MAX_TOKENS);
	l->n = (uint32_t)tokens->count;
	l->texts = tokens->bytes;
	l->scores = scores->bytes;
	l->types = types->bytes;
	for (struct cursor c = l->types; c.at < c.size;) {
		uint32_t type = cursor_u32(&c);
		l->has_unknown |= type == UNKNOWN;
		l->has_bytes |= type == BYTE;
	}
	return 0;
}

static int append_pieces(struct vocab *v, struct token_list *l, const struct gguf *g, struct core_error *err)
{
	int rc = 0;

	for (uint32_t id = 0; id < l->n && rc == 0; id++) {
		struct gguf_text text = gguf_next_string(&l->texts);
		uint32_t bits = cursor_u32(&l->scores), type = cursor_u32(&l->types);
		float score;

		memcpy(&score, &bits, sizeof score);
		if (type < NORMAL || type > BYTE || text.len == 0 || text.len > MAX_TOKEN_BYTES || isnan(score))
			return core_fail(err, CORE_EFORMAT,
					 "%s: token %" PRIu32
					 ": expected 1 to %d bytes, a score and a type from 1 to 6, found %zu, %g "
					 "and %" PRIu32,
					 g->path, id, MAX_TOKEN_BYTES, text.len, (double)score, type);
		if (!l->has_unknown && id == l->unknown)
			type = UNKNOWN;
		rc = append_piece(v, text, score, (enum token_type)type, err);
	}
	return rc;
}

static int token_id(const struct gguf *g, const char *key, uint32_t size, int32_t missing, int32_t *out, struct core_error *err)
{
	uint64_t id = UINT64_MAX;
	int rc = gguf_uint(g, key, false, UINT32_MAX, &id, err);

	if (rc < 0)
		return rc;
	if (id == UINT64_MAX)
		*out = missing < (int32_t)size ? missing : -1;
	else if (id < size)
		*out = (int32_t)id;
	else if (id == UINT32_MAX) /* some writers put -1 */
		*out = -1;
	else
		return core_fail(err, CORE_EFORMAT, "%s: %s %" PRIu64 " is outside the vocabulary of %" PRIu32 " tokens", g->path,
				 key, id, size);
	return 0;
}

static int read_list(struct vocab *v, const struct gguf *g, struct core_error *err)
{
	struct token_list l = {0};
	struct gguf_text model = {0};
	bool add_bos = true;
	int rc = gguf_string(g, "tokenizer.ggml.model", true, &model, err);

	if (rc == 0 && !gguf_text_is(model, "llama"))
		return core_fail(err, CORE_EUNSUPPORTED,
				 "%s: tokenizer.ggml.model: %.*s is not supported, only llama (SentencePiece)", g->path,
				 model.len < 40 ? (int)model.len : 40, model.s);
	v->dummy_prefix = true; /* the defaults of this kind of vocabulary */
	v->trims = false;
	if (rc == 0)
		rc = gguf_bool(g, "tokenizer.ggml.add_space_prefix", &v->dummy_prefix, err);
	if (rc == 0)
		rc = gguf_bool(g, "tokenizer.ggml.remove_extra_whitespaces", &v->trims, err);
	if (rc == 0)
		rc = gguf_bool(g, "tokenizer.ggml.add_bos_token", &add_bos, err);
	if (rc == 0)
		rc = open_list(&l, g, err);
	if (rc == 0)
		rc = token_id(g, "tokenizer.ggml.bos_token_id", l.n, 1, &v->bos, err);
	if (rc == 0)
		rc = token_id(g, "tokenizer.ggml.eos_token_id", l.n, 2, &v->eos, err);
	if (rc == 0)
		rc = append_pieces(v, &l, g, err);
	v->no_bos = !add_bos;
	return rc == 0 ? append_specs(v, &l, err) : rc;
}

int vocab_from_gguf(struct vocab *v, const struct map *m, const char *path, struct core_error *err)
{
	struct gguf g;
	int rc = gguf_parse(&g, m, path, err);

	if (rc < 0)
		return rc;
	rc = read_list(v, &g, err);
	gguf_finish(&g);
	return rc;
}
