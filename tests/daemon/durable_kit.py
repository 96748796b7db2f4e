"""A weftd that is killed and started again over the same store, and what its clients see meanwhile."""
import os
import shutil
import tempfile

from peer import BUILD, Peer, Refused, Weftd, check_events  # noqa: F401


class House:
    """A state folder and endpoints that outlive the daemons in it.

        with House("--threads", "1") as h:
            with h.up() as d, h.peer() as p: ...; d.kill()
            with h.up() as d: ...
    """

    def __init__(self, *args, store=None):
        self.folder = tempfile.mkdtemp(prefix="weft-", dir="/tmp")
        self.request, self.answer = f"ipc://{self.folder}/request", f"ipc://{self.folder}/answer"
        self.args = ["--state", f"{self.folder}/state", *(["--store", store] if store else []), *args]
        self.daemon = None

    def up(self, *args, ready=True, **kw):
        plugins = ":".join(os.path.join(BUILD, p) for p in ("plugins/.libs", "tests/daemon/poison/.libs"))
        self.daemon = Weftd(*self.args, *args, plugins=plugins, request=self.request, answer=self.answer, ready=ready, **kw)
        return self.daemon

    def peer(self, topic=None, **kw):
        return Peer(self, topic, **kw)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        try:
            if self.daemon and not self.daemon.ended:
                self.daemon.finish(kind is None)
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


def results(p, job, start=0):
    """All events of a job from the store or from memory, by `results`."""
    events, at = [], start
    while True:
        r = p.call("results", job=job, **{"from": at})
        events += r["events"]
        if not r["events"]:
            return events
        at = r["next"]


def ended(p, job):
    """Waits for the job's end by asking (its events may have gone to a daemon that died); checks its whole history; the done event."""
    def over():
        try:
            return p.call("job", job=job)["state"] in ("done", "failed", "cancelled", "expired", "dead")
        except Refused as e:
            assert e.code == "overloaded", e
            return False
    while not over():
        p.pump(0.02)
    events = results(p, job)
    check_events(events)
    return events


def same_answer(a, b):
    """Two done events of the same request."""
    for key in ("state", "choices", "digest"):
        assert a[key] == b[key], (key, a[key], b[key])
    for key in ("prompt_tokens", "completion_tokens"):
        assert a["usage"][key] == b["usage"][key], (key, a["usage"], b["usage"])


def text_of(events, choice=0):
    return "".join(e["text"] for e in events if e["event"] == "delta" and e["choice"] == choice)
