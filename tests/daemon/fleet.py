"""Three weftd on one PostgreSQL, and everything that can happen to them.

    fleet.py [--faults N] [--seed S]

They drain a batch to which rows are added all the time, and take durable jobs: sent to one of them, followed through another, sent again
with the same key to a third when no reply comes. Meanwhile, N times: kill -9, SIGSTOP for longer than the lease and SIGCONT, connections to
the database cut, stalled for longer than the lease or slowed, the database killed or restarted, daemons ended by SIGTERM.
The database writes down what happens to each job (a trigger; its order is that of the commits), and of this history is checked: no two hold
a job at once, none is taken from a holder before its lease is over, nobody writes into a job that another one holds, attempts count up by
one, an end is the last thing, and dead is only what three daemons died of. Every row has one result, once by the cursor; every answer is that of an
undisturbed run; what clients saw is what is stored, and while nothing breaks a follower sees every event once.
Without arguments it is short enough for `make check`. RESULTS.md has the long run's figures."""
import argparse
import collections
import os
import random
import signal
import sys
import tempfile
import time

import msgpack

import adapter_kit
import fleet_kit
from mixed_load import Catalogue, bits
from peer import BUILD, DEADLINE, Peer, Refused, Weftd, check_events

LEASE = 1.0
LIVE, ROWS = 6, 60      # jobs and rows under way
ENDS = ("done", "failed", "cancelled", "expired", "dead")


class Place:
    """One of the three: endpoints and a way to the database that outlive its daemons."""

    def __init__(self, number, root, folder, pg):
        self.number, self.lives, self.adapters = number, 0, folder
        self.request, self.answer = f"ipc://{root}/r{number}", f"ipc://{root}/a{number}"
        self.proxy, self.daemon, self.peer, self.leaving = fleet_kit.Proxy(pg), None, None, False
        self.back = None            # (when, what to do) to be well again

    def start(self):
        self.lives, self.leaving = self.lives + 1, False
        plugins = ":".join(os.path.join(BUILD, p) for p in ("plugins/.libs", "tests/daemon/poison/.libs"))
        self.daemon = Weftd("--threads", "1", "--max-running", "4", "--adapters", self.adapters, "--store", self.proxy.url(f"d{self.number}-{self.lives}"),
                            "--store-lease", f"{int(LEASE * 1000)}ms", "--drain-timeout", "50ms", "--log-level", "warning", plugins=plugins, request=self.request,
                            answer=self.answer, ready=False)

    def alive(self):
        return self.daemon is not None and self.daemon.process.poll() is None

    def gone(self):
        """Takes note of an end; what it ended with must be an end that was asked for (-15: before it listened), or one that says that the database is out of reach."""
        status, log = self.daemon.wait(), self.daemon.log()
        assert (status in (0, -9, -15) or (status == 73 and "error: store: " in log)) and "Sanitizer" not in log and "runtime error" not in log, f"weftd {self.number} ended with {status}:\n{log}"
        self.daemon.ended = True
        self.daemon.finish(True)
        self.daemon = None


class Ticket:
    def __init__(self, n, key, topic):
        self.n, self.key, self.topic, self.job, self.sent_at, self.ended = n, key, topic, None, 0.0, False


