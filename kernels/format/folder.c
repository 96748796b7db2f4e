/* folder.c: a HF model folder: config.json, and the weights in whichever of the four forms is there. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bitsandbytes.h"
#include "format.h"

/* Sizes of the JSON files that are parsed whole; real ones are about 1 kB and 100 kB. */
enum { CONFIG_MAX = 1 << 20, INDEX_MAX = 16 << 20, MAX_SHARDS = 4096 };

/* In transformers' order: the first that is there is read. */
static const struct form {
	const char *file;
	bool index;
	checkpoint_reader read;
} forms[] = {
	{"model.safetensors", false, safetensors_read},
	{"model.safetensors.index.json", true, safetensors_read},
	{"pytorch_model.bin", false, torch_read},
	{"pytorch_model.bin.index.json", true, torch_read},
};

/* FOLDER/NAME, mapped, of at most `most` bytes. */
static int map_small(struct map *m, const char *folder, const char *name, size_t most, struct core_error *err)
{
	char *path = path_join(folder, name);
	int rc = path != NULL ? map_open(m, path, err) : core_fail(err, CORE_ENOMEM, "%s: out of memory", folder);

	if (rc == 0 && m->size > most) {
		rc = core_fail(err, CORE_EFORMAT, "%s: %zu bytes; at most %zu are read", path, m->size, most);
		map_close(m);
	}
	free(path);
	return rc;
}

static int read_config(struct checkpoint *cp, const char *folder, struct core_error *err)
{
	struct map m;
	int rc = map_small(&m, folder, "config.json", CONFIG_MAX, err);

	if (rc < 0)
		return rc;
	rc = config_parse(&cp->config, (const char *)m.data, m.size, err);
	map_close(&m);
	return rc;
}

/* The folder's own name, also for "." and "models/x/". */
static void set_name(struct checkpoint *cp, const char *folder)
{
	char *full = realpath(folder, NULL);
	const char *slash = full != NULL ? strrchr(full, '/') : NULL;

	snprintf(cp->config.name, sizeof cp->config.name, "%s", slash != NULL && slash[1] != '\0' ? slash + 1 : folder);
	free(full);
}

static int read_one(struct checkpoint *cp, const char *folder, const char *file, checkpoint_reader read, struct core_error *err)
{
	char *path = path_join(folder, file);
	int rc =
		path != NULL ? checkpoint_read_file(cp, path, read, err) : core_fail(err, CORE_ENOMEM, "%s: out of memory", folder);

	free(path);
	return rc;
}

/* The distinct files of weight_map, each read once. A name with a slash could leave the folder. */
static int read_shards(struct checkpoint *cp, const char *folder, const struct form *f, const json_t *root, struct core_error *err)
{
	json_t *map = json_object_get(root, "weight_map"), *seen, *value;
	const char *tensor, *file;
	int rc = 0;

	if (!json_is_object(map) || json_object_size(map) == 0)
		return core_fail(err, CORE_EFORMAT, "%s/%s: weight_map: expected an object of tensor to file", folder, f->file);
	seen = json_object();
	if (seen == NULL)
		return core_fail(err, CORE_ENOMEM, "%s: out of memory", folder);
	json_object_foreach(map, tensor, value) {
		file = json_string_value(value);
		if (file == NULL || file[0] == '\0' || file[0] == '.' || strchr(file, '/') != NULL)
			rc = core_fail(err, CORE_EFORMAT, "%s/%s: weight_map: %.100s: expected the name of a file in the folder",
				       folder, f->file, tensor);
		if (rc < 0)
			break;
		if (json_object_get(seen, file) != NULL)
			continue;
		if (json_object_size(seen) == MAX_SHARDS)
			rc = core_fail(err, CORE_EFORMAT, "%s/%s: more than %d shards", folder, f->file, MAX_SHARDS);
		else if (json_object_set_new(seen, file, json_true()) < 0)
			rc = core_fail(err, CORE_ENOMEM, "%s: out of memory", folder);
		else
			rc = read_one(cp, folder, file, f->read, err);
		if (rc < 0)
			break;
	}
	json_decref(seen);
	return rc;
}

static int read_index(struct checkpoint *cp, const char *folder, const struct form *f, struct core_error *err)
{
	struct map m;
	json_t *root;
	int rc = map_small(&m, folder, f->file, INDEX_MAX, err);

	if (rc < 0)
		return rc;
	rc = json_parse(&root, (const char *)m.data, m.size, f->file, err);
	map_close(&m);
	if (rc < 0)
		return rc;
	rc = read_shards(cp, folder, f, root, err);
	json_decref(root);
	return rc;
}

static int read_weights(struct checkpoint *cp, const char *folder, struct core_error *err)
{
	for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
		char *path = path_join(folder, forms[i].file);
		bool there = path != NULL && access(path, F_OK) == 0;

		free(path);
		if (there)
			return forms[i].index ? read_index(cp, folder, &forms[i], err)
					      : read_one(cp, folder, forms[i].file, forms[i].read, err);
	}
	return core_fail(err, CORE_EIO,
			 "%s: no weights: expected model.safetensors, pytorch_model.bin, or the index of one of them", folder);
}

int folder_read(struct checkpoint *cp, const char *folder, struct core_error *err)
{
	int rc = read_config(cp, folder, err);

	if (rc < 0)
		return rc;
	set_name(cp, folder);
	cp->tokenizer_path = path_join(folder, "tokenizer.model");
	if (cp->tokenizer_path == NULL)
		return core_fail(err, CORE_ENOMEM, "%s: out of memory", folder);
	rc = read_weights(cp, folder, err);
	return rc == 0 && cp->config.bitsandbytes ? bitsandbytes_join(cp, folder, err) : rc;
}
