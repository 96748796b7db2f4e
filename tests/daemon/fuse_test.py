"""adapter.fuse, over real sockets: every type and form, against the blend; what is cut short leaves nothing; who waits for whom."""
import os
import shutil
import signal
import tempfile

import adapter_kit
from peer import SRC, Peer, Weftd, run

ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
TYPES = ("cat", "svd", "linear", "ties", "ties_svd", "dare_linear", "dare_ties", "dare_linear_svd", "dare_ties_svd", "magnitude_prune",
         "magnitude_prune_svd")
QUESTIONS = ("We need five navy cotton dresses in size S.", "How do I wash a silk blouse?", "Which coat do you have for the rain?")
LONG = dict(type="ties_svd", density=0.5, adapters={"tailor": 0.7, "orderline": 0.5})    # whole products of 28 modules


class Place:
    """The demo's two adapters, and `other`: rank 4 on the attention, as orderline has it."""

    def __enter__(self):
        self.path = tempfile.mkdtemp(prefix="weft-fuse-", dir="/tmp")
        self.adapters, self.out = self.path + "/adapters", self.path + "/out"
        shutil.copytree(os.path.join(SRC, "tests", "demo", "adapters"), self.adapters)
        for folder, _, _ in os.walk(self.adapters):
            os.chmod(folder, 0o755)     # the sources may be read-only
        adapter_kit.write(self.adapters + "/other", rank=4, seed=3, modules=ATTENTION, strength=0.1)
        os.mkdir(self.out)
        self.before = self.all()
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.path, ignore_errors=True)

    def all(self):
        return sorted(os.listdir(self.adapters)) + sorted(os.listdir(self.out))

    def weftd(self, *args, **kw):
        return Weftd("--adapters", self.adapters, "--fuse-output", self.out, *args, **kw)


def fuse(p, **fields):
    return p.call("adapter.fuse", **{"topic": p.topic, **fields})["job"]


def fused(p, **fields):
    done = p.done(fuse(p, **fields))
    assert done["state"] == "done", done
    assert [e["event"] for e in p.events[done["job"]]][:2] == ["queued", "started"]
    return done["result"]


def refused(p, **fields):
    e = p.refused("adapter.fuse", **{"topic": p.topic, "name": "x", "adapters": {"tailor": 1}, **fields})
    return e.code, e.field


def name_of(name, form):
    return name + ".gguf" if form == "gguf" else name


def text(p, question, **fields):
    done = p.done(p.generate(messages=[{"role": "user", "content": question}], max_tokens=40, temperature=0, **fields))
    assert done["state"] == "done", done
    return done["choices"][0]["text"]


def logprobs(p, **fields):
    """Of some fixed continuations, token by token."""
    job = p.call("score", topic=p.topic, prompt="The tailor said:", continuations=[" " + q for q in QUESTIONS], **fields)["job"]
    return [x for c in p.done(job)["choices"] for x in c["token_logprobs"]]


def apart(a, b):
    assert len(a) == len(b)
    return max(abs(x - y) for x, y in zip(a, b))


def with_amx(p):
    """Then a prompt's activations are rounded to bf16 here and there: sums whose last bits differ may fall on two sides."""
    return p.call("hello")["model"]["backend"] == "cpu-amx"


def blend_bound(p):
    return 0.05 if with_amx(p) else 0.01


def merge_bound(p):
    return 0.2 if with_amx(p) else 0.1


def listed(p, name):
    return next((a for a in p.call("adapters")["adapters"] if a["name"] == name), None)


