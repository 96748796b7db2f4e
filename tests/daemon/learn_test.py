"""adapter.learn, over real sockets: a learned blend answers both tasks, is pinned to the contents it was learned with, and comes out the same
byte for byte."""
import json
import os
import shutil
import subprocess
import sys
import tempfile

import adapter_kit
from peer import DEADLINE, SRC, Peer, Weftd, run

DEMO = os.path.join(SRC, "tests", "demo")
QUICK = dict(by="global", steps=3, batch=4, seed=1, rate=0.2)


def lines(task, n, skip=0):
    with open(os.path.join(DEMO, "heldout", task + ".jsonl"), encoding="utf-8") as f:
        return [{"messages": x["messages"], "answer": x["answer"]} for x in map(json.loads, list(f)[skip:skip + n])]


def mixed(n, skip=0):
    return [x for pair in zip(lines("tailor", n, skip), lines("orderline", n, skip)) for x in pair]


class Place:
    def __enter__(self):
        self.path = tempfile.mkdtemp(prefix="weft-learn-", dir="/tmp")
        self.adapters = self.path + "/adapters"
        shutil.copytree(os.path.join(DEMO, "adapters"), self.adapters)
        for folder, _, _ in os.walk(self.adapters):
            os.chmod(folder, 0o755)     # the sources may be read-only
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.path, ignore_errors=True)

    def weftd(self, *args, **kw):
        return Weftd("--adapters", self.adapters, *args, **kw)

    def file(self, name):
        return os.path.join(self.adapters, name + ".blend.json")

    def read(self, name):
        with open(self.file(name), encoding="utf-8") as f:
            return json.load(f)


def learn(p, **fields):
    return p.call("adapter.learn", **{"topic": p.topic, "adapters": ["tailor", "orderline"], **fields})["job"]


def learning_done(p, job):
    """A task has what others leave of the CPUs: on a busy machine, and under sanitizers, it takes its time."""
    p.wait(lambda: p.events.get(job) and p.events[job][-1]["event"] == "done", f"the end of job {job}", deadline=10 * DEADLINE)
    return p.done(job)


def learned(p, **fields):
    done = learning_done(p, learn(p, **fields))
    assert done["state"] == "done", done
    return done["result"]


def refused(p, **fields):
    e = p.refused("adapter.learn", **{"topic": p.topic, "name": "x", "adapters": ["tailor", "orderline"], "data": mixed(2), **fields})
    return e.code, e.field


def listed(p, name):
    return next(b for b in p.call("adapters")["learned"] if b["name"] == name)


def answer(p, messages, **fields):
    done = p.done(p.generate(messages=messages, temperature=0, max_tokens=96, **fields))
    assert done["state"] == "done", done
    return done


def test_a_learned_blend_serves_both_tasks_under_its_name():
    with Place() as f, f.weftd() as d, Peer(d) as p:
        job = learn(p, name="both", data=mixed(6), held_out=mixed(4, 12), steps=6, batch=6, rate=0.15, seed=3)
        r = learning_done(p, job)["result"]
        h = r["held_out"]
        assert h["learned"] < h["uniform"] < min(h["adapters"].values()) < h["base"], h
        assert r["held_out_examples"] == 8 and r["examples"] == 12
        steps = [e for e in p.events[job] if e["event"] == "progress"]
        assert steps and steps[-1]["done"] == steps[-1]["total"] == 6 and steps[-1]["detail"]["loss"] > 0
        file = f.read("both")
        assert len(file["learned"]["curve"]) == 6 and file["learned"]["held_out"] == h
        assert file["learned"]["curve"][-1] == steps[-1]["detail"]["loss"]
        weights = {a["name"]: a["weight"] for a in file["adapters"]}
        b = listed(p, "both")
        assert b["held_out"] == h and b["by"] == "global" and b["method"] == "gradient"
        got = answer(p, lines("tailor", 1, 30)[0]["messages"], model="both")
        assert got["blend"] == r["digest"]
        assert got["digest"] == answer(p, lines("tailor", 1, 30)[0]["messages"], adapters=weights)["digest"]


