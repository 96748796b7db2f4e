/* fakehost.c: see fakehost.h. */
#include "fakehost.h"

#include <dlfcn.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- modules and parameters ---- */

const struct weft_plugin *fake_load(const char *name)
{
	const struct weft_plugin *(*get)(void);
	const char *top = getenv("top_builddir");
	char path[4096];
	void *handle;

	if (strchr(name, '/'))
		snprintf(path, sizeof(path), "%s", name);
	else
		snprintf(path, sizeof(path), "%s/plugins/.libs/%s.so", top ? top : ".", name);
	handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!handle)
		fail_msg("%s", dlerror());
	get = (const struct weft_plugin *(*)(void))dlsym(handle, "weft_plugin");
	assert_non_null(get);
	return get();
}

struct weft_value *fake_values(const struct weft_plugin *p)
{
	struct weft_value *v = calloc(p->n_params + 1, sizeof(*v));

	for (uint64_t i = 0; i < p->n_params; i++) {
		v[i].i = (int64_t)p->params[i].def;
		v[i].f = p->params[i].def;
		v[i].str = p->params[i].def_str ? p->params[i].def_str : "";
	}
	return v;
}

void fake_values_free(const struct weft_plugin *p, struct weft_value *v)
{
	free(v);
}

static struct weft_value *find(const struct weft_plugin *p, struct weft_value *v, const char *name)
{
	for (uint64_t i = 0; i < p->n_params; i++) {
		if (strcmp(p->params[i].name, name) == 0) {
			v[i].set = 1;
			return &v[i];
		}
	}
	fail_msg("%s has no parameter %s", p->name, name);
	return NULL;
}

void fake_set(const struct weft_plugin *p, struct weft_value *v, const char *name, double number)
{
	struct weft_value *x = find(p, v, name);
	const struct weft_param *param = &p->params[x - v];

	assert_true(number >= param->min && number <= param->max);
	x->i = (int64_t)number;
	x->f = number;
}

void fake_set_strings(const struct weft_plugin *p, struct weft_value *v, const char *name, const char *const *strs, uint64_t n)
{
	struct weft_value *x = find(p, v, name);

	x->strs = strs;
	x->n = n;
}

void fake_set_ints(const struct weft_plugin *p, struct weft_value *v, const char *name, const int64_t *ints, uint64_t n)
{
	struct weft_value *x = find(p, v, name);

	x->ints = ints;
	x->n = n;
}

void fake_set_map(const struct weft_plugin *p, struct weft_value *v, const char *name, const int64_t *ints, const double *floats,
		  uint64_t n)
{
	struct weft_value *x = find(p, v, name);

	x->ints = ints;
	x->floats = floats;
	x->n = n;
}

/* ---- the host's functions ---- */

static void host_log(struct weft_job *j, int level, const char *text)
{
}

static int host_fail(struct weft_job *j, int code, const char *text)
{
	assert_true(code < 0);
	snprintf(j->failed, sizeof(j->failed), "%s", text);
	return code;
}

static uint32_t host_vocab(struct weft_job *j)
{
	return j->model->vocab;
}

static int32_t host_eos(struct weft_job *j)
{
	return j->model->eos;
}

static uint32_t host_context(struct weft_job *j)
{
	return j->model->context;
}

static const char *host_piece(struct weft_job *j, int32_t token, uint64_t *len)
{
	const char *piece;

	if (token < 0 || (uint32_t)token >= j->model->vocab)
		return NULL;
	piece = j->model->pieces ? j->model->pieces[token] : "";
	*len = strlen(piece);
	return piece;
}

static int64_t host_tokenize(struct weft_job *j, const char *text, uint64_t len, int32_t *out, uint64_t cap)
{
	return WEFT_EUNSUPPORTED;
}

static uint64_t host_prompt(struct weft_job *j, const int32_t **tokens)
{
	*tokens = j->prompt;
	return j->n_prompt;
}

static uint64_t host_continuations(struct weft_job *j)
{
	return j->n_continuations;
}

static uint64_t host_continuation(struct weft_job *j, uint64_t i, const int32_t **tokens)
{
	assert_true(i < j->n_continuations);
	*tokens = j->continuations[i];
	return j->continuation_len[i];
}

