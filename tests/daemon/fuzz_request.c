/* Fuzz target: a request from its bytes to the draft of a job, and the configuration file; without sockets and without an engine.
 * The first byte chooses: 'c' a configuration, anything else a request. What must hold: no crash, no leak, a refusal has a code and
 * a text, and a draft that was accepted has a prompt, known tokens and readable options. */
#include "daemon/conf.h"
#include "daemon/request.h"
#include "daemon/server.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(x)                                                                                                                   \
	do {                                                                                                                       \
		if (!(x)) {                                                                                                        \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                                                    \
			abort();                                                                                                   \
		}                                                                                                                  \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct server server;
static struct core_tokenizer *tokenizer;

static void report(void *arg, const char *text)
{
	fprintf(stderr, "%s\n", text);
}

/* The tokenizer of the demo model and the plugins that were built; without them there is nothing to fuzz. */
static void set_up(void)
{
	const char *top = getenv("top_srcdir"), *build = getenv("top_builddir");
	char path[1024], plugins[1024];
	struct core_error err;
	snprintf(path, sizeof path, "%s/tests/demo/model/tokenizer.model", top ? top : ".");
	snprintf(plugins, sizeof plugins, "%s/plugins/.libs", build ? build : ".");
	if (core_tokenizer_load(&tokenizer, path, &err)) {
		printf("SKIP: %s\n", err.text);
		exit(77);
	}
	const char *dirs[] = {plugins};
	server.plugins = plugin_set_load(dirs, 1, report, NULL);
	CHECK(server.plugins && plugin_find(server.plugins, "sample") && plugin_find(server.plugins, "score"));
	server.env = (struct draft_env){.plugins = server.plugins,
					.tokenizer = tokenizer,
					.vocab = core_tokenizer_size(tokenizer),
					.context = 512,
					.longest_piece = draft_longest_piece(tokenizer),
					.template = template_find("fashiongpt", 10)};
}

static void check_draft(const struct draft *d)
{
	struct wire_msg m;
	const char *why;
	CHECK(wire_topic_valid(d->topic, strlen(d->topic)));
	CHECK(wire_decode(&m, d->options, d->options_len, &why) == 0);
	wire_finish(&m);
	if (!d->work)
		return; /* a task */
	CHECK(d->work->n_prompt >= 1 && d->work->n_prompt < server.env.context);
	for (size_t i = 0; i < d->work->n_prompt; i++)
		CHECK(d->work->prompt[i] >= 0 && (uint32_t)d->work->prompt[i] < server.env.vocab);
	CHECK(d->n_choices >= 1 && d->n_choices <= DRAFT_MAX_N && d->tokens >= d->work->n_prompt);
}

static void fuzz_request(const uint8_t *data, size_t size)
{
	struct request r;
	request_init(&r, &server, "", data, size);
	request_prepare(&r);
	if (r.problem.code != WIRE_OK) {
		struct wire_buf b;
		struct wire_msg m;
		const char *why;
		size_t len;
		CHECK(r.problem.text[0] && wire_code_name(r.problem.code));
		wire_buf_init(&b);
		request_answer(&r, &server, &b);
		void *reply = wire_buf_take(&b, &len);
		wire_buf_finish(&b);
		CHECK(reply && wire_decode(&m, reply, len, &why) == 0); /* whatever it quotes, it is a good reply */
		wire_finish(&m);
		free(reply);
	} else if (r.draft.work || r.draft.task) {
		check_draft(&r.draft);
	}
	request_finish(&r);
}

static void fuzz_conf(const uint8_t *data, size_t size)
{
	struct conf c;
	char why[CONF_WHY] = "";
	FILE *f = size ? fmemopen((void *)data, size, "r") : NULL;
	if (!f)
		return;
	CHECK(conf_init(&c) == 0);
	if (conf_parse(&c, f, "fuzz", why))
		CHECK(why[0]);
	else
		conf_check(&c, why);
	fclose(f);
	conf_finish(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!tokenizer)
		set_up();
	if (size && data[0] == 'c')
		fuzz_conf(data + 1, size - 1);
	else
		fuzz_request(data, size);
	return 0;
}

#ifdef FUZZ_STANDALONE
#define TOPIC "0123456789abcdef0123456789abcdef"

/* Seeds that no table of escapes can be read in: built with the writer. */
static size_t make_seed(int i, uint8_t *out, size_t cap)
{
	static const char *const texts[] = {"c[model]\nmodel = /m\nquant = q8\n[queue]\ndrain_timeout = 5min\n",
					    "c[listen]\nrequest = tcp://*:1 ; x\n", "c# x\n[log]\nlog_level=debug\n"};
	struct wire_buf b;
	size_t len;
	if (i < 3) {
		memcpy(out, texts[i], strlen(texts[i]));
		return strlen(texts[i]);
	}
	wire_buf_init(&b);
	wire_map(&b, i == 6 ? 13 : 8);
	wire_str(&b, "v"), wire_uint(&b, 1), wire_str(&b, "id"), wire_uint(&b, 1), wire_str(&b, "topic"), wire_str(&b, TOPIC);
	wire_str(&b, "op"), wire_str(&b, i == 4 ? "score" : i == 6 ? "adapter.fuse" : "generate");
	if (i == 3) {
		wire_str(&b, "messages"), wire_array(&b, 2);
		wire_map(&b, 2), wire_str(&b, "role"), wire_str(&b, "system"), wire_str(&b, "content"), wire_str(&b, "Be kind");
		wire_map(&b, 2), wire_str(&b, "role"), wire_str(&b, "user"), wire_str(&b, "content"), wire_str(&b, "Hi");
		wire_str(&b, "temperature"), wire_float(&b, 0.5), wire_str(&b, "stop"), wire_array(&b, 1), wire_str(&b, "###");
		wire_str(&b, "logit_bias"), wire_map(&b, 1), wire_str(&b, "12"), wire_float(&b, -1);
	} else if (i == 4) {
		wire_str(&b, "tokens"), wire_array(&b, 2), wire_uint(&b, 1), wire_uint(&b, 300);
		wire_str(&b, "continuations"), wire_array(&b, 2), wire_str(&b, " a"), wire_array(&b, 1), wire_uint(&b, 7);
		wire_str(&b, "echo"), wire_bool(&b, true), wire_str(&b, "class"), wire_str(&b, "batch");
	} else if (i == 6) {
		wire_str(&b, "name"), wire_str(&b, "x"), wire_str(&b, "adapters"), wire_map(&b, 2), wire_str(&b, "a");
		wire_float(&b, 0.5), wire_str(&b, "b"), wire_float(&b, -1), wire_str(&b, "type"), wire_str(&b, "dare_ties_svd");
		wire_str(&b, "density"), wire_float(&b, 0.5), wire_str(&b, "svd_rank"), wire_uint(&b, 4);
		wire_str(&b, "seed"), wire_uint(&b, 7), wire_str(&b, "dtype"), wire_str(&b, "f16");
		wire_str(&b, "deadline_ms"), wire_uint(&b, 9), wire_str(&b, "replace"), wire_bool(&b, true);
	} else {
		wire_str(&b, "prompt"), wire_str(&b, "wool"), wire_str(&b, "samplers"), wire_array(&b, 1), wire_str(&b, "top_k");
		wire_str(&b, "decoder"), wire_map(&b, 2), wire_str(&b, "name"), wire_str(&b, "sample"), wire_str(&b, "max_tokens"),
			wire_uint(&b, 4);
		wire_str(&b, "top_k"), wire_uint(&b, 5);
	}
	void *data = wire_buf_take(&b, &len);
	wire_buf_finish(&b);
	CHECK(data && len <= cap);
	memcpy(out, data, len);
	free(data);
	return len;
}

static uint32_t next_random(uint32_t *x) /* xorshift32 */
{
	*x ^= *x << 13;
	*x ^= *x >> 17;
	*x ^= *x << 5;
	return *x;
}

int main(void)
{
	enum { SEEDS = 7, MUTATIONS = 70000, MAX = 1024 };
	uint32_t x = 88172645u;
	uint8_t seed[SEEDS][MAX];
	size_t len[SEEDS];
	for (int i = 0; i < SEEDS; i++) {
		len[i] = make_seed(i, seed[i], MAX);
		LLVMFuzzerTestOneInput(seed[i], len[i]);
	}
	for (int i = 0; i < MUTATIONS; i++) {
		size_t s = next_random(&x) % SEEDS, n = len[s];
		uint8_t *copy = malloc(n); /* its own block, so that a sanitizer sees its end */
		memcpy(copy, seed[s], n);
		for (unsigned edits = 1 + next_random(&x) % 3; edits > 0; edits--) {
			size_t at = next_random(&x) % n;
			if (next_random(&x) % 8 == 0)
				n = at + 1;
			else
				copy[at] = next_random(&x) % 3 ? (uint8_t)next_random(&x)
							       : (uint8_t)(copy[at] ^ 1 << next_random(&x) % 8);
		}
		LLVMFuzzerTestOneInput(copy, n);
		free(copy);
	}
	plugin_set_unref(server.plugins);
	core_tokenizer_free(tokenizer);
	return 0;
}
#endif
