/* adapters.h: the registry: which names stand for which files, which of them are in memory, and who uses them.
 *
 * A name is an entry of the configured folders: a PEFT folder or a .gguf file. Registering reads no file, so thousands of names
 * cost nothing. A *version* is what was in the files when they were loaded, known by the digest of its contents. A job pins the
 * versions that it was given until it ends; files that change (inode, size or times differ) give a new version to later requests
 * only.
 *
 *     registered --- a request or adapter.load ---> loading ---> resident ---> retired, when unloaded, replaced or evicted:
 *          ^                                           |                        freed with its last job
 *          +---- the files have changed ---- failed <--+
 *
 * The file system may block, so the loop never asks it: a request's names are looked up by adapters_look() on a worker, and what
 * was seen comes with the request. Loading is work for a thread of its own (loader.h): `submit` hands it a struct adapter_load, it
 * calls adapter_load_run() and then, back on the loop, adapters_loaded(). One adapter is loaded at a time, in the order of asking.
 * What is resident stays below the limit by letting go of the versions that were used longest ago; pinned ones stay, and while they
 * fill the limit nothing is loaded. [loop], unless a function says otherwise. */
#ifndef WEFT_DAEMON_ADAPTERS_H
#define WEFT_DAEMON_ADAPTERS_H

#include "kernels/core.h"
#include "problem.h"
#include <sys/queue.h>
#include <time.h>

enum { ADAPTER_NAME_MAX = 128, ADAPTERS_WHY = 512 };

/* What a name may look like: 1 to 128 characters of [A-Za-z0-9._-], the first no dot. Nothing else is ever made a path of. */
bool adapter_name_valid(const char *name, size_t len);

/* A sum that a request asks for, by names. */
struct adapter_wish {
	char name[ADAPTER_NAME_MAX + 1];
	float scale;
	const char *digest;   /* its contents must have; NULL: any. Borrowed */
	const float *weights; /* [layers][CORE_LINEARS]; NULL: all 1. Borrowed */
};

struct adapter_stamp { /* of one file; all 0: it is not there */
	uint64_t device, inode, size;
	struct timespec modified, changed;
};
enum { ADAPTER_FILES = 3 };
struct adapter_print { /* changes when the files do */
	struct adapter_stamp file[ADAPTER_FILES];
};

struct adapter_sight { /* what the folders hold under a name */
	bool there;
	size_t folder; /* the first that has it */
	struct adapter_print print;
};

struct adapter_listing { /* all names in the folders, in order, each once */
	struct adapter_listed {
		char *name;
		size_t folder;
	} * list;
	size_t n, cap;
};

struct adapter_version {
	struct adapter_version *next; /* in the list of those that were dropped */
	struct core_adapter *adapter; /* a reference */
	unsigned pins;                /* jobs that have not ended */
	bool retired;                 /* no entry has it any more */
	uint64_t used;                /* by the registry's clock of uses */
};

/* What is known of the woven path of a version: see core_check(). A check that does not pass fails the adapter: it would answer
 * wrongly, and nobody would see it. */
enum adapter_check_state { CHECK_PENDING, CHECK_PASSED, CHECK_FAILED, CHECK_UNDONE };

struct adapter_check { /* one check, on its way through the checker */
	struct adapter_entry *entry;
	const struct core_model *model;
	struct core_adapter *adapter; /* a reference */
	double seconds;               /* of CPU time, about */
	int rc;
	struct core_check_result result;
	struct core_error err; /* of rc */
};
void adapter_check_free(struct adapter_check *c); /* [any]; NULL is fine */

struct adapter_entry { /* lives as long as the registry */
	TAILQ_ENTRY(adapter_entry) in_line;
	char *name, *path;               /* path NULL: it was never seen */
	size_t folder;                   /* of path */
	bool gone;                       /* no longer in the folders */
	struct adapter_print print;      /* of version, or of what failed */
	struct adapter_version *version; /* current; NULL: not resident */
	char *reason;                    /* why loading failed; NULL: it has not */
	bool lasting;                    /* and it will fail again until the files change */
	bool wanted, loading;            /* in line for loading; under way */
	bool asked;                      /* somebody asked for it since it began to load, having seen: */
	struct adapter_print seen;
	char checked[65]; /* digest of the contents that these are of; "": none */
	enum adapter_check_state check;
	struct core_check_result found;
	unsigned waiting; /* uses that wait for it */
	unsigned tries;   /* loads in a row that were overtaken by a change of the files */
};

struct adapter_load { /* one loading, on its way through a worker */
	struct adapter_entry *entry;
	const struct core_model *model;
	struct adapter_load *next; /* in the loader's lists */
	char *path;
	uint64_t limit; /* of all adapters, bytes */
	struct adapter_print print;
	struct core_adapter *adapter; /* result; NULL: failed, see err */
	struct core_error err;
};

