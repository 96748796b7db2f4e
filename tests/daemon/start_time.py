"""How soon does weftd answer, and what does its memory come to, with and without the cache of packed weights?

    make bench-start [BENCH_ARGS="--rounds N ..."]    with the model of make bench, which is made if it is not there

    tests/daemon/start_time.py --model FOLDER [--quant none|q8|q4] [--rounds N] [--kv-memory SIZE]    (top_builddir: where weftd was built)

Starts with an empty cache, then in turn without one, off the cache, and off the cache after the system was told to forget the file's pages.
Printed are the seconds from exec to the first token of an answer, the seconds of CPU that this took, and of the process a few tokens later
the highest resident memory, how much is anonymous and of files, and the highest over the size of the packed weights. RESULTS.md of tests/bench has figures."""
import argparse
import os
import tempfile
import time

from peer import Peer, Weftd


def memory(d):
    with open(f"/proc/{d.pid}/status") as f:
        rows = dict(line.split(":", 1) for line in f)
    return [int(rows[k].split()[0]) / 1024 for k in ("VmHWM", "RssAnon", "RssFile")]


def cpu(d):
    with open(f"/proc/{d.pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def forget(path):
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def begin(what, args, cache, packed):
    start = time.monotonic()
    with Weftd("--quant", args.quant, "--kv-memory", f"{args.kv_memory}M", "--packed-cache", cache, model=args.model) as d, Peer(d) as p:
        job = p.generate(prompt="The loom is", max_tokens=8, temperature=0, ignore_eos=True)
        p.wait(lambda: any(e["event"] in ("delta", "done") for e in p.events.get(job, ())), "a token")
        took, used = time.monotonic() - start, cpu(d)
        p.done(job)
        high, anon, files = memory(d)
        packed = packed or sum(os.path.getsize(f) for f in args.files()) / 2**20
        over = f"{high / packed:.3f}"
        said = next(line for line in d.log().splitlines() if "weights" in line).split("weights ")[1].split(",")[0]
        print(f"| {what} | {took:.2f} | {used:.2f} | {high:.0f} | {anon:.0f} | {files:.0f} | {packed:.0f} | {over} | {said} |", flush=True)
    return packed


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--model", required=True, type=os.path.abspath)  # weftd runs in a folder of its own
    ap.add_argument("--quant", default="q8")
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--kv-memory", type=int, default=128, help="MiB")
    args = ap.parse_args()
    with tempfile.TemporaryDirectory(prefix="weft-cache-", dir=os.environ.get("TMPDIR", "/var/tmp")) as cache:
        args.files = lambda: [os.path.join(cache, f) for f in os.listdir(cache)]
        print("| start | first token s | CPU s | VmHWM MiB | RssAnon | RssFile | packed | VmHWM / packed | weights |\n|---|---|---|---|---|---|---|---|---|")
        packed = begin("first, cache written", args, cache, 0)
        for _ in range(args.rounds):
            begin("no cache", args, "none", packed)
            begin("off the cache", args, cache, packed)
            for f in args.files():
                forget(f)
            begin("off the cache, not in memory", args, cache, packed)


main()
