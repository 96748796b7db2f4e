"""kill -9, again and again: what was accepted is kept, and answered as if nothing had happened.

    crash.py [--kills N] [--seed S]

One weftd over one SQLite store is killed N times under mixed load: durable generate and score jobs with all samplers, n, stop strings,
logprobs and blends, rows of batches, keys sent again, cancels, delays, buries and kicks, jobs that are not durable, fusing beside it. The
moments are drawn at random from those that matter: the nth reply, event, write of the store, flush, rename, send (crash_point.c kills in
the middle of such a call), right after a burst, in the first milliseconds of a start, while an older schema is brought up, in a drain.
Every ten kills a daemon is left alone until all has ended, and then
  - every job that was accepted is there; its stored events have no gap and one end; what a listener saw is what is stored, bit by bit;
  - every answer is that of an undisturbed run: text, tokens, log-probabilities, digest, usage; a cancelled one is its beginning;
  - a key made one job, no number was given twice, no job is there that nobody asked for; each row of a batch has one result, which the
    cursor told once;
  - what was fused is there whole or not at all.
Without arguments it is short enough for `make check`. RESULTS.md has the long run's figures."""
import argparse
import collections
import os
import random
import shutil
import sqlite3
import sys
import time

import msgpack

import adapter_kit
from durable_kit import House, results
from mixed_load import Catalogue, bits
from peer import BUILD, DEADLINE, Refused

CRASH_POINT = os.path.join(BUILD, "tests", "daemon", ".libs", "crash_point.so")
LIVE, ROWS = 14, 30     # jobs under way; rows of a batch, about
ROUND = 1.2             # seconds after which a daemon is killed if its moment has not come
ENDS = ("done", "failed", "cancelled", "expired", "dead")
FUSE = [dict(name="fused-cat", adapters={"a": 0.5, "b": 1.0}, type="cat"), dict(name="fused-svd", adapters={"a": 0.5, "c": 1.0}, type="svd", svd_rank=4),
        dict(name="fused-dare", adapters={"b": 1.0, "c": -0.5, "d": 0.5}, type="dare_ties_svd", density=0.5, seed=5, svd_rank=3)]


class Ticket:
    """One durable job, or the request that may have become one."""

    def __init__(self, n, key):
        self.n, self.key, self.job, self.refused, self.may_end, self.times = n, key, None, False, {"done"}, None


class Batch:
    """Rows are numbered by us; acked: so many the daemon is known to have."""

    def __init__(self, name):
        self.name, self.id, self.rows, self.acked, self.cursor, self.told = name, None, [], 0, 0, {}


