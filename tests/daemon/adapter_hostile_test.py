"""Adapters that are not what they seem: names, contents and scales that could be mistaken for others (P6), links, files that are no files,
files that shrink or vanish, memory that is too short. Each is refused with the reason or served rightly; weftd goes on."""
import os
import shutil
import struct
import tempfile

import adapter_kit
from adapter_kit import PROMPT, Folder, answer, listed, loaded
from peer import Peer, Weftd, run

LONG = {"prompt": "The loom is old, and the weaver who sits before it has woven wool and linen for as long as anybody in the town can "
                  "remember; she knows every thread of it, the warp and the weft, and says", "max_tokens": 40, "temperature": 1, "seed": 3, "ignore_eos": True}
WEIGHTS = "adapter_model.safetensors"
EXIT_CONFIG = 78


def fails(p, why, code="unsupported", **fields):
    """The job is accepted, because only loading shows it, and fails; later requests are refused at once."""
    done = p.done(p.generate(**{**PROMPT, **fields}))
    assert done["state"] == "failed" and done["error"]["code"] == code and why in done["error"]["message"], (why, done)


def refuses(p, code, field, why="", **fields):
    e = p.refused("generate", topic=p.topic, **{**PROMPT, **fields})
    assert (e.code, e.field) == (code, field) and why in str(e), e
    return e


def refuses_to_start(why, *args):
    with Weftd(*args, ready=False) as d:
        assert d.wait() == EXIT_CONFIG and why in d.log(), d.log()


def test_keys_and_values_of_another_content_or_scale_are_never_reused():
    with Folder() as f:
        alone = {}
        for seed in (0, 50):
            adapter_kit.write(f.join("a"), seed=seed)
            for scale in (1, -1, 0.5):
                with Weftd("--adapters", f.path) as d, Peer(d) as p:        # nothing is there to be reused
                    alone[seed, scale] = answer(p, **LONG, adapters={"a": scale})["digest"]
        assert len(set(alone.values())) == 6, alone
        with Weftd("--adapters", f.path) as d, Peer(d) as p:
            for seed in (0, 50, 0):
                adapter_kit.write(f.join("a"), seed=seed)
                for scale in (1, -1, 0.5, 1):
                    assert answer(p, **LONG, adapters={"a": scale})["digest"] == alone[seed, scale], (seed, scale)
            os.rename(f.join("a"), f.join("z"))
            os.rename(f.join("b"), f.join("a"))
            assert answer(p, **LONG, adapters={"z": 0.5})["digest"] == alone[0, 0.5], "the same content under another name"
            assert answer(p, **LONG, adapters={"a": 0.5})["digest"] not in alone.values(), "the name has another content now"


def test_the_same_contents_under_two_names_of_one_blend_are_refused_with_both_names():
    with Folder() as f, Weftd("--adapters", f.path) as d, Peer(d) as p:
        shutil.copytree(f.join("a"), f.join("twin"))
        fails(p, "a and twin have the same contents", "invalid_argument", adapters={"a": 1, "b": 1, "twin": 0.5})
        refuses(p, "invalid_argument", "adapters", "twin and a have the same contents", adapters={"twin": 1, "a": 1})
        sole, other = answer(p, adapters={"a": 1, "twin": 0}), answer(p, adapters={"a": 0, "twin": 1})
        assert sole["digest"] == other["digest"] and sole["blend"] == other["blend"]


def test_names_at_the_limits():
    good = ["x" * 128, "-", "--", "_", "-rf", "a.", "a..b", "1", "A-b_c.9", "con", "a.gguf", "x" * 123 + ".gguf"]
    with Folder() as f:
        for name in good:
            shutil.copytree(f.join("a"), f.join(name))
        for name in ("x" * 129, "with space", "ä"):
            shutil.copytree(f.join("b"), f.join(name))
        with Weftd("--adapters", f.path) as d, Peer(d) as p:
            want = answer(p, adapters={"a": 1})["digest"]
            for name in good:
                assert answer(p, adapters={name: 1})["digest"] == want, name
            names = {a["name"] for a in p.call("adapters")["adapters"]}
            assert names == set("abcd") | set(good), names
            e = p.refused("generate", topic=p.topic, **PROMPT, adapters={"x" * 129: 1})
            assert e.code == "not_found", e
            assert p.refused("adapter.load", name="x" * 129).code == "not_found"


def test_the_first_folder_gives_a_name_and_the_others_follow_when_it_goes():
    with Folder() as f, Folder() as g:
        adapter_kit.write(g.join("a"), seed=77)
        with Weftd("--adapters", f"{f.path}:{g.path}") as d, Peer(d) as p:
            first = answer(p, adapters={"a": 1})["digest"]
            os.rename(f.join("a"), f.join("away"))
            second = answer(p, adapters={"a": 1})["digest"]
            os.rename(f.join("away"), f.join("a"))
            assert second != first == answer(p, adapters={"a": 1})["digest"]
            assert [a["name"] for a in p.call("adapters")["adapters"]] == list("abcd")