def test_every_type_is_made_in_every_form_and_can_be_used_at_once():
    with Place() as f, f.weftd() as d, Peer(d) as p:
        plain = logprobs(p)
        seen = set()
        for kind in TYPES:
            options = {} if kind in ("cat", "svd", "linear") else {"density": 0.6}
            if "dare" in kind:
                options["seed"] = 5
            results = {}
            for form in ("peft", "gguf", "base"):
                r = fused(p, name=name_of(kind, form), adapters={"orderline": 0.8, "other": -0.4}, type=kind, form=form, **options)
                assert r["name"] == name_of(kind, form) and r["form"] == form and r["modules"] == 16, r
                assert r["rank"] == (8 if kind == "cat" else 4) and r["bytes"] > 100000 and len(r["digest"]) == 64, r
                results[form] = r
            assert results["peft"]["digest"] == results["gguf"]["digest"], kind
            a = listed(p, kind)
            assert a["residency"] == "registered", a
            now = logprobs(p, adapters={kind: 1})
            assert apart(now, plain) > 0.05, f"{kind} changes nothing"
            assert now == logprobs(p, adapters={kind + ".gguf": 1})
            a = listed(p, kind)
            assert a["digest"] == results["peft"]["digest"] and a["rank_max"] == results["peft"]["rank"]
            seen.add(a["digest"])
            assert os.path.exists(f"{f.out}/{kind}/model.safetensors")
        assert len(seen) == len(TYPES)


def test_cat_and_svd_of_full_rank_are_the_blend_and_linear_of_one_is_its_scale():
    with Place() as f, f.weftd() as d, Peer(d) as p:
        blend = {"tailor": 0.7, "orderline": 0.6}
        less = [fused(p, name=f"svd{n}", adapters=blend, type="svd", svd_rank=n)["left_out"] for n in (2, 6, 11, 12)]
        assert 1 > less[0] > less[1] > less[2] > 1e-3 and less[3] < 1e-9, less
        for name, fields, same in [("cat", {}, blend), ("svd", {"type": "svd", "svd_rank": 12}, blend),
                                   ("less", {"adapters": {"tailor": 1, "orderline": -0.25}}, {"tailor": 1, "orderline": -0.25}),
                                   ("half", {"type": "linear", "adapters": {"tailor": 0.5}}, {"tailor": 0.5}),
                                   ("half.gguf", {"type": "linear", "adapters": {"tailor": 0.5}, "form": "gguf"}, {"tailor": 0.5})]:
            fused(p, **{"name": name, "adapters": blend, **fields})
            off = apart(logprobs(p, adapters={name: 1}), logprobs(p, adapters=same))
            print(f"{name}: log-probabilities at most {off:.2g} apart from the blend's")
            assert off < blend_bound(p), (name, off)
            assert [text(p, q, adapters={name: 1}) for q in QUESTIONS] == [text(p, q, adapters=same) for q in QUESTIONS]
        assert logprobs(p, adapters={"cat": 1}) != logprobs(p)


def test_a_merged_base_is_a_model_of_its_own_and_agrees_within_the_roundings_of_its_type():
    with Place() as f:
        blend = {"tailor": 0.7, "orderline": 0.6}
        with f.weftd() as d, Peer(d) as p:
            r = fused(p, name="merged", adapters=blend, form="base", shard_bytes=1 << 20)
            want, texts, plain = logprobs(p, adapters=blend), [text(p, q, adapters=blend) for q in QUESTIONS], logprobs(p)
        assert sum(x.endswith(".safetensors") for x in os.listdir(f.out + "/merged")) > 4 and r["rank"] == 12
        with Weftd(model=f.out + "/merged") as d, Peer(d) as p:
            got = logprobs(p)
            print(f"merged: log-probabilities at most {apart(got, want):.2g} apart from the blend's; the base's {apart(plain, want):.2g}")
            assert apart(got, want) < merge_bound(p) < apart(plain, want) / 4
            assert [text(p, q) for q in QUESTIONS] == texts


def test_folders_that_are_missing_are_made():
    with Place() as f, Weftd("--adapters", f.path + "/new:" + f.adapters, "--fuse-output", f.path + "/bases") as d, Peer(d) as p:
        fused(p, name="x", adapters={"tailor": 1})
        fused(p, name="x", adapters={"x": 2}, form="base")
        assert os.listdir(f.path + "/new") == ["x"] and os.listdir(f.path + "/bases") == ["x"]
        assert listed(p, "x") and f.all() == f.before


