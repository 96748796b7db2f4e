"""A long life: everything at once, and nothing may grow.

    soak.py [--minutes M] [--seed S]

Clients send durable and plain jobs of all kinds, cancel some, go away in the middle and come back as others; rows of batches run beside;
adapters are replaced, loaded and unloaded, also fused; the configuration is read again and again. Each answer is compared with an undisturbed daemon's,
each history must have no gap. After a warm-up resident memory, open files, threads and the store's size must stay where they are; the lag of
the loop is held against that of a program that only sleeps, as this machine may be busy with other things.
Without arguments it is short enough for `make check`. RESULTS.md has the long run's figures."""
import argparse
import collections
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import adapter_kit
from durable_kit import results
from mixed_load import Catalogue
from peer import DEADLINE, Peer, Weftd

CLIENTS, EACH, ROWS = 6, 2, 20
SLEEPER = """
import sys, time
late, end = [], time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    t = time.monotonic(); time.sleep(0.02); late.append((time.monotonic() - t - 0.02) * 1000)
print(sorted(late)[int(len(late) * 0.99)])
"""
CONF = """[listen]
disconnect_grace = 1s
[queue]
results_jobs = {jobs}
store_results_time = 20s
[log]
log_level = warning
"""


class Client:
    """Keeps a few jobs under way; peer is another one after each disconnection."""

    def __init__(self, d, catalogue, rng, count):
        self.d, self.catalogue, self.rng, self.count = d, catalogue, rng, count
        self.connect()

    def connect(self):
        self.peer, self.jobs, self.asked = Peer(self.d), {}, {}

    def leave(self):
        self.peer.close()
        self.count["disconnected"] += 1
        self.connect()

    def turn(self, ask=True):
        p = self.peer
        while ask and len(self.asked) + len(self.jobs) < EACH:
            n = self.catalogue.draw(self.rng)
            op, fields = self.catalogue.requests[n]
            how = self.rng.choice((dict(durable=True), {}))
            self.asked[p.send(op, topic=p.topic, **fields, **how)] = (n, bool(how))
        p.pump(0.002)
        for id in [i for i in self.asked if i in p.replies]:
            r, what = p.replies.pop(id), self.asked.pop(id)
            if not r["ok"]:
                assert r["error"]["retry"], r
                self.count["refused"] += 1
                continue
            self.jobs[r["job"]] = [*what, {"done"}]
            if self.rng.random() < 0.1:
                self.jobs[r["job"]][2] = {"done", "cancelled"}
                p.send("cancel", job=r["job"])
        self.take()
        p.replies = {i: r for i, r in p.replies.items() if i in self.asked}

    def take(self):
        for job in [j for j in self.jobs if self.peer.events.get(j) and self.peer.events[j][-1]["event"] == "done"]:
            n, durable, ends = self.jobs.pop(job)
            events = self.peer.events.pop(job)
            self.catalogue.judge(n, events, ends)
            self.count["durable" if durable else "plain"] += 1
            if durable and self.rng.random() < 0.2:
                assert results(self.peer, job) == events
            if durable and self.rng.random() < 0.8:
                self.peer.send("close", job=job)


class Batches:
    def __init__(self, d, catalogue, rng, count):
        self.peer, self.catalogue, self.rng, self.count = Peer(d, listen=False), catalogue, rng, count
        self.number, self.batch = 0, None

    def turn(self):
        p = self.peer
        if self.batch is None:
            self.rows = [self.catalogue.draw(self.rng) for _ in range(ROWS)]
            self.batch = p.call("batch.open", name=f"batch {self.number}")["batch"]["batch"]
            p.call("batch.add", batch=self.batch, first=0, rows=[self.catalogue.as_row(n, f"row {i}") for i, n in enumerate(self.rows)])
            p.call("batch.seal", batch=self.batch)
            self.number += 1
        if p.call("batch.status", batch=self.batch)["batch"]["ended_ms"]:
            got, cursor = [], 0
            while len(got) < ROWS:
                r = p.call("batch.results", batch=self.batch, cursor=cursor, ordered=True)
                assert r["results"], "a row without a result"
                got, cursor = got + r["results"], r["cursor"]
            for n, x in zip(self.rows, got):
                self.catalogue.judge_row(n, x["done"])
            self.count["rows"] += len(got)
            p.call("batch.close", batch=self.batch)
            self.batch = None


