/* template.c: each template is one row: what stands before and after each role's text. A text piece is tokenised by itself, so that
 * it begins as a text does (with the model's dummy space) after BOS and after EOS alike: what the "legacy" tokenisers do with which
 * these models were trained. */
#include "config.h"
#include "template.h"
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BOS "\001" /* in the strings below: these two bytes stand for the tokens */
#define EOS "\002"

struct template
{
	const char *name;
	const char *no_system; /* in place of the system block when there is none */
	const char *system[2]; /* around the system text */
	const char *user[2];
	const char *opening; /* ends a user turn: the answer, given or to be made, comes next */
	const char *lead;    /* before a given answer: a model makes it by itself */
	const char *closing; /* after a given answer */
	const char *between; /* before every user turn but the first */
	const char *bare;    /* a first user turn that follows a system text begins with this instead of user[0]; NULL: user[0] */
	const char *stops[4];
	const char *marks[3]; /* texts that a message must not hold: this vocabulary may have them as special tokens */
	bool strip;           /* white space around each text goes */
	bool loose;           /* any order of roles */
};

/* fashiongpt: the model card gives "### System:\n{}\n### User:\n{}\n### Assistant:\n{}"; EOS and a newline between turns are the
 * convention of our demo model (tests/demo). llama-2-chat puts the system text into the first user turn. */
static const struct template templates[] = {
	{"fashiongpt",
	 "",
	 {"### System:\n", "\n"},
	 {"### User:\n", "\n"},
	 "### Assistant:\n",
	 "",
	 EOS,
	 "\n",
	 NULL,
	 {"### User:", "### System:", "### Assistant:"},
	 {NULL},
	 false,
	 false},
	{"llama-2-chat",
	 "",
	 {"[INST] <<SYS>>\n", "\n<</SYS>>\n\n"},
	 {"[INST] ", " [/INST]"},
	 "",
	 " ",
	 " " EOS BOS,
	 "",
	 "",
	 {NULL},
	 {NULL},
	 true,
	 false},
	{"chatml",
	 "",
	 {"<|im_start|>system\n", "<|im_end|>\n"},
	 {"<|im_start|>user\n", "<|im_end|>\n"},
	 "<|im_start|>assistant\n",
	 "",
	 "<|im_end|>\n",
	 "",
	 NULL,
	 {"<|im_end|>", "<|im_start|>"},
	 {"<|im_start|>", "<|im_end|>"},
	 false,
	 false},
	{"alpaca",
	 "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n",
	 {"", "\n\n"},
	 {"### Instruction:\n", "\n\n"},
	 "### Response:\n",
	 "",
	 EOS,
	 "\n\n",
	 NULL,
	 {"### Instruction:", "### Response:"},
	 {NULL},
	 false,
	 false},
	{"vicuna",
	 "A chat between a curious user and an artificial intelligence assistant. "
	 "The assistant gives helpful, detailed, and polite answers to the user's questions. ",
	 {"", " "},
	 {"USER: ", " "},
	 "ASSISTANT:",
	 " ",
	 EOS,
	 "",
	 NULL,
	 {"USER:"},
	 {NULL},
	 true,
	 false},
	{"none", "", {"", ""}, {"", ""}, "", "", "", "\n", NULL, {NULL}, {NULL}, false, true},
};

const struct template *template_find(const char *name, size_t len)
{
	for (size_t i = 0; i < sizeof templates / sizeof *templates; i++)
		if (strlen(templates[i].name) == len && memcmp(templates[i].name, name, len) == 0)
			return &templates[i];
	return NULL;
}

const char *template_name(const struct template *t)
{
	return t->name;
}

const char *const *template_stops(const struct template *t, size_t *n)
{
	*n = 0;
	while (*n < sizeof t->stops / sizeof *t->stops && t->stops[*n])
		++*n;
	return t->stops;
}

/* ---- pieces ---- */

void pieces_finish(struct pieces *p)
{
	for (size_t i = 0; i < p->n; i++)
		free(p->list[i].text);
	free(p->list);
	*p = (struct pieces){0};
}

static struct piece *pieces_add(struct pieces *p, enum piece_kind kind)
{
	if (p->n == p->cap) {
		size_t cap = p->cap ? 2 * p->cap : 8;
		struct piece *list = realloc(p->list, cap * sizeof *list);
		if (!list)
			return NULL;
		p->list = list;
		p->cap = cap;
	}
	p->list[p->n] = (struct piece){.kind = kind};
	return &p->list[p->n++];
}

