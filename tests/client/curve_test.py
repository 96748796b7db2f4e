"""Over tcp with CURVE: who is on the server's list of keys works as over ipc, who is not gets nothing, and nobody touches another's jobs."""
import os
import socket
import subprocess
import sys
import tempfile

from weftd import BUILD, DEADLINE, Weftd

WEFT = os.path.join(BUILD, "client", "weft")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def keygen(folder, name):
    path = os.path.join(folder, name)
    r = subprocess.run([WEFT, "keygen", path], capture_output=True, text=True, check=True, timeout=DEADLINE)
    return path, r.stdout.strip()


class Setup:
    def __init__(self, folder):
        self.clients = os.path.join(folder, "clients")
        os.mkdir(self.clients)
        self.server, self.server_public = keygen(folder, "server")
        self.keys = {name: keygen(folder, name) for name in ("anna", "bert", "stranger")}
        for name in ("anna", "bert"):
            with open(os.path.join(self.clients, name), "w", encoding="ascii") as f:
                f.write(f"# {name}\n{self.keys[name][1]}\n")
        self.server_file = os.path.join(folder, "server.pub")
        with open(self.server_file, "w", encoding="ascii") as f:
            f.write(self.server_public + "\n")
        self.request, self.answer = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))

    def run(self, name, *args, status=0, server=None, timeout="60"):
        """weft as one of them; None: without keys."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("WEFT_")}
        argv = [WEFT, "--request", self.request, "--answer", self.answer, "--timeout", timeout]
        if name is not None:
            argv += ["--server-key", server or self.server_public, "--client-key", self.keys[name][0]]
        r = subprocess.run([*argv, *args], capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL, timeout=DEADLINE * 2)
        assert r.returncode == status, (name, args, r.returncode, r.stdout, r.stderr)
        assert self.keys["anna"][1] not in r.stderr
        return r.stdout, r.stderr


def check(s):
    out, _ = s.run("anna", "hello")
    assert "weftd" in out
    s.run("bert", "hello", server=s.server_file)
    assert s.run("anna", "generate", "--max-tokens", "8", "--temperature", "0", "Wool")[0].strip()
    # who is not on the list hears it at once, not after the timeout of a minute
    _, err = s.run("stranger", "hello", status=4)
    assert "refuses this client's key" in err, err
    # without keys, or with another server's, there is no connection
    s.run(None, "hello", status=4, timeout="1")
    _, err = s.run("anna", "hello", status=4, timeout="1", server=s.keys["stranger"][1])
    assert "key" in err, err
    # jobs belong to who made them
    job = s.run("anna", "generate", "--detach", "--max-tokens", "8", "Wool")[0].strip()
    s.run("anna", "results", "--wait", job)
    for command in ("job", "results", "cancel", "close"):
        _, err = s.run("bert", command, job, status=3)
        assert "unauthorized" in err, (command, err)
    assert len(s.run("bert", "jobs")[0].splitlines()) == 1 < len(s.run("anna", "jobs")[0].splitlines())
    s.run("anna", "close", job)


def main():
    with tempfile.TemporaryDirectory(prefix="weft-", dir="/tmp") as folder:
        s = Setup(folder)
        with Weftd("--threads", "1", "--curve-secret", s.server, "--curve-clients", s.clients, request=s.request, answer=s.answer, ready=False):
            check(s)


try:
    main()
except AssertionError as e:
    sys.exit(f"FAILED: {e}")
