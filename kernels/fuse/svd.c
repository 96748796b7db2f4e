/* svd.c: truncated singular value decompositions, by LAPACK in double.
 *
 * A low-rank sum needs no whole matrix: D = Bc Ac with Bc [out][R], Ac [R][in], R the sum of the ranks. With Bc = Qb Rb and Ac^T
 * = Qa Ra (thin QR) and the core Rb Ra^T = U S V^T, D = (Qb U) S (Qa V)^T is D's own decomposition; it costs (out + in) R^2
 * (FACTS 3.5).
 *
 * The sign of each singular pair is free; here the largest entry of each row of V^T (the first of equals) is positive. The result
 * is B' = U S, A' = V^T, cut to the quantile when there is one.
 *
 * LAPACK matrices are column-major, so a row-major d [out][in] is seen as its transpose. LAPACK runs on one thread, because a
 * threaded BLAS splits its sums by the number of threads; what is summed in this file goes in a fixed order. */
#include "config.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <lapacke.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "parts.h"

/* LAPACK counts in 32 bits, its workspace too: 4 times the square of the smaller side. */
enum { SIDE_MAX = 1 << 30, SHORT_SIDE_MAX = 20000 };

/* Once and for the process, which has no other use of BLAS. A library that has none of these runs on one thread. */
static void hold_to_one_thread(void)
{
	static const char *const setters[] = {"openblas_set_num_threads", "MKL_Set_Num_Threads", "bli_thread_set_num_threads"};

	for (size_t i = 0; i < sizeof setters / sizeof setters[0]; i++) {
		void *f = dlsym(RTLD_DEFAULT, setters[i]);
		if (f != NULL && i < 2)
			((void (*)(int))f)(1);
		else if (f != NULL)
			((void (*)(int64_t))f)(1);
	}
}

static void lapack_start(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, hold_to_one_thread);
}

static int lapack_result(const char *name, const char *step, lapack_int info, struct core_error *err)
{
	if (info == LAPACK_WORK_MEMORY_ERROR || info == LAPACK_TRANSPOSE_MEMORY_ERROR)
		return core_fail(err, CORE_ENOMEM, "%s: out of memory in the %s", name, step);
	if (info != 0)
		return core_fail(err, CORE_EINVAL, "%s: the %s does not converge (%d)", name, step, (int)info);
	return 0;
}

/* ---- the result: sign, rounding, clamp ---- */

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The quantile of n values, interpolated between neighbours as torch does; v is sorted on the way. */
static double quantile(double *v, uint64_t n, double q)
{
	double at = q * (double)(n - 1);
	uint64_t low = (uint64_t)at, high = low + 1 < n ? low + 1 : low;

	qsort(v, n, sizeof *v, by_value);
	return v[low] + (v[high] - v[low]) * (at - (double)low);
}

static int clamp_factors(const char *name, double *a, uint64_t n_a, double *b, uint64_t n_b, double q, struct core_error *err)
{
	double *all = calloc(n_a + n_b, sizeof *all), most;

	if (all == NULL)
		return core_fail(err, CORE_ENOMEM, "%s: out of memory for the quantile", name);
	memcpy(all, b, n_b * sizeof *all);
	memcpy(all + n_b, a, n_a * sizeof *all);
	most = quantile(all, n_a + n_b, q);
	free(all);
	if (most < 0)
		return core_fail(err, CORE_EINVAL,
				 "svd_clamp: the %g quantile of %s is negative: nothing can lie between it and its opposite", q,
				 name);
	for (uint64_t i = 0; i < n_a; i++)
		a[i] = fmin(fmax(a[i], -most), most);
	for (uint64_t i = 0; i < n_b; i++)
		b[i] = fmin(fmax(b[i], -most), most);
	return 0;
}

static int round_off(const char *name, const double *from, float *to, uint64_t n, struct core_error *err)
{
	for (uint64_t i = 0; i < n; i++) {
		to[i] = (float)from[i];
		if (!isfinite(to[i]))
			return core_fail(err, CORE_EINVAL, "%s: the result has values beyond f32", name);
	}
	return 0;
}

static void fix_signs(double *a, double *b, uint64_t out, uint64_t in, uint32_t rank)
{
	for (uint32_t j = 0; j < rank; j++) {
		double *row = a + j * in, most = 0;
		bool negative = false;
		for (uint64_t c = 0; c < in; c++)
			if (fabs(row[c]) > most) {
				most = fabs(row[c]);
				negative = row[c] < 0;
			}
		for (uint64_t c = 0; c < in && negative; c++)
			row[c] = -row[c];
		for (uint64_t o = 0; o < out && negative; o++)
			b[o * rank + j] = -b[o * rank + j];
	}
}

