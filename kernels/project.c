#include "config.h"
#include "llama.h"
#include "ops/guest.h"
#include "project.h"

static struct quantized *quantized_for(struct core_ctx *c, uint32_t group)
{
	return &c->quantized[__builtin_ctz(group) - 4];
}

/* How many rows, from the first one on, W meets in tiles: of bf16 all, of other kinds the prompt's. */
static uint32_t rows_in_tiles(const struct project *s, const struct matrix *w)
{
	if (!s->c->ops->tiles || w->kind == PACK_F32 || w->kind == PACK_S8)
		return 0;
	return w->kind == PACK_BF16 ? s->m : s->m_prompt;
}

/* What becomes of x: planes of the rows that some linear meets in tiles, codes for each size of groups. */
static void plan_inputs(struct project *s)
{
	uint32_t sizes = 0;
	bool lo = false;
	size_t depth = tiles_depth(s->l[0].w->cols);

	for (uint32_t i = 0; i < s->n; i++) {
		const struct matrix *w = s->l[i].w;
		uint32_t rows = rows_in_tiles(s, w);

		s->in_planes = rows > s->in_planes ? rows : s->in_planes;
		lo |= rows && tiles_read_lo(w);
		if (w->kind != PACK_INT || w->group & sizes)
			continue;
		sizes |= w->group;
		s->codes[s->n_codes++] = (struct input_codes){ w->group, w->kpad, rows };
	}
	s->planes = (struct planes){ s->c->planes.hi, lo ? s->c->planes.lo : NULL, depth, tiles_stride(depth) };
}

static void quantize_row(const struct project *s, const struct input_codes *y, uint32_t i)
{
	struct quantized *z = quantized_for(s->c, y->group);
	size_t groups = y->kpad / y->group;

	s->c->ops->quantize(z->q + i * quantized_ld(y->kpad), z->scale + i * groups, z->sum + i * groups, s->x->data + i * s->x->ld,
			    s->l[0].w->cols, y->kpad, y->group);
}

/* A row is made and turned into all that the linears read while it is in the first cache. */
static void input_row(void *arg, uint32_t i)
{
	struct project *s = arg;

	if (s->input.make)
		s->input.make(s->input.arg, i);
	if (i < s->in_planes)
		s->c->ops->split(&s->planes, i, s->x->data + i * s->x->ld, s->l[0].w->cols);
	for (uint32_t k = 0; k < s->n_codes; k++)
		if (i >= s->codes[k].first)
			quantize_row(s, &s->codes[k], i);
}

/* Tiles of many rows take W in long ranges, so that x is read seldom; each thread gets some. */
static uint32_t good_range(const struct project *s)
{
	uint32_t blocks = 0, threads = (uint32_t)pool_threads(s->c->pool), range;

	for (uint32_t i = 0; i < s->n; i++) {
		if (rows_in_tiles(s, s->l[i].w) <= TILES_FEW)
			return MATMUL_CHUNK;
		blocks += s->l[i].w->blocks;
	}
	range = blocks / (4 * threads) / MATMUL_CHUNK * MATMUL_CHUNK;
	return range < MATMUL_CHUNK ? MATMUL_CHUNK : range < TILES_CHUNK ? range : TILES_CHUNK;
}

void project_begin(struct project *s, struct core_ctx *c, const struct buffer *x, struct input input, uint32_t m, uint32_t m_prompt,
		   const struct linear *l, uint32_t n)
{
	*s = (struct project){ .c = c, .x = x, .input = input, .m = m, .m_prompt = m_prompt, .n = n };
	for (uint32_t i = 0; i < n; i++)
		s->l[i] = l[i];
	plan_inputs(s);
	if (s->input.make || s->in_planes || s->n_codes)
		pool_run(c->pool, input_row, s, m);
	s->range = good_range(s);
}

/* Rows from `first` on. */
static void product(const struct project *s, const struct linear *l, uint32_t first, uint32_t b0, uint32_t b1, struct guest *guest)
{
	struct rows rows = { .f = s->x->data + first * s->x->ld, .ld = s->x->ld, .guest = guest };

	if (l->w->kind == PACK_INT) {
		struct quantized *z = quantized_for(s->c, l->w->group);

		rows.ldq = quantized_ld(l->w->kpad);
		rows.q = z->q + first * rows.ldq;
		rows.scale = z->scale + (size_t)first * l->w->groups;
		rows.sum = z->sum + (size_t)first * l->w->groups;
	}
	for (uint32_t end; b0 < b1; b0 = end) {
		end = b0 + MATMUL_CHUNK < b1 ? b0 + MATMUL_CHUNK : b1;
		s->c->ops->matmul(l->out->data + first * l->out->ld, l->out->ld, l->w, &rows, s->m - first, b0, end);
	}
}

static void product_in_tiles(const struct project *s, const struct linear *l, uint32_t rows, uint32_t b0, uint32_t b1, struct guest *guest)
{
	if (guest)
		guest->calls = (b1 - b0 + TILES_CHUNK - 1) / TILES_CHUNK;
	for (uint32_t end; b0 < b1; b0 = end) {
		end = b0 + TILES_CHUNK < b1 ? b0 + TILES_CHUNK : b1;
		s->c->ops->tiles(l->out->data, l->out->ld, l->w, &s->planes, rows, b0, end, guest);
	}
}

void project_blocks(const struct project *s, const struct linear *l, uint32_t b0, uint32_t b1, struct guest *guest)
{
	uint32_t rows = rows_in_tiles(s, l->w);

	if (rows)
		product_in_tiles(s, l, rows, b0, b1, rows == s->m ? guest : NULL);
	if (rows < s->m)
		product(s, l, rows, b0, b1, guest);
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
	uint32_t b0, b1, k = project_range(s, s->range, part, &b0, &b1);

	project_blocks(s, &s->l[k], b0, b1, NULL);
}

void project_run(struct project *s)
{
	pool_run(s->c->pool, project_part, s, project_ranges(s, s->range));
}
