/* loop_reload.c: SIGHUP. A worker reads the configuration again, with the client keys and the plugins that it names; what may block and what
 * may fail is done there, so that the loop goes on, and nothing is changed unless everything was there. */
#include "boot.h"
#include "log.h"
#include "loop_parts.h"
#include "notify.h"
#include <inttypes.h>

static void on_kept(const struct conf_option *o)
{
	log_warning("reload: %s is read at start only: the old value stays until a restart", o->name);
}

/* [worker] */
static void read_again(uv_work_t *w)
{
	struct reload *r = w->data;
	r->failed = true;
	if (r->params->read_conf(r->params->arg, &r->fresh, r->why))
		return;
	if ((!r->curve || !r->fresh.curve_clients[0] || !key_list_load(&r->clients, r->fresh.curve_clients, r->why)) &&
	    (r->plugins = boot_plugins(&r->fresh, r->why))) {
		r->failed = false;
		return;
	}
	key_list_finish(&r->clients);
	conf_finish(&r->fresh);
}

static void take_over(struct reload *r)
{
	struct conf *conf = r->params->conf;
	if (r->curve && r->fresh.curve_clients[0])
		sockets_set_clients(r->sockets, &r->clients);
	server_new_plugins(r->server, r->plugins);
	conf_reload(conf, &r->fresh, on_kept);
	conf_finish(&r->fresh);
	server_conf_changed(r->server);
	log_set_level(log_level_parse(conf->log_level));
	log_notice("reloaded");
}

static void start_reload(struct reload *r);

static void was_read_again(uv_work_t *w, int status)
{
	struct reload *r = w->data;
	r->under_way = false;
	if (r->failed)
		log_error("reload: %s: nothing was changed", r->why);
	else
		take_over(r);
	if (r->ending)
		return;
	if (r->again)
		start_reload(r);
	else
		notify_send("READY=1");
}

static void start_reload(struct reload *r)
{
	reload_init(r, r->uv, r->server, r->sockets, r->params);
	r->work.data = r;
	r->curve = r->params->conf->curve_clients[0] != 0;
	r->under_way = uv_queue_work(r->uv, &r->work, read_again, was_read_again) == 0;
}

void reload_init(struct reload *r, uv_loop_t *uv, struct server *server, struct sockets *sockets, const struct loop_params *params)
{
	*r = (struct reload){.uv = uv, .server = server, .sockets = sockets, .params = params};
}

void reload_ask(struct reload *r)
{
	notify_send("RELOADING=1\nMONOTONIC_USEC=%" PRId64, clock_now() / 1000);
	if (r->under_way)
		r->again = true; /* what was read may be older than what this signal is about */
	else
		start_reload(r);
}
