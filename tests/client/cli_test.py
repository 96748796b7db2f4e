"""The `weft` program against a real weftd: streaming, pipes, standard input, --json, exit codes, signals, usage errors."""
import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time

from weftd import BUILD, DEADLINE, Weftd

WEFT = os.path.join(BUILD, "client", "weft")
OK, FAILED, USAGE, REFUSED, UNREACHABLE, EXPIRED, CANCELLED, INTERRUPTED = 0, 1, 2, 3, 4, 5, 6, 130
GREEDY = ("--temperature", "0", "--max-tokens", "12")
LONG = ("--raw", "--n", "20", "--ignore-eos", "--max-tokens", "400")       # a second of work, and most of the memory


class Weft:
    def __init__(self, daemon):
        self.daemon = daemon
        self.env = {**os.environ, "WEFT_REQUEST": daemon.request, "WEFT_ANSWER": daemon.answer}
        for name in ("WEFT_SERVER_KEY", "WEFT_CLIENT_KEY"):
            self.env.pop(name, None)

    def __call__(self, *args, input=None, status=OK, quiet=None):
        r = subprocess.run([WEFT, "--timeout", "60", *args], input=input, capture_output=True, text=True, env=self.env, timeout=DEADLINE * 2,
                           stdin=subprocess.DEVNULL if input is None else None)
        assert r.returncode == status, (args, r.returncode, r.stdout, r.stderr)
        if quiet is None:
            quiet = status == OK
        assert not (quiet and r.stderr), (args, r.stderr)
        assert status == OK or r.stderr.startswith("weft"), (args, r.stderr)
        self.err = r.stderr
        return r.stdout

    def json(self, *args, **more):
        return [json.loads(line) for line in self("--json", *args, **more).splitlines()]

    def popen(self, *args, **more):
        return subprocess.Popen([WEFT, "--timeout", "60", *args], env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, **more)


# ---- generate ----

def test_generate_prints_the_answer_and_nothing_else(weft):
    out = weft("generate", *GREEDY, "Which fabric keeps warm?")
    done = weft.json("generate", *GREEDY, "Which fabric keeps warm?")[-1]
    assert out.rstrip("\n") == done["choices"][0]["text"].rstrip("\n") and out.endswith("\n"), (out, done)


def test_a_prompt_may_come_from_standard_input(weft):
    want = weft("generate", *GREEDY, "Which fabric keeps warm?")
    assert weft("generate", *GREEDY, "-", input="Which fabric keeps warm?\n") == want
    assert weft("generate", *GREEDY, input="Which fabric keeps warm?") == want
    raw = weft.json("generate", "--raw", *GREEDY, "Wool\n")[-1]
    assert weft.json("generate", "--raw", *GREEDY, "-", input="Wool\n")[-1]["digest"] == raw["digest"]


def test_raw_system_and_tokens_make_different_prompts(weft):
    def prompt_tokens(*args):
        return weft.json("generate", *GREEDY, *args)[-1]["usage"]["prompt_tokens"]
    plain, system = prompt_tokens("Wool"), prompt_tokens("--system", "Be brief.", "Wool")
    raw, tokens = prompt_tokens("--raw", "Wool"), prompt_tokens("--tokens", "1 300,301")
    assert system > plain > raw > 0 and tokens == 3, (system, plain, raw, tokens)
    weft("generate", "--raw", "--system", "x", "y", status=USAGE)
    weft("generate", "--tokens", "1 two", status=USAGE)


def test_json_prints_each_event_as_a_line(weft):
    events = weft.json("generate", *GREEDY, "Wool")
    assert [e["seq"] for e in events] == list(range(len(events)))
    assert events[0]["event"] == "queued" and events[-1]["event"] == "done"


def test_the_answer_streams(weft):
    p = weft.popen("generate", "--raw", "--ignore-eos", "--max-tokens", "450", "Wool is")
    first = p.stdout.read1(65536)
    assert first and p.poll() is None, "the first text came when all was done"
    rest = p.stdout.read()
    assert p.wait(DEADLINE) == OK and len(rest) > len(first)


