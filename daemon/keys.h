/* keys.h: CURVE keys: the server's secret, and the list of client keys that may connect. Knows files, not sockets. */
#ifndef WEFT_DAEMON_KEYS_H
#define WEFT_DAEMON_KEYS_H

#include "conf.h"

enum { KEY_LEN = 40 }; /* Z85 */

struct key_list {
	char (*keys)[KEY_LEN + 1]; /* [n], sorted */
	size_t n;
};
struct keys {
	bool wanted; /* a tcp endpoint with CURVE is configured */
	char secret[KEY_LEN + 1], public[KEY_LEN + 1];
	struct key_list clients;
};
/* Reads what conf names. 0, or -1 with the reason: a key that cannot be read, or a list without any client. */
int keys_load(struct keys *k, const struct conf *c, char why[static CONF_WHY]);
void keys_finish(struct keys *k);
/* One key for each file of the folder (its first line that is not a comment); files that begin with '.' are not read. */
int key_list_load(struct key_list *l, const char *folder, char why[static CONF_WHY]);
void key_list_finish(struct key_list *l);
bool key_list_has(const struct key_list *l, const char *key);

#endif