double fake_uniform(uint64_t seed, uint32_t choice, uint64_t position, uint32_t k)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15u + choice * 0xbf58476d1ce4e5b9u + position * 0x94d049bb133111ebu + k + 1;

	for (int i = 0; i < 3; i++) {
		x ^= x >> 31;
		x *= 0xd6e8feb86659fd93u;
	}
	x ^= x >> 32;
	return (double)(x >> 11) * 0x1p-53;
}

static double host_uniform(struct weft_job *j, uint32_t choice, uint64_t position, uint32_t k)
{
	return fake_uniform(j->seed, j->planning ? choice : j->drawing, position, k);
}

static struct fake_seq *live(struct weft_job *j, uint32_t seq)
{
	assert_true(seq < j->n_seqs);
	assert_true(j->seqs[seq].live);
	return &j->seqs[seq];
}

static void *copy_exactly(const void *data, size_t len)
{
	void *p = malloc(len ? len : 1);

	memcpy(p, data, len);
	return p;
}

static int host_feed(struct weft_job *j, const struct weft_feed *f)
{
	struct weft_feed *mine;

	assert_true(j->planning && j->n_feeds < FAKE_FEEDS);
	assert_int_equal(f->size, sizeof(*f));
	assert_true(f->n_tokens >= 1 && f->top <= 64);
	live(j, f->seq);
	for (uint32_t i = 0; i < f->n_tokens; i++)
		assert_true(f->tokens[i] >= 0 && (uint32_t)f->tokens[i] < j->model->vocab);
	assert_true(j->seqs[f->seq].n + f->n_tokens <= j->model->context);
	mine = &j->feeds[j->n_feeds++];
	*mine = *f;
	mine->tokens = copy_exactly(f->tokens, f->n_tokens * sizeof(f->tokens[0]));
	mine->targets = f->targets ? copy_exactly(f->targets, f->n_tokens * sizeof(f->targets[0])) : NULL;
	mine->choices = f->n_choices ? copy_exactly(f->choices, f->n_choices * sizeof(f->choices[0])) : NULL;
	return 0;
}

static int host_fork(struct weft_job *j, uint32_t seq, uint32_t *new_seq)
{
	struct fake_seq *from = live(j, seq), *to;
	uint32_t n = 0;

	assert_true(j->planning && j->n_seqs < FAKE_SEQS);
	*new_seq = j->n_seqs++;
	to = &j->seqs[*new_seq];
	to->live = true;
	to->n = from->n;
	to->tokens = calloc(j->model->context, sizeof(to->tokens[0]));
	memcpy(to->tokens, from->tokens, from->n * sizeof(to->tokens[0]));
	for (uint32_t i = 0; i < j->n_seqs; i++)
		n += j->seqs[i].live;
	j->most_seqs = n > j->most_seqs ? n : j->most_seqs;
	return 0;
}

static int host_trim(struct weft_job *j, uint32_t seq, uint64_t len)
{
	assert_true(len <= live(j, seq)->n);
	j->seqs[seq].n = len;
	return 0;
}

static int host_drop(struct weft_job *j, uint32_t seq)
{
	assert_true(j->planning);
	live(j, seq)->live = false;
	for (uint32_t i = 0; i < j->n_feeds; i++)
		assert_int_not_equal(j->feeds[i].seq, seq);
	return 0;
}

static uint64_t host_seq_len(struct weft_job *j, uint32_t seq)
{
	return live(j, seq)->n;
}

/* ---- detokenising: whole UTF-8 characters, bad bytes as U+FFFD ---- */

static unsigned char_len(unsigned char lead)
{
	return lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
}

static size_t put_bad(char *out, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		memcpy(out + 3 * i, "\xef\xbf\xbd", 3);
	return 3 * n;
}

static size_t push_byte(unsigned char *held, unsigned *n_held, unsigned char b, char *out)
{
	size_t len = 0;

	if (*n_held && (b & 0xc0) != 0x80) {
		len = put_bad(out, *n_held);
		*n_held = 0;
	}
	if (*n_held == 0 && char_len(b) == 0)
		return len + put_bad(out + len, 1);
	held[(*n_held)++] = b;
	if (*n_held == char_len(held[0])) {
		memcpy(out + len, held, *n_held);
		len += *n_held;
		*n_held = 0;
	}
	return len;
}

