"""How weftd starts and ends: exit codes, locks, drain, the second SIGTERM, reload, notification."""
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from peer import BUILD, DEADLINE, SRC, Peer, Weftd, run

PROGRAM = os.path.join(BUILD, "daemon", "weftd")
MODEL = os.path.join(SRC, "tests", "demo", "model")
PLUGINS = os.path.join(BUILD, "plugins", ".libs")
SLOW = dict(prompt="Tell me about wool.", max_tokens=400, ignore_eos=True, n=16)


def weftd(*args, env=None):
    """Runs weftd to its end; returns (exit code, what it said)."""
    r = subprocess.run([PROGRAM, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE, env={**os.environ, **(env or {})})
    return r.returncode, r.stdout + r.stderr


def write(path, text):
    with open(path, "w") as f:
        f.write(text)
    return path


def wait(condition, what):
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, f"not in time: {what}"
        time.sleep(0.01)


def test_exit_codes_say_what_is_wrong():
    with tempfile.TemporaryDirectory(dir="/tmp") as t:
        ends = ["--request", f"ipc://{t}/r", "--answer", f"ipc://{t}/a"]
        base = ["-c", "/dev/null", *ends, "--plugins", PLUGINS]
        for args, code, words in [
            (["--nope"], 64, "--help"), (["surplus"], 64, "surplus"), (["--threads"], 64, "threads"),
            (base, 78, "model"), ([*base, "--model", MODEL, "--quant", "q5"], 78, "none|q8|q4|nf4"), ([*base, "--model", MODEL, "--threads", "many"], 78, "threads"),
            ([*base, "--model", MODEL, "--store", "redis://x"], 78, "expected auto, none"), ([*base, "--model", MODEL, "--blends", "a=b"], 78, "NAME=ADAPTER:SCALE"),
            ([*base, "--model", MODEL, "--device", "cuda:0", "--cuda-module", "/nonexistent/weft-cuda.so"], 69, "/nonexistent/weft-cuda.so"), ([*base, "--model", MODEL, "--device", "gpu"], 78, "cuda:N"),
            ([*base, "--model", "/nonexistent"], 69, "/nonexistent"), ([*base, "--model", MODEL, "--plugins", t], 69, "decoder"),
            ([*base, "--model", MODEL, "--request", "tcp://127.0.0.1:1"], 78, "allow_plain_tcp"),
            ([*base, "--model", MODEL, "--request", "ipc://@abstract"], 78, "absolute"), ([*base, "--model", MODEL, "--request", ends[3]], 78, "same"),
            ([*base, "--model", MODEL, "--request", "ipc:///" + "x" * 200], 78, "at most"),
            ([*base, "--model", MODEL, "--request", "ipc:///proc/nope/r"], 73, "/proc/nope"), ([*base, "--model", MODEL, "--context", "100000"], 78, "context"),
            ([*base, "--model", MODEL, "--kv-memory", "16K"], 78, "kv_memory"), ([*base, "--model", MODEL, "--kv-type", "q8"], 78, "auto|f16|f32|int8"),
            ([*base, "--model", MODEL, "--kv-type", "f32", "--device", "cuda:0"], 69, "values in f32 are for the CPU"), (["-c", "/nonexistent.conf"], 78, "/nonexistent.conf"),
            (["--help"], 0, "--max-queue-tokens"), (["--version"], 0, "weftd 0"),
        ]:
            got, said = weftd(*args)
            assert got == code and words in said, (args, got, said)


def test_check_config_judges_and_shows_without_starting():
    with tempfile.TemporaryDirectory(dir="/tmp") as t:
        good = write(f"{t}/good", "[model]\nmodel = /m\n# a comment\n[queue]\ndrain_timeout = 2min\n[listen]\nrequest = ipc:///tmp/r ; inline\n")
        code, said = weftd("-c", good, "--check-config", "--max-running", "7")
        assert code == 0 and "drain_timeout = 2min\n" in said and "max_running = 7\n" in said and "request = ipc:///tmp/r\n" in said, said
        for text, words in [("[model]\nmodle = x\n", ":2: no option modle; did you mean \"model\"?"), ("[nope]\nx = 1\n", ":2: no section [nope]"),
                            ("[queue]\nmodel = x\n", ":2: model belongs into section [model]"), ("[queue]\nmax_running = 0\n", ":2: max_running = 0: must be from 1"),
                            ("[queue]\ndrain_timeout = soon\n", "ms, s, min or h"), ("[queue]\nmax_queue_bytes = 99999999999999T\n", "must be from 65536"),
                            ("[model]\nmodel\n", ":2:"), ("[model]\nmodel = " + "x" * 300 + "\n", ":2: the line is longer"), ("[queue]\npreempt = maybe\n", "yes or no")]:
            code, said = weftd("-c", write(f"{t}/bad", text), "--check-config")
            assert code == 78 and words in said, (text, code, said)


def test_a_second_daemon_on_the_same_sockets_is_refused():
    with Weftd() as d, Peer(d) as p:
        code, said = weftd("-c", "/dev/null", "--model", MODEL, "--plugins", PLUGINS, "--request", d.request, "--answer", d.answer)
        assert code == 73 and "another weftd" in said, (code, said)
        assert p.call("hello")["server"] == "weftd"
        p.done(p.generate(prompt="x", max_tokens=1))


def test_a_second_daemon_on_the_same_state_folder_is_refused():
    with tempfile.TemporaryDirectory(dir="/tmp") as t, Weftd("--state", t):
        code, said = weftd("-c", "/dev/null", "--model", MODEL, "--plugins", PLUGINS, "--state", t)
        assert code == 73 and "another weftd" in said, (code, said)


def test_sockets_left_by_a_killed_daemon_are_no_hindrance_and_no_file_is_destroyed():
    folder = tempfile.mkdtemp(prefix="weft-", dir="/tmp")
    ends = dict(request=f"ipc://{folder}/run/request", answer=f"ipc://{folder}/run/answer")
    first = Weftd(**ends)
    mode = lambda p: os.stat(f"{folder}/{p}").st_mode & 0o777
    assert (mode("run"), mode("run/request"), mode("run/answer")) == (0o750, 0o660, 0o660)
    first.kill()
    first.finish(True)
    assert os.path.exists(f"{folder}/run/request")
    with Weftd(**ends) as d, Peer(d) as p:
        p.call("hello")
    assert not os.path.exists(f"{folder}/run/request"), "the socket stays behind after a clean end"
    write(f"{folder}/run/request", "precious")
    code, said = weftd("-c", "/dev/null", "--model", MODEL, "--plugins", PLUGINS, "--request", ends["request"], "--answer", ends["answer"])
    assert code == 73 and "not a socket" in said and open(f"{folder}/run/request").read() == "precious"
    shutil.rmtree(folder)


def test_sigterm_finishes_accepted_jobs_and_refuses_new_ones():
    with Weftd("--max-running", "1") as d, Peer(d) as p:
        jobs = [p.generate(**{**SLOW, "n": 4}), p.generate(prompt="queued", max_tokens=3)]
        p.seen(jobs[0], "delta")
        d.signal(signal.SIGTERM)
        p.wait(lambda: p.call("hello")["state"] == "draining", "the drain")
        e = p.refused("generate", topic=p.topic, prompt="late")
        assert e.code == "draining" and e.error["retry"]
        assert p.refused("resume").code == "conflict"
        assert [p.done(j)["state"] for j in jobs] == ["done", "done"]
        assert d.wait() == 0


def test_the_drain_timeout_ends_what_is_left_as_shutdown():
    with Weftd("--max-running", "1", "--drain-timeout", "50ms") as d, Peer(d) as p:
        jobs = [p.generate(**SLOW) for _ in range(5)]
        p.seen(jobs[0], "delta")
        d.signal(signal.SIGTERM)
        for j in jobs:
            done = p.done(j)
            assert done["state"] == "cancelled" and {c["finish"] for c in done["choices"]} == {"shutdown"}, done["state"]
        assert d.wait() == 0


def test_a_second_sigterm_stops_now_and_every_job_gets_its_terminal_event():
    with Weftd("--max-running", "2", "--drain-timeout", "10min") as d, Peer(d) as p:
        jobs = [p.generate(**SLOW) for _ in range(6)]
        p.seen(jobs[0], "delta")
        d.signal(signal.SIGTERM)
        p.wait(lambda: p.call("hello")["state"] == "draining", "the drain")
        d.signal(signal.SIGTERM)
        for j in jobs:
            assert {c["finish"] for c in p.done(j)["choices"]} == {"shutdown"}
        assert d.wait() == 0


def test_the_drain_request_does_what_sigterm_does():
    with Weftd() as d, Peer(d) as p:
        job = p.generate(prompt="x", max_tokens=50, ignore_eos=True)
        assert p.call("drain")["state"] == "draining"
        assert p.done(job)["state"] == "done"
        assert d.wait() == 0


def test_sighup_takes_over_what_may_change_and_says_what_may_not():
    with tempfile.TemporaryDirectory(dir="/tmp") as t:
        plugins = f"{t}/plugins"
        os.mkdir(plugins)
        for name in ("sample.so", "score.so"):
            shutil.copy(f"{PLUGINS}/{name}", plugins)
        conf = write(f"{t}/conf", "[queue]\nmax_queue = 10\nmax_running = 4\n")
        with Weftd("-c", conf, plugins=plugins) as d, Peer(d) as p:
            assert p.call("plugins")["chain"] == [] and p.refused("generate", topic=p.topic, prompt="x", temperature=0).field == "temperature"
            job = p.generate(**SLOW)
            write(conf, "[queue]\nmax_queue = 20\nmax_running = 8\n[model]\ntemplate = alpaca\n")
            shutil.copy(f"{PLUGINS}/temperature.so", plugins)
            d.signal(signal.SIGHUP)
            p.wait(lambda: p.call("hello")["limits"]["max_queue"] == 20, "the reload")
            hello = p.call("hello")
            assert hello["limits"]["max_running"] == 4 and hello["model"]["template"] == "alpaca"
            assert "max_running is read at start only" in d.log()
            assert p.call("plugins")["chain"] == ["temperature"]
            p.done(p.generate(prompt="x", max_tokens=2, temperature=0))
            write(conf, "[queue]\nmax_queue = nonsense\n")
            d.signal(signal.SIGHUP)
            wait(lambda: "nothing was changed" in d.log(), "the refusal")
            assert p.call("hello")["limits"]["max_queue"] == 20
            p.call("cancel", job=job)
            p.done(job)


def test_of_many_sighups_the_last_counts_and_a_reload_does_not_hinder_the_end():
    with tempfile.TemporaryDirectory(dir="/tmp") as t:
        conf = write(f"{t}/conf", "[queue]\nmax_queue = 10\n")
        with Weftd("-c", conf) as d, Peer(d) as p:
            for n in range(100, 140):
                write(f"{conf}.new", f"[queue]\nmax_queue = {n}\n")
                os.rename(f"{conf}.new", conf)
                d.signal(signal.SIGHUP)
            p.wait(lambda: p.call("hello")["limits"]["max_queue"] == 139, "the last reload")
            d.signal(signal.SIGHUP)     # and the SIGTERM of leaving the block comes while it is read


def test_sigusr1_pauses_and_sigusr2_resumes():
    with Weftd() as d, Peer(d) as p:
        d.signal(signal.SIGUSR1)
        p.wait(lambda: p.call("hello")["state"] == "paused", "the pause")
        assert p.refused("generate", topic=p.topic, prompt="x").code == "draining"
        d.signal(signal.SIGUSR2)
        p.wait(lambda: p.call("hello")["state"] == "running", "the resume")


def test_systemd_is_told_ready_after_the_self_test_and_the_watchdog_is_fed():
    with tempfile.TemporaryDirectory(dir="/tmp") as t:
        s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        s.bind(f"{t}/notify")
        s.settimeout(DEADLINE)
        with Weftd(env=dict(NOTIFY_SOCKET=f"{t}/notify", WATCHDOG_USEC="400000")) as d:
            said = []

            def until(word):
                while not any(word in x for x in said):
                    said.append(s.recv(4096).decode())
            until("READY=1")
            assert "EXTEND_TIMEOUT_USEC" in said[0] and "loading" in said[0], said
            until("WATCHDOG=1")
            until("running, ")
            d.signal(signal.SIGHUP)
            until("RELOADING=1\nMONOTONIC_USEC=")
            d.signal(signal.SIGTERM)
            until("STOPPING=1")
            assert d.wait() == 0


def test_no_prompt_or_answer_text_is_logged():
    with Weftd("--log-level", "debug") as d, Peer(d) as p:
        secret = "Zebrafinkensamt"
        answer = p.done(p.generate(prompt=secret, max_tokens=20, ignore_eos=True))["choices"][0]["text"]
        p.refused("generate", topic=p.topic, prompt=secret, nope=1)
        p.refused("generate", topic=p.topic, messages=[{"role": "assistant", "content": secret}])
        log = d.log()
        assert "job 1" in log and secret not in log and answer.strip() not in log


run(globals())
