/* Made by vectors.py: reference results, from definitions, in doubles. Do not edit. */

static const float vec_logits_0[] __attribute__((unused)) = {
	0x1.4343b00000000p+1f, -0x1.b397980000000p+0f, 0x1.cbb8360000000p-2f, -0x1.13ff2e0000000p+2f, -0x1.67359a0000000p-3f,
	0x1.6b1fac0000000p+1f, 0x1.ad54b80000000p+1f, -0x1.23fcb80000000p+1f, -0x1.17bca40000000p+0f, -0x1.1401c00000000p-1f,
	-0x1.5ae0e00000000p+2f, 0x1.af03ba0000000p+1f, 0x1.65baa80000000p+0f, 0x1.0f3a700000000p+0f, 0x1.0a018a0000000p+1f,
	-0x1.596ef00000000p-1f, 0x1.cb4fde0000000p-2f, 0x1.b0021a0000000p+0f, 0x1.84c2160000000p+0f, -0x1.f6d3920000000p-1f,
	-0x1.4309d40000000p+1f, 0x1.3d27c60000000p+0f, 0x1.97e3820000000p-1f, -0x1.1801320000000p+1f, 0x1.2340d20000000p+1f,
	0x1.47422c0000000p+0f, 0x1.bd47b80000000p-1f, 0x1.8f44f60000000p-3f, 0x1.20480a0000000p+0f, 0x1.6e53680000000p+1f,
	-0x1.474b240000000p-1f, 0x1.7f4d220000000p+1f, 0x1.096b180000000p-1f, 0x1.b65ba20000000p-1f, 0x1.8c25ea0000000p+1f,
	0x1.d437620000000p-2f, 0x1.c89e880000000p-1f, -0x1.1722140000000p+0f, 0x1.9d498e0000000p-6f, 0x1.4a0bd40000000p-2f,
};

static const int32_t vec_typical_p_0_0[] __attribute__((unused)) = {
	0, 5, 24, 29,
};

static const int32_t vec_typical_p_0_1[] __attribute__((unused)) = {
	0, 5, 6, 14, 17, 24, 29, 31, 34,
};

static const int32_t vec_typical_p_0_2[] __attribute__((unused)) = {
	0, 2, 5, 6, 11, 12, 13, 14, 17, 18, 21, 22, 24, 25, 26, 28, 29, 31, 32, 33, 34, 35, 36,
};

static const int32_t vec_top_p_0_0[] __attribute__((unused)) = {
	6, 11,
};

static const int32_t vec_top_p_0_1[] __attribute__((unused)) = {
	5, 6, 11, 29, 31, 34,
};

static const int32_t vec_top_p_0_2[] __attribute__((unused)) = {
	0, 2, 5, 6, 11, 12, 13, 14, 17, 18, 21, 22, 24, 25, 26, 28, 29, 31, 32, 33, 34, 35, 36,
};

static const int32_t vec_min_p_0_0[] __attribute__((unused)) = {
	0, 2, 4, 5, 6, 9, 11, 12, 13, 14, 16, 17, 18, 21, 22, 24, 25, 26, 27, 28, 29, 31, 32, 33, 34, 35, 36, 38, 39,
};

static const int32_t vec_min_p_0_1[] __attribute__((unused)) = {
	0, 5, 6, 11, 14, 24, 29, 31, 34,
};

static const int32_t vec_min_p_0_2[] __attribute__((unused)) = {
	6, 11, 34,
};

static const int32_t vec_top_n_sigma_0_0[] __attribute__((unused)) = {
	0, 5, 6, 11, 29, 31, 34,
};

static const int32_t vec_top_n_sigma_0_1[] __attribute__((unused)) = {
	0, 5, 6, 11, 14, 17, 18, 24, 29, 31, 34,
};

static const int32_t vec_top_n_sigma_0_2[] __attribute__((unused)) = {
	0, 2, 4, 5, 6, 8, 9, 11, 12, 13, 14, 15, 16, 17, 18, 19, 21, 22, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36,
	37, 38, 39,
};

static const int32_t vec_xtc_0_0[] __attribute__((unused)) = {
	1, 2, 3, 4, 7, 8, 9, 10, 12, 13, 15, 16, 18, 19, 20, 21, 22, 23, 25, 26, 27, 28, 30, 32, 33, 35, 36, 37, 38, 39,
};

static const int32_t vec_xtc_0_1[] __attribute__((unused)) = {
	0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33,
	34, 35, 36, 37, 38, 39,
};

static const int32_t vec_xtc_0_2[] __attribute__((unused)) = {
	0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
	32, 33, 34, 35, 36, 37, 38, 39,
};

static const float vec_logits_1[] __attribute__((unused)) = {
	-0x1.a9304a0000000p-3f, -0x1.11927a0000000p-2f, 0x1.81976a0000000p-2f, 0x1.bfe1720000000p-2f, -0x1.6958b80000000p-2f,
	-0x1.059c4a0000000p-2f, 0x1.4e836e0000000p-2f, 0x1.df3e100000000p-2f, -0x1.99d48e0000000p-2f, -0x1.2b1cc60000000p-3f,
	0x1.e1064e0000000p-2f, 0x1.94c6860000000p-1f, 0x1.9905c00000000p-2f, -0x1.dad6880000000p-2f, 0x1.0dcf640000000p-1f,
	-0x1.b1d3760000000p-7f, -0x1.c919ea0000000p-4f, 0x1.5150d00000000p-3f, -0x1.82a83e0000000p-2f, -0x1.3683220000000p-2f,
	-0x1.27aaaa0000000p+0f, 0x1.f327e20000000p-2f, 0x1.af62ba0000000p-4f, -0x1.5655260000000p-3f, 0x1.35b12c0000000p-6f,
	-0x1.13c2f60000000p-6f, -0x1.9dc9320000000p-3f, -0x1.225a000000000p-2f, -0x1.0033da0000000p-3f,
	-0x1.f58fd80000000p-1f, -0x1.552e380000000p-1f, -0x1.076ef00000000p-3f, 0x1.1e4e220000000p-1f, 0x1.971b200000000p-3f,
	0x1.4dd0c20000000p-2f, 0x1.2fecae0000000p-2f, -0x1.3fded80000000p-4f, 0x1.143d460000000p-3f, -0x1.927c020000000p-9f,
	-0x1.6a70a60000000p-3f,
};

static const int32_t vec_typical_p_1_0[] __attribute__((unused)) = {
	15, 17, 22, 24, 25, 33, 37, 38,
};

static const int32_t vec_typical_p_1_1[] __attribute__((unused)) = {
	2, 3, 6, 7, 9, 12, 15, 16, 17, 22, 23, 24, 25, 26, 28, 31, 33, 34, 35, 36, 37, 38, 39,
};

static const int32_t vec_typical_p_1_2[] __attribute__((unused)) = {
	0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33, 34,
	35, 36, 37, 38, 39,
};

static const int32_t vec_top_p_1_0[] __attribute__((unused)) = {
	10, 11, 14, 21, 32,
};

static const int32_t vec_top_p_1_1[] __attribute__((unused)) = {
	2, 3, 6, 7, 10, 11, 12, 14, 17, 21, 22, 24, 32, 33, 34, 35, 37, 38,
};

