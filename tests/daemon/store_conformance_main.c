/* store_conformance_main.c: runs the facts: argv[1] is the URL of an empty server (each fact gets a schema of its own), or missing: SQLite. argv[2..]:
 * only these. */
#include "store_conformance.h"
#include <stdlib.h>
#include <string.h>

static bool chosen(int argc, char **argv, const char *name)
{
	for (int i = 2; i < argc; i++)
		if (strcmp(argv[i], name) == 0)
			return true;
	return argc <= 2;
}

int conformance_main(int argc, char **argv, const struct fact *facts)
{
	char *folder = kit_folder(), text[STORE_TEXT];
	const char *url = argc > 1 && strcmp(argv[1], "-") != 0 ? argv[1] : NULL;
	int n = 0;
	for (; facts->name; facts++) {
		struct kit k = {.model = "m1"};
		if (!chosen(argc, argv, facts->name))
			continue;
		if (url)
			snprintf(k.url, sizeof(k.url), "%s%cschema=fact_%d", url, strchr(url, '?') ? '&' : '?', n);
		else
			snprintf(k.url, sizeof(k.url), "sqlite:%s/fact-%d.db", folder, n);
		n++;
		int rc = kit_open(&k, text);
		if (rc < 0) {
			fprintf(stderr, "%s: %s\n", k.url, text);
			return 1;
		}
		facts->run(&k);
		kit_close(&k);
		printf("ok: %s\n", facts->name);
		fflush(stdout);
	}
	free(folder);
	return n ? 0 : 1;
}