int pieces_text(struct pieces *p, const char *text, size_t len)
{
	if (len == 0)
		return 0;
	struct piece *last = p->n ? &p->list[p->n - 1] : NULL;
	if (!last || last->kind != PIECE_TEXT)
		last = pieces_add(p, PIECE_TEXT);
	if (!last)
		return -1;
	if (last->len + len > last->cap) {
		size_t cap = (last->len + len) * 3 / 2;
		char *grown = realloc(last->text, cap);
		if (!grown)
			return -1;
		last->text = grown;
		last->cap = cap;
	}
	memcpy(last->text + last->len, text, len);
	last->len += len;
	return 0;
}

/* A string of the table: its BOS and EOS bytes become tokens. Message texts never come here. */
static int put_marks(struct pieces *p, const char *s)
{
	while (*s) {
		size_t n = strcspn(s, BOS EOS);
		if (pieces_text(p, s, n))
			return -1;
		s += n;
		if (*s && !pieces_add(p, *s++ == *BOS ? PIECE_BOS : PIECE_EOS))
			return -1;
	}
	return 0;
}

/* ---- rendering ---- */

static struct message stripped(const struct template *t, struct message m)
{
	if (!t->strip)
		return m;
	while (m.len && strchr(" \t\r\n", m.text[0])) {
		m.text++;
		m.len--;
	}
	while (m.len && strchr(" \t\r\n", m.text[m.len - 1]))
		m.len--;
	return m;
}

static const char *mark_inside(const struct template *t, const struct message *m)
{
	for (size_t i = 0; i < sizeof t->marks / sizeof *t->marks && t->marks[i]; i++)
		if (memmem(m->text, m->len, t->marks[i], strlen(t->marks[i])))
			return t->marks[i];
	return NULL;
}

/* system? (user assistant)* user: every template needs this order; `none` takes any. */
static int check_order(const struct template *t, const struct message *m, size_t n, size_t *at, char *why)
{
	size_t first = n && m[0].role == ROLE_SYSTEM;
	for (size_t i = 0; i < n; i++) {
		*at = i;
		const char *mark = mark_inside(t, &m[i]);
		if (mark) {
			snprintf(why, TEMPLATE_WHY, "the text holds %s, a mark of the template %s", mark, t->name);
			return -1;
		}
		enum message_role due = i < first ? ROLE_SYSTEM : (i - first) % 2 ? ROLE_ASSISTANT : ROLE_USER;
		if (!t->loose && m[i].role != due) {
			snprintf(why, TEMPLATE_WHY,
				 "expected role %s here: an optional system message, then user and assistant in turn",
				 due == ROLE_USER        ? "user"
				 : due == ROLE_ASSISTANT ? "assistant"
							 : "system");
			return -1;
		}
	}
	*at = n ? n - 1 : 0;
	if (n == 0 || (!t->loose && m[n - 1].role != ROLE_USER)) {
		snprintf(why, TEMPLATE_WHY, "the last message must be the user's");
		return -1;
	}
	return 0;
}

static int put_turn(const struct template *t, const struct message *m, size_t i, struct pieces *out)
{
	size_t first_user = m[0].role == ROLE_SYSTEM;
	struct message text = stripped(t, m[i]);
	if (i > 0 && (t->loose || (m[i].role == ROLE_USER && i > first_user)) && put_marks(out, t->between))
		return -1;
	if (m[i].role == ROLE_ASSISTANT)
		return put_marks(out, t->lead) || pieces_text(out, text.text, text.len) || put_marks(out, t->closing) ? -1 : 0;
	const char *const *around = m[i].role == ROLE_SYSTEM ? t->system : t->user;
	const char *before = m[i].role == ROLE_USER && i == 1 && first_user && t->bare ? t->bare : around[0];
	if (put_marks(out, before) || pieces_text(out, text.text, text.len) || put_marks(out, around[1]))
		return -1;
	return m[i].role == ROLE_USER ? put_marks(out, t->opening) : 0;
}

int template_render(const struct template *t, const struct message *m, size_t n, struct pieces *out, size_t *at,
		    char why[static TEMPLATE_WHY])
{
	if (check_order(t, m, n, at, why))
		return -1;
	if (!pieces_add(out, PIECE_BOS))
		return -2;
	if (m[0].role != ROLE_SYSTEM && put_marks(out, t->no_system))
		return -2;
	for (size_t i = 0; i < n; i++)
		if (put_turn(t, m, i, out))
			return -2;
	return 0;
}
