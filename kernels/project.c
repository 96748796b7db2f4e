#include "config.h"
#include "llama.h"
#include "project.h"

static struct quantized *quantized_for(struct core_ctx *c, uint32_t group)
{
	return &c->quantized[__builtin_ctz(group) - 4];
}

static void quantize_row(void *arg, uint32_t i)
{
	struct project *s = arg;
	struct quantized *z = quantized_for(s->c, s->group);
	size_t groups = s->kpad / s->group;

	s->c->ops->quantize(z->q + i * quantized_ld(s->kpad), z->scale + i * groups, z->sum + i * groups, s->x->data + i * s->x->ld,
			    s->l[0].w->cols, s->kpad, s->group);
}

void project_begin(struct project *s, struct core_ctx *c, const struct buffer *x, uint32_t m, const struct linear *l, uint32_t n)
{
	uint32_t done = 0;

	*s = (struct project){ .c = c, .x = x, .m = m, .n = n };
	for (uint32_t i = 0; i < n; i++) {
		s->l[i] = l[i];
		s->group = l[i].w->group;
		s->kpad = l[i].w->kpad;
		if (l[i].w->kind != PACK_INT)
			continue;
		if (s->group & ~done)
			pool_run(c->pool, quantize_row, s, m);
		done |= s->group;
	}
}

void project_blocks(const struct project *s, const struct linear *l, uint32_t b0, uint32_t b1, struct guest *guest)
{
	struct rows rows = { .f = s->x->data, .ld = s->x->ld, .guest = guest };

	if (l->w->kind == PACK_INT) {
		struct quantized *z = quantized_for(s->c, l->w->group);

		rows.q = z->q;
		rows.ldq = quantized_ld(l->w->kpad);
		rows.scale = z->scale;
		rows.sum = z->sum;
	}
	for (uint32_t end; b0 < b1; b0 = end) {
		end = b0 + MATMUL_CHUNK < b1 ? b0 + MATMUL_CHUNK : b1;
		s->c->ops->matmul(l->out->data, l->out->ld, l->w, &rows, s->m, b0, end);
	}
}

uint32_t project_ranges(const struct project *s, uint32_t range)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < s->n; i++)
		n += (s->l[i].w->blocks + range - 1) / range;
	return n;
}

uint32_t project_range(const struct project *s, uint32_t range, uint32_t i, uint32_t *b0, uint32_t *b1)
{
	uint32_t k = 0, ranges;

	for (; i >= (ranges = (s->l[k].w->blocks + range - 1) / range); k++)
		i -= ranges;
	*b0 = i * range;
	*b1 = *b0 + range < s->l[k].w->blocks ? *b0 + range : s->l[k].w->blocks;
	return k;
}

static void project_part(void *arg, uint32_t part)
{
	struct project *s = arg;
	uint32_t b0, b1, k = project_range(s, MATMUL_CHUNK, part, &b0, &b1);

	project_blocks(s, &s->l[k], b0, b1, NULL);
}

void project_run(struct project *s)
{
	pool_run(s->c->pool, project_part, s, project_ranges(s, MATMUL_CHUNK));
}
