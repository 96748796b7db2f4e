/* keys.c: key files hold one key in Z85, 40 characters, on a line of its own; lines that begin with '#' are comments. */
#include "keys.h"
#include <dirent.h>
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

enum { KEYS_MAX = 100000 }; /* files in the folder of client keys */

static int read_key(const char *path, char key[static KEY_LEN + 1], char *why)
{
	char line[256];
	unsigned char raw[32];
	FILE *f = fopen(path, "re");
	if (!f) {
		snprintf(why, CONF_WHY, "%s: %s", path, strerror(errno));
		return -1;
	}
	int rc = -1;
	while (rc && fgets(line, sizeof line, f)) {
		line[strcspn(line, " \t\r\n")] = 0;
		if (line[0] == 0 || line[0] == '#')
			continue;
		if (strlen(line) == KEY_LEN && zmq_z85_decode(raw, line)) {
			memcpy(key, line, KEY_LEN + 1);
			rc = 0;
		}
		break;
	}
	if (rc)
		snprintf(why, CONF_WHY, "%s: expected a key of %d characters in Z85", path, KEY_LEN);
	fclose(f);
	sodium_memzero(line, sizeof line);
	sodium_memzero(raw, sizeof raw);
	return rc;
}

static int compare(const void *a, const void *b)
{
	return memcmp(a, b, KEY_LEN);
}

static int add_key(struct key_list *l, size_t *cap, const char *path, char *why)
{
	if (l->n == *cap) {
		size_t more = *cap ? 2 * *cap : 16;
		void *grown = l->n < KEYS_MAX ? realloc(l->keys, more * sizeof *l->keys) : NULL;
		if (!grown) {
			snprintf(why, CONF_WHY, "%.400s: too many keys, or out of memory", path);
			return -1;
		}
		l->keys = grown;
		*cap = more;
	}
	if (read_key(path, l->keys[l->n], why))
		return -1;
	l->n++;
	return 0;
}

int key_list_load(struct key_list *l, const char *folder, char why[static CONF_WHY])
{
	char path[4096];
	size_t cap = 0;
	int rc = 0;
	struct dirent *e;
	*l = (struct key_list){0};
	DIR *d = opendir(folder);
	if (!d) {
		snprintf(why, CONF_WHY, "curve_clients = %s: %s", folder, strerror(errno));
		return -1;
	}
	while (!rc && (e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
		rc = add_key(l, &cap, path, why);
	}
	closedir(d);
	if (rc) {
		key_list_finish(l);
		return -1;
	}
	if (l->n)
		qsort(l->keys, l->n, sizeof *l->keys, compare);
	return 0;
}

void key_list_finish(struct key_list *l)
{
	free(l->keys);
	*l = (struct key_list){0};
}

bool key_list_has(const struct key_list *l, const char *key)
{
	return l->n && bsearch(key, l->keys, l->n, sizeof *l->keys, compare);
}

int keys_load(struct keys *k, const struct conf *c, char why[static CONF_WHY])
{
	const char *credentials = getenv("CREDENTIALS_DIRECTORY");
	char path[4096];
	bool tcp = strncmp(c->request, "tcp://", 6) == 0 || strncmp(c->answer, "tcp://", 6) == 0;
	*k = (struct keys){.wanted = tcp && !c->allow_plain_tcp};
	if (!k->wanted)
		return 0;
	if (c->curve_secret[0]) {
		snprintf(path, sizeof path, "%s", c->curve_secret);
	} else if (credentials && credentials[0]) {
		snprintf(path, sizeof path, "%s/weftd.curve.secret", credentials);
	} else {
		snprintf(why, CONF_WHY, "a tcp endpoint needs curve_secret (or the systemd credential weftd.curve.secret)");
		return -1;
	}
	if (read_key(path, k->secret, why))
		return -1;
	if (zmq_curve_public(k->public, k->secret)) {
		snprintf(why, CONF_WHY, "%.400s: not a secret key, or libzmq was built without CURVE", path);
		return -1;
	}
	if (key_list_load(&k->clients, c->curve_clients, why))
		return -1;
	if (k->clients.n == 0) {
		snprintf(why, CONF_WHY, "curve_clients = %s: no key in it: nobody could connect", c->curve_clients);
		return -1;
	}
	return 0;
}

void keys_finish(struct keys *k)
{
	sodium_memzero(k->secret, sizeof k->secret);
	key_list_finish(&k->clients);
}
