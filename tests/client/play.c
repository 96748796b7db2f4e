/* play: the examples of PROTOCOL.md.
 *
 *	play check FILE			encodes each request and compares it with its hex
 *	play hex FILE			writes the file with the hex put in, to standard output
 *	play live FILE REQUEST ANSWER	plays all of them, in order, against a server
 *
 * Lines of a ```weft block: > request, = hex, < reply, * event. See section 13 of the page. */
#include "client/wire-json.h"
#include "client/wire.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

enum { LONG = 60000, HEX_COLUMNS = 64 };

static const char *file_name;
static int line_number;
static int failures;

static void complain(const char *what, const char *detail)
{
	printf("%s:%d: %s%s%s\n", file_name, line_number, what, detail != NULL ? ": " : "", detail != NULL ? detail : "");
	failures++;
}

static json_t *parse(const char *text)
{
	json_error_t error;
	json_t *v = json_loads(text, JSON_REJECT_DUPLICATES, &error);

	if (v == NULL) {
		complain("no JSON", error.text);
		exit(1);
	}
	return v;
}

/* ---- encoding ---- */

static char *hex_of(const struct wire_buf *b)
{
	char *text = calloc(2, b->out.size + 1);

	for (size_t i = 0; i < b->out.size; i++)
		sprintf(text + 2 * i, "%02x", (unsigned char)b->out.data[i]);
	return text;
}

static char *encode(const char *json)
{
	json_t *v = parse(json), *back;
	struct wire_buf b;
	struct wire_msg m;
	const char *why;
	char *text;

	wire_buf_init(&b);
	wire_from_json(&b, v);
	text = hex_of(&b);
	if (wire_decode(&m, b.out.data, b.out.size, &why) == 0) {
		back = wire_to_json(&m.root);
		if (!json_equal(v, back))
			complain("does not decode to what was encoded", json);
		json_decref(back);
		wire_finish(&m);
	} else if (strstr(json, "\"v\": 1") != NULL) {
		complain("cannot be decoded", why);
	}
	json_decref(v);
	wire_buf_finish(&b);
	return text;
}

/* ---- live ---- */

struct live {
	void *context, *request, *answer;
};

static void set_up(struct live *l, const char *request, const char *answer, const char *topic)
{
	const int zero = 0, timeout = LONG;

	l->context = zmq_ctx_new();
	l->request = zmq_socket(l->context, ZMQ_DEALER);
	l->answer = zmq_socket(l->context, ZMQ_SUB);
	zmq_setsockopt(l->request, ZMQ_LINGER, &zero, sizeof(zero));
	zmq_setsockopt(l->request, ZMQ_RCVTIMEO, &timeout, sizeof(timeout));
	zmq_setsockopt(l->answer, ZMQ_RCVTIMEO, &timeout, sizeof(timeout));
	zmq_setsockopt(l->answer, ZMQ_SUBSCRIBE, topic, strlen(topic));
	zmq_connect(l->request, request);
	zmq_connect(l->answer, answer);
}

static void tear_down(struct live *l)
{
	zmq_close(l->request);
	zmq_close(l->answer);
	zmq_ctx_term(l->context);
}

/* The last part of the next message, as JSON; NULL: nothing came, or no protocol. */
static json_t *receive(void *socket)
{
	struct wire_msg m;
	const char *why = "nothing came";
	json_t *v = NULL;
	zmq_msg_t msg;
	int more;

	do {
		zmq_msg_init(&msg);
		if (zmq_msg_recv(&msg, socket, 0) < 0) {
			zmq_msg_close(&msg);
			break;
		}
		more = zmq_msg_more(&msg);
		if (!more && wire_decode(&m, zmq_msg_data(&msg), zmq_msg_size(&msg), &why) == 0) {
			v = wire_to_json(&m.root);
			wire_finish(&m);
		}
		zmq_msg_close(&msg);
	} while (more);
	if (v == NULL)
		complain("the server sent no message of the protocol", why);
	return v;
}

/* What the pattern says is there; "..." is anything; further keys are fine. */
static bool matches(const json_t *pattern, const json_t *v)
{
	const char *key;
	json_t *member;

	if (json_is_string(pattern) && strcmp(json_string_value(pattern), "...") == 0)
		return v != NULL;
	if (json_is_object(pattern) && json_is_object(v)) {
		json_object_foreach((json_t *)pattern, key, member) if (!matches(member, json_object_get(v, key))) return false;
		return true;
	}
	if (json_is_array(pattern) && json_is_array(v)) {
		if (json_array_size(pattern) != json_array_size(v))
			return false;
		for (size_t i = 0; i < json_array_size(v); i++)
			if (!matches(json_array_get(pattern, i), json_array_get(v, i)))
				return false;
		return true;
	}
	if (json_is_number(pattern) && json_is_number(v))
		return json_number_value(pattern) == json_number_value(v);
	return v != NULL && json_equal(pattern, v);
}

static void compare(const json_t *pattern, json_t *v)
{
	char *text;

	if (v == NULL || matches(pattern, v))
		return;
	text = json_dumps(v, 0);
	complain("the server sent something else", text);
	free(text);
}

