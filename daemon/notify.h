/* notify.h: what weftd tells systemd. Without NOTIFY_SOCKET in the environment every function does nothing. [loop] */
#ifndef WEFT_DAEMON_NOTIFY_H
#define WEFT_DAEMON_NOTIFY_H

#include <stdint.h>

void notify_send(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* lines of VARIABLE=value */
/* How often the watchdog must be fed, in microseconds: half of what the unit says. 0: there is no watchdog for us. */
uint64_t notify_watchdog_us(void);

#endif
