/* measure.c: the clock, the read bandwidth, and passes of the core. */
#include "config.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

#include "kernels/llama.h"
#include "kernels/memory.h"
#include "kernels/pack.h"
#include "measure.h"

struct core_error why;

/* ---- the clock ---- */

static int cpu_time_of_threads; /* 0: wall time */

void clock_counts_cpu_of(int threads)
{
	cpu_time_of_threads = threads;
}

double now(void)
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

double median(double *x, int n)
{
	qsort(x, (size_t)n, sizeof(*x), ascending);
	return x[n / 2];
}

void print_machine(int threads)
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

/* ---- read bandwidth ---- */

enum { READ_PART = 1 << 22, READS = 7 };
static const size_t read_bytes_all = (size_t)1 << 30;
typedef uint64_t wide __attribute__((vector_size(64)));

/* The core fetches ahead by hand, so the limit it is held against does, too. */
enum { READ_AHEAD = 2048, READ_STEP = 512 };
#ifdef HAVE_X86
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
static uint64_t read_bytes(const wide *p)
{
	wide sum[READ_STEP / sizeof(wide)] = {{0}}, all = {0};

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

double read_bandwidth(int threads)
{
	static char *block;
	struct pool *p = NULL;
	double t[READS];

	if (!block) {
		block = memory_map(read_bytes_all);
		if (!block) {
			perror("memory to read");
			exit(1);
		}
		memset(block, 1, read_bytes_all);
	}
	must(pool_new(&p, threads, &why));
	for (int i = 0; i < READS; i++) {
		t[i] = now();
		pool_run(p, read_part, block, (uint32_t)(read_bytes_all / READ_PART));
		t[i] = now() - t[i];
	}
	pool_free(p);
	median(t, READS);
	return (double)read_bytes_all / t[1]; /* nearly the best: what the hardware can do, but for one lucky run */
}

/* ---- the core ---- */

void bench_open(struct bench *b, const struct weights *w, const char *folder, int threads)
{
	char *path = model_need(folder, w->type);
	struct core_model_params mp = {.path = path, .quant = w->quant, .factors = w->factors};
	struct core_ctx_params cp = {.threads = threads, .kv_pages = 400, .max_rows = BENCH_ROWS};

	*b = (struct bench){.name = w->name, .threads = threads};
	b->load_s = -now();
	must(core_model_load(&b->model, &mp, &why));
	b->load_s += now();
	cp.model = b->model;
	must(core_ctx_new(&b->ctx, &cp, &why));
	b->bytes = (double)(b->model->arena_bytes - pack_bytes(&b->model->embed));
	free(path);
}

void bench_close(struct bench *b)
{
	core_ctx_free(b->ctx);
	core_model_free(b->model);
}

double bench_prompt(struct bench *b, uint32_t n)
{
	static struct core_row rows[BENCH_ROWS];
	struct core_seq *s = core_seq_new(b->ctx);
	double t;

	for (uint32_t i = 0; i < n; i++)
		rows[i] = (struct core_row){s, (int32_t)(i * 7919 % VOCAB), CORE_PROMPT, i == n - 1};
	t = now();
	must(core_forward(b->ctx, rows, n, &why));
	t = now() - t;
	core_seq_free(b->ctx, s);
	return t;
}

const float *bench_logits(struct bench *b, uint32_t n)
{
	bench_prompt(b, n);
	return core_logits(b->ctx, 0);
}

void choir_open(struct choir *c, struct bench *b, uint32_t n, uint32_t context, uint32_t rows)
{
	static struct core_row row[BENCH_ROWS];
	uint32_t m = 0;

	*c = (struct choir){.b = b, .n = n, .context = context};
	for (uint32_t k = 0; k < n; k++) {
		c->seq[k] = core_seq_new(b->ctx);
		for (uint32_t i = 0; i < context; i++) {
			row[m++] = (struct core_row){c->seq[k], (int32_t)((i * 31 + k) % VOCAB), CORE_PROMPT, i == context - 1};
			if (m < rows && (k < n - 1 || i < context - 1))
				continue;
			must(core_forward(b->ctx, row, m, &why));
			m = 0;
		}
	}
}

double choir_steps(struct choir *c, int steps)
{
	struct core_row row[CHOIR_MOST];
	double t = now();

	for (int i = 0; i < steps; i++) {
		for (uint32_t k = 0; k < c->n; k++)
			row[k] = (struct core_row){c->seq[k], (int32_t)((uint32_t)i * 17 + k * 5) % VOCAB, CORE_GENERATED, true};
		must(core_forward(c->b->ctx, row, c->n, &why));
	}
	t = now() - t;
	for (uint32_t k = 0; k < c->n; k++)
		must(core_seq_trim(c->b->ctx, c->seq[k], c->context));
	return t;
}

void choir_close(struct choir *c)
{
	for (uint32_t k = 0; k < c->n; k++)
		core_seq_free(c->b->ctx, c->seq[k]);
}
