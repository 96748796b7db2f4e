/* torch.c: one pytorch_model*.bin: a zip archive ROOT/data.pkl, ROOT/data/KEY ..., as torch.save writes it since 1.6. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pickle.h"
#include "zip.h"

enum { NAME_MAX_LEN = 256 };

/* The folder that every member lies in, with its slash: the one that holds data.pkl. */
static bool find_root(const struct zip *z, struct pickle_text *root)
{
	static const char tail[] = "/data.pkl";

	for (size_t i = 0; i < z->n; i++) {
		const struct zip_entry *e = &z->entries[i];
		size_t keep = e->name_len - (sizeof tail - 2); /* up to and with the slash */
		if (e->name_len < sizeof tail || memcmp(e->name + keep - 1, tail, sizeof tail - 1) != 0 ||
		    memchr(e->name, '/', keep - 1) != NULL)
			continue;
		*root = (struct pickle_text){e->name, keep};
		return true;
	}
	return false;
}

static const struct zip_entry *member(const struct zip *z, struct pickle_text root, const char *folder, struct pickle_text name)
{
	char full[NAME_MAX_LEN];
	int n;

	if (root.len > 100 || name.len > 100)
		return NULL;
	n = snprintf(full, sizeof full, "%.*s%s%.*s", (int)root.len, root.s, folder, (int)name.len, name.s);
	return zip_find(z, full, (size_t)n);
}

static int add_tensor(struct checkpoint *cp, const struct zip *z, struct pickle_text root, const struct pickle_tensor *p,
		      const char *path, struct core_error *err)
{
	char name[NAME_MAX_LEN];
	struct tensor t = {.name = name, .n_dims = p->n_dims};
	const struct zip_entry *storage;
	uint64_t bytes;

	if (p->name.len >= sizeof name || memchr(p->name.s, 0, p->name.len) != NULL)
		return core_fail(err, CORE_EFORMAT, "%s: a tensor's name is longer than %zu bytes or holds a NUL", path,
				 sizeof name - 1);
	snprintf(name, sizeof name, "%.*s", (int)p->name.len, p->name.s);
	if (!p->dtype->known || p->n_dims < 1 || p->n_dims > 4 || !p->contiguous) {
		if (!cp->adapter && !tensor_is_weight(name)) /* masks, counters and the like: not ours */
			return 0;
		return core_fail(err, CORE_EUNSUPPORTED,
				 "%s: tensor %s: %s with %u dimensions%s is not read (float, half or bfloat16, row-major, is)",
				 path, name, p->dtype->name, p->n_dims, p->contiguous ? "" : ", not row-major,");
	}
	t.type = p->dtype->type;
	memcpy(t.dims, p->dims, sizeof t.dims);
	storage = member(z, root, "data/", p->key);
	if (storage == NULL)
		return core_fail(err, CORE_EFORMAT, "%s: tensor %s: its storage data/%.*s is not in the archive", path, name,
				 p->key.len < 40 ? (int)p->key.len : 40, p->key.s);
	/* offset + elements <= storage holds already, so this product bounds the sums below. */
	if (__builtin_mul_overflow(p->storage, (uint64_t)p->dtype->bytes, &bytes) || bytes > storage->size)
		return core_fail(err, CORE_EFORMAT,
				 "%s: tensor %s: its storage has %" PRIu64 " bytes, too few for %" PRIu64 " elements", path, name,
				 storage->size, p->storage);
	t.bytes = p->elements * p->dtype->bytes;
	t.data = storage->data + p->offset * p->dtype->bytes;
	return checkpoint_add(cp, &t, path, err);
}

static int read_archive(struct checkpoint *cp, const struct zip *z, const char *path, struct core_error *err)
{
	static const struct pickle_text pkl = {"data.pkl", 8}, order = {"byteorder", 9};
	const struct zip_entry *e;
	struct pickle_text root;
	struct pickle p;
	int rc;

	if (!find_root(z, &root) || (e = member(z, root, "", pkl)) == NULL)
		return core_fail(err, CORE_EFORMAT, "%s: a zip archive without data.pkl: not a torch checkpoint", path);
	rc = pickle_read(&p, e->data, (size_t)e->size, path, err);
	if (rc < 0)
		return rc;
	e = member(z, root, "", order);
	if (e != NULL && (e->size != 6 || memcmp(e->data, "little", 6) != 0))
		rc = core_fail(err, CORE_EUNSUPPORTED, "%s: written on a big-endian machine", path);
	for (size_t i = 0; i < p.n && rc == 0; i++)
		rc = add_tensor(cp, z, root, &p.tensors[i], path, err);
	pickle_finish(&p);
	return rc;
}

int torch_read(struct checkpoint *cp, const struct map *m, const char *path, struct core_error *err)
{
	static const uint8_t old_magic[] = {0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9};
	struct zip z;
	int rc;

	if (m->size >= sizeof old_magic && memcmp(m->data, old_magic, sizeof old_magic) == 0)
		return core_fail(err, CORE_EUNSUPPORTED,
				 "%s: torch's format from before version 1.6; load and save it once with a newer torch: "
				 "torch.save(torch.load(f, weights_only=True), f)",
				 path);
	rc = zip_open(&z, m, path, err);
	if (rc < 0)
		return rc;
	rc = read_archive(cp, &z, path, err);
	zip_finish(&z);
	return rc;
}