class Client:
    """Speaks to whichever daemon is up, and remembers what it was told."""

    def __init__(self, house, catalogue, rng):
        self.p, self.catalogue, self.rng = house.peer(listen=False), catalogue, rng
        self.tickets, self.numbers = [], set()
        self.waiting, self.late = {}, {}      # {request id: what to do with its reply}; late: asked of a daemon that died
        self.seen, self.deltas, self.accepted, self.progress = {}, 0, 0, 0
        self.batch, self.count, self.alive = None, collections.Counter(), set()

    # ---- the wire ----

    def ask(self, then, op, **fields):
        self.waiting[self.p.send(op, **fields)] = then

    def turn(self, seconds):
        self.p.pump(seconds)
        for asked in (self.late, self.waiting):
            for id in [i for i in self.p.replies if i in asked]:
                asked.pop(id)(self.p.replies.pop(id))
        for job, events in self.p.events.items():
            for e in events:
                self.take(job, e)
        self.p.events.clear()

    def take(self, job, e):
        seen, packed = self.seen.setdefault(job, {}), bits(e)
        assert seen.setdefault(e["seq"], packed) == packed, f"job {job}: seq {e['seq']} came with two contents"
        self.deltas += e["event"] == "delta"
        self.progress += e["event"] == "progress"
        self.count["recovered"] += e["event"] == "recovered"
        if e["event"] == "done":
            self.alive.discard(job)

    def listen(self):
        if self.p.sub:
            self.turn(0)
            self.p.sub.close()
        self.p.listen()

    def new_daemon(self):
        """What was asked of the last one may still be on its way to the next, or lost."""
        self.late.update(self.waiting)
        self.waiting.clear()

    def look_again(self):
        """Ends that went by while nobody listened."""
        for job in self.alive:
            self.ask(lambda r, job=job: self.alive.discard(job) if r["ok"] and r["state"] in ENDS else None, "job", job=job)

    # ---- load ----

    def new_number(self, job):
        assert job not in self.numbers, f"number {job} was given twice"
        self.numbers.add(job)

    def send(self, ticket):
        op, fields = self.catalogue.requests[ticket.n]
        if ticket.times is None:        # the same when it is sent again
            ticket.times = {}
            if self.rng.random() < 0.05:
                ticket.times = dict(delay_ms=self.rng.choice((1, 300, 600000)))
            elif self.rng.random() < 0.05:
                ticket.times, ticket.may_end = dict(deadline_ms=400), {"done", "expired"}
        how = dict(key=ticket.key) if ticket.key else dict(durable=True)
        self.ask(lambda r: self.replied(ticket, r), op, topic=self.p.topic, **fields, **how, **ticket.times)

    def replied(self, ticket, r):
        if not r["ok"]:
            assert r["error"]["retry"], (self.catalogue.requests[ticket.n], r)
            ticket.refused = True
            self.count["refused"] += 1
            return
        ticket.refused = False
        assert r["durable"] is True
        if ticket.job is None:
            if r.get("existing"):
                self.count["accepted without a reply"] += 1
            if r["job"] not in self.numbers:
                self.new_number(r["job"])
            else:
                assert r.get("existing"), f"number {r['job']} was given twice"
            ticket.job = r["job"]
            self.alive.add(ticket.job)
            self.accepted += 1
        assert ticket.job == r["job"], f"key {ticket.key} made jobs {ticket.job} and {r['job']}"

    def plain(self):
        op, fields = self.catalogue.requests[self.catalogue.draw(self.rng)]
        self.ask(lambda r: self.new_number(r["job"]) if r["ok"] else None, op, topic=self.p.topic, **fields)

    def order(self):
        """A verb for some job that is under way."""
        known = [t for t in self.tickets if t.job in self.alive]
        if not known:
            return
        t, verb = self.rng.choice(known), self.rng.choice(("cancel", "delay", "bury", "kick", "kick", "touch"))
        if verb == "cancel":
            t.may_end.add("cancelled")
        fields = dict(delay_ms=self.rng.choice((5, 100, 100000))) if verb == "delay" else {}

        def then(r):
            assert r["ok"] or r["error"]["code"] == "conflict" or r["error"]["retry"], (verb, r)
            self.count[verb] += 1
        self.ask(then, verb, job=t.job, **fields)

    def add_rows(self):
        b = self.batch
        if b.id is None:
            self.ask(self.opened(b), "batch.open", name=b.name)
            return
        if b.acked >= ROWS:
            return
        while len(b.rows) < b.acked + 1 or (self.rng.random() < 0.7 and len(b.rows) < b.acked + 12):
            b.rows.append(self.catalogue.draw(self.rng))
        self.ask(self.added(b), "batch.add", batch=b.id, first=b.acked, topic=self.p.topic,
                 rows=[self.catalogue.as_row(n, f"{b.name}/{b.acked + i}") for i, n in enumerate(b.rows[b.acked:])])

    def opened(self, b):
        def then(r):
            if r["ok"]:
                assert b.id in (None, r["batch"]["batch"]), "one name, two batches"
                b.id = r["batch"]["batch"]
        return then

    def added(self, b):
        def then(r):
            assert r["ok"] or r["error"]["retry"], r
            if r["ok"]:
                b.acked = max(b.acked, r["rows"])
        return then

    def read_rows(self):
        b = self.batch
        if b.id:
            self.ask(self.told(b), "batch.results", batch=b.id, cursor=b.cursor, limit=20)

    def told(self, b):
        def then(r):
            assert r["ok"] or r["error"]["retry"], r
            if not r["ok"] or not r["results"] or r["results"][0]["cursor"] <= b.cursor:
                return
            for x in r["results"]:
                assert x["row"] not in b.told, f"row {x['row']} has two results"
                b.told[x["row"]] = bits(x["done"])
            b.cursor = r["cursor"]
        return then

    def fuse(self):
        fields = self.rng.choice(FUSE)

        def then(r):
            assert r["ok"] or r["error"]["retry"] or r["error"]["code"] == "conflict", r
            self.count["fusing"] += r["ok"]
        self.ask(then, "adapter.fuse", topic=self.p.topic, replace=True, **fields)

    def load(self):
        """Something at random; keeps LIVE jobs under way."""
        what = self.rng.random()
        if what < 0.04:
            self.add_rows()
        elif what < 0.08:
            self.read_rows()
        elif what < 0.12:
            self.order()
        elif what < 0.13:
            self.fuse()
        elif what < 0.16:
            self.plain()
        elif what < 0.19 and any(t.key for t in self.tickets):
            self.send(self.rng.choice([t for t in self.tickets if t.key]))
        elif len(self.alive) + len(self.waiting) < LIVE:
            t = Ticket(self.catalogue.draw(self.rng), f"key {len(self.tickets)} {self.rng.random()}" if self.rng.random() < 0.5 else None)
            self.tickets.append(t)
            self.send(t)


