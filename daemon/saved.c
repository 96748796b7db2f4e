/* saved.c: bytes. Sizes are checked against what is there before memory is asked for. */
#include "saved.h"
#include "bytes.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FORMAT = 1 };

static void put_block(struct bytes_out *o, const void *data, size_t n)
{
	bytes_put_u64(o, n);
	if (n)
		bytes_put(o, data, n);
}

static const void *take_block(struct bytes_in *in, size_t *n)
{
	uint64_t len = bytes_take_u64(in);
	*n = (size_t)len;
	return bytes_take(in, len);
}

static void put_digest(struct bytes_out *o, const char *digest)
{
	bytes_put(o, digest, 65);
}

static void take_digest(struct bytes_in *in, char *digest)
{
	const uint8_t *p = bytes_take(in, 65);
	if (p)
		memcpy(digest, p, 65);
	digest[64] = 0;
}

static void *taken(struct bytes_out *o, size_t *len)
{
	if (o->failed) {
		free(o->data);
		return NULL;
	}
	*len = o->len;
	return o->data;
}

/* ---- the request ---- */

void *saved_request_write(const struct saved_request *r, size_t *len)
{
	struct bytes_out o = {0};
	bytes_put_u8(&o, FORMAT);
	bytes_put_u8(&o, (uint8_t)(r->quiet | r->refused << 1));
	put_digest(&o, r->blend);
	put_block(&o, r->body, r->body_len);
	return taken(&o, len);
}

int saved_request_read(struct saved_request *r, const void *data, size_t len)
{
	struct bytes_in in = {.at = data, .left = len};
	if (bytes_take_u8(&in) != FORMAT)
		return -1;
	uint8_t flags = bytes_take_u8(&in);
	r->quiet = flags & 1;
	r->refused = flags >> 1 & 1;
	take_digest(&in, r->blend);
	r->body = take_block(&in, &r->body_len);
	return in.failed || in.left ? -1 : 0;
}

/* ---- scores ---- */

static void put_float(struct bytes_out *o, float f)
{
	uint32_t u;
	memcpy(&u, &f, sizeof u);
	bytes_put_u32(o, u);
}

static float take_float(struct bytes_in *in)
{
	uint32_t u = bytes_take_u32(in);
	float f;
	memcpy(&f, &u, sizeof f);
	return f;
}

static void put_score(struct bytes_out *o, const struct job_score *s)
{
	uint64_t bits;
	bytes_put_u8(o, s->present);
	if (!s->present)
		return;
	memcpy(&bits, &s->logprob, sizeof bits);
	bytes_put_u8(o, s->greedy);
	bytes_put_u8(o, s->first_null);
	bytes_put_u64(o, bits);
	bytes_put_u64(o, s->n_tokens);
	for (size_t i = 0; i < s->n_tokens; i++) {
		const struct engine_token *t = &s->tokens[i];
		bytes_put_u32(o, (uint32_t)t->token);
		put_float(o, t->logprob);
		bytes_put_u8(o, t->greedy);
		bytes_put_u32(o, t->n_top);
		for (uint32_t k = 0; k < t->n_top; k++) {
			bytes_put_u32(o, (uint32_t)t->top[k].token);
			put_float(o, t->top[k].logprob);
		}
	}
}

/* The number of tops, of all tokens together: read ahead, as tokens and tops stand in one block of memory. */
static uint64_t count_tops(struct bytes_in in, uint64_t n)
{
	uint64_t tops = 0;
	for (uint64_t i = 0; i < n && !in.failed; i++) {
		bytes_take(&in, 9);
		uint32_t k = bytes_take_u32(&in);
		bytes_take(&in, (uint64_t)k * 8);
		tops += in.failed ? 0 : k;
	}
	return tops;
}

static int take_tokens(struct bytes_in *in, struct job_score *s, uint64_t n)
{
	if (n > in->left / 13)
		return -1;
	uint64_t tops = count_tops(*in, n);
	s->tokens = malloc((size_t)(n * sizeof *s->tokens + tops * sizeof(struct engine_top)) + 1);
	if (!s->tokens)
		return -1;
	struct engine_top *top = (struct engine_top *)(s->tokens + n);
	for (uint64_t i = 0; i < n && !in->failed; i++) {
		struct engine_token *t = &s->tokens[i];
		t->token = (int32_t)bytes_take_u32(in);
		t->logprob = take_float(in);
		t->greedy = bytes_take_u8(in);
		t->n_top = bytes_take_u32(in);
		t->top = top;
		for (uint32_t k = 0; k < t->n_top && !in->failed; k++) {
			*top = (struct engine_top){.token = (int32_t)bytes_take_u32(in)};
			top++->logprob = take_float(in);
		}
	}
	s->n_tokens = n;
	return in->failed ? -1 : 0;
}

static int take_score(struct bytes_in *in, struct job_score *s)
{
	s->present = bytes_take_u8(in);
	if (!s->present)
		return in->failed ? -1 : 0;
	s->greedy = bytes_take_u8(in);
	s->first_null = bytes_take_u8(in);
	uint64_t bits = bytes_take_u64(in);
	memcpy(&s->logprob, &bits, sizeof bits);
	return take_tokens(in, s, bytes_take_u64(in));
}