def test_links_are_followed_as_the_operator_made_them():
    with Folder() as f, tempfile.TemporaryDirectory(prefix="weft-adapters-", dir="/tmp") as away:
        for seed in (1, 2):
            adapter_kit.write(os.path.join(away, f"v{seed}"), rank=seed * 3, seed=seed)
        os.symlink(os.path.join(away, "v1"), f.join("link"))
        os.symlink(os.path.join(away, "nothing"), f.join("dangling"))
        os.symlink(f.join("loop"), f.join("loop"))
        os.makedirs(f.join("blobs"))        # as a hub's cache does it: a folder of links to files
        for file in os.listdir(f.join("b")):
            os.symlink(f.join(os.path.join("b", file)), f.join(os.path.join("blobs", file)))
        with Weftd("--adapters", f.path) as d, Peer(d) as p:
            one = answer(p, adapters={"link": 1})
            assert answer(p, adapters={"blobs": 1})["digest"] == answer(p, adapters={"b": 1})["digest"]
            for name in ("dangling", "loop"):
                refuses(p, "not_found", f"adapters.{name}", adapters={name: 1})
            assert {a["name"] for a in p.call("adapters")["adapters"]} == set("abcd") | {"link", "blobs"}
            os.symlink(os.path.join(away, "v2"), f.join(".new"))
            os.rename(f.join(".new"), f.join("link"))
            two = answer(p, adapters={"link": 1})
            assert two["blend"] != one["blend"] and two["digest"] != one["digest"]
            shutil.rmtree(os.path.join(away, "v2"))
            refuses(p, "not_found", "adapters.link", adapters={"link": 1})


def test_folders_come_go_and_come_back():
    with Folder() as f, Weftd("--adapters", f.path) as d, Peer(d) as p:
        want = answer(p, adapters={"a": 1})["digest"]
        job = p.generate(**{**PROMPT, "max_tokens": 200}, adapters={"a": 1})
        os.rename(f.join("a"), f.join(".a"))
        refuses(p, "not_found", "adapters.a", adapters={"a": 1})
        assert p.refused("adapter.load", name="a").code == p.refused("adapter.unload", name="a").code == "not_found"
        assert [a["name"] for a in p.call("adapters")["adapters"]] == list("bcd")
        assert p.done(job)["state"] == "done", "it had pinned what is gone"
        os.rename(f.join(".a"), f.join("a"))
        assert answer(p, adapters={"a": 1})["digest"] == want
        shutil.rmtree(f.path)
        refuses(p, "not_found", "adapters.a", adapters={"a": 1})
        assert p.call("adapters")["adapters"] == []
        os.makedirs(f.path)
        adapter_kit.write(f.join("a"), rank=4, seed=0)
        assert answer(p, adapters={"a": 1})["digest"] == want


def test_what_is_no_adapter_is_refused_with_the_reason():
    with Folder() as f, Weftd("--adapters", f.path) as d, Peer(d) as p:
        for name in "klmnopqr":
            shutil.copytree(f.join("a"), f.join(name))
        weights = {name: os.path.join(f.join(name), WEIGHTS) for name in "klmnopqr"}
        whole = os.path.getsize(weights["k"])
        os.truncate(weights["k"], whole - 1)
        with open(weights["l"], "r+b") as file:      # as long as it should be, but not written yet
            file.truncate(0)
            file.truncate(whole)
        with open(weights["m"], "wb") as file:
            file.write(struct.pack("<Q", 1 << 62))
        os.truncate(weights["n"], 1 << 42)          # 4 TiB of nothing: not even read
        os.unlink(weights["o"])
        os.mkfifo(weights["o"])
        os.unlink(weights["p"])
        os.makedirs(weights["p"])
        os.truncate(os.path.join(f.join("q"), "adapter_config.json"), 0)
        os.truncate(os.path.join(f.join("r"), "adapter_config.json"), 1 << 40)
        os.mkfifo(f.join("fifo.gguf"))
        with open(f.join("empty.gguf"), "wb"):
            pass
        for name, why in {"k": "data_offsets", "l": "JSON", "m": "header", "n": "adapters_memory", "o": "not a regular file", "p": "not a regular file",
                          "q": "adapter_config.json", "r": "adapters_memory", "empty.gguf": "GGUF"}.items():
            fails(p, why, adapters={name: 1})
            assert why in listed(p, name)["reason"] and listed(p, name)["residency"] == "failed"
        refuses(p, "not_found", "adapters.fifo.gguf", adapters={"fifo.gguf": 1})
        refuses(p, "unsupported", "adapters.k", "data_offsets", adapters={"b": 1, "k": 1})
        assert listed(p, "n")["reason"] and answer(p, adapters={"a": 1})
        for name in "klmnopqr":
            shutil.rmtree(f.join(name))
            shutil.copytree(f.join("a"), f.join(name))
        assert len({answer(p, adapters={name: 1})["digest"] for name in "aklmnopqr"}) == 1