static int host_detokenize(struct weft_job *j, uint32_t choice, int32_t token, const char **text, uint64_t *len)
{
	assert_true(choice < FAKE_CHOICES);
	*len = 0;
	*text = j->readable;
	if (token == -1) {
		*len = put_bad(j->readable, j->n_held[choice]);
		j->n_held[choice] = 0;
	} else {
		uint64_t n = 0;
		const char *piece = host_piece(j, token, &n);

		assert_non_null(piece);
		for (uint64_t i = 0; i < n; i++)
			*len += push_byte(j->held[choice], &j->n_held[choice], (unsigned char)piece[i], j->readable + *len);
	}
	j->readable[*len] = 0;
	return 0;
}

/* ---- what is recorded ---- */

static void keep_tokens(struct fake_token **list, uint64_t *n, const int32_t *ids, const struct weft_drawn *drawn, uint64_t count,
			bool first_null)
{
	*list = realloc(*list, (*n + count + 1) * sizeof(**list));
	for (uint64_t i = 0; i < count; i++) {
		struct fake_token *t = &(*list)[(*n)++];

		*t = (struct fake_token){.token = ids ? ids[i] : drawn[i].token, .null = first_null && i == 0};
		if (!drawn)
			continue;
		assert_int_equal(t->token, drawn[i].token);
		t->logprob = drawn[i].logprob;
		t->greedy = drawn[i].greedy;
		t->n_top = drawn[i].n_top;
		memcpy(t->top, drawn[i].top ? drawn[i].top : t->top, drawn[i].n_top * sizeof(t->top[0]));
	}
}

/* Whole characters only (the shortest-form rule is the detokeniser's business). */
static void assert_utf8(const char *text, uint64_t len)
{
	for (uint64_t i = 0; i < len;) {
		unsigned n = char_len((unsigned char)text[i]);

		assert_true(n > 0 && i + n <= len);
		for (unsigned k = 1; k < n; k++)
			assert_true(((unsigned char)text[i + k] & 0xc0) == 0x80);
		i += n;
	}
}

static int host_delta(struct weft_job *j, const struct weft_delta *d)
{
	struct fake_answer *a;

	assert_int_equal(d->size, sizeof(*d));
	assert_true(d->choice < FAKE_CHOICES && !j->planning);
	assert_true(d->n_tokens || d->text_len);
	a = j->answers[d->choice];
	assert_int_equal(a->finish, 0);
	assert_utf8(d->text, d->text_len);
	assert_true(a->len + d->text_len < sizeof(a->text));
	memcpy(a->text + a->len, d->text, d->text_len);
	a->len += d->text_len;
	keep_tokens(&a->tokens, &a->n, d->tokens, d->has_logprobs ? d->logprobs : NULL, d->n_tokens, d->first_null);
	a->has_logprobs = d->has_logprobs;
	a->deltas++;
	for (uint32_t i = 0; i < d->n_tokens; i++)
		a->shown += strlen(j->model->pieces ? j->model->pieces[d->tokens[i]] : "");
	a->agreed &= a->unshown == 0;
	a->unshown = a->shown - a->len;
	return 0;
}

static int host_score(struct weft_job *j, const struct weft_score *s)
{
	struct fake_score *mine = &j->scores[j->n_scores++];

	assert_int_equal(s->size, sizeof(*s));
	assert_true(j->n_scores <= 64 && !j->planning);
	*mine = (struct fake_score){.index = s->index, .greedy = s->greedy, .first_null = s->first_null, .logprob = s->logprob};
	keep_tokens(&mine->tokens, &mine->n, NULL, s->tokens, s->n_tokens, s->first_null);
	return 0;
}

static int host_finish(struct weft_job *j, uint32_t choice, uint32_t finish)
{
	assert_true(choice < FAKE_CHOICES && finish >= WEFT_FINISH_STOP && finish <= WEFT_FINISH_ERROR);
	assert_int_equal(j->answers[choice]->finish, 0);
	j->answers[choice]->finish = finish;
	return 0;
}

static int host_progress(struct weft_job *j, uint64_t done, uint64_t total)
{
	assert_true(done <= total);
	j->progress_done = done;
	j->progress_total = total;
	return 0;
}

static int host_done(struct weft_job *j)
{
	assert_false(j->done);
	j->done = true;
	return 0;
}

/* ---- tools for samplers ---- */

struct pair {
	float logit;
	int32_t id;
};