def test_plugin_options_are_typed_by_the_plugin(weft):
    def options(*args):
        return weft.json("generate", "--detach", *GREEDY, *args, "Wool")[0]["options"]
    o = options("--top-k", "7", "--top_p=0.5", "--stop", "a,b", "--stop", "c", "--stop-token-ids", "5,6", "--logit-bias", "7=-1.5,9=2", "--ignore-eos",
                "--template", "none", "--seed", "3", "--priority", "4", "--class", "batch", "--samplers", "top_k,top_p,logit_bias,temperature,bans")
    assert o["top_k"] == 7 and o["top_p"] == 0.5 and o["stop"] == ["a,b", "c"] and o["stop_token_ids"] == [5, 6], o
    assert o["logit_bias"] == {"7": -1.5, "9": 2.0} and o["ignore_eos"] is True and o["seed"] == 3 and o["priority"] == 4, o
    assert o["class"] == "batch" and o["on_disconnect"] == "keep" and o["template"] == "none", o
    assert options("--ignore-eos=false")["ignore_eos"] is False


def test_wrong_options_are_usage_errors_by_name(weft):
    for args, part in ((("--nonsense", "3"), "--nonsense"), (("--top-p", "much"), "--top-p"), (("--top-k", "1.5"), "--top-k"),
                       (("--logit-bias", "7"), "--logit-bias"), (("--ignore-eos=maybe",), "--ignore-eos"), (("--seed", "x"), "--seed"),
                       (("--adapter", "name"), "--adapter"), (("--raw=1",), "--raw"), (("-x",), "-x"), (("--timeout", "soon"), "--timeout")):
        weft("generate", *args, "Wool", status=USAGE)
        assert part in weft.err, (args, weft.err)
    weft("generate", "--top-k", status=USAGE, input="")
    weft("generate", "one", "two", status=USAGE)
    weft("nonsense", status=USAGE)
    weft(status=USAGE)
    weft("job", status=USAGE)
    weft("job", "seven", status=USAGE)
    weft("stats", "--raw", status=USAGE)


def test_the_server_refuses_with_code_and_field(weft):
    weft("generate", "--top-p", "7", "Wool", status=REFUSED)
    assert "invalid_argument, top_p" in weft.err, weft.err
    weft("generate", "--adapter", "persona=0.5", "Wool", status=REFUSED)
    assert "not_found, adapters.persona" in weft.err, weft.err
    weft("generate", "--raw", "word " * 2000, status=REFUSED)
    assert "too_large" in weft.err, weft.err


def test_several_answers_are_numbered(weft):
    out = weft("generate", "--n", "2", "--seed", "1", "--max-tokens", "5", "Wool")
    assert out.startswith("[0]\n") and "\n[1]\n" in out, out


def test_figures_are_printed_when_wanted(weft):
    weft("generate", "--figures", *GREEDY, "Wool", quiet=False)
    assert "prompt tokens" in weft.err and "tokens/s" in weft.err and weft.err.count("\n") == 1, weft.err


def test_an_expired_job_has_its_exit_code(weft):
    weft("generate", "--deadline-ms", "100", *LONG, "Wool", status=EXPIRED)
    assert "expired" in weft.err


# ---- signals, and readers that go away ----

def running_job(weft):
    end = time.monotonic() + DEADLINE
    while True:
        jobs = weft.json("jobs", "--state", "running", "--limit", "1000")[0]["jobs"]
        if jobs:
            return jobs[-1]["job"]
        assert time.monotonic() < end, "no job runs"


def state_of(weft, job):
    return weft.json("job", str(job))[0]["state"]


def test_ctrl_c_cancels_the_job(weft):
    p = weft.popen("generate", *LONG, "Wool")
    job = running_job(weft)
    p.send_signal(signal.SIGINT)
    assert p.wait(DEADLINE) == INTERRUPTED
    p.communicate()
    assert state_of(weft, job) == "cancelled"


def test_a_job_that_somebody_else_cancels_has_its_exit_code(weft):
    p = weft.popen("generate", *LONG, "Wool")
    job = running_job(weft)
    assert weft("cancel", str(job)).split() == [str(job), "cancelled"]
    assert p.wait(DEADLINE) == CANCELLED
    assert b"cancelled" in p.communicate()[1]
    assert weft("cancel", str(job)).split() == [str(job), "noop"]


def test_a_reader_that_goes_away_ends_the_job(weft):
    p = weft.popen("generate", "--raw", "--ignore-eos", "--max-tokens", "480", "Wool is")
    job = running_job(weft)
    assert p.stdout.read1(10)
    p.stdout.close()
    assert p.wait(DEADLINE) in (OK, FAILED)
    end = time.monotonic() + DEADLINE
    while state_of(weft, job) == "running":
        assert time.monotonic() < end
    p.stderr.close()


