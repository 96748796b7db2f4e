/* bench.c: what the core does on this machine: tokens/s of a model of TinyLlama-1.1B's shape with random weights, beside the read
 * bandwidth and the peaks of arithmetic measured in the same run. `make bench` runs it; usage: bench [-a|-l|-n] [-c] [-t THREADS]
 * [-q bf16|q8|q4|nf4|Q8_0|Q4_0|Q4_K_M]... [-k f16|f32|int8]... [-f FOLDER]; the folder keeps the models for the next run
 *
 * -a measures adapters instead: a batch of 32 requests, each on an adapter of its own (rank 16, all seven linears), and each on a sum
 * of four of those, against the base alone; and a prompt of 512 tokens through nothing, one adapter and such a sum; with exact factors and
 * with those of 8 bits. The three take turns, step by step and prompt by prompt.
 *
 * -l measures what a long context costs: a prompt of 4,096 tokens against prompts of 512, and decode after 4,096 tokens against decode
 * after 64, with each kind of KV that -k names (f16 and int8). All take turns, chunk by chunk and step by step, so that their ratios mean
 * something on a machine that is not quiet.
 *
 * -n makes the models and measures nothing.
 *
 * -c counts CPU time per thread instead of wall time: what this machine would do if other programs were not using it, too (but
 * caches and memory bandwidth are still shared with them). Wall time is what users get.
 *
 * Decode at batch 1 reads every weight of the linears and the head once per step, so its ceiling is the bandwidth. Prefill's are what the
 * instructions for 8-bit integers and for floats could do: TOP/s are those of the linears' own products, so what a path does twice (a
 * product for each plane of the activations, say) or beside them (attention) does not count. */
#include "config.h"

#include <string.h>
#include <unistd.h>

#include "measure.h"
#include "model.h"
#include "peak.h"

enum { PROMPT = 512, RUNS = 3, STEPS = 12, BATCH = 16, WARM_CONTEXT = 64, LONG_CONTEXT = 4096, LONG_STEPS = 25 };

/* ---- tokens/s ---- */

static double prompt_rate(struct bench *b)
{
	double t[RUNS];

	for (int r = 0; r < RUNS; r++)
		t[r] = bench_prompt(b, PROMPT);
	return PROMPT / median(t, RUNS);
}

/* Steps per second at a given batch, each sequence with WARM_CONTEXT tokens before. */
static double step_rate(struct bench *b, uint32_t batch)
{
	struct choir c;
	double t[RUNS];

	choir_open(&c, b, batch, WARM_CONTEXT, BENCH_ROWS);
	for (int r = 0; r < RUNS; r++)
		t[r] = choir_steps(&c, STEPS);
	choir_close(&c);
	return STEPS / median(t, RUNS);
}

/* Operations of the linears for one token of a prompt. */
static double token_ops(void)
{
	return 2.0 * LAYERS * (2.0 * DIM * DIM + 2.0 * DIM * KV_HEADS * HEAD + 3.0 * DIM * FFN);
}

static const char *share(char out[static 24], double ops, struct peak p)
{
	if (p.ops > 0)
		snprintf(out, 24, "%.0f%% of %.2f", 100 * ops / p.ops, p.ops / 1e12);
	else
		snprintf(out, 24, "-");
	return out;
}

static void bench_rates(const struct weights *w, const char *folder, int threads)
{
	double prompt, ops, one, many, before, after;
	char of_ints[24], of_floats[24];
	enum core_cpu cpu;
	struct peaks peaks;
	struct bench b;

	must(core_cpu_pick(&cpu, &why));
	bench_open(&b, w, folder, threads);
	prompt = prompt_rate(&b);
	ops = prompt * token_ops();
	peaks = peaks_measure(cpu, threads);
	/* The memory is shared with whoever else is on the host: its limit is measured on both sides of what is held against it. */
	before = read_bandwidth(threads);
	one = step_rate(&b, 1);
	after = read_bandwidth(threads);
	before = before > after ? before : after;
	many = step_rate(&b, BATCH);
	printf("| %-7s | %5.2f | %5.1f | %7.1f | %5.2f | %12s | %12s | %7.2f | %5.1f | %5.1f | %4.0f%% | %7.1f |\n", b.name, b.bytes / 1e9,
	       b.load_s, prompt, ops / 1e12, share(of_ints, ops, peaks.ints), share(of_floats, ops, peaks.floats), one, b.bytes * one / 1e9, before / 1e9, 100 * b.bytes * one / before, many * BATCH);
	fflush(stdout);
	bench_close(&b);
}

