/* store_power.c [ROUNDS [SEED]]: the power fails at random operations of the disk, also while the store recovers from the failure
 * before. What was acknowledged is there, nothing is there by half. Then: a disk that is full, read-only or broken for a while
 * loses nothing either, and the store goes on by itself. */
#include "store_history.h"
#include "store_vfs.h"
#include <stdlib.h>
#include <string.h>

static struct kit the_kit(const char *folder)
{
	struct kit k = {.quiet = true};
	snprintf(k.url, sizeof(k.url), "sqlite:%s/power.db", folder);
	return k;
}

static uint64_t draw_state;
static uint32_t draw(uint32_t below)
{
	draw_state = draw_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(draw_state >> 33) % below;
}

/* Submits with up to `window` in flight until `n` ops are made or the power is gone. */
static void run(struct kit *k, struct history *h, unsigned n, unsigned window)
{
	struct store_health health;
	for (unsigned i = 0; i < n && !vfs_is_off(); i++) {
		store_submit(k->store, history_op(h, NULL, NULL));
		do {
			kit_wait(k, 0);
			store_get_health(k->store, &health);
			if (health.waiting >= window)
				kit_wait(k, 5);
		} while (health.waiting >= window && !vfs_is_off());
	}
}

/* The store comes up, maybe after some more failures of power while it does. */
static int power_up(struct kit *k)
{
	char text[STORE_TEXT];
	int failures = 0;
	for (;;) {
		vfs_power_on();
		if (draw(3) == 0 && failures < 5)
			vfs_power_off_at(1 + draw(12));
		int rc = kit_open(k, text);
		if (rc == STORE_OK && !vfs_is_off()) {
			vfs_power_off_at(0);
			return failures;
		}
		if (rc == STORE_OK)
			kit_close(k);
		if (rc == STORE_EBROKEN || !vfs_is_off()) {
			fprintf(stderr, "opening: %d %s\n", rc, text);
			exit(1);
		}
		failures++;
	}
}

static void power_rounds(const char *folder, unsigned rounds, uint64_t seed)
{
	struct kit k = the_kit(folder);
	char text[STORE_TEXT];
	size_t acked = 0, made = 0, recoveries = 0;
	for (unsigned round = 0; round < rounds; round++) {
		bool large = round % 8 == 7;
		draw_state = seed + round;
		vfs_seed(seed + round + 1);
		if (round % 16 == 0) { /* from the very beginning: the making of the schema, too */
			vfs_format();
			vfs_power_off_at(1 + draw(400));
		} else {
			vfs_restore();
			vfs_power_off_at(1 + draw(large ? 6000 : 600));
		}
		struct history *h = history_new(seed + round, 1000, large ? 4 : 0);
		if (kit_open(&k, text) == STORE_OK) {
			run(&k, h, large ? 150 : 200, 1 + draw(20));
			kit_close(&k);
		}
		acked += history_acked(h);
		made += history_made(h);
		recoveries += (size_t)power_up(&k);
		if (!history_check(h, &k, history_acked(h), true)) {
			fprintf(stderr, "round %u of seed %llu\n", round, (unsigned long long)seed);
			exit(1);
		}
		kit_close(&k);
		history_free(h);
	}
	CHECK(acked > rounds);
	printf("%u power failures, %zu more while recovering: %zu ops acknowledged of %zu, none lost, none by half\n", rounds,
	       recoveries, acked, made);
}

/* ---- faults that pass -----------------------------------------------------------------------------------------------------------
 */

static int expect_log(struct kit *k, uint64_t id, uint32_t from, bool stubborn, struct store_op **out)
{
	char event[64];
	const char *list[] = {event};
	snprintf(event, sizeof(event), "event %u", from);
	struct store_op *op = kit_op(STORE_OP_LOG);
	op->job = id;
	op->token = id;
	op->from = from;
	op->n_events = 1;
	op->events = kit_chunk(1, list);
	op->stubborn = stubborn;
	kit_submit(k, op);
	*out = op;
	return 0;
}