/* a [f->rank][in] and b [out][f->rank], in double, become the factors. */
static int finish(const char *name, double *a, double *b, uint64_t out, uint64_t in, double clamp, struct fuse_factors *f,
		  struct core_error *err)
{
	uint64_t n_a = f->rank * in, n_b = out * f->rank;
	int rc = 0;

	fix_signs(a, b, out, in, f->rank);
	if (clamp > 0)
		rc = clamp_factors(name, a, n_a, b, n_b, clamp, err);
	f->a = calloc(n_a, sizeof *f->a);
	f->b = calloc(n_b, sizeof *f->b);
	if (rc == 0 && (f->a == NULL || f->b == NULL))
		rc = core_fail(err, CORE_ENOMEM, "%s: out of memory for the factors", name);
	if (rc == 0)
		rc = round_off(name, a, f->a, n_a, err);
	return rc == 0 ? round_off(name, b, f->b, n_b, err) : rc;
}

/* What the rank leaves out, of n singular values. */
static void count_loss(const double *s, uint64_t n, struct fuse_factors *f)
{
	for (uint64_t i = 0; i < n; i++) {
		f->whole += s[i] * s[i];
		f->lost += i < f->rank ? 0 : s[i] * s[i];
	}
}

/* ---- the sum of low-rank products ---- */

/* A side of the sum: q [length][R], column-major; after QR its first k columns are the basis and r [k][R], column-major, the
 * rest. */
struct side {
	uint64_t length;
	lapack_int columns, k;
	double *q, *r, *tau;
};

static int side_new(struct side *s, const char *name, uint64_t length, uint64_t columns, struct core_error *err)
{
	*s = (struct side){.length = length, .columns = (lapack_int)columns};
	s->k = (lapack_int)(length < columns ? length : columns);
	s->q = calloc(length * columns, sizeof *s->q);
	s->r = calloc((uint64_t)s->k * columns, sizeof *s->r);
	s->tau = calloc((uint64_t)s->k, sizeof *s->tau);
	if (s->q == NULL || s->r == NULL || s->tau == NULL)
		return core_fail(err, CORE_ENOMEM, "%s: out of memory for the decomposition", name);
	return 0;
}

static void side_finish(struct side *s)
{
	free(s->q);
	free(s->r);
	free(s->tau);
}

static int side_factor(struct side *s, const char *name, struct core_error *err)
{
	lapack_int length = (lapack_int)s->length;
	int rc = lapack_result(name, "QR decomposition", LAPACKE_dgeqrf(LAPACK_COL_MAJOR, length, s->columns, s->q, length, s->tau),
			       err);

	if (rc < 0)
		return rc;
	for (lapack_int j = 0; j < s->columns; j++)
		for (lapack_int i = 0; i <= j && i < s->k; i++)
			s->r[(uint64_t)j * (uint64_t)s->k + (uint64_t)i] = s->q[(uint64_t)j * s->length + (uint64_t)i];
	return lapack_result(name, "QR decomposition", LAPACKE_dorgqr(LAPACK_COL_MAJOR, length, s->k, s->k, s->q, length, s->tau),
			     err);
}

static void fill_sides(const struct fuse_module *m, const double *coefficient, struct side *sb, struct side *sa)
{
	uint64_t column = 0;

	for (unsigned p = 0; p < m->n; p++) {
		const struct fuse_part *part = &m->parts[p];
		for (uint32_t k = 0; k < part->rank; k++, column++) {
			for (uint64_t o = 0; o < m->out; o++)
				sb->q[column * m->out + o] = coefficient[p] * (double)part->b[o * part->rank + k];
			for (uint64_t c = 0; c < m->in; c++)
				sa->q[column * m->in + c] = (double)part->a[k * m->in + c];
		}
	}
}

/* s (length values) = the combination of a side's basis with `factor` (k values, `stride` apart) */
static void expand(const struct side *s, const double *factor, uint64_t stride, double *to)
{
	memset(to, 0, s->length * sizeof *to);
	for (uint64_t i = 0; i < (uint64_t)s->k; i++) {
		const double *q = s->q + i * s->length, x = factor[i * stride];
		for (uint64_t c = 0; c < s->length; c++)
			to[c] += x * q[c];
	}
}

struct core_svd {
	double *core; /* [kb][ka], column-major as all here */
	double *u, *s, *vt, *a, *b, *column;
};

static int decompose(const struct fuse_module *m, const struct side *sb, const struct side *sa, struct core_svd *w, double clamp,
		     struct fuse_factors *f, struct core_error *err)
{
	uint64_t kb = (uint64_t)sb->k, ka = (uint64_t)sa->k, kk = kb < ka ? kb : ka;
	int rc;