static const int32_t vec_top_p_1_2[] __attribute__((unused)) = {
	0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 15, 16, 17, 18, 19, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33, 34, 35,
	36, 37, 38, 39,
};

static const int32_t vec_min_p_1_0[] __attribute__((unused)) = {
	0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
	32, 33, 34, 35, 36, 37, 38, 39,
};

static const int32_t vec_min_p_1_1[] __attribute__((unused)) = {
	0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 21, 22, 23, 24, 25, 26, 27, 28, 30, 31, 32, 33,
	34, 35, 36, 37, 38, 39,
};

static const int32_t vec_min_p_1_2[] __attribute__((unused)) = {
	3, 7, 10, 11, 14, 21, 32,
};

static const int32_t vec_top_n_sigma_1_0[] __attribute__((unused)) = {
	11,
};

static const int32_t vec_top_n_sigma_1_1[] __attribute__((unused)) = {
	3, 7, 10, 11, 12, 14, 21, 32,
};

static const int32_t vec_top_n_sigma_1_2[] __attribute__((unused)) = {
	0, 2, 3, 6, 7, 9, 10, 11, 12, 14, 15, 16, 17, 21, 22, 23, 24, 25, 26, 28, 31, 32, 33, 34, 35, 36, 37, 38, 39,
};

static const int32_t vec_xtc_1_0[] __attribute__((unused)) = {
	0, 1, 4, 5, 8, 9, 13, 18, 19, 20, 23, 26, 27, 29, 30, 39,
};

static const int32_t vec_xtc_1_1[] __attribute__((unused)) = {
	0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
	32, 33, 34, 35, 36, 37, 38, 39,
};

static const int32_t vec_xtc_1_2[] __attribute__((unused)) = {
	0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
	32, 33, 34, 35, 36, 37, 38, 39,
};

static const float vec_logits_2[] __attribute__((unused)) = {
	-0x1.de64140000000p-4f, 0x1.4531620000000p+1f, -0x1.545ff40000000p+1f, -0x1.14db300000000p+2f, 0x1.5a78680000000p+0f,
	0x1.8c3b860000000p-2f, 0x1.5a3bb80000000p+0f, 0x1.c02ed00000000p+2f, 0x1.500bf40000000p+0f, 0x1.9b611a0000000p-4f,
	-0x1.d690220000000p+1f, -0x1.96f61a0000000p+2f, 0x1.b6e8300000000p+1f, 0x1.f2aaf00000000p+1f, 0x1.b0b7540000000p+1f,
	0x1.b661bc0000000p+1f, -0x1.9abae60000000p+1f, 0x1.5c65660000000p+1f, 0x1.6442940000000p+0f, 0x1.0453480000000p+2f,
	-0x1.3649b60000000p+1f, 0x1.cf63a80000000p+2f, 0x1.a2ee960000000p+2f, -0x1.6bdc780000000p+2f, -0x1.d56b360000000p-2f,
};

static const int32_t vec_typical_p_2_0[] __attribute__((unused)) = {
	22,
};

static const int32_t vec_typical_p_2_1[] __attribute__((unused)) = {
	7, 21, 22,
};

static const int32_t vec_typical_p_2_2[] __attribute__((unused)) = {
	7, 13, 19, 21, 22,
};

static const int32_t vec_top_p_2_0[] __attribute__((unused)) = {
	21,
};

static const int32_t vec_top_p_2_1[] __attribute__((unused)) = {
	7, 21,
};

static const int32_t vec_top_p_2_2[] __attribute__((unused)) = {
	7, 13, 19, 21, 22,
};

static const int32_t vec_min_p_2_0[] __attribute__((unused)) = {
	7, 12, 13, 14, 15, 19, 21, 22,
};

static const int32_t vec_min_p_2_1[] __attribute__((unused)) = {
	7, 21, 22,
};

static const int32_t vec_min_p_2_2[] __attribute__((unused)) = {
	7, 21,
};

static const int32_t vec_top_n_sigma_2_0[] __attribute__((unused)) = {
	7, 21, 22,
};

static const int32_t vec_top_n_sigma_2_1[] __attribute__((unused)) = {
	7, 13, 19, 21, 22,
};

static const int32_t vec_top_n_sigma_2_2[] __attribute__((unused)) = {
	0, 1, 4, 5, 6, 7, 8, 9, 12, 13, 14, 15, 17, 18, 19, 21, 22, 24,
};

static const int32_t vec_xtc_2_0[] __attribute__((unused)) = {
	0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 22, 23, 24,
};

static const int32_t vec_xtc_2_1[] __attribute__((unused)) = {
	0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 22, 23, 24,
};

static const int32_t vec_xtc_2_2[] __attribute__((unused)) = {
	0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 22, 23, 24,
};