class Run:
    def __init__(self, house, catalogue, seed, folder):
        self.house, self.catalogue, self.rng, self.folder = house, catalogue, random.Random(seed), folder
        self.client, self.d = Client(house, catalogue, self.rng), None
        self.moments, self.kills, self.epoch, self.jobs = collections.Counter(), 0, 0, 0
        self.kept = []              # tickets that nobody closed: looked at again at the very end
        self.crashes, self.since = 0, 0
        self.digests = {}           # of what is fused, by an undisturbed daemon

    # ---- one life of the daemon ----

    def up(self, *args, plan=None, **kw):
        env = {}
        if plan:
            env = {"WEFT_CRASH_AT": plan, "LD_PRELOAD": CRASH_POINT, "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"}
        self.client.new_daemon()
        self.d = self.house.up(*args, env=env, ready=False, **kw)

    def over(self, status):
        """Of a daemon that was killed: nothing but the kill may have ended it."""
        log = self.d.log()
        if status not in (-9, 0) or "Sanitizer" in log or "runtime error" in log:
            print(log, file=sys.stderr)
            raise AssertionError(f"weftd ended with status {status}")
        shutil.rmtree(self.d.folder, ignore_errors=True)
        self.since += 1

    def kill(self):
        if self.d.process.poll() is None:
            self.d.kill()
        self.over(self.d.wait())

    def until(self, moment, seconds=ROUND, load=True):
        """Load until moment() or the daemon's own end."""
        end = time.monotonic() + seconds
        while self.d.process.poll() is None and not moment() and time.monotonic() < end:
            if load:
                self.client.load()
            self.client.turn(0.002)

    def ready(self):
        """False: it died before it answered."""
        said, end = [], time.monotonic() + DEADLINE
        self.client.ask(said.append, "hello")
        while not said and self.d.process.poll() is None:
            self.client.turn(0.005)
            assert time.monotonic() < end, "weftd is not ready in time"
        return bool(said)

    def worst(self):
        """The most crashes in a row of any job."""
        worst = 0
        for state in ("queued", "running", "preempted"):
            after = 0
            while after is not None:
                page = self.client.p.call("jobs", state=state, limit=1000, after=after)["jobs"]
                worst = max([worst] + [j.get("crashes", 0) for j in page])
                after = page[-1]["job"] if page else None
        return worst

    def calm(self, most):
        """Jobs whose daemon dies three times before they make progress are dead by design; ours must not be."""
        while True:
            self.crashes, self.since = self.worst(), 0
            if self.crashes <= most:
                return
            self.client.turn(0.01)

    # ---- moments ----

    def life(self):
        outside = {"reply": 3, "burst": 3, "delta": 3, "fuse": 1, "drain": 1, "time": 1}
        inside = {"start": 2, "pwrite": 4, "sync": 4, "send": 3, "write": 1, "rename": 1, "migrate": 1}
        may = {**outside, **inside}
        name = self.rng.choices(list(may), list(may.values()))[0]
        if name in inside and self.crashes + self.since + 1 >= 3:
            name = "time"       # first let all jobs make progress
        self.moments[name] += 1
        getattr(self, "at_" + name)()
        self.kill()
        self.kills += 1

    def normal(self, most=1):
        self.up()
        assert self.ready(), "it did not start"
        self.client.listen()
        self.client.look_again()
        self.calm(most)

    def at_time(self):
        self.normal(0)
        self.until(lambda: False, self.rng.uniform(0, 0.3))

    def at_reply(self):
        self.normal()
        goal = self.client.accepted + self.rng.randrange(1, 12)
        self.until(lambda: self.client.accepted >= goal)

    def at_burst(self):
        self.normal()
        self.until(lambda: False, self.rng.uniform(0, 0.2))
        for _ in range(8):
            t = Ticket(self.catalogue.draw(self.rng), f"burst {len(self.client.tickets)} {self.rng.random()}" if self.rng.random() < 0.7 else None)
            self.client.tickets.append(t)
            self.client.send(t)
        self.until(lambda: False, self.rng.uniform(0, 0.006), load=False)

    def at_delta(self):
        self.normal()
        goal = self.client.deltas + int(2 ** self.rng.uniform(0, 9))
        self.until(lambda: self.client.deltas >= goal)

    def at_start(self):
        self.up()
        self.until(lambda: False, self.rng.uniform(0, 0.25), load=False)

    def at_call(self, kind, most):
        self.up(plan=f"{kind}:{int(most ** self.rng.random())}" + self.rng.choice(("", ":half")))
        if self.ready():
            self.until(lambda: False)

    def at_pwrite(self):
        self.at_call("pwrite", 3000)

    def at_sync(self):
        self.at_call("sync", 400)

    def at_send(self):
        self.at_call("send", 1000)

    def at_write(self):
        self.fuse_until("write", 60)

    def at_rename(self):
        self.fuse_until("rename", 2)

    def fuse_until(self, kind, most):
        self.up(plan=f"{kind}:{self.rng.randrange(1, most + 1)}" + self.rng.choice(("", ":half")))
        if self.ready():
            for _ in range(3):
                self.client.fuse()
            self.until(lambda: False)

    def at_fuse(self):
        self.normal()
        goal = self.client.progress + self.rng.randrange(1, 30)
        for _ in range(3):
            self.client.fuse()
        self.until(lambda: self.client.progress >= goal)

    def at_drain(self):
        self.normal()
        self.until(lambda: False, self.rng.uniform(0, 0.3))
        self.d.signal(15)
        self.until(lambda: False, self.rng.uniform(0, 0.08), load=False)

    def at_migrate(self):
        """The store is taken back to the first schema; weftd is killed in bringing it up, or shortly after."""
        path = os.path.join(self.house.folder, "state", "weft.db")
        if not os.path.exists(path):
            self.at_time()      # the very first start
            return
        db = sqlite3.connect(path, isolation_level=None)
        if db.execute("PRAGMA user_version").fetchone()[0] == 2:
            db.executescript("BEGIN; DROP TABLE tally; PRAGMA user_version = 1; COMMIT")
        db.close()
        self.at_call(self.rng.choice(("pwrite", "sync")), 30)

    # ---- the reckoning ----

    def settle(self):
        """A daemon that is let alone: all ends, all is looked at."""
        c, p = self.client, self.client.p
        self.up()
        assert self.ready()
        c.listen()
        assert self.ready()         # once more: what the dealer kept while no daemon was up came before
        c.new_daemon()
        c.late.clear()              # what was lost with a daemon
        for t in c.tickets:
            if t.key and t.job is None:
                c.send(t)
        p.wait(lambda: c.turn(0.01) or not c.waiting, "replies to keys that were sent again")
        self.look_at_tickets()
        self.look_at_batch()
        self.look_for_strangers()
        self.look_at_fused()
        store = p.call("stats")["store"]
        assert store["state"] == "ok", store
        status = self.d.stop()
        assert status == 0, status
        self.over(status)
        self.crashes, self.since = 0, 0
        c.tickets, c.seen, c.batch = [], {}, Batch(f"batch {self.epoch}")
        self.epoch += 1

    def end_of(self, job):
        p = self.client.p
        while True:
            state = p.call("job", job=job)["state"]
            if state in ENDS:
                return
            if state in ("delayed", "buried"):
                p.call("kick", job=job)
            p.pump(0.01)

    def history(self, job):
        self.end_of(job)
        events = results(self.client.p, job)
        self.client.turn(0)
        for seq, packed in self.client.seen.get(job, {}).items():
            stored = events[seq] if seq < len(events) else None
            assert bits(stored) == packed, f"job {job}: seen as {seq} {msgpack.unpackb(packed)}, stored {stored}"
        return events

    def look_at_tickets(self):
        c, p = self.client, self.client.p
        for t in c.tickets:
            if t.job is None:
                continue
            self.catalogue.judge(t.n, self.history(t.job), t.may_end)
            state = p.call("job", job=t.job)
            if t.may_end == {"done"}:
                assert state["state"] == "done", state
            self.jobs += 1
            if self.rng.random() < 0.9:
                p.call("close", job=t.job)
                assert p.refused("job", job=t.job).code == "not_found"
            else:
                self.kept.append(t)

    def look_for_strangers(self):
        """Jobs that were accepted while the reply was lost are those that we asked for; there are no others."""
        c, p, after = self.client, self.client.p, 0
        unanswered = [t for t in c.tickets if t.job is None and not t.refused]
        known = {t.job for t in self.kept}
        while True:
            page = p.call("jobs", limit=1000, after=after)["jobs"]
            for j in page:
                if j["job"] in known or j.get("batch") or j["op"] == "adapter.fuse" or not j.get("durable"):
                    continue
                events = self.history(j["job"])
                for t in unanswered:
                    try:
                        self.catalogue.judge(t.n, events, t.may_end)
                        break
                    except AssertionError:
                        continue
                else:
                    raise AssertionError(f"nobody asked for job {j}: {events[0]} ... {events[-1]}")
                unanswered.remove(t)
                assert j["job"] not in c.numbers, f"number {j['job']} was given twice"
                c.numbers.add(j["job"])
                c.count["accepted without a reply"] += 1
                p.call("close", job=j["job"])
                self.jobs += 1
            if not page:
                break
            after = page[-1]["job"]
        c.count["never arrived"] += len(unanswered)

    def look_at_batch(self):
        c, p, b = self.client, self.client.p, self.client.batch
        if b.id is None and not b.rows:
            return
        b.id = p.call("batch.open", name=b.name)["batch"]["batch"]
        while b.acked < len(b.rows):
            rows = b.rows[b.acked:b.acked + 40]
            b.acked = p.call("batch.add", batch=b.id, first=b.acked, topic=p.topic,
                             rows=[c.catalogue.as_row(n, f"{b.name}/{b.acked + i}") for i, n in enumerate(rows)])["rows"]
        p.call("batch.seal", batch=b.id)
        status = p.call("batch.status", batch=b.id)["batch"]
        assert status["rows"] == len(b.rows), (status, len(b.rows))
        p.wait(lambda: p.call("batch.status", batch=b.id)["batch"]["ended_ms"], "the batch's end")
        then = self.client.told(b)
        more = True
        while more:
            r = p.call("batch.results", batch=b.id, cursor=b.cursor, limit=1000)
            more = r["results"]
            then(r)
        assert sorted(b.told) == list(range(len(b.rows))), "a row without a result"
        cursor, ordered = 0, []
        while len(ordered) < len(b.rows):
            r = p.call("batch.results", batch=b.id, cursor=cursor, ordered=True, limit=1000)
            assert r["results"], "a row without a result"
            ordered, cursor = ordered + r["results"], r["cursor"]
        for i, x in enumerate(ordered):
            assert x["row"] == i and x["custom_id"] == f"{b.name}/{i}" and bits(x["done"]) == b.told[i], x
            c.turn(0)
            for packed in c.seen.get(x["job"], {}).values():
                assert packed == bits(x["done"]), "what was seen of a row is not what is stored"
            self.catalogue.judge_row(b.rows[i], x["done"])
            self.jobs += 1
        p.call("batch.close", batch=b.id)

    def look_at_fused(self):
        p = self.client.p
        for fields in FUSE:
            name, path = fields["name"], os.path.join(self.folder.path, fields["name"])
            if name not in self.digests or fields["type"] == "cat":        # each time one of them: it clears away what killed ones left
                done = self.fused(dict(fields, name="undisturbed"))
                self.digests[name] = done["result"]["digest"]
                shutil.rmtree(os.path.join(self.folder.path, "undisturbed"))
            if os.path.exists(path):
                adapter = adapter_kit.loaded(p, name)
                assert adapter["residency"] == "resident" and adapter["digest"] == self.digests[name], (name, adapter)
                self.client.count["fused"] += 1
                shutil.rmtree(path)
        left = set(os.listdir(self.folder.path)) - set("abcd")
        assert not left, f"left in the folder of adapters after another run of fusing: {left}"

    def fused(self, fields):
        p = self.client.p
        job = p.call("adapter.fuse", topic=p.topic, replace=True, **fields)["job"]
        self.client.new_number(job)
        done = p.done(job)
        assert done["state"] == "done", done
        return done

    def last_look(self):
        """What was kept and never closed has been through all the kills since."""
        p = self.client.p
        self.up()
        assert self.ready()
        for t in self.kept:
            self.catalogue.judge(t.n, results(p, t.job), t.may_end)
        assert self.d.stop() == 0
        self.over(0)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--kills", type=int, default=10)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--requests", type=int, default=0, help="different ones; 0: as many as fit the number of kills")
    args = ap.parse_args()
    begin = time.monotonic()
    with adapter_kit.Folder() as folder:
        catalogue = Catalogue(args.seed, args.requests or min(25 + args.kills, 150), "--adapters", folder.path)
        with House("--threads", "1", "--max-running", "6", "--adapters", folder.path, "--drain-timeout", "20ms", "--log-level", "warning") as house:
            run = Run(house, catalogue, args.seed, folder)
            run.client.batch = Batch("batch")
            try:
                while run.kills < args.kills:
                    run.life()
                    if run.kills % 10 == 0 or run.kills == args.kills:
                        run.settle()
                run.last_look()
            except BaseException:
                print(f"seed {args.seed}, after {run.kills} kills: {dict(run.moments)}\n{run.d.log() if run.d and os.path.exists(run.d.log_path) else ''}", file=sys.stderr)
                raise
            run.client.p.close()
    print(f"   {run.kills} kills at: {', '.join(f'{k} {v}' for k, v in sorted(run.moments.items()))}")
    print(f"   {run.jobs} durable jobs and rows judged, {len(run.kept)} of them again at the end; {', '.join(f'{k} {v}' for k, v in sorted(run.client.count.items()))}")
    print(f"   seed {args.seed}, {time.monotonic() - begin:.0f} s")


main()
