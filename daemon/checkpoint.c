/* checkpoint.c: a job as bytes, and a job from bytes.
 *
 * Between commit and plan no feed is open: the sequences' tokens (the KV is rebuilt from them), the choices' samplers and
 * detokenisers, the decoder's own state and a few counters are all there is. What follows from the request is not in it: it is
 * bound to the request by a digest.
 *
 *     magic, format
 *     digest of all that follows
 *     identity    model, kind of device, bits of the core with its kv_type, blend, request, the decoder's and each sampler's file:
 *                 16 bytes of digest each
 *     counters    plan, tokens drawn, tokens scored
 *     sequences   next number, how many; each: number, tokens, how many of them stand in the prompt or the sequence before, the
 *                 rest
 *     choices     how many; each: index, flags, held bytes of the detokeniser, samplers (chain.c)
 *     decoder     length, bytes
 *
 * Nothing in it depends on time or on neighbours, so a job that was cut off and one that was not have the same bytes at the same
 * place. */
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/run.h"

enum { FORMAT = 2, DIGEST = 16 };
enum { PLUGINS_AT = 5 }; /* in the identity */
enum { MAGIC_LEN = 8, HEAD = MAGIC_LEN + 4 + DIGEST };
static const char magic[MAGIC_LEN + 1] = "weftckpt";

enum { SPOKE = 1, FINISHED = 2, HAS_CHAIN = 4, STRIP_SPACE = 8 };
enum { AFTER_PROMPT, AFTER_PREVIOUS }; /* where a sequence's first tokens stand already */

/* ---- what it is bound to ---- */

static void hash_u64(crypto_generichash_state *h, uint64_t v)
{
	uint8_t le[8];

	for (int i = 0; i < 8; i++)
		le[i] = (uint8_t)(v >> 8 * i);
	crypto_generichash_update(h, le, sizeof le);
}

static void hash_bytes(crypto_generichash_state *h, const void *data, size_t n)
{
	hash_u64(h, n);
	if (n > 0)
		crypto_generichash_update(h, data, n);
}

static void hash_float(crypto_generichash_state *h, double f)
{
	uint64_t bits;

	memcpy(&bits, &f, sizeof bits);
	hash_u64(h, bits);
}

static void hash_value(crypto_generichash_state *h, const struct weft_param *p, const struct weft_value *v)
{
	hash_u64(h, p->type);
	/* Of i and f only the one that the type has: the other depends on whether the value was given or is the default. */
	if (p->type == WEFT_FLOAT)
		hash_float(h, v->f);
	else
		hash_u64(h, (uint64_t)v->i);
	hash_bytes(h, v->str, v->str == NULL ? 0 : strlen(v->str));
	hash_u64(h, v->n);
	for (uint64_t i = 0; i < v->n; i++) {
		if (v->ints != NULL)
			hash_u64(h, (uint64_t)v->ints[i]);
		if (v->floats != NULL)
			hash_float(h, v->floats[i]);
		if (v->strs != NULL)
			hash_bytes(h, v->strs[i], strlen(v->strs[i]));
	}
}

static void hash_args(crypto_generichash_state *h, const struct plugin_args *a)
{
	const struct weft_plugin *p = a->plugin->desc;

	hash_bytes(h, p->name, strlen(p->name));
	hash_u64(h, p->n_params);
	for (uint64_t i = 0; i < p->n_params; i++) {
		hash_bytes(h, p->params[i].name, strlen(p->params[i].name));
		hash_value(h, &p->params[i], &a->values[i]);
	}
}

static void hash_request(const struct engine_job *spec, uint8_t out[DIGEST])
{
	crypto_generichash_state h;

	crypto_generichash_init(&h, NULL, 0, DIGEST);
	hash_u64(&h, spec->seed);
	hash_bytes(&h, spec->prompt, spec->n_prompt * sizeof *spec->prompt);
	hash_u64(&h, spec->n_continuations);
	for (size_t i = 0; i < spec->n_continuations; i++)
		hash_bytes(&h, spec->continuations[i], spec->continuation_len[i] * sizeof **spec->continuations);
	hash_args(&h, &spec->decoder);
	hash_u64(&h, spec->n_samplers);
	for (size_t i = 0; i < spec->n_samplers; i++)
		hash_args(&h, &spec->samplers[i]);
	crypto_generichash_final(&h, out, DIGEST);
}

