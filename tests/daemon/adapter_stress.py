"""Adapters are replaced, loaded, unloaded, cut short and moved away under traffic, and no answer is wrong.

    tests/daemon/adapter_stress.py [--replacements N] [--clients N] [--seconds S]     (top_builddir: where weftd was built)

Several clients generate with blends all the while; every answer is compared, by its bytes, with what an undisturbed daemon answers for
the contents that the job had pinned, and these must be contents that the files had since the request was sent. Meanwhile
  - a*    get new files by renaming over them, b* another folder behind a symbolic link: the two ways to replace an adapter;
  - rude  is overwritten in place by somebody who does not know better, gone* vanishes and comes back: here a job may fail, with the
          reason, but never answer wrongly;
  - adapter.load and adapter.unload are called for any of them, and memory is too short for all.
Memory and file descriptors of weftd must stay flat. At the end four long jobs run alone, so that all steps are alike, and the time of
the steps is printed for windows in which adapters are replaced and loaded and for windows in which they are not, in turn; nothing is
asserted about it. Without arguments it is short enough for `make check`. RESULTS.md has the long run's figures."""
import argparse
import itertools
import os
import random
import shutil
import tempfile
import threading
import time

import zmq

import adapter_kit
from peer import DEADLINE, Peer, Weftd, check_events

WEIGHTS = "adapter_model.safetensors"
CONTENTS = {"a0": 4, "a1": 4, "b0": 4, "b1": 3, "rude": 3, "gone": 1, "s0": 1, "s1": 1}    # how many there are of each
ROUGH = {"rude", "gone"}
SHAPES = [{}, {"a0": 1}, {"a0": 0.7, "s0": -0.4}, {"b0": 1}, {"a1": 0.8, "b0": -0.5, "s1": 0.3}, {"s0": 1, "s1": 0.25},
          {"b1": 1.5, "a1": -0.25}, {"rude": 1}, {"gone": 1, "s0": 0.5}, {"a0": 0, "s1": 1}]
PROMPTS = ["The loom is", "We sell", "Linen"]
OPTIONS = dict(max_tokens=10, temperature=0.8, seed=5, ignore_eos=True)


def make_contents(root):
    """root/NAME.K for each content K of NAME. All of a name that is replaced file by file have one config."""
    for i, (name, n) in enumerate(CONTENTS.items()):
        modules = list(adapter_kit.SHAPES)[i % 3:]
        for k in range(n):
            rank = 2 + 3 * k if name.startswith("b") else 3 + i
            adapter_kit.write(os.path.join(root, f"{name}.{k}"), rank=rank, seed=100 * i + k, modules=modules)


class Oracle:
    """What an undisturbed daemon answers: for each shape and prompt, from the digest of the blend to contents and answer."""

    def __init__(self, root):
        self.known, self.digests = {}, {}
        with Weftd("--adapters", root, "--log-level", "warning") as d, Peer(d) as p:
            for s, shape in enumerate(SHAPES):
                for contents in itertools.product(*(range(CONTENTS[n]) for n in shape)):
                    for t, prompt in enumerate(PROMPTS):
                        fields = dict(adapters={f"{n}.{k}": shape[n] for n, k in zip(shape, contents)}) if shape else {}
                        done = p.done(p.generate(prompt=prompt, **OPTIONS, **fields))
                        assert done["state"] == "done", done
                        key = (s, t, done.get("blend"))
                        assert key not in self.known or self.known[key][1] == done["digest"]
                        self.known.setdefault(key, ([], done["digest"]))[0].append(contents)
                        p.events.clear()
            for a in p.call("adapters")["adapters"]:
                self.digests[a.get("digest")] = int(a["name"].split(".")[1])
        answers = {d for _, d in self.known.values()}
        assert len(answers) > len(self.known) / 2, "the contents answer all alike: nothing would be shown"


class Folder:
    """The adapters as weftd sees them. history[name]: the contents that it has had."""

    def __init__(self, root, store):
        self.root, self.store, self.rng = root, store, random.Random(7)
        self.history = {}
        for name in CONTENTS:
            if name.startswith("b"):
                os.symlink(self.content(name, 0), self.path(name))
            else:
                shutil.copytree(self.content(name, 0), self.path(name))
            self.history[name] = [0]
        self.steady = [n for n in CONTENTS if n[0] in "ab"]

    def content(self, name, k):
        return os.path.join(self.store, f"{name}.{k}")

    def path(self, name):
        return os.path.join(self.root, name)

    def replace(self):
        name = self.rng.choice(self.steady)
        k = self.rng.randrange(CONTENTS[name])
        self.history[name].append(k)        # before it is done: a request may see either
        if name.startswith("b"):
            os.symlink(self.content(name, k), self.path("." + name))
            os.rename(self.path("." + name), self.path(name))
        else:
            with open(os.path.join(self.content(name, k), WEIGHTS), "rb") as f:
                adapter_kit.put(os.path.join(self.path(name), WEIGHTS), f.read())
        return name

    def be_rude(self, stop):
        """Overwrites in place, piece by piece, and moves a folder away and back, without end."""
        data = [open(os.path.join(self.content("rude", k), WEIGHTS), "rb").read() for k in range(CONTENTS["rude"])]
        while not stop.is_set():
            new = self.rng.choice(data)
            with open(os.path.join(self.path("rude"), WEIGHTS), "wb") as f:
                for at in range(0, len(new), 1 << 17):
                    f.write(new[at:at + (1 << 17)])
                    f.flush()
            os.rename(self.path("gone"), self.path(".gone"))
            os.rename(self.path(".gone"), self.path("gone"))
            stop.wait(0.01)


