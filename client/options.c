/* options.c: the command line behind the command's name. Options are long: --name VALUE or --name=VALUE.
 *
 * What is neither global nor the command's own is looked for among the options of the server's plugins (operation `plugins`), and
 * typed by what they declare: a new plugin needs no new client. As that asks the server, the line is read twice: first for how to
 * reach it. */
#include "cli.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct cli_option *find_in(const struct cli_option *o, const char *name, size_t len)
{
	for (; o != NULL && o->name != NULL; o++)
		if (strlen(o->name) == len && memcmp(o->name, name, len) == 0)
			return o;
	return NULL;
}

static const struct cli_option *find_option(const struct cli *cli, const char *name, size_t len)
{
	const struct cli_option *o = find_in(global_options, name, len);

	return o != NULL || cli->command == NULL ? o : find_in(cli->command->options, name, len);
}

static int keep_value(struct cli *cli, const struct cli_option *o, const char *value)
{
	struct cli_value *more = realloc(cli->values, (cli->n_values + 1) * sizeof(*more));

	if (more == NULL)
		return cli_usage(cli, "out of memory");
	cli->values = more;
	more[cli->n_values++] = (struct cli_value){o, value};
	return 0;
}

/* ---- sampling options ---- */

static int load_schema(struct cli *cli)
{
	struct weft_reply *reply;
	int status = cli_call(cli, weft_request_new("plugins"), &reply);
	char path[64];

	if (status != 0)
		return status;
	cli->schema = json_object();
	for (size_t i = 0; i < weft_reply_count(reply, "plugins"); i++) {
		snprintf(path, sizeof(path), "plugins.%zu.params", i);
		size_t n = weft_reply_count(reply, path);
		for (size_t k = 0; k < n; k++) {
			snprintf(path, sizeof(path), "plugins.%zu.params.%zu.name", i, k);
			const char *name = weft_reply_str(reply, path, NULL);
			snprintf(path, sizeof(path), "plugins.%zu.params.%zu.type", i, k);
			const char *type = weft_reply_str(reply, path, NULL);
			if (name != NULL && type != NULL)
				json_object_set_new(cli->schema, name, json_string(type));
		}
	}
	weft_reply_free(reply);
	return 0;
}

static json_t *parse_int(const char *text)
{
	char *end;
	long long v;

	errno = 0;
	v = strtoll(text, &end, 10);
	return *text != 0 && *end == 0 && errno == 0 ? json_integer(v) : NULL;
}

static json_t *parse_float(const char *text)
{
	char *end;
	double v = strtod(text, &end);

	return *text != 0 && *end == 0 ? json_real(v) : NULL; /* json_real refuses what is not finite */
}

static json_t *parse_bool(const char *text)
{
	if (strcmp(text, "true") == 0 || strcmp(text, "yes") == 0 || strcmp(text, "1") == 0)
		return json_true();
	if (strcmp(text, "false") == 0 || strcmp(text, "no") == 0 || strcmp(text, "0") == 0)
		return json_false();
	return NULL;
}

/* Adds "1,2,3" to a list, or "7=-1.5,9=2" to a map. */
static bool add_items(json_t *into, const char *text)
{
	char *copy = strdup(text), *rest = copy, *item;
	bool good = copy != NULL;

	while (good && (item = strsep(&rest, ",")) != NULL) {
		char *equals = strchr(item, '=');
		if (json_is_array(into)) {
			good = json_array_append_new(into, parse_int(item)) == 0;
		} else if (equals == NULL || equals == item) {
			good = false;
		} else {
			*equals = 0;
			good = json_object_set_new(into, item, parse_float(equals + 1)) == 0;
		}
	}
	free(copy);
	return good;
}

static bool is_list(const char *type)
{
	return strcmp(type, "int_list") == 0 || strcmp(type, "string_list") == 0 || strcmp(type, "token_map") == 0;
}

static const char *wanted(const char *type)
{
	static const char *const words[][2] = {{"bool", "true or false"},
					       {"int", "an integer"},
					       {"float", "a number"},
					       {"string", "text"},
					       {"int_list", "integers with commas between them"},
					       {"string_list", "text"},
					       {"token_map", "TOKEN=NUMBER pairs with commas between them"}};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcmp(type, words[i][0]) == 0)
			return words[i][1];
	return type;
}