static void send_hex(struct live *l, const char *hex)
{
	size_t n = strlen(hex) / 2;
	unsigned char *bytes = malloc(n + 1);

	for (size_t i = 0; i < n; i++)
		sscanf(hex + 2 * i, "%2hhx", &bytes[i]);
	zmq_send(l->request, bytes, n, 0);
	free(bytes);
}

/* Says hello until its event comes, as section 3 has it: from here on the subscription works. Late repetitions are skipped as
 * events between. */
static void handshake(struct live *l, const char *hex)
{
	const int often = 100, timeout = LONG;
	json_t *v;
	int tries = 0;
	char part[64];

	zmq_setsockopt(l->answer, ZMQ_RCVTIMEO, &often, sizeof(often));
	do {
		send_hex(l, hex);
		v = receive(l->request);
		json_decref(v);
	} while (zmq_recv(l->answer, part, sizeof(part), 0) < 0 && ++tries < 300);
	zmq_setsockopt(l->answer, ZMQ_RCVTIMEO, &timeout, sizeof(timeout));
	json_decref(receive(l->answer));
}

static void expect(struct live *l, char mark, const char *text)
{
	json_t *pattern = parse(text), *v = NULL;
	const char *kind = json_string_value(json_object_get(pattern, "event"));

	if (mark == '<') {
		v = receive(l->request);
	} else {
		do { /* events of other kinds may stand between */
			json_decref(v);
			v = receive(l->answer);
		} while (v != NULL && kind != NULL && strcmp(json_string_value(json_object_get(v, "event")), kind) != 0);
	}
	compare(pattern, v);
	json_decref(v);
	json_decref(pattern);
}

/* ---- the file ---- */

struct player {
	bool hex, live;
	const char *request_endpoint, *answer_endpoint;
	struct live l;
	bool set_up;
	char *due;         /* encoding of the request whose hex is being read; NULL: none */
	char given[65536]; /* hex read so far */
	bool raw;          /* hex without a request */
	int examples;
};

static void send_due(struct player *p, const char *hex)
{
	if (!p->live)
		return;
	if (!p->set_up) {
		set_up(&p->l, p->request_endpoint, p->answer_endpoint, "00112233445566778899aabbccddeeff");
		handshake(&p->l, hex);
		p->set_up = true;
	}
	send_hex(&p->l, hex);
}

/* The request and its hex are complete. */
static void settle(struct player *p)
{
	if (p->due == NULL && p->given[0] == 0)
		return;
	if (p->due != NULL && !p->hex && strcmp(p->due, p->given) != 0)
		complain("the hex above is not the request; it would be", p->due);
	send_due(p, p->due != NULL ? p->due : p->given);
	p->examples++;
	free(p->due);
	p->due = NULL;
	p->given[0] = 0;
}

static void take_hex(struct player *p, const char *text)
{
	size_t n = strlen(p->given);

	for (; *text != 0 && n + 1 < sizeof(p->given); text++)
		if (isxdigit((unsigned char)*text))
			p->given[n++] = *text;
	p->given[n] = 0;
}

static void print_hex(const char *hex)
{
	for (; *hex != 0; hex += strlen(hex) < HEX_COLUMNS * 2 ? strlen(hex) : HEX_COLUMNS * 2)
		printf("= %.*s\n", HEX_COLUMNS * 2, hex);
}

static void take_line(struct player *p, const char *line)
{
	bool keep = true;

	if (line[0] == '=' && (p->due != NULL || p->given[0] != 0)) {
		keep = p->due == NULL;
		take_hex(p, line + 1);
	} else {
		settle(p);
		if (line[0] == '>')
			p->due = encode(line + 1);
		else if (line[0] == '=')
			take_hex(p, line + 1);
		else if ((line[0] == '<' || line[0] == '*') && p->live)
			expect(&p->l, line[0], line + 1);
		else if (line[0] == '<' || line[0] == '*')
			json_decref(parse(line + 1));
	}
	if (p->hex && keep)
		fputs(line, stdout);
	if (p->hex && line[0] == '>')
		print_hex(p->due);
}

int main(int argc, char **argv)
{
	struct player p = {0};
	bool inside = false;
	char line[8192];
	FILE *f;

	if (argc < 3 || (strcmp(argv[1], "live") == 0 && argc < 5))
		return 2;
	p.hex = strcmp(argv[1], "hex") == 0;
	p.live = strcmp(argv[1], "live") == 0;
	p.request_endpoint = argv[3];
	p.answer_endpoint = p.live ? argv[4] : NULL;
	file_name = argv[2];
	f = fopen(file_name, "r");
	if (f == NULL) {
		perror(file_name);
		return 1;
	}
	while (fgets(line, sizeof(line), f) != NULL) {
		line_number++;
		if (strncmp(line, "```", 3) == 0) {
			settle(&p);
			inside = strcmp(line, "```weft\n") == 0;
		}
		if (inside && strncmp(line, "```", 3) != 0)
			take_line(&p, line);
		else if (p.hex)
			fputs(line, stdout);
	}
	fclose(f);
	if (p.set_up)
		tear_down(&p.l);
	if (!p.hex)
		printf("%d requests, %d failures\n", p.examples, failures);
	return failures > 0 || p.examples == 0;
}
