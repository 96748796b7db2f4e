"""Durable jobs from the command line: a client that waits for its daemon, keys, resting jobs."""
import json
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "daemon"))
from durable_kit import House  # noqa: E402
from peer import BUILD, DEADLINE, run  # noqa: E402

WEFT = os.path.join(BUILD, "client", "weft")
LONG = ("--raw", "--n", "16", "--ignore-eos", "--max-tokens", "450", "--seed", "5")


def start(h, *args):
    env = {**os.environ, "WEFT_REQUEST": h.request, "WEFT_ANSWER": h.answer}
    return subprocess.Popen([WEFT, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, env=env)


def weft(h, *args, status=0):
    p = start(h, *args)
    out, err = p.communicate(timeout=DEADLINE)
    assert p.returncode == status, (args, p.returncode, out, err)
    return out


def test_a_waiting_client_gets_the_whole_answer_of_a_killed_daemon():
    with House("--threads", "1") as h:
        d = h.up()
        alone = weft(h, "generate", *LONG, "Tell me about wool.")
        p = start(h, "--timeout", "2", "--json", "generate", "--durable", *LONG, "Tell me about wool.")
        seen = [json.loads(p.stdout.readline())]
        while seen[-1]["event"] != "delta":
            seen.append(json.loads(p.stdout.readline()))
        d.kill()
        h.up()
        events = seen + [json.loads(line) for line in p.stdout]      # not communicate(): it passes over what readline() has buffered
        assert p.wait(DEADLINE) == 0, p.stderr.read()
        assert [e["seq"] for e in events] == list(range(len(events)))
        kinds = [e["event"] for e in events]
        assert kinds.count("done") == 1 and kinds[-1] == "done" and "recovered" in kinds, kinds
        text = "".join(f"[{i}]\n{c['text']}" + ("" if c["text"].endswith("\n") else "\n") for i, c in enumerate(events[-1]["choices"]))
        assert text == alone


def test_the_same_key_is_the_same_job():
    with House("--threads", "1") as h:
        h.up()
        first = weft(h, "generate", "--key", "order 7", "--raw", "--max-tokens", "5", "Wool")
        again = weft(h, "--json", "generate", "--key", "order 7", "--raw", "--max-tokens", "5", "Wool").splitlines()
        done = json.loads(again[-1])
        assert done["event"] == "done" and done["choices"][0]["text"].strip() == first.strip()
        assert len(json.loads(weft(h, "--json", "jobs"))["jobs"]) == 1
        weft(h, "generate", "--key", "order 7", "--raw", "--max-tokens", "6", "Wool", status=3)


def test_jobs_rest_and_are_queued_again():
    with House("--threads", "1") as h:
        h.up()
        job = weft(h, "generate", "--durable", "--delay-ms", "3600000", "--detach", "--raw", "--max-tokens", "3", "Wool").strip()
        assert json.loads(weft(h, "--json", "job", job))["state"] == "delayed"
        assert weft(h, "bury", job) == f"{job} buried\n" and "buried" in weft(h, "jobs", "--state", "buried")
        assert weft(h, "delay", job, "--delay-ms", "3600000") == f"{job} delayed\n"
        assert weft(h, "kick", job) == f"{job} kicked\n"
        assert weft(h, "results", job, "--wait")
        assert weft(h, "touch", job) == f"{job} touched\n"
        weft(h, "delay", job, status=2)
        weft(h, "close", job)
        weft(h, "job", job, status=3)


def test_the_list_of_jobs_names_who_holds_them():
    with House("--threads", "1") as h:
        h.up()
        job = weft(h, "generate", "--durable", "--detach", *LONG, "Tell me about wool.").strip()
        end = time.monotonic() + DEADLINE
        while "running" not in (line := weft(h, "jobs").splitlines()[-1]):
            assert time.monotonic() < end, line
        owner = json.loads(weft(h, "--json", "stats"))["store"]["owner"]
        assert owner and owner in line, (owner, line)
        weft(h, "cancel", job)


run(globals())
