/* store_conformance.h: facts about the store, each run on an empty one, for every backend. */
#ifndef WEFT_TESTS_STORE_CONFORMANCE_H
#define WEFT_TESTS_STORE_CONFORMANCE_H

#include "store_kit.h"

struct fact {
	const char *name;
	void (*run)(struct kit *k);
};
#define FACT(name)                                                                                                                 \
	{                                                                                                                          \
#name, name                                                                                                        \
	}
extern const struct fact facts_of_jobs[], facts_of_holding[], facts_of_batches[], facts_of_fleets[];

#endif
