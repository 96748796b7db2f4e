/* chain.c: samplers in order, watched one by one, and the draw. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/chain.h"
#include "daemon/host.h"
#include "daemon/philox.h"
#include "daemon/run.h"

int chain_room_init(struct chain_room *r, uint32_t vocab)
{
	*r = (struct chain_room){.vocab = vocab};
	r->ids = malloc(vocab * sizeof *r->ids);
	r->all = malloc(vocab * sizeof *r->all);
	r->logits = malloc(vocab * sizeof *r->logits);
	r->sums = malloc(logits_blocks(vocab) * sizeof *r->sums);
	if (r->ids == NULL || r->all == NULL || r->logits == NULL || r->sums == NULL) {
		chain_room_finish(r);
		return -1;
	}
	for (uint32_t i = 0; i < vocab; i++)
		r->all[i] = (int32_t)i;
	return 0;
}

void chain_room_finish(struct chain_room *r)
{
	free(r->ids);
	free(r->all);
	free(r->logits);
	free(r->sums);
	*r = (struct chain_room){0};
}

/* ---- life ---- */

/* One token becomes history of one sampler. */
static bool accept(const struct chain *c, struct weft_job *job, size_t i, int32_t token, uint32_t from_prompt)
{
	const struct chain_link *l = &c->links[i];

	run_enter(job, PHASE_SAMPLER, l->plugin, c->choice);
	return run_leave(job, "accept", l->plugin->desc->sampler->accept(l->self, job, token, from_prompt));
}

static bool accept_prompt(const struct chain *c, struct weft_job *job, size_t i)
{
	const struct weft_sampler *s = c->links[i].plugin->desc->sampler;

	if (s->accept == NULL || (s->flags & WEFT_NEEDS_HISTORY) == 0)
		return true;
	for (size_t t = 0; t < job->spec->n_prompt; t++)
		if (!accept(c, job, i, job->spec->prompt[t], 1))
			return false;
	return true;
}

/* The samplers, which have seen nothing yet. */
static bool make_links(struct chain *c, struct weft_job *job, uint32_t choice)
{
	const struct engine_job *spec = job->spec;

	*c = (struct chain){.choice = choice, .side_by_side = true};
	if (spec->n_samplers == 0)
		return true;
	c->links = calloc(spec->n_samplers, sizeof *c->links);
	if (c->links == NULL) {
		run_end(job, END_FAILED, WEFT_ENOMEM, "out of memory");
		return false;
	}
	for (size_t i = 0; i < spec->n_samplers; i++) {
		const struct plugin *p = spec->samplers[i].plugin;
		void *self = NULL;
		run_enter(job, PHASE_SAMPLER, p, choice);
		int rc = p->desc->sampler->create(&host_table, job, spec->samplers[i].values, &self);
		if (rc == 0 && self != NULL)
			c->links[c->n++] = (struct chain_link){p, self, (uint32_t)i};
		if (!run_leave(job, "create", rc))
			return false;
		c->side_by_side &= self == NULL || (p->desc->sampler->flags & WEFT_SIDE_BY_SIDE) != 0;
		c->replays |= rc == 0 && self != NULL && p->desc->sampler->accept != NULL && p->desc->sampler->save == NULL;
	}
	return true;
}

bool chain_init(struct chain *c, struct weft_job *job, uint32_t choice)
{
	if (!make_links(c, job, choice))
		return false;
	for (size_t i = 0; i < c->n; i++)
		if (!accept_prompt(c, job, i))
			return false;
	return true;
}

void chain_finish(struct chain *c)
{
	for (size_t i = c->n; i > 0; i--)
		c->links[i - 1].plugin->desc->sampler->destroy(c->links[i - 1].self);
	free(c->links);
	free(c->history);
	*c = (struct chain){0};
}

/* ---- to bytes and back ---- */

