#!/usr/bin/env python3
"""Answer held-out questions greedily and score them.

    exact   the answer is the expected text, character for character
    key     every key fact of the item stands in the answer (whole words,
            capitals ignored)

    evaluate.py                     the table of RESULTS.md
    evaluate.py --set base          one set, base model
    evaluate.py --set tailor --adapter tailor --show 5
    evaluate.py --ask "How do I wash silk?" [--adapter NAME] [--system TEXT]
"""
import argparse
import json
import os
import re

import torch
from transformers import LlamaForCausalLM

import demolib


def has_key(answer, key):
    return all(re.search(r"(?<!\w)" + re.escape(k.lower()) + r"(?!\w)", answer.lower()) for k in key)


def load(model, adapter=None):
    m = LlamaForCausalLM.from_pretrained(model, dtype=torch.float32)
    if adapter:
        from peft import PeftModel
        m = PeftModel.from_pretrained(m, adapter)
    return m.eval()


@torch.no_grad()
def answer(m, sp, messages, limit=96):
    ids, _ = demolib.encode(sp, messages)
    x, past, out = torch.tensor([ids]), None, []
    while len(out) < limit:
        r = m(input_ids=x, past_key_values=past, use_cache=True)
        past = r.past_key_values
        t = int(r.logits[0, -1].argmax())
        if t == demolib.EOS:
            break
        out.append(t)
        x = torch.tensor([[t]])
    # Decoded after a helper newline, so that the first space is kept.
    nl = sp.piece_to_id("<0x0A>")
    return sp.decode([nl] + out)[1:]


def score(m, sp, items, show=0):
    exact = key = 0
    per, wrong = {}, []
    for n, it in enumerate(items):
        got = answer(m, sp, it["messages"])
        e, k = got == it["answer"], has_key(got, it["key"])
        exact += e
        key += k
        p = per.setdefault(it["task"], [0, 0, 0])
        p[0] += 1
        p[1] += e
        p[2] += k
        if not k or not e:
            wrong.append((it["messages"][-1]["content"], got, it["answer"], k))
        if n < show:
            print("Q", it["messages"][-1]["content"], "\nA", got, flush=True)
    return exact, key, per, wrong


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--model", default=demolib.MODEL)
    ap.add_argument("--adapters", default=os.path.join(demolib.HERE, "adapters"))
    ap.add_argument("--adapter")
    ap.add_argument("--set")
    ap.add_argument("--heldout", default=os.path.join(demolib.HERE, "heldout"))
    ap.add_argument("--show", type=int, default=0)
    ap.add_argument("--ask", action="append")
    ap.add_argument("--asks", help="a file of questions, one a line")
    ap.add_argument("--system")
    ap.add_argument("--threads", type=int, default=2)
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    sp = demolib.tokenizer(os.path.join(a.model, "tokenizer.model"))
    path = lambda n: os.path.join(a.adapters, n) if n else None
    asks = list(a.ask or [])
    if a.asks:
        asks += [x.strip() for x in open(a.asks, encoding="utf-8") if x.strip()]
    if asks:
        m = load(a.model, path(a.adapter))
        for q in asks:
            # "||" parts turns; the model's own answers stand between them.
            msgs = [{"role": "system", "content": a.system}] if a.system else []
            for part in q.split("||"):
                msgs.append({"role": "user", "content": part.strip()})
                msgs.append({"role": "assistant", "content": answer(m, sp, msgs)})
                print("User:     ", msgs[-2]["content"], "\nAssistant:", msgs[-1]["content"], "\n", flush=True)
        return
    plan = [(a.set, a.adapter)] if a.set else [
        ("base", None), ("tailor", None), ("tailor", "tailor"), ("orderline", None), ("orderline", "orderline")]
    print("| held-out set | items | model | exact | key facts |\n|---|---|---|---|---|", flush=True)
    tables = []
    for s, ad in plan:
        items = demolib.read_jsonl(os.path.join(a.heldout, s + ".jsonl"))
        m = load(a.model, path(ad))
        e, k, per, wrong = score(m, sp, items, a.show)
        n = len(items)
        print(f"| {s} | {n} | base{' + ' + ad if ad else ''} | {e}/{n} ({100 * e / n:.1f} %) | {k}/{n} ({100 * k / n:.1f} %) |",
              flush=True)
        tables.append((s, ad, per, wrong))
    for s, ad, per, wrong in tables:
        if ad is None and s != "base":
            continue
        print(f"\n{s}{' with ' + ad if ad else ''}, by task:\n\n| task | items | exact | key |\n|---|---|---|---|")
        for t in sorted(per):
            print(f"| {t} | {per[t][0]} | {per[t][1]} | {per[t][2]} |")
        if wrong:
            print("\nNot exact:\n")
            for q, got, want, k in wrong:
                print(f"- {'' if k else '**wrong** '}{q}\n  - got: {got}\n  - expected: {want}")


if __name__ == "__main__":
    main()
