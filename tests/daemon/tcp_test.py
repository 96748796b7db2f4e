"""tcp endpoints: CURVE with a list of client keys that fails closed, its reload, and plain tcp only where it was asked for in so many words."""
import os
import signal
import socket
import subprocess
import tempfile

import zmq

from peer import BUILD, SRC, Peer, Weftd, run


def endpoint():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{s.getsockname()[1]}"


def write(path, text):
    with open(path, "w") as f:
        f.write(text)
    return path


class Keys:
    """A server's secret in a file, a folder of clients' keys, and the clients' side of it."""

    def __init__(self, folder):
        self.folder, self.clients = folder, f"{folder}/clients"
        os.mkdir(self.clients)
        self.public, secret = zmq.curve_keypair()
        self.secret = write(f"{folder}/secret", "# the server's secret key\n" + secret.decode() + "\n")

    def client(self, name, listed=True):
        public, secret = zmq.curve_keypair()
        if listed:
            write(f"{self.clients}/{name}", public.decode() + "\n")
        return self.public, public, secret

    def args(self):
        return ["--curve-secret", self.secret, "--curve-clients", self.clients]


def silent(d, curve):
    """True when a client with these keys (or without) gets no answer while another one does."""
    p = Peer(d, listen=False, curve=curve)
    p.send("hello")
    p.pump(1.5)
    answered = bool(p.replies)
    p.close()
    return not answered


def refused(*args, env=None):
    model, plugins = os.path.join(SRC, "tests", "demo", "model"), os.path.join(BUILD, "plugins", ".libs")
    r = subprocess.run([os.path.join(BUILD, "daemon", "weftd"), "-c", "/dev/null", "--model", model, "--plugins", plugins, *args],
                       stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, env={**os.environ, **(env or {})})
    assert r.returncode == 78, (r.returncode, r.stderr)
    return r.stderr


def test_listed_clients_are_served_and_nobody_else():
    with tempfile.TemporaryDirectory(dir="/tmp") as t:
        keys = Keys(t)
        anna, bert, stranger = keys.client("anna"), keys.client("bert"), keys.client("stranger", listed=False)
        with Weftd(*keys.args(), request=endpoint(), answer=endpoint(), ready=False) as d, Peer(d, curve=anna) as a, Peer(d, curve=bert) as b:
            job = a.generate(prompt="x", max_tokens=2)
            assert a.done(job)["state"] == "done"
            for op in ("job", "cancel", "results", "close"):
                assert b.refused(op, job=job).code == "unauthorized"
            assert b.call("jobs")["jobs"] == [] and len(a.call("jobs")["jobs"]) == 1
            assert silent(d, stranger), "a key that is not on the list was served"
            assert silent(d, None), "a client without keys was served"
            assert silent(d, (zmq.curve_keypair()[0], anna[1], anna[2])), "a client that expects another server was served"
            assert "is not on the list" in d.log() and keys.public.decode() in d.log()
            assert open(keys.secret).read().split("\n")[1] not in d.log()


def test_clients_of_different_keys_share_nothing_in_the_prefix_cache():
    with tempfile.TemporaryDirectory(dir="/tmp") as t:
        keys = Keys(t)
        anna, bert = keys.client("anna"), keys.client("bert")
        with Weftd(*keys.args(), request=endpoint(), answer=endpoint(), ready=False) as d, Peer(d, curve=anna) as a, Peer(d, curve=bert) as b:
            for p, want in ((a, 0), (b, 0), (a, 32), (b, 32)):
                done = p.done(p.generate(tokens=list(range(300, 340)), max_tokens=2))
                assert done["usage"]["cached_tokens"] == want, done


def test_a_reload_reads_the_list_again():
    with tempfile.TemporaryDirectory(dir="/tmp") as t:
        keys = Keys(t)
        anna, late = keys.client("anna"), keys.client("late", listed=False)
        with Weftd(*keys.args(), request=endpoint(), answer=endpoint(), ready=False) as d, Peer(d, curve=anna) as a:
            assert silent(d, late)
            write(f"{keys.clients}/late", late[1].decode())
            d.signal(signal.SIGHUP)
            a.wait(lambda: a.call("hello") and "reloaded" in d.log(), "the reload")
            with Peer(d, curve=late) as p:
                p.call("hello")
            write(f"{keys.clients}/broken", "not a key")
            d.signal(signal.SIGHUP)
            a.wait(lambda: a.call("hello") and "nothing was changed" in d.log(), "the refusal")
            with Peer(d, curve=late) as p:
                p.call("hello")


def test_the_secret_may_come_as_a_credential():
    with tempfile.TemporaryDirectory(dir="/tmp") as t:
        keys = Keys(t)
        anna = keys.client("anna")
        os.rename(keys.secret, f"{t}/weftd.curve.secret")
        with Weftd("--curve-clients", keys.clients, request=endpoint(), answer=endpoint(), ready=False, env=dict(CREDENTIALS_DIRECTORY=t)) as d, Peer(d, curve=anna) as a:
            a.done(a.generate(prompt="x", max_tokens=1))


def test_a_tcp_endpoint_does_not_start_half_locked():
    with tempfile.TemporaryDirectory(dir="/tmp") as t:
        keys = Keys(t)
        ends = ["--request", endpoint(), "--answer", endpoint()]
        assert "allow_plain_tcp" in refused(*ends)
        assert "no key in it" in refused(*ends, *keys.args())
        keys.client("anna")
        assert "curve_secret" in refused(*ends, "--curve-clients", keys.clients, env=dict(CREDENTIALS_DIRECTORY=""))
        assert "nowhere" in refused(*ends, "--curve-clients", f"{t}/nowhere", "--curve-secret", keys.secret)
        assert "40 characters" in refused(*ends, "--curve-clients", keys.clients, "--curve-secret", write(f"{t}/short", "abc\n"))
        assert "40 characters" in refused(*ends, "--curve-clients", keys.clients, "--curve-secret", write(f"{t}/short", "abc\n"), "--check-config")
        write(f"{keys.clients}/junk", "x" * 40 + "y\n")
        assert "junk" in refused(*ends, *keys.args())


def test_plain_tcp_runs_when_it_is_asked_for_and_says_what_that_means():
    with Weftd("--allow-plain-tcp", "yes", request=endpoint(), answer=endpoint()) as d, Peer(d) as p:
        p.done(p.generate(prompt="x", max_tokens=1))
        assert "anyone who reaches the port" in d.log()


run(globals())
