/* mix.c: thin out, elect, weight, sum: the element-wise heart of every combination type but cat and svd.
 *
 * In the order of PEFT's merge_utils: each tensor is thinned by itself; the sign of a place is elected from the thinned tensors
 * without their weights; what differs from it does not count; the rest is weighted, summed, and with an election divided by how
 * many it was. */
#include <math.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "parts.h"

int fuse_stopped(const struct fuse_watch *watch, struct core_error *err)
{
	bool flag = watch != NULL && watch->cancel != NULL && atomic_load_explicit(watch->cancel, memory_order_relaxed);

	if (!flag && (watch == NULL || watch->cancelled == NULL || !watch->cancelled(watch->arg)))
		return 0;
	return core_fail(err, FUSE_CANCELLED, "cancelled");
}

/* ---- thinning: a bit per element, set where the value stays ---- */

static void mark(uint64_t *mask, uint64_t i)
{
	mask[i / 64] |= (uint64_t)1 << i % 64;
}

static bool marked(const uint64_t *mask, uint64_t i)
{
	return mask[i / 64] >> i % 64 & 1;
}

static uint64_t magnitude(double v)
{
	uint64_t u;

	memcpy(&u, &v, sizeof u);
	return u & UINT64_MAX >> 1; /* ordered as |v| is, for finite numbers */
}

/* How many values have each 16-bit digit at `shift`, of those whose higher bits are `prefix`. */
static int count_digits(const struct mix_source *s, unsigned part, unsigned shift, uint64_t prefix, uint64_t *count, double *row,
			const struct fuse_watch *watch, struct core_error *err)
{
	memset(count, 0, 65536 * sizeof *count);
	for (uint64_t r = 0; r < s->rows; r++) {
		if (fuse_stopped(watch, err) < 0)
			return FUSE_CANCELLED;
		s->row(s->arg, part, r, row);
		for (uint64_t c = 0; c < s->cols; c++) {
			uint64_t key = magnitude(row[c]);
			if (shift == 48 || key >> (shift + 16) == prefix)
				count[key >> shift & 65535]++;
		}
	}
	return 0;
}

/* Radix selection of the keep-th largest magnitude, four digits of 16 bits: exact, without a copy of the tensor. Among equals at
 * the boundary the first ones stay. */
static int mark_largest(const struct mix_source *s, unsigned part, uint64_t keep, uint64_t *mask, uint64_t *count, double *row,
			const struct fuse_watch *watch, struct core_error *err)
{
	uint64_t boundary = 0, left = keep;

	for (int shift = 48; shift >= 0 && keep > 0; shift -= 16) {
		unsigned digit = 65535;
		int rc = count_digits(s, part, (unsigned)shift, boundary, count, row, watch, err);
		if (rc < 0)
			return rc;
		while (count[digit] < left)
			left -= count[digit--];
		boundary = boundary << 16 | digit;
		if (count[digit] == left) { /* all with these leading digits stay: the others need no look */
			boundary <<= shift;
			left = UINT64_MAX;
			break;
		}
	}
	for (uint64_t r = 0, i = 0; r < s->rows && keep > 0; r++) {
		if (fuse_stopped(watch, err) < 0)
			return FUSE_CANCELLED;
		s->row(s->arg, part, r, row);
		for (uint64_t c = 0; c < s->cols; c++, i++) {
			uint64_t key = magnitude(row[c]);
			if (key > boundary || (key == boundary && left > 0)) {
				mark(mask, i);
				left -= key == boundary;
			}
		}
	}
	return 0;
}

/* ChaCha20 as a counter-based generator: element i stays if word i of the key's stream is below density * 2^32. The key is a
 * digest of what the choice may depend on, so that it depends on nothing else. */
static int mark_random(const struct mix_rule *rule, unsigned part, uint64_t n, uint64_t *mask, const struct fuse_watch *watch,
		       struct core_error *err)
{
	enum { WORDS = 4096 }; /* 256 blocks of 64 bytes */
	static const unsigned char nonce[crypto_stream_chacha20_NONCEBYTES], zeros[4 * WORDS];
	unsigned char key[crypto_stream_chacha20_KEYBYTES], head[12], bytes[4 * WORDS];
	uint64_t below = (uint64_t)(rule->density * 0x1p32);
	crypto_generichash_state hash;