# ---- jobs ----

def test_a_detached_job_is_fetched_later(weft):
    job = weft("generate", "--detach", *GREEDY, "Wool").strip()
    want = weft("generate", *GREEDY, "Wool")
    assert weft("results", "--wait", job) == want
    assert weft("results", job) == want
    events = weft.json("results", job)
    assert events[-1]["event"] == "done"
    assert weft.json("results", "--from", "1", job) == events[1:]
    assert job in weft("jobs", "--state", "done", "--limit", "1000")
    assert "generate" in weft("job", job)
    assert weft("close", job) == ""
    weft("results", job, status=REFUSED)
    assert "not_found" in weft.err
    weft("close", job, status=REFUSED)


def test_results_has_what_there_is_of_a_running_job(weft):
    job = weft("generate", "--detach", *LONG, "Wool").strip()
    while not any(e["event"] == "delta" for e in weft.json("results", job)):
        pass
    weft("results", job)
    weft("cancel", job)
    weft("results", "--wait", job, status=CANCELLED)


# ---- chat ----

def test_chat_works_in_a_pipe_and_keeps_the_history(weft):
    before = weft.json("stats")[0]["jobs"]["accepted"]
    out = weft("chat", *GREEDY, "--seed", "1", input="Which fabric keeps warm?\n\nAnd dry?\n/system Be brief.\n/reset\nWhich fabric keeps warm?\n/quit\nnot read\n")
    assert weft.json("stats")[0]["jobs"]["accepted"] == before + 3
    jobs = weft.json("jobs", "--limit", "1000")[0]["jobs"][-3:]
    first, second, third = (j["prompt_tokens"] for j in jobs)
    assert second > first, "the second turn has the first one in it"
    assert first < third < second, "the third one has the system message, and no history"
    assert out.startswith(weft("generate", *GREEDY, "--seed", "1", "Which fabric keeps warm?"))


def test_chat_goes_on_after_a_turn_that_was_refused(weft):
    weft("chat", *GREEDY, input="word " * 3000 + "\nWool\n", status=REFUSED)
    assert "too_large" in weft.err
    weft("chat", "--top-p", "9", input="Wool\n", status=REFUSED)


# ---- score, tokens, server ----

def test_score_prints_a_row_for_each_continuation(weft):
    rows = weft("score", "Wool is", " warm", " a fish").splitlines()
    assert len(rows) == 3 and rows[1].split()[0] == "0" and float(rows[1].split()[1]) < 0, rows
    done = weft.json("score", "--tokens", "1 300", "301", "302 303")[-1]
    assert [c["tokens"] for c in done["choices"]] == [[301], [302, 303]]
    weft("score", "--temperature", "1", "Wool", "x", status=REFUSED)
    weft("score", "Wool", status=USAGE)


def test_tokens_go_there_and_back(weft):
    tokens = weft("tokenize", "Wool keeps warm.").strip()
    assert weft("tokenize", input="Wool keeps warm.").strip() == tokens
    assert weft("tokenize", "--bos", "Wool keeps warm.").split()[1:] == tokens.split()
    assert weft("detokenize", *tokens.split()) == "Wool keeps warm.\n"
    assert weft("detokenize", "-", input=tokens) == "Wool keeps warm.\n"
    assert weft.json("tokenize", "Wool keeps warm.")[0]["tokens"] == [int(t) for t in tokens.split()]
    weft("detokenize", "x", status=USAGE)
    weft("detokenize", "99999999", status=REFUSED)


def test_the_server_commands_print_tables(weft):
    assert "model name" in weft("hello") and "protocol" in weft("hello")
    assert "engine steps" in weft("stats") and "loop lag ms p99" in weft("stats")
    out = weft("plugins")
    assert "top_p (sampler" in out and "sampler chain: " in out and "temperature" in out
    assert weft("pause") == "paused\n"
    weft("generate", "Wool", status=REFUSED)
    assert "draining" in weft.err
    assert weft("resume") == "running\n"
    for command in ("hello", "stats", "plugins", "jobs"):
        assert len(weft.json(command)) == 1


def test_help_and_version_need_no_server(weft):
    nowhere = ("--request", "ipc:///nowhere/request")
    assert weft("-V").startswith("weft ") and weft(*nowhere, "--version") == weft("-V")
    text = weft("--help")
    for line in text.split("Commands\n")[1].split("\n\n")[0].splitlines():
        command = line.split()[0]
        assert f"{command} " in weft(*nowhere, command, "--help") and weft(command, "-h"), command