static int pair_compare(const void *pa, const void *pb)
{
	const struct pair *a = pa, *b = pb;

	if (a->logit != b->logit)
		return a->logit > b->logit ? -1 : 1;
	return (a->id > b->id) - (a->id < b->id);
}

static double host_weigh(const float *logits, uint32_t n, double max, double *weights)
{
	double sum = 0;

	for (uint32_t i = 0; i < n; i++) {
		double w = exp(logits[i] - max);

		if (weights)
			weights[i] = w;
		sum += w;
	}
	return sum;
}

/* Behind the k best, the others are put in an order that no plugin may count on: worst first. */
static void host_sort(struct weft_candidates *c, uint32_t k, uint32_t drop)
{
	struct pair *p = malloc(c->n * sizeof(*p));
	uint32_t n = c->n;

	k = k < n ? k : n;
	for (uint32_t i = 0; i < n; i++)
		p[i] = (struct pair){c->logits[i], c->ids[i]};
	qsort(p, n, sizeof(*p), pair_compare);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t from = i < k ? i : n - 1 - (i - k);

		c->logits[i] = p[from].logit;
		c->ids[i] = p[from].id;
	}
	free(p);
	c->n = drop ? k : n;
	c->sorted = drop || k == n;
	c->dense = 0;
}

struct blob {
	struct weft_blob b;
	uint8_t *mine;
};

static int host_blob_write(struct weft_blob *out, const void *data, uint64_t len)
{
	struct blob *b = (struct blob *)out;

	b->mine = realloc(b->mine, out->len + len + 1);
	if (len) /* a choice without text writes nothing, from nowhere */
		memcpy(b->mine + out->len, data, len);
	out->len += len;
	out->data = b->mine;
	return 0;
}

struct weft_blob *fake_blob(void)
{
	struct blob *b = calloc(1, sizeof(*b));

	b->b.size = sizeof(b->b);
	return &b->b;
}

void fake_blob_free(struct weft_blob *b)
{
	free(((struct blob *)b)->mine);
	free(b);
}

const struct weft_host fake_host = {
	.size = sizeof(fake_host),
	.abi = WEFT_ABI,
	.log = host_log,
	.fail = host_fail,
	.vocab = host_vocab,
	.eos = host_eos,
	.context = host_context,
	.piece = host_piece,
	.tokenize = host_tokenize,
	.prompt = host_prompt,
	.continuations = host_continuations,
	.continuation = host_continuation,
	.uniform = host_uniform,
	.feed = host_feed,
	.fork = host_fork,
	.trim = host_trim,
	.drop = host_drop,
	.seq_len = host_seq_len,
	.detokenize = host_detokenize,
	.delta = host_delta,
	.score = host_score,
	.finish = host_finish,
	.progress = host_progress,
	.done = host_done,
	.sort = host_sort,
	.blob_write = host_blob_write,
	.weigh = host_weigh,
};

struct weft_candidates *fake_candidates(const float *logits, uint32_t n)
{
	struct weft_candidates *c = calloc(1, sizeof(*c));

	c->size = sizeof(*c);
	c->n = n;
	c->ids = calloc(n, sizeof(c->ids[0]));
	c->logits = calloc(n, sizeof(c->logits[0]));
	c->dense = 1;
	memcpy(c->logits, logits, n * sizeof(c->logits[0]));
	for (uint32_t i = 0; i < n; i++)
		c->ids[i] = (int32_t)i;
	return c;
}

void fake_candidates_free(struct weft_candidates *c)
{
	free(c->ids);
	free(c->logits);
	free(c);
}

/* ---- jobs ---- */

struct weft_job *fake_job(const struct fake_model *m, const int32_t *prompt, uint64_t n)
{
	struct weft_job *j = calloc(1, sizeof(*j));

	j->model = m;
	j->prompt = prompt;
	j->n_prompt = n;
	j->n_seqs = 1;
	j->most_seqs = 1;
	j->seqs[0].live = true;
	j->seqs[0].tokens = calloc(m->context, sizeof(int32_t));
	for (uint32_t i = 0; i < FAKE_CHOICES; i++) {
		j->answers[i] = calloc(1, sizeof(*j->answers[i]));
		j->answers[i]->agreed = true;
	}
	return j;
}

