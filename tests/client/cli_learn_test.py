"""`weft adapters learn` against a real weftd: what it makes and says, files that are not good, data that do not fit into a message, Ctrl-C."""
import json
import os
import shutil
import sys
import tempfile

from cli_test import FAILED, OK, REFUSED, USAGE, Weft
from weftd import SRC, Weftd

HELDOUT = os.path.join(SRC, "tests", "demo", "heldout")
BOTH = ("--adapter", "tailor", "--adapter", "orderline")


def test_it_learns_and_says_what_the_blend_is_worth(weft):
    out = weft("adapters", "learn", "mix", *BOTH, "--data", weft.data, "--steps", "3", "--batch", "4", "--rate", "0.2", "--seed", "1").splitlines()
    assert out[0].startswith("mix: learned by gradient, global, from 9 examples: loss "), out
    assert [line.split()[0] for line in out[1:3]] == ["tailor", "orderline"] and "mean loss on 3 held-out examples" in out
    assert [line.split()[0] for line in out[-5:]] == ["base", "tailor", "orderline", "uniform", "learned"]
    listed = [line for line in weft("adapters").splitlines() if line.startswith("mix ")]
    assert len(listed) == 1 and "learned" in listed[0] and "held-out loss" in listed[0], listed
    assert "KL" not in listed[0]
    weft("adapters", "learn", "mix", *BOTH, "--data", weft.data, status=REFUSED)
    assert "conflict, name" in weft.err, weft.err
    assert weft("generate", "--model", "mix", "--temperature", "0", "--max-tokens", "8", "How do I wash silk?")


def test_every_option_reaches_the_server(weft):
    o = weft.json("adapters", "learn", "all", "--detach", *BOTH, "--data", weft.data, "--held-out", weft.data, "--method", "search", "--by", "layer", "--steps",
                  "1", "--batch", "2", "--penalty", "0.1", "--population", "4", "--bound", "0.5", "--seed", "9", "--priority", "3", "--template", "fashiongpt",
                  "--replace", "--class", "interactive", "--deadline-ms", "600000", "--queue-ms", "500000", "--on-disconnect", "keep")[0]
    want = dict(name="all", adapters=["tailor", "orderline"], method="search", by="layer", steps=1, batch=2, penalty=0.1, population=4, bound=0.5, seed=9, priority=3,
                replace=True, on_disconnect="keep")
    assert want.items() <= o["options"].items(), o
    assert "held_out_examples  12\n" in weft("results", "--wait", str(o["job"]))
    o = weft.json("adapters", "learn", "more", *BOTH, "--data", weft.data, "--form", "sigmoid", "--rate", "0.3", "--steps", "2", "--batch", "2")[-1]
    assert o["state"] == "done" and o["result"]["method"] == "gradient"


def test_bad_files_are_said_with_their_line(weft):
    for text, part in (("{\n", "line 1"), ('\n{"prompt": "x", "answer": "y"}\n[]\n', "line 3")):
        path = os.path.join(weft.folder, "bad.jsonl")
        with open(path, "w") as f:
            f.write(text)
        weft("adapters", "learn", "x", *BOTH, "--data", path, status=FAILED)
        assert part in weft.err and "bad.jsonl" in weft.err, weft.err
    weft("adapters", "learn", "x", *BOTH, "--data", path + ".not", status=FAILED)
    assert "No such file" in weft.err, weft.err
    with open(path, "w") as f:
        f.write('{"prompt": "x", "answer": "y"}\n{"prompt": "x"}\n')
    weft("adapters", "learn", "x", *BOTH, "--data", path, status=REFUSED)
    assert "data.1.answer" in weft.err, weft.err


def test_data_that_do_not_fit_into_a_message_are_not_sent(weft):
    path = os.path.join(weft.folder, "much.jsonl")
    with open(path, "w") as f:
        for _ in range(2500):
            f.write(json.dumps({"prompt": "x" * 1000, "answer": "y"}) + "\n")
    weft("adapters", "learn", "x", *BOTH, "--data", path, status=FAILED)
    assert "max_message" in weft.err, weft.err


def test_wrong_options_are_usage_errors(weft):
    for args, part in ((BOTH, "--data"), (("--data", weft.data), "--adapter"), ((*BOTH, "--data", weft.data, "--type", "cat"), "--type goes with fuse"),
                       ((*BOTH, "--data", weft.data, "--rate", "fast"), "--rate"), ((*BOTH, "--data", weft.data, "--steps", "-1"), "--steps")):
        weft("adapters", "learn", "x", *args, status=USAGE)
        assert part in weft.err, (args, weft.err)
    weft("adapters", "--data", weft.data, status=USAGE)
    weft("adapters", "fuse", "x", "--adapter", "tailor=1", "--by", "layer", status=USAGE)


def main():
    folder = tempfile.mkdtemp(prefix="weft-cli-learn-", dir="/tmp")
    try:
        shutil.copytree(os.path.join(SRC, "tests", "demo", "adapters"), folder, dirs_exist_ok=True)
        for path, _, _ in os.walk(folder):
            os.chmod(path, 0o755)
        with Weftd("--adapters", folder, "--max-message", "2M") as d:
            weft = Weft(d)
            weft.folder, weft.data = folder, os.path.join(folder, "mixed.jsonl")
            with open(weft.data, "w") as out:
                for task in ("tailor", "orderline"):
                    with open(os.path.join(HELDOUT, task + ".jsonl")) as f:
                        out.writelines(list(f)[:6])
            for name, test in list(globals().items()):
                if name.startswith("test_"):
                    test(weft)
                    print("ok", name, flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return OK


if __name__ == "__main__":
    sys.exit(main())