/* The first half of a digest in hex; zeros when it is none. */
static void put_hex(struct bytes_out *o, const char *hex)
{
	uint8_t raw[DIGEST] = {0};
	size_t n = 0;

	if (sodium_hex2bin(raw, sizeof raw, hex, 2 * sizeof raw, NULL, &n, NULL) != 0 || n != sizeof raw)
		memset(raw, 0, sizeof raw);
	bytes_put(o, raw, sizeof raw);
}

/* CPU and GPU each agree with themselves, not with each other (P1): an answer is of one of them. Which one of several GPUs does
 * not matter: "cuda:0" and "cuda:1" are "cuda". */
static void put_device(struct bytes_out *o, const char *device)
{
	uint8_t digest[DIGEST];

	crypto_generichash(digest, sizeof digest, (const uint8_t *)device, strcspn(device, ":"), NULL, 0);
	bytes_put(o, digest, sizeof digest);
}

static void put_core(struct bytes_out *o, const struct core_ctx *core)
{
	uint8_t digest[DIGEST];
	crypto_generichash_state h;

	crypto_generichash_init(&h, NULL, 0, DIGEST);
	hash_u64(&h, core_ctx_bits(core));
	hash_u64(&h, core_ctx_kv_type(core));
	crypto_generichash_final(&h, digest, DIGEST);
	bytes_put(o, digest, sizeof digest);
}

/* Fills job->identity. False: out of memory. */
static bool identify(struct weft_job *job)
{
	const struct engine_job *spec = job->spec;
	struct bytes_out *o = &job->identity;
	uint8_t request[DIGEST];

	if (o->len > 0)
		return true;
	hash_request(spec, request);
	put_hex(o, job->model->digest);
	put_device(o, core_ctx_device(job->core));
	put_core(o, job->core);
	put_hex(o, core_blend_digest(spec->blend));
	bytes_put(o, request, sizeof request);
	put_hex(o, spec->decoder.plugin->digest);
	for (size_t i = 0; i < spec->n_samplers; i++)
		put_hex(o, spec->samplers[i].plugin->digest);
	if (!o->failed)
		return true;
	free(o->data);
	*o = (struct bytes_out){0};
	return false;
}

/* What differs, in words; NULL: nothing. In this order the later ones mean something: the list of plugins is the request's. */
static const char *other_identity(const struct weft_job *job, const uint8_t *theirs, char *room, size_t size)
{
	static const char *const what[PLUGINS_AT] = {"it is of another model", "it was computed on another kind of device",
						     "it was computed by another version of the core, with another kv_type, or one of both with AMX", "it is of another blend of adapters",
						     "it is of another request"};
	const uint8_t *ours = job->identity.data;

	for (size_t i = 0; i * DIGEST < job->identity.len; i++) {
		if (memcmp(ours + i * DIGEST, theirs + i * DIGEST, DIGEST) == 0)
			continue;
		if (i < PLUGINS_AT)
			return what[i];
		const struct plugin_args *a = i == PLUGINS_AT ? &job->spec->decoder : &job->spec->samplers[i - PLUGINS_AT - 1];
		snprintf(room, size, "it was made by another version of the plugin %s", a->plugin->desc->name);
		return room;
	}
	return NULL;
}

/* ---- to bytes ---- */

/* How many of the first n words are the same: long runs at memcmp's pace. */
static uint32_t common(const void *a, const void *b, uint32_t n)
{
	enum { RUN = 64 };
	const uint32_t *x = a, *y = b;
	uint32_t i = 0;

	while (n - i >= RUN && memcmp(x + i, y + i, RUN * sizeof *x) == 0)
		i += RUN;
	while (i < n && x[i] == y[i])
		i++;
	return i;
}

static uint32_t least(uint64_t a, uint64_t b)
{
	return (uint32_t)(a < b ? a : b);
}

