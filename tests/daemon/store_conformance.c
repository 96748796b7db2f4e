/* store_conformance.c: what daemon/store.h promises, held against one backend: store_conformance [URL|- [FACT...]]. Without a URL:
 * SQLite in a temporary folder. With the URL of a server each fact gets a schema of its own. */
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

static void run(const struct fact *fact, const char *url, const char *folder, int n)
{
	struct kit k = {.model = "m1"};
	char text[STORE_TEXT];
	if (url)
		snprintf(k.url, sizeof(k.url), "%s%cschema=fact_%d_%d", url, strchr(url, '?') ? '&' : '?', (int)getpid(), n);
	else
		snprintf(k.url, sizeof(k.url), "sqlite:%s/fact-%d.db", folder, n);
	if (kit_open(&k, text) < 0) {
		fprintf(stderr, "%s: %s: %s\n", fact->name, k.url, text);
		exit(1);
	}
	fact->run(&k);
	kit_close(&k);
	printf("ok: %s\n", fact->name);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	const struct fact *const lists[] = {facts_of_jobs, facts_of_holding, facts_of_batches, facts_of_fleets};
	const char *url = argc > 1 && strcmp(argv[1], "-") != 0 ? argv[1] : NULL;
	char *folder = kit_folder();
	int n = 0;
	for (int i = 0; i < 4; i++) {
		if (lists[i] == facts_of_fleets && !url)
			continue;
		for (const struct fact *f = lists[i]; f->name; f++)
			if (chosen(argc, argv, f->name))
				run(f, url, folder, n++);
	}
	printf("%d facts\n", n);
	free(folder);
	return n ? 0 : 1;
}