def test_the_same_seed_gives_the_same_file_and_another_does_not():
    with Place() as f, f.weftd() as d, Peer(d) as p:
        files = []
        for seed in (5, 5, 6):
            learned(p, name="again", data=mixed(4), **{**QUICK, "seed": seed, "by": "module"}, replace=True)
            with open(f.file("again"), "rb") as g:
                files.append(g.read())
        assert files[0] == files[1] != files[2]
        assert [len(a["weights"]) for a in f.read("again")["adapters"]] == [4, 4]
        assert f.read("again")["learned"]["held_out_examples"] == 2      # a fifth
        assert sorted(os.listdir(f.adapters)) == ["again.blend.json", "orderline", "tailor"]


def test_the_demo_s_questions_are_counted_without_torch():
    with Place() as f, f.weftd() as d:
        r = subprocess.run([sys.executable, os.path.join(DEMO, "score.py"), "--request", d.request, "--answer", d.answer, "--skip", "90", "--adapter", "orderline=1",
                            "orderline", "tailor"], capture_output=True, text=True, timeout=DEADLINE)
        assert r.stdout.splitlines() == ["orderline: 10 questions, exact 10 (100 %), key facts 10 (100 %)",
                                         "tailor: 10 questions, exact 0 (0 %), key facts 0 (0 %)"], r


def test_a_search_is_learning_too():
    with Place() as f, f.weftd() as d, Peer(d) as p:
        r = learned(p, name="sought", data=mixed(4), method="search", by="layer", steps=2, population=4, bound=0.5, seed=2)
        assert r["method"] == "search" and all(abs(w) <= 0.5 for a in f.read("sought")["adapters"] for row in a["weights"] for w in row)
        score = p.done(p.call("score", topic=p.topic, prompt="Wool", continuations=[" is"], model="sought")["job"])
        assert score["state"] == "done" and score["blend"] == r["digest"]


def test_contents_that_were_replaced_are_refused_with_the_reason():
    with Place() as f, f.weftd() as d, Peer(d) as p:
        learned(p, name="pinned", data=mixed(2), **QUICK)
        question = lines("tailor", 1, 50)[0]["messages"]
        answer(p, question, model="pinned")
        adapter_kit.write(os.path.join(f.adapters, "tailor"), rank=4, seed=9)
        job = p.call("generate", topic=p.topic, messages=question, model="pinned")["job"]    # the new contents are still being read
        done = p.done(job)
        assert done["state"] == "failed" and "other contents of tailor" in done["error"]["message"], done
        e = p.refused("generate", topic=p.topic, messages=question, model="pinned")
        assert (e.code, e.field) == ("unsupported", "adapters") and "other contents of tailor" in str(e)


def test_files_that_are_no_blends_are_refused_and_listed_with_the_reason():
    part = {"name": "tailor", "digest": "0" * 64, "weight": 1}
    good = {"format": "weft-blend", "version": 1, "base": {"name": "x", "layers": 4}, "adapters": [part]}
    bad = {"text": "{", "empty": "", "other": json.dumps({**good, "format": "x"}), "later": json.dumps({**good, "version": 2}),
           "none": json.dumps({**good, "adapters": []}), "two": json.dumps({**good, "adapters": [part, part]}),
           "both": json.dumps({**good, "adapters": [{**part, "weights": [[1] * 7] * 4}]}),
           "short": json.dumps({**good, "adapters": [{"name": "tailor", "digest": "0" * 64, "weights": [[1] * 7] * 3}]}),
           "path": json.dumps({**good, "adapters": [{**part, "name": "../tailor"}]}),
           "big": " " * (5 << 20), "infinite": json.dumps({**good, "adapters": [{**part, "weight": 1e39}]})}
    with Place() as f, f.weftd() as d, Peer(d) as p:
        for name, text in bad.items():
            with open(f.file(name), "w") as g:
                g.write(text)
            e = p.refused("generate", topic=p.topic, prompt="x", model=name)
            assert (e.code, e.field) == ("unsupported", "model"), (name, e)
            assert listed(p, name)["reason"]
        with open(f.file("other-base"), "w") as g:
            g.write(json.dumps({**good, "base": {"name": "x", "layers": 5}}))
        assert "5 layers" in str(p.refused("generate", topic=p.topic, prompt="x", model="other-base"))
        assert p.refused("generate", topic=p.topic, prompt="x", model="nothing").code == "not_found"
        assert p.refused("generate", topic=p.topic, prompt="x", model="other-base", adapters={"tailor": 1}).code == "invalid_argument"