class Client:
    def __init__(self, d, number):
        self.peer, self.rng, self.asked, self.jobs = Peer(d), random.Random(number), {}, {}

    def ask(self, folder):
        s, t = self.rng.randrange(len(SHAPES)), self.rng.randrange(len(PROMPTS))
        fields = dict(adapters=SHAPES[s]) if SHAPES[s] else {}
        since = {n: len(folder.history[n]) - 1 for n in SHAPES[s]}
        self.asked[self.peer.send("generate", topic=self.peer.topic, prompt=PROMPTS[t], **OPTIONS, **fields)] = (s, t, since)


class Run:
    def __init__(self, d, folder, oracle, clients):
        self.d, self.folder, self.oracle = d, folder, oracle
        self.clients = [Client(d, i) for i in range(clients)]
        self.control = Peer(d)
        self.answers = self.failed = self.refused = self.calls = 0
        self.poller = zmq.Poller()
        for c in self.clients:
            self.poller.register(c.peer.dealer, zmq.POLLIN)
            self.poller.register(c.peer.sub, zmq.POLLIN)

    def judge(self, s, t, since, pinned, done):
        shape, name = SHAPES[s], f"shape {SHAPES[s]}, prompt {t}"
        if done["state"] == "failed":
            assert ROUGH & set(shape) and done["error"]["code"] == "unsupported", (name, done)
            self.failed += 1
            return
        assert done["state"] == "done", (name, done)
        contents, digest = self.oracle.known[s, t, done.get("blend")]
        assert digest == done["digest"], f"{name}: a wrong answer: {done}"
        fresh = [all(n in ROUGH or k in self.folder.history[n][since[n]:] for n, k in zip(shape, c) if shape[n]) for c in contents]
        assert any(fresh), f"{name}: contents {contents}, but since the request: {[(n, self.folder.history[n][since[n]:]) for n in shape]}"
        for n, p in (pinned or {}).items():
            if p["digest"] and shape[n]:
                at = list(shape).index(n)
                assert self.oracle.digests[p["digest"]] in {c[at] for c in contents}, f"{name}: it had pinned another version of {n}"
        self.answers += 1

    def take(self, c):
        for id in [i for i in c.asked if i in c.peer.replies]:
            r, what = c.peer.replies.pop(id), c.asked.pop(id)
            if r["ok"]:
                c.jobs[r["job"]] = (*what, r.get("adapters"))
            else:
                assert ROUGH & set(SHAPES[what[0]]) and r["error"]["code"] in ("unsupported", "not_found"), r
                self.refused += 1
        for job in [j for j in c.jobs if c.peer.events.get(j) and c.peer.events[j][-1]["event"] == "done"]:
            events = c.peer.events.pop(job)
            check_events(events)
            self.judge(*c.jobs.pop(job), events[-1])

    def turn(self, ask=True):
        """Keeps four requests of every client under way."""
        for c in self.clients:
            while ask and len(c.asked) + len(c.jobs) < 4:
                c.ask(self.folder)
        ready = dict(self.poller.poll(20))
        for c in self.clients:
            if c.peer.dealer in ready or c.peer.sub in ready:
                c.peer.pump(0)
                self.take(c)

    def disturb(self):
        name = self.folder.replace()
        for op, who in ((random.choice(("adapter.load", "adapter.unload")), random.choice(list(CONTENTS))), ("adapter.load", name)):
            self.control.send(op, name=who)
            self.calls += 1
        self.control.pump(0)
        for r in self.control.replies.values():
            assert r["ok"] or r["error"]["code"] in ("conflict", "not_found"), r
        self.control.replies.clear()

    def finish(self):
        end = time.monotonic() + DEADLINE
        while any(c.asked or c.jobs for c in self.clients):
            assert time.monotonic() < end, "jobs do not end"
            self.turn(ask=False)
        for c in self.clients:
            assert not c.peer.events, "events of jobs that nobody knows"

    def steady(self, seconds, windows, rate):
        """Four long jobs; in every second window adapters that they do not use are replaced and loaded."""
        quiet, busy, jobs, replaced = Steps(), Steps(), [], 0
        for window in range(windows):
            before, start, count = None, time.monotonic(), 0
            while time.monotonic() < start + seconds:
                jobs = [j for j in jobs if self.control.events.get(j, [{"event": ""}])[-1]["event"] != "done"]
                while len(jobs) < 4:
                    fields = dict(adapters=SHAPES[5]) if len(jobs) % 2 else {}
                    jobs.append(self.control.generate(prompt=PROMPTS[0], **{**OPTIONS, "max_tokens": 480}, **fields))
                before = before or self.steps()
                if window % 2 and count < rate * (time.monotonic() - start):
                    self.control.call("adapter.load", name=self.folder.replace())
                    count += 1
                self.control.pump(0.005)
            (busy if window % 2 else quiet).add(before, self.steps())
            replaced += count
        for j in jobs:
            self.control.call("cancel", job=j)
            self.control.done(j)
        self.control.events.clear()
        print(f"   four long jobs, {replaced} adapters loaded in every second window of {seconds:g} s:")
        quiet.show("without")
        busy.show("with")

    def steps(self):
        return {ms: n for ms, n in self.control.call("stats")["engine"]["step_ms_counts"]}