def test_the_options_of_the_reply_make_the_same_bytes_and_another_seed_others():
    with Place() as f, f.weftd() as d, Peer(d) as p:
        fields = dict(adapters={"other": 1, "orderline": 2}, type="dare_ties", density=0.3, sign_method="frequency", dtype="bf16")
        r = p.call("adapter.fuse", topic=p.topic, name="one", **fields)
        first = p.done(r["job"])["result"]["digest"]
        assert r["options"]["seed"] > 0 and r["options"]["class"] == "batch" and r["options"]["mathematics"] == "true"
        assert fused(p, **{**r["options"], "name": "two"})["digest"] == first
        assert fused(p, **{**r["options"], "name": "three", "seed": r["options"]["seed"] ^ 1})["digest"] != first
        old = fused(p, name="four", mathematics="peft-0.9", **{**fields, "seed": r["options"]["seed"]})["digest"]
        assert old not in (first, None)
        assert os.path.getsize(f.adapters + "/one/adapter_model.safetensors") < os.path.getsize(f.adapters + "/other/adapter_model.safetensors")


def test_what_makes_no_sense_is_refused_with_its_field():
    with Place() as f, f.weftd() as d, Peer(d) as p:
        bad, no = "invalid_argument", "not_found"
        for fields, want in [
            ({"nope": 1}, (bad, "nope")), ({"topic": "x"}, (bad, "topic")), ({"name": 5}, (bad, "name")), ({"name": "../x"}, (bad, "name")),
            ({"name": ""}, (bad, "name")), ({"name": "a/b"}, (bad, "name")), ({"name": ".x"}, (bad, "name")), ({"name": "n" * 129}, (bad, "name")),
            ({"name": "x.gguf"}, (bad, "name")), ({"form": "gguf"}, (bad, "name")), ({"form": "bin"}, (bad, "form")), ({"form": 1}, (bad, "form")),
            ({"adapters": {}}, (bad, "adapters")), ({"adapters": ["tailor"]}, (bad, "adapters")), ({"adapters": {"tailor": "1"}}, (bad, "adapters.tailor")),
            ({"adapters": {f"n{i}": 1 for i in range(17)}}, (bad, "adapters")), ({"adapters": {"none": 1}}, (no, "adapters.none")),
            ({"adapters": {"../tailor": 1}}, (no, "adapters.../tailor")), ({"adapters": {"tailor": 1, "none": 1}}, (no, "adapters.none")),
            ({"type": "mean"}, (bad, "type")), ({"type": None}, (bad, "type")), ({"mathematics": "peft-9"}, (bad, "mathematics")),
            ({"type": "ties", "density": 0.5, "mathematics": "peft-0.6"}, (bad, "mathematics")), ({"type": "ties"}, (bad, "density")),
            ({"type": "ties", "density": 0}, (bad, "density")), ({"type": "ties", "density": 1.5}, (bad, "density")), ({"density": 0.5}, (bad, "density")),
            ({"type": "ties", "density": "half"}, (bad, "density")), ({"sign_method": "total"}, (bad, "sign_method")),
            ({"type": "ties", "density": 0.5, "sign_method": "most"}, (bad, "sign_method")), ({"svd_rank": 4}, (bad, "svd_rank")),
            ({"type": "svd", "svd_rank": -1}, (bad, "svd_rank")), ({"type": "svd", "svd_rank": 2000}, (bad, "svd_rank")),
            ({"type": "svd", "svd_clamp": 2}, (bad, "svd_clamp")), ({"type": "linear", "svd_clamp": 0.0}, (bad, "svd_clamp")), ({"seed": 1}, (bad, "seed")),
            ({"type": "dare_linear", "density": 0.5, "seed": 0.5}, (bad, "seed")), ({"dtype": "f64"}, (bad, "dtype")),
            ({"dtype": "f16", "form": "base"}, (bad, "dtype")), ({"shard_bytes": 1 << 30}, (bad, "shard_bytes")),
            ({"form": "base", "shard_bytes": 1}, (bad, "shard_bytes")), ({"replace": 1}, (bad, "replace")), ({"priority": 5000}, (bad, "priority")),
            ({"type": "linear", "mathematics": "peft-0.9", "adapters": {"tailor": -1}}, (bad, "adapters")), ({"durable": True}, ("unsupported", "durable")),
            ({"name": "tailor"}, ("conflict", "name")),
        ]:
            got = refused(p, **fields)
            assert got == want, (fields, got)
        assert p.refused("adapter.fuse", topic=p.topic, name="x").field == "adapters"
        done = p.done(fuse(p, name="x", type="linear", adapters={"tailor": 1, "orderline": 1}))
        assert done["state"] == "failed" and done["error"]["code"] == "invalid_argument" and "ranks 8 and 4" in done["error"]["message"], done
        assert "result" not in done and f.all() == f.before
    with Place() as f, Weftd("--adapters", f.adapters) as d, Peer(d) as p:
        assert refused(p, form="base") == ("unsupported", "form")
        p.call("pause")
        assert refused(p) == ("draining", None)
    with Weftd() as d, Peer(d) as p:
        assert refused(p) == ("unsupported", "adapters")


