/* loader.h: the thread that loads adapters, and gives back the memory of those that went.
 *
 * It asks the scheduler for what others leave over: while the engine uses every CPU, a load takes longer instead of the steps. */
#ifndef WEFT_DAEMON_LOADER_H
#define WEFT_DAEMON_LOADER_H

#include "adapters.h"

struct loader;
int loader_new(struct loader **out, void (*wake)(void *arg), void *arg); /* wake: [loader] loader_take() has something */
void loader_free(struct loader *l); /* after the load under way; what was not taken is dropped. NULL is fine. */
void loader_submit(struct loader *l, struct adapter_load *load); /* takes it over, in the order of coming */
struct adapter_load *loader_take(struct loader *l);              /* done, oldest first; NULL: none */
void loader_drop(struct loader *l, struct adapter_version *list);

#endif
