/* boot.h: what must be there before weftd serves: the model, the plugins, the engine, and a proof that they work together. */
#ifndef WEFT_DAEMON_BOOT_H
#define WEFT_DAEMON_BOOT_H

#include "conf.h"
#include "engine.h"

/* Loads the model; takes minutes for a large one. progress is set to 0..1000. 0, or an exit code with the reason. [any thread] */
int boot_model(struct core_model **out, const struct conf *c, atomic_int *progress, char why[static CONF_WHY]);
/* All plugins of the configured folders. NULL with the reason: not one decoder, or out of memory. What is left out is logged.
 * [loop] */
struct plugin_set *boot_plugins(const struct conf *c, char why[static CONF_WHY]);
/* Makes the engine: memory for keys and values is taken here. [any thread] */
int boot_engine(struct engine **out, const struct conf *c, const struct core_model *model, void (*wake)(void *arg), void *arg,
		char why[static CONF_WHY]);
/* One token of an answer to BOS, as any job would be run. NULL: out of memory, or the decoder `sample` is missing. [loop] */
struct engine_job *boot_test_job(struct plugin_set *plugins, const struct core_model *model, char why[static CONF_WHY]);
#define BOOT_TEST_ID UINT64_MAX

/* The lock of the state folder: held until the process ends. 0, or an exit code with the reason. [loop] */
int boot_lock_state(const char *folder, char why[static CONF_WHY]);

#endif