def test_a_name_that_is_taken_is_replaced_only_when_told_so_and_running_jobs_keep_what_they_have():
    with Place() as f, f.weftd() as d, Peer(d) as p:
        for form in ("peft", "gguf"):
            name = name_of("mine", form)
            old = fused(p, name=name, form=form, adapters={"tailor": 1})["digest"]
            assert refused(p, name=name, form=form) == ("conflict", "name")
            long = dict(prompt="The tailor", max_tokens=300, ignore_eos=True, temperature=0, adapters={name: 1})
            want = p.done(p.generate(**long))
            job = p.generate(**long)
            p.seen(job, "delta")
            new = fused(p, name=name, form=form, adapters={"tailor": 0.5, "orderline": 1}, replace=True)["digest"]
            assert p.done(job)["digest"] == want["digest"]
            later = p.done(p.generate(**long))
            assert later["digest"] != want["digest"] and new != old and listed(p, name)["digest"] == new
        for n in (1, 2):
            fused(p, name="whole", form="base", adapters={"tailor": n}, replace=n == 2)
        assert f.all() == sorted(f.before + ["mine", "mine.gguf", "whole"], key=lambda x: (x == "whole", x))
        os.makedirs(f.adapters + "/precious/inner")
        done = p.done(fuse(p, name="precious", adapters={"tailor": 1}, replace=True))
        assert done["state"] == "failed" and os.path.isdir(f.adapters + "/precious/inner"), done


def test_a_cancelled_fusion_leaves_nothing():
    with Place() as f, f.weftd() as d, Peer(d) as p:
        for form in ("peft", "gguf", "base"):
            job = fuse(p, name=name_of("x", form), form=form, **LONG)
            p.seen(job, "progress")
            assert len(f.all()) > len(f.before), "it is not under way: nothing is shown"
            assert p.call("cancel", job=job)["result"] == "cancelled"
            done = p.done(job)
            assert done["state"] == "cancelled" and "result" not in done and "error" not in done, done
            assert f.all() == f.before, form
            progress = [e["done"] for e in p.events[job] if e["event"] == "progress"]
            assert progress == sorted(progress) and progress[-1] < 1000
        job = fuse(p, name="late", deadline_ms=300, **LONG)
        assert p.done(job)["state"] == "expired" and f.all() == f.before


def test_what_a_killed_fusion_leaves_is_removed_at_the_next_start_or_the_next_fusion():
    with Place() as f:
        for form in ("peft", "gguf", "base"):
            d = f.weftd()
            with Peer(d) as p:
                job = fuse(p, name=name_of("x", form), form=form, **LONG)
                p.seen(job, "progress")
                d.kill()
            d.finish(True)
            left = set(f.all()) - set(f.before)
            assert left and all(x.startswith(".x") for x in left), left
            with f.weftd() as d:
                assert f.all() == f.before and "removed what 1 killed fusions had left" in d.log(), d.log()
        with f.weftd() as d, Peer(d) as p:
            open(f.adapters + "/.y.fusing-0123456789abcdef", "w").close()
            fused(p, name="x", adapters={"tailor": 1})
            assert f.all() == sorted(f.before + ["x"])


