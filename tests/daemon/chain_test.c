/* chain_test.c: samplers in order and the draw, with the plugins that ship. */
#include "config.h"

#include <math.h>

#include "daemon/host.h"
#include "daemon/philox.h"
#include "daemon/run.h"
#include "engine_kit.h"

static struct kit kit;
static struct run_model model;
static struct run_out out;
static struct chain_room room;
static uint32_t vocab;
static float *row;
static double *sums;
static uint32_t rng = 99;

static double uniform(void)
{
	rng = rng * 1664525u + 1013904223u;
	return (rng >> 8) / 16777216.0;
}

static int setup(void **state)
{
	kit_init(&kit, NULL);
	vocab = core_model_info(kit.model)->vocab;
	model = (struct run_model){vocab, core_model_info(kit.model)->context, 2, core_model_tokenizer(kit.model), ""};
	row = malloc(vocab * sizeof *row);
	sums = malloc(logits_blocks(vocab) * sizeof *sums);
	return row == NULL || sums == NULL ? -1 : chain_room_init(&room, vocab);
}

static int teardown(void **state)
{
	chain_room_finish(&room);
	free(sums);
	free(row);
	kit_finish(&kit);
	return 0;
}

static void fill_row(void)
{
	for (uint32_t i = 0; i < vocab; i++)
		row[i] = (float)(12 * uniform() * uniform());
}

static struct weft_job *job_of(const char *words)
{
	struct kit_ask ask = {.words = words, .prompt = "a coat and a hat and a coat"};

	out = (struct run_out){.last = &out.first};
	struct weft_job *job = run_new(kit_job(&kit, 1, &ask), &model, NULL, &out);
	assert_non_null(job);
	return job;
}

static void job_free(struct weft_job *job)
{
	for (struct engine_event *e = out.first, *next; e != NULL; e = next) {
		next = e->next;
		engine_event_free(e);
	}
	out.first = NULL;
	run_free(job);
}

/* One draw from the row as the engine does it. */
static int32_t draw(struct chain *c, struct weft_job *job, uint64_t position)
{
	struct logits_row measured = {.sums = sums};
	int32_t token = -1;

	assert_true(logits_weigh(&measured, row, vocab));
	if (!chain_draw(c, job, &room, row, &measured, position, &token))
		fail_msg("%s", out.first->text);
	return token;
}

static int32_t most_likely(void)
{
	uint32_t best = 0;

	for (uint32_t i = 1; i < vocab; i++)
		if (row[i] > row[best])
			best = i;
	return (int32_t)best;
}

static void a_chain_of_neutral_samplers_is_empty(void **state)
{
	struct weft_job *job = job_of("seed=1");
	struct chain c;

	assert_true(job->spec->n_samplers > 8);
	assert_true(chain_init(&c, job, 0));
	assert_int_equal(c.n, 0);
	chain_finish(&c);
	job_free(job);
}

/* The inverse of the cumulative sum, in plain double; a token on the edge of two may be either. */
static void an_empty_chain_draws_by_the_models_own_distribution(void **state)
{
	struct weft_job *job = job_of("seed=77");
	struct chain c;

	assert_true(chain_init(&c, job, 3));
	for (uint64_t position = 5; position < 205; position++) {
		double total = 0, before = 0;
		fill_row();
		for (uint32_t i = 0; i < vocab; i++)
			total += exp(row[i]);
		int32_t token = draw(&c, job, position);
		for (int32_t i = 0; i < token; i++)
			before += exp(row[i]);
		double target = philox_uniform(77, position, 3, philox_stream(PHILOX_DRAW), 0) * total;
		assert_true(target >= before - 1e-9 * total && target <= before + exp(row[token]) + 1e-9 * total);
	}
	assert_int_equal(c.generated, 200);
	chain_finish(&c);
	job_free(job);
}

static void temperature_0_takes_the_most_likely_and_ties_go_to_the_lowest_id(void **state)
{
	struct weft_job *job = job_of("seed=1 temperature=0");
	struct chain c;

	assert_true(chain_init(&c, job, 0));
	assert_int_equal(c.n, 1);
	for (int i = 0; i < 20; i++) {
		fill_row();
		assert_int_equal(draw(&c, job, 9), most_likely());
	}
	row[100] = row[7] = row[1900] = 50;
	assert_int_equal(draw(&c, job, 9), 7);
	chain_finish(&c);
	job_free(job);
}

/* What temperature's own apply() leaves of the row. */
static int32_t left_by_apply(struct chain *c, struct weft_job *job)
{
	struct weft_candidates cand = {.size = sizeof cand, .n = vocab, .ids = room.ids, .logits = room.logits, .dense = 1};

	memcpy(room.logits, row, vocab * sizeof *row);
	memcpy(room.ids, room.all, vocab * sizeof *room.ids);
	run_enter(job, PHASE_SAMPLER, c->links[0].plugin, 0);
	assert_int_equal(c->links[0].plugin->desc->sampler->apply(c->links[0].self, job, &cand), 0);
	assert_true(run_leave(job, "apply", 0));
	assert_int_equal(cand.n, 1);
	return cand.ids[0];
}

