"""What is a shared beginning worth?

    tests/daemon/prefix_cost.py [--model FOLDER] [--quant none|q8|q4|nf4] [--shared N] [--own N] [--requests N] [--rounds N] [--threads N]
    (top_builddir: where weftd was built)

Two daemons, one with the prefix cache and one without, take turns. Each round has system prompts of its own, `shared` tokens long, and
`requests` requests that put `own` tokens behind one, first one after another, then (behind another) all at once. Printed are medians of the
time to the first token, as the daemon tells it, and of the rounds' ratios. That both give the same answers is asserted, no time is.
RESULTS.md has figures."""
import argparse
import random
import statistics

from peer import Peer, Weftd


def first_token_ms(done):
    return done["timing"]["queued_ms"] + done["timing"]["prefill_ms"]


def prompts(args, seed, vocab):
    r = random.Random(seed)
    tokens = lambda n: [r.randrange(3, vocab) for _ in range(n)]    # noqa: E731
    shared = tokens(args.shared)
    return [shared + tokens(args.own) for _ in range(args.requests)]


def ask(p, prompt):
    return p.generate(tokens=prompt, max_tokens=2, temperature=0, ignore_eos=True)


def in_turn(p, some):
    return [p.done(ask(p, prompt)) for prompt in some]


def at_once(p, some):
    return [p.done(job) for job in [ask(p, prompt) for prompt in some]]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--model")
    ap.add_argument("--quant", default="none")
    ap.add_argument("--shared", type=int, default=400)
    ap.add_argument("--own", type=int, default=24)
    ap.add_argument("--requests", type=int, default=16)
    ap.add_argument("--rounds", type=int, default=9)
    ap.add_argument("--threads", type=int, default=1)
    args = ap.parse_args()
    common = ["--quant", args.quant, "--threads", str(args.threads)]
    with Weftd(*common, model=args.model) as d, Weftd(*common, "--prefix-cache", "no", model=args.model) as e, Peer(d) as cached, Peer(e) as plain:
        vocab = cached.call("hello")["model"]["vocab"]
        later, together, last = [], [], []    # of each round: (with the cache, without), in ms
        for i in range(args.rounds):
            one, many = prompts(args, 2 * i, vocab), prompts(args, 2 * i + 1, vocab)
            turns = {}
            for p in (cached, plain) if i % 2 == 0 else (plain, cached):
                turns[p] = in_turn(p, one), at_once(p, many)
                p.events.clear()
            a, b = turns[cached], turns[plain]
            assert [[x["digest"] for x in run] for run in a] == [[x["digest"] for x in run] for run in b]
            times = [[[first_token_ms(x) for x in run] for run in t] for t in (a, b)]
            later.append([statistics.median(t[0][1:]) for t in times])
            together.append([statistics.mean(t[1]) for t in times])
            last.append([max(t[1]) for t in times])
        for what, rounds in (("in turn, from the second on", later), ("at once, mean", together), ("at once, the last one", last)):
            with_it, without = (statistics.median(r[k] for r in rounds) for k in (0, 1))
            print(f"   {what}: {with_it:.1f} ms, without the cache {without:.1f} ms; ratio {statistics.median(b / a for a, b in rounds):.2f}")
        print(f"   tokens that were not run: {cached.call('stats')['engine']['prefix_tokens']} of "
              f"{args.rounds * 2 * args.requests * (args.shared + args.own)}")


main()
