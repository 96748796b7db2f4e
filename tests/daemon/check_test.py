"""The check of adapters once they are loaded: in the background, told by `adapters`; one that does not pass is refused with the reason."""
import os
import shutil
import tempfile

import adapter_kit
from adapter_kit import listed, loaded
from peer import DEADLINE, SRC, Peer, Weftd, run


class Place:
    def __enter__(self):
        self.path = tempfile.mkdtemp(prefix="weft-check-", dir="/tmp")
        shutil.copytree(os.path.join(SRC, "tests", "demo", "adapters"), self.path, dirs_exist_ok=True)
        for folder, _, _ in os.walk(self.path):
            os.chmod(folder, 0o755)     # the sources may be read-only
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.path, ignore_errors=True)

    def overflow(self, name):
        """Factors whose sums leave the range of f32."""
        adapter_kit.write(os.path.join(self.path, name), rank=4, seed=1, strength=1e37)


def checked(p, name):
    p.wait(lambda: listed(p, name).get("check", {}).get("state") not in (None, "pending"), f"check of {name}", deadline=10 * DEADLINE)
    return listed(p, name)


def test_every_loaded_adapter_is_checked_and_passes():
    for quant in ("none", "q8", "q4", "nf4"):
        with Place() as f, Weftd("--adapters", f.path, "--quant", quant) as d, Peer(d) as p:
            assert "check" not in listed(p, "tailor")
            assert loaded(p, "tailor")["check"]["state"] in ("pending", "passed")
            p.done(p.generate(prompt="The loom is", max_tokens=2, adapters={"orderline": 0.5}))
            for name in ("tailor", "orderline"):
                c = checked(p, name)["check"]
                assert c["state"] == "passed" and 0 < c["divergence"] < c["bound"] < 0.05 and c["layers"] == c["of"] == 4, c
                assert c["rounding"] > 0 and c["difference"] > 0, c


def test_what_does_not_pass_is_failed_and_refused_until_it_is_replaced():
    with Place() as f, Weftd("--adapters", f.path) as d, Peer(d) as p:
        f.overflow("wild")
        p.call("adapter.load", name="wild")
        a = checked(p, "wild")
        assert a["residency"] == "failed" and a["check"]["state"] == "failed" and "divergence" in a["reason"], a
        e = p.refused("generate", topic=p.topic, prompt="x", adapters={"wild": 1})
        assert e.code == "unsupported" and "divergence" in str(e)
        p.call("adapter.load", name="wild")     # told to try again, it is checked again
        assert checked(p, "wild")["residency"] == "failed"
        adapter_kit.write(os.path.join(f.path, "wild"), rank=4, seed=1)
        p.call("adapter.load", name="wild")
        p.wait(lambda: listed(p, "wild").get("check", {}).get("state") == "passed", "the check of what replaced it", deadline=10 * DEADLINE)
        assert listed(p, "wild")["residency"] == "resident"
        p.done(p.generate(prompt="x", max_tokens=2, adapters={"wild": 1}))


def test_without_time_there_is_no_check():
    with Place() as f, Weftd("--adapters", f.path, "--adapters-check", "0") as d, Peer(d) as p:
        f.overflow("wild")
        for name in ("tailor", "wild"):
            assert loaded(p, name)["residency"] == "resident" and "check" not in listed(p, name)


def test_the_same_contents_are_checked_once():
    with Place() as f, Weftd("--adapters", f.path) as d, Peer(d) as p:
        loaded(p, "tailor")
        first = checked(p, "tailor")["check"]
        p.call("adapter.unload", name="tailor")
        assert "check" not in listed(p, "tailor")
        assert loaded(p, "tailor")["check"] == first     # at once


if __name__ == "__main__":
    run(globals())