	if (sodium_init() < 0)
		return core_fail(err, CORE_ENOMEM, "libsodium cannot start");
	for (int i = 0; i < 8; i++)
		head[i] = (unsigned char)(rule->seed >> 8 * i);
	for (int i = 0; i < 4; i++)
		head[8 + i] = (unsigned char)(rule->adapter[part] >> 8 * i);
	crypto_generichash_init(&hash, NULL, 0, sizeof key);
	crypto_generichash_update(&hash, head, sizeof head);
	crypto_generichash_update(&hash, (const unsigned char *)rule->tensor, strlen(rule->tensor));
	crypto_generichash_final(&hash, key, sizeof key);
	for (uint64_t first = 0; first < n; first += WORDS) {
		if (fuse_stopped(watch, err) < 0)
			return FUSE_CANCELLED;
		crypto_stream_chacha20_xor_ic(bytes, zeros, sizeof bytes, nonce, first / 16, key);
		for (uint64_t i = 0; i < WORDS && first + i < n; i++) {
			const unsigned char *w = bytes + 4 * i;
			if (((uint32_t)w[0] | (uint32_t)w[1] << 8 | (uint32_t)w[2] << 16 | (uint32_t)w[3] << 24) < below)
				mark(mask, first + i);
		}
	}
	return 0;
}

/* ---- mixing ---- */

struct mixing {
	const struct mix_source *s;
	const struct mix_rule *rule;
	uint64_t *mask[CORE_BLEND_MAX]; /* NULL: every value stays */
	double *rows;                   /* [n][cols] */
	double *sum;                    /* [cols] */
};

static int thin_all(struct mixing *m, const struct fuse_watch *watch, struct core_error *err)
{
	const struct mix_source *s = m->s;
	uint64_t n = s->rows * s->cols, *count = malloc(65536 * sizeof *count);
	int rc = count != NULL ? 0 : core_fail(err, CORE_ENOMEM, "%s: out of memory", m->rule->tensor);

	for (unsigned i = 0; i < s->n && rc == 0; i++) {
		m->mask[i] = calloc(n / 64 + 1, sizeof *m->mask[i]);
		if (m->mask[i] == NULL)
			rc = core_fail(err, CORE_ENOMEM, "%s: out of memory for %llu marks", m->rule->tensor,
				       (unsigned long long)n);
		else if (m->rule->thin == THIN_RANDOM)
			rc = mark_random(m->rule, i, n, m->mask[i], watch, err);
		else
			rc = mark_largest(s, i, (uint64_t)(m->rule->density * (double)n), m->mask[i], count, m->rows, watch, err);
	}
	free(count);
	return rc;
}

/* Row r of every tensor, thinned. */
static void take_row(struct mixing *m, uint64_t r)
{
	uint64_t cols = m->s->cols;

	for (unsigned i = 0; i < m->s->n; i++) {
		double *v = m->rows + i * cols;
		m->s->row(m->s->arg, i, r, v);
		if (m->mask[i] == NULL)
			continue;
		for (uint64_t c = 0; c < cols; c++) {
			if (!marked(m->mask[i], r * cols + c))
				v[c] = 0;
			else if (m->rule->rescale)
				v[c] /= m->rule->density;
		}
	}
}

static void add_row(struct mixing *m)
{
	uint64_t cols = m->s->cols;

	memset(m->sum, 0, cols * sizeof *m->sum);
	for (unsigned i = 0; i < m->s->n; i++) {
		const double *v = m->rows + i * cols, w = m->rule->weight[i];
		for (uint64_t c = 0; c < cols; c++)
			m->sum[c] += w * v[c];
	}
}

static int sign_of(double v)
{
	return (v > 0) - (v < 0);
}

static void elect_row(struct mixing *m)
{
	uint64_t cols = m->s->cols;

	for (uint64_t c = 0; c < cols; c++) {
		double vote = 0, sum = 0;
		unsigned agree = 0;
		int elected;
		for (unsigned i = 0; i < m->s->n; i++) {
			double v = m->rows[i * cols + c];
			vote += m->rule->sign == FUSE_SIGN_TOTAL ? v : sign_of(v);
		}
		elected = vote >= 0 ? 1 : -1;
		for (unsigned i = 0; i < m->s->n; i++) {
			double v = m->rows[i * cols + c];
			if (sign_of(v) == elected) {
				sum += m->rule->weight[i] * v;
				agree++;
			}
		}
		m->sum[c] = agree > 0 ? sum / agree : 0;
	}
}

int mix_run(const struct mix_source *s, const struct mix_rule *rule, mix_put *put, void *arg, const struct fuse_watch *watch,
	    struct core_error *err)
{
	struct mixing m = {.s = s, .rule = rule};
	int rc = 0;

	m.rows = calloc(s->n * s->cols, sizeof *m.rows);
	m.sum = calloc(s->cols, sizeof *m.sum);
	if (m.rows == NULL || m.sum == NULL)
		rc = core_fail(err, CORE_ENOMEM, "%s: out of memory", rule->tensor);
	else if (rule->thin != THIN_NONE && rule->density < 1)
		rc = thin_all(&m, watch, err);
	for (uint64_t r = 0; r < s->rows && rc == 0; r++) {
		take_row(&m, r);
		if (rule->elect)
			elect_row(&m);
		else
			add_row(&m);
		put(arg, r, m.sum);
		rc = fuse_stopped(watch, err);
	}
	for (unsigned i = 0; i < s->n; i++)
		free(m.mask[i]);
	free(m.rows);
	free(m.sum);
	return rc;
}