class Fleet:
    def __init__(self, places, catalogue, seed):
        self.places, self.catalogue, self.rng = places, catalogue, random.Random(seed)
        self.waiting, self.tickets, self.seen, self.count = {}, [], {}, collections.Counter()
        self.batch, self.rows, self.acked, self.ended_rows, self.told, self.cursor = None, [], 0, 0, {}, 0
        self.adding = self.asking = 0.0
        self.twice = 0

    # ---- the wire ----

    def ask(self, place, then, op, **fields):
        self.waiting[place.number, place.peer.send(op, **fields)] = then

    def turn(self, seconds=0.005):
        for place in self.places:
            p = place.peer
            p.pump(seconds / len(self.places))
            for id in list(p.replies):
                then = self.waiting.pop((place.number, id), None)
                r = p.replies.pop(id)
                if then:
                    then(r)
            for job, events in p.events.items():
                for e in events:
                    self.take(place, job, e)
            p.events.clear()

    def take(self, place, job, e):
        seen, packed = self.seen.setdefault(job, {}), bits(e)
        before = seen.setdefault(e["seq"], packed)
        assert before == packed, f"job {job}: {msgpack.unpackb(before)} came once more, as {e}"
        if e["event"] == "done":
            for t in self.tickets:
                t.ended |= t.job == job

    def well(self):
        return [p for p in self.places if p.alive() and not p.back]

    # ---- load ----

    def load(self):
        now = time.monotonic()
        if sum(not t.ended for t in self.tickets) < LIVE:
            t = Ticket(self.catalogue.draw(self.rng), f"key {len(self.tickets)}", self.rng.choice(self.places).peer.topic)
            self.tickets.append(t)
        for t in self.tickets:
            if t.job is None and now > t.sent_at + 2.0:
                self.send(t, self.rng.choice(self.places))
        if now > self.adding + 0.3 and len(self.rows) - self.ended_rows < ROWS:
            self.adding = now
            self.add_rows(self.rng.choice(self.places))
        if now > self.asking + 0.3:
            self.asking = now
            self.look(self.rng.choice(self.places))

    def send(self, t, place):
        self.count["sent again"] += t.sent_at > 0
        t.sent_at = time.monotonic()
        op, fields = self.catalogue.requests[t.n]

        def then(r):
            if not r["ok"]:
                assert r["error"]["retry"], (fields, r)
                self.count["refused"] += 1
                return
            assert t.job in (None, r["job"]), f"key {t.key} made jobs {t.job} and {r['job']}"
            t.job = r["job"]
        self.ask(place, then, op, topic=t.topic, key=t.key, **fields)

    def add_rows(self, place):
        if self.batch is None:
            return
        while len(self.rows) < self.acked + 20:
            self.rows.append(self.catalogue.draw(self.rng))

        def then(r):
            assert r["ok"] or r["error"]["retry"], r
            self.acked = max(self.acked, r["rows"]) if r["ok"] else self.acked
        self.ask(place, then, "batch.add", batch=self.batch, first=self.acked, topic=place.peer.topic, rows=self.some_rows(self.acked, 20))

    def some_rows(self, first, n):
        return [self.catalogue.as_row(c, f"row {first + i}") for i, c in enumerate(self.rows[first:first + n])]

    def look(self, place):
        """Results by the cursor, whoever answers; ends of jobs that nobody published to us."""
        if self.batch is not None:
            self.ask(place, self.results, "batch.results", batch=self.batch, cursor=self.cursor, limit=200)
        for t in self.tickets:
            if t.job and not t.ended:
                def then(r, t=t):
                    t.ended |= r["ok"] and r["state"] in ENDS
                self.ask(place, then, "job", job=t.job)

    def results(self, r):
        assert r["ok"] or r["error"]["retry"], r
        if not r["ok"] or not r["results"] or r["results"][0]["cursor"] <= self.cursor:
            return
        for x in r["results"]:
            assert x["row"] not in self.told, f"row {x['row']} has two results"
            self.told[x["row"]] = x
        self.cursor, self.ended_rows = r["cursor"], len(self.told)

    # ---- faults ----

    def heal(self, all=False):
        for place in self.places:
            if place.back and (all or time.monotonic() >= place.back[0]):
                undo, place.back = place.back[1], None
                undo()
            if place.daemon and place.daemon.process.poll() is not None:
                place.gone()
            if place.daemon is None and not place.back:
                place.start()

    def fault(self):
        place = self.rng.choice(self.places)
        if place.back or not place.alive():
            return False
        names = {"kill": 4, "stop": 2, "cut": 3, "stall": 2, "slow": 2, "database": 1, "term": 1}
        name = self.rng.choices(list(names), list(names.values()))[0]
        later = time.monotonic() + self.rng.uniform(0.05, 2.5 * LEASE)
        d, proxy = place.daemon, place.proxy
        if name == "kill":
            d.kill()
            place.gone()
            place.back = (later if self.rng.random() < 0.5 else 0, lambda: None)
        elif name == "term":
            d.signal(signal.SIGTERM)
            place.leaving = True
        elif name == "stop":
            d.signal(signal.SIGSTOP)
            place.back = (time.monotonic() + self.rng.uniform(1.2, 2.5) * LEASE, lambda: d.signal(signal.SIGCONT))
        elif name == "cut":
            proxy.cut()
            place.back = (later, proxy.good)
        elif name == "stall":
            proxy.stall()
            place.back = (time.monotonic() + self.rng.uniform(1.2, 2.5) * LEASE, proxy.good)
        elif name == "slow":
            proxy.slow = self.rng.uniform(0.005, 0.05)
            place.back = (later, proxy.good)
        else:
            how = self.rng.choice(("immediate", "fast"))
            name = f"database {how}"
            fleet_kit.restart(how)
        self.count[name] += 1
        return True

    def suffer(self, faults):
        done, next_at, end = 0, 0.0, time.monotonic() + DEADLINE + 10 * faults
        while done < faults:
            assert time.monotonic() < end, "the faults take too long"
            self.heal()
            self.load()
            self.turn()
            if time.monotonic() >= next_at and self.fault():
                done += 1
                next_at = time.monotonic() + self.rng.uniform(0.1, 1.0)

    # ---- the reckoning ----

    def ready(self, place):
        said, end = [], time.monotonic() + DEADLINE
        while not said:
            assert time.monotonic() < end, f"weftd {place.number} does not answer"
            again = time.monotonic() + 1.0
            self.ask(place, said.append, "hello")
            while not said and time.monotonic() < again:
                self.heal()
                self.turn()

    def recover(self):
        """All is well again: all three answer, and have the database."""
        self.heal(all=True)
        for place in self.places:
            if place.leaving:       # one that drains may still answer, and then be gone
                place.gone()
                place.start()
        for place in self.places:
            self.ready(place)
        end = time.monotonic() + DEADLINE
        for place in self.places:
            while self.patiently(place, "hello")["store"] != "ok":
                assert time.monotonic() < end, f"weftd {place.number} has no store again"
        for place in self.places:
            self.turn()
            if place.peer.sub:
                place.peer.sub.close()
            place.peer.listen()
        self.waiting.clear()

    def patiently(self, place, op, **fields):
        end = time.monotonic() + DEADLINE
        while True:
            try:
                return place.peer.call(op, **fields)
            except Refused as e:
                assert e.error["retry"] and time.monotonic() < end, e
                self.turn(0.05)

    def any(self):
        return self.rng.choice(self.places)

    def finish(self):
        """Everything ends, through any of the three."""
        while self.acked < len(self.rows):
            self.acked = self.patiently(self.any(), "batch.add", batch=self.batch, first=self.acked, topic=self.places[0].peer.topic,
                                        rows=self.some_rows(self.acked, 100))["rows"]
        self.patiently(self.any(), "batch.seal", batch=self.batch)
        for t in self.tickets:
            if t.job is None:
                t.job = self.patiently(self.any(), self.catalogue.requests[t.n][0], topic=t.topic, key=t.key, **self.catalogue.requests[t.n][1])["job"]
        for t in self.tickets:
            place = self.any()
            while self.patiently(place, "job", job=t.job)["state"] not in ENDS:
                self.turn(0.05)
        while not self.patiently(self.any(), "batch.status", batch=self.batch)["batch"]["ended_ms"]:
            self.turn(0.05)

    def judge(self, dead):
        assert len({t.job for t in self.tickets}) == len(self.tickets), "two keys, one job"
        for t in self.tickets:
            histories = [self.history(place, t.job) for place in self.rng.sample(self.places, 2)]
            assert bits(histories[0]) == bits(histories[1]), "two daemons tell two histories"
            events = histories[0]
            if t.job in dead:
                check_events(events)
                assert events[-1]["state"] == "dead", events[-1]
            else:
                self.catalogue.judge(t.n, events)
            for seq, packed in self.seen.get(t.job, {}).items():
                assert bits(events[seq]) == packed, f"job {t.job}: what was seen as {seq} is not what is stored"
        self.judge_rows(dead)

    def history(self, place, job):
        events, more = [], True
        while more:
            more = self.patiently(place, "results", job=job, **{"from": len(events)})["events"]
            events += more
        return events

    def judge_rows(self, dead):
        more = True
        while more:
            r = self.patiently(self.any(), "batch.results", batch=self.batch, cursor=self.cursor, limit=1000)
            more = r["results"]
            self.results(r)
        assert sorted(self.told) == list(range(len(self.rows))), "a row without a result"
        ordered, cursor = [], 0
        while len(ordered) < len(self.rows):
            r = self.patiently(self.any(), "batch.results", batch=self.batch, cursor=cursor, ordered=True, limit=1000)
            assert r["results"], "a row without a result"
            ordered, cursor = ordered + r["results"], r["cursor"]
        for i, x in enumerate(ordered):
            assert x["row"] == i and x["custom_id"] == f"row {i}" and bits(x["done"]) == bits(self.told[i]["done"]), x
            for packed in self.seen.get(x["job"], {}).values():
                assert packed == bits(x["done"]), "what was seen of a row is not what is stored"
            if x["job"] in dead:
                assert x["state"] == "dead", x
            else:
                self.catalogue.judge_row(self.rows[i], x["done"])

    def follow(self, n):
        """While nothing breaks: jobs sent to one, followed through each of the others; every event once."""
        for i in range(n):
            asked, other = self.places[i % 3], self.places[(i + 1) % 3]
            op, fields = self.catalogue.requests[self.catalogue.draw(self.rng)]
            other.peer.events.clear()
            job = self.patiently(asked, op, topic=other.peer.topic, durable=True, **fields)["job"]
            other.peer.done(job)        # checks that there is no gap and nothing twice
            kept = []
            while not kept or kept[-1]["event"] != "done":      # it may hear of its own commit later than others
                kept = self.history(asked, job)
            for seen, kept in zip(other.peer.events[job], kept, strict=True):
                assert bits(seen) == bits(kept), f"a follower saw {seen}, and {kept} is stored"


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--faults", type=int, default=8)
    ap.add_argument("--seed", type=int, default=1)
    args = ap.parse_args()
    pg = fleet_kit.server()
    begin = time.monotonic()
    with adapter_kit.Folder() as folder, tempfile.TemporaryDirectory(prefix="weft-fleet-", dir="/tmp") as root:
        catalogue = Catalogue(args.seed, min(20 + args.faults, 100), "--adapters", folder.path)
        places = [Place(i, root, folder.path, pg) for i in range(3)]
        fleet = Fleet(places, catalogue, args.seed)
        for place in places:
            place.peer = Peer(place, listen=False)
        try:
            places[0].start()
            fleet.ready(places[0])
            schema = fleet_kit.write_down()
            fleet.recover()
            fleet.batch = fleet.patiently(fleet.any(), "batch.open", name="fleet")["batch"]["batch"]
            fleet.suffer(args.faults)
            fleet.recover()
            fleet.finish()
            checker = fleet_kit.Checker()
            checker.check()
            fleet_kit.chunks_are_whole(schema)
            fleet.judge(checker.dead)
            fleet.follow(12)
            for place in places:
                place.daemon.signal(signal.SIGTERM)
                place.gone()
        except BaseException:
            print(f"seed {args.seed}: {dict(fleet.count)}", file=sys.stderr)
            for place in places:
                print(f"---- log of weftd {place.number}\n{place.daemon.log() if place.daemon else 'gone'}", file=sys.stderr)
            raise
        finally:
            for place in places:
                if place.alive():
                    place.daemon.signal(signal.SIGCONT)
                    place.daemon.kill()
                place.proxy.close()
                place.peer.close()
    print(f"   {args.faults} faults: {', '.join(f'{k} {v}' for k, v in sorted(fleet.count.items()))}")
    print(f"   {len(fleet.tickets)} jobs and {len(fleet.rows)} rows judged; {checker.claims} claims, {checker.taken} jobs taken from a holder whose lease was over, "
          f"{checker.ends} ends, {len(checker.dead)} dead after three crashes")
    print(f"   seed {args.seed}, {time.monotonic() - begin:.0f} s")


main()
