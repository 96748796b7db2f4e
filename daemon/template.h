/* template.h: chat messages to a prompt: pieces of text and special tokens, so that a message can never inject a special token.
 * [any thread] */
#ifndef WEFT_DAEMON_TEMPLATE_H
#define WEFT_DAEMON_TEMPLATE_H

#include <stddef.h>

#define TEMPLATE_NAMES "fashiongpt|llama-2-chat|chatml|alpaca|vicuna|none"

enum message_role { ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT };
struct message {
	enum message_role role;
	const char *text; /* borrowed; [len], not NUL-terminated */
	size_t len;
};

enum piece_kind { PIECE_TEXT, PIECE_BOS, PIECE_EOS };
struct piece {
	enum piece_kind kind;
	char *text; /* PIECE_TEXT: [len]; owned */
	size_t len, cap;
};
struct pieces {
	struct piece *list;
	size_t n, cap;
};
void pieces_finish(struct pieces *p);
int pieces_text(struct pieces *p, const char *text, size_t len); /* appends; -1: out of memory */

struct template;
const struct template *template_find(const char *name, size_t len); /* NULL: none of that name */
const char *template_name(const struct template *t);
const char *const *template_stops(const struct template *t, size_t *n); /* strings that end an answer */

enum { TEMPLATE_WHY = 160 };
/* Renders messages and the opening of the assistant's answer. 0; -1 with the reason in why (a message out of order or with a mark
 * of the template in it), and its index in *at; -2: out of memory. BOS stands in front, as the first piece. */
int template_render(const struct template *t, const struct message *m, size_t n, struct pieces *out, size_t *at,
		    char why[static TEMPLATE_WHY]);

#endif