class Steps:
    """Times of steps, by the differences of the daemon's counters."""

    def __init__(self):
        self.counts = {}

    def add(self, before, after):
        for ms, n in after.items():
            if n > before.get(ms, 0):
                self.counts[ms] = self.counts.get(ms, 0) + n - before.get(ms, 0)

    def quantile(self, share):
        seen, n = 0, sum(self.counts.values())
        for ms in sorted(self.counts):
            seen += self.counts[ms]
            if seen >= share * n:
                return ms
        return 0.0

    def show(self, name):
        n, median = sum(self.counts.values()), self.quantile(0.5)
        long = sum(c for ms, c in self.counts.items() if ms > 2 * median)
        print(f"   steps {name:8} {n:7}  p50 {median:6.2f} ms  p99 {self.quantile(0.99):6.2f}  p99.9 {self.quantile(0.999):6.2f}  "
              f"max {max(self.counts, default=0):6.2f}  longer than twice the median: {100 * long / max(n, 1):.3f} %")


def memory_and_files(d):
    with open(f"/proc/{d.pid}/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(f"/proc/{d.pid}/fd"))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--replacements", type=int, default=120)
    ap.add_argument("--clients", type=int, default=3)
    ap.add_argument("--seconds", type=float, default=1.0, help="of a window")
    ap.add_argument("--rate", type=float, default=100, help="replacements a second, at most")
    ap.add_argument("--steady", type=int, default=4, help="windows in which the steps are measured")
    args = ap.parse_args()
    env = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"}     # what the sanitizer keeps is no leak
    with tempfile.TemporaryDirectory(prefix="weft-stress-", dir="/tmp") as t:
        store, root = os.path.join(t, "store"), os.path.join(t, "adapters")
        os.makedirs(store)
        os.makedirs(root)
        make_contents(store)
        oracle, folder = Oracle(store), Folder(root, store)
        stop = threading.Event()
        rude = threading.Thread(target=folder.be_rude, args=(stop,), daemon=True)
        rude.start()
        with Weftd("--adapters", root, "--adapters-memory", "1200K", "--results-jobs", "10", "--log-level", "error", env=env) as d:
            run, replaced = Run(d, folder, oracle, args.clients), 0
            begin, first = time.monotonic(), None
            while replaced < args.replacements:
                if replaced < min(args.rate * (time.monotonic() - begin), run.answers + 1):
                    run.disturb()
                    replaced += 1
                run.turn()
                if first is None and replaced >= args.replacements / 4:
                    first = memory_and_files(d)
            stop.set()
            rude.join()
            run.finish()
            last = memory_and_files(d)
            took = time.monotonic() - begin
            stats, listed = run.control.call("stats"), run.control.call("adapters")
            assert all(a["pins"] == 0 for a in listed["adapters"]), listed
            assert listed["evictions"] > 0 and run.answers >= replaced
            print(f"   {replaced} replacements, {run.calls} calls of load and unload, {run.answers} right answers, {run.failed} failed and "
                  f"{run.refused} refused for rude and gone, {listed['evictions']} evictions, {took:.0f} s")
            print(f"   resident memory after a quarter {first[0] / 1e6:.1f} MB, at the end {last[0] / 1e6:.1f} MB; files {first[1]}, {last[1]}")
            print(f"   loop lag p50 {stats['loop']['lag_ms_p50']:.2f} ms, p99 {stats['loop']['lag_ms_p99']:.2f} ms, max {stats['loop']['lag_ms_max']:.2f} ms")
            run.steady(args.seconds, args.steady, args.rate)
            assert last[0] - first[0] < 8 << 20, "memory grows"
            assert last[1] <= first[1] + 2, "file descriptors grow"
            for c in run.clients:
                c.peer.close()
            run.control.close()


main()
