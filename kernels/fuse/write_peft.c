/* write_peft.c: the result as a PEFT folder.
 *
 * The config holds only keys that PEFT has known since its first releases (those refuse unknown ones); rank_pattern and
 * alpha_pattern come in where modules differ in rank. Names in the lists are as short as they can be without meaning more modules
 * than there are. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan.h"

/* ---- adapter_config.json ---- */

/* Does the result have this kind in every layer? Then the last word of the name ("q_proj") says it all. */
static bool in_every_layer(const struct plan *p, unsigned kind)
{
	size_t n = 0;

	for (size_t i = 0; i < p->n; i++)
		n += p->modules[i].kind == kind;
	return kind == LORA_EMBED || n == checkpoint_config(p->job->base)->layers;
}

static json_t *targets(const struct plan *p)
{
	json_t *list = json_array();
	bool named[LORA_KINDS] = {false};

	for (size_t i = 0; i < p->n; i++) {
		const struct plan_module *m = &p->modules[i];
		bool all = in_every_layer(p, m->kind);
		if (all && named[m->kind])
			continue;
		named[m->kind] = all;
		json_array_append_new(list, json_string(all ? strrchr(m->name, '.') + 1 : m->name));
	}
	return list;
}

/* Ranks that differ from the adapter's. "layers.0...", not "model.layers.0...": PEFT 0.6 wants a dot before what matches. */
static json_t *pattern(const struct plan *p)
{
	json_t *o = json_object();

	for (size_t i = 0; i < p->n; i++)
		if (p->modules[i].rank != p->rank)
			json_object_set_new(o, p->modules[i].name + strlen("model."), json_integer(p->modules[i].rank));
	return o;
}

static char *config(const struct plan *p)
{
	const char *base = p->job->base_path != NULL ? p->job->base_path : checkpoint_config(p->job->base)->name;
	json_t *patterns = pattern(p), *o;
	char *text;

	o = json_pack("{s:s, s:s, s:o?, s:s, s:b, s:b, s:b, s:i, s:f, s:n, s:i, s:o}", "peft_type", "LORA", "task_type",
		      "CAUSAL_LM", "base_model_name_or_path", json_string(base), "bias", "none", "fan_in_fan_out", 0,
		      "inference_mode", 1, "init_lora_weights", 1, "lora_alpha", (int)p->rank, "lora_dropout", 0.0,
		      "modules_to_save", "r", (int)p->rank, "target_modules", targets(p));
	if (json_object_size(patterns) > 0) { /* alpha is rank everywhere: scale 1 */
		json_object_set(o, "rank_pattern", patterns);
		json_object_set(o, "alpha_pattern", patterns);
	}
	json_decref(patterns);
	text = o != NULL ? json_dumps(o, JSON_INDENT(1)) : NULL;
	json_decref(o);
	return text;
}

/* ---- adapter_model.safetensors ---- */

struct listing {
	struct st_tensor *tensors; /* [2 n]: A and B of each module */
	uint64_t (*dims)[2];
	char (*names)[MODULE_NAME + 48];
};

static void list_factor(struct listing *l, size_t i, const struct plan *p, const struct plan_module *m, char which)
{
	unsigned size = tensor_type_bytes(p->job->type);
	const char *middle = m->kind == LORA_EMBED ? "lora_embedding_" : "lora_", *tail = m->kind == LORA_EMBED ? "" : ".weight";

	snprintf(l->names[i], sizeof l->names[i], "base_model.model.%s.%s%c%s", m->name, middle, which, tail);
	l->dims[i][0] = which == 'A' ? m->rank : m->out;
	l->dims[i][1] = which == 'A' ? m->in : m->rank;
	l->tensors[i] = (struct st_tensor){l->names[i], p->job->type, 2, l->dims[i], l->dims[i][0] * l->dims[i][1] * size};
}

static int write_modules(struct plan *p, struct file *f, struct core_error *err)
{
	int rc = 0;

	for (size_t i = 0; i < p->n && rc == 0; i++) {
		const struct plan_module *m = &p->modules[i];
		struct fuse_factors factors;
		rc = plan_combine(p, m, &factors, err);
		if (rc < 0)
			break;
		rc = st_floats(f, p->job->type, factors.a, factors.rank * m->in, m->name, err);
		if (rc == 0)
			rc = st_floats(f, p->job->type, factors.b, m->out * factors.rank, m->name, err);
		fuse_factors_finish(&factors);
		if (rc == 0)
			rc = plan_advance(p, (double)m->out * (double)m->in, err);
	}
	return rc;
}

static int write_tensors(struct plan *p, struct stage *s, struct core_error *err)
{
	struct listing l = {calloc(2 * p->n, sizeof *l.tensors), calloc(2 * p->n, sizeof *l.dims),
			    calloc(2 * p->n, sizeof *l.names)};
	struct file f = {0};
	int rc = l.tensors != NULL && l.dims != NULL && l.names != NULL
			 ? 0
			 : core_fail(err, CORE_ENOMEM, "out of memory for the tensor list");

	for (size_t i = 0; i < p->n && rc == 0; i++) {
		list_factor(&l, 2 * i, p, &p->modules[i], 'A');
		list_factor(&l, 2 * i + 1, p, &p->modules[i], 'B');
	}
	if (rc == 0)
		rc = file_open(&f, s, "adapter_model.safetensors", err);
	if (rc == 0)
		rc = st_begin(&f, l.tensors, 2 * p->n, err);
	if (rc == 0)
		rc = write_modules(p, &f, err);
	if (rc == 0)
		rc = file_close(&f, err);
	file_drop(&f);
	free(l.tensors);
	free(l.dims);
	free(l.names);
	return rc;
}

int write_peft(struct plan *p, struct stage *s, struct core_error *err)
{
	char *text = config(p), *record = plan_record(p);
	int rc = write_text(s, "adapter_config.json", text, err);

	if (rc == 0)
		rc = write_text(s, "fuse.json", record, err);
	if (rc == 0)
		rc = write_tensors(p, s, err);
	free(text);
	free(record);
	return rc;
}
