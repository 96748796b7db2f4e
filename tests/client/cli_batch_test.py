"""`weft batch` against a real weftd: OpenAI's lines and plain ones, bad rows, a client and a server that are killed, the output whole in the end."""
import json
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "daemon"))
from durable_kit import House  # noqa: E402
from peer import BUILD, DEADLINE, run  # noqa: E402

WEFT = os.path.join(BUILD, "client", "weft")


def weft(h, *args, wait=True, **kw):
    env = {**os.environ, "WEFT_REQUEST": h.request, "WEFT_ANSWER": h.answer}
    p = subprocess.Popen([WEFT, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, env=env, cwd=h.folder, **kw)
    if not wait:
        return p
    try:
        out, err = p.communicate(timeout=DEADLINE)
    except subprocess.TimeoutExpired:
        p.kill()
        raise
    return p.returncode, out, err


def write(h, name, lines):
    path = os.path.join(h.folder, name)
    with open(path, "w") as f:
        for line in lines:
            f.write((line if isinstance(line, str) else json.dumps(line)) + "\n")
    return path


def read(h, name):
    with open(os.path.join(h.folder, name)) as f:
        return [json.loads(line) for line in f]


def plain(i, **more):
    return dict(prompt=f"Tell me about fabric {i}.", max_tokens=4, ignore_eos=True, seed=i, custom_id=f"p{i}", **more)


def chat(i, **more):
    return dict(custom_id=f"c{i}", method="POST", url="/v1/chat/completions",
                body=dict(model="model", messages=[dict(role="user", content=f"Fabric {i}?")], max_tokens=4, seed=i, **more))


def completion(i, **more):
    return dict(custom_id=f"t{i}", method="POST", url="/v1/completions", body=dict(model="model", prompt=f"Fabric {i}", max_tokens=3, seed=i, **more))


def test_lines_of_both_kinds_are_answered_in_their_own_form():
    with House("--threads", "1") as h:
        h.up()
        write(h, "in.jsonl", [plain(0), chat(1, logprobs=True, top_logprobs=2), "", completion(2, logprobs=1), plain(3, logprobs=2), chat(4, n=2),
                              dict(prompt="Wool is", continuations=[" warm", " a fish"])])
        status, out, err = weft(h, "batch", "run", "in.jsonl", "--output", "out.jsonl", "--ordered")
        assert status == 0, err
        records = read(h, "out.jsonl")
        assert [r.get("custom_id") for r in records] == ["p0", "c1", "t2", "p3", "c4", None] and read(h, "out.jsonl.errors") == []
        with h.peer() as p:
            for i, r in ((0, records[0]), (3, records[3])):
                fields = {k: v for k, v in plain(i, **({"logprobs": 2} if i == 3 else {})).items() if k != "custom_id"}
                job = p.generate(**fields)
                done = p.done(job)
                assert r["digest"] == done["digest"] and r["choices"][0]["tokens"] == done["choices"][0]["tokens"] and r["usage"] == done["usage"]
            deltas = [e for e in p.events[job] if e["event"] == "delta"]
            logprobs = [x for e in deltas for x in e["logprobs"]]
            mine = records[3]["choices"][0]["logprobs"]
            assert [(x["token"], x["logprob"], x["greedy"]) for x in mine] == [(x["token"], x["logprob"], x["greedy"]) for x in logprobs]
            assert [[(t["token"], t["logprob"]) for t in x["top"]] for x in mine] == [[tuple(t) for t in x["top"]] for x in logprobs]
            assert "".join(x["text"] for x in mine).strip() == records[3]["choices"][0]["text"].strip()
        body = records[1]["response"]["body"]
        assert records[1]["response"]["status_code"] == 200 and body["object"] == "chat.completion" and body["model"] == "model"
        assert abs(body["created"] - time.time()) < 3600
        choice = body["choices"][0]
        assert choice["message"]["role"] == "assistant" and choice["finish_reason"] in ("stop", "length")
        content = choice["logprobs"]["content"]
        assert len(content) == body["usage"]["completion_tokens"] and all(len(c["top_logprobs"]) == 2 for c in content)
        assert all(bytes(c["bytes"]).decode() == c["token"] for c in content)
        body = records[2]["response"]["body"]
        assert body["object"] == "text_completion" and len(body["choices"][0]["logprobs"]["tokens"]) == body["usage"]["completion_tokens"] == 3
        assert [c["index"] for c in records[4]["response"]["body"]["choices"]] == [0, 1]
        assert records[5]["choices"][0]["logprob"] > records[5]["choices"][1]["logprob"]


def test_bad_rows_are_error_records_and_stop_nothing():
    with House("--threads", "1") as h:
        h.up()
        write(h, "in.jsonl", [plain(0), "{not json", dict(prompt="x", temprature=1, custom_id="typo"), chat(3, tools=[{}]), dict(custom_id="u", method="POST", url="/v1/x", body={}),
                              plain(5)])
        status, out, err = weft(h, "batch", "run", "in.jsonl", "--output", "out.jsonl", "--errors", "bad.jsonl")
        assert status == 1 and "4 rows have no answer: see bad.jsonl" in err, (status, err)
        assert sorted(r["custom_id"] for r in read(h, "out.jsonl")) == ["p0", "p5"]
        bad = {r.get("custom_id"): r for r in read(h, "bad.jsonl")}
        assert bad[None]["row"] == 1 and "line 2 is no JSON object" in bad[None]["error"]["message"]
        assert bad["typo"]["error"]["code"] == "invalid_argument" and "temperature" in bad["typo"]["error"]["message"], bad["typo"]
        assert bad["c3"]["response"] is None and bad["c3"]["error"]["code"] == "unsupported" and "tools" in bad["c3"]["error"]["message"]
        assert "url" in bad["u"]["error"]["message"]
        out = weft(h, "jobs", "--state", "failed")[1].splitlines()
        assert len(out) == 1 + 2 * 4 and any("temperature" in line for line in out[2::2]) and any("line 2 is no JSON object" in line for line in out[2::2]), out
        name = weft(h, "--json", "batch", "status")[1]
        name = json.loads(name)[0]["name"]
        status, out, err = weft(h, "batch", "retry", name)
        assert status == 0, err


def test_the_same_command_goes_on_after_client_and_server_were_killed():
    with House("--threads", "1", "--max-running", "8") as h:
        d = h.up()
        n = 150
        write(h, "in.jsonl", [plain(i) if i % 10 else "{bad" for i in range(n)])
        command = ("--timeout", "2", "batch", "run", "in.jsonl", "--output", "out.jsonl")
        out = os.path.join(h.folder, "out.jsonl")

        def lines():
            return open(out, "rb").read().count(b"\n") if os.path.exists(out) else 0

        for step, target in ((signal.SIGKILL, 10), (signal.SIGINT, 30), (None, 60)):
            p = weft(h, *command, wait=False)
            end = time.monotonic() + DEADLINE
            while lines() < target and p.poll() is None:
                assert time.monotonic() < end
                select_nothing(0.005)
            if step is None:
                d.kill()                      # the client waits, and goes on with the next one
                d = h.up()
                _, err = p.communicate(timeout=DEADLINE)
                assert p.returncode == 1, err
            else:
                p.send_signal(step)
                _, err = p.communicate(timeout=DEADLINE)
                if step == signal.SIGINT and p.returncode == 130:
                    assert "goes on without this program" in err
                with open(out, "ab") as f:
                    f.write(b'{"torn')        # as a crash of the machine may leave it
        records, errors = read(h, "out.jsonl"), read(h, "out.jsonl.errors")
        assert sorted(r["row"] for r in records) == [i for i in range(n) if i % 10]
        assert sorted(r["row"] for r in errors) == [i for i in range(n) if not i % 10]
        before = open(out).read()
        status, _, err = weft(h, *command)
        assert status == 1 and open(out).read() == before
        with h.peer() as p:
            for r in records[::29]:
                fields = {k: v for k, v in plain(r["row"]).items() if k != "custom_id"}
                assert p.done(p.generate(**fields))["digest"] == r["digest"]


def select_nothing(seconds):
    import select
    select.select([], [], [], seconds)


def test_submit_status_results_cancel_and_close():
    with House("--threads", "1", "--max-running", "2") as h:
        h.up()
        write(h, "in.jsonl", [dict(plain(i), max_tokens=60) for i in range(100)])
        status, name, err = weft(h, "batch", "submit", "in.jsonl", "--name", "spring")
        assert (status, name) == (0, "spring\n"), err
        status, out, err = weft(h, "batch", "status", "spring")
        assert status == 0 and "spring" in out and "100 rows" in out, out
        status, _, err = weft(h, "batch", "close", "spring")
        assert status == 3 and "conflict" in err, err
        assert weft(h, "batch", "cancel", "spring")[0] == 0
        status, out, err = weft(h, "batch", "results", "spring", "--follow")
        records = [json.loads(line) for line in out.splitlines()]
        assert len(records) == 100 and sorted(r["row"] for r in records) == list(range(100)), err
        assert any(r.get("error", {}).get("code") == "cancelled" for r in records) and status == 1
        assert weft(h, "batch", "close", "spring")[0] == 0
        status, _, err = weft(h, "batch", "status", "spring")
        assert status == 3 and "not_found" in err


def test_another_file_under_the_same_name_is_refused():
    with House("--threads", "1") as h:
        h.up()
        write(h, "a.jsonl", [plain(1)])
        write(h, "b.jsonl", [plain(2)])
        assert weft(h, "batch", "submit", "a.jsonl", "--name", "x")[0] == 0
        status, _, err = weft(h, "batch", "submit", "b.jsonl", "--name", "x")
        assert status == 1 and "made from another file" in err, err
        assert weft(h, "batch", "run", "a.jsonl", "--name", "x", "--output", "o.jsonl")[0] == 0
        status, _, err = weft(h, "batch", "run", "b.jsonl", "--name", "y", "--output", "o.jsonl")
        assert status == 1 and "another batch" in err, err
        status, _, err = weft(h, "batch", "run", "missing.jsonl", "--output", "o2.jsonl")
        assert status == 1 and "missing.jsonl" in err
        status, _, err = weft(h, "batch", "run", "a.jsonl")
        assert status == 2 and "--output" in err
        for words in (("nonsense",), ("submit",), ("status", "a", "b"), ("run", "a.jsonl", "b.jsonl")):
            assert weft(h, "batch", *words)[0] == 2, words


def test_defaults_of_the_command_fill_rows_that_say_nothing():
    adapters = os.path.join(os.environ["top_srcdir"], "tests", "demo", "adapters")
    with House("--threads", "1", "--adapters", adapters) as h:
        h.up()
        write(h, "in.jsonl", [dict(messages=[dict(role="user", content="We need five navy cotton dresses in size S.")]), dict(prompt="Wool", max_tokens=2, seed=4, temperature=1)])
        status, _, err = weft(h, "batch", "run", "in.jsonl", "--output", "o.jsonl", "--ordered", "--temperature", "0", "--max-tokens", "7", "--adapter", "orderline=1", "--seed", "3")
        assert status == 0, err
        records = read(h, "o.jsonl")
        assert [r["usage"]["completion_tokens"] <= 7 for r in records] == [True, True] and all("blend" in r for r in records)
        with h.peer() as p:
            done = p.done(p.generate(prompt="Wool", max_tokens=2, seed=4, temperature=1, adapters={"orderline": 1.0}))
            assert done["digest"] == records[1]["digest"]


run(globals())
