# pg_server.sh: sourced by tests: a PostgreSQL server of their own in a temporary folder, on a Unix socket only. Sets PG_URL (a database that an ordinary
# role owns), PG_SUPER_URL, PG_DIR, PG_BIN; stops the server and removes the folder at exit. Without server programs the test is skipped.
pg_find() {
	for d in $(command -v pg_config >/dev/null 2>&1 && pg_config --bindir) /usr/lib/postgresql/*/bin /usr/libexec/postgresql* /usr/local/pgsql/bin; do
		if [ -x "$d/initdb" ] && [ -x "$d/postgres" ]; then PG_BIN=$d; fi
	done
	if [ -z "${PG_BIN:-}" ]; then
		echo "skipped: no PostgreSQL server programs (initdb, postgres) on this machine"
		exit 77
	fi
}
# The server refuses to run as root.
pg_as() {
	if [ "$(id -u)" = 0 ]; then
		(cd "$PG_DIR" && exec setpriv --reuid="$PG_USER" --regid="$(id -g "$PG_USER")" --clear-groups env HOME="$PG_DIR" "$@")
	else
		"$@"
	fi
}
pg_stop() {
	[ -d "$PG_DIR/data" ] && pg_as "$PG_BIN/pg_ctl" -D "$PG_DIR/data" -m immediate -w stop >/dev/null 2>&1
	rm -rf "$PG_DIR"
}
pg_start() {
	pg_find
	PG_USER=$(id -un)
	if [ "$PG_USER" = root ]; then
		PG_USER=nobody
		if id postgres >/dev/null 2>&1; then PG_USER=postgres; fi
		command -v setpriv >/dev/null || { echo "skipped: the server does not run as root, and there is no setpriv"; exit 77; }
	fi
	PG_DIR=$(mktemp -d /tmp/weft-pg.XXXXXX)
	chmod 755 "$PG_DIR"
	[ "$(id -u)" != 0 ] || chown "$PG_USER" "$PG_DIR"
	trap pg_stop EXIT
	trap 'exit 1' INT TERM HUP
	pg_as "$PG_BIN/initdb" -D "$PG_DIR/data" -U super -A trust -E UTF8 --locale=C >"$PG_DIR/initdb.log" 2>&1 || { cat "$PG_DIR/initdb.log"; exit 1; }
	{
		echo "listen_addresses = ''"
		echo "unix_socket_directories = '$PG_DIR'"
		echo "unix_socket_permissions = 0777"
		echo "max_connections = 60"
		echo "shared_buffers = 64MB"
	} >>"$PG_DIR/data/postgresql.conf"
	pg_up
	pg_sql postgres "CREATE ROLE weft LOGIN" && pg_sql postgres "CREATE DATABASE weft OWNER weft" || exit 1
	PG_URL="postgresql://weft@/weft?host=$PG_DIR"
	PG_SUPER_URL="postgresql://super@/weft?host=$PG_DIR"
}
pg_up() {
	pg_as "$PG_BIN/pg_ctl" -D "$PG_DIR/data" -l "$PG_DIR/log" -w -t 60 start >"$PG_DIR/start.log" 2>&1 || { cat "$PG_DIR/start.log" "$PG_DIR/log"; exit 1; }
}
pg_sql() { # database, text
	"$PG_BIN/psql" -X -q -v ON_ERROR_STOP=1 -h "$PG_DIR" -U super -d "$1" -Atc "$2"
}
