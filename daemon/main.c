/* main.c: weftd's command line: options, the configuration, and what a process needs before it serves. */
#include "config.h"
#include "boot.h"
#include "conf.h"
#include "keys.h"
#include "files.h"
#include "log.h"
#include "loop.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEFAULT_FILE SYSCONFDIR "/weft/weftd.conf"

struct command {
	const char *file; /* NULL: the default one, if it is there */
	bool check_only;
	const char **values; /* [conf_n_options]: what the command line says; NULL: nothing */
};

static void usage(FILE *out)
{
	fprintf(out,
		"usage: weftd [-c FILE] [--OPTION VALUE]... [--check-config] [--version] [--help]\n\n"
		"weftd serves a Llama model: requests as msgpack over ZeroMQ, answers by publish/subscribe. See weftd(8) and "
		"weftd.conf(5).\n\n"
		"  -c, --config FILE    configuration (default: %s, if it is there)\n"
		"  --check-config       judge configuration and keys, then exit\n\n"
		"Each option of the configuration file is also an option here, which goes before the file:\n",
		DEFAULT_FILE);
	conf_help(out);
}

enum { OPT_HELP = 1000, OPT_VERSION, OPT_CHECK, OPT_FIRST };

static const struct option fixed[] = {{"config", required_argument, NULL, 'c'},
				      {"help", no_argument, NULL, OPT_HELP},
				      {"version", no_argument, NULL, OPT_VERSION},
				      {"check-config", no_argument, NULL, OPT_CHECK}};
static const size_t n_fixed = sizeof fixed / sizeof *fixed;

/* A row for each option of the table behind the fixed ones, '-' in place of '_'. NULL: out of memory, and weftd ends. */
static struct option *make_options(void)
{
	struct option *all = calloc(n_fixed + conf_n_options + 1, sizeof *all);
	if (!all)
		return NULL;
	memcpy(all, fixed, sizeof fixed);
	for (size_t i = 0; i < conf_n_options; i++) {
		char *name = strdup(conf_options[i].name);
		if (!name)
			return NULL;
		for (char *p = name; *p; p++)
			if (*p == '_')
				*p = '-';
		all[n_fixed + i] = (struct option){name, required_argument, NULL, OPT_FIRST + (int)i};
	}
	return all;
}

/* Returns -1 to go on, or an exit code. */
static int parse_command(struct command *c, int argc, char **argv)
{
	struct option *options = make_options();
	c->values = calloc(conf_n_options, sizeof *c->values);
	int opt, code = -1;
	if (!options || !c->values)
		return EXIT_INTERNAL;
	while (code < 0 && (opt = getopt_long(argc, argv, "c:", options, NULL)) != -1) {
		if (opt == 'c') {
			c->file = optarg;
		} else if (opt == OPT_HELP) {
			usage(stdout);
			code = EXIT_CLEAN;
		} else if (opt == OPT_VERSION) {
			puts("weftd " PACKAGE_VERSION);
			code = EXIT_CLEAN;
		} else if (opt == OPT_CHECK) {
			c->check_only = true;
		} else if (opt >= OPT_FIRST) {
			c->values[opt - OPT_FIRST] = optarg;
		} else {
			fputs("weftd: see weftd --help\n", stderr);
			code = EXIT_USAGE;
		}
	}
	if (code < 0 && optind < argc) {
		fprintf(stderr, "weftd: unexpected argument: %s; see weftd --help\n", argv[optind]);
		code = EXIT_USAGE;
	}
	for (size_t i = 0; i < conf_n_options; i++)
		free((char *)options[n_fixed + i].name);
	free(options);
	return code;
}

/* Defaults, then the file, then the command line; then the judgement. Returns 0 or an exit code; on failure c is empty. */
static int read_all(const struct command *cmd, struct conf *c, char why[static CONF_WHY])
{
	int code = EXIT_CONFIG;
	const char *file = cmd->file ? cmd->file : access(DEFAULT_FILE, F_OK) == 0 ? DEFAULT_FILE : NULL;
	snprintf(why, CONF_WHY, "out of memory");
	if (conf_init(c))
		return EXIT_INTERNAL;
	if (file && conf_read(c, file, why))
		goto fail;
	for (size_t i = 0; i < conf_n_options; i++)
		if (cmd->values[i] && conf_set(c, &conf_options[i], cmd->values[i], why))
			goto fail;
	code = conf_check(c, why);
	if (code == 0)
		return 0;
fail:
	conf_finish(c);
	return code;
}

static int reread(void *arg, struct conf *fresh, char why[static CONF_WHY])
{
	return read_all(arg, fresh, why) ? -1 : 0;
}

static int check_only(const struct conf *c)
{
	struct keys keys;
	char why[CONF_WHY];
	if (keys_load(&keys, c, why)) {
		fprintf(stderr, "weftd: %s\n", why);
		return EXIT_CONFIG;
	}
	keys_finish(&keys);
	for (size_t i = 0; i < conf_n_options; i++) {
		char value[4096];
		conf_show(c, &conf_options[i], value, sizeof value);
		printf("%s = %s\n", conf_options[i].name, value);
	}
	return EXIT_CLEAN;
}

/* A library that opens a socket as descriptor 0, 1 or 2 would have log lines written into it. */
static void keep_standard_files(void)
{
	int fd;
	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd > STDERR_FILENO)
		close(fd);
}

int main(int argc, char **argv)
{
	struct command command = {0};
	struct conf conf;
	char why[CONF_WHY];
	keep_standard_files();
	int code = parse_command(&command, argc, argv);
	if (code >= 0)
		goto done;
	code = read_all(&command, &conf, why);
	if (code) {
		fprintf(stderr, "weftd: %s\n", why);
		goto done;
	}
	log_start();
	log_set_level(log_level_parse(conf.log_level));
	umask(0027);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* a store at its file's limit is full: an error, not the end */
	code = EXIT_INTERNAL;
	if (sodium_init() < 0) {
		log_error("libsodium does not start");
	} else if (files_init(why, sizeof why)) {
		log_error("%s", why);
		code = EXIT_UNAVAILABLE;
	} else if (command.check_only) {
		code = check_only(&conf);
	} else if (conf.state[0] && (code = boot_lock_state(conf.state, why))) {
		log_error("%s", why);
	} else {
		code = loop_run(&(struct loop_params){.conf = &conf, .read_conf = reread, .arg = &command});
	}
	conf_finish(&conf);
done:
	free(command.values);
	return code;
}