static void a_greedy_draw_is_known_of_the_row_and_makes_no_candidates(void **state)
{
	struct weft_job *job = job_of("seed=1 temperature=0 top_k=3 min_p=0.1");
	struct chain c;

	assert_true(chain_init(&c, job, 0));
	assert_int_equal(c.n, 3);
	for (int i = 0; i < 60; i++) {
		for (uint32_t k = 0; k < vocab; k++) /* with zeros of both signs, and ties */
			row[k] = i % 2 ? (float)(floor(6 * uniform()) - 3) : uniform() < 0.5 ? -0.0f : 0.0f;
		int32_t want = left_by_apply(&c, job);
		room.logits[0] = 12345;
		assert_int_equal(draw(&c, job, 9), want);
		assert_true(room.logits[0] == 12345);
	}
	assert_int_equal(c.generated, 60);
	chain_finish(&c);
	job_free(job);
}

static void samplers_run_in_the_order_of_the_request(void **state)
{
	/* A narrow top_p after a high temperature keeps many; before it, few. */
	struct weft_job *first = job_of("seed=1 samplers=top_p,temperature top_p=0.2 temperature=50");
	struct chain a, b;

	assert_true(chain_init(&a, first, 0));
	struct weft_job *second = job_of("seed=1 samplers=temperature,top_p top_p=0.2 temperature=50");
	assert_true(chain_init(&b, second, 0));
	assert_string_equal(a.links[0].plugin->desc->name, "top_p");
	assert_string_equal(b.links[0].plugin->desc->name, "temperature");
	fill_row();
	row[11] = 30; /* nearly all of the weight */
	unsigned others[2] = {0};
	for (uint64_t position = 0; position < 50; position++) {
		others[0] += draw(&a, first, position) != 11;
		others[1] += draw(&b, second, position) != 11;
	}
	assert_int_equal(others[0], 0);
	assert_true(others[1] > 40);
	chain_finish(&a);
	chain_finish(&b);
	job_free(second);
	run_free(first);
}

/* What was drawn for others in between, through the same buffers, cannot be seen in a draw. */
static void a_draw_depends_on_seed_position_and_choice_alone(void **state)
{
	struct weft_job *job = job_of("seed=5");
	struct weft_job *edited = job_of("seed=6 temperature=5 frequency_penalty=0.5");
	struct chain plain, other, noise;
	int32_t alone[32], among[32];

	fill_row();
	assert_true(chain_init(&plain, job, 0) && chain_init(&other, job, 1) && chain_init(&noise, edited, 0));
	for (uint64_t p = 0; p < 32; p++)
		alone[p] = draw(&plain, job, p);
	chain_finish(&plain);
	assert_true(chain_init(&plain, job, 0));
	unsigned same = 0;
	for (uint64_t p = 32; p-- > 0;) { /* in another order, too */
		struct logits_row measured = {.sums = sums};
		int32_t token;
		assert_true(logits_weigh(&measured, row, vocab));
		assert_true(chain_draw(&noise, edited, &room, row, &measured, p, &token));
		assert_true(chain_draw(&plain, job, &room, row, &measured, p, &among[p]));
		assert_true(chain_draw(&other, job, &room, row, &measured, p, &token));
		same += token == among[p];
	}
	assert_memory_equal(alone, among, sizeof alone);
	assert_true(same < 16); /* another choice has its own dice */
	chain_finish(&plain);
	chain_finish(&other);
	chain_finish(&noise);
	job_free(edited);
	run_free(job);
}

static void history_is_the_prompt_and_what_was_drawn(void **state)
{
	struct weft_job *job = job_of("seed=1 temperature=0 repetition_penalty=100");
	struct chain c;

	assert_true(chain_init(&c, job, 0));
	assert_int_equal(c.n, 2);
	for (uint32_t i = 0; i < vocab; i++)
		row[i] = 1;
	int32_t in_prompt = job->spec->prompt[1];
	row[in_prompt] = 9; /* the penalty takes it away: the prompt is history */
	row[40] = 8;
	row[41] = 7;
	assert_int_not_equal(in_prompt, 40);
	assert_int_equal(draw(&c, job, 10), 40);
	assert_int_equal(draw(&c, job, 11), 41); /* 40 is history now */
	chain_finish(&c);
	job_free(job);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_chain_of_neutral_samplers_is_empty),
		cmocka_unit_test(an_empty_chain_draws_by_the_models_own_distribution),
		cmocka_unit_test(temperature_0_takes_the_most_likely_and_ties_go_to_the_lowest_id),
		cmocka_unit_test(a_greedy_draw_is_known_of_the_row_and_makes_no_candidates),
		cmocka_unit_test(samplers_run_in_the_order_of_the_request),
		cmocka_unit_test(a_draw_depends_on_seed_position_and_choice_alone),
		cmocka_unit_test(history_is_the_prompt_and_what_was_drawn),
	};
	return cmocka_run_group_tests_name("sampler chains", tests, setup, teardown);
}