class Adapters:
    """t0 to t3 get new contents all the time; they are loaded, asked, unloaded, fused. Nobody's answer depends on them."""

    def __init__(self, d, folder, rng, count):
        self.peer, self.folder, self.rng, self.count, self.fusing = Peer(d), folder, rng, count, None
        for i in range(4):
            self.replace(i)

    def replace(self, i):
        adapter_kit.write(self.folder.join(f"t{i}"), rank=1 + self.rng.randrange(3), seed=self.rng.randrange(1000), modules=list(adapter_kit.SHAPES)[:2])
        self.count["replaced"] += 1

    def turn(self):
        p, i = self.peer, self.rng.randrange(4)
        self.replace(i)
        p.send(self.rng.choice(("adapter.load", "adapter.load", "adapter.unload")), name=f"t{i}")
        p.send("generate", topic=p.topic, prompt="The loom is", max_tokens=3, adapters={f"t{i}": 1.0})
        if self.fusing is None:
            self.fusing = p.send("adapter.fuse", topic=p.topic, name="t-fused", adapters={"a": 1.0, f"t{(i + 1) % 4}": 0.5}, replace=True)
            self.count["fused"] += 1
        p.pump(0)
        for id in list(p.replies):
            r = p.replies.pop(id)
            assert r["ok"] or r["error"]["code"] in ("conflict", "overloaded", "unsupported"), r
        for job in [j for j, events in p.events.items() if events[-1]["event"] == "done"]:
            done = p.events.pop(job)[-1]
            self.fusing = None if "choices" not in done else self.fusing
            assert done["state"] == "done" or done["error"]["code"] in ("unsupported", "conflict"), done


class Gauge:
    """What may not grow, once a second."""

    def __init__(self, d, peer, state):
        self.d, self.peer, self.state, self.samples = d, peer, state, []

    def take(self):
        with open(f"/proc/{self.d.pid}/statm") as f:
            memory = int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
        store = sum(os.path.getsize(os.path.join(self.state, f)) for f in os.listdir(self.state) if f.startswith("weft.db")) / 1e6
        self.samples.append(dict(memory=memory, files=len(os.listdir(f"/proc/{self.d.pid}/fd")), threads=len(os.listdir(f"/proc/{self.d.pid}/task")), store=store))

    def quarter(self, k, name):
        n = len(self.samples)
        return statistics.median(s[name] for s in self.samples[k * n // 4:(k + 1) * n // 4])

    def report(self):
        for name, more in (("memory", 8.0), ("files", 4), ("threads", 1), ("store", 4.0)):
            quarters = [self.quarter(k, name) for k in range(4)]
            print(f"   {name:8} medians of the quarters: {', '.join(f'{q:.1f}' for q in quarters)}")
            assert quarters[3] <= 1.1 * quarters[1] + more, f"{name} grows"


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--minutes", type=float, default=0.15)
    ap.add_argument("--seed", type=int, default=1)
    args = ap.parse_args()
    rng, count, seconds = random.Random(args.seed), collections.Counter(), args.minutes * 60
    env = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"}     # what the sanitizer keeps is no leak
    with adapter_kit.Folder() as folder, tempfile.TemporaryDirectory(prefix="weft-soak-", dir="/tmp") as t:
        catalogue = Catalogue(args.seed, 40 if args.minutes < 1 else 120, "--adapters", folder.path)
        state, conf = os.path.join(t, "state"), os.path.join(t, "conf")
        with open(conf, "w") as f:
            f.write(CONF.format(jobs=100))
        with Weftd("-c", conf, "--threads", "1", "--max-running", "8", "--adapters", folder.path, "--adapters-memory", "1200K", "--state", state, env=env) as d:
            control = Peer(d, listen=False)
            clients = [Client(d, catalogue, rng, count) for _ in range(CLIENTS)]
            batches, adapters, gauge = Batches(d, catalogue, rng, count), Adapters(d, folder, rng, count), Gauge(d, control, state)
            sleeper = subprocess.Popen([sys.executable, "-c", SLEEPER, str(seconds)], stdout=subprocess.PIPE, text=True)
            end, sampled, changed, reloaded = time.monotonic() + seconds, 0.0, 0.0, time.monotonic()
            while time.monotonic() < end:
                for c in clients:
                    c.turn()
                if rng.random() < 0.01:
                    rng.choice(clients).leave()
                now = time.monotonic()
                if now > sampled + 1:
                    sampled = now
                    gauge.take()
                    batches.turn()
                if now > changed + 0.3:
                    changed = now
                    adapters.turn()
                if now > reloaded + 5:
                    reloaded = now
                    with open(conf, "w") as f:
                        f.write(CONF.format(jobs=rng.randrange(50, 150)))
                    d.signal(signal.SIGHUP)
                    count["reloaded"] += 1
            stats, machine = control.call("stats"), float(sleeper.communicate(timeout=DEADLINE)[0])
            finish(clients)
            lag = stats["loop"]
            print(f"   {args.minutes:g} minutes: {', '.join(f'{k} {v}' for k, v in sorted(count.items()))}; engine steps {stats['engine']['steps']}")
            gauge.report()
            print(f"   loop lag p50 {lag['lag_ms_p50']:.2f} ms, p99 {lag['lag_ms_p99']:.2f} ms, max {lag['lag_ms_max']:.2f} ms; a program that only sleeps: p99 {machine:.2f} ms")
            assert stats["store"]["state"] == "ok", stats["store"]
            assert not d.process.poll() and "error" not in d.log(), d.log()
            for p in [control, batches.peer, adapters.peer] + [c.peer for c in clients]:
                p.close()


def finish(clients):
    end = time.monotonic() + DEADLINE
    while any(c.asked or c.jobs for c in clients):
        assert time.monotonic() < end, "jobs do not end"
        for c in clients:
            c.turn(ask=False)


main()