static int save_link(const struct chain *c, struct weft_job *job, const struct chain_link *l, struct bytes_out *o, char *why)
{
	const struct weft_sampler *s = l->plugin->desc->sampler;
	struct weft_blob blob = {.size = sizeof blob};

	bytes_put_u32(o, l->place);
	if (s->save == NULL)
		return 0;
	run_enter(job, PHASE_SAVE, l->plugin, c->choice);
	int rc = run_verdict(job, "save", s->save(l->self, &blob), why);
	if (rc == 0) {
		bytes_put_u64(o, blob.len);
		bytes_put(o, blob.data, blob.len);
	}
	free((void *)blob.data);
	return rc;
}

int chain_save(const struct chain *c, struct weft_job *job, struct bytes_out *o, char *why)
{
	bytes_put_u64(o, c->generated);
	bytes_put_u32(o, (uint32_t)c->n);
	for (size_t i = 0; i < c->n; i++) {
		int rc = save_link(c, job, &c->links[i], o, why);
		if (rc != 0)
			return rc;
	}
	if (c->replays)
		bytes_put_words(o, (const uint32_t *)c->history, c->generated);
	return 0;
}

static enum restored load_link(struct chain *c, struct weft_job *job, size_t i, struct bytes_in *in, char *why)
{
	const struct chain_link *l = &c->links[i];
	const struct weft_sampler *s = l->plugin->desc->sampler;

	if (bytes_take_u32(in) != l->place) {
		snprintf(why, RUN_REASON, "the sampler %s was not in use", l->plugin->desc->name);
		return RESTORE_REFUSED;
	}
	if (s->save == NULL)
		return RESTORED;
	struct weft_blob blob = {.size = sizeof blob};
	blob.len = bytes_take_u64(in);
	blob.data = bytes_take(in, blob.len);
	if (in->failed)
		return RESTORE_REFUSED;
	run_enter(job, PHASE_LOAD, l->plugin, c->choice);
	return run_verdict(job, "load", s->load(l->self, &blob), why) == 0 ? RESTORED : RESTORE_REFUSED;
}

static bool take_history(struct chain *c, const struct weft_job *job, struct bytes_in *in)
{
	if (c->generated > in->left / sizeof *c->history)
		return false;
	c->history_cap = c->generated + 1;
	c->history = malloc(c->history_cap * sizeof *c->history);
	if (c->history == NULL || !bytes_take_words(in, (uint32_t *)c->history, c->generated))
		return false;
	for (uint64_t t = 0; t < c->generated; t++)
		if ((uint32_t)c->history[t] >= job->model->vocab)
			return false;
	return true;
}

/* What accept() was told when the job ran the first time. */
static bool replay(struct chain *c, struct weft_job *job)
{
	for (size_t i = 0; i < c->n; i++) {
		const struct weft_sampler *s = c->links[i].plugin->desc->sampler;
		if (s->accept == NULL || s->save != NULL)
			continue;
		if (!accept_prompt(c, job, i))
			return false;
		for (uint64_t t = 0; t < c->generated; t++)
			if (!accept(c, job, i, c->history[t], 0))
				return false;
	}
	return true;
}

enum restored chain_restore(struct chain *c, struct weft_job *job, uint32_t choice, struct bytes_in *in, char *why)
{
	if (!make_links(c, job, choice))
		return RESTORE_ENDED;
	c->generated = bytes_take_u64(in);
	if (bytes_take_u32(in) != c->n) {
		snprintf(why, RUN_REASON, "it has another number of samplers in use");
		return RESTORE_REFUSED;
	}
	for (size_t i = 0; i < c->n; i++) {
		enum restored r = load_link(c, job, i, in, why);
		if (r != RESTORED)
			return r;
	}
	if (c->replays && !take_history(c, job, in))
		return RESTORE_REFUSED;
	return replay(c, job) ? RESTORED : RESTORE_ENDED;
}

/* ---- the draw ---- */