def test_files_that_may_not_be_read_are_refused_until_they_may():
    if os.geteuid() == 0:
        print("   not as root, who may read all")
        return
    with Folder() as f, Weftd("--adapters", f.path) as d, Peer(d) as p:
        os.chmod(os.path.join(f.join("a"), WEIGHTS), 0)
        fails(p, "ermission", adapters={"a": 1})
        fails(p, "ermission", adapters={"a": 1})       # asked again: rights may come without a trace in the file
        os.chmod(os.path.join(f.join("a"), WEIGHTS), 0o600)
        answer(p, adapters={"a": 1})


def test_when_all_memory_is_pinned_others_wait_and_can_be_cancelled_or_expire():
    with Folder() as f:
        with Weftd("--adapters", f.path) as d, Peer(d) as p:
            size = {n: loaded(p, n)["bytes"] for n in "abcd"}
            want = answer(p, adapters={"c": 1})["digest"]
        with Weftd("--adapters", f.path, "--adapters-memory", str(max(size["a"], size["c"]) + 10)) as d, Peer(d) as p:
            loaded(p, "a")
            holder = p.generate(**{**PROMPT, "max_tokens": 450}, adapters={"a": 1})
            p.seen(holder, "delta")
            waiting = p.generate(**PROMPT, adapters={"c": 1})
            cancelled, expired = p.generate(**PROMPT, adapters={"b": 1}), p.generate(**PROMPT, adapters={"b": 1, "a": 0.5}, queue_ms=1)
            assert p.call("cancel", job=cancelled)["result"] == "cancelled"
            assert p.done(cancelled)["state"] == "cancelled" and p.done(expired)["state"] == "expired"
            assert answer(p)["state"] == "done", "who needs no adapter does not wait"
            assert p.done(waiting)["digest"] == want and p.done(holder)["state"] == "done"
            # More in one blend than the limit allows: it is served all the same, alone.
            assert answer(p, adapters={n: 0.25 for n in "abcd"})["state"] == "done"
            p.wait(lambda: p.call("adapters")["resident_bytes"] <= max(size["a"], size["c"]) + 10, "memory within its limit")


def test_blends_of_the_configuration():
    with Folder() as f:
        for i in range(13):
            adapter_kit.write(f.join(f"n{i}"), rank=1, seed=i, modules=["mlp.up_proj"])
        five, most = "a:0.5,b:-1,c:0.25,d:1e-3,n0:2", ",".join([f"n{i}:{i / 8 - 1}" for i in range(13)] + ["a:1", "b:.5", "c:-1e-3"])
        with Weftd("--adapters", f.path, "--blends", f"fashion-v1.1={five}  16={most} a=b:1 unknown=nope:1 zero=a:0") as d, Peer(d) as p:
            def wish(text):
                return {n: float(s) for n, s in (part.split(":") for part in text.split(","))}
            assert answer(p, model="fashion-v1.1")["digest"] == answer(p, adapters=wish(five))["digest"]
            assert answer(p, model="16")["digest"] == answer(p, adapters=wish(most))["digest"]
            assert answer(p, model="a")["digest"] == answer(p, adapters={"b": 1})["digest"] != answer(p, adapters={"a": 1})["digest"], \
                "model names blends, adapters names adapters"
            assert answer(p, model="zero")["digest"] == answer(p)["digest"]
            refuses(p, "not_found", "adapters.nope", model="unknown")
            refuses(p, "not_found", "model", model="b")
            base = p.call("hello")["model"]["name"]
            assert answer(p, model=base, adapters={"b": 1})["digest"] == answer(p, model="a")["digest"]
        for text, why in {f"17={most},d:1": "1 to 16 adapters", "x=a:nan": "1 to 16 adapters", "x=a:1e39": "1 to 16 adapters", "x=a:inf": "1 to 16 adapters",
                          "x=a:1,a:1": "each once", "x=a:1 x=b:1": "x", "x=": "1 to 16 adapters", "x=../a:1": "1 to 16 adapters", "=a:1": "expected",
                          f"{base}=a:1": "name of the base"}.items():
            refuses_to_start(why, "--adapters", f.path, "--blends", text)


def test_scales_at_the_limits():
    with Folder() as f, Weftd("--adapters", f.path) as d, Peer(d) as p:
        loaded(p, "a")
        base = answer(p)["digest"]
        assert answer(p, adapters={"a": -0.0})["digest"] == base == answer(p, adapters={n: 0 for n in "abcd"})["digest"]
        assert answer(p, adapters={"a": 1e-45})["digest"], "the smallest that is not 0"
        assert answer(p, adapters={"a": 1e-60})["blend"] == "0" * 64, "0 in the precision that counts"
        refuses(p, "invalid_argument", "adapters.a", adapters={"a": float("nan")})
        refuses(p, "invalid_argument", "adapters.a", adapters={"a": float("-inf")})
        refuses(p, "invalid_argument", "adapters.a", adapters={"a": 3.5e38})
        refuses(p, "invalid_argument", "adapters", "range", adapters={"a": 3e38})       # times alpha / r it is none
        done = p.done(p.generate(**PROMPT, adapters={"a": 1e37}))
        assert done["state"] in ("done", "failed") and (done["state"] == "done" or done["error"]["message"]), done
        assert answer(p)["digest"] == base, "and nobody else noticed"


run(globals())
