/* ops_rows.c: operators on one row: rmsnorm, swiglu, int8 quantisation, the exponential, rotary frequencies. */
#include "kernels/ops/expo.h"
#include "kernels/ops/rope.h"
#include "ops_test.h"

static const uint32_t lengths[] = { 1, 2, 15, 16, 17, 31, 33, 64, 100, 127, 128, 333, 1024 };
#define EACH_LENGTH(n) for (unsigned li = 0, n; li < sizeof(lengths) / sizeof(lengths[0]) && (n = lengths[li]); li++)

/* Room for n floats rounded up to a vector; what stands past n is poison. */
static float *row_of(uint32_t n)
{
	float *x = poisoned((n + 32) * sizeof(float));

	fill_hard(x, n);
	return x;
}

static void rmsnorm_is_the_same_everywhere_and_near_double(void **state)
{
	EACH_LENGTH(n) {
		float *x = row_of(n), *weight = row_of(n), *want = poisoned(n * 4 + 128);
		double sum = 0;

		rmsnorm_plain(want, x, weight, n, 1e-5f);
		for (uint32_t k = 0; k < n; k++)
			sum += (double)x[k] * x[k];
		for (uint32_t k = 0; k < n; k++) {
			double exact = x[k] / sqrt(sum / n + 1e-5f) * weight[k];

			assert_true(fabs(want[k] - exact) <= fabs(exact) * (n / 16 + 8) * 6e-8); /* a chain has n / 16 steps */
		}
		for (const char *const *cpu = cpus_here(); *cpu; cpu++) {
			float *got = poisoned(n * 4 + 128);

			ops_named(*cpu)->rmsnorm(got, x, weight, n, 1e-5f);
			assert_memory_equal(got, want, n * 4 + 64);	/* nothing past n is written */
			free(got);
		}
		free(x);
		free(weight);
		free(want);
	}
}

static void swiglu_is_the_same_everywhere_and_near_double(void **state)
{
	EACH_LENGTH(n) {
		float *gate = row_of(n), *up = row_of(n), *want = poisoned(n * 4 + 128);

		swiglu_plain(want, gate, up, n);
		for (uint32_t k = 0; k < n; k++) {
			double exact = gate[k] / (1 + exp(-(double)gate[k])) * up[k];

			/* below e^-88 the quotient stops shrinking: an absolute 1e-30 */
			assert_true(fabs(want[k] - exact) <= fabs(exact) * 8 * 6e-8 + 1e-30);
		}
		for (const char *const *cpu = cpus_here(); *cpu; cpu++) {
			float *got = poisoned(n * 4 + 128);

			ops_named(*cpu)->swiglu(got, gate, up, n);
			assert_memory_equal(got, want, n * 4);
			free(got);
		}
		free(gate);
		free(up);
		free(want);
	}
}

static void quantize_is_the_same_everywhere_and_half_a_step_off_at_most(void **state)
{
	EACH_LENGTH(n)
		for (uint32_t group = 16; group <= 128; group *= 2) {
			uint32_t kpad = (n + group - 1) / group * group, groups = kpad / group;
			float *x = poisoned((kpad + 32) * sizeof(float)), scale[128];
			int8_t want[2048];
			int32_t sum[128];

			fill_hard(x, n);
			quantize_plain(want, scale, sum, x, n, kpad, group);
			for (uint32_t k = 0; k < kpad; k++)
				assert_true(fabsf(want[k] * scale[k / group] - (k < n ? x[k] : 0)) <= scale[k / group] * 0.50001f);
			for (const char *const *cpu = cpus_here(); *cpu; cpu++) {
				int8_t *got = poisoned(kpad);
				float *s = poisoned(groups * 4);
				int32_t *z = poisoned(groups * 4);

				ops_named(*cpu)->quantize(got, s, z, x, n, kpad, group);
				assert_memory_equal(got, want, kpad);
				assert_memory_equal(s, scale, groups * 4);
				assert_memory_equal(z, sum, groups * 4);
				free(got);
				free(s);
				free(z);
			}
			free(x);
		}
}

