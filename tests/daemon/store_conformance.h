/* store_conformance.h: facts about the store, each run on an empty one. */
#ifndef WEFT_TESTS_STORE_CONFORMANCE_H
#define WEFT_TESTS_STORE_CONFORMANCE_H

#include "store_kit.h"

struct fact {
	const char *name;
	void (*run)(struct kit *k);
};
#define FACT(name) {#name, name}
int conformance_main(int argc, char **argv, const struct fact *facts);

#endif