void fake_job_free(struct weft_job *j)
{
	for (uint32_t k = 0; k < j->n_chain; k++) {
		for (uint32_t i = 0; i < FAKE_CHOICES; i++) {
			if (j->chain[k].self[i])
				j->chain[k].sampler->destroy(j->chain[k].self[i]);
		}
	}
	for (uint32_t i = 0; i < FAKE_CHOICES; i++) {
		free(j->answers[i]->tokens);
		free(j->answers[i]);
	}
	for (uint32_t i = 0; i < j->n_scores; i++)
		free(j->scores[i].tokens);
	for (uint32_t i = 0; i < j->n_seqs; i++)
		free(j->seqs[i].tokens);
	free(j);
}

void fake_chain_add(struct weft_job *j, const struct weft_plugin *p, const struct weft_value *values)
{
	assert_true(j->n_chain < FAKE_CHAIN);
	j->chain[j->n_chain++] = (struct fake_sampler){.sampler = p->sampler, .values = values};
}

static void accept_all(struct weft_job *j, struct fake_sampler *s, uint32_t choice, const int32_t *tokens, uint64_t n)
{
	for (uint64_t i = 0; i < n && s->self[choice] && s->sampler->accept && (s->sampler->flags & WEFT_NEEDS_HISTORY); i++)
		assert_int_equal(s->sampler->accept(s->self[choice], j, tokens[i], 1), 0);
}

static int draw(struct weft_job *j, uint32_t choice, uint64_t position, const float *logits, int32_t *token)
{
	struct weft_candidates *c = fake_candidates(logits, j->model->vocab);
	double max, sum = 0, u;
	int rc = 0;

	j->drawing = choice;
	c->position = position;
	c->generated = position - j->n_prompt;
	for (uint32_t k = 0; k < j->n_chain && !rc; k++) {
		struct fake_sampler *s = &j->chain[k];

		if (!s->made[choice]) {
			s->made[choice] = true;
			rc = s->sampler->create(&fake_host, j, s->values, &s->self[choice]);
			accept_all(j, s, choice, j->prompt, j->n_prompt);
		}
		if (!rc && s->self[choice])
			rc = s->sampler->apply(s->self[choice], j, c);
	}
	if (!rc) {
		host_sort(c, c->n, 0);
		max = c->logits[0];
		assert_true(isfinite(max));
		for (uint32_t i = 0; i < c->n; i++)
			sum += exp(c->logits[i] - max);
		u = sum * fake_uniform(j->seed, choice, position, 1000);
		*token = c->ids[0];
		for (uint32_t i = 0; i < c->n && u >= 0; i++) {
			*token = c->ids[i];
			u -= exp(c->logits[i] - max);
		}
		for (uint32_t k = 0; k < j->n_chain && !rc; k++) {
			if (j->chain[k].self[choice] && j->chain[k].sampler->accept)
				rc = j->chain[k].sampler->accept(j->chain[k].self[choice], j, *token, 0);
		}
	}
	fake_candidates_free(c);
	return rc;
}

static struct weft_drawn judge(const struct fake_model *m, const float *logits, int32_t token, uint32_t top)
{
	struct weft_candidates *c = fake_candidates(logits, m->vocab);
	struct weft_top *tops = calloc(top + 1, sizeof(*tops));
	struct weft_drawn d = {.size = sizeof(d), .token = token, .n_top = top < m->vocab ? top : m->vocab};
	double sum = 0;

	host_sort(c, c->n, 0);
	for (uint32_t i = 0; i < c->n; i++)
		sum += exp((double)c->logits[i] - c->logits[0]);
	for (uint32_t i = 0; i < d.n_top; i++)
		tops[i] = (struct weft_top){c->ids[i], (float)((double)c->logits[i] - c->logits[0] - log(sum))};
	d.logprob = (float)((double)logits[token] - c->logits[0] - log(sum));
	d.greedy = token == c->ids[0];
	d.top = tops;
	fake_candidates_free(c);
	return d;
}