TAILQ_HEAD(adapter_uses, adapter_use);
struct adapter_use { /* what one job has of the registry */
	TAILQ_ENTRY(adapter_use) link;
	struct adapter_uses *in;      /* waiting or due; NULL: settled */
	const struct core_error *err; /* while due */
	void *owner;
	bool ready;
	size_t n;
	struct {
		struct adapter_entry *entry;
		struct adapter_version *version; /* pinned; NULL: being loaded */
		float scale;
		char digest[65]; /* of the contents that were asked for; "": any */
		float *weights;  /* owned; NULL: all 1 */
	} part[CORE_BLEND_MAX];
};

struct adapter_blend { /* a name of the configuration for a sum */
	char name[ADAPTER_NAME_MAX + 1];
	size_t n;
	struct adapter_wish part[CORE_BLEND_MAX];
};

struct adapters {
	const struct core_model *model;
	char **folders;
	size_t n_folders;
	struct adapter_entry **entries; /* [n], by name */
	size_t n, cap;
	struct adapter_blend *blends;
	size_t n_blends;
	uint64_t limit, resident, pinned; /* bytes; pinned counts retired versions, too */
	uint64_t loads, evictions;        /* since the start */
	uint64_t clock;
	unsigned n_loading, n_ready; /* loads under way, uses that have all they need */
	TAILQ_HEAD(, adapter_entry) wanted;
	struct adapter_uses waiting, due;
	struct adapter_version *dropped; /* nobody has them any more */
	double check_seconds; /* 0: no checks */
	bool checking;        /* one is under way */
	/* Hands a load to a worker. false: it cannot. */
	bool (*submit)(void *arg, struct adapter_load *load);
	void (*check)(void *arg, struct adapter_check *check); /* hands it to the checker; NULL: there is none */
	/* A use has all that it needs (err NULL), or cannot have it. Releasing it is the owner's. */
	void (*settled)(void *arg, struct adapter_use *use, const struct core_error *err);
	void *arg;
};

/* folders: separated by ':'. blends: "NAME=ADAPTER:SCALE,ADAPTER:SCALE NAME=..."; why says what is wrong with them. */
int adapters_init(struct adapters *a, const struct core_model *model, const char *folders, const char *blends, uint64_t limit,
		  char why[static ADAPTERS_WHY]);
void adapters_finish(struct adapters *a); /* no load may be under way */

/* ---- the folders: [any], may block; of *a only what adapters_init made is read ---- */
void adapters_look(const struct adapters *a, const char *name, struct adapter_sight *out);
bool adapter_sight_same(const struct adapter_sight *a, const struct adapter_sight *b); /* the same files, unchanged */
/* false: nothing is there. A folder's own times change with every file in it, so only its files count. */
bool adapter_take_print(struct adapter_print *p, const char *path);
bool adapter_same_print(const struct adapter_print *a, const struct adapter_print *b);
void adapters_list(const struct adapters *a, struct adapter_listing *out);
void adapter_listing_finish(struct adapter_listing *l);

/* ---- what was seen there ---- */
void adapters_take_listing(struct adapters *a, const struct adapter_listing *l); /* what is not in it is gone */
/* NULL: not_found, field name. */
struct adapter_entry *adapters_find(struct adapters *a, const char *name, const struct adapter_sight *seen, struct problem *p);

/* The names and scales that a request stands for: model may be "", the base's name or that of a blend, of the configuration or of a
 * file (blend_file.h), which the caller then frees when the wishes are of no more use. Writes at most CORE_BLEND_MAX. [any], may
 * block */
struct blend_file;
int adapters_resolve(const struct adapters *a, const char *model, struct adapter_wish *out, size_t *n, struct blend_file **file,
		     struct problem *p);
/* Pins what is resident and starts loading what is not. use->ready says whether all is there. NULL with the problem. */
struct adapter_use *adapters_use(struct adapters *a, const struct adapter_wish *wish, const struct adapter_sight *seen, size_t n,
				 void *owner, struct problem *p);
int adapter_use_blend(const struct adapter_use *use, struct core_blend **out, struct core_error *err);
void adapters_start(struct adapters *a);                            /* what is in line and may be loaded now; after adapters_use */
void adapters_release(struct adapters *a, struct adapter_use *use); /* frees it; NULL is fine */

void adapters_request_load(struct adapters *a, struct adapter_entry *e, const struct adapter_sight *seen);
int adapters_unload(struct adapters *a, struct adapter_entry *e, struct problem *p);
const char *adapter_residency(const struct adapter_entry *e);

void adapter_load_run(struct adapter_load *load);                    /* [loader] */
void adapters_loaded(struct adapters *a, struct adapter_load *load); /* frees it */
void adapters_checked(struct adapters *a, struct adapter_check *check); /* frees it */
/* Of the version that is resident, or of what failed: NULL: there is no check (and will be none). */
const char *adapter_check_state(const struct adapters *a, const struct adapter_entry *e);
void adapter_load_free(struct adapter_load *load);                   /* one that nobody waits for */
/* The versions that nobody has any more; the loader frees them, when the blends that were made of them are gone, too. */
struct adapter_version *adapters_take_dropped(struct adapters *a);
void adapter_versions_free(struct adapter_version *list); /* [any] */

#endif
