#!/usr/bin/env python3
"""Reference vectors for the samplers, computed from their papers' definitions in plain Python (doubles), apart from the C code.

usage: vectors.py > vectors.h
With torch and transformers at hand, typical_p, top_p, min_p and top_k are compared with transformers' own
processors as well (differences are an error); the output does not depend on that."""
import math
import random
import struct
import sys


def f32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def softmax(logits):
    m = max(logits)
    e = [math.exp(l - m) for l in logits]
    s = math.fsum(e)
    return [x / s for x in e]


def order(logits):
    return sorted(range(len(logits)), key=lambda i: (-logits[i], i))


def typical(logits, p):
    q = softmax(logits)
    entropy = -math.fsum(x * math.log(x) for x in q if x > 0)
    ranked = sorted((i for i in range(len(q)) if q[i] > 0), key=lambda i: (abs(-math.log(q[i]) - entropy), -logits[i], i))
    kept, mass = [], 0.0
    for i in ranked:
        kept.append(i)
        mass += q[i]
        if mass >= p:
            break
    return sorted(kept)


def top_p(logits, p):
    q, kept, mass = softmax(logits), [], 0.0
    for i in order(logits):
        kept.append(i)
        mass += q[i]
        if mass >= p:
            break
    return sorted(kept)


def min_p(logits, p):
    q = softmax(logits)
    return [i for i in range(len(q)) if q[i] >= p * max(q)]


def top_n_sigma(logits, n):
    mean = math.fsum(logits) / len(logits)
    sigma = math.sqrt(math.fsum((l - mean) ** 2 for l in logits) / len(logits))
    return [i for i, l in enumerate(logits) if l >= max(logits) - n * sigma]


def xtc(logits, threshold):
    q = softmax(logits)
    above = [i for i in order(logits) if q[i] >= threshold]
    gone = set(above[:-1]) if len(above) > 1 else set()
    return [i for i in range(len(q)) if i not in gone]


def dry(tokens, breakers, multiplier, base, allowed):
    """Penalty of each token that would continue a repetition, by comparing every pair of ends."""
    penalties = {}
    for i in range(1, len(tokens)):          # tokens[i] follows an earlier stretch that ends at i - 1
        length = 0
        while length < i and tokens[i - 1 - length] == tokens[-1 - length] and tokens[-1 - length] not in breakers:
            length += 1
        if length >= allowed and tokens[i] not in breakers:
            penalties[tokens[i]] = max(penalties.get(tokens[i], 0.0), multiplier * base ** (length - allowed))
    return penalties


def mirostat(steps, tau, eta, picks):
    """picks[k]: which of the kept candidates (by rank) is drawn in step k. Gives the kept counts, the drawn ids and mu after each."""
    mu, out = 2 * tau, []
    for logits, pick in zip(steps, picks):
        q = softmax(logits)
        ranked = order(logits)
        kept = [i for i in ranked if -math.log2(q[i]) <= mu] or ranked[:1]
        total = math.fsum(q[i] for i in kept)
        drawn = kept[pick % len(kept)]
        mu -= eta * (-math.log2(q[drawn] / total) - tau)
        out.append((len(kept), drawn, mu))
    return out


def check_transformers(logits):
    try:
        import torch
        from transformers import MinPLogitsWarper, TopKLogitsWarper, TopPLogitsWarper, TypicalLogitsWarper
    except ImportError:
        sys.stderr.write("vectors.py: no transformers here: not compared\n")
        return
    def kept(warper):
        scores = warper(torch.zeros(1, 1, dtype=torch.long), torch.tensor([logits], dtype=torch.float64))
        return [i for i, s in enumerate(scores[0].tolist()) if s != -math.inf]
    for p in (0.1, 0.3, 0.5, 0.9, 0.97):
        assert kept(TypicalLogitsWarper(p)) == typical(logits, p), ("typical", p)
        assert kept(TopPLogitsWarper(p)) == top_p(logits, p), ("top_p", p)
        assert kept(MinPLogitsWarper(p)) == min_p(logits, p), ("min_p", p)
    assert kept(TopKLogitsWarper(7)) == sorted(order(logits)[:7])
    sys.stderr.write("vectors.py: agrees with transformers\n")


