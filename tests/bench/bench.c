/* bench.c: what the core does on this machine: tokens/s of a model of TinyLlama-1.1B's shape with random weights, beside the read
 * bandwidth measured in the same run. `make bench` runs it; usage: bench [-c] [-t THREADS] [-q none|q8|q4]... [-f FOLDER]
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

enum { LAYERS = 22, DIM = 2048, FFN = 5632, HEADS = 32, KV_HEADS = 4, HEAD = 64, VOCAB = 32000, CONTEXT = 2048 };
enum { PROMPT = 512, RUNS = 3, STEPS = 12, BATCH = 16, WARM_CONTEXT = 64 };

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

static void make_model(const char *folder)
{
	struct writer w = { .noise = make_noise() };
	char *header = NULL, path[1024];
	size_t length = 0;
	uint64_t padded;
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
	/* Two walks: the header needs all offsets before the data begins, so data goes behind a fixed 64 KiB of it. */
	w.header = open_memstream(&header, &length);
	w.data = open_in(folder, "model.safetensors", "w");
	padded = 65536 - 8;
	fseek(w.data, 65536, SEEK_SET);
	put_layers(&w);
	fputc('}', w.header);
	fclose(w.header);
	rewind(w.data);
	fwrite(&padded, 8, 1, w.data);
	fprintf(w.data, "%s%*s", header, (int)(padded - length), "");
	if (fclose(w.data)) {
		perror("writing the bench model");
		exit(1);
	}
	snprintf(path, sizeof(path), "%s/model.safetensors", folder);
	free(header);
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
	int n_quants = 3, chosen = 0, threads = (int)sysconf(_SC_NPROCESSORS_ONLN), opt;
	const char *folder = "bench-model";
	bool cpu_time = false;

	while ((opt = getopt(argc, argv, "ct:q:f:")) != -1) {
		if (opt == 'c') {
			cpu_time = true;
		} else if (opt == 't') {
			threads = atoi(optarg);
		} else if (opt == 'f') {
			folder = optarg;
		} else if (opt != 'q' || chosen == 8 || core_quant_parse(optarg, &quants[chosen++])) {
			fprintf(stderr, "usage: bench [-c] [-t THREADS] [-q none|q8|q4]... [-f FOLDER]\n");
			return 2;
		}
	}
	n_quants = chosen ? chosen : n_quants;
	cpu_time_of_threads = cpu_time ? threads : 0;
	print_machine(threads);
	make_model(folder);
	printf("shape of TinyLlama-1.1B, random weights; medians of %d\n\n", RUNS);
	printf("| weights    |    GB | load s | prefill %d t/s | decode 1 t/s | GB/s | read GB/s | of it | decode %d t/s "
	       "|\n|---|---|---|---|---|---|---|---|---|\n",
	       PROMPT, BATCH);
	for (int i = 0; i < n_quants; i++)
		bench_quant(folder, quants[i], threads);
	remove_model(folder);
	return 0;
}