/* Sets one option, which the user wrote like `option`; lists and maps grow with each use. */
static int set_sampling(struct cli *cli, const char *option, const char *name, const char *type, const char *text)
{
	json_t *old = json_object_get(cli->sampling, name), *v = NULL;
	bool good;

	if (is_list(type)) {
		if (old == NULL) {
			old = strcmp(type, "token_map") == 0 ? json_object() : json_array();
			json_object_set_new(cli->sampling, name, old);
		}
		good = strcmp(type, "string_list") == 0 ? json_array_append_new(old, json_string(text)) == 0 : add_items(old, text);
	} else {
		v = strcmp(type, "bool") == 0     ? parse_bool(text)
		    : strcmp(type, "int") == 0    ? parse_int(text)
		    : strcmp(type, "float") == 0  ? parse_float(text)
		    : strcmp(type, "string") == 0 ? json_string(text)
						  : NULL;
		good = v != NULL && json_object_set_new(cli->sampling, name, v) == 0;
	}
	return good ? 0 : cli_usage(cli, "%s wants %s, not \"%s\"", option, wanted(type), text);
}

/* ---- the two passes ---- */

struct pass {
	int argc, i;
	char **argv;
	bool first;   /* only find out how to reach the server */
	bool unknown; /* the first pass saw an option that a plugin may have */
};

static bool takes_plugin_options(const struct cli *cli)
{
	return cli->command != NULL && (cli->command->flags & CMD_SAMPLING) != 0;
}

/* An option that is no own one. Names are written with dashes here and with underscores on the wire. */
static int plugin_option(struct cli *cli, struct pass *p, const char *name, size_t len, const char *value)
{
	char field[128], option[132];
	const char *type;
	int status;

	if (!takes_plugin_options(cli) || len == 0 || len >= sizeof(field))
		return cli_usage(cli, "no such option: --%.*s", (int)len, name);
	if (p->first) {
		p->unknown = true;
		return 0;
	}
	if (cli->schema == NULL && (status = load_schema(cli)) != 0)
		return status;
	for (size_t i = 0; i < len; i++)
		field[i] = name[i] == '-' ? '_' : name[i];
	field[len] = 0;
	type = json_string_value(json_object_get(cli->schema, field));
	if (type == NULL)
		return cli_usage(cli, "no such option: --%.*s (neither of weft nor of a plugin of this server: see weft plugins)",
				 (int)len, name);
	if (value == NULL && strcmp(type, "bool") == 0)
		value = "true";
	else if (value == NULL && ++p->i < p->argc)
		value = p->argv[p->i];
	if (value == NULL)
		return cli_usage(cli, "--%.*s wants %s", (int)len, name, wanted(type));
	snprintf(option, sizeof(option), "--%.*s", (int)len, name);
	return set_sampling(cli, option, field, type, value);
}

static int long_option(struct cli *cli, struct pass *p)
{
	const char *name = p->argv[p->i] + 2, *equals = strchr(name, '=');
	size_t len = equals != NULL ? (size_t)(equals - name) : strlen(name);
	const struct cli_option *o = find_option(cli, name, len);

	if (o == NULL)
		return plugin_option(cli, p, name, len, equals != NULL ? equals + 1 : NULL);
	if (o->arg == NULL) {
		if (equals != NULL)
			return cli_usage(cli, "--%s takes no value", o->name);
		return keep_value(cli, o, "");
	}
	if (equals != NULL)
		return keep_value(cli, o, equals + 1);
	if (++p->i >= p->argc)
		return p->first && p->unknown ? 0 : cli_usage(cli, "--%s wants %s", o->name, o->arg);
	return keep_value(cli, o, p->argv[p->i]);
}