static void quantize_shows_nans_and_infinities_as_a_nan_scale(void **state)
{
	static const float bad[] = { NAN, INFINITY, -INFINITY, -NAN };
	static const float tiny[] = { 0, -0.0f, 1e-40f, 9e-31f };

	for (int i = 0; i < 4; i++)
		for (const char *const *cpu = cpus_here(); *cpu; cpu++) {
			float x[64] = { 1, 2, 3 }, scale[2];
			int8_t q[64];
			int32_t sum[2];

			x[17] = bad[i];
			x[40] = tiny[i];
			ops_named(*cpu)->quantize(q, scale, sum, x, 64, 64, 32);
			assert_true(isnan(scale[0]) && scale[1] == 0 && sum[0] == 0 && sum[1] == 0);
			for (int k = 0; k < 64; k++)
				assert_int_equal(q[k], 0);
		}
}

static void the_exponential_is_within_two_ulp(void **state)
{
	for (double x = -87; x < 88; x += 0.00137) {
		double exact = exp((float)x);

		assert_true(fabs(expo((float)x) - exact) <= exact * 2 * 6e-8 * 2);
	}
	assert_true(expo(0) == 1);
	assert_true(expo(-INFINITY) == 0 && expo(-88) == 0);
	assert_true(isfinite(expo(INFINITY)) && expo(INFINITY) == expo(88));
}

static void the_power_of_two_is_near_for_what_softmax_asks(void **state)
{
	for (double x = -125.9; x <= 0; x += 0.00073) {
		double exact = exp2((float)x);

		assert_true(fabs(power_of_two((float)x) - exact) <= exact * 4e-7);
	}
	assert_true(power_of_two(0) == 1 && power_of_two(-1) == 0.5f);
	assert_true(power_of_two(-INFINITY) == ldexpf(1, -126) && power_of_two(-1000) == ldexpf(1, -126));
}

static double frequency(struct llama_config *c, uint32_t i)
{
	struct rope *r = rope_new(c);
	double f = r->frequency[i];

	free(r);
	return f;
}

/* Check values of FACTS 4.5 and the definitions. */
static void rotary_frequencies_follow_each_scaling(void **state)
{
	struct llama_config c = {.head_dim = 128,
				 .rope_theta = 10000,
				 .context = 4096,
				 .original_context = 4096,
				 .scaling_factor = 2,
				 .beta_fast = 32,
				 .beta_slow = 1,
				 .low_freq_factor = 1,
				 .high_freq_factor = 4};
	float divisors[64];
	struct rope *r;

	assert_float_equal(frequency(&c, 32), 0.01, 1e-12);
	c.scaling = ROPE_LINEAR;
	assert_float_equal(frequency(&c, 32), 0.005, 1e-12);
	c.scaling = ROPE_YARN;
	assert_float_equal(frequency(&c, 32), 0.0076923, 1e-7);
	assert_float_equal(frequency(&c, 63), 5.77391e-5, 1e-10);
	assert_float_equal(frequency(&c, 5), pow(10000, -10.0 / 128), 1e-12);
	r = rope_new(&c);
	assert_float_equal(r->magnitude, 1.0693147, 1e-7);
	free(r);
	c.scaling = ROPE_LLAMA3;
	assert_float_equal(frequency(&c, 0), 1, 1e-12);
	assert_float_equal(frequency(&c, 63), pow(10000, -126.0 / 128) / 2, 1e-12);
	c.scaling = ROPE_NONE;
	for (int i = 0; i < 64; i++)
		divisors[i] = (float)(i + 1);
	c.rope_freqs = divisors;
	assert_float_equal(frequency(&c, 32), 0.01 / 33, 1e-12);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rmsnorm_is_the_same_everywhere_and_near_double),
		cmocka_unit_test(swiglu_is_the_same_everywhere_and_near_double),
		cmocka_unit_test(quantize_is_the_same_everywhere_and_half_a_step_off_at_most),
		cmocka_unit_test(quantize_shows_nans_and_infinities_as_a_nan_scale),
		cmocka_unit_test(the_exponential_is_within_two_ulp),
		cmocka_unit_test(the_power_of_two_is_near_for_what_softmax_asks),
		cmocka_unit_test(rotary_frequencies_follow_each_scaling),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