static const struct kept_vector {
	const char *plugin;
	double value;
	const float *logits;
	uint32_t n;
	const int32_t *kept;
	uint32_t n_kept;
} kept_vectors[] __attribute__((unused)) = {
	{"typical_p", 0.2, vec_logits_0, 40, vec_typical_p_0_0, sizeof(vec_typical_p_0_0) / sizeof(vec_typical_p_0_0[0])},
	{"typical_p", 0.6, vec_logits_0, 40, vec_typical_p_0_1, sizeof(vec_typical_p_0_1) / sizeof(vec_typical_p_0_1[0])},
	{"typical_p", 0.95, vec_logits_0, 40, vec_typical_p_0_2, sizeof(vec_typical_p_0_2) / sizeof(vec_typical_p_0_2[0])},
	{"top_p", 0.2, vec_logits_0, 40, vec_top_p_0_0, sizeof(vec_top_p_0_0) / sizeof(vec_top_p_0_0[0])},
	{"top_p", 0.6, vec_logits_0, 40, vec_top_p_0_1, sizeof(vec_top_p_0_1) / sizeof(vec_top_p_0_1[0])},
	{"top_p", 0.95, vec_logits_0, 40, vec_top_p_0_2, sizeof(vec_top_p_0_2) / sizeof(vec_top_p_0_2[0])},
	{"min_p", 0.02, vec_logits_0, 40, vec_min_p_0_0, sizeof(vec_min_p_0_0) / sizeof(vec_min_p_0_0[0])},
	{"min_p", 0.2, vec_logits_0, 40, vec_min_p_0_1, sizeof(vec_min_p_0_1) / sizeof(vec_min_p_0_1[0])},
	{"min_p", 0.7, vec_logits_0, 40, vec_min_p_0_2, sizeof(vec_min_p_0_2) / sizeof(vec_min_p_0_2[0])},
	{"top_n_sigma", 0.5, vec_logits_0, 40, vec_top_n_sigma_0_0, sizeof(vec_top_n_sigma_0_0) / sizeof(vec_top_n_sigma_0_0[0])},
	{"top_n_sigma", 1.0, vec_logits_0, 40, vec_top_n_sigma_0_1, sizeof(vec_top_n_sigma_0_1) / sizeof(vec_top_n_sigma_0_1[0])},
	{"top_n_sigma", 2.5, vec_logits_0, 40, vec_top_n_sigma_0_2, sizeof(vec_top_n_sigma_0_2) / sizeof(vec_top_n_sigma_0_2[0])},
	{"xtc", 0.02, vec_logits_0, 40, vec_xtc_0_0, sizeof(vec_xtc_0_0) / sizeof(vec_xtc_0_0[0])},
	{"xtc", 0.1, vec_logits_0, 40, vec_xtc_0_1, sizeof(vec_xtc_0_1) / sizeof(vec_xtc_0_1[0])},
	{"xtc", 0.3, vec_logits_0, 40, vec_xtc_0_2, sizeof(vec_xtc_0_2) / sizeof(vec_xtc_0_2[0])},
	{"typical_p", 0.2, vec_logits_1, 40, vec_typical_p_1_0, sizeof(vec_typical_p_1_0) / sizeof(vec_typical_p_1_0[0])},
	{"typical_p", 0.6, vec_logits_1, 40, vec_typical_p_1_1, sizeof(vec_typical_p_1_1) / sizeof(vec_typical_p_1_1[0])},
	{"typical_p", 0.95, vec_logits_1, 40, vec_typical_p_1_2, sizeof(vec_typical_p_1_2) / sizeof(vec_typical_p_1_2[0])},
	{"top_p", 0.2, vec_logits_1, 40, vec_top_p_1_0, sizeof(vec_top_p_1_0) / sizeof(vec_top_p_1_0[0])},
	{"top_p", 0.6, vec_logits_1, 40, vec_top_p_1_1, sizeof(vec_top_p_1_1) / sizeof(vec_top_p_1_1[0])},
	{"top_p", 0.95, vec_logits_1, 40, vec_top_p_1_2, sizeof(vec_top_p_1_2) / sizeof(vec_top_p_1_2[0])},
	{"min_p", 0.02, vec_logits_1, 40, vec_min_p_1_0, sizeof(vec_min_p_1_0) / sizeof(vec_min_p_1_0[0])},
	{"min_p", 0.2, vec_logits_1, 40, vec_min_p_1_1, sizeof(vec_min_p_1_1) / sizeof(vec_min_p_1_1[0])},
	{"min_p", 0.7, vec_logits_1, 40, vec_min_p_1_2, sizeof(vec_min_p_1_2) / sizeof(vec_min_p_1_2[0])},
	{"top_n_sigma", 0.5, vec_logits_1, 40, vec_top_n_sigma_1_0, sizeof(vec_top_n_sigma_1_0) / sizeof(vec_top_n_sigma_1_0[0])},
	{"top_n_sigma", 1.0, vec_logits_1, 40, vec_top_n_sigma_1_1, sizeof(vec_top_n_sigma_1_1) / sizeof(vec_top_n_sigma_1_1[0])},
	{"top_n_sigma", 2.5, vec_logits_1, 40, vec_top_n_sigma_1_2, sizeof(vec_top_n_sigma_1_2) / sizeof(vec_top_n_sigma_1_2[0])},
	{"xtc", 0.02, vec_logits_1, 40, vec_xtc_1_0, sizeof(vec_xtc_1_0) / sizeof(vec_xtc_1_0[0])},
	{"xtc", 0.1, vec_logits_1, 40, vec_xtc_1_1, sizeof(vec_xtc_1_1) / sizeof(vec_xtc_1_1[0])},
	{"xtc", 0.3, vec_logits_1, 40, vec_xtc_1_2, sizeof(vec_xtc_1_2) / sizeof(vec_xtc_1_2[0])},
	{"typical_p", 0.2, vec_logits_2, 25, vec_typical_p_2_0, sizeof(vec_typical_p_2_0) / sizeof(vec_typical_p_2_0[0])},
	{"typical_p", 0.6, vec_logits_2, 25, vec_typical_p_2_1, sizeof(vec_typical_p_2_1) / sizeof(vec_typical_p_2_1[0])},
	{"typical_p", 0.95, vec_logits_2, 25, vec_typical_p_2_2, sizeof(vec_typical_p_2_2) / sizeof(vec_typical_p_2_2[0])},
	{"top_p", 0.2, vec_logits_2, 25, vec_top_p_2_0, sizeof(vec_top_p_2_0) / sizeof(vec_top_p_2_0[0])},
	{"top_p", 0.6, vec_logits_2, 25, vec_top_p_2_1, sizeof(vec_top_p_2_1) / sizeof(vec_top_p_2_1[0])},
	{"top_p", 0.95, vec_logits_2, 25, vec_top_p_2_2, sizeof(vec_top_p_2_2) / sizeof(vec_top_p_2_2[0])},
	{"min_p", 0.02, vec_logits_2, 25, vec_min_p_2_0, sizeof(vec_min_p_2_0) / sizeof(vec_min_p_2_0[0])},
	{"min_p", 0.2, vec_logits_2, 25, vec_min_p_2_1, sizeof(vec_min_p_2_1) / sizeof(vec_min_p_2_1[0])},
	{"min_p", 0.7, vec_logits_2, 25, vec_min_p_2_2, sizeof(vec_min_p_2_2) / sizeof(vec_min_p_2_2[0])},
	{"top_n_sigma", 0.5, vec_logits_2, 25, vec_top_n_sigma_2_0, sizeof(vec_top_n_sigma_2_0) / sizeof(vec_top_n_sigma_2_0[0])},
	{"top_n_sigma", 1.0, vec_logits_2, 25, vec_top_n_sigma_2_1, sizeof(vec_top_n_sigma_2_1) / sizeof(vec_top_n_sigma_2_1[0])},
	{"top_n_sigma", 2.5, vec_logits_2, 25, vec_top_n_sigma_2_2, sizeof(vec_top_n_sigma_2_2) / sizeof(vec_top_n_sigma_2_2[0])},
	{"xtc", 0.02, vec_logits_2, 25, vec_xtc_2_0, sizeof(vec_xtc_2_0) / sizeof(vec_xtc_2_0[0])},
	{"xtc", 0.1, vec_logits_2, 25, vec_xtc_2_1, sizeof(vec_xtc_2_1) / sizeof(vec_xtc_2_1[0])},
	{"xtc", 0.3, vec_logits_2, 25, vec_xtc_2_2, sizeof(vec_xtc_2_2) / sizeof(vec_xtc_2_2[0])},
};

static const int32_t vec_dry_tokens_0[] __attribute__((unused)) = {
	1, 2, 3, 0, 2, 1, 2, 4,
};

static const double vec_dry_penalty_0[] __attribute__((unused)) = {
	0x0.0p+0, 0x0.0p+0, 0x0.0p+0, 0x0.0p+0, 0x0.0p+0,
};

static const int32_t vec_dry_tokens_1[] __attribute__((unused)) = {
	2, 1, 0, 0, 2, 0, 3, 2, 2, 3, 3, 0, 0, 4, 3, 1, 0, 4, 0, 4,
};

static const double vec_dry_penalty_1[] __attribute__((unused)) = {
	0x1.999999999999ap-1, 0x0.0p+0, 0x0.0p+0, 0x0.0p+0, 0x0.0p+0,
};

static const int32_t vec_dry_tokens_2[] __attribute__((unused)) = {
	4, 2, 0, 1, 2, 2, 4, 0, 0, 0, 1, 1, 4, 3, 4, 0, 4, 2, 2, 3, 0, 1, 4, 3, 4, 3, 3, 2, 0, 3, 0, 4,
};

static const double vec_dry_penalty_2[] __attribute__((unused)) = {
	0x0.0p+0, 0x0.0p+0, 0x0.0p+0, 0x0.0p+0, 0x0.0p+0,
};

