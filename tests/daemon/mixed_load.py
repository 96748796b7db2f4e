"""Requests of every kind, drawn at random from a seed, with the answers of an undisturbed daemon: what the long harnesses send and compare with.

    answers = Catalogue(seed, 40, folder)     # asks an undisturbed daemon
    answers.judge(n, events)                  # of a job made by answers.requests[n]: every byte that does not tell of time"""
import random

import msgpack

from peer import Peer, Refused, Weftd, check_events

STORIES = ("Tell me about wool and silk.", "Which fabric keeps warm?", "The loom is", "We need five navy cotton dresses in size S.", "Linen",
           "How do I wash a silk blouse?")
BLENDS = ({"a": 1.0}, {"a": 0.7, "b": -0.4}, {"c": 0.5, "d": 1.25}, {"a": 0.3, "b": 0.3, "c": 0.3, "d": 0.3}, {"d": 0.0, "b": 1.0})


def sampling(rng):
    """A few options of any sampler, together."""
    pool = [dict(temperature=rng.choice((0, 0.6, 1.3))), dict(top_k=rng.choice((3, 40))), dict(top_p=0.9), dict(min_p=0.02), dict(typical_p=0.95),
            dict(top_n_sigma=1.5), dict(xtc_probability=0.5, xtc_threshold=0.05), dict(mirostat=2, mirostat_tau=4.0),
            dict(dry_multiplier=0.8, dry_allowed_length=1, dry_penalty_last_n=0), dict(repetition_penalty=1.2), dict(presence_penalty=0.5),
            dict(frequency_penalty=0.4), dict(logit_bias={"300": 2.0, "259": -100.0}), dict(min_tokens=3), dict(stop=[" the", "ing"]), dict(stop=["."]),
            dict(stop_token_ids=[269, 13]), dict(logprobs=rng.randrange(4)), dict(prompt_logprobs=1), dict(echo=True), dict(n=rng.choice((2, 3)))]
    fields = {}
    for one in rng.sample(pool, rng.randrange(2, 7)):
        fields.update(one)
    return fields


def request(rng, row=False):
    """(op, fields)"""
    fields = dict(seed=rng.randrange(1 << 32), max_tokens=rng.choice((4, 12, 30, 60, 150)), ignore_eos=rng.random() < 0.8)
    story = rng.choice(STORIES)
    if rng.random() < 0.3:
        fields["adapters"] = rng.choice(BLENDS)
    kind = rng.random()
    if kind < 0.15:
        del fields["seed"], fields["max_tokens"], fields["ignore_eos"]
        return "score", dict(fields, prompt=story, continuations=[" warm and soft" * rng.randrange(1, 12), " a fish"], logprobs=rng.randrange(3))
    if kind < 0.3:
        fields.update(messages=[dict(role="system", content="Be brief."), dict(role="user", content=story)], template="fashiongpt")
    elif kind < 0.4:
        fields.update(tokens=[1] + [rng.randrange(300, 1000) for _ in range(rng.choice((2, 200)))])
    else:
        fields.update(prompt=story * rng.choice((1, 1, 1, 12)))
    if not row and rng.random() < 0.3:
        fields.update(priority=rng.randrange(200), **{"class": "batch"})
    return "generate", {**fields, **sampling(rng)}


def bits(value):
    """Equal only for equal bits, also of floats."""
    return msgpack.packb(value)


def essence(events):
    """All of a job's history that the request alone decides. Batch rows have a done event only."""
    done = events[-1]
    whole = {k: done.get(k) for k in ("state", "choices", "prompt_logprobs", "digest", "blend")}
    whole["usage"] = [done["usage"][k] for k in ("prompt_tokens", "completion_tokens")]
    deltas = [e for e in events if e["event"] == "delta"]
    whole["logprobs"] = [[x for e in deltas if e["choice"] == c for x in e.get("logprobs", ())] for c in range(len(done["choices"]))]
    for c, choice in enumerate(done["choices"]):
        if deltas and "finish" in choice:
            assert "".join(e["text"] for e in deltas if e["choice"] == c) == choice["text"], "deltas and answer differ"
            assert [t for e in deltas if e["choice"] == c for t in e["tokens"]] == choice["tokens"], "deltas and answer differ"
    return whole


def as_in_deltas(entry):
    """A row's log-probability of one token, without the texts."""
    return {**{k: v for k, v in entry.items() if k != "text"}, "top": [[t["token"], t["logprob"]] for t in entry["top"]]}


class Catalogue:
    def __init__(self, seed, size, *args):
        """args: of the undisturbed weftd."""
        self.rng, self.requests, self.essences = random.Random(seed), [], []
        with Weftd("--threads", "1", "--log-level", "warning", *args) as d, Peer(d) as p:
            while len(self.requests) < size:
                op, fields = request(self.rng)
                try:
                    job = p.call(op, topic=p.topic, **fields)["job"]
                except Refused as e:
                    assert e.code == "invalid_argument", e      # options that exclude one another: draw again
                    continue
                assert p.done(job)["state"] == "done", (fields, p.events[job][-1])
                self.requests.append((op, fields))
                self.essences.append(essence(p.events.pop(job)))
        assert len({e["digest"] for e in self.essences}) > size // 2, "the requests answer all alike: nothing would be shown"

    def draw(self, rng):
        return rng.randrange(len(self.requests))

    def fits(self, n, events):
        return bits(essence(events)) == bits(self.essences[n])

    def judge(self, n, events, ends=("done",)):
        """The whole history of one job. ends: the states that it may have ended in; what ended early is the beginning of the answer."""
        check_events(events)
        done = events[-1]
        assert done["state"] in ends, (done["state"], ends, done.get("error"), self.requests[n])
        if done["state"] == "done":
            got, want = essence(events), self.essences[n]
            assert bits(got) == bits(want), f"another answer than undisturbed: {self.requests[n]}\n{got}\n{want}"
            return
        for got, want in zip(done["choices"], self.essences[n]["choices"]):
            assert got["tokens"] == want["tokens"][:len(got["tokens"])], f"not the beginning of the answer: {self.requests[n]}\n{got}\n{want}"

    def judge_row(self, n, done):
        """A row of a batch: its only event, which has the log-probabilities that else the deltas have."""
        assert done["event"] == "done" and done["seq"] == 0 and done["state"] == "done", (done, self.requests[n])
        got, want = essence([done]), self.essences[n]
        if self.requests[n][0] == "generate":
            got["choices"] = [{k: v for k, v in c.items() if k != "logprobs"} for c in done["choices"]]
            got["logprobs"] = [[as_in_deltas(x) for x in c.get("logprobs", ())] for c in done["choices"]]
        assert bits(got) == bits(want), f"another answer than undisturbed: {self.requests[n]}\n{got}\n{want}"

    def as_row(self, n, custom_id):
        op, fields = self.requests[n]
        return dict(op=op, custom_id=custom_id, request={k: v for k, v in fields.items() if k != "class"})