static void put_seq(const struct weft_job *job, struct bytes_out *o, uint32_t i)
{
	const struct engine_job *spec = job->spec;
	const struct seq *s = job->seqs[i], *before = i == 0 ? NULL : job->seqs[i - 1];
	/* a token of the prompt has the same bits in both lists, as long as it came by the prompt's path */
	uint32_t prompt = common(s->tokens, spec->prompt, least(s->n, spec->n_prompt));
	uint32_t shared = before == NULL ? 0 : common(s->tokens, before->tokens, least(s->n, before->n));
	bool after_previous = shared > prompt;

	shared = after_previous ? shared : prompt;
	bytes_put_u32(o, s->number);
	bytes_put_u32(o, s->n);
	bytes_put_u32(o, after_previous ? AFTER_PREVIOUS : AFTER_PROMPT);
	bytes_put_u32(o, shared);
	bytes_put_words(o, s->tokens + shared, s->n - shared);
}

static int put_choice(struct weft_job *job, struct bytes_out *o, const struct choice *c, char *why)
{
	uint8_t flags = (uint8_t)((c->spoke ? SPOKE : 0) | (c->finished ? FINISHED : 0) | (c->has_chain ? HAS_CHAIN : 0) |
				  (c->detok.strip_space ? STRIP_SPACE : 0));

	bytes_put_u32(o, c->index);
	bytes_put_u8(o, flags);
	bytes_put_u8(o, (uint8_t)c->detok.n_held);
	bytes_put(o, c->detok.held, c->detok.n_held);
	return c->has_chain ? chain_save(&c->chain, job, o, why) : 0;
}

static int put_decoder(struct weft_job *job, struct bytes_out *o, char *why)
{
	const struct plugin *p = job->spec->decoder.plugin;
	struct weft_blob blob = {.size = sizeof blob};

	run_enter(job, PHASE_SAVE, p, 0);
	int rc = run_verdict(job, "save", p->desc->decoder->save(job->decoder, &blob), why);
	if (rc == 0) {
		bytes_put_u64(o, blob.len);
		bytes_put(o, blob.data, blob.len);
	}
	free((void *)blob.data);
	return rc;
}

static int put_all(struct weft_job *job, struct bytes_out *o, char *why)
{
	bytes_put(o, magic, MAGIC_LEN);
	bytes_put_u32(o, FORMAT);
	bytes_put(o, (const uint8_t[DIGEST]){0}, DIGEST);
	bytes_put(o, job->identity.data, job->identity.len);
	bytes_put_u64(o, job->plan);
	bytes_put_u64(o, job->drawn);
	bytes_put_u64(o, job->scored);
	bytes_put_u32(o, job->next_seq);
	bytes_put_u32(o, job->n_seqs);
	for (uint32_t i = 0; i < job->n_seqs; i++)
		put_seq(job, o, i);
	bytes_put_u32(o, job->n_choices);
	for (uint32_t i = 0; i < job->n_choices; i++) {
		int rc = put_choice(job, o, job->choices[i], why);
		if (rc != 0)
			return rc;
	}
	int rc = put_decoder(job, o, why);
	if (rc != 0 || o->failed)
		return rc;
	if (o->len > RUN_CHECKPOINT_BYTES) {
		snprintf(why, RUN_REASON, "its state is more than %d bytes", RUN_CHECKPOINT_BYTES);
		return WEFT_EUNSUPPORTED;
	}
	crypto_generichash(o->data + MAGIC_LEN + 4, DIGEST, o->data + HEAD, o->len - HEAD, NULL, 0);
	return 0;
}

bool checkpoint_due(const struct weft_job *job)
{
	const struct engine_pace *pace = &job->out->pace;
	uint64_t made = job->made - job->made_before;

	return job->spec->checkpoints && !job->unsaveable && made >= pace->tokens && made * pace->bytes >= job->last_len &&
	       run_now_ns() - job->saved_at >= (int64_t)pace->ms * 1000000;
}

/* It stays so for the rest of the job: said once. */
static void cannot_save(struct weft_job *job, const char *why)
{
	char line[RUN_REASON + 80];

	job->unsaveable = true;
	snprintf(line, sizeof line, "cannot be saved; after a crash it starts from its prompt: %s", why);
	if (job->out->log != NULL)
		job->out->log(job->out->log_arg, job->spec->id, WEFT_LOG_WARNING, line);
}