def test_what_makes_no_sense_is_refused_with_its_field():
    with Place() as f, f.weftd("--blends", "taken=tailor:1") as d, Peer(d) as p:
        line = mixed(1)[0]
        for fields, want in [(dict(name="../x"), ("invalid_argument", "name")), (dict(name=4), ("invalid_argument", "name")),
                             (dict(name="taken"), ("conflict", "name")), (dict(adapters={}), ("invalid_argument", "adapters")),
                             (dict(adapters=["tailor", "tailor"]), ("invalid_argument", "adapters.1")),
                             (dict(adapters=["nobody"]), ("not_found", "adapters.0")), (dict(data=[]), ("invalid_argument", "data")),
                             (dict(data=[line]), ("invalid_argument", "data")), (dict(data=[line, 3]), ("invalid_argument", "data.1")),
                             (dict(data=[line, {"answer": "x"}]), ("invalid_argument", "data.1.tokens")),
                             (dict(data=[line, {"prompt": "x"}]), ("invalid_argument", "data.1.answer")),
                             (dict(data=[line, {"prompt": "x", "answer": "y", "wait": 1}]), ("invalid_argument", "data.1.wait")),
                             (dict(data=[line, {"messages": [{"role": "x", "content": ""}], "answer": "y"}]),
                              ("invalid_argument", "data.1.messages.0.role")),
                             (dict(held_out=[{"prompt": "x " * 600, "answer": "y"}]), ("too_large", "held_out.0.prompt")),
                             (dict(method="guess"), ("invalid_argument", "method")), (dict(by="row"), ("invalid_argument", "by")),
                             (dict(form="x"), ("invalid_argument", "form")), (dict(steps=0), ("invalid_argument", "steps")),
                             (dict(rate=0.0), ("invalid_argument", "rate")), (dict(method="search", rate=0.1), ("invalid_argument", "rate")),
                             (dict(bound=1.0), ("invalid_argument", "bound")), (dict(template="x"), ("invalid_argument", "template")),
                             (dict(adapters=["tailor"], form="softmax"), ("invalid_argument", "form")),
                             (dict(speed=1), ("invalid_argument", "speed"))]:
            got = refused(p, **fields)
            assert got == want, (fields, got, want)
        os.rename(os.path.join(f.adapters, "tailor", "adapter_model.safetensors"), os.path.join(f.adapters, "tailor", "away"))
        done = learning_done(p, learn(p, name="x", data=mixed(2), **QUICK))
        assert done["state"] == "failed" and "tailor" in done["error"]["message"], done


def test_a_cancelled_learning_leaves_nothing_and_disturbs_nobody():
    with Place() as f, f.weftd() as d, Peer(d) as p:
        job = learn(p, name="long", data=mixed(12), by="module", steps=100000, batch=16)
        p.wait(lambda: any(e["event"] == "progress" for e in p.events.get(job, ())), "a step", deadline=10 * DEADLINE)
        answer(p, lines("base", 1)[0]["messages"])
        p.call("cancel", job=job)
        assert p.done(job)["state"] == "cancelled"
        assert sorted(os.listdir(f.adapters)) == ["orderline", "tailor"]


if __name__ == "__main__":
    run(globals())
