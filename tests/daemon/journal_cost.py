"""What does the journal cost the engine?

    tests/daemon/journal_cost.py [--model FOLDER] [--quant none|q8|q4|nf4] [--pairs N] [--tokens N]    (top_builddir: where weftd was built)

64 jobs at a time, durable ones and others in turn, pair after pair, on one daemon whose engine has one thread. Printed are the tokens a
second of both, the median of the pairs' ratios, and the CPU time of the daemon that a token takes. Nothing is asserted. The prompt is
short and the answers are not, so most of it is decoding; accepting the jobs and telling their ends is in it. RESULTS.md has figures."""
import argparse
import os
import statistics
import tempfile
import time

from peer import Peer, Weftd

JOBS = 64


def cpu(d):
    with open(f"/proc/{d.pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def turn(d, p, tokens, durable):
    """Tokens a second, and seconds of CPU a token, from the first request to the end of the last job."""
    begin, used = time.monotonic(), cpu(d)
    jobs = [p.generate(prompt="The loom is", max_tokens=tokens, temperature=0, ignore_eos=True, durable=durable) for _ in range(JOBS)]
    for j in jobs:
        assert p.done(j)["state"] == "done"
    took, used = time.monotonic() - begin, cpu(d) - used
    for j in jobs:
        if durable:
            p.call("close", job=j)
    p.events.clear()
    return JOBS * tokens / took, used / (JOBS * tokens)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--model")
    ap.add_argument("--quant", default="none")
    ap.add_argument("--pairs", type=int, default=9)
    ap.add_argument("--tokens", type=int, default=48)
    args = ap.parse_args()
    with tempfile.TemporaryDirectory(prefix="weft-journal-") as state, \
            Weftd("--state", state, "--quant", args.quant, "--threads", "1", "--max-running", str(JOBS), model=args.model) as d, Peer(d) as p:
        rates = {True: [], False: []}
        turn(d, p, args.tokens, False)
        for i in range(args.pairs):
            for durable in (i % 2 == 0, i % 2 == 1):
                rates[durable].append(turn(d, p, args.tokens, durable))
        kept, plain = rates[True], rates[False]
        print(f"   durable {statistics.median(x[0] for x in kept):.0f} tokens/s, {statistics.median(x[1] for x in kept) * 1e6:.1f} us CPU a token; "
              f"others {statistics.median(x[0] for x in plain):.0f} tokens/s, {statistics.median(x[1] for x in plain) * 1e6:.1f} us; "
              f"durable / others: {statistics.median(a[0] / b[0] for a, b in zip(kept, plain)):.4f}")


main()