/* The bytes; none: the job cannot be saved, or (not unsaveable) memory is short. */
static struct bytes_out save(struct weft_job *job)
{
	struct bytes_out o = {0};
	char why[RUN_REASON];

	job->unsaveable |= job->spec->decoder.plugin->desc->decoder->save == NULL;
	if (job->unsaveable || !identify(job))
		return o;
	int rc = put_all(job, &o, why);
	if (rc != 0)
		cannot_save(job, why);
	if (rc == 0 && !o.failed)
		return o;
	free(o.data);
	return (struct bytes_out){0};
}

void checkpoint_make(struct weft_job *job, bool asked)
{
	int64_t from = run_now_ns();
	struct bytes_out o = save(job);

	job->saved_at = from; /* also when it came to nothing: not again at once */
	if (o.data == NULL && !(asked && job->unsaveable))
		return;
	struct engine_event *e = run_event(job, EV_CHECKPOINT);
	if (e == NULL) {
		free(o.data);
		return; /* another time */
	}
	e->blob = o.data;
	e->blob_len = o.len;
	if (o.data == NULL)
		return;
	job->made_before = job->made;
	job->last_len = o.len;
	job->out->checkpoints++;
	job->out->checkpoint_bytes += o.len;
	job->out->checkpoint_ns += (uint64_t)(run_now_ns() - from);
}

/* ---- and back ---- */

static enum restored __attribute__((format(printf, 2, 3))) refuse(char *why, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, RUN_REASON, fmt, ap);
	va_end(ap);
	return RESTORE_REFUSED;
}

static enum restored no_memory(struct weft_job *job)
{
	run_end(job, END_FAILED, WEFT_ENOMEM, "out of memory");
	return RESTORE_ENDED;
}

/* The first tokens of a sequence, which stand elsewhere: as many as `shared`, or NULL. */
static const void *shared_tokens(const struct weft_job *job, uint32_t where, uint32_t shared)
{
	const struct seq *before = job->n_seqs == 0 ? NULL : job->seqs[job->n_seqs - 1];

	if (where == AFTER_PROMPT && shared <= job->spec->n_prompt)
		return job->spec->prompt;
	return where == AFTER_PREVIOUS && before != NULL && shared <= before->n ? before->tokens : NULL;
}

static enum restored take_seq(struct weft_job *job, struct bytes_in *in, char *why)
{
	uint32_t number = bytes_take_u32(in), n = bytes_take_u32(in), where = bytes_take_u32(in), shared = bytes_take_u32(in);
	const void *first = shared_tokens(job, where, shared);

	if (in->failed || first == NULL || shared > n || n - shared > in->left / 4 || number >= job->next_seq ||
	    (job->n_seqs > 0 && number <= job->seqs[job->n_seqs - 1]->number))
		return refuse(why, "the sequence %u in it is impossible", number);
	if (n > job->model->context)
		return refuse(why, "its sequence %u has %u tokens, and the context has %u", number, n, job->model->context);
	struct seq *s = seq_restore(job, number, n);
	if (s == NULL)
		return no_memory(job);
	memcpy(s->tokens, first, shared * sizeof *s->tokens);
	bytes_take_words(in, s->tokens + shared, n - shared);
	for (uint32_t i = shared; i < n; i++)
		if ((s->tokens[i] & ~CORE_WORD_GENERATED) >= job->model->vocab)
			return refuse(why, "it has a token outside the vocabulary");
	return RESTORED;
}

static enum restored take_seqs(struct weft_job *job, struct bytes_in *in, char *why)
{
	job->next_seq = bytes_take_u32(in);
	uint32_t n = bytes_take_u32(in);

	if (n > RUN_SEQS)
		return refuse(why, "it has %u sequences; %d is the limit", n, RUN_SEQS);
	for (uint32_t i = 0; i < n; i++) {
		enum restored r = take_seq(job, in, why);
		if (r != RESTORED)
			return r;
	}
	return RESTORED;
}

static enum restored take_choice(struct weft_job *job, struct bytes_in *in, char *why)
{
	uint32_t index = bytes_take_u32(in), before = job->n_choices;
	uint8_t flags = bytes_take_u8(in), n_held = bytes_take_u8(in);
	const uint8_t *held = bytes_take(in, n_held);