/* ---- long contexts ---- */

static double feed_time(struct core_ctx *c, struct core_seq *s, uint32_t n)
{
	static struct core_row rows[PROMPT];
	double t = now();

	for (uint32_t i = 0; i < n; i++)
		rows[i] = (struct core_row){ s, (int32_t)((core_seq_len(s) + i) * 7919 % VOCAB), CORE_PROMPT, i == n - 1 };
	must(core_forward(c, rows, n, &why));
	return now() - t;
}

static double step_time(struct core_ctx *c, struct core_seq *s)
{
	struct core_row row = { s, (int32_t)(core_seq_len(s) * 17 % VOCAB), CORE_GENERATED, true };
	double t = now();

	must(core_forward(c, &row, 1, &why));
	return now() - t;
}

/* One kind of KV: a long sequence and a short one on an engine of its own. */
struct lane {
	struct core_ctx *c;
	struct core_seq *whole, *brief;
	double short_prompts, long_prompt, early[LONG_STEPS], late[LONG_STEPS];
};

enum { KV_KINDS = 3 };
static struct kv_kinds {
	int n;
	enum core_kv_type kind[KV_KINDS];
} kv_kinds;

static struct lane lane_new(const struct core_model *m, enum core_kv_type kv, int threads)
{
	struct core_ctx_params cp = { .model = m, .threads = threads, .kv_pages = 400, .max_rows = PROMPT, .kv_type = kv };
	struct lane l = { 0 };

	must(core_ctx_new(&l.c, &cp, &why));
	l.whole = core_seq_new(l.c);
	return l;
}

static void lane_chunk(struct lane *l)
{
	core_seq_free(l->c, l->brief);
	l->brief = core_seq_new(l->c);
	l->short_prompts += feed_time(l->c, l->brief, PROMPT);
	l->long_prompt += feed_time(l->c, l->whole, PROMPT);
}

static void lane_end(struct lane *l, const char *weights)
{
	double early = median(l->early, LONG_STEPS), late = median(l->late, LONG_STEPS);

	printf("| %-7s | %-4s | %7.1f | %7.1f | %4.0f%% | %7.2f | %7.2f | %4.0f%% |\n", weights, core_kv_type_name(core_ctx_kv_type(l->c)),
	       LONG_CONTEXT / l->short_prompts, LONG_CONTEXT / l->long_prompt, 100 * l->short_prompts / l->long_prompt, 1 / early, 1 / late,
	       100 * early / late);
	fflush(stdout);
	core_seq_free(l->c, l->whole);
	core_seq_free(l->c, l->brief);
	core_ctx_free(l->c);
}

static void bench_long(const struct weights *w, const char *folder, int threads)
{
	struct lane lane[KV_KINDS];
	struct bench b;
	int n = kv_kinds.n;

	bench_open(&b, w, folder, threads);
	for (int k = 0; k < n; k++)
		lane[k] = lane_new(b.model, kv_kinds.kind[k], threads);
	for (int chunk = 0; chunk < LONG_CONTEXT / PROMPT; chunk++)
		for (int k = 0; k < n; k++)
			lane_chunk(&lane[k]);
	for (int k = 0; k < n; k++)
		must(core_seq_trim(lane[k].c, lane[k].brief, WARM_CONTEXT));
	for (int i = 0; i < LONG_STEPS; i++)
		for (int k = 0; k < n; k++) {
			lane[k].early[i] = step_time(lane[k].c, lane[k].brief);
			lane[k].late[i] = step_time(lane[k].c, lane[k].whole);
		}
	for (int k = 0; k < n; k++)
		lane_end(&lane[k], b.name);
	bench_close(&b);
}

/* ---- adapters ---- */

enum { REQUESTS = 32, PARTS = 4, TURNS = 9, WARM = 8, PROMPTS = 5 };

static void load_adapters(struct core_adapter **a, const struct core_model *m)
{
	static const char folder[] = "bench-adapter";

	for (uint32_t i = 0; i < REQUESTS; i++) {
		model_make_adapter(folder, i * 104729);
		must(core_adapter_load(&a[i], m, folder, &why));
	}
	model_remove_adapter(folder);
}

/* A batch: request i on adapters i .. i + parts - 1. */
struct crowd {
	struct core_seq *s[REQUESTS];
	double t[TURNS], prompt[PROMPTS];
};