static int run_pass(struct cli *cli, struct pass *p)
{
	bool only_args = false;
	int status = 0;

	cli->n_values = 0;
	cli->n_args = 0;
	for (p->i = 0; p->i < p->argc && status == 0; p->i++) {
		const char *word = p->argv[p->i];
		if (!only_args && strcmp(word, "--") == 0)
			only_args = true;
		else if (!only_args && strcmp(word, "-h") == 0)
			status = keep_value(cli, find_in(global_options, "help", 4), "");
		else if (!only_args && strcmp(word, "-V") == 0)
			status = keep_value(cli, find_in(global_options, "version", 7), "");
		else if (!only_args && strncmp(word, "--", 2) == 0)
			status = long_option(cli, p);
		else if (!only_args && word[0] == '-' && word[1] != 0 && strspn(word + 1, "0123456789.,") != strlen(word + 1))
			status = cli_usage(cli, "no such option: %s", word);
		else
			cli->args[cli->n_args++] = word;
	}
	return status;
}

static int take_globals(struct cli *cli)
{
	const char *timeout = option_value(cli, "timeout");
	char *end;

	cli->json = option_given(cli, "json");
	cli->timeout = 10000;
	if (timeout != NULL) {
		double seconds = strtod(timeout, &end);
		if (*timeout == 0 || *end != 0 || !(seconds > 0 && seconds <= 1e6))
			return cli_usage(cli, "--timeout wants seconds, not \"%s\"", timeout);
		cli->timeout = (int)(seconds * 1000) + 1;
	}
	return 0;
}

int options_parse(struct cli *cli, int argc, char **argv)
{
	struct pass p = {.argc = argc, .argv = argv, .first = true};
	int status;

	cli->args = calloc((size_t)argc + 1, sizeof(*cli->args));
	cli->sampling = json_object();
	if (cli->args == NULL || cli->sampling == NULL)
		return cli_usage(cli, "out of memory");
	if ((status = run_pass(cli, &p)) != 0 || option_given(cli, "help") || option_given(cli, "version") ||
	    (status = take_globals(cli)) != 0)
		return status;
	if (p.unknown) {
		p.first = false;
		if ((status = run_pass(cli, &p)) != 0)
			return status;
	}
	if (cli->command != NULL && cli->n_args < cli->command->min_args)
		return cli_usage(cli, "something is missing: weft %s %s", cli->command->name, cli->command->args);
	if (cli->command != NULL && cli->command->max_args >= 0 && cli->n_args > cli->command->max_args)
		return cli_usage(cli, "too many arguments: %s", cli->args[cli->command->max_args]);
	return 0;
}

const char *option_value(const struct cli *cli, const char *name)
{
	for (size_t i = cli->n_values; i > 0; i--)
		if (strcmp(cli->values[i - 1].option->name, name) == 0)
			return cli->values[i - 1].value;
	return NULL;
}

bool option_given(const struct cli *cli, const char *name)
{
	return option_value(cli, name) != NULL;
}

bool option_uint(const struct cli *cli, const char *name, uint64_t *value, int *status)
{
	const char *text = option_value(cli, name);
	char *end;

	if (text == NULL)
		return false;
	errno = 0;
	*value = strtoull(text, &end, 10);
	if (text[0] >= '0' && text[0] <= '9' && *end == 0 && errno == 0)
		return true;
	*status = cli_usage(cli, "--%s wants a whole number, not \"%s\"", name, text);
	return false;
}

bool option_float(const struct cli *cli, const char *name, double *value, int *status)
{
	const char *text = option_value(cli, name);
	char *end;

	if (text == NULL)
		return false;
	*value = strtod(text, &end);
	if (end != text && *end == 0 && isfinite(*value))
		return true;
	*status = cli_usage(cli, "--%s wants a number, not \"%s\"", name, text);
	return false;
}

void options_into(const struct cli *cli, struct weft_request *r)
{
	const char *name;
	json_t *v;

	json_object_foreach(cli->sampling, name, v)
	{
		char *text = json_dumps(v, JSON_ENCODE_ANY);
		weft_request_json(r, name, text != NULL ? text : "");
		free(text);
	}
}

void options_finish(struct cli *cli)
{
	json_decref(cli->sampling);
	json_decref(cli->schema);
	free(cli->values);
	free(cli->args);
}