/* What a sampler must not leave behind; NULL: all is well. before: what it was handed. */
static const char *broken_promise(const struct weft_candidates *c, const struct weft_candidates *before, uint32_t vocab)
{
	const struct scan *scan = scan_here();
	float max;
	uint32_t at;

	if (c->n == 0)
		return "it left no candidate";
	if (c->n > before->n)
		return "it made more candidates than there were";
	if (c->ids != before->ids || c->logits != before->logits)
		return "it exchanged the arrays of the candidates";
	if (c->dense && c->n != vocab)
		return "it dropped candidates and left the dense mark";
	if (!scan->best(c->logits, c->n, &max, &at))
		return "it left a logit that is NaN or +infinity";
	if (max == -INFINITY)
		return "it made every candidate impossible";
	return scan->outside(c->ids, c->n, vocab) ? "it left a candidate outside the vocabulary" : NULL;
}

static void fill_room(struct chain_room *room, const float *logits, uint32_t n)
{
	memcpy(room->logits, logits, n * sizeof *logits);
	/* afresh each time: a sampler of another job may have moved ids and kept it to itself */
	memcpy(room->ids, room->all, n * sizeof *room->ids);
}

static bool apply_all(const struct chain *c, struct weft_job *job, struct weft_candidates *cand, uint32_t vocab)
{
	for (size_t i = 0; i < c->n; i++) {
		const struct chain_link *l = &c->links[i];
		struct weft_candidates before = *cand;
		run_enter(job, PHASE_SAMPLER, l->plugin, c->choice);
		int rc = l->plugin->desc->sampler->apply(l->self, job, cand);
		const char *broken = rc == 0 ? broken_promise(cand, &before, vocab) : NULL;
		if (broken != NULL)
			rc = run_breach(job, WEFT_EINTERNAL, "%s", broken);
		if (!run_leave(job, "apply", rc))
			return false;
		cand->size = before.size;
		cand->position = before.position;
		cand->generated = before.generated;
	}
	return true;
}

static double dice(const struct chain *c, const struct weft_job *job, uint64_t position)
{
	return philox_uniform(job->spec->seed, position, c->choice, philox_stream(PHILOX_DRAW), 0);
}

static uint32_t pick(const struct chain *c, const struct weft_job *job, const struct logits_row *row, const float *logits, uint32_t n,
		     uint64_t position)
{
	return logits_pick(row, logits, n, dice(c, job, position));
}

static bool draw_edited(const struct chain *c, struct weft_job *job, struct chain_room *room, const float *logits,
			uint64_t position, int32_t *token)
{
	struct weft_candidates cand = {.size = sizeof cand,
				       .n = room->vocab,
				       .ids = room->ids,
				       .logits = room->logits,
				       .dense = 1,
				       .position = position,
				       .generated = c->generated};
	struct logits_row row = {.sums = room->sums};
	uint32_t at = 0;

	fill_room(room, logits, room->vocab);
	if (!apply_all(c, job, &cand, room->vocab))
		return false;
	if (cand.n > 1) { /* one candidate needs no dice: temperature 0 ends here */
		logits_weigh(&row, cand.logits, cand.n); /* true: broken_promise looked */
		at = pick(c, job, &row, cand.logits, cand.n, position);
	}
	*token = cand.ids[at];
	return true;
}

static bool remember(struct chain *c, struct weft_job *job, int32_t token)
{
	if (c->replays && c->generated == c->history_cap) {
		uint64_t cap = c->history_cap == 0 ? 64 : c->history_cap * 2;
		int32_t *grown = realloc(c->history, cap * sizeof *grown);
		if (grown == NULL) {
			run_end(job, END_FAILED, WEFT_ENOMEM, "out of memory");
			return false;
		}
		c->history = grown;
		c->history_cap = cap;
	}
	if (c->replays)
		c->history[c->generated] = token;
	return true;
}

/* What is being put together. */
struct formula {
	struct core_draw *to;
	struct core_edit *edits;	/* [room], to->n_edits of them in use */
	uint32_t room;			/* up to CORE_EDITS */
	uint32_t stages;		/* of edits */
	uint32_t last;			/* kind of what edits no logits; 0: none yet */
};