/* ---- the answer ---- */

static void put_choice(struct bytes_out *o, const struct job_choice *c, bool quiet)
{
	bytes_put_u32(o, (uint32_t)c->finish);
	if (!quiet)
		return; /* the journaled deltas have the rest */
	put_block(o, c->text, c->len);
	bytes_put_u64(o, c->n_tokens);
	bytes_put_words(o, (const uint32_t *)c->tokens, c->n_tokens);
	bytes_put_u64(o, c->n_logprobs);
	put_block(o, c->logprobs, c->logprobs_len);
}

static int take_choice(struct bytes_in *in, struct job *j, struct job_choice *c, bool quiet)
{
	size_t len;
	c->finish = (int)bytes_take_u32(in);
	if (!quiet)
		return in->failed ? -1 : 0;
	const void *text = take_block(in, &c->len);
	uint64_t n = bytes_take_u64(in);
	if (in->failed || n > in->left / 4)
		return c->len = 0, -1;
	c->text = malloc(c->len + 1);
	c->tokens = malloc((size_t)n * 4 + 1);
	if (!c->text || !c->tokens)
		return c->len = 0, -1;
	memcpy(c->text, text, c->len);
	c->text_cap = c->len;
	c->n_tokens = c->tokens_cap = n;
	if (!bytes_take_words(in, (uint32_t *)c->tokens, n))
		return -1;
	n = bytes_take_u64(in);
	text = take_block(in, &len);
	return in->failed || !len ? -(int)in->failed : job_add_logprobs(j, (uint32_t)(c - j->choices), text, len, n);
}

void *saved_answer_write(const struct job *j, const struct saved_answer *a, size_t *len)
{
	struct bytes_out o = {0};
	uint32_t choices = j->choices ? j->n_choices : 0;
	bytes_put_u8(&o, FORMAT);
	bytes_put_u64(&o, a->cut);
	put_digest(&o, a->blend);
	bytes_put_u8(&o, a->checkpoint != NULL);
	put_block(&o, a->checkpoint, a->checkpoint_len);
	bytes_put_u32(&o, choices);
	for (uint32_t i = 0; i < choices; i++)
		put_choice(&o, &j->choices[i], j->journal->quiet);
	put_score(&o, &j->prompt_score);
	bytes_put_u64(&o, j->n_scores);
	for (size_t i = 0; i < j->n_scores; i++)
		put_score(&o, &j->scores[i]);
	return taken(&o, len);
}

int saved_answer_read(struct job *j, struct saved_answer *a, const void *data, size_t len)
{
	struct bytes_in in = {.at = data, .left = len};
	if (bytes_take_u8(&in) != FORMAT)
		return -1;
	a->cut = (size_t)bytes_take_u64(&in);
	take_digest(&in, a->blend);
	bool there = bytes_take_u8(&in);
	a->checkpoint = take_block(&in, &a->checkpoint_len);
	if (!there)
		a->checkpoint = NULL;
	uint32_t choices = bytes_take_u32(&in);
	if (in.failed || choices != (j->choices ? j->n_choices : 0))
		return -1;
	for (uint32_t i = 0; i < choices; i++)
		if (take_choice(&in, j, &j->choices[i], j->journal->quiet))
			return -1;
	if (take_score(&in, &j->prompt_score))
		return -1;
	uint64_t n = bytes_take_u64(&in);
	if (in.failed || (n && (!j->score || n != j->n_choices)))
		return -1;
	if (n && !(j->scores = calloc(n, sizeof *j->scores)))
		return -1;
	j->n_scores = n;
	for (size_t i = 0; i < n; i++)
		if (take_score(&in, &j->scores[i]))
			return -1;
	return in.left ? -1 : 0;
}

/* ---- deltas ---- */

static int add(struct job *j, const msgpack_object *root)
{
	const msgpack_object *tokens = wire_get(root, "tokens");
	struct engine_event e = {.kind = EV_DELTA};
	const char *text;
	uint64_t choice, token;
	if (!wire_get_uint(wire_get(root, "choice"), &choice) || choice >= j->n_choices ||
	    !wire_get_str(wire_get(root, "text"), &text, &e.text_len) || !tokens || tokens->type != MSGPACK_OBJECT_ARRAY)
		return -1;
	e.choice = (uint32_t)choice;
	e.text = (char *)text;
	e.n_tokens = tokens->via.array.size;
	e.tokens = calloc(e.n_tokens + 1, sizeof *e.tokens);
	int rc = e.tokens ? 0 : -1;
	for (size_t i = 0; i < e.n_tokens && !rc; i++) {
		rc = wire_get_uint(&tokens->via.array.ptr[i], &token) ? 0 : -1;
		e.tokens[i].token = (int32_t)token;
	}
	if (!rc)
		rc = job_add_delta(j, &e);
	free(e.tokens);
	return rc;
}

int saved_delta_add(struct job *j, const void *event, size_t len)
{
	struct wire_msg m;
	const char *why;
	if (wire_decode(&m, event, len, &why))
		return -1;
	int rc = wire_is_cstr(wire_get(&m.root, "event"), "delta") ? add(j, &m.root) : 1;
	wire_finish(&m);
	return rc;
}
