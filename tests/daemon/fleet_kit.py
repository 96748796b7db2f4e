"""What a fleet of weftd and its database suffer: a server of PostgreSQL that is restarted, connections that are cut, stalled and slowed.

The server is started by pg_server.sh; a script that needs one says `url, folder = server()` first and is run again under it."""
import os
import selectors
import socket
import subprocess
import sys
import threading
import time

from peer import BUILD, SRC, skip

KIT = os.path.join(SRC, "tests", "daemon", "pg_server.sh")


def server():
    """The URL of an empty database and the folder of its server, which goes when this process ends."""
    if "WEFT_TEST_PG" not in os.environ:
        with open(os.path.join(BUILD, "config.h")) as f:
            if "#define HAVE_POSTGRESQL 1" not in f.read():
                skip("built without PostgreSQL")
        run = '. "$0"; pg_start; export PG_DIR PG_USER PG_BIN WEFT_TEST_PG=yes; "$@"'
        sys.exit(subprocess.run(["sh", "-c", run, KIT, sys.executable, *sys.argv]).returncode)
    return os.environ["PG_DIR"]


def restart(how):
    """how: immediate (as if it had crashed) or fast."""
    subprocess.run(["sh", "-c", f'. "$0"; pg_as "$PG_BIN/pg_ctl" -D "$PG_DIR/data" -l "$PG_DIR/log" -m {how} -w -t 60 restart', KIT],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def sql(text):
    """Rows of texts."""
    done = subprocess.run(["sh", "-c", '. "$0"; pg_sql weft "$1"', KIT, text], stdout=subprocess.PIPE, check=True, text=True)
    return [line.split("|") for line in done.stdout.splitlines()]


class Proxy:
    """A way to the server for one daemon. good: all passes; cut(): what is open breaks, and nothing new comes through; stall(): what is
    open stays, and nothing moves; slow: each piece waits for so many seconds."""

    def __init__(self, folder):
        self.target = os.path.join(folder, ".s.PGSQL.5432")
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.lock, self.pairs, self.state, self.slow, self.closed = threading.Lock(), {}, "good", 0.0, False
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def url(self, name):
        return f"postgresql://weft@127.0.0.1:{self.port}/weft?application_name={name}"

    def good(self):
        self.state, self.slow = "good", 0.0

    def cut(self):
        self.state = "cut"

    def stall(self):
        self.state = "stall"

    def close(self):
        self.closed = True
        self.thread.join()

    def work(self):
        with selectors.DefaultSelector() as chooser:
            chooser.register(self.listener, selectors.EVENT_READ)
            while not self.closed:
                if self.state == "cut":
                    for s in list(self.pairs):
                        self.drop(chooser, s)
                if self.state == "stall":
                    time.sleep(0.01)
                    continue
                for key, _ in chooser.select(0.02):
                    self.move(chooser, key.fileobj)
            for s in list(self.pairs):
                self.drop(chooser, s)
            self.listener.close()

    def move(self, chooser, s):
        if s is self.listener:
            self.accept(chooser)
            return
        if s not in self.pairs:
            return
        time.sleep(self.slow)
        try:
            data = s.recv(1 << 16)
            if data:
                self.pairs[s].sendall(data)
                return
        except OSError:
            pass
        self.drop(chooser, s)

    def accept(self, chooser):
        client, _ = self.listener.accept()
        if self.state == "cut":
            client.close()
            return
        there = socket.socket(socket.AF_UNIX)
        try:
            there.connect(self.target)
        except OSError:
            client.close()
            there.close()
            return
        self.pairs[client], self.pairs[there] = there, client
        for s in (client, there):
            chooser.register(s, selectors.EVENT_READ)

    def drop(self, chooser, s):
        other = self.pairs.pop(s, None)
        if other:
            self.pairs.pop(other)
            for one in (s, other):
                chooser.unregister(one)
                one.close()


# ---- history ----

WRITE_DOWN = """
CREATE TABLE public.history (no bigserial PRIMARY KEY, at bigint NOT NULL, who text NOT NULL, op text NOT NULL, job bigint NOT NULL, batch bigint NOT NULL,
  old_state bigint, old_owner text, old_token bigint, old_events bigint, lease bigint,
  state bigint, owner text, token bigint, events bigint, attempt bigint, old_attempt bigint, crashes bigint, armed bigint, old_armed bigint, old_crashes bigint);
CREATE FUNCTION public.write_down() RETURNS trigger LANGUAGE plpgsql AS $f$
BEGIN
  INSERT INTO public.history (at, who, op, job, batch, old_state, old_owner, old_token, old_events, lease, state, owner, token, events, attempt, old_attempt,
    crashes, armed, old_armed, old_crashes)
  VALUES ((extract(epoch FROM clock_timestamp()) * 1000)::bigint, current_setting('application_name'), TG_OP, coalesce(NEW.id, OLD.id),
    coalesce(NEW.batch, OLD.batch), OLD.state, OLD.owner, OLD.token, OLD.n_events, (SELECT lease FROM SCHEMA.owner WHERE name = OLD.owner),
    NEW.state, NEW.owner, NEW.token, NEW.n_events, NEW.attempt, OLD.attempt, NEW.crashes, NEW.armed, OLD.armed, OLD.crashes);
  RETURN NULL;
END $f$;
GRANT ALL ON public.history TO weft; GRANT ALL ON SEQUENCE public.history_no_seq TO weft;
CREATE TRIGGER write_down AFTER INSERT OR UPDATE OR DELETE ON SCHEMA.job FOR EACH ROW EXECUTE FUNCTION public.write_down();
"""
FINAL, HELD, DEAD = range(4, 9), 3, 8


def write_down():
    """From now on the database itself keeps a history of all that happens to jobs."""
    schema = sql("SELECT schemaname FROM pg_tables WHERE tablename = 'job'")[0][0]
    sql(WRITE_DOWN.replace("SCHEMA", schema))
    return schema


def history():
    names = [r[0] for r in sql("SELECT attname FROM pg_attribute WHERE attrelid = 'public.history'::regclass AND attnum > 0 ORDER BY attnum")]
    texts = ("who", "op", "old_owner", "owner")
    for row in sql("SELECT * FROM public.history ORDER BY job, no"):
        yield {n: v if n in texts else int(v) if v else None for n, v in zip(names, row)}


class Checker:
    """Reads the history job by job. Row locks make the order of a job's rows that of their commits."""

    def __init__(self):
        self.owners, self.claims, self.taken, self.ends, self.dead = {}, 0, 0, 0, set()

    def check(self):
        job, rows = None, []
        for h in history():
            if h["job"] != job:
                self.job(rows)
                job, rows = h["job"], []
            rows.append(h)
        self.job(rows)

    def job(self, rows):
        last = None
        for h in rows:
            what = f"{h} after {last}"
            if h["op"] == "INSERT":
                assert last is None, f"made twice: {what}"
                if h["state"] == HELD:
                    self.claimed(h, what)
            elif h["op"] == "UPDATE":
                self.update(h, what)
            last = h

    def claimed(self, h, what):
        assert h["token"] and h["owner"], what
        assert self.owners.setdefault(h["owner"], h["who"]) == h["who"], f"one owner, two sessions: {what}"
        assert h["attempt"] == (h["old_attempt"] or 0) + 1, f"attempts: {what}"
        self.claims += 1

    def update(self, h, what):
        was_held, held = h["old_state"] == HELD, h["state"] == HELD
        assert h["events"] >= h["old_events"] or h["attempt"] == 0, f"events went: {what}"
        if h["old_state"] in FINAL and h["state"] not in FINAL:
            assert h["batch"] and h["attempt"] == 0, f"an ended job lives again, and not by a retry: {what}"
        if h["old_state"] in FINAL and h["state"] in FINAL:
            assert (h["state"], h["events"]) == (h["old_state"], h["old_events"]), f"an ended job ends again: {what}"
        if not was_held and held:
            self.claimed(h, what)
        if was_held and held:
            assert h["token"] == h["old_token"] and h["owner"] == h["old_owner"], f"two holders at once: {what}"
            assert h["attempt"] == h["old_attempt"], what
            assert h["events"] == h["old_events"] or self.owners[h["owner"]] == h["who"], f"another one's write: {what}"
        if was_held and not held and self.owners[h["old_owner"]] != h["who"]:
            self.taken += 1
            assert h["lease"] is not None and h["lease"] < h["at"], f"taken from a holder whose lease had not ended: {what}"
            assert h["events"] == h["old_events"], f"another one's write: {what}"
        if not was_held and not held and h["old_state"] not in FINAL:
            assert h["events"] == h["old_events"], f"events without a holder: {what}"
        if h["state"] in FINAL and h["old_state"] not in FINAL:
            self.ends += 1
            if h["state"] == DEAD:
                assert h["old_crashes"] >= 3, f"dead without three crashes: {what}"
                self.dead.add(h["job"])


def chunks_are_whole(schema):
    """Of each job that is there: its events, without a gap, were written by those who held it then."""
    wrong = sql(f"SELECT j.id FROM {schema}.job j LEFT JOIN (SELECT job, sum(n) AS n, min(seq) AS first, max(seq + n) AS last FROM {schema}.chunk GROUP BY job) c "
                f"ON c.job = j.id WHERE coalesce(c.n, 0) <> j.n_events OR coalesce(c.last, 0) <> j.n_events OR coalesce(c.first, 0) <> 0")
    assert not wrong, f"jobs whose events have gaps: {wrong}"