static const int32_t vec_dry_tokens_3[] __attribute__((unused)) = {
	1, 1, 0, 0, 1, 1, 1, 1, 0, 2, 0, 1, 0, 0, 2, 1, 0, 0, 1, 0, 2, 0, 1, 2, 0, 0, 2, 1, 1, 2, 0, 0, 0, 1, 2, 1, 0, 1, 1,
	2, 2, 2, 1, 2,
};

static const double vec_dry_penalty_3[] __attribute__((unused)) = {
	0x1.6666666666667p+0, 0x1.6666666666667p+0, 0x1.6666666666667p+0, 0x0.0p+0, 0x0.0p+0,
};

static const int32_t vec_dry_tokens_4[] __attribute__((unused)) = {
	2, 2, 2, 1, 2, 0, 2, 1, 1, 1, 2, 0, 1, 2, 2, 0, 1, 0, 1, 1, 2, 2, 0, 2, 2, 2, 2, 2, 2, 2, 0, 2, 1, 2, 0, 2, 0, 1, 1,
	0, 2, 2, 2, 1, 1, 2, 0, 0, 0, 1, 0, 2, 2, 0, 0, 1,
};

static const double vec_dry_penalty_4[] __attribute__((unused)) = {
	0x1.6666666666667p+0, 0x1.999999999999ap-1, 0x1.999999999999ap-1, 0x0.0p+0, 0x0.0p+0,
};

static const int32_t vec_dry_tokens_5[] __attribute__((unused)) = {
	1, 0, 2, 1, 0, 0, 1, 1, 0, 0, 1, 0, 1, 0, 2, 0, 1, 1, 1, 2, 2, 2, 2, 0, 2, 0, 2, 1, 2, 2, 1, 0, 1, 1, 2, 2, 1, 0, 0,
	0, 0, 1, 0, 0, 1, 1, 1, 0, 1, 2, 2, 0, 0, 2, 0, 2, 1, 0, 2, 1, 1, 1, 0, 1, 2, 0, 2, 0,
};

static const double vec_dry_penalty_5[] __attribute__((unused)) = {
	0x0.0p+0, 0x1.999999999999ap-1, 0x1.6666666666667p+0, 0x0.0p+0, 0x0.0p+0,
};

static const struct dry_vector {
	const int32_t *tokens;
	uint32_t n, allowed;
	const double *penalty;	/* [5] */
} dry_vectors[] __attribute__((unused)) = {
	{vec_dry_tokens_0, 8, 1, vec_dry_penalty_0},
	{vec_dry_tokens_1, 20, 2, vec_dry_penalty_1},
	{vec_dry_tokens_2, 32, 3, vec_dry_penalty_2},
	{vec_dry_tokens_3, 44, 1, vec_dry_penalty_3},
	{vec_dry_tokens_4, 56, 2, vec_dry_penalty_4},
	{vec_dry_tokens_5, 68, 3, vec_dry_penalty_5},
};

