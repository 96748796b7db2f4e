/* row.h: one line of a batch file as a row, and one finished row as a line of output. Two kinds of lines, also mixed in one file:
 *     OpenAI's   {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {...}}
 *     plain      {"prompt" | "messages" | "tokens": ..., further fields of generate; custom_id and op as one likes}
 * A line that is neither becomes a row all the same, a refused one: row numbers are line numbers, and its reason is its error
 * record. Knows no server. */
#ifndef WEFT_ROW_H
#define WEFT_ROW_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct row {
	json_t *wire; /* what batch.add takes: {custom_id, op, request} or {custom_id, refused: {code, message}}; owned */
};

/* line: `len` bytes without its line feed, a NUL behind them. defaults: fields that a row has unless its line says otherwise (an
 * object, borrowed). -1: out of memory. */
int row_parse(struct row *r, const char *line, size_t len, uint64_t number, const json_t *defaults);
void row_finish(struct row *r);

/* A record of batch.results as the line that the user gets (a new reference; NULL: out of memory). *error: it belongs into the file
 * of errors. */
json_t *row_record(const json_t *record, const char *batch, bool *error);
/* Row and cursor of a line that row_record() made, for going on where an output file ends; false: it is none. */
bool row_place(const char *line, const char *batch, uint64_t *row, uint64_t *cursor);

#endif