	job->breach_code = 0;
	if (held == NULL || n_held > 3 || (flags & ~(SPOKE | FINISHED | HAS_CHAIN | STRIP_SPACE)) != 0 ||
	    (before > 0 && index <= job->choices[before - 1]->index))
		return refuse(why, "the choice %u in it is impossible", index);
	struct choice *c = run_choice_make(job, index);
	if (c == NULL)
		return job->breach_code == WEFT_ENOMEM ? no_memory(job) : refuse(why, "the choice %u in it is impossible", index);
	c->spoke = (flags & SPOKE) != 0;
	c->finished = (flags & FINISHED) != 0;
	c->detok.strip_space = (flags & STRIP_SPACE) != 0;
	c->detok.n_held = n_held;
	memcpy(c->detok.held, held, n_held);
	c->has_chain = (flags & HAS_CHAIN) != 0;
	return c->has_chain ? chain_restore(&c->chain, job, index, in, why) : RESTORED;
}

static enum restored take_decoder(struct weft_job *job, struct bytes_in *in, char *why)
{
	const struct plugin *p = job->spec->decoder.plugin;
	struct weft_blob blob = {.size = sizeof blob};

	if (!run_make_decoder(job))
		return RESTORE_ENDED;
	blob.len = bytes_take_u64(in);
	blob.data = bytes_take(in, blob.len);
	if (in->failed || in->left > 0)
		return refuse(why, "it ends in the wrong place");
	run_enter(job, PHASE_LOAD, p, 0);
	return run_verdict(job, "load", p->desc->decoder->load(job->decoder, &blob), why) == 0 ? RESTORED : RESTORE_REFUSED;
}

static enum restored take_all(struct weft_job *job, struct bytes_in *in, char *why)
{
	job->plan = bytes_take_u64(in);
	job->drawn = bytes_take_u64(in);
	job->scored = bytes_take_u64(in);
	enum restored r = take_seqs(job, in, why);
	if (r != RESTORED)
		return r;
	uint32_t n = bytes_take_u32(in);
	if (n > RUN_CHOICES)
		return refuse(why, "it has %u choices; %d is the limit", n, RUN_CHOICES);
	for (uint32_t i = 0; i < n; i++) {
		r = take_choice(job, in, why);
		if (r != RESTORED)
			return r;
	}
	return take_decoder(job, in, why);
}

static enum restored check_head(struct weft_job *job, struct bytes_in *in, char *why)
{
	const uint8_t *m = bytes_take(in, MAGIC_LEN);
	uint32_t format = bytes_take_u32(in);
	const uint8_t *digest = bytes_take(in, DIGEST);
	uint8_t hash[DIGEST];
	char room[200];

	if (digest == NULL || memcmp(m, magic, MAGIC_LEN) != 0)
		return refuse(why, "it is no checkpoint");
	if (format != FORMAT)
		return refuse(why, "it has the format %u, and this weftd reads %d", format, FORMAT);
	crypto_generichash(hash, DIGEST, in->at, in->left, NULL, 0);
	if (memcmp(hash, digest, DIGEST) != 0)
		return refuse(why, "it is damaged");
	if (!identify(job))
		return no_memory(job);
	const uint8_t *theirs = bytes_take(in, job->identity.len);
	const char *other = theirs == NULL ? "it is of another request" : other_identity(job, theirs, room, sizeof room);
	return other == NULL ? RESTORED : refuse(why, "%s", other);
}

enum restored checkpoint_restore(struct weft_job *job, char why[static RUN_REASON])
{
	struct bytes_in in = {.at = job->spec->resume, .left = job->spec->resume_len};
	char reason[RUN_REASON] = "it ends too early";
	enum restored r;

	if (job->spec->decoder.plugin->desc->decoder->load == NULL)
		r = refuse(reason, "the plugin %s cannot load one", job->spec->decoder.plugin->desc->name);
	else
		r = check_head(job, &in, reason);
	if (r == RESTORED)
		r = take_all(job, &in, reason);
	if (r == RESTORE_REFUSED)
		snprintf(why, RUN_REASON, "the checkpoint cannot be used: %.*s", RUN_REASON - 40, reason);
	job->started = job->parked = r == RESTORED;
	job->last_len = job->spec->resume_len;
	return r;
}