/* The sum of `parts` adapters, beginning at the i-th; NULL for none. */
static struct core_blend *sum_of(struct core_adapter **a, uint32_t i, uint32_t parts)
{
	struct core_blend_part p[PARTS];
	struct core_blend *b = NULL;

	for (uint32_t k = 0; k < parts; k++)
		p[k] = (struct core_blend_part){ a[(i + k) % REQUESTS], 1.0f / (float)parts, NULL };
	must(core_blend_new(&b, p, parts, &why));
	return b;
}

static void crowd_start(struct crowd *w, struct core_ctx *c, struct core_adapter **a, uint32_t parts)
{
	struct core_row rows[REQUESTS * WARM];

	for (uint32_t i = 0; i < REQUESTS; i++) {
		struct core_blend *b = sum_of(a, i, parts);

		w->s[i] = core_seq_new(c);
		must(core_seq_set_blend(c, w->s[i], b));
		core_blend_unref(b);
		for (uint32_t k = 0; k < WARM; k++)
			rows[i * WARM + k] = (struct core_row){ w->s[i], (int32_t)((k * 31 + i) % VOCAB), CORE_PROMPT, false };
	}
	must(core_forward(c, rows, REQUESTS * WARM, &why));
}

static void crowd_step(struct crowd *w, struct core_ctx *c, int turn)
{
	struct core_row rows[REQUESTS];

	for (uint32_t i = 0; i < REQUESTS; i++)
		rows[i] = (struct core_row){ w->s[i], (int32_t)((turn * 17 + (int)i * 5) % VOCAB), CORE_GENERATED, true };
	w->t[turn] = now();
	must(core_forward(c, rows, REQUESTS, &why));
	w->t[turn] = now() - w->t[turn];
}

/* A prompt through the blend of the first request. */
static void crowd_prompt(struct crowd *w, struct core_ctx *c, struct core_adapter **a, uint32_t parts, int turn)
{
	struct core_blend *b = sum_of(a, 0, parts);
	struct core_seq *s = core_seq_new(c);

	must(core_seq_set_blend(c, s, b));
	core_blend_unref(b);
	w->prompt[turn] = feed_time(c, s, PROMPT);
	core_seq_free(c, s);
}

static void bench_factors(const struct weights *w, const char *folder, int threads)
{
	static const uint32_t parts[] = {0, 1, PARTS};
	struct core_adapter *a[REQUESTS];
	struct crowd crowd[3];
	struct bench b;
	double t[3], p[3], read, bytes = 0;

	bench_open(&b, w, folder, threads);
	load_adapters(a, b.model);
	for (int k = 0; k < 3; k++)
		crowd_start(&crowd[k], b.ctx, a, parts[k]);
	for (int turn = 0; turn < TURNS; turn++)
		for (int k = 0; k < 3; k++)
			crowd_step(&crowd[k], b.ctx, turn);
	for (int turn = 0; turn < PROMPTS; turn++)
		for (int k = turn; k < turn + 3; k++)	/* none always after the same other */
			crowd_prompt(&crowd[k % 3], b.ctx, a, parts[k % 3], turn);
	read = read_bandwidth(threads);
	for (int k = 0; k < 3; k++) {
		t[k] = median(crowd[k].t, TURNS);
		p[k] = median(crowd[k].prompt, PROMPTS);
	}
	for (int i = 0; i < REQUESTS; i++)
		bytes += (double)core_adapter_info(a[i])->bytes;
	printf("| %-7s | %-7s | %5.2f | %5.2f | %6.1f | %6.1f | %6.1f | %4.1f%% | %4.1f%% | %5.1f | %5.1f "
	       "| %5.1f | %5.1f | %5.1f | %4.1f%% | %4.1f%% |\n", b.name,
	       core_adapter_info(a[0])->exact ? "exact" : "q8", b.bytes / 1e9, bytes / 1e9, REQUESTS / t[0], REQUESTS / t[1],
	       REQUESTS / t[2], 100 * (1 - t[0] / t[1]), 100 * (1 - t[0] / t[2]), bytes / (t[1] - t[0]) / 1e9, read / 1e9, PROMPT / p[0],
	       PROMPT / p[1], PROMPT / p[2], 100 * (1 - p[0] / p[1]), 100 * (1 - p[0] / p[2]));
	fflush(stdout);
	for (int k = 0; k < 3; k++)
		for (int i = 0; i < REQUESTS; i++)
			core_seq_free(b.ctx, crowd[k].s[i]);
	for (int i = 0; i < REQUESTS; i++)
		core_adapter_unref(a[i]);
	bench_close(&b);
}

