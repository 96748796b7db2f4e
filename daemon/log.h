/* log.h: weftd's log: one line per fact on stderr, with a level and, where there is one, the job. [any thread]
 *
 * When stderr is the journal, a line begins with <n> (the syslog level), so that `journalctl -p` works; otherwise with time and
 * level. No line ever holds prompt or answer text: log.c has no function that takes such text, and callers name sizes and ids only.
 */
#ifndef WEFT_DAEMON_LOG_H
#define WEFT_DAEMON_LOG_H

#include <stdint.h>

enum log_level { LOG_AT_ERROR = 3, LOG_AT_WARNING = 4, LOG_AT_NOTICE = 5, LOG_AT_INFO = 6, LOG_AT_DEBUG = 7 }; /* as syslog */

void log_start(void);                             /* looks once at where stderr goes */
void log_set_level(enum log_level level);         /* lines above it are dropped */
enum log_level log_level_parse(const char *name); /* of the names in weftd.conf(5); info for an unknown one */
/* One line. job 0: none. Control characters become '?', so that no text can forge a line. */
void log_line(enum log_level level, uint64_t job, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#define log_error(...) log_line(LOG_AT_ERROR, 0, __VA_ARGS__)
#define log_warning(...) log_line(LOG_AT_WARNING, 0, __VA_ARGS__)
#define log_notice(...) log_line(LOG_AT_NOTICE, 0, __VA_ARGS__)
#define log_info(...) log_line(LOG_AT_INFO, 0, __VA_ARGS__)
#define log_debug(...) log_line(LOG_AT_DEBUG, 0, __VA_ARGS__)

#endif