static const float vec_mirostat_logits[] __attribute__((unused)) = {
	0x1.3abca80000000p-5f, -0x1.57ff340000000p+0f, -0x1.1304040000000p-1f, -0x1.dac3760000000p-5f, 0x1.b3c4640000000p-3f,
	0x1.1987d60000000p-2f, -0x1.99b3400000000p-1f, -0x1.83e9360000000p+1f, -0x1.cfa68c0000000p-3f, -0x1.b480300000000p-3f,
	-0x1.c7a2e40000000p+0f, 0x1.36482c0000000p+0f, 0x1.4205880000000p+1f, -0x1.7a7aac0000000p-1f, -0x1.a1b96c0000000p-4f,
	-0x1.2b6f580000000p-2f, 0x1.883d200000000p+0f, 0x1.8d0d100000000p+0f, -0x1.02eaae0000000p+0f, -0x1.43e6e20000000p+1f,
	-0x1.e94a560000000p+0f, -0x1.6ef8a80000000p+0f, 0x1.185caa0000000p-1f, -0x1.007ab00000000p-1f, -0x1.2a3eb20000000p+1f,
	0x1.ac68100000000p-2f, 0x1.a6f81c0000000p-1f, 0x1.3a7aee0000000p-1f, -0x1.a56afe0000000p+0f, -0x1.045db80000000p+1f,
	-0x1.726a160000000p+0f, -0x1.56a7fa0000000p-2f, 0x1.1179de0000000p+0f, -0x1.61aa840000000p-3f, 0x1.1437660000000p+0f,
	0x1.e974c00000000p+0f, 0x1.4845780000000p+0f, -0x1.557c840000000p+0f, -0x1.bf66ec0000000p-1f, 0x1.91e0d40000000p-2f,
	-0x1.d534f00000000p+0f, 0x1.02d8300000000p-2f, 0x1.c4f28a0000000p-2f, 0x1.23ecd60000000p-2f, 0x1.6a6c080000000p-3f,
	0x1.212a5a0000000p+0f, 0x1.c588f20000000p-3f, -0x1.1979420000000p+1f, 0x1.5c451e0000000p+1f, 0x1.7f12f20000000p+0f,
	-0x1.1ae21c0000000p-2f, 0x1.488daa0000000p+1f, -0x1.8cc5d20000000p+0f, -0x1.f137960000000p-1f, -0x1.0427be0000000p+1f,
	-0x1.66a1100000000p-2f, 0x1.9e72680000000p-2f, -0x1.65c1900000000p-3f, -0x1.74a7880000000p+1f, 0x1.2c9f6e0000000p+0f,
	0x1.ca69ee0000000p+0f, -0x1.49d4a60000000p-3f, -0x1.8f2d120000000p+0f, 0x1.f687020000000p+0f, 0x1.1385cc0000000p-1f,
	0x1.80d69c0000000p-2f, 0x1.d4f8520000000p+0f, 0x1.4975ba0000000p+1f, -0x1.af7b6a0000000p-1f, 0x1.0f603c0000000p+1f,
	0x1.68af920000000p+0f, 0x1.016efe0000000p+1f, -0x1.3cb1860000000p+1f, 0x1.a2855a0000000p+0f, -0x1.02df600000000p+1f,
	-0x1.51fb360000000p+0f, -0x1.c5eae40000000p-3f, -0x1.9a85ac0000000p-1f, 0x1.25beaa0000000p-2f, -0x1.a265260000000p+0f,
	-0x1.db9b9c0000000p+0f, 0x1.3764c40000000p-1f, -0x1.7fd3a20000000p-1f, 0x1.4055460000000p-2f, 0x1.06a2dc0000000p+0f,
	0x1.f6ab360000000p-2f, 0x1.6de1980000000p-10f, 0x1.0457260000000p-2f, 0x1.8f6f180000000p+0f, -0x1.06f06c0000000p+1f,
	-0x1.5ed6aa0000000p-4f, -0x1.fe4ba20000000p-1f, -0x1.cd28b00000000p+0f, -0x1.41bd520000000p+0f,
	-0x1.97ee1e0000000p+0f, 0x1.3fa1460000000p+0f, -0x1.a247020000000p-2f, 0x1.d4c6120000000p-2f, -0x1.8ef52e0000000p-3f,
	0x1.1a67e20000000p+0f, -0x1.687c780000000p+0f, -0x1.d8fb060000000p-1f, -0x1.3fb81a0000000p-3f, 0x1.20b8d20000000p+0f,
	0x1.8462ee0000000p+0f, 0x1.5c84380000000p-2f, -0x1.6758b20000000p-1f, 0x1.01576e0000000p+2f, -0x1.ca2e140000000p+1f,
	-0x1.6b13f40000000p-3f, 0x1.556a320000000p-1f, -0x1.8ad1ae0000000p+1f, -0x1.12455c0000000p+0f, 0x1.988b100000000p-2f,
	-0x1.dba9a80000000p-1f, 0x1.7fd7480000000p-1f, 0x1.c38ba20000000p-2f, 0x1.a983040000000p-1f, -0x1.1376160000000p-2f,
	0x1.8512780000000p-7f, -0x1.6684cc0000000p+0f, -0x1.5593b20000000p+0f, 0x1.bfcbf20000000p+1f, 0x1.32c92a0000000p-1f,
	-0x1.ff973c0000000p-1f, 0x1.4d19b60000000p-4f, 0x1.be72520000000p-7f, 0x1.065b0c0000000p-1f, -0x1.23e4ba0000000p+1f,
	0x1.0cd74c0000000p+0f, -0x1.3345dc0000000p+1f, 0x1.07b7200000000p+2f, 0x1.6369920000000p+0f, 0x1.8afaa40000000p+0f,
	0x1.d0cc5c0000000p-1f, -0x1.bdaef20000000p-2f, 0x1.22c6220000000p+0f, -0x1.bb353a0000000p-1f, -0x1.b6a0220000000p-1f,
	0x1.aa3b160000000p-1f, -0x1.fc2dda0000000p+0f, 0x1.7c9c380000000p+1f, -0x1.b59c2e0000000p-2f, 0x1.6a39f60000000p+1f,
	0x1.5921540000000p+0f, 0x1.53acae0000000p-4f, -0x1.28888a0000000p+0f, 0x1.4b46860000000p+1f, 0x1.04c3860000000p-2f,
	-0x1.a099760000000p-1f, -0x1.d22bda0000000p+0f, 0x1.ba504e0000000p+1f, 0x1.8f598c0000000p+0f, 0x1.fbda220000000p-1f,
	-0x1.1664840000000p+1f, -0x1.685fd20000000p-1f, 0x1.899b260000000p-6f, -0x1.3693fa0000000p+1f, -0x1.f706fa0000000p-3f,
	-0x1.4cb66a0000000p+0f, -0x1.84e3b20000000p+1f, 0x1.193ebe0000000p+1f, -0x1.4f0b8c0000000p-4f, 0x1.06104a0000000p+1f,
	0x1.cf6a940000000p-2f, -0x1.530eba0000000p+0f, 0x1.a7b2740000000p-2f, -0x1.18957e0000000p+1f, -0x1.c0ef020000000p-1f,
	0x1.180fe60000000p+0f, -0x1.0e67160000000p+1f, 0x1.5bfd440000000p-4f, 0x1.66221c0000000p+1f, -0x1.42490a0000000p+1f,
	-0x1.5c753e0000000p+0f, -0x1.9da0e80000000p+1f, 0x1.98e78a0000000p-8f, 0x1.014ada0000000p+0f, -0x1.42f8060000000p+1f,
	0x1.9136300000000p-1f, -0x1.04ad8e0000000p+1f, 0x1.65cb160000000p+1f, 0x1.98c46c0000000p+0f, -0x1.d57fb60000000p+0f,
	-0x1.03bfd40000000p+0f, -0x1.3e4ebc0000000p+1f, -0x1.f3cbf40000000p-1f, -0x1.890fa00000000p+0f,
	-0x1.2f3d400000000p+0f, 0x1.7ec1440000000p-2f, 0x1.2cd2240000000p+0f, 0x1.e197580000000p-1f, 0x1.0373900000000p+0f,
	-0x1.14ea9e0000000p+1f, -0x1.2fbfb80000000p+0f, 0x1.522cae0000000p+0f, -0x1.fec5ac0000000p-1f, -0x1.4a86840000000p-3f,
	-0x1.9a507e0000000p+0f, 0x1.43c6420000000p+0f, 0x1.b645820000000p-7f, 0x1.d07dec0000000p+0f, 0x1.a674bc0000000p+0f,
	0x1.8eb26a0000000p+0f, -0x1.052a560000000p+1f, 0x1.315e720000000p+0f, 0x1.95d0ba0000000p+0f, 0x1.d56db40000000p-1f,
	-0x1.ba58940000000p+0f, 0x1.de89f00000000p-1f, -0x1.81a3000000000p-4f, 0x1.02718a0000000p+1f, -0x1.24abe40000000p+1f,
	-0x1.a602e60000000p-5f, 0x1.d0b64e0000000p+0f, 0x1.2787ec0000000p-5f, -0x1.bfe7400000000p-3f, 0x1.0ead0c0000000p-5f,
	-0x1.ef12ca0000000p-1f, -0x1.c58b1e0000000p+1f, 0x1.141a720000000p-1f, -0x1.55faf60000000p-1f, 0x1.25ccfc0000000p+2f,
	0x1.c362c20000000p+1f, 0x1.5cb6d80000000p+0f, -0x1.c8c03e0000000p-1f, 0x1.04270e0000000p+2f, -0x1.1b1bc20000000p-1f,
	0x1.f625f00000000p-1f, -0x1.1ddcd60000000p+1f, 0x1.ee7a0e0000000p-4f, 0x1.b55fdc0000000p-1f, -0x1.18cbdc0000000p-1f,
	0x1.6783180000000p+1f, -0x1.376d680000000p+1f, -0x1.6aaed00000000p+1f, 0x1.29ba3c0000000p-5f, -0x1.838ad20000000p-1f,
	0x1.7900b40000000p+0f, -0x1.79fa6a0000000p+0f, -0x1.63f8b00000000p-2f, 0x1.27ee7c0000000p+1f, 0x1.fb74640000000p-1f,
	-0x1.e99fb60000000p+0f, 0x1.47bc0c0000000p-2f, -0x1.8111600000000p-6f, -0x1.df475c0000000p-2f, -0x1.635a060000000p-6f,
	-0x1.9fb3940000000p-4f, -0x1.babb000000000p-2f, -0x1.19569e0000000p-5f, 0x1.ef24400000000p+0f, 0x1.c87ada0000000p+0f,
	0x1.b12f5e0000000p+1f, 0x1.6c11aa0000000p-2f, 0x1.eb0a6c0000000p-1f, 0x1.e1da0c0000000p-2f, -0x1.df28b60000000p+0f,
	-0x1.1efe500000000p-2f, 0x1.3e3af20000000p-1f, 0x1.0729560000000p+1f, -0x1.213c1c0000000p+0f, -0x1.bd71800000000p-2f,
	-0x1.d1eb520000000p-1f, 0x1.1562ae0000000p+1f, 0x1.5860f40000000p-2f, -0x1.5124ee0000000p-2f, 0x1.cbfd8a0000000p+0f,
	-0x1.08b9940000000p-1f, -0x1.4d340a0000000p-4f, -0x1.d3a92c0000000p+0f, -0x1.f3b4280000000p-2f,
	-0x1.4672b40000000p+0f, -0x1.590c620000000p-1f, 0x1.46ad1e0000000p+0f, 0x1.073bfc0000000p+1f, -0x1.a09b1c0000000p-2f,
	-0x1.2bfe500000000p+0f, 0x1.83ce220000000p-3f, 0x1.b803f20000000p+1f, 0x1.bb55a20000000p+0f, 0x1.e35cee0000000p-2f,
	0x1.530bc20000000p-1f, 0x1.2860be0000000p-2f, 0x1.fda5400000000p+0f, 0x1.4b929c0000000p-1f, 0x1.8be8520000000p-4f,
	0x1.d0f2520000000p-4f, 0x1.bb789c0000000p+0f, 0x1.ce62aa0000000p+1f, -0x1.f9da100000000p+0f, 0x1.aaaf760000000p-1f,
	-0x1.3fbc380000000p+0f, -0x1.5026460000000p+1f, 0x1.5d9d480000000p-1f, 0x1.765ed80000000p-1f, -0x1.660fdc0000000p-1f,
	0x1.6d52920000000p+0f, 0x1.df68100000000p-2f, -0x1.6be21a0000000p+0f, 0x1.60e9ce0000000p-1f, -0x1.a4d7f00000000p+1f,
	-0x1.0c86e20000000p+0f, 0x1.a99fd20000000p-2f, -0x1.f3a5040000000p-1f, 0x1.0d420a0000000p+0f, -0x1.da62260000000p+0f,
	-0x1.05530e0000000p+1f, -0x1.4a7c7e0000000p-10f, 0x1.210cc40000000p-6f, 0x1.57b6380000000p-1f, 0x1.6bc9420000000p+0f,
	-0x1.36e6e80000000p+0f, 0x1.eca7ae0000000p-1f, 0x1.1576e40000000p-3f, 0x1.5913680000000p+0f, -0x1.2730880000000p+0f,
	0x1.98ae860000000p+1f, 0x1.bef9a00000000p-1f, 0x1.e41cbc0000000p+0f, -0x1.0926760000000p+1f, -0x1.507db00000000p-1f,
	-0x1.35340e0000000p+0f, 0x1.16b3300000000p-3f, 0x1.28c1240000000p+0f, -0x1.0720e20000000p+1f, 0x1.641b7e0000000p-2f,
	-0x1.23cb9a0000000p-2f, 0x1.4e66820000000p+0f, 0x1.0da2b40000000p-2f, 0x1.f71e6e0000000p+0f, -0x1.ad8cee0000000p-1f,
	-0x1.4dccf80000000p-1f, -0x1.06db2c0000000p-1f, 0x1.1602880000000p+1f, 0x1.34ae4e0000000p-1f, 0x1.6686c00000000p+1f,
	0x1.ed8d900000000p-2f, 0x1.c32eb40000000p-2f, -0x1.79eec40000000p+1f, 0x1.324e800000000p+0f, 0x1.8874860000000p-1f,
	-0x1.98e5f80000000p+0f, 0x1.4a7f880000000p-3f, 0x1.3c825a0000000p-1f, 0x1.6ca8d80000000p+0f, -0x1.e8aa320000000p-2f,
	0x1.f832ac0000000p+0f, -0x1.dce5b60000000p-3f, 0x1.cc6b0c0000000p-1f, -0x1.8d63e00000000p+0f, -0x1.cb23fa0000000p-4f,
	-0x1.029cc20000000p-1f, -0x1.4597de0000000p-1f, 0x1.77b2be0000000p-3f, -0x1.5c98620000000p+0f, 0x1.67d7780000000p+1f,
	-0x1.192cfc0000000p+0f, -0x1.e31b8c0000000p-1f, 0x1.5b12040000000p-4f, 0x1.a925b00000000p-2f, 0x1.1ff5700000000p-7f,
	0x1.7f5ad40000000p-2f, -0x1.d09fd20000000p-2f, -0x1.1186260000000p+0f, -0x1.c0eb820000000p+0f, 0x1.9d8f340000000p-1f,
	0x1.7d79ee0000000p+0f, 0x1.52a2340000000p+1f, 0x1.47f0680000000p+1f, -0x1.b0ef880000000p-2f, 0x1.590ebc0000000p+1f,
	-0x1.c4c4be0000000p+0f, 0x1.67fed80000000p-1f, 0x1.9d9a840000000p-3f, -0x1.ad0bfc0000000p+0f, -0x1.5b1cb80000000p-3f,
	-0x1.5bd2dc0000000p+1f, 0x1.0f4bea0000000p-1f, 0x1.a356c20000000p-1f, -0x1.07ec880000000p+0f, 0x1.6842620000000p-1f,
	-0x1.4c2ab20000000p+0f, 0x1.13b4800000000p+1f, 0x1.a9f85c0000000p+0f, 0x1.915be80000000p+1f, 0x1.8244780000000p-2f,
	0x1.0d04ea0000000p-4f, -0x1.dbdcc20000000p+1f, 0x1.aadcfa0000000p+0f, 0x1.87aaa80000000p-1f, -0x1.7678540000000p-1f,
	0x1.1964b40000000p-2f, -0x1.03ef680000000p+0f, 0x1.21afa40000000p+1f, -0x1.21eafe0000000p+0f, -0x1.c1c1120000000p+0f,
	-0x1.b9ef880000000p-5f, -0x1.2083620000000p+1f, -0x1.dbf41e0000000p+0f, 0x1.4361ec0000000p+1f, -0x1.9185cc0000000p-1f,
	-0x1.4472160000000p-2f, -0x1.67da4a0000000p+0f, -0x1.e988d00000000p+0f, 0x1.316f9c0000000p+1f, -0x1.2b0cfe0000000p-4f,
	-0x1.6b564a0000000p-5f, 0x1.1ea03e0000000p-1f, 0x1.dacac60000000p+0f, -0x1.e528c00000000p-2f, -0x1.8704f20000000p-2f,
	0x1.413b040000000p-2f, -0x1.095a540000000p-2f, -0x1.8523e20000000p-3f, 0x1.5c28960000000p+1f, -0x1.04a3ba0000000p-1f,
	-0x1.7fdaa40000000p-1f, -0x1.e04a240000000p+0f, 0x1.b303c20000000p-2f, -0x1.d2200e0000000p+0f, 0x1.de79ce0000000p+0f,
	-0x1.0b046e0000000p-4f, -0x1.6e611c0000000p-1f, -0x1.5139020000000p+0f, -0x1.9266c20000000p-2f,
	-0x1.b906a60000000p+0f, -0x1.99e95e0000000p+0f, 0x1.d4b42a0000000p+1f, -0x1.a331c60000000p-1f, -0x1.93ca400000000p+0f,
	-0x1.42e6900000000p-1f, 0x1.0551100000000p-2f, -0x1.473cae0000000p+1f, 0x1.d44c640000000p+0f, -0x1.d588360000000p-1f,
	-0x1.3d8b2c0000000p+1f, -0x1.4fd8c60000000p+1f, -0x1.7c198a0000000p+0f, 0x1.3095820000000p-1f, 0x1.627e9c0000000p+0f,
	-0x1.2c4dea0000000p-4f, -0x1.a4cf5e0000000p-1f, -0x1.0ceb020000000p+1f, -0x1.30b9b80000000p+0f,
	-0x1.056a060000000p-1f, 0x1.143c840000000p+1f, -0x1.83d4f00000000p-1f, 0x1.77a8f40000000p+1f, 0x1.12d3280000000p+1f,
	-0x1.56c67a0000000p-4f, -0x1.3ea7d60000000p+0f, 0x1.22c97a0000000p-1f, -0x1.1fb5e60000000p+0f, -0x1.56a6ba0000000p+1f,
	0x1.33a1020000000p-5f, 0x1.7d74a80000000p-1f, 0x1.12f9580000000p+0f, -0x1.5c10800000000p+0f, -0x1.ca7b6e0000000p+0f,
	0x1.6cd98c0000000p+1f, -0x1.13a4360000000p+1f, -0x1.17b0260000000p+0f, -0x1.52f3b40000000p+0f, 0x1.7448680000000p+0f,
	0x1.051e6e0000000p-2f, 0x1.549f9a0000000p+0f, -0x1.80538a0000000p-1f, 0x1.4a46000000000p+1f, 0x1.fc84160000000p+0f,
	-0x1.bb27fc0000000p-3f, 0x1.06c0480000000p+0f, 0x1.1a29a40000000p-1f, 0x1.ab03620000000p-1f, 0x1.365a0c0000000p-1f,
	0x1.17bbe20000000p+0f, -0x1.01a4640000000p+1f, 0x1.a992460000000p+0f, -0x1.addb860000000p+1f, 0x1.998ce00000000p+0f,
	-0x1.455ed60000000p-1f, -0x1.3be11a0000000p+1f, 0x1.29a1de0000000p+1f, 0x1.059ade0000000p+1f, 0x1.d39b260000000p-2f,
	-0x1.dd53120000000p-5f, 0x1.83eb7c0000000p-2f, 0x1.1050a80000000p+0f, 0x1.d6395c0000000p+0f, -0x1.ca3a820000000p-1f,
	-0x1.ec16f40000000p+0f, -0x1.6ce7be0000000p-6f, 0x1.e24ca00000000p+1f, 0x1.91d1260000000p+0f, 0x1.ed9a760000000p-3f,
	-0x1.0d6e340000000p+1f, 0x1.652cde0000000p-4f, 0x1.ffdf0c0000000p+0f, 0x1.a2fda20000000p-1f, 0x1.e847160000000p+1f,
	-0x1.03d6d40000000p-2f, 0x1.7226760000000p+0f, 0x1.be452c0000000p+0f, 0x1.a928640000000p+0f, 0x1.6ca8f00000000p+1f,
	0x1.92da400000000p+1f, -0x1.0f7cda0000000p+1f, -0x1.984f6e0000000p+0f, 0x1.60be4e0000000p+0f, 0x1.837dbc0000000p-2f,
	0x1.c507940000000p+1f, 0x1.5acb180000000p-2f, 0x1.362c540000000p-1f, -0x1.3172040000000p-3f, 0x1.aaf66c0000000p-1f,
	0x1.7e33c60000000p+0f, 0x1.5a87f40000000p+0f, -0x1.756e1c0000000p-1f, -0x1.8fa1900000000p-3f, 0x1.68b8860000000p-1f,
	0x1.0e24100000000p-1f, -0x1.60ca320000000p-7f, -0x1.89714e0000000p+0f, -0x1.ed60ba0000000p-2f, -0x1.68f7360000000p+0f,
	-0x1.dc83860000000p-2f, -0x1.6edc8e0000000p+0f, -0x1.7a24740000000p+1f, 0x1.1620fa0000000p+1f, -0x1.12f62a0000000p+1f,
	-0x1.5e34f00000000p+0f, 0x1.53bd980000000p+1f, 0x1.0d80160000000p-1f, 0x1.42df3e0000000p+0f, -0x1.accaf40000000p-2f,
	-0x1.8af0d40000000p-1f, 0x1.1050560000000p+1f, 0x1.d502080000000p-2f, -0x1.64d5e80000000p+1f, -0x1.827c620000000p-7f,
	0x1.0b629a0000000p+1f, -0x1.baecb60000000p-2f, 0x1.0b5a800000000p+0f, -0x1.7fc0800000000p-1f, -0x1.0e3ace0000000p+2f,
	0x1.6949600000000p-2f, 0x1.1d5fcc0000000p-1f, 0x1.edd4cc0000000p-4f, 0x1.3381740000000p+0f, 0x1.fa575e0000000p+0f,
	-0x1.e349fc0000000p-1f, -0x1.d2755c0000000p-2f, -0x1.0649760000000p+0f, -0x1.7118940000000p-3f, 0x1.396bbc0000000p+0f,
	-0x1.27f2de0000000p-2f, 0x1.a843940000000p-1f, -0x1.30413e0000000p+0f, 0x1.e4c6500000000p-3f, 0x1.f756c80000000p-3f,
	-0x1.ef9ddc0000000p-2f, 0x1.d26ace0000000p-1f, -0x1.21935a0000000p+0f, -0x1.28f3540000000p-1f, 0x1.b79f560000000p-4f,
	0x1.9e61b80000000p+0f, -0x1.18061e0000000p-1f, -0x1.9be8200000000p-1f, 0x1.fbec8e0000000p+1f, -0x1.0e46960000000p-3f,
	-0x1.262c400000000p+1f, -0x1.b1329a0000000p-1f, 0x1.3cbb8a0000000p-1f, -0x1.1a14e80000000p+1f, 0x1.26a9140000000p+0f,
	-0x1.060ed80000000p-1f, 0x1.271e3a0000000p+0f, 0x1.00139a0000000p+1f, 0x1.92cbfc0000000p-4f, 0x1.879c300000000p-1f,
	0x1.3322d20000000p+0f, 0x1.3bc9200000000p+0f, -0x1.186e400000000p+0f, -0x1.01eb000000000p+1f, -0x1.f6c2b00000000p-2f,
	0x1.a004020000000p+0f, -0x1.dcd0760000000p-5f, -0x1.242cc60000000p-1f, 0x1.46cd5e0000000p+0f, 0x1.35dc500000000p-1f,
	-0x1.de600c0000000p+0f, 0x1.bf9dce0000000p+0f, 0x1.4e68d20000000p+0f, -0x1.4882de0000000p-2f, 0x1.255b6e0000000p-1f,
	-0x1.d43e540000000p+1f, -0x1.ee18720000000p-4f, -0x1.2efb260000000p+0f, -0x1.7741c60000000p+1f,
	-0x1.cf46080000000p-1f, -0x1.0c02c60000000p-2f, 0x1.9c52f00000000p+1f, -0x1.a1d53c0000000p-2f, -0x1.4b952c0000000p-1f,
	-0x1.7a91240000000p-2f, -0x1.2335780000000p+0f, 0x1.34ee3c0000000p-4f, -0x1.362c560000000p-1f, 0x1.01d5480000000p+1f,
	0x1.2f63a40000000p-1f, 0x1.b9163a0000000p-1f, -0x1.18931c0000000p+1f, 0x1.b8521a0000000p-5f, 0x1.adf0b60000000p+0f,
	-0x1.5ade680000000p+0f, 0x1.5dccc40000000p-2f, 0x1.0de9740000000p-1f, -0x1.88d1520000000p+0f, 0x1.1aa8fa0000000p-4f,
	0x1.7a68f80000000p-2f, -0x1.0d5f440000000p+0f, 0x1.2ac71a0000000p+1f, 0x1.6c0c380000000p-3f, 0x1.6484100000000p+1f,
	0x1.9678580000000p-1f, -0x1.06c1fc0000000p+1f, -0x1.0075860000000p+0f, -0x1.da69540000000p-2f, -0x1.86d4380000000p-3f,
	0x1.5c021e0000000p-3f, -0x1.a088d80000000p+0f, 0x1.dc904a0000000p-1f, 0x1.5402dc0000000p-1f, 0x1.0235860000000p+0f,
	-0x1.15f7220000000p-9f, 0x1.ebf5e40000000p-4f, -0x1.acf2f40000000p-2f, 0x1.afa5c00000000p+0f, -0x1.9d3e000000000p+0f,
	0x1.1b32720000000p-1f, 0x1.5ebc960000000p+1f, -0x1.d159780000000p-3f, 0x1.7405e60000000p-2f, -0x1.6643e00000000p+0f,
	0x1.4ab3740000000p+1f, 0x1.0a95440000000p+0f, -0x1.a5c2440000000p-2f, -0x1.a0aea80000000p+0f, 0x1.ccd3260000000p-2f,
	0x1.9fa0280000000p+1f, 0x1.4320fa0000000p-1f, -0x1.c500040000000p+0f, 0x1.d254de0000000p-2f, -0x1.a6bd1a0000000p-3f,
	-0x1.cd1bee0000000p+0f, 0x1.eeeb320000000p-2f, 0x1.261d2c0000000p+1f, 0x1.34d5f40000000p-2f, 0x1.77b9fc0000000p+1f,
	0x1.c5966e0000000p+1f, 0x1.4e3eba0000000p+1f, -0x1.d82b940000000p-2f, -0x1.2199a40000000p+0f, -0x1.20fd260000000p-3f,
	0x1.8d8ad20000000p+0f, -0x1.cd605c0000000p+0f, 0x1.06ed200000000p-1f, -0x1.5fc5ac0000000p-2f, 0x1.918bae0000000p-2f,
	0x1.18f9520000000p+0f, -0x1.93b1a60000000p-1f, 0x1.484fea0000000p+0f, 0x1.8cde060000000p-1f, 0x1.4d912a0000000p+0f,
	-0x1.10ad820000000p-3f, -0x1.b7d2600000000p+0f, -0x1.d5bfc00000000p+0f, -0x1.bc69fc0000000p-1f, 0x1.d5b6fc0000000p-1f,
	-0x1.8a9f8a0000000p+0f, 0x1.4e53280000000p-1f, -0x1.88c3c40000000p-1f, 0x1.4139060000000p-1f, 0x1.6c690e0000000p-2f,
	0x1.0be2ba0000000p-3f, 0x1.00c79a0000000p-1f, -0x1.8dd6940000000p-5f, -0x1.9b9bac0000000p+0f, -0x1.bca23e0000000p-1f,
	-0x1.950d900000000p+0f, -0x1.d1773e0000000p-1f, 0x1.f8536c0000000p+0f, -0x1.2b41f20000000p+1f, 0x1.1a06380000000p+1f,
	0x1.cf8c680000000p+0f, 0x1.f49af40000000p-1f, 0x1.47479a0000000p+0f, 0x1.55d7980000000p+1f, 0x1.0709000000000p-1f,
	-0x1.0d00100000000p+0f, 0x1.8099700000000p+0f, -0x1.b64c020000000p-2f, -0x1.bd062c0000000p-3f, -0x1.b34b2c0000000p+1f,
	-0x1.f40b2e0000000p-2f, -0x1.f461ca0000000p-3f, 0x1.93273c0000000p+1f, -0x1.637ccc0000000p+0f, 0x1.e266660000000p-1f,
	0x1.031c0c0000000p+1f, 0x1.1aaeee0000000p+1f, -0x1.e8f27e0000000p-1f, -0x1.0b928e0000000p-5f, 0x1.b382300000000p-3f,
	-0x1.6e706a0000000p+0f, -0x1.8c1faa0000000p-2f, -0x1.3615160000000p+0f, -0x1.4d8eee0000000p+0f, 0x1.73e4a80000000p+0f,
	-0x1.74a94c0000000p-1f, 0x1.72c5160000000p+1f, -0x1.2a94000000000p+1f, 0x1.7412ec0000000p-3f, 0x1.c3063c0000000p-2f,
	-0x1.82660a0000000p+0f, 0x1.df7bba0000000p-1f, -0x1.de00de0000000p+1f, 0x1.c57d3e0000000p+1f, 0x1.27fb2a0000000p+1f,
	0x1.b6e5260000000p+0f, -0x1.5f5b800000000p-1f, -0x1.fe29400000000p-1f, 0x1.3ada460000000p+0f, -0x1.ef65940000000p+0f,
	-0x1.44cd420000000p+1f, -0x1.4d92080000000p-2f, -0x1.7c73c00000000p-2f, 0x1.114a780000000p-1f, 0x1.05966e0000000p+1f,
	-0x1.49edf20000000p+0f, 0x1.cbf3220000000p-1f, 0x1.f0d8c80000000p+0f, 0x1.a4311e0000000p+0f, -0x1.28c2760000000p-4f,
	0x1.7a99aa0000000p-1f, 0x1.2c6b000000000p-4f, 0x1.46140e0000000p+0f, -0x1.0b5e140000000p+1f, -0x1.b967560000000p+0f,
	0x1.fa82720000000p-2f, 0x1.06bd440000000p+1f, -0x1.6bb4d20000000p-2f, -0x1.c486ba0000000p+0f, 0x1.8c72300000000p+0f,
	-0x1.76a59c0000000p+0f, -0x1.2c4b120000000p-1f, -0x1.b496b80000000p+0f, 0x1.edd82a0000000p+0f, -0x1.9b2df60000000p+1f,
	0x1.96ae260000000p+0f, 0x1.110dea0000000p-1f, 0x1.dd71900000000p-1f, 0x1.4269700000000p-2f, 0x1.1ad5d40000000p-1f,
	0x1.e758800000000p+0f, -0x1.44a3420000000p-1f, -0x1.d624ae0000000p-1f, 0x1.eb289c0000000p+0f,
};

static const struct mirostat_vector {
	uint32_t kept;
	int32_t drawn;
	double mu;
} mirostat_vectors[] __attribute__((unused)) = {
	{16, 35, 0x1.6af2a75b12189p+2},
	{10, 58, 0x1.81c8f663c86c9p+2},
	{13, 4, 0x1.3c33e1e90f749p+2},
	{5, 30, 0x1.689ca967b7804p+2},
	{11, 4, 0x1.48bd3da81d730p+2},
	{9, 36, 0x1.50e73f69a1dfdp+2},
	{12, 44, 0x1.6c454ab0f6a69p+2},
	{13, 62, 0x1.6f41e8f679415p+2},
	{12, 16, 0x1.5a84b66e0cd8dp+2},
	{11, 61, 0x1.3d45cf02a0ca6p+2},
	{9, 19, 0x1.52b1fab415a0dp+2},
	{13, 34, 0x1.319e925eb4d25p+2},
};
