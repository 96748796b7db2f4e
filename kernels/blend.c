#include "config.h"
#include "blend.h"

#include <math.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

float blend_factor(const struct blend_part *p, uint32_t layer, unsigned linear)
{
	double w = p->weights ? p->weights[(size_t)layer * CORE_LINEARS + linear] : 1;

	return (float)(p->scale * w * p->adapter->layers[layer].linear[linear].scale);
}

float blend_embed_factor(const struct blend_part *p)
{
	return (float)((double)p->scale * p->adapter->embed.scale);
}

/* ---- making ---- */

static size_t weights_of(const struct core_adapter *a)
{
	return (size_t)a->n_layers * CORE_LINEARS;
}

static bool all_one(const struct core_blend_part *p)
{
	for (size_t i = 0; p->weights && i < weights_of(p->adapter); i++)
		if (p->weights[i] != 1)
			return false;
	return true;
}

static int check_part(const struct core_blend_part *p, const struct core_model *m, bool alone, struct core_error *err)
{
	const char *name = p->adapter->info.digest;

	if (p->adapter->model != m)
		return core_fail(err, CORE_EINVAL, "adapter %.12s was loaded for another model", name);
	if (p->adapter->dora && !alone)
		return core_fail(err, CORE_EUNSUPPORTED,
				 "adapter %.12s is a DoRA: it scales the whole output, so it cannot be a part of a sum", name);
	if (p->adapter->dora && (p->scale != 1 || !all_one(p)))
		return core_fail(err, CORE_EUNSUPPORTED, "adapter %.12s is a DoRA: its magnitudes were trained for a scale of 1",
				 name);
	return CORE_OK;
}

static int check_factors(const struct blend_part *p, struct core_error *err)
{
	for (uint32_t i = 0; i < p->adapter->n_layers; i++)
		for (unsigned k = 0; k < CORE_LINEARS; k++)
			if (!isfinite(blend_factor(p, i, k)))
				return core_fail(err, CORE_EINVAL,
						 "adapter %.12s: scale and weight of layer %u leave the range of f32",
						 p->adapter->info.digest, i);
	return isfinite(blend_embed_factor(p))
		       ? CORE_OK
		       : core_fail(err, CORE_EINVAL, "adapter %.12s: the scale leaves the range of f32", p->adapter->info.digest);
}

static int add_part(struct core_blend *b, const struct core_blend_part *p, struct core_error *err)
{
	struct blend_part *to = &b->parts[b->n];

	*to = (struct blend_part){.adapter = core_adapter_ref(p->adapter), .scale = p->scale};
	b->n++;
	if (!all_one(p)) {
		size_t bytes = weights_of(p->adapter) * sizeof(float);

		to->weights = malloc(bytes);
		if (!to->weights)
			return core_fail(err, CORE_ENOMEM, "no memory for the weights of a blend");
		memcpy(to->weights, p->weights, bytes);
	}
	return check_factors(to, err);
}

static int by_digest(const void *a, const void *b)
{
	const struct blend_part *x = a, *y = b;

	return memcmp(x->adapter->digest, y->adapter->digest, ADAPTER_DIGEST);
}

/* Everything that the sum depends on beside the model: contents, scales, weights; in the order of the parts. */
static void hash_blend(struct core_blend *b)
{
	crypto_generichash_state h;

	crypto_generichash_init(&h, NULL, 0, ADAPTER_DIGEST);
	for (uint32_t i = 0; i < b->n; i++) {
		const struct blend_part *p = &b->parts[i];
		uint32_t weighted = p->weights != NULL, rounded = !p->adapter->info.exact;

		crypto_generichash_update(&h, p->adapter->digest, ADAPTER_DIGEST);
		crypto_generichash_update(&h, (const unsigned char *)&p->scale, sizeof(p->scale));
		crypto_generichash_update(&h, (const unsigned char *)&weighted, sizeof(weighted));
		if (rounded)
			crypto_generichash_update(&h, (const unsigned char *)"q8", 2);
		if (weighted)
			crypto_generichash_update(&h, (const unsigned char *)p->weights, weights_of(p->adapter) * sizeof(float));
	}
	crypto_generichash_final(&h, b->digest, ADAPTER_DIGEST);
	sodium_bin2hex(b->hex, sizeof(b->hex), b->digest, ADAPTER_DIGEST);
}

static int arrange(struct core_blend *b, struct core_error *err)
{
	qsort(b->parts, b->n, sizeof(b->parts[0]), by_digest);
	for (uint32_t i = 0; i < b->n; i++) {
		struct blend_part *p = &b->parts[i];

		if (i && !by_digest(p - 1, p))
			return core_fail(err, CORE_EINVAL, "adapter %.12s is named twice: add the scales up",
					 p->adapter->info.digest);
		p->at = b->width;
		b->width += p->adapter->width;
	}
	hash_blend(b);
	return CORE_OK;
}

int core_blend_new(struct core_blend **out, const struct core_blend_part *parts, uint32_t n, struct core_error *err)
{
	struct core_blend *b;
	uint32_t used = 0;
	int rc = CORE_OK;

	*out = NULL;
	for (uint32_t i = 0; i < n; i++) {
		if (!isfinite(parts[i].scale))
			return core_fail(err, CORE_EINVAL, "part %u: the scale is not finite", i);
		used += parts[i].scale != 0;
	}
	if (used > CORE_BLEND_MAX)
		return core_fail(err, CORE_EINVAL, "a blend of %u adapters: at most %d", used, CORE_BLEND_MAX);
	if (!used)
		return CORE_OK;
	b = calloc(1, sizeof(*b) + used * sizeof(b->parts[0]));
	if (!b)
		return core_fail(err, CORE_ENOMEM, "no memory for a blend");
	b->refs = 1;
	for (uint32_t i = 0; i < n && !rc; i++) {
		if (parts[i].scale == 0)
			continue;
		b->model = b->n ? b->model : parts[i].adapter->model;
		rc = check_part(&parts[i], b->model, used == 1, err);
		if (!rc)
			rc = add_part(b, &parts[i], err);
	}
	if (!rc)
		rc = arrange(b, err);
	if (rc)
		core_blend_unref(b);
	else
		*out = b;
	return rc;
}

struct core_blend *core_blend_ref(struct core_blend *b)
{
	if (b)
		atomic_fetch_add(&b->refs, 1);
	return b;
}

void core_blend_unref(struct core_blend *b)
{
	if (!b || atomic_fetch_sub(&b->refs, 1) > 1)
		return;
	for (uint32_t i = 0; i < b->n; i++) {
		core_adapter_unref(b->parts[i].adapter);
		free(b->parts[i].weights);
	}
	free(b);
}

const char *core_blend_digest(const struct core_blend *b)
{
	return b ? b->hex : "0000000000000000000000000000000000000000000000000000000000000000";
}
