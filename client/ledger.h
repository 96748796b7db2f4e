/* ledger.h: the two files of a batch's output, written so that a run that was killed anywhere goes on where it ended: nothing is
 * lost, nothing doubled.
 *
 * Records come in ascending order of their cursors, each into one of two files. A file is cut after its last whole line when it is
 * opened, and that line's cursor says what it has. Beside the output lies OUTPUT.weft, a small JSON file: which batch the output is
 * of, and up to which cursor both files are on disk. */
#ifndef WEFT_LEDGER_H
#define WEFT_LEDGER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct ledger_file {
	FILE *f;
	char *path;
	uint64_t last; /* cursor of its last record; 0: it has none */
};

struct ledger {
	struct ledger_file out, errors; /* errors.f NULL: errors go into out */
	char *mark;                     /* path of OUTPUT.weft; NULL: standard output, no going on */
	char batch[160];
	bool ordered;
	uint64_t cursor; /* both files have everything up to here */
};

/* output "-" is standard output. errors NULL: beside the output, in OUTPUT.errors (standard output: there, too). -1: *why (a
 * buffer) says what is in the way. */
int ledger_open(struct ledger *l, const char *output, const char *errors, const char *batch, bool ordered, char why[static 512]);
/* Appends a line (without its line feed), unless the file has that cursor already. -1: the disk says no. */
int ledger_put(struct ledger *l, const char *line, uint64_t cursor, bool error);
int ledger_sync(struct ledger *l, uint64_t cursor); /* all that was put is on disk, up to this cursor */
int ledger_close(struct ledger *l);                 /* -1: the last writes failed */

#endif
