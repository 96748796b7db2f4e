"""weftd with packed weights kept for the next start: the same answers off the cache as off a fresh packing, and where the cache is."""
import os
import resource
import shutil
import tempfile

from peer import SRC, Peer, Weftd, run

DEMO = os.path.join(SRC, "tests", "demo", "model")
ADAPTERS = os.path.join(SRC, "tests", "demo", "adapters")
ASKS = [{"prompt": "What does the shop sell?", "temperature": 0},
        {"prompt": "Two tables, please", "adapters": {"orderline": 1.0}, "temperature": 0},
        {"prompt": "Once", "temperature": 0.8, "seed": 7, "logprobs": 2}]


class Folder:
    """A folder of its own for a test; path() is inside it."""

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="weft-", dir="/tmp")
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.folder, name)


def answers(d):
    with Peer(d) as p:
        return [p.done(p.generate(max_tokens=12, **a))["choices"] for a in ASKS]


def start(*args, says, **kw):
    """The answers of one daemon, whose log has the line on the weights."""
    with Weftd("--adapters", ADAPTERS, "--adapters-check", "0", *args, **kw) as d:
        got = answers(d)
        assert says in d.log(), d.log()
        return got


def packed(folder):
    return [os.path.join(folder, f) for f in sorted(os.listdir(folder))] if os.path.isdir(folder) else []


def test_answers_off_the_cache_are_those_of_a_fresh_packing():
    with Folder() as f:
        cache = f.path("cache")
        for quant in ("none", "q8", "q4", "nf4"):
            fresh = start("--quant", quant, says="weights packed in ")
            args = ("--quant", quant, "--packed-cache", cache)
            assert start(*args, says=f"written to {cache}/") == fresh
            assert start(*args, says=f", from {cache}/") == fresh
        assert len(packed(cache)) == 4


def test_by_default_the_cache_is_in_the_state_folder_and_without_one_there_is_none():
    with Folder() as f:
        state, given = f.path("state"), f.path("given")
        with Weftd("--state", state) as d:
            assert f"written to {state}/cache/" in d.log(), d.log()
        with Weftd("--state", state) as d:
            assert f", from {state}/cache/" in d.log(), d.log()
        with Weftd("--state", f.path("other"), "--packed-cache", "none") as d:
            assert packed(f.path("other/cache")) == [] and "written" not in d.log(), d.log()
        with Weftd("--state", f.path("third"), env={"CACHE_DIRECTORY": f"{given}:/nonexistent"}) as d:      # systemd's
            assert f"written to {given}/" in d.log() and packed(f.path("third/cache")) == [], d.log()
        with Weftd() as d:
            assert packed(d.folder + "/cache") == [] and "written" not in d.log(), d.log()


def test_another_source_under_the_same_name_is_packed_anew():
    with Folder() as f:
        model, cache = f.path("model"), f.path("cache")
        shutil.copytree(DEMO, model)
        first = start("--packed-cache", cache, says="written to ", model=model)
        weights = os.path.join(model, "model.safetensors")
        with open(weights, "r+b") as w:         # a few weights of the last tensor: the size stays, and the time is set back
            before = os.stat(weights)
            w.seek(-4096, os.SEEK_END)
            w.write(bytes(4096))
        os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
        changed = start("--packed-cache", cache, says="the source has changed", model=model)
        assert changed == start(says="weights packed in ", model=model) and changed != first
        assert changed == start("--packed-cache", cache, says="weights mapped in ", model=model)


def test_a_damaged_cache_is_packed_anew_and_one_that_cannot_be_written_is_a_warning():
    with Folder() as f:
        cache = f.path("cache")
        fresh = start("--packed-cache", cache, says="written to ")
        [path] = packed(cache)
        with open(path, "r+b") as w:
            w.seek(-1, os.SEEK_END)
            last = w.read(1)
            w.seek(-1, os.SEEK_END)
            w.write(bytes([last[0] ^ 1]))
        assert start("--packed-cache", cache, says="it was damaged") == fresh
        os.truncate(path, os.path.getsize(path) // 2)
        assert start("--packed-cache", cache, says="it had another length") == fresh
        os.unlink(path)
        assert start("--packed-cache", cache, says="not kept in ", limit=(resource.RLIMIT_FSIZE, 100000)) == fresh
        assert packed(cache) == []
        assert start("--packed-cache", f.path("no/such"), says="No such file or directory") == fresh


def test_packed_weights_of_models_that_are_served_no_more_go():
    with Folder() as f:
        cache = f.path("cache")
        with Weftd("--packed-cache", cache, "--packed-cache-max", "1", "--quant", "q8"), \
                Weftd("--packed-cache", cache, "--packed-cache-max", "1", "--quant", "q4"):
            assert len(packed(cache)) == 2              # both are being served
        with Weftd("--packed-cache", cache, "--packed-cache-max", "1") as d:
            assert "2 older files of " in d.log() and len(packed(cache)) == 1, d.log()
        with Weftd("--packed-cache", cache, "--packed-cache-max", "0", "--quant", "q8") as d:
            assert "removed" not in d.log() and len(packed(cache)) == 2, d.log()


def test_daemons_that_start_at_once_are_all_right():
    with Folder() as f:
        cache = f.path("cache")
        daemons = [Weftd("--packed-cache", cache, "--adapters", ADAPTERS, ready=False) for _ in range(4)]
        try:
            for d in daemons:
                d.wait_ready()
            got = [answers(d) for d in daemons]
        finally:
            for d in daemons:
                d.finish(True)
        assert all(g == got[0] for g in got)
        assert len(packed(cache)) == 1
        assert start("--packed-cache", cache, says="weights mapped in ") == got[0]


if __name__ == "__main__":
    run(globals())