static bool is_possible(const struct weft_edit *e, uint32_t vocab)
{
	return (uint32_t)e->token < vocab && e->ratio > 0 && isfinite(e->ratio) && isfinite(e->minus);
}

/* Samplers that edit logits stand before all others; each is a stage. */
static bool add_edits(struct formula *to, const struct weft_formula *f, uint32_t vocab)
{
	if (to->last != 0 || f->n_edits > f->room)
		return false;
	for (uint32_t i = 0; i < f->n_edits; i++) {
		const struct weft_edit *e = &f->edits[i];
		if (!is_possible(e, vocab))
			return false;
		to->edits[to->to->n_edits++] = (struct core_edit){e->token, to->stages, e->ratio, e->minus};
	}
	to->stages += f->n_edits > 0;
	return true;
}

/* One sampler's part. */
static bool add_formula(struct formula *in, const struct chain_link *l, uint32_t vocab)
{
	struct weft_edit edits[CORE_EDITS];
	struct core_draw *to = in->to;
	struct weft_formula f = {.size = sizeof f, .edits = edits, .room = in->room - to->n_edits};

	if (l->plugin->desc->sampler->formula == NULL || l->plugin->desc->sampler->formula(l->self, &f) != 0)
		return false;
	if (f.kind == WEFT_FORMULA_EDITS)
		return add_edits(in, &f, vocab);
	if (f.kind <= in->last)
		return false;
	in->last = f.kind;
	switch (f.kind) {
	case WEFT_FORMULA_TEMPERATURE:
		to->temperature = f.x;
		return f.x >= 0;
	case WEFT_FORMULA_TOP_K:
		to->top_k = (uint32_t)f.k;
		return f.k > 0 && f.k < UINT32_MAX;
	case WEFT_FORMULA_TOP_P:
		to->top_p = f.x;
		return f.x >= 0 && f.x < 1;
	case WEFT_FORMULA_MIN_P:
		to->min_log_p = f.x;
		return f.x <= 0;
	}
	return false;
}

/* Whether all samplers have formulas and the first one leaves nothing but the most likely token, which is known of every row. */
static bool takes_best(const struct chain *c, uint32_t vocab)
{
	struct core_draw all = {.temperature = 1};
	struct formula to = {.to = &all}; /* no room for edits: after them another token may be the most likely one */

	for (size_t i = 0; i < c->n; i++)
		if (!add_formula(&to, &c->links[i], vocab))
			return false;
	return all.temperature == 0;
}

bool chain_draw(struct chain *c, struct weft_job *job, struct chain_room *room, const float *logits, const struct logits_row *row,
		uint64_t position, int32_t *token)
{
	if (c->n == 0)
		*token = (int32_t)pick(c, job, row, logits, room->vocab, position);
	else if (takes_best(c, room->vocab))
		*token = row->best;
	else if (!draw_edited(c, job, room, logits, position, token))
		return false;
	return chain_take(c, job, *token);
}

bool chain_take(struct chain *c, struct weft_job *job, int32_t token)
{
	if (!remember(c, job, token))
		return false;
	c->generated++;
	for (size_t i = 0; i < c->n; i++)
		if (c->links[i].plugin->desc->sampler->accept != NULL && !accept(c, job, i, token, 0))
			return false;
	return true;
}

/* ---- the draw elsewhere ---- */

bool chain_formula(const struct chain *c, const struct weft_job *job, uint64_t position, struct core_draw *out,
		   struct core_edit edits[static CORE_EDITS])
{
	struct formula to = {.to = out, .edits = edits, .room = CORE_EDITS};

	*out = (struct core_draw){
		.uniform = dice(c, job, position), .edits = edits, .temperature = 1, .top_p = 1, .min_log_p = -INFINITY};
	for (size_t i = 0; i < c->n; i++)
		if (!add_formula(&to, &c->links[i], job->model->vocab))
			return false;
	return out->top_k < job->model->vocab;
}
