/* checker.h: the thread that checks adapters once they are loaded (core_check): one at a time, and only with what CPU time nobody else
 * wants. */
#ifndef WEFT_DAEMON_CHECKER_H
#define WEFT_DAEMON_CHECKER_H

#include "adapters.h"

struct checker;
int checker_new(struct checker **out, void (*wake)(void *arg), void *arg); /* wake: [checker] checker_take() has something */
void checker_free(struct checker *c);                                      /* ends a check that is under way. NULL is fine. */
void checker_submit(struct checker *c, struct adapter_check *check);       /* takes it over; none may be under way */
struct adapter_check *checker_take(struct checker *c);                     /* done; NULL: none */

#endif
