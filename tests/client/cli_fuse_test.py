"""`weft adapters fuse` against a real weftd: what it makes and says, --json, --detach, Ctrl-C, the progress line, wrong options."""
import json
import os
import shutil
import signal
import sys
import tempfile

from cli_test import FAILED, INTERRUPTED, OK, REFUSED, USAGE, NoTerminal, Weft, on_terminal, running_job, state_of
from weftd import DEADLINE, SRC, Weftd

BOTH = ("--adapter", "tailor=0.7", "--adapter", "orderline=0.5")
LONG = (*BOTH, "--type", "ties_svd", "--density", "0.5")      # a second of work and more


def names(weft):
    return sorted(os.listdir(weft.folder))


def test_it_makes_an_adapter_and_says_what_it_made(weft):
    out = weft("adapters", "fuse", "cat", *BOTH)
    assert out.startswith("cat ") and "rank 12, 28 modules" in out and len(out.splitlines()) == 1, out
    listed = weft("adapters")
    assert any(line.startswith("cat ") for line in listed.splitlines()), listed
    want = weft("generate", "--adapter", "tailor=0.7", "--adapter", "orderline=0.5", "--temperature", "0", "--max-tokens", "30", "How do I wash silk?")
    assert weft("generate", "--adapter", "cat=1", "--temperature", "0", "--max-tokens", "30", "How do I wash silk?") == want


def test_every_option_reaches_the_server(weft):
    events = weft.json("adapters", "fuse", "all.gguf", "--adapter", "orderline=-0.5", "--adapter", "tailor=1", "--type", "dare_ties_svd", "--density", "0.25",
                       "--sign-method", "frequency", "--svd-rank", "3", "--svd-clamp", "0.99", "--seed", "7", "--mathematics", "peft-0.18", "--form", "gguf",
                       "--class", "interactive", "--priority", "3", "--deadline-ms", "600000", "--queue-ms", "500000", "--on-disconnect", "cancel")
    assert [e["seq"] for e in events] == list(range(len(events))) and events[-1]["result"]["rank"] == 3, events[-1]
    o = weft.json("adapters", "fuse", "more", "--detach", "--adapter", "orderline=-0.5", "--adapter", "tailor=1", "--type", "dare_ties_svd", "--density", "0.25",
                  "--sign-method", "frequency", "--svd-rank", "3", "--svd-clamp", "0.99", "--seed", "7", "--mathematics", "peft-0.18", "--dtype", "bf16",
                  "--priority", "3")[0]
    want = dict(name="more", adapters={"orderline": -0.5, "tailor": 1.0}, type="dare_ties_svd", density=0.25, sign_method="frequency", svd_rank=3, seed=7,
                mathematics="peft-0.18", form="peft", dtype="bf16", priority=3, replace=False, on_disconnect="keep")
    assert want.items() <= o["options"].items() and list(o["options"]["adapters"]) == ["orderline", "tailor"], o
    out = weft("results", "--wait", str(o["job"]))
    assert "rank               3\n" in out and "name               more\n" in out, out
    assert "adapter.fuse" in weft("jobs")
    base = weft.json("adapters", "fuse", "base", *BOTH, "--form", "base", "--shard-bytes", "1048576")[-1]
    assert base["result"]["form"] == "base" and os.path.exists(weft.out + "/base/config.json")


def test_a_taken_name_is_refused_until_it_is_replaced(weft):
    weft("adapters", "fuse", "mine", "--adapter", "tailor=1")
    weft("adapters", "fuse", "mine", "--adapter", "tailor=1", status=REFUSED)
    assert "conflict, name" in weft.err, weft.err
    weft("adapters", "fuse", "mine", "--adapter", "tailor=2", "--replace")


def test_a_failure_is_said_with_its_reason(weft):
    weft("adapters", "fuse", "x", *BOTH, "--type", "linear", status=FAILED)
    assert "ranks 8 and 4" in weft.err, weft.err


def test_wrong_options_are_usage_errors_and_wrong_values_refusals(weft):
    for args, part in (((), "--adapter"), (("--adapter", "tailor"), "NAME=WEIGHT or NAME=SCALE"), ((*BOTH, "--density", "much"), "--density"),
                       ((*BOTH, "--svd-rank", "x"), "--svd-rank"), ((*BOTH, "--adapter", "tailor=1"), "twice"), ((*BOTH, "--top-k", "3"), "--top-k")):
        weft("adapters", "fuse", "x", *args, status=USAGE)
        assert any(p in weft.err for p in part.split(" or ")), (args, weft.err)
    weft("adapters", "--type", "cat", status=USAGE)
    weft("adapters", "load", "tailor", "--replace", status=USAGE)
    weft("adapters", "fuse", status=USAGE)
    weft("adapters", "melt", "x", status=USAGE)
    for args, part in (((*BOTH, "--type", "mean"), "type"), ((*BOTH, "--density", "0.5"), "density"), (("--adapter", "none=1"), "adapters.none")):
        weft("adapters", "fuse", "x", *args, status=REFUSED)
        assert f", {part})" in weft.err, (args, weft.err)


def test_ctrl_c_cancels_it_and_nothing_is_left(weft):
    before = names(weft)
    p = weft.popen("adapters", "fuse", "x", *LONG)
    job = running_job(weft)
    p.send_signal(signal.SIGINT)
    out, _ = p.communicate(timeout=DEADLINE)
    assert p.returncode == INTERRUPTED and not out, (p.returncode, out)
    assert state_of(weft, job) == "cancelled" and names(weft) == before


def test_a_terminal_gets_a_progress_line(weft):
    status, out = on_terminal(weft, ["adapters", "fuse", "shown", *LONG])
    assert status == OK and "fusing, " in out and "%" in out and "rank 8" in out, out


def main():
    tests, failures = [(name, f) for name, f in globals().items() if name.startswith("test_")], []
    folder = tempfile.mkdtemp(prefix="weft-fuse-", dir="/tmp")
    shutil.copytree(os.path.join(SRC, "tests", "demo", "adapters"), folder + "/adapters")
    for place, _, _ in os.walk(folder):
        os.chmod(place, 0o755)      # the sources may be read-only
    os.mkdir(folder + "/out")
    try:
        with Weftd("--threads", "1", "--adapters", folder + "/adapters", "--fuse-output", folder + "/out") as d:
            weft = Weft(d)
            weft.folder, weft.out = folder + "/adapters", folder + "/out"
            for name, f in tests:
                try:
                    f(weft)
                    print(f"ok {name}", flush=True)
                except NoTerminal as e:
                    print(f"skipped {name}: {e}", flush=True)
                except (AssertionError, json.JSONDecodeError, KeyError) as e:
                    failures.append(name)
                    print(f"FAILED {name}: {e!r}", flush=True)
            if failures:
                raise RuntimeError(f"{len(failures)} failed: {', '.join(failures)}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    try:
        main()
    except RuntimeError as e:
        sys.exit(str(e))
