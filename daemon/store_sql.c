/* store_sql.c: the statements' texts, and binding and reading in terms of a driver. */
#include "store_sql.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *name, *text;
} statements[SQL_N] = {
#define SQL(id, text) {#id, text},
#include "store_statements.h"
#undef SQL
};

const char *sql_name(enum sql_id id)
{
	return statements[id].name;
}

/* Copies text with the words in braces replaced. A text that does not fit is a bug of this file and is cut, which no database
 * accepts. */
void sql_render_text(const struct sql_driver *driver, const char *text, char *out, size_t size)
{
	const struct {
		const char *word, *value;
	} words[] = {{"{lock}", driver->lock},
		     {"{skip}", driver->skip},
		     {"{blob}", driver->blob},
		     {"{id}", driver->id_key},
		     {"{norowid}", driver->norowid}};
	size_t n = 0;
	while (*text && n + 1 < size) {
		const char *value = NULL;
		for (size_t i = 0; *text == '{' && i < sizeof(words) / sizeof(words[0]); i++) {
			size_t len = strlen(words[i].word);
			if (strncmp(text, words[i].word, len) != 0)
				continue;
			value = words[i].value;
			text += len;
			break;
		}
		if (!value) {
			out[n++] = *text++;
			continue;
		}
		size_t len = strlen(value);
		if (len >= size - n)
			break;
		memcpy(out + n, value, len);
		n += len;
	}
	out[n] = 0;
}

void sql_render(const struct sql_driver *driver, enum sql_id id, char out[static SQL_TEXT_MAX])
{
	sql_render_text(driver, statements[id].text, out, SQL_TEXT_MAX);
}

/* ---- binding
 * --------------------------------------------------------------------------------------------------------------------- */

/* The parameters are left as they are: sql_run() and the like look at the first n only. */
void sql_start(struct sql *q, struct db *db, enum sql_id id)
{
	q->db = db;
	q->id = id;
	q->n = 0;
	q->result = NULL;
	q->row = 0;
	q->code = STORE_OK;
}

void sql_int(struct sql *q, int64_t v)
{
	q->param[q->n++] = (struct sql_param){.type = SQL_INT, .i = v};
}

void sql_text(struct sql *q, const char *s)
{
	q->param[q->n++] = (struct sql_param){.type = SQL_TEXT, .data = s ? s : "", .len = s ? strlen(s) : 0};
}

void sql_bytes(struct sql *q, const void *data, size_t len)
{
	q->param[q->n++] = (struct sql_param){.type = SQL_BYTES, .data = data && len ? data : "", .len = data ? len : 0};
}

void sql_null(struct sql *q)
{
	q->param[q->n++] = (struct sql_param){.type = SQL_NULL};
}

/* ---- running
 * --------------------------------------------------------------------------------------------------------------------- */

int sql_row(struct sql *q)
{
	if (q->code < 0)
		return q->code;
	int rc = q->db->driver->row(q);
	if (rc < 0)
		q->code = rc;
	return rc;
}

int sql_end(struct sql *q)
{
	q->db->driver->end(q);
	return q->code;
}

int sql_run(struct sql *q)
{
	if (q->code == STORE_OK)
		q->code = q->db->driver->run(q);
	return sql_end(q);
}

int sql_run_ints(struct db *db, enum sql_id id, int n, const int64_t *v)
{
	struct sql q;
	sql_start(&q, db, id);
	for (int i = 0; i < n; i++)
		sql_int(&q, v[i]);
	return sql_run(&q);
}

/* ---- reading
 * --------------------------------------------------------------------------------------------------------------------- */

int64_t sql_get_int(struct sql *q, int col)
{
	return q->db->driver->get_int(q, col);
}

uint64_t sql_get_u64(struct sql *q, int col)
{
	return (uint64_t)q->db->driver->get_int(q, col);
}

static int no_memory(struct sql *q)
{
	if (q->code == STORE_OK) {
		q->code = STORE_ENOMEM;
		snprintf(q->db->text, sizeof(q->db->text), "out of memory");
	}
	return q->code;
}

char *sql_get_text(struct sql *q, int col)
{
	size_t len;
	const void *p = q->db->driver->get_bytes(q, col, &len);
	char *s = malloc(len + 1);
	if (!s) {
		no_memory(q);
		return NULL;
	}
	if (len)
		memcpy(s, p, len);
	s[len] = 0;
	return s;
}

void sql_get_text_in(struct sql *q, int col, char *buf, size_t size)
{
	size_t len;
	const void *p = q->db->driver->get_bytes(q, col, &len);
	if (len >= size)
		len = size - 1;
	if (len)
		memcpy(buf, p, len);
	buf[len] = 0;
}

int sql_get_bytes(struct sql *q, int col, struct store_bytes *out)
{
	size_t len;
	const void *p = q->db->driver->get_bytes(q, col, &len);
	*out = (struct store_bytes){0};
	if (!p)
		return 0;
	out->data = malloc(len ? len : 1);
	if (!out->data)
		return no_memory(q);
	if (len)
		memcpy(out->data, p, len);
	out->len = len;
	return 0;
}
