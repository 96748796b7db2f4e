/* adapters.c: names, versions, pins, and the order of loading. */
#include "config.h"
#include "adapters.h"
#include "blend_file.h"
#include "log.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { TRIES = 10, FOLDERS = 32, BLENDS = 256, TEXT_OF_FILES = 32 << 20 };

/* ---- names ---- */

static size_t place_of(const struct adapters *a, const char *name)
{
	size_t lo = 0, hi = a->n;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (strcmp(a->entries[mid]->name, name) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static struct adapter_entry *find(const struct adapters *a, const char *name)
{
	size_t at = place_of(a, name);
	return at < a->n && strcmp(a->entries[at]->name, name) == 0 ? a->entries[at] : NULL;
}

static void entry_free(struct adapter_entry *e)
{
	free(e->name);
	free(e->path);
	free(e->reason);
	free(e);
}

static struct adapter_entry *enlist(struct adapters *a, const char *name)
{
	struct adapter_entry *e = find(a, name);
	if (e)
		return e;
	if (a->n == a->cap) {
		size_t cap = a->cap ? 2 * a->cap : 64;
		struct adapter_entry **grown = realloc(a->entries, cap * sizeof *grown);
		if (!grown)
			return NULL;
		a->entries = grown;
		a->cap = cap;
	}
	e = calloc(1, sizeof *e);
	if (!e || !(e->name = strdup(name))) {
		free(e);
		return NULL;
	}
	size_t at = place_of(a, name);
	memmove(a->entries + at + 1, a->entries + at, (a->n - at) * sizeof *a->entries);
	a->entries[at] = e;
	a->n++;
	return e;
}

/* Names are strung together in order in one array: 2,000 new ones move nothing. */
static void enlist_all(struct adapters *a, const struct adapter_listing *l)
{
	size_t fresh = 0, from = a->n, to, k = l->n;
	for (size_t i = 0; i < l->n; i++)
		fresh += !find(a, l->list[i].name);
	struct adapter_entry **made = calloc(a->n + fresh + 1, sizeof *made);
	if (!made)
		return; /* they are found one by one */
	to = a->n + fresh;
	while (k-- > 0) {
		struct adapter_entry *e = find(a, l->list[k].name);
		if (!e && (e = calloc(1, sizeof *e)) && !(e->name = strdup(l->list[k].name))) {
			free(e);
			e = NULL;
		}
		while (from > 0 && strcmp(a->entries[from - 1]->name, l->list[k].name) >= 0)
			if (a->entries[--from] != e)
				made[--to] = a->entries[from];
		if (e)
			made[--to] = e;
	}
	while (from > 0)
		made[--to] = a->entries[--from];
	a->n = a->n + fresh - to;
	memmove(made, made + to, a->n * sizeof *made); /* to: names for which there was no memory */
	free(a->entries);
	a->entries = made;
	a->cap = a->n + 1;
}

/* ---- what was seen there ---- */

static void retire(struct adapters *a, struct adapter_entry *e);

static bool settle_path(const struct adapters *a, struct adapter_entry *e, size_t folder)
{
	char *path;
	if (e->path && e->folder == folder)
		return true;
	if (asprintf(&path, "%s/%s", a->folders[folder], e->name) < 0)
		return false;
	free(e->path);
	e->path = path;
	e->folder = folder;
	return true;
}

static void leave(struct adapters *a, struct adapter_entry *e)
{
	e->gone = true;
	retire(a, e);
}

void adapters_take_listing(struct adapters *a, const struct adapter_listing *l)
{
	size_t k = 0;
	enlist_all(a, l);
	for (size_t i = 0; i < a->n; i++) {
		struct adapter_entry *e = a->entries[i];
		while (k < l->n && strcmp(l->list[k].name, e->name) < 0)
			k++;
		if (k < l->n && strcmp(l->list[k].name, e->name) == 0 && settle_path(a, e, l->list[k].folder))
			e->gone = false;
		else
			leave(a, e);
	}
}

struct adapter_entry *adapters_find(struct adapters *a, const char *name, const struct adapter_sight *seen, struct problem *p)
{
	struct adapter_entry *e = seen->there ? enlist(a, name) : find(a, name);
	if (!seen->there) {
		if (e)
			leave(a, e);
		problem_set(p, WIRE_NOT_FOUND, "name", "no adapter of that name is registered");
		return NULL;
	}
	if (!e || !settle_path(a, e, seen->folder)) {
		problem_set(p, WIRE_INTERNAL, "name", "out of memory");
		return NULL;
	}
	e->gone = false;
	return e;
}

/* ---- versions ---- */

static uint64_t bytes_of(const struct adapter_version *v)
{
	return core_adapter_info(v->adapter)->bytes;
}

/* Giving much memory back takes its time, too: that is left to who takes what was dropped. */
static void version_drop_if_idle(struct adapters *a, struct adapter_version *v)
{
	if (!v->retired || v->pins)
		return;
	v->next = a->dropped;
	a->dropped = v;
}

struct adapter_version *adapters_take_dropped(struct adapters *a)
{
	struct adapter_version *all = a->dropped;
	a->dropped = NULL;
	return all;
}

void adapter_versions_free(struct adapter_version *v)
{
	while (v) {
		struct adapter_version *next = v->next;
		core_adapter_unref(v->adapter);
		free(v);
		v = next;
	}
}

static void retire(struct adapters *a, struct adapter_entry *e)
{
	struct adapter_version *v = e->version;
	if (!v)
		return;
	e->version = NULL;
	a->resident -= bytes_of(v);
	v->retired = true;
	version_drop_if_idle(a, v);
}

/* Lets go of what was used longest ago until the limit is kept, or only pinned versions are left. */
static void evict(struct adapters *a)
{
	while (a->resident > a->limit) {
		struct adapter_entry *oldest = NULL;
		for (size_t i = 0; i < a->n; i++) {
			struct adapter_entry *e = a->entries[i];
			if (e->version && !e->version->pins && (!oldest || e->version->used < oldest->version->used))
				oldest = e;
		}
		if (!oldest)
			return;
		retire(a, oldest);
		a->evictions++;
	}
}

static void pin(struct adapters *a, struct adapter_version *v)
{
	if (v->pins++ == 0)
		a->pinned += bytes_of(v);
	v->used = ++a->clock;
}

static void unpin(struct adapters *a, struct adapter_version *v)
{
	if (--v->pins == 0)
		a->pinned -= bytes_of(v);
	version_drop_if_idle(a, v);
}

/* ---- loading ---- */

static bool may_load(const struct adapters *a)
{
	/* With nobody who could ever unpin, waiting would be for ever. */
	return a->n_loading == 0 && (a->pinned < a->limit || a->n_ready == 0);
}

static void want(struct adapters *a, struct adapter_entry *e)
{
	if (e->wanted || e->loading)
		return;
	e->wanted = true;
	TAILQ_INSERT_TAIL(&a->wanted, e, in_line);
}

void adapter_load_free(struct adapter_load *l)
{
	core_adapter_unref(l->adapter);
	free(l->path);
	free(l);
}

static void fail_entry(struct adapters *a, struct adapter_entry *e, const struct core_error *err);

static void start(struct adapters *a, struct adapter_entry *e)
{
	const struct core_error oom = {CORE_ENOMEM, "out of memory"};
	struct adapter_load *l = calloc(1, sizeof *l);
	if (l)
		*l = (struct adapter_load){.entry = e, .model = a->model, .path = strdup(e->path), .limit = a->limit};
	e->wanted = e->asked = false;
	TAILQ_REMOVE(&a->wanted, e, in_line);
	if (!l || !l->path || !a->submit(a->arg, l)) {
		if (l)
			adapter_load_free(l);
		fail_entry(a, e, &oom);
		return;
	}
	e->loading = true;
	a->n_loading++;
}

void adapters_start(struct adapters *a)
{
	while (!TAILQ_EMPTY(&a->wanted) && may_load(a))
		start(a, TAILQ_FIRST(&a->wanted));
}

/* A file system tells times in ticks: a file that was written in this one may be written again without a trace. Afterwards every
 * change shows. */
static void let_tick_pass(const struct adapter_print *p)
{
	struct timespec now, tick;
	clock_getres(CLOCK_REALTIME_COARSE, &tick);
	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	for (int i = 0; i < ADAPTER_FILES; i++) {
		const struct timespec *t = &p->file[i].changed;
		int64_t ahead = (int64_t)(t->tv_sec - now.tv_sec) * 1000000000 + t->tv_nsec - now.tv_nsec;
		if (ahead >= 0 && ahead < 1000000000) { /* beyond, it is another machine's clock */
			nanosleep(&tick, NULL);
			return;
		}
	}
}

/* Beside its factors a file may hold copies of the base's embedding and head: what is longer than that cannot become an adapter
 * within the limit, and is not read. */
static int check_length(const struct adapter_load *l, struct core_error *err)
{
	const struct core_model_info *m = core_model_info(l->model);
	uint64_t copies = 2 * sizeof(float) * (uint64_t)m->vocab * m->dim, bytes = 0;
	for (int i = 0; i < ADAPTER_FILES; i++)
		bytes += l->print.file[i].size;
	if (bytes <= l->limit + copies + TEXT_OF_FILES)
		return 0;
	return core_fail(err, CORE_EUNSUPPORTED, "its files have %llu bytes, adapters_memory is %llu", (unsigned long long)bytes,
			 (unsigned long long)l->limit);
}

void adapter_load_run(struct adapter_load *l)
{
	struct adapter_print after;
	for (int i = 0; i < TRIES; i++) {
		core_adapter_unref(l->adapter);
		l->adapter = NULL;
		if (!adapter_take_print(&l->print, l->path)) {
			core_fail(&l->err, CORE_EIO, "the files are gone");
			return;
		}
		let_tick_pass(&l->print);
		if (check_length(l, &l->err) || core_adapter_load(&l->adapter, l->model, l->path, &l->err))
			l->adapter = NULL;
		if (adapter_take_print(&after, l->path) && adapter_same_print(&after, &l->print))
			return;
	}
	core_adapter_unref(l->adapter);
	l->adapter = NULL;
	core_fail(&l->err, CORE_EIO, "the files changed while they were read, %d times in a row", TRIES);
}

/* What e means for a use that waits: true, when the use waits no longer. */
static bool concerns(struct adapters *a, struct adapter_use *u, const struct adapter_entry *e, const struct core_error *err)
{
	bool concerned = false, all = true;
	for (size_t i = 0; i < u->n; i++) {
		if (u->part[i].entry == e && !u->part[i].version) {
			concerned = true;
			if (!err) {
				u->part[i].entry->waiting--;
				u->part[i].version = e->version;
				pin(a, e->version);
			}
		}
		all &= u->part[i].version != NULL;
	}
	return concerned && (err || all);
}

/* The uses that wait for e get it, or learn that they cannot. Settling one may release any other, so they stand in a list
 * meanwhile; it may also fail another entry, whose uses then join the list. */
static void tell(struct adapters *a, struct adapter_entry *e, const struct core_error *err)
{
	struct adapter_use *u, *next;
	for (u = TAILQ_FIRST(&a->waiting); u; u = next) {
		next = TAILQ_NEXT(u, link);
		if (!concerns(a, u, e, err))
			continue;
		TAILQ_REMOVE(&a->waiting, u, link);
		TAILQ_INSERT_TAIL(&a->due, u, link);
		u->in = &a->due;
		u->err = err;
		u->ready = !err;
		a->n_ready += u->ready;
	}
	while ((u = TAILQ_FIRST(&a->due))) {
		TAILQ_REMOVE(&a->due, u, link);
		u->in = NULL;
		a->settled(a->arg, u, u->err);
	}
}

static void fail_entry(struct adapters *a, struct adapter_entry *e, const struct core_error *err)
{
	retire(a, e);
	free(e->reason);
	e->reason = strdup(err->text);
	e->lasting = err->code == CORE_EFORMAT || err->code == CORE_EUNSUPPORTED;
	log_warning("adapter %s: %s", e->name, err->text);
	tell(a, e, err);
}

static void take_version(struct adapters *a, struct adapter_entry *e, struct adapter_load *l)
{
	const struct core_adapter_info *info = core_adapter_info(l->adapter);
	const struct core_error oom = {CORE_ENOMEM, "out of memory"};
	struct core_error err;
	if (info->bytes > a->limit) {
		core_fail(&err, CORE_EUNSUPPORTED, "it takes %llu bytes, adapters_memory is %llu", (unsigned long long)info->bytes,
			  (unsigned long long)a->limit);
		fail_entry(a, e, &err);
		return;
	}
	if (!e->version || strcmp(core_adapter_info(e->version->adapter)->digest, info->digest) != 0) {
		struct adapter_version *v = calloc(1, sizeof *v);
		if (!v) {
			fail_entry(a, e, &oom);
			return;
		}
		retire(a, e);
		v->adapter = l->adapter;
		v->used = ++a->clock;
		l->adapter = NULL;
		e->version = v;
		a->resident += bytes_of(v);
	}
	free(e->reason);
	e->reason = NULL;
	struct adapter_version *v = e->version;
	pin(a, v); /* a use that ends on the way must not let it go */
	tell(a, e, NULL);
	unpin(a, v);
}

/* ---- checking ---- */

void adapter_check_free(struct adapter_check *c)
{
	if (c)
		core_adapter_unref(c->adapter);
	free(c);
}

static const char *digest_of(const struct adapter_version *v)
{
	return core_adapter_info(v->adapter)->digest;
}

/* The next version that nobody knows of yet. One at a time: what waits holds no memory. */
static void start_check(struct adapters *a)
{
	for (size_t i = 0; i < a->n && !a->checking && a->check && a->check_seconds > 0; i++) {
		struct adapter_entry *e = a->entries[i];
		if (!e->version || strcmp(e->checked, digest_of(e->version)) == 0)
			continue;
		struct adapter_check *c = calloc(1, sizeof *c);
		if (!c)
			return; /* after the next load */
		*c = (struct adapter_check){.entry = e,
					    .model = a->model,
					    .adapter = core_adapter_ref(e->version->adapter),
					    .seconds = a->check_seconds};
		a->checking = true;
		a->check(a->arg, c);
	}
}

static void note_check(struct adapter_entry *e, const struct adapter_check *c)
{
	snprintf(e->checked, sizeof e->checked, "%s", core_adapter_info(c->adapter)->digest);
	e->found = c->result;
	e->check = c->rc ? CHECK_UNDONE : core_check_passed(&c->result) ? CHECK_PASSED : CHECK_FAILED;
	if (c->rc)
		log_warning("adapter %s: it could not be checked: %s", e->name, c->err.text);
}

/* Jobs that have it end with it; what comes later is refused, with the reason. */
static void fail_checked(struct adapters *a, struct adapter_entry *e)
{
	struct core_error err;
	core_fail(&err, CORE_EUNSUPPORTED,
		  "woven into the model it does not do what it does merged into the weights: divergence %.3g nats, at most %.3g was "
		  "expected",
		  e->found.divergence, core_check_bound(&e->found));
	if (e->loading || e->wanted) {
		retire(a, e);
		log_warning("adapter %s: %s", e->name, err.text);
	} else {
		fail_entry(a, e, &err);
	}
}

void adapters_checked(struct adapters *a, struct adapter_check *c)
{
	struct adapter_entry *e = c->entry;
	a->checking = false;
	if (e->version && strcmp(digest_of(e->version), core_adapter_info(c->adapter)->digest) == 0) {
		note_check(e, c);
		if (e->check == CHECK_FAILED)
			fail_checked(a, e);
	}
	adapter_check_free(c);
	start_check(a);
}

const char *adapter_check_state(const struct adapters *a, const struct adapter_entry *e)
{
	static const char *const names[] = {"pending", "passed", "failed", "undone"};
	if (e->version ? strcmp(e->checked, digest_of(e->version)) == 0 : e->reason && e->checked[0] && e->check == CHECK_FAILED)
		return names[e->check];
	return e->version && a->check_seconds > 0 ? names[CHECK_PENDING] : NULL;
}

/* ---- the end of a load ---- */

void adapters_loaded(struct adapters *a, struct adapter_load *l)
{
	struct adapter_entry *e = l->entry;
	a->n_loading--;
	a->loads++;
	e->loading = false;
	if (e->asked && !adapter_same_print(&e->seen, &l->print) && ++e->tries < TRIES) {
		want(a, e); /* who asked meanwhile saw other files than these */
	} else {
		e->tries = 0;
		e->print = l->print;
		if (l->adapter)
			take_version(a, e, l);
		else
			fail_entry(a, e, &l->err);
	}
	adapter_load_free(l);
	evict(a);
	adapters_start(a);
	start_check(a);
}

/* Is the version that is resident what was seen in the files? 1 yes, 0 it must be loaded, -1 it cannot be. */
static int current(struct adapter_entry *e, const struct adapter_sight *seen, const char *field, struct problem *p)
{
	if (e->loading || e->wanted || !adapter_same_print(&seen->print, &e->print))
		return 0;
	if (e->reason && e->lasting)
		return problem_set(p, WIRE_UNSUPPORTED, field, "the adapter cannot be loaded: %.250s", e->reason);
	return e->version != NULL;
}

static void want_as_seen(struct adapters *a, struct adapter_entry *e, const struct adapter_sight *seen)
{
	e->seen = seen->print;
	e->asked = true;
	want(a, e);
}

void adapters_request_load(struct adapters *a, struct adapter_entry *e, const struct adapter_sight *seen)
{
	if (e->reason && adapter_same_print(&seen->print, &e->print)) { /* told to try again */
		e->checked[0] = 0;
		free(e->reason);
		e->reason = NULL;
	}
	if (current(e, seen, "name", NULL) == 0)
		want_as_seen(a, e, seen);
	adapters_start(a);
}

int adapters_unload(struct adapters *a, struct adapter_entry *e, struct problem *p)
{
	if (e->loading || e->wanted)
		return problem_set(p, WIRE_CONFLICT, "name", "the adapter is being loaded");
	retire(a, e);
	adapters_start(a);
	return 0;
}

const char *adapter_residency(const struct adapter_entry *e)
{
	return e->loading || e->wanted ? "loading" : e->version ? "resident" : e->reason ? "failed" : "registered";
}

/* ---- uses ---- */

static void use_free(struct adapter_use *u)
{
	for (size_t i = 0; i < u->n; i++)
		free(u->part[i].weights);
	free(u);
}

/* false: out of memory. */
static bool copy_wish(const struct adapters *a, struct adapter_use *u, size_t i, const struct adapter_wish *w)
{
	size_t bytes = (size_t)core_model_info(a->model)->layers * CORE_LINEARS * sizeof(float);
	u->part[i].scale = w->scale;
	if (w->digest)
		snprintf(u->part[i].digest, sizeof u->part[i].digest, "%s", w->digest);
	if (!w->weights)
		return true;
	u->part[i].weights = malloc(bytes);
	if (u->part[i].weights)
		memcpy(u->part[i].weights, w->weights, bytes);
	return u->part[i].weights != NULL;
}

void adapters_release(struct adapters *a, struct adapter_use *u)
{
	if (!u)
		return;
	if (u->ready)
		a->n_ready--;
	if (u->in)
		TAILQ_REMOVE(u->in, u, link);
	for (size_t i = 0; i < u->n; i++)
		if (u->part[i].version)
			unpin(a, u->part[i].version);
		else
			u->part[i].entry->waiting--;
	use_free(u);
	evict(a);
	adapters_start(a);
}

struct adapter_use *adapters_use(struct adapters *a, const struct adapter_wish *wish, const struct adapter_sight *seen, size_t n,
				 void *owner, struct problem *p)
{
	struct adapter_use *u = calloc(1, sizeof *u);
	char field[ADAPTER_NAME_MAX + 16];
	bool ready = true;
	int state[CORE_BLEND_MAX];
	if (!u) {
		problem_set(p, WIRE_INTERNAL, NULL, "out of memory");
		return NULL;
	}
	u->owner = owner;
	u->n = n;
	for (size_t i = 0; i < n; i++) { /* what can be refused comes first */
		snprintf(field, sizeof field, "adapters.%.80s", wish[i].name);
		u->part[i].entry = adapters_find(a, wish[i].name, &seen[i], p);
		state[i] = u->part[i].entry ? current(u->part[i].entry, &seen[i], field, p) : -1;
		if (state[i] >= 0 && !copy_wish(a, u, i, &wish[i]))
			state[i] = problem_set(p, WIRE_INTERNAL, NULL, "out of memory");
		if (state[i] < 0) {
			snprintf(p->field, sizeof p->field, "%.95s", field);
			use_free(u);
			return NULL;
		}
	}
	for (size_t i = 0; i < n; i++) {
		struct adapter_entry *e = u->part[i].entry;
		if (state[i]) {
			u->part[i].version = e->version;
			pin(a, e->version);
		} else {
			ready = false;
			e->waiting++;
			want_as_seen(a, e, &seen[i]);
		}
	}
	u->ready = ready;
	if (ready)
		a->n_ready++;
	else
		TAILQ_INSERT_TAIL(u->in = &a->waiting, u, link);
	return u;
}

/* The core would refuse them, too, but knows no names. */
static int refuse_twins(const struct adapter_use *u, struct core_error *err)
{
	for (size_t i = 0; i < u->n; i++)
		for (size_t k = 0; k < i && u->part[i].scale != 0; k++)
			if (u->part[k].scale != 0 && strcmp(core_adapter_info(u->part[i].version->adapter)->digest,
							    core_adapter_info(u->part[k].version->adapter)->digest) == 0)
				return core_fail(err, CORE_EINVAL,
						 "%s and %s have the same contents: name one of them, with the sum of the scales",
						 u->part[k].entry->name, u->part[i].entry->name);
	return CORE_OK;
}

/* Weights that were learned are for the contents that they were learned with. */
static int refuse_other_contents(const struct adapter_use *u, struct core_error *err)
{
	for (size_t i = 0; i < u->n; i++) {
		const char *now = core_adapter_info(u->part[i].version->adapter)->digest;
		if (u->part[i].digest[0] && strcmp(u->part[i].digest, now) != 0)
			return core_fail(err, CORE_EUNSUPPORTED,
					 "the blend was made with other contents of %s (%.12s, now %.12s): learn it again",
					 u->part[i].entry->name, u->part[i].digest, now);
	}
	return CORE_OK;
}

int adapter_use_blend(const struct adapter_use *u, struct core_blend **out, struct core_error *err)
{
	struct core_blend_part parts[CORE_BLEND_MAX];
	int rc = refuse_other_contents(u, err);
	if (!rc)
		rc = refuse_twins(u, err);
	if (rc)
		return rc;
	for (size_t i = 0; i < u->n; i++)
		parts[i] = (struct core_blend_part){.adapter = u->part[i].version->adapter,
						      .scale = u->part[i].scale,
						      .weights = u->part[i].weights};
	return core_blend_new(out, parts, (uint32_t)u->n, err);
}

/* ---- names of the configuration ---- */

static int bad_blend(char *why, const char *text)
{
	snprintf(why, ADAPTERS_WHY, "blends: \"%.80s\": expected NAME=ADAPTER:SCALE,ADAPTER:SCALE with 1 to %d adapters, each once",
		 text, CORE_BLEND_MAX);
	return -1;
}

static int parse_blend(struct adapter_blend *b, char *text, char *why)
{
	char *shown = text, *equals = strchr(text, '='), *rest, *part, *end;
	if (!equals || !adapter_name_valid(text, (size_t)(equals - text)))
		return bad_blend(why, shown);
	snprintf(b->name, sizeof b->name, "%.*s", (int)(equals - text), text);
	for (rest = equals + 1; (part = strsep(&rest, ","));) {
		char *colon = strrchr(part, ':');
		double scale = colon ? strtod(colon + 1, &end) : 0;
		if (!colon || !adapter_name_valid(part, (size_t)(colon - part)) || end == colon + 1 || *end ||
		    !isfinite((float)scale) || b->n == CORE_BLEND_MAX)
			return bad_blend(why, part);
		*colon = 0;
		for (size_t i = 0; i < b->n; i++)
			if (strcmp(b->part[i].name, part) == 0)
				return bad_blend(why, part);
		snprintf(b->part[b->n].name, sizeof b->part[b->n].name, "%s", part);
		b->part[b->n++].scale = (float)scale;
	}
	return 0;
}

static int parse_blends(struct adapters *a, const char *text, char *why)
{
	char *copy = strdup(text), *rest = copy, *one;
	int rc = 0;
	a->blends = calloc(BLENDS, sizeof *a->blends);
	if (!copy || !a->blends) {
		free(copy);
		snprintf(why, ADAPTERS_WHY, "out of memory");
		return -1;
	}
	while (!rc && (one = strsep(&rest, " \t"))) {
		if (!*one)
			continue;
		if (a->n_blends == BLENDS) {
			snprintf(why, ADAPTERS_WHY, "blends: at most %d", BLENDS);
			rc = -1;
			break;
		}
		struct adapter_blend *b = &a->blends[a->n_blends];
		rc = parse_blend(b, one, why);
		if (!rc && strcmp(b->name, core_model_info(a->model)->name) == 0) {
			snprintf(why, ADAPTERS_WHY, "blends: \"%.80s\" is the name of the base already", b->name);
			rc = -1;
		}
		for (size_t i = 0; i < a->n_blends && !rc; i++)
			if (strcmp(a->blends[i].name, b->name) == 0)
				rc = bad_blend(why, b->name);
		a->n_blends++;
	}
	free(copy);
	return rc;
}

static int blend_and_adapters(const char *name, struct problem *p)
{
	return problem_set(p, WIRE_INVALID_ARGUMENT, "adapters", "the model \"%s\" is a blend already: leave one of the two out", name);
}

/* A blend in a folder: the first one that has the name. */
static int resolve_file(const struct adapters *a, const char *model, struct adapter_wish *out, size_t *n, struct blend_file **file,
			struct problem *p)
{
	char path[4096], why[BLEND_FILE_WHY];
	struct stat st;
	bool found = false;
	for (size_t i = 0; i < a->n_folders && !found && adapter_name_valid(model, strlen(model)); i++) {
		snprintf(path, sizeof path, "%s/%s" BLEND_FILE_SUFFIX, a->folders[i], model);
		found = stat(path, &st) == 0;
	}
	if (!found)
		return problem_set(p, WIRE_NOT_FOUND, "model",
				   "no such model: expected the base's name (see hello) or a blend's (see adapters)");
	if (*n)
		return blend_and_adapters(model, p);
	*file = blend_file_read(path, model, why);
	if (!*file)
		return problem_set(p, WIRE_UNSUPPORTED, "model", "the blend's file cannot be used: %s", why);
	if ((*file)->layers != core_model_info(a->model)->layers)
		return problem_set(p, WIRE_UNSUPPORTED, "model", "the blend is for a base of %u layers, this one has %u",
				   (*file)->layers, core_model_info(a->model)->layers);
	blend_file_wishes(*file, out, n);
	return 0;
}

int adapters_resolve(const struct adapters *a, const char *model, struct adapter_wish *out, size_t *n, struct blend_file **file,
		     struct problem *p)
{
	*file = NULL;
	if (!model[0] || strcmp(model, core_model_info(a->model)->name) == 0)
		return 0;
	for (size_t i = 0; i < a->n_blends; i++) {
		const struct adapter_blend *b = &a->blends[i];
		if (strcmp(b->name, model) != 0)
			continue;
		if (*n)
			return blend_and_adapters(b->name, p);
		memcpy(out, b->part, b->n * sizeof *out);
		*n = b->n;
		return 0;
	}
	return resolve_file(a, model, out, n, file, p);
}

/* ---- begin and end ---- */

int adapters_init(struct adapters *a, const struct core_model *model, const char *folders, const char *blends, uint64_t limit,
		  char why[static ADAPTERS_WHY])
{
	char *copy = strdup(folders), *rest = copy, *folder;
	*a = (struct adapters){.model = model, .limit = limit, .submit = a->submit, .check = a->check, .settled = a->settled, .arg = a->arg, .check_seconds = a->check_seconds};
	struct adapter_listing listing;
	TAILQ_INIT(&a->waiting);
	TAILQ_INIT(&a->due);
	TAILQ_INIT(&a->wanted);
	a->folders = calloc(FOLDERS, sizeof *a->folders);
	while (copy && a->folders && a->n_folders < FOLDERS && (folder = strsep(&rest, ":")))
		if (*folder && (a->folders[a->n_folders] = strdup(folder)))
			a->n_folders++;
	free(copy);
	if (parse_blends(a, blends, why)) {
		adapters_finish(a);
		return -1;
	}
	adapters_list(a, &listing);
	adapters_take_listing(a, &listing);
	adapter_listing_finish(&listing);
	return 0;
}

void adapters_finish(struct adapters *a)
{
	for (size_t i = 0; i < a->n; i++) {
		retire(a, a->entries[i]);
		entry_free(a->entries[i]);
	}
	adapter_versions_free(adapters_take_dropped(a));
	for (size_t i = 0; i < a->n_folders; i++)
		free(a->folders[i]);
	free(a->folders);
	free(a->entries);
	free(a->blends);
	*a = (struct adapters){0};
}
