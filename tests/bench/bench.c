/* bench.c: what the core does on this machine: tokens/s of a model of TinyLlama-1.1B's shape with random weights, beside the read
 * bandwidth measured in the same run. `make bench` runs it; usage: bench [-a|-l] [-c] [-t THREADS] [-q none|q8|q4|nf4]... [-k f16|f32|int8]...
 * [-f FOLDER]
 *
 * -a measures adapters instead: a batch of 32 requests, each on an adapter of its own (rank 16, all seven linears), and each on a sum
 * of four of those, against the base alone; with exact factors and with those of 8 bits. The three take turns, step by step.
 *
 * -l measures what a long context costs: a prompt of 4,096 tokens against prompts of 512, and decode after 4,096 tokens against decode
 * after 64, with each kind of KV that -k names (f16 and int8). All take turns, chunk by chunk and step by step, so that their ratios mean
 * something on a machine that is not quiet.
 *
 * -c counts CPU time per thread instead of wall time: what this machine would do if other programs were not using it, too (but
 * caches and memory bandwidth are still shared with them). Wall time is what users get.
 *
 * Decode at batch 1 reads every weight of the linears and the head once per step, so its ceiling is the bandwidth. */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "kernels/format/blocks.h"
#include "kernels/llama.h"
#include "kernels/memory.h"
#include "kernels/pack.h"

enum { LAYERS = 22, DIM = 2048, FFN = 5632, HEADS = 32, KV_HEADS = 4, HEAD = 64, VOCAB = 32000, CONTEXT = 4608 };
enum { PROMPT = 512, RUNS = 3, STEPS = 12, BATCH = 16, WARM_CONTEXT = 64, LONG_CONTEXT = 4096, LONG_STEPS = 25, KV_KINDS = 3 };

static struct core_error why;

