"""Adapters by name, over real sockets: blends, versions, memory, hostile names."""
import os
import shutil
import tempfile
import time

import adapter_kit
from adapter_kit import PROMPT, Folder, answer, listed, loaded, tokens
from peer import Peer, Refused, Weftd, run

ZEROS = "0" * 64


def rss(d):
    with open(f"/proc/{d.pid}/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_base_adapter_and_blend_differ_and_scale_zero_is_the_base():
    with Folder() as f, Weftd("--adapters", f.path, "--blends", "mix=a:0.5,b:-1 one=a:1") as d, Peer(d) as p:
        base = tokens(p)
        one, two = answer(p, adapters={"a": 1}), answer(p, adapters={"a": 0.5, "b": -1.0})
        assert len({tuple(x) for x in (base, one["choices"][0]["tokens"], two["choices"][0]["tokens"])}) == 3
        zero = answer(p, adapters={"a": 0.0, "b": 0})
        assert zero["choices"][0]["tokens"] == base and zero["blend"] == ZEROS
        assert answer(p, model="mix")["digest"] == two["digest"] and answer(p, model="one")["blend"] == one["blend"]
        swapped = answer(p, adapters={"b": -1.0, "a": 0.5})
        assert swapped["blend"] == two["blend"] != one["blend"] and swapped["digest"] == two["digest"]
        assert tokens(p, model=p.call("hello")["model"]["name"]) == base
        assert "blend" not in answer(p)
        assert p.call("adapters")["blends"] == {"mix": {"a": 0.5, "b": -1.0}, "one": {"a": 1.0}}


def test_the_reply_names_scales_and_digests_and_its_options_make_the_same_request():
    with Folder() as f, Weftd("--adapters", f.path) as d, Peer(d) as p:
        a = loaded(p, "a")
        r = p.call("generate", topic=p.topic, **PROMPT, adapters={"a": 0.25, "b": 1})
        assert r["options"]["adapters"] == {"a": 0.25, "b": 1.0}
        assert r["adapters"]["a"] == {"scale": 0.25, "digest": a["digest"]} and r["adapters"]["b"]["digest"] is None
        again = p.generate(**{**PROMPT, **r["options"]})
        assert p.done(again)["digest"] == p.done(r["job"])["digest"]
        assert a["rank_min"] == a["rank_max"] == 4 and a["modules"] == 28 and a["kind"] == "lora" and a["bytes"] > 0
        assert listed(p, "a")["pins"] == 0 and listed(p, "d")["residency"] == "registered"


def test_score_takes_adapters():
    with Folder() as f, Weftd("--adapters", f.path) as d, Peer(d) as p:
        def score(**fields):
            return p.done(p.call("score", topic=p.topic, prompt="The loom", continuations=[" is", " was"], **fields)["job"])
        assert score()["choices"][0]["logprob"] != score(adapters={"a": 1})["choices"][0]["logprob"]
        assert score(adapters={"a": 0})["digest"] == score()["digest"]


def test_a_blend_has_the_same_bytes_alone_and_amid_64_others():
    with Folder() as f, Weftd("--adapters", f.path, "--max-running", "64", "--batch-rows", "48") as d, Peer(d) as p:
        wishes = [{"adapters": {n: (i % 5 - 2) * 0.4 + 0.1 for n in "abcd"[: i % 4 + 1]}} if i % 5 else {} for i in range(64)]
        alone = [answer(p, **wishes[i])["digest"] for i in (0, 1, 2, 7, 63)]
        jobs = [p.generate(**{**PROMPT, "class": "batch" if i % 3 else "interactive"}, **w) for i, w in enumerate(wishes)]
        digests = [p.done(j)["digest"] for j in jobs]
        assert [digests[i] for i in (0, 1, 2, 7, 63)] == alone
        assert len(set(digests)) > 5, "the neighbours are all alike"


def test_preempted_jobs_and_several_answers_keep_their_blend():
    with Folder() as f, Weftd("--adapters", f.path, "--max-running", "1") as d, Peer(d) as p:
        wish = dict(adapters={"a": 0.7, "c": -0.3}, n=2, max_tokens=60)
        want = answer(p, **wish)["digest"]
        job = p.generate(**{**PROMPT, **wish, "class": "batch"})
        p.seen(job, "delta")
        answer(p)
        done = p.done(job)
        assert done["digest"] == want
        assert any(e["event"] == "preempted" for e in p.events[job]), "it was not pre-empted: nothing was shown"


def test_replaced_files_are_a_new_version_for_later_requests_only():
    with Folder() as f, Weftd("--adapters", f.path) as d, Peer(d) as p:
        long = dict(max_tokens=300, adapters={"a": 1})
        old = answer(p, **long)
        job = p.generate(**{**PROMPT, **long})
        p.seen(job, "delta")
        adapter_kit.write(f.join("a"), rank=6, seed=99)
        new = answer(p, **{**long, "max_tokens": 12})
        assert new["blend"] != old["blend"] and new["choices"][0]["tokens"] != old["choices"][0]["tokens"][:12]
        running = p.done(job)
        assert running["digest"] == old["digest"] and running["blend"] == old["blend"]
        digest = listed(p, "a")["digest"]
        os.utime(f.join("a/adapter_model.safetensors"))
        assert answer(p, adapters={"a": 1})["blend"] == new["blend"] and listed(p, "a")["digest"] == digest, "touched is not changed"


def test_broken_files_are_refused_with_the_reason_and_mended_ones_load():
    with Folder() as f, Weftd("--adapters", f.path) as d, Peer(d) as p:
        adapter_kit.write(f.join("a"), damage=True)
        done = p.done(p.generate(**PROMPT, adapters={"a": 1}))
        assert done["state"] == "failed" and done["error"]["code"] == "unsupported" and done["error"]["message"], done
        e = p.refused("generate", topic=p.topic, **PROMPT, adapters={"a": 1})
        assert (e.code, e.field) == ("unsupported", "adapters.a"), e
        assert listed(p, "a")["residency"] == "failed" and listed(p, "a")["reason"]
        adapter_kit.write(f.join("a"))
        assert answer(p, adapters={"a": 1})["state"] == "done" and listed(p, "a")["residency"] == "resident"
        os.makedirs(f.join("empty"))
        assert loaded(p, "empty")["residency"] == "failed"
        shutil.copytree(f.join("a"), f.join("twin"))
        done = p.done(p.generate(**PROMPT, adapters={"a": 1, "twin": 1}))
        assert done["state"] == "failed" and "same contents" in done["error"]["message"] and "twin" in done["error"]["message"], done
        e = p.refused("generate", topic=p.topic, **PROMPT, adapters={"a": 1, "twin": 1})
        assert (e.code, e.field) == ("invalid_argument", "adapters"), e


def test_hostile_names_and_scales_are_refused():
    with Folder() as f, Weftd("--adapters", f.path + "/./", "--blends", "mix=a:1") as d, Peer(d) as p:
        os.symlink("/etc", f.join(".hidden"))
        for name in ("../a", "", "x" * 1000, ".", "..", "a/", "/etc", ".hidden", "a\0b", "ä", "a b", "nope", "a/adapter_config.json"):
            assert p.refused("generate", topic=p.topic, **PROMPT, adapters={name: 1}).code == "not_found", name
            for op in ("adapter.load", "adapter.unload"):
                assert p.refused(op, name=name).code == "not_found", name
            assert p.refused("generate", topic=p.topic, **PROMPT, model=name).code == "not_found", name
        for fields, field in [(dict(adapters={"a": "1"}), "adapters.a"), (dict(adapters={"a": 1e39}), "adapters.a"), (dict(adapters=["a"]), "adapters"),
                              (dict(adapters={f"n{i}": 1 for i in range(17)}), "adapters"), (dict(model=5), "model"),
                              (dict(model="mix", adapters={"a": 1}), "adapters")]:
            e = p.refused("generate", topic=p.topic, **PROMPT, **fields)
            assert (e.code, e.field) == ("invalid_argument", field), (fields, e)
        assert p.refused("adapter.load", name=7).field == "name"
        assert tokens(p, adapters={"a": 1})


def test_the_longest_unused_go_when_memory_is_short_and_pinned_ones_stay():
    with Folder() as f:
        with Weftd("--adapters", f.path) as d, Peer(d) as p:
            size = {n: loaded(p, n)["bytes"] for n in "abcd"}
            want = {n: answer(p, adapters={n: 1})["digest"] for n in "abcd"}
        limit = max(size["a"] + size["c"], size["c"] + size["b"])
        with Weftd("--adapters", f.path, "--adapters-memory", str(limit)) as d, Peer(d) as p:
            for n in "abcdabcd":
                assert answer(p, adapters={n: 1})["digest"] == want[n]
                assert p.call("adapters")["resident_bytes"] <= limit
            assert p.call("adapters")["evictions"] > 0
            job = p.generate(**{**PROMPT, "max_tokens": 300}, adapters={"a": 1})
            p.seen(job, "delta")
            jobs = [(n, p.generate(**PROMPT, adapters={n: 1})) for n in "bcdbcd"]
            assert [p.done(j)["digest"] for _, j in jobs] == [want[n] for n, _ in jobs]
            assert p.done(job)["state"] == "done"
        with Weftd("--adapters", f.path, "--adapters-memory", "65536") as d, Peer(d) as p:
            done = p.done(p.generate(**PROMPT, adapters={"c": 1}))
            assert done["state"] == "failed" and "adapters_memory" in done["error"]["message"], done


def test_load_unload_and_replace_under_traffic_give_no_wrong_answer_and_keep_memory_flat():
    env = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"}     # what the sanitizer keeps is no leak
    with Folder() as f, Weftd("--adapters", f.path, "--log-level", "warning", "--results-jobs", "10", env=env) as d, Peer(d) as p:
        contents = {}
        for seed in (1, 2):
            adapter_kit.write(f.join("a"), seed=seed)
            contents[seed] = answer(p, adapters={"a": 1})["digest"]
        b = answer(p, adapters={"b": 1})["digest"]
        files = {s: adapter_kit.write(f.join(f"s{s}"), seed=s) + "/adapter_model.safetensors" for s in (1, 2)}
        before = 0
        for turn in range(300):
            seed = turn % 2 + 1
            adapter_kit.put(f.join("a/adapter_model.safetensors"), open(files[seed], "rb").read())
            job, other = p.generate(**PROMPT, adapters={"a": 1}), p.generate(**PROMPT, adapters={"b": 1})
            try:
                p.call("adapter.unload", name="ab"[turn % 2])
                p.call("adapter.load", name="ab"[turn // 2 % 2])
            except Refused as e:
                assert e.code == "conflict", e
            assert p.done(job)["digest"] == contents[seed], f"turn {turn}"
            assert p.done(other)["digest"] == b, f"turn {turn}"
            p.events.clear()
            if turn == 100:
                before = rss(d)
        grown = rss(d) - before
        print(f"resident memory after 200 more replacements: {grown / 1e6:+.1f} MB")
        assert grown < 8 << 20, grown


def test_2000_registered_adapters_start_fast():
    with tempfile.TemporaryDirectory(prefix="weft-adapters-", dir="/tmp") as t:
        first = adapter_kit.write(os.path.join(t, "n0000"), rank=2)
        for i in range(1, 2000):
            os.makedirs(os.path.join(t, f"n{i:04}"))
            for file in os.listdir(first):
                os.link(os.path.join(first, file), os.path.join(t, f"n{i:04}", file))
        start = time.monotonic()
        with Weftd("--adapters", t) as d, Peer(d) as p:
            ready = time.monotonic() - start
            begin = time.monotonic()
            r = p.call("adapters")
            took = time.monotonic() - begin
            assert len(r["adapters"]) == 2000 and r["resident_bytes"] == 0
            assert answer(p, adapters={"n1999": 1})["digest"] == answer(p, adapters={"n0000": 1})["digest"]
            print(f"2,000 adapters: ready in {ready:.2f} s, listed in {took * 1000:.0f} ms, loop lag {p.call('stats')['loop']['lag_ms_max']:.1f} ms")


run(globals())
