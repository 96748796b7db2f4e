/* write_tensors.c: the writer of one .safetensors file: u64 length, JSON header padded with spaces to 8, then the bytes. */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/format/blocks.h"
#include "plan.h"

static const char *dtype(enum tensor_type t)
{
	return t == TENSOR_F32 ? "F32" : t == TENSOR_F16 ? "F16" : "BF16";
}

static json_t *describe(const struct st_tensor *t, uint64_t begin)
{
	json_t *shape = json_array();

	for (unsigned i = 0; i < t->n_dims; i++)
		json_array_append_new(shape, json_integer((json_int_t)t->dims[i]));
	return json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype(t->type), "shape", shape, "data_offsets", (json_int_t)begin,
			 (json_int_t)(begin + t->bytes));
}

static char *header(const struct st_tensor *tensors, size_t n)
{
	json_t *root = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
	uint64_t at = 0;
	bool good = root != NULL;
	char *text;

	for (size_t i = 0; i < n && good; i++) {
		good = json_object_set_new(root, tensors[i].name, describe(&tensors[i], at)) == 0;
		at += tensors[i].bytes;
	}
	text = good ? json_dumps(root, JSON_COMPACT) : NULL;
	json_decref(root);
	return text;
}

int st_begin(struct file *f, const struct st_tensor *tensors, size_t n, struct core_error *err)
{
	char *text = header(tensors, n);
	size_t length = text != NULL ? strlen(text) : 0, padded = (length + 7) / 8 * 8;
	unsigned char size[8];
	int rc;

	if (text == NULL)
		return core_fail(err, CORE_ENOMEM, "%s: out of memory for the header", f->name);
	for (int i = 0; i < 8; i++)
		size[i] = (unsigned char)((uint64_t)padded >> 8 * i);
	rc = file_write(f, size, sizeof size, err);
	if (rc == 0)
		rc = file_write(f, text, length, err);
	if (rc == 0)
		rc = file_write(f, "       ", padded - length, err);
	free(text);
	return rc;
}

/* To the 16 bits nearest to a double: rounding to f32 first would round twice, except towards the odd neighbour. */
static float round_to_odd(double x)
{
	float f = (float)x;
	uint32_t u;

	if ((double)f == x || isnan(f))
		return f;
	memcpy(&u, &f, sizeof u);
	if (fabs((double)f) > fabs(x))
		u--;
	u |= 1;
	memcpy(&f, &u, sizeof f);
	return f;
}

int st_values(struct file *f, enum tensor_type type, const double *values, size_t n, const char *what, struct core_error *err)
{
	uint16_t halves[512];
	float floats[512];
	bool wide = type == TENSOR_F32;

	for (size_t at = 0; at < n; at += 512) {
		size_t k = n - at < 512 ? n - at : 512;
		int rc;
		for (size_t i = 0; i < k; i++) {
			double v = values[at + i];
			floats[i] = wide ? (float)v : round_to_odd(v);
			halves[i] = type == TENSOR_F16 ? float_to_half(floats[i]) : float_to_bf16(floats[i]);
			if (!isfinite(wide ? floats[i] : type == TENSOR_F16 ? half_to_float(halves[i]) : bf16_to_float(halves[i])))
				return core_fail(err, CORE_EINVAL, "%s: the value %g is beyond %s", what, v, dtype(type));
		}
		rc = wide ? file_write(f, floats, k * sizeof *floats, err) : file_write(f, halves, k * sizeof *halves, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int st_floats(struct file *f, enum tensor_type type, const float *values, size_t n, const char *what, struct core_error *err)
{
	double some[512];

	if (type == TENSOR_F32) /* finite since fuse_module_combine() */
		return file_write(f, values, n * sizeof *values, err);
	for (size_t at = 0; at < n; at += 512) {
		size_t k = n - at < 512 ? n - at : 512;
		int rc;
		for (size_t i = 0; i < k; i++)
			some[i] = (double)values[at + i];
		rc = st_values(f, type, some, k, what, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int write_text(struct stage *s, const char *name, const char *text, struct core_error *err)
{
	struct file f;
	int rc;

	if (text == NULL)
		return core_fail(err, CORE_ENOMEM, "%s: out of memory", name);
	rc = file_open(&f, s, name, err);
	if (rc == 0)
		rc = file_write(&f, text, strlen(text), err);
	if (rc == 0)
		rc = file_close(&f, err);
	if (rc < 0)
		file_drop(&f);
	return rc;
}