def test_a_server_that_is_not_there_is_said_in_time(weft):
    begin = time.monotonic()
    weft("--request", "ipc:///nowhere/request", "--timeout", "0.2", "hello", status=UNREACHABLE)
    assert "ipc:///nowhere/request" in weft.err and time.monotonic() - begin < DEADLINE / 2
    weft("--answer", "ipc:///nowhere/answer", "--timeout", "0.5", "generate", "Wool", status=UNREACHABLE)
    assert "ipc:///nowhere/answer" in weft.err
    weft("--request", "nonsense", "hello", status=USAGE)


def test_keygen_makes_a_secret_that_only_its_owner_reads(weft):
    path = os.path.join(weft.daemon.folder, "client.key")
    public = weft("keygen", path).strip()
    assert len(public) == 40 and os.stat(path).st_mode & 0o777 == 0o600
    with open(path, encoding="ascii") as f:
        assert len(f.read().strip()) == 40
    weft("keygen", path, status=FAILED)
    weft("--client-key", path, "hello", status=USAGE)     # and where is the server's?


class NoTerminal(Exception):
    """This system hands out no pseudo-terminal (a chroot without /dev/pts)."""


def on_terminal(weft, args, feed=b""):
    """Runs weft with a terminal for standard streams; gives the exit status and all that it wrote."""
    try:
        pid, fd = pty.fork()
    except OSError as e:
        raise NoTerminal(str(e)) from e
    if pid == 0:
        os.execve(WEFT, [WEFT, "--timeout", "60", *args], weft.env)
    out, status, end = b"", None, time.monotonic() + DEADLINE
    os.write(fd, feed)
    while time.monotonic() < end:
        if select.select([fd], [], [], 1)[0]:
            try:
                data = os.read(fd, 65536)
            except OSError:
                data = b""
            if not data:
                break
            out += data
    _, status = os.waitpid(pid, 0)
    os.close(fd)
    return os.waitstatus_to_exitcode(status), out.decode("utf-8", "replace")


def test_a_terminal_gets_the_figures_and_a_prompt_sign(weft):
    status, out = on_terminal(weft, ["generate", *GREEDY, "Wool"])
    assert status == OK and "answer tokens" in out, out
    status, out = on_terminal(weft, ["chat", *GREEDY], feed=b"Wool?\n/quit\n")
    assert status == OK and "> " in out and "answer tokens" in out, out
    status, out = on_terminal(weft, ["generate"])
    assert status == USAGE and "prompt is missing" in out, out


def test_control_characters_do_not_reach_a_terminal(weft):
    escape = weft.json("tokenize", "\x1b")[0]["tokens"]
    status, out = on_terminal(weft, ["detokenize", *map(str, escape)])
    assert status == OK and "\x1b" not in out and "\ufffd" in out, out
    assert "\x1b" in weft("detokenize", *map(str, escape))


def test_a_server_that_dies_is_noticed(weft):
    p = weft.popen("--timeout", "1", "generate", *LONG, "Wool")
    running_job(weft)
    weft.daemon.kill()
    out, err = p.communicate(timeout=DEADLINE)
    assert p.returncode == UNREACHABLE and b"no connection" in err, (p.returncode, err)


def main():
    tests = [(name, f) for name, f in globals().items() if name.startswith("test_")]
    wanted, failures = sys.argv[1:], []
    with Weftd("--threads", "1", "--disconnect-grace", "2s") as d:
        weft = Weft(d)
        for name, f in tests:
            if wanted and name not in wanted:
                continue
            if d.process.poll() is not None and not d.ended:
                raise RuntimeError(f"weftd died: {failures}")
            begin = time.monotonic()
            try:
                f(weft)
                print(f"ok {name} ({time.monotonic() - begin:.2f} s)", flush=True)
            except NoTerminal as e:
                print(f"skipped {name}: {e}", flush=True)
            except (AssertionError, subprocess.TimeoutExpired, json.JSONDecodeError, KeyError) as e:
                failures.append(name)
                print(f"FAILED {name}: {e!r}", flush=True)
        if failures:
            raise RuntimeError(f"{len(failures)} failed: {', '.join(failures)}")


if __name__ == "__main__":
    try:
        main()
    except RuntimeError as e:
        sys.exit(str(e))
