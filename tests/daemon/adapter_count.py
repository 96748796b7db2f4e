"""What does it cost to have 2,000 adapters instead of five?

    tests/daemon/adapter_count.py [--adapters N] [--rounds N] [--seconds S]     (top_builddir: where weftd was built)

Daemons with the same model stand side by side and get the same load in turn, one at a time, round after round:
  five   five adapters are registered, and requests use these
  same   N are registered, requests use the same five
  batch  N are registered, requests use as many as jobs run at once: every row of a step has an adapter of its own
  all    N are registered, and each request uses the next of them: after a first pass all are in memory
Throughput is generated tokens for each second of a round; the ratios of each round to that of `five` and of `batch` in the same round
count, and the medians of these are printed; likewise for the CPU time that a token takes, which other programs of the machine disturb
less. Then the time to start and to list with N adapters, and the loop's lag while a client lists them all the
time and the engine is busy. Nothing about time is asserted. RESULTS.md has figures."""
import argparse
import os
import statistics
import struct
import tempfile
import time

import adapter_kit
from peer import Peer, Weftd

RANK = 4
JOB = dict(prompt="The loom is", max_tokens=24, temperature=0, ignore_eos=True)
JOBS = 32


def write_all(root, n):
    """Adapters of one shape, whose numbers are those of the first, turned by some places."""
    first = adapter_kit.write(os.path.join(root, "n0000"), rank=RANK)
    with open(os.path.join(first, "adapter_model.safetensors"), "rb") as f:
        data = f.read()
    with open(os.path.join(first, "adapter_config.json"), "rb") as f:
        config = f.read()
    start = 8 + struct.unpack("<Q", data[:8])[0]
    for i in range(1, n):
        folder = os.path.join(root, f"n{i:04}")
        os.makedirs(folder)
        with open(os.path.join(folder, "adapter_config.json"), "wb") as f:
            f.write(config)
        with open(os.path.join(folder, "adapter_model.safetensors"), "wb") as f:
            f.write(data[:start] + data[start + 4 * i:] + data[start:start + 4 * i])


class Load:
    """A daemon, and what is asked of it: JOBS jobs at any time."""

    def __init__(self, root, names):
        begin = time.monotonic()
        self.d = Weftd("--adapters", root, "--adapters-memory", "4G", "--results-jobs", "10", "--max-running", str(JOBS))
        self.started = time.monotonic() - begin
        self.p, self.names, self.next = Peer(self.d), names, 0

    def keep_busy(self, jobs):
        p = self.p
        for job in [j for j in jobs if p.events.get(j) and p.events[j][-1]["event"] == "done"]:
            assert p.events.pop(job)[-1]["state"] == "done"
            jobs.remove(job)
        while len(jobs) < JOBS:
            jobs.append(p.generate(**JOB, adapters={self.names[self.next % len(self.names)]: 1}))
            self.next += 1
        p.pump(0.02)

    def cpu(self):
        with open(f"/proc/{self.d.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def tokens(self):
        return self.p.call("stats")["engine"]["generated_tokens"]

    def run(self, seconds, beside=None):
        """Tokens a second, and seconds of CPU a token."""
        jobs, before, cpu, begin = [], self.tokens(), self.cpu(), time.monotonic()
        while time.monotonic() < begin + seconds:
            self.keep_busy(jobs)
            if beside:
                beside()
        made = self.tokens() - before
        rate = made / (time.monotonic() - begin), (self.cpu() - cpu) / made
        for j in jobs:
            assert self.p.done(j)["state"] == "done"
        self.p.events.clear()
        return rate

    def pass_over_all(self):
        jobs = []
        while self.next < len(self.names):
            self.keep_busy(jobs)
        for j in jobs:
            assert self.p.done(j)["state"] == "done"
        self.p.events.clear()

    def close(self):
        self.p.close()
        self.d.finish(True)


def listing(load):
    took = []
    for _ in range(20):
        begin = time.monotonic()
        n = len(load.p.call("adapters")["adapters"])
        took.append(time.monotonic() - begin)
    return n, statistics.median(took), max(took)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--adapters", type=int, default=2000)
    ap.add_argument("--rounds", type=int, default=9)
    ap.add_argument("--seconds", type=float, default=2.0)
    args = ap.parse_args()
    with tempfile.TemporaryDirectory(prefix="weft-adapters-", dir="/tmp") as t:
        many, few = os.path.join(t, "many"), os.path.join(t, "few")
        write_all(many, args.adapters)
        names = [f"n{i:04}" for i in range(args.adapters)]
        os.makedirs(few)
        for n in names[:5]:
            os.symlink(os.path.join(many, n), os.path.join(few, n))
        loads = {"five": Load(few, names[:5]), "same": Load(many, names[:5]), "batch": Load(many, names[:JOBS]), "all": Load(many, names)}
        begin = time.monotonic()
        loads["all"].pass_over_all()
        print(f"   the first pass over all {args.adapters} took {time.monotonic() - begin:.1f} s")
        for load in loads.values():
            load.run(1)
        rates = {n: [] for n in loads}
        for i in range(args.rounds):
            for n in sorted(loads, key=lambda n: (list(loads).index(n) + i) % len(loads)):
                rates[n].append(loads[n].run(args.seconds))
        for n, r in rates.items():
            def to(other, i):
                return statistics.median(x[i] / y[i] for x, y in zip(r, rates[other]))
            print(f"   {n:5} {statistics.median(x[0] for x in r):8.0f} tokens/s, of five {to('five', 0):.3f}, of batch {to('batch', 0):.3f}; CPU "
                  f"{statistics.median(x[1] for x in r) * 1e6:6.0f} us a token, of five {to('five', 1):.3f}, of batch {to('batch', 1):.3f}")
        n, median, most = listing(loads["same"])
        print(f"   start with 5: {loads['five'].started:.2f} s, with {n}: {loads['same'].started:.2f} s; listing {n}: {median * 1000:.1f} ms, at most {most * 1000:.1f} ms")
        for n in ("five", "batch", "all"):
            loads[n].close()
        for what in ("nothing else", "listing without end"):
            fresh = Load(many, names[:5])
            fresh.run(5, (lambda: fresh.p.call("adapters")) if what != "nothing else" else None)
            lag = fresh.p.call("stats")["loop"]
            print(f"   loop lag, {JOBS} jobs and {what}: p50 {lag['lag_ms_p50']:.2f} ms, p99 {lag['lag_ms_p99']:.2f} ms, max {lag['lag_ms_max']:.2f} ms")
            fresh.close()
        loads["same"].close()


main()
