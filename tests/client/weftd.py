"""A weftd of one's own for a test: private folder, private ipc endpoints, deadlines everywhere, its log shown when something fails.

    from weftd import Weftd
    with Weftd("--threads", "1") as d:          # further arguments of weftd
        ... d.request, d.answer, d.folder, d.pid, d.log() ...

Leaving the block sends SIGTERM and asks for exit status 0; d.kill() and d.wait() are for tests that end it themselves.
Knows of the protocol only that `hello` is answered. Needs pyzmq and msgpack."""
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import msgpack
import zmq

# Seconds: machines are slow and noisy. Nothing takes longer for it but a test that fails.
DEADLINE = 120.0 * float(os.environ.get("WEFT_TEST_PATIENCE", "1"))
SRC = os.path.abspath(os.environ.get("top_srcdir", os.path.join(os.path.dirname(__file__), "..", "..")))
BUILD = os.path.abspath(os.environ.get("top_builddir", "."))


def skip(reason):
    print("SKIP:", reason)
    sys.exit(77)


class Weftd:
    def __init__(self, *args, model=None, plugins=None, env=None, request=None, answer=None, ready=True, limit=None):
        self.folder = tempfile.mkdtemp(prefix="weft-", dir="/tmp")    # short: a socket path holds 107 bytes
        self.request = request or f"ipc://{self.folder}/request"
        self.answer = answer or f"ipc://{self.folder}/answer"
        model = model or os.path.join(SRC, "tests", "demo", "model")
        plugins = plugins or os.path.join(BUILD, "plugins", ".libs")
        self.argv = [os.path.join(BUILD, "daemon", "weftd"), "--model", model, "--request", self.request,
                     "--answer", self.answer, "--plugins", plugins, *args]
        self.log_path = os.path.join(self.folder, "log")
        self.ended = False
        before = limit and (lambda: resource.setrlimit(limit[0], (limit[1], limit[1])))     # limit: (RLIMIT_..., value), from the start
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                                            env={**os.environ, **(env or {})}, preexec_fn=before)
        self.pid = self.process.pid
        if ready:
            try:
                self.wait_ready()
            except BaseException:
                self.finish(False)
                raise

    def log(self):
        with open(self.log_path, "rb") as f:
            return f.read().decode("utf-8", "replace")

    def wait_ready(self):
        """Until `hello` is answered. A daemon that ends instead is an error at once."""
        context = zmq.Context()
        socket = context.socket(zmq.DEALER)
        socket.linger = 0
        socket.connect(self.request)
        end = time.monotonic() + DEADLINE
        try:
            socket.send(msgpack.packb({"v": 1, "id": 0, "op": "hello"}))
            while not socket.poll(100):
                if self.process.poll() is not None:
                    raise RuntimeError(f"weftd ended with status {self.process.returncode}")
                if time.monotonic() > end:
                    raise RuntimeError("weftd is not ready in time")
        finally:
            context.destroy(linger=0)

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        """As if the power went."""
        self.process.kill()
        return self.wait()

    def wait(self, deadline=DEADLINE):
        """Exit status (negative: the signal), or RuntimeError past the deadline."""
        try:
            status = self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise RuntimeError("weftd did not end in time") from None
        finally:
            self.ended = True
        return status

    def stop(self):
        self.signal(signal.SIGTERM)
        return self.wait()

    def finish(self, good):
        try:
            if not self.ended:
                if good:
                    status = self.stop()
                    if status != 0:
                        good = False
                        raise RuntimeError(f"weftd ended with status {status} after SIGTERM")
                else:
                    self.kill()
        except RuntimeError:
            good = False
            raise
        finally:
            if not good:
                sys.stderr.write("---- log of weftd ----\n" + self.log() + "---- end of log ----\n")
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        self.finish(kind is None or (kind is SystemExit and value.code in (0, 77, None)))