/* Jobs with events; faults of one kind come and go. An op that fails changed nothing; a stubborn one does not fail. */
static void fault_rounds(const char *folder, unsigned rounds, uint64_t seed)
{
	enum { JOBS = 6 };
	static const int expected[VFS_FAULTS] = {[VFS_FULL] = STORE_EFULL,
						 [VFS_READ_ONLY] = STORE_EFULL,
						 [VFS_WRITE_ERROR] = STORE_EDOWN,
						 [VFS_SYNC_ERROR] = STORE_EDOWN,
						 [VFS_READ_ERROR] = STORE_EDOWN};
	struct kit k = the_kit(folder);
	char text[STORE_TEXT];
	uint32_t events[JOBS] = {0}, failed = 0, kept = 0;
	vfs_restore();
	CHECK_INT(kit_open(&k, text), STORE_OK);
	uint64_t id = kit_ids(&k, JOBS);
	for (uint64_t i = 0; i < JOBS; i++) {
		struct store_new a = kit_job(id + i);
		a.hold = true;
		a.token = id + i;
		CHECK_INT(kit_add(&k, &a), STORE_OK);
	}
	for (unsigned round = 0; round < rounds; round++) {
		enum vfs_fault f = (enum vfs_fault)(1 + round % (VFS_FAULTS - 1));
		struct store_op *op[JOBS];
		draw_state = seed + round;
		vfs_seed(seed + round);
		vfs_fault(f, 1 + draw(6));
		for (uint64_t i = 0; i < JOBS; i++)
			expect_log(&k, id + i, events[i], i < 2, &op[i]);
		for (int i = 2; i < JOBS; i++)
			kit_wait_for(&k, op[i]);
		vfs_fault(VFS_WELL, 1);
		for (int i = 0; i < JOBS; i++) {
			int rc = kit_wait_for(&k, op[i]);
			if (i < 2)
				CHECK_INT(rc, STORE_OK);
			else if (rc != STORE_OK)
				CHECK_INT(rc, expected[f]);
			events[i] += rc == STORE_OK;
			kept += rc == STORE_OK;
			failed += rc != STORE_OK;
			store_op_free(op[i]);
		}
		if (round % 16 == 15) { /* and after a start it is the same */
			kit_close(&k);
			CHECK_INT(kit_open(&k, text), STORE_OK);
		}
		for (uint64_t i = 0; i < JOBS; i++) {
			struct store_op *v = kit_view(&k, id + i);
			CHECK_INT(v->code, STORE_OK);
			CHECK_INT(v->views[0].n_events, events[i]);
			store_op_free(v);
		}
		if (round % 16 ==
		    15) { /* they were given back; hold them again, all with one token that is not theirs: so add new ones */
			id = kit_ids(&k, JOBS);
			for (uint64_t i = 0; i < JOBS; i++) {
				struct store_new a = kit_job(id + i);
				a.hold = true;
				a.token = id + i;
				CHECK_INT(kit_add(&k, &a), STORE_OK);
				events[i] = 0;
			}
		}
	}
	CHECK(vfs_faults_hit() > rounds / 2);
	kit_close(&k);
	printf("%u rounds with %llu faults: %u ops kept, %u refused, and the store knows it the same way\n", rounds,
	       (unsigned long long)vfs_faults_hit(), kept, failed);
}

int main(int argc, char **argv)
{
	unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 60;
	uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	char *folder = kit_folder(), text[STORE_TEXT];
	struct kit k = the_kit(folder);
	vfs_install();
	vfs_format();
	CHECK_INT(kit_open(&k, text), STORE_OK);
	kit_close(&k);
	vfs_keep();
	power_rounds(folder, rounds, seed);
	fault_rounds(folder, rounds / 2, seed);
	free(folder);
	return 0;
}
