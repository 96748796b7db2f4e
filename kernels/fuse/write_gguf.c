/* write_gguf.c: the result as a GGUF LoRA file (FACTS 3.6, 4.6), all tensors f32.
 *
 * One alpha serves all tensors and a reader divides it by each tensor's own rank, so modules of smaller rank are filled up with
 * zeros to the largest: alpha = rank everywhere, scale 1. Rows of B stand in GGUF's order for q and k; the embedding's A is
 * stored by token. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan.h"

enum { ALIGNMENT = 32, VERSION = 3, TYPE_F32 = 6, TYPE_STRING = 8 };

static const char *const names[LORA_KINDS] = {
	[CORE_Q] = "attn_q",      [CORE_K] = "attn_k",  [CORE_V] = "attn_v",      [CORE_O] = "attn_output",
	[CORE_GATE] = "ffn_gate", [CORE_UP] = "ffn_up", [CORE_DOWN] = "ffn_down", [LORA_EMBED] = "token_embd",
};

/* The first failure stays, so that a row of puts needs one look at the end. */
struct put {
	struct file *f;
	struct core_error *err;
	int rc;
};

static void put_bytes(struct put *p, const void *data, size_t n)
{
	if (p->rc == 0)
		p->rc = file_write(p->f, data, n, p->err);
}

static void put_u32(struct put *p, uint32_t v)
{
	put_bytes(p, &v, sizeof v); /* the machine is little-endian: configure asks for it */
}

static void put_u64(struct put *p, uint64_t v)
{
	put_bytes(p, &v, sizeof v);
}

static void put_string(struct put *p, const char *s)
{
	put_u64(p, strlen(s));
	put_bytes(p, s, strlen(s));
}

static void put_pair(struct put *p, const char *key, const char *value)
{
	put_string(p, key);
	put_u32(p, TYPE_STRING);
	put_string(p, value);
}

/* ---- the head ---- */

static void put_tensor(struct put *p, const char *name, uint64_t rows, uint64_t columns, uint64_t *offset)
{
	put_string(p, name);
	put_u32(p, 2);
	put_u64(p, columns);
	put_u64(p, rows);
	put_u32(p, TENSOR_F32);
	put_u64(p, *offset);
	*offset += (rows * columns * sizeof(float) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static void put_tensors(struct put *p, const struct plan *plan)
{
	uint64_t offset = 0;

	for (size_t i = 0; i < plan->n; i++) {
		const struct plan_module *m = &plan->modules[i];
		char base[48], name[64];
		if (m->kind == LORA_EMBED)
			snprintf(base, sizeof base, "%s.weight", names[m->kind]);
		else
			snprintf(base, sizeof base, "blk.%" PRIu32 ".%s.weight", m->layer, names[m->kind]);
		snprintf(name, sizeof name, "%s.lora_a", base);
		if (m->kind == LORA_EMBED)
			put_tensor(p, name, m->in, plan->rank, &offset);
		else
			put_tensor(p, name, plan->rank, m->in, &offset);
		snprintf(name, sizeof name, "%s.lora_b", base);
		put_tensor(p, name, m->out, plan->rank, &offset);
	}
}

static int put_head(struct put *p, const struct plan *plan, const char *name)
{
	float alpha = (float)plan->rank;
	char *record = plan_record(plan);

	if (record == NULL)
		return core_fail(p->err, CORE_ENOMEM, "out of memory");
	put_bytes(p, "GGUF", 4);
	put_u32(p, VERSION);
	put_u64(p, 2 * plan->n);
	put_u64(p, 6);
	put_pair(p, "general.architecture", "llama");
	put_pair(p, "general.type", "adapter");
	put_pair(p, "general.name", name);
	put_pair(p, "adapter.type", "lora");
	put_string(p, "adapter.lora.alpha");
	put_u32(p, TYPE_F32);
	put_bytes(p, &alpha, sizeof alpha);
	put_pair(p, "weft.fuse", record);
	free(record);
	put_tensors(p, plan);
	return p->rc == 0 ? file_pad(p->f, ALIGNMENT, p->err) : p->rc;
}

/* ---- the tensors ---- */

/* HF's row that stands at `row` of the GGUF: inside a head of d rows, GGUF has 0, d/2, 1, d/2 + 1, ... (FACTS 4.4). */
static uint64_t hf_row(uint64_t row, uint32_t d)
{
	uint64_t head = row / d, in_head = row % d;

	return head * d + in_head % 2 * (d / 2) + in_head / 2;
}

static void put_factors(struct put *p, const struct plan *plan, const struct plan_module *m, const struct fuse_factors *f)
{
	static const float zeros[256];
	uint32_t d = checkpoint_config(plan->job->base)->head_dim, fill = plan->rank - f->rank;
	bool permuted = m->kind == CORE_Q || m->kind == CORE_K;

	for (uint64_t t = 0; t < m->in && m->kind == LORA_EMBED; t++) {
		for (uint32_t k = 0; k < f->rank; k++)
			put_bytes(p, f->a + k * m->in + t, sizeof(float));
		for (uint32_t k = 0; k < fill; k++)
			put_bytes(p, zeros, sizeof(float));
	}
	if (m->kind != LORA_EMBED) {
		put_bytes(p, f->a, f->rank * m->in * sizeof(float));
		for (uint64_t left = fill * m->in, some; left > 0; left -= some) {
			some = left < 256 ? left : 256;
			put_bytes(p, zeros, some * sizeof(float));
		}
	}
	if (p->rc == 0)
		p->rc = file_pad(p->f, ALIGNMENT, p->err);
	for (uint64_t o = 0; o < m->out; o++) {
		put_bytes(p, f->b + (permuted ? hf_row(o, d) : o) * f->rank, f->rank * sizeof(float));
		for (uint32_t k = 0; k < fill; k++)
			put_bytes(p, zeros, sizeof(float));
	}
	if (p->rc == 0)
		p->rc = file_pad(p->f, ALIGNMENT, p->err);
}

int write_gguf(struct plan *plan, struct stage *s, struct core_error *err)
{
	struct file f = {0};
	struct put p = {.f = &f, .err = err};
	int rc = file_open(&f, s, NULL, err);

	if (rc == 0)
		rc = put_head(&p, plan, s->name);
	for (size_t i = 0; i < plan->n && rc == 0; i++) {
		const struct plan_module *m = &plan->modules[i];
		struct fuse_factors factors;
		rc = plan_combine(plan, m, &factors, err);
		if (rc < 0)
			break;
		put_factors(&p, plan, m, &factors);
		fuse_factors_finish(&factors);
		rc = p.rc < 0 ? p.rc : plan_advance(plan, (double)m->out * (double)m->in, err);
	}
	if (rc == 0)
		rc = file_close(&f, err);
	file_drop(&f);
	return rc;
}