def c_list(kind, name, values, fmt):
    lines, line = [], "\t"
    for v in values:
        item = fmt(v) + ", "
        if len(line) + len(item) > 120:
            lines.append(line.rstrip())
            line = "\t"
        line += item
    lines.append(line.rstrip())
    return "static const %s %s[] __attribute__((unused)) = {\n%s\n};\n" % (kind, name, "\n".join(lines))


def main():
    rnd = random.Random(20)
    out = ["/* Made by vectors.py: reference results, from definitions, in doubles. Do not edit. */\n"]
    sets = []
    for n, spread in ((40, 2.0), (40, 0.4), (25, 6.0)):
        sets.append([f32(rnd.gauss(0, spread)) for _ in range(n)])
    for k, logits in enumerate(sets):
        check_transformers(logits)
        out.append(c_list("float", "vec_logits_%d" % k, logits, lambda x: x.hex() + "f"))
        for name, fn, args in (("typical_p", typical, (0.2, 0.6, 0.95)), ("top_p", top_p, (0.2, 0.6, 0.95)), ("min_p", min_p, (0.02, 0.2, 0.7)),
                               ("top_n_sigma", top_n_sigma, (0.5, 1.0, 2.5)), ("xtc", xtc, (0.02, 0.1, 0.3))):
            for a, arg in enumerate(args):
                out.append(c_list("int32_t", "vec_%s_%d_%d" % (name, k, a), fn(logits, arg), str))
    rows = []
    for k in range(len(sets)):
        for name, args in (("typical_p", (0.2, 0.6, 0.95)), ("top_p", (0.2, 0.6, 0.95)), ("min_p", (0.02, 0.2, 0.7)),
                           ("top_n_sigma", (0.5, 1.0, 2.5)), ("xtc", (0.02, 0.1, 0.3))):
            for a, arg in enumerate(args):
                v = "vec_%s_%d_%d" % (name, k, a)
                rows.append('\t{"%s", %r, vec_logits_%d, %d, %s, sizeof(%s) / sizeof(%s[0])},' % (name, arg, k, len(sets[k]), v, v, v))
    out.append("static const struct kept_vector {\n\tconst char *plugin;\n\tdouble value;\n\tconst float *logits;\n\tuint32_t n;\n"
               "\tconst int32_t *kept;\n\tuint32_t n_kept;\n} kept_vectors[] __attribute__((unused)) = {\n%s\n};\n" % "\n".join(rows))

    # dry: few distinct tokens, so that repetitions abound; 3 is a breaker
    rows = []
    for k in range(6):
        tokens = [rnd.randrange(0, 5 if k < 3 else 3) for _ in range(8 + 12 * k)]
        allowed = 1 + k % 3
        penalties = dry(tokens, {3}, 0.8, 1.75, allowed)
        out.append(c_list("int32_t", "vec_dry_tokens_%d" % k, tokens, str))
        out.append(c_list("double", "vec_dry_penalty_%d" % k, [penalties.get(t, 0.0) for t in range(5)], lambda x: x.hex()))
        rows.append("\t{vec_dry_tokens_%d, %d, %d, vec_dry_penalty_%d}," % (k, len(tokens), allowed, k))
    out.append("static const struct dry_vector {\n\tconst int32_t *tokens;\n\tuint32_t n, allowed;\n\tconst double *penalty;\t/* [5] */\n"
               "} dry_vectors[] __attribute__((unused)) = {\n%s\n};\n" % "\n".join(rows))

    steps = [[f32(rnd.gauss(0, 1.5)) for _ in range(64)] for _ in range(12)]
    picks = [rnd.randrange(0, 64) for _ in steps]
    out.append(c_list("float", "vec_mirostat_logits", [x for s in steps for x in s], lambda x: x.hex() + "f"))
    result = mirostat(steps, 3.0, 0.4, picks)
    out.append("static const struct mirostat_vector {\n\tuint32_t kept;\n\tint32_t drawn;\n\tdouble mu;\n} mirostat_vectors[] __attribute__((unused)) = {\n%s\n};"
               % "\n".join("\t{%d, %d, %s}," % (a, b, c.hex()) for a, b, c in result))
    print("\n".join(out))


main()