	for (uint64_t j = 0; j < ka; j++)
		for (uint64_t i = 0; i < kb; i++)
			for (uint64_t t = i > j ? i : j; t < (uint64_t)sb->columns; t++)
				w->core[j * kb + i] += sb->r[t * kb + i] * sa->r[t * ka + j];
	rc = lapack_result(m->name, "singular value decomposition",
			   LAPACKE_dgesdd(LAPACK_COL_MAJOR, 'S', (lapack_int)kb, (lapack_int)ka, w->core, (lapack_int)kb, w->s,
					  w->u, (lapack_int)kb, w->vt, (lapack_int)kk),
			   err);
	if (rc < 0)
		return rc;
	count_loss(w->s, kk, f);
	for (uint32_t j = 0; j < f->rank; j++) {
		expand(sa, w->vt + j, kk, w->a + j * m->in);
		expand(sb, w->u + j * kb, 1, w->column);
		for (uint64_t o = 0; o < m->out; o++)
			w->b[o * f->rank + j] = w->column[o] * w->s[j];
	}
	return finish(m->name, w->a, w->b, m->out, m->in, clamp, f, err);
}

int svd_of_sum(const struct fuse_module *m, const double *coefficient, double clamp, struct fuse_factors *f, struct core_error *err)
{
	struct side sb = {0}, sa = {0};
	struct core_svd w = {0};
	uint64_t columns = 0, kb, ka, kk;
	int rc;

	lapack_start();
	for (unsigned p = 0; p < m->n; p++)
		columns += m->parts[p].rank;
	if (m->out > SIDE_MAX || m->in > SIDE_MAX || columns > SHORT_SIDE_MAX)
		return core_fail(err, CORE_EUNSUPPORTED, "%s: too large for LAPACK", m->name);
	rc = side_new(&sb, m->name, m->out, columns, err);
	if (rc == 0)
		rc = side_new(&sa, m->name, m->in, columns, err);
	if (rc == 0) {
		fill_sides(m, coefficient, &sb, &sa);
		rc = side_factor(&sb, m->name, err);
	}
	if (rc == 0)
		rc = side_factor(&sa, m->name, err);
	kb = (uint64_t)sb.k;
	ka = (uint64_t)sa.k;
	kk = kb < ka ? kb : ka;
	if (rc == 0) {
		w = (struct core_svd){calloc(kb * ka, 8),         calloc(kb * kk, 8),          calloc(kk, 8),    calloc(kk * ka, 8),
				      calloc(f->rank * m->in, 8), calloc(m->out * f->rank, 8), calloc(m->out, 8)};
		rc = w.core != NULL && w.u != NULL && w.s != NULL && w.vt != NULL && w.a != NULL && w.b != NULL && w.column != NULL
			     ? decompose(m, &sb, &sa, &w, clamp, f, err)
			     : core_fail(err, CORE_ENOMEM, "%s: out of memory for the decomposition", m->name);
	}
	free(w.core);
	free(w.u);
	free(w.s);
	free(w.vt);
	free(w.a);
	free(w.b);
	free(w.column);
	side_finish(&sb);
	side_finish(&sa);
	return rc;
}

/* ---- a whole matrix ---- */

int svd_of_matrix(const char *name, double *d, uint64_t out, uint64_t in, double clamp, struct fuse_factors *f,
		  struct core_error *err)
{
	uint64_t k = out < in ? out : in;
	double *u, *s, *vt, *b;
	int rc = 0;

	lapack_start();
	if (out > SIDE_MAX || in > SIDE_MAX || k > SHORT_SIDE_MAX)
		return core_fail(err, CORE_EUNSUPPORTED, "%s: [%" PRIu64 ", %" PRIu64 "] is too large for LAPACK", name, out, in);
	/* d^T = u s vt: u [k][in] row by row is V^T, vt [out][k] row by row is U */
	u = calloc(k * in, sizeof *u);
	s = calloc(k, sizeof *s);
	vt = calloc(out * k, sizeof *vt);
	b = calloc(out * f->rank, sizeof *b);
	if (u == NULL || s == NULL || vt == NULL || b == NULL)
		rc = core_fail(err, CORE_ENOMEM, "%s: out of memory for the decomposition", name);
	if (rc == 0)
		rc = lapack_result(name, "singular value decomposition",
				   LAPACKE_dgesdd(LAPACK_COL_MAJOR, 'S', (lapack_int)in, (lapack_int)out, d, (lapack_int)in, s, u,
						  (lapack_int)in, vt, (lapack_int)k),
				   err);
	if (rc == 0)
		count_loss(s, k, f);
	for (uint64_t o = 0; o < out && rc == 0; o++)
		for (uint32_t j = 0; j < f->rank; j++)
			b[o * f->rank + j] = vt[o * k + j] * s[j];
	if (rc == 0)
		rc = finish(name, u, b, out, in, clamp, f, err);
	free(u);
	free(s);
	free(vt);
	free(b);
	return rc;
}