/* One feed: appends its tokens, one by one, and makes its result. */
static int run_feed(struct weft_job *j, const struct weft_feed *f, struct weft_result *r)
{
	struct fake_seq *s = live(j, f->seq);
	float *logits = calloc(j->model->vocab, sizeof(*logits));
	struct weft_drawn *targets = calloc(f->n_tokens, sizeof(*targets)), *draws = calloc(f->n_choices + 1, sizeof(*draws));
	int rc = 0;

	*r = (struct weft_result){.size = sizeof(*r), .seq = f->seq, .draws = draws, .targets = targets};
	for (uint32_t i = 0; i < f->n_tokens; i++) {
		s->tokens[s->n++] = f->tokens[i];
		j->rows++;
		j->model->logits(j->model->arg, s->tokens, s->n, logits);
		if (f->targets && f->targets[i] >= 0)
			targets[r->n_targets++] = judge(j->model, logits, f->targets[i], f->top);
	}
	for (uint32_t k = 0; k < f->n_choices && !rc; k++) {
		int32_t token;

		rc = draw(j, f->choices[k], s->n, logits, &token);
		if (!rc) {
			draws[k] = judge(j->model, logits, token, f->top);
			draws[k].choice = f->choices[k];
			r->n_draws++;
		}
	}
	free(logits);
	return rc;
}

static void free_results(struct weft_job *j, struct weft_result *results)
{
	for (uint32_t i = 0; i < j->n_feeds; i++) {
		for (uint32_t k = 0; k < results[i].n_draws; k++)
			free((void *)results[i].draws[k].top);
		for (uint32_t k = 0; k < results[i].n_targets; k++)
			free((void *)results[i].targets[k].top);
		free((void *)results[i].draws);
		free((void *)results[i].targets);
		free((void *)j->feeds[i].tokens);
		free((void *)j->feeds[i].targets);
		free((void *)j->feeds[i].choices);
	}
}

/* What load() says to len bytes; they lie in memory of exactly that size, so that a sanitizer sees a step beyond. */
static int load_says(struct weft_job *j, const struct weft_plugin *p, const struct weft_value *values, const uint8_t *data,
		     uint64_t len)
{
	struct weft_blob cut = {.size = sizeof(cut), .data = copy_exactly(data, len), .len = len};
	void *fresh = NULL;
	int rc;

	assert_int_equal(p->decoder->create(&fake_host, j, values, &fresh), 0);
	rc = p->decoder->load(fresh, &cut);
	p->decoder->destroy(fresh);
	free((void *)cut.data);
	return rc;
}

/* Puts another instance in self's place, by save and load. Bytes too few or too many are refused, damaged ones do no harm. */
static void *restart(struct weft_job *j, const struct weft_plugin *p, const struct weft_value *values, void *self)
{
	struct weft_blob *b = fake_blob();
	uint8_t *bytes;
	void *fresh = NULL;

	assert_int_equal(p->decoder->save(self, b), 0);
	p->decoder->destroy(self);
	fake_host.blob_write(b, "", 1);
	bytes = (uint8_t *)b->data;
	assert_int_equal(load_says(j, p, values, bytes, b->len), WEFT_EINVAL);
	b->len--;
	assert_int_equal(load_says(j, p, values, bytes, b->len - 1), WEFT_EINVAL);
	assert_int_equal(load_says(j, p, values, bytes, b->len / 2), WEFT_EINVAL);
	assert_int_equal(load_says(j, p, values, bytes, 0), WEFT_EINVAL);
	for (uint64_t i = 0; i < b->len; i += 1 + i / 256) {
		bytes[i] ^= 0xff;
		load_says(j, p, values, bytes, b->len);
		bytes[i] ^= 0xff;
	}
	assert_int_equal(p->decoder->create(&fake_host, j, values, &fresh), 0);
	assert_int_equal(p->decoder->load(fresh, b), 0);
	fake_blob_free(b);
	return fresh;
}

int fake_run(struct weft_job *j, const struct weft_plugin *p, const struct weft_value *values, uint64_t max_steps)
{
	const struct weft_decoder *d = p->decoder;
	void *self = NULL;
	int rc = d->create(&fake_host, j, values, &self);

	if (rc)
		return rc;
	while (!rc && !j->done) {
		struct weft_result results[FAKE_FEEDS] = {0};

		assert_true(j->steps++ < max_steps);
		j->n_feeds = 0;
		j->planning = true;
		rc = d->plan(self, j);
		j->planning = false;
		assert_true(rc || j->n_feeds || j->done);
		for (uint32_t i = 0; i < j->n_feeds && !rc; i++)
			rc = run_feed(j, &j->feeds[i], &results[i]);
		if (!rc && !j->done)
			rc = d->commit(self, j, results, j->n_feeds);
		if (!rc && !j->done && j->restless)
			self = restart(j, p, values, self);
		free_results(j, results);
	}
	d->destroy(self);
	return rc;
}