#define must(call)                                                                                                                 \
	do {                                                                                                                       \
		if ((call) != CORE_OK) {                                                                                           \
			fprintf(stderr, "%s: %s\n", #call, why.text);                                                              \
			exit(1);                                                                                                   \
		}                                                                                                                  \
	} while (0)

static int cpu_time_of_threads;	/* 0: wall time */

static double now(void)
{
	struct timespec t;

	clock_gettime(cpu_time_of_threads ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
	return ((double)t.tv_sec + (double)t.tv_nsec * 1e-9) / (cpu_time_of_threads ? cpu_time_of_threads : 1);
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *x, int n)
{
	qsort(x, (size_t)n, sizeof(*x), ascending);
	return x[n / 2];
}

/* ---- the model: an HF folder of random bf16 weights ---- */

struct writer {
	FILE *header, *data;
	uint64_t at;
	uint16_t *noise;	/* [NOISE] normal-ish, standard deviation 0.02 */
	uint32_t salt;
};
enum { NOISE = 1 << 22 };

static void put_tensor(struct writer *w, const char *name, uint64_t rows, uint64_t cols)
{
	uint64_t n = (rows ? rows : 1) * cols;

	fprintf(w->header, "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[", w->at ? "," : "{", name);
	if (rows)
		fprintf(w->header, "%llu,", (unsigned long long)rows);
	fprintf(w->header, "%llu],\"data_offsets\":[%llu,%llu]}", (unsigned long long)cols, (unsigned long long)w->at,
		(unsigned long long)(w->at + 2 * n));
	w->at += 2 * n;
	while (n) {
		uint64_t from = (w->salt += 7919) % (NOISE / 2), now_n = n < NOISE / 2 ? n : NOISE / 2;

		if (fwrite(w->noise + from, 2, now_n, w->data) != now_n) {
			perror("writing the bench model");
			exit(1);
		}
		n -= now_n;
	}
}

static void put_layers(struct writer *w)
{
	static const struct {
		const char *name;
		uint32_t rows, cols;
	} part[] = {
		{"self_attn.q_proj", HEADS * HEAD, DIM},
		{"self_attn.k_proj", KV_HEADS * HEAD, DIM},
		{"self_attn.v_proj", KV_HEADS * HEAD, DIM},
		{"self_attn.o_proj", DIM, HEADS * HEAD},
		{"mlp.gate_proj", FFN, DIM},
		{"mlp.up_proj", FFN, DIM},
		{"mlp.down_proj", DIM, FFN},
		{"input_layernorm", 0, DIM},
		{"post_attention_layernorm", 0, DIM},
	};
	char name[128];

	for (int i = 0; i < LAYERS; i++)
		for (unsigned k = 0; k < sizeof(part) / sizeof(part[0]); k++) {
			snprintf(name, sizeof(name), "model.layers.%d.%s.weight", i, part[k].name);
			put_tensor(w, name, part[k].rows, part[k].cols);
		}
	put_tensor(w, "model.embed_tokens.weight", VOCAB, DIM);
	put_tensor(w, "model.norm.weight", 0, DIM);
	put_tensor(w, "lm_head.weight", VOCAB, DIM);
}

static FILE *open_in(const char *folder, const char *name, const char *mode)
{
	char path[1024];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, mode);
	if (!f) {
		perror(path);
		exit(1);
	}
	return f;
}

static uint16_t *make_noise(void)
{
	uint16_t *noise = malloc(NOISE * sizeof(*noise));
	uint64_t s = 88172645463325252u;

	for (int i = 0; noise && i < NOISE; i++) {
		float sum = 0;

		for (int k = 0; k < 4; k++) {
			s = s * 6364136223846793005u + 1442695040888963407u;
			sum += (float)(int32_t)(s >> 32) / 2147483648.0f;
		}
		noise[i] = float_to_bf16(sum * 0.0173f);
	}
	return noise;
}

/* Two walks: the header needs all offsets before the data begins, so data goes behind a fixed amount of it. */
static void put_file(struct writer *w, const char *folder, const char *name, void put(struct writer *w))
{
	enum { ROOM = 131072 };
	char *header = NULL;
	size_t length = 0;
	uint64_t padded = ROOM - 8;

	w->header = open_memstream(&header, &length);
	w->data = open_in(folder, name, "w");
	fseek(w->data, ROOM, SEEK_SET);
	put(w);
	fputc('}', w->header);
	fclose(w->header);
	rewind(w->data);
	fwrite(&padded, 8, 1, w->data);
	fprintf(w->data, "%s%*s", header, (int)(padded - length), "");
	if (fclose(w->data)) {
		perror(name);
		exit(1);
	}
	free(header);
}

static void make_model(const char *folder)
{
	struct writer w = { .noise = make_noise() };
	FILE *f;

	if ((mkdir(folder, 0777) && errno != EEXIST) || !w.noise) {
		perror(folder);
		exit(1);
	}
	f = open_in(folder, "config.json", "w");
	fprintf(f, "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_act\":\"silu\",");
	fprintf(f, "\"hidden_size\":%d,\"intermediate_size\":%d,\"num_hidden_layers\":%d,", DIM, FFN, LAYERS);
	fprintf(f, "\"num_attention_heads\":%d,\"num_key_value_heads\":%d,\"vocab_size\":%d,", HEADS, KV_HEADS, VOCAB);
	fprintf(f, "\"max_position_embeddings\":%d,\"rms_norm_eps\":1e-5,\"rope_theta\":10000.0,\"tie_word_embeddings\":false}\n", CONTEXT);
	fclose(f);
	put_file(&w, folder, "model.safetensors", put_layers);
	free(w.noise);
}

static void remove_model(const char *folder)
{
	char path[1024];

	snprintf(path, sizeof(path), "%s/model.safetensors", folder);
	unlink(path);
	snprintf(path, sizeof(path), "%s/config.json", folder);
	unlink(path);
	rmdir(folder);
}

/* ---- read bandwidth ---- */

enum { READ_PART = 1 << 22 };
typedef uint64_t wide __attribute__((vector_size(64)));

/* The core fetches ahead by hand, so the limit it is held against does, too. */
enum { READ_AHEAD = 2048, READ_STEP = 512 };
#ifdef HAVE_X86
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
static uint64_t read_bytes(const wide *p)
{
	wide sum[READ_STEP / sizeof(wide)] = { { 0 } }, all = { 0 };

	for (size_t k = 0; k < READ_PART / sizeof(wide); k += READ_STEP / sizeof(wide))
		for (size_t i = 0; i < READ_STEP / sizeof(wide); i++) {
			__builtin_prefetch((const char *)(p + k + i) + READ_AHEAD);
			sum[i] ^= p[k + i];
		}
	for (size_t i = 0; i < READ_STEP / sizeof(wide); i++)
		all ^= sum[i];
	return all[0] ^ all[1] ^ all[2] ^ all[3] ^ all[4] ^ all[5] ^ all[6] ^ all[7];
}

static void read_part(void *arg, uint32_t i)
{
	uint64_t sum = read_bytes((const wide *)((const char *)arg + (size_t)i * READ_PART));

	__asm__ volatile("" : : "r"(sum));
}

/* Bytes per second of reading a block much larger than the caches, in parts handed out as the core hands out its own. */
static double bandwidth(int threads)
{
	size_t bytes = (size_t)1 << 30;
	char *block = memory_map(bytes);
	struct pool *p = NULL;
	double t[7];

	must(pool_new(&p, threads, &why));
	if (!block)
		exit(1);
	memset(block, 1, bytes);
	for (int i = 0; i < 7; i++) {
		t[i] = now();
		pool_run(p, read_part, block, (uint32_t)(bytes / READ_PART));
		t[i] = now() - t[i];
	}
	pool_free(p);
	memory_unmap(block, bytes);
	qsort(t, 7, sizeof(t[0]), ascending);
	return (double)bytes / t[1];	/* nearly the best: what the hardware can do, but for one lucky run */
}

/* ---- tokens/s ---- */

static double prefill_rate(struct core_ctx *c)
{
	static struct core_row rows[PROMPT];
	double t[RUNS];

	for (int r = 0; r < RUNS; r++) {
		struct core_seq *s = core_seq_new(c);

		for (int i = 0; i < PROMPT; i++)
			rows[i] = (struct core_row){ s, (i * 7919 + r) % VOCAB, CORE_PROMPT, i == PROMPT - 1 };
		t[r] = now();
		must(core_forward(c, rows, PROMPT, &why));
		t[r] = PROMPT / (now() - t[r]);
		core_seq_free(c, s);
	}
	return median(t, RUNS);
}

/* Steps per second at a given batch, each sequence with WARM_CONTEXT tokens before. */
static double decode_rate(struct core_ctx *c, int batch)
{
	struct core_row rows[WARM_CONTEXT];
	struct core_seq *s[BATCH];
	double t[RUNS];

	for (int b = 0; b < batch; b++) {
		s[b] = core_seq_new(c);
		for (int i = 0; i < WARM_CONTEXT; i++)
			rows[i] = (struct core_row){ s[b], (i * 31 + b) % VOCAB, CORE_PROMPT, false };
		must(core_forward(c, rows, WARM_CONTEXT, &why));
	}
	for (int r = 0; r < RUNS; r++) {
		t[r] = now();
		for (int i = 0; i < STEPS; i++) {
			for (int b = 0; b < batch; b++)
				rows[b] = (struct core_row){ s[b], (i * 17 + b * 5) % VOCAB, CORE_GENERATED, true };
			must(core_forward(c, rows, (uint32_t)batch, &why));
		}
		t[r] = STEPS / (now() - t[r]);
	}
	for (int b = 0; b < batch; b++)
		core_seq_free(c, s[b]);
	return median(t, RUNS);
}

static void bench_quant(const char *folder, enum core_quant quant, int threads)
{
	struct core_model_params mp = { .path = folder, .quant = quant };
	struct core_ctx_params cp = { .threads = threads, .kv_pages = 256, .max_rows = PROMPT };
	struct core_model *m = NULL;
	struct core_ctx *c = NULL;
	double load = now(), prefill, one, many, bytes, before, after;

	must(core_model_load(&m, &mp, &why));
	load = now() - load;
	cp.model = m;
	must(core_ctx_new(&c, &cp, &why));
	bytes = (double)(m->arena_bytes - pack_bytes(&m->embed));
	prefill = prefill_rate(c);
	/* The memory is shared with whoever else is on the host: its limit is measured on both sides of what is held against it. */
	before = bandwidth(threads);
	one = decode_rate(c, 1);
	after = bandwidth(threads);
	before = before > after ? before : after;
	many = decode_rate(c, BATCH);
	printf("| %-10s | %5.2f | %5.1f | %7.1f | %7.2f | %5.1f | %5.1f | %4.0f%% | %7.1f |\n", core_model_info(m)->quant, bytes / 1e9,
	       load, prefill, one, bytes * one / 1e9, before / 1e9, 100 * bytes * one / before, many * BATCH);
	fflush(stdout);
	core_ctx_free(c);
	core_model_free(m);
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

	printf("| %-10s | %-4s | %7.1f | %7.1f | %4.0f%% | %7.2f | %7.2f | %4.0f%% |\n", weights, core_kv_type_name(core_ctx_kv_type(l->c)),
	       LONG_CONTEXT / l->short_prompts, LONG_CONTEXT / l->long_prompt, 100 * l->short_prompts / l->long_prompt, 1 / early, 1 / late,
	       100 * early / late);
	fflush(stdout);
	core_seq_free(l->c, l->whole);
	core_seq_free(l->c, l->brief);
	core_ctx_free(l->c);
}

static void bench_long(const char *folder, enum core_quant quant, const enum core_kv_type *kinds, int n, int threads)
{
	struct core_model_params mp = { .path = folder, .quant = quant };
	struct core_model *m = NULL;
	struct lane lane[KV_KINDS];

	must(core_model_load(&m, &mp, &why));
	for (int k = 0; k < n; k++)
		lane[k] = lane_new(m, kinds[k], threads);
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
		lane_end(&lane[k], core_model_info(m)->quant);
	core_model_free(m);
}

/* ---- adapters ---- */

enum { REQUESTS = 32, RANK = 16, PARTS = 4, TURNS = 9, WARM = 8 };

static void put_factors(struct writer *w)
{
	static const struct {
		const char *name;
		uint32_t rows, cols;
	} part[CORE_LINEARS] = {
		{"self_attn.q_proj", HEADS * HEAD, DIM},
		{"self_attn.k_proj", KV_HEADS * HEAD, DIM},
		{"self_attn.v_proj", KV_HEADS * HEAD, DIM},
		{"self_attn.o_proj", DIM, HEADS * HEAD},
		{"mlp.gate_proj", FFN, DIM},
		{"mlp.up_proj", FFN, DIM},
		{"mlp.down_proj", DIM, FFN},
	};
	char name[160];

	for (int i = 0; i < LAYERS; i++)
		for (unsigned k = 0; k < CORE_LINEARS; k++) {
			snprintf(name, sizeof(name), "base_model.model.model.layers.%d.%s.lora_A.weight", i, part[k].name);
			put_tensor(w, name, RANK, part[k].cols);
			snprintf(name, sizeof(name), "base_model.model.model.layers.%d.%s.lora_B.weight", i, part[k].name);
			put_tensor(w, name, part[k].rows, RANK);
		}
}

static void make_adapter(const char *folder, uint16_t *noise, uint32_t salt)
{
	struct writer w = { .noise = noise, .salt = salt };
	FILE *f;

	if (mkdir(folder, 0777) && errno != EEXIST) {
		perror(folder);
		exit(1);
	}
	f = open_in(folder, "adapter_config.json", "w");
	fprintf(f, "{\"peft_type\":\"LORA\",\"r\":%d,\"lora_alpha\":%d,\"bias\":\"none\",\"target_modules\":", RANK, RANK);
	fprintf(f, "[\"q_proj\",\"k_proj\",\"v_proj\",\"o_proj\",\"gate_proj\",\"up_proj\",\"down_proj\"]}\n");
	fclose(f);
	put_file(&w, folder, "adapter_model.safetensors", put_factors);
}

static void load_adapters(struct core_adapter **a, const struct core_model *m)
{
	static const char folder[] = "bench-adapter";
	uint16_t *noise = make_noise();
	char path[64];

	for (uint32_t i = 0; i < REQUESTS; i++) {
		make_adapter(folder, noise, i * 104729);
		must(core_adapter_load(&a[i], m, folder, &why));
	}
	snprintf(path, sizeof(path), "%s/adapter_model.safetensors", folder);
	unlink(path);
	snprintf(path, sizeof(path), "%s/adapter_config.json", folder);
	unlink(path);
	rmdir(folder);
	free(noise);
}

/* A batch: request i on adapters i .. i + parts - 1. */
struct crowd {
	struct core_seq *s[REQUESTS];
	double t[TURNS];
};

static void crowd_start(struct crowd *w, struct core_ctx *c, struct core_adapter **a, uint32_t parts)
{
	struct core_row rows[REQUESTS * WARM];

	for (uint32_t i = 0; i < REQUESTS; i++) {
		struct core_blend_part p[PARTS];
		struct core_blend *b = NULL;

		for (uint32_t k = 0; k < parts; k++)
			p[k] = (struct core_blend_part){ a[(i + k) % REQUESTS], 1.0f / (float)parts, NULL };
		must(core_blend_new(&b, p, parts, &why));
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

static void bench_adapters(const char *folder, enum core_quant quant, enum core_factors factors, int threads)
{
	struct core_model_params mp = { .path = folder, .quant = quant, .factors = factors };
	struct core_ctx_params cp = { .threads = threads, .kv_pages = 3 * REQUESTS * 2, .max_rows = PROMPT };
	struct core_adapter *a[REQUESTS];
	struct core_model *m = NULL;
	struct core_ctx *c = NULL;
	static const uint32_t parts[] = { 0, 1, PARTS };
	struct crowd crowd[3];
	double t[3], read, bytes = 0;

	must(core_model_load(&m, &mp, &why));
	cp.model = m;
	must(core_ctx_new(&c, &cp, &why));
	load_adapters(a, m);
	for (int k = 0; k < 3; k++)
		crowd_start(&crowd[k], c, a, parts[k]);
	for (int turn = 0; turn < TURNS; turn++)
		for (int k = 0; k < 3; k++)
			crowd_step(&crowd[k], c, turn);
	read = bandwidth(threads);
	for (int k = 0; k < 3; k++)
		t[k] = median(crowd[k].t, TURNS);
	for (int i = 0; i < REQUESTS; i++)
		bytes += (double)core_adapter_info(a[i])->bytes;
	printf("| %-10s | %-7s | %5.2f | %5.2f | %6.1f | %6.1f | %6.1f | %4.1f%% | %4.1f%% | %5.1f | %5.1f |\n",
	       core_model_info(m)->quant, core_adapter_info(a[0])->exact ? "exact" : "q8",
	       (double)(m->arena_bytes - pack_bytes(&m->embed)) / 1e9, bytes / 1e9, REQUESTS / t[0], REQUESTS / t[1], REQUESTS / t[2],
	       100 * (1 - t[0] / t[1]), 100 * (1 - t[0] / t[2]), bytes / (t[1] - t[0]) / 1e9, read / 1e9);
	fflush(stdout);
	for (int k = 0; k < 3; k++)
		for (int i = 0; i < REQUESTS; i++)
			core_seq_free(c, crowd[k].s[i]);
	for (int i = 0; i < REQUESTS; i++)
		core_adapter_unref(a[i]);
	core_ctx_free(c);
	core_model_free(m);
}

static void print_machine(int threads)
{
	char line[256], date[64];
	enum core_cpu cpu;
	time_t t = time(NULL);
	FILE *f = fopen("/proc/cpuinfo", "r");

	must(core_cpu_pick(&cpu, &why));
	strftime(date, sizeof(date), "%Y-%m-%d", gmtime(&t));
	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, "model name", 10)) {
			printf("%s: %s", date, strchr(line, ':') + 2);
			break;
		}
	if (f)
		fclose(f);
	printf("%s kernels, %d threads of %ld CPUs, compiler %s, %s\n", core_cpu_name(cpu), threads, sysconf(_SC_NPROCESSORS_ONLN),
	       __VERSION__, cpu_time_of_threads ? "CPU time" : "wall time");
}

int main(int argc, char **argv)
{
	enum core_quant quants[8] = { CORE_QUANT_NONE, CORE_QUANT_Q8, CORE_QUANT_Q4 };
	enum core_kv_type kinds[KV_KINDS] = { CORE_KV_F16, CORE_KV_INT8 };
	int n_quants = 3, chosen = 0, n_kinds = 2, chosen_kinds = 0, threads = (int)sysconf(_SC_NPROCESSORS_ONLN), opt;
	const char *folder = "bench-model";
	bool cpu_time = false, adapters = false, contexts = false;

	while ((opt = getopt(argc, argv, "aclt:q:k:f:")) != -1) {
		if (opt == 'a') {
			adapters = true;
		} else if (opt == 'l') {
			contexts = true;
		} else if (opt == 'c') {
			cpu_time = true;
		} else if (opt == 't') {
			threads = atoi(optarg);
		} else if (opt == 'f') {
			folder = optarg;
		} else if (opt == 'k' && chosen_kinds < KV_KINDS && !core_kv_type_parse(optarg, &kinds[chosen_kinds])) {
			chosen_kinds++;
		} else if (opt != 'q' || chosen == 8 || core_quant_parse(optarg, &quants[chosen++])) {
			fprintf(stderr, "usage: bench [-a|-l] [-c] [-t THREADS] [-q none|q8|q4|nf4]... [-k f16|f32|int8]... [-f FOLDER]\n");
			return 2;
		}
	}
	n_quants = chosen ? chosen : n_quants;
	n_kinds = chosen_kinds ? chosen_kinds : n_kinds;
	cpu_time_of_threads = cpu_time ? threads : 0;
	print_machine(threads);
	make_model(folder);
	if (adapters) {
		printf("batch of %d, rank %d, all linears; medians of %d steps; tokens/s, and what they lose against the base\n\n",
		       REQUESTS, RANK, TURNS);
		printf("| weights    | factors |    GB | of them GB |  base | one each | sums of %d | one | sums | factors GB/s | read GB/s "
		       "|\n|---|---|---|---|---|---|---|---|---|---|---|\n",
		       PARTS);
		for (int i = 0; i < n_quants; i++)
			for (enum core_factors f = CORE_FACTORS_EXACT; f <= CORE_FACTORS_Q8; f++)
				bench_adapters(folder, quants[i], f, threads);
		remove_model(folder);
		return 0;
	}
	if (contexts) {
		printf("shape of TinyLlama-1.1B, random weights; tokens/s, taking turns\n\n");
		printf("| weights    | KV   | prefill %d | prefill %d | keeps | decode at %d | decode at %d | keeps |\n|---|---|---|---|---|---|---|---|\n",
		       PROMPT, LONG_CONTEXT, WARM_CONTEXT, LONG_CONTEXT);
		for (int i = 0; i < n_quants; i++)
			bench_long(folder, quants[i], kinds, n_kinds, threads);
		remove_model(folder);
		return 0;
	}
	printf("shape of TinyLlama-1.1B, random weights; medians of %d\n\n", RUNS);
	printf("| weights    |    GB | load s | prefill %d t/s | decode 1 t/s | GB/s | read GB/s | of it | decode %d t/s "
	       "|\n|---|---|---|---|---|---|---|---|---|\n",
	       PROMPT, BATCH);
	for (int i = 0; i < n_quants; i++)
		bench_quant(folder, quants[i], threads);
	remove_model(folder);
	return 0;
}
