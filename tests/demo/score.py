#!/usr/bin/python3
"""Asks a running weftd the held-out questions and counts the right answers: as evaluate.py does, without torch.

    score.py                                        every set, the base
    score.py --adapter tailor=1 tailor base         two sets, with an adapter
    score.py --model both --skip 40 tailor          a blend by its name; not the first 40 questions of each set

exact: the answer is the expected text, character for character. key: every key fact stands in it (whole words, capitals ignored).
All questions are sent at once; the server batches them. Needs pyzmq and msgpack, which ./autogen.sh installs; the server's endpoints are
those of weft (WEFT_REQUEST, WEFT_ANSWER)."""
import argparse
import json
import os
import re

import msgpack
import zmq

HERE = os.path.dirname(os.path.abspath(__file__))


def has_key(answer, key):
    return all(re.search(r"(?<!\w)" + re.escape(k.lower()) + r"(?!\w)", answer.lower()) for k in key)


class Client:
    """One topic; events may come before the reply that names their job."""

    def __init__(self, request, answer):
        context = zmq.Context()
        context.linger = 0
        self.dealer, self.sub = context.socket(zmq.DEALER), context.socket(zmq.SUB)
        self.topic, self.ids, self.ends = os.urandom(16).hex(), 0, {}
        self.sub.rcvhwm = 0
        self.dealer.connect(request)
        self.sub.connect(answer)
        self.sub.subscribe(self.topic)
        while not self.sub.poll(100):
            self.call("hello", topic=self.topic)      # until its event comes, the subscription is under way

    def call(self, op, **fields):
        self.ids += 1
        self.dealer.send(msgpack.packb({"v": 1, "id": self.ids, "op": op, **fields}))
        while True:
            if not self.dealer.poll(10000):
                raise SystemExit("no reply from weftd")
            r = msgpack.unpackb(self.dealer.recv())
            if r["id"] == self.ids:
                break
        if not r["ok"]:
            raise SystemExit(f"refused: {r['error']['message']} ({r['error'].get('field')})")
        return r

    def end(self, job):
        """The job's done event, by asking now and then: what was lost on the way is no loss."""
        while True:
            if self.call("job", job=job)["state"] in ("done", "failed", "cancelled", "expired"):
                events, at = [], 0
                while not events or events[-1]["event"] != "done":
                    r = self.call("results", job=job, **{"from": at})
                    events, at = r["events"], r["next"]
                return events[-1]
            self.sub.poll(100)
            while self.sub.poll(0):
                self.sub.recv_multipart()


def ask(client, items, fields):
    jobs = [client.call("generate", topic=client.topic, messages=x["messages"], temperature=0, max_tokens=96, on_disconnect="cancel", **fields)["job"] for x in items]
    for job in jobs:
        done = client.end(job)
        if done["state"] != "done":
            raise SystemExit(f"job {job}: {done['state']}: {done.get('error')}")
        yield done["choices"][0]["text"]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("sets", nargs="*", default=["base", "tailor", "orderline"])
    ap.add_argument("--adapter", action="append", default=[], metavar="NAME=SCALE")
    ap.add_argument("--model")
    ap.add_argument("--skip", type=int, default=0, help="questions of each set that are not asked")
    ap.add_argument("--show", action="store_true", help="print what is not exact")
    ap.add_argument("--request", default=os.environ.get("WEFT_REQUEST", "ipc:///run/weft/request"))
    ap.add_argument("--answer", default=os.environ.get("WEFT_ANSWER", "ipc:///run/weft/answer"))
    a = ap.parse_args()
    fields = {"model": a.model} if a.model else {}
    if a.adapter:
        fields["adapters"] = {n: float(s) for n, s in (x.split("=") for x in a.adapter)}
    client = Client(a.request, a.answer)
    for name in a.sets:
        with open(os.path.join(HERE, "heldout", name + ".jsonl"), encoding="utf-8") as f:
            items = [json.loads(x) for x in f][a.skip:]
        exact = key = 0
        for x, got in zip(items, ask(client, items, fields)):
            exact += got == x["answer"]
            key += has_key(got, x["key"])
            if a.show and got != x["answer"]:
                print(f"  {x['messages'][-1]['content']}\n    got      {got}\n    expected {x['answer']}")
        n = len(items)
        print(f"{name}: {n} questions, exact {exact} ({100 * exact / n:.0f} %), key facts {key} ({100 * key / n:.0f} %)", flush=True)


if __name__ == "__main__":
    main()