static void bench_adapters(const struct weights *w, const char *folder, int threads)
{
	struct weights with = *w;

	for (with.factors = CORE_FACTORS_EXACT; with.factors <= CORE_FACTORS_Q8; with.factors++)
		bench_factors(&with, folder, threads);
}

static void make_model(const struct weights *w, const char *folder, int threads)
{
	free(model_need(folder, w->type));
}

/* ---- what is asked for ---- */

static const struct kind {
	int option; /* 0: none of them */
	const char *title, *columns; /* NULL: nothing is printed */
	void (*run)(const struct weights *w, const char *folder, int threads);
} kinds[] = {
	{0, "medians of 3",
	 "| weights |    GB | load s | prefill 512 t/s | TOP/s | of int8 peak | of float peak | decode 1 t/s | GB/s | read GB/s | of it | "
	 "decode 16 t/s |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n",
	 bench_rates},
	{'a', "a batch of 32, rank 16, all linears, medians of 9 steps, and a prompt of 512, medians of 5; tokens/s, and what they lose "
	      "against the base",
	 "| weights | factors |    GB | of them GB |  base | one each | sums of 4 | one | sums | factors GB/s | read GB/s "
	 "| prompt: base | one | sum of 4 | one | sum |\n"
	 "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
	 bench_adapters},
	{'l', "tokens/s, taking turns",
	 "| weights | KV   | prefill 512 | prefill 4096 | keeps | decode at 64 | decode at 4096 | keeps |\n"
	 "|---|---|---|---|---|---|---|---|\n",
	 bench_long},
	{'n', NULL, NULL, make_model},
};

static void print_peaks(int threads)
{
	enum core_cpu cpu;
	struct peaks p;

	must(core_cpu_pick(&cpu, &why));
	p = peaks_measure(cpu, threads);
	if (p.ints.by)
		printf("peaks, measured again beside each prefill: integers %.2f TOP/s (%s), floats %.2f TFLOP/s (%s)\n", p.ints.ops / 1e12,
		       p.ints.by, p.floats.ops / 1e12, p.floats.by);
}

static const struct kind *kind_of(int option)
{
	const struct kind *k = kinds;

	while (k->option != option)
		k++;
	return k;
}

static void print_head(const struct kind *k, int threads)
{
	print_machine(threads);
	if (k->run == bench_rates)
		print_peaks(threads);
	printf("shape of TinyLlama-1.1B, random weights; %s\n\n%s", k->title, k->columns);
}

int main(int argc, char **argv)
{
	const struct weights *list[8] = {weights_named("bf16"), weights_named("q8"), weights_named("q4"), weights_named("Q4_K_M")};
	int n = 4, chosen = 0, threads = (int)sysconf(_SC_NPROCESSORS_ONLN), opt;
	const struct kind *kind = kind_of(0);
	const char *folder = "bench-model";
	bool cpu_time = false;

	while ((opt = getopt(argc, argv, "aclnt:q:k:f:")) != -1) {
		if (opt == 'a' || opt == 'l' || opt == 'n') {
			kind = kind_of(opt);
		} else if (opt == 'c') {
			cpu_time = true;
		} else if (opt == 't') {
			threads = atoi(optarg);
		} else if (opt == 'f') {
			folder = optarg;
		} else if (opt == 'k' && kv_kinds.n < KV_KINDS && !core_kv_type_parse(optarg, &kv_kinds.kind[kv_kinds.n])) {
			kv_kinds.n++;
		} else if (opt != 'q' || chosen == 8 || !(list[chosen++] = weights_named(optarg))) {
			fprintf(stderr, "usage: bench [-a|-l|-n] [-c] [-t THREADS] [-q bf16|q8|q4|nf4|Q8_0|Q4_0|Q4_K_M]... "
					"[-k f16|f32|int8]... [-f FOLDER]\n");
			return 2;
		}
	}
	n = chosen ? chosen : n;
	if (kv_kinds.n == 0)
		kv_kinds = (struct kv_kinds){2, {CORE_KV_F16, CORE_KV_INT8}};
	clock_counts_cpu_of(cpu_time ? threads : 0);
	if (kind->title)
		print_head(kind, threads);
	for (int i = 0; i < n; i++)
		kind->run(list[i], folder, threads);
	return 0;
}