def test_requests_beside_a_fusion_have_the_bytes_that_they_have_alone_and_do_not_wait_for_it():
    with Place() as f, f.weftd() as d, Peer(d) as p:
        def ask():
            return [p.generate(prompt=f"The loom {i}", max_tokens=30, seed=i, ignore_eos=True, adapters={"tailor": 0.5} if i % 2 else {"orderline": 1})
                    for i in range(8)]
        alone = [p.done(j)["digest"] for j in ask()]
        job = fuse(p, name="x", **LONG)
        p.seen(job, "progress")
        beside = [p.done(j)["digest"] for j in ask()]
        busy = p.call("job", job=job)["state"] == "running"
        assert p.done(job)["state"] == "done" and beside == alone
        assert busy, "the fusion was over too soon: nothing was shown"
        s = p.call("stats")
        print(f"loop lag at most {s['loop']['lag_ms_max']:.1f} ms, steps at most {s['engine']['step_ms_max']:.1f} ms")


def test_tasks_wait_for_each_other_and_are_jobs_like_any_other():
    with Place() as f, f.weftd() as d, Peer(d) as p:
        first = fuse(p, name="a", **LONG)
        r = p.call("adapter.fuse", topic=p.topic, name="b", **LONG)
        third = fuse(p, name="c", adapters={"tailor": 1}, priority=0)
        assert r["position"] == 0
        j = p.call("job", job=first)
        assert (j["op"], j["state"], j["class"], j["topic"]) == ("adapter.fuse", "running", "batch", p.topic) and "decoder" not in j
        assert [(x["job"], x["state"]) for x in p.call("jobs", **{"class": "batch"})["jobs"]] == [(first, "running"), (r["job"], "queued"), (third, "queued")]
        assert p.refused("close", job=first).code == "conflict"
        assert p.call("cancel", job=r["job"])["state"] == "cancelled"
        assert p.done(r["job"])["state"] == "cancelled" and [e["event"] for e in p.events[r["job"]]] == ["queued", "done"]
        assert p.done(first)["state"] == "done" and p.done(third)["state"] == "done"
        events = p.call("results", job=first)["events"]
        assert events == p.events[first] and events[-1]["timing"]["total_ms"] > 0
        assert p.call("close", job=first)["job"] == first and p.refused("job", job=first).code == "not_found"
    with Place() as f, f.weftd("--max-tasks", "2") as d, Peer(d) as p:
        jobs = [fuse(p, name=n, **LONG) for n in "ab"]
        p.wait(lambda: p.call("stats")["jobs"]["running"] == 2, "both at once")
        assert [p.done(j)["state"] for j in jobs] == ["done", "done"]


def test_a_drain_waits_for_a_fusion_and_its_timeout_ends_it_cleanly():
    with Place() as f:
        with f.weftd() as d, Peer(d) as p:
            job = fuse(p, name="x", **LONG)
            p.seen(job, "progress")
            d.signal(signal.SIGTERM)
            assert p.done(job)["state"] == "done" and d.wait() == 0
        assert "x" in f.all()
        before = f.all()
        for signals in (1, 2):
            with f.weftd("--drain-timeout", "50ms" if signals == 1 else "10min") as d, Peer(d) as p:
                jobs = [fuse(p, name="y", **LONG), fuse(p, name="z", **LONG)]
                p.seen(jobs[0], "progress")
                d.signal(signal.SIGTERM)
                if signals == 2:
                    p.wait(lambda: p.call("hello")["state"] == "draining", "the drain")
                    d.signal(signal.SIGTERM)
                assert [p.done(j)["state"] for j in jobs] == ["cancelled", "cancelled"]
                assert d.wait() == 0
            assert f.all() == before


run(globals())
