"""A foreign client for the daemon's tests: pyzmq and msgpack, nothing of ours. Everything has a deadline; a failed wait shows the conversation.

    with Weftd() as d, Peer(d) as p:
        job = p.generate(prompt="Hello", max_tokens=4)
        done = p.done(job)
"""
import os
import sys
import time

import msgpack
import zmq

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "client"))
from weftd import BUILD, DEADLINE, SRC, Weftd, skip  # noqa: E402,F401  (tests import them from here)


class Refused(Exception):
    def __init__(self, error):
        super().__init__(f"{error['code']}: {error['message']} (field {error.get('field')})")
        self.code, self.field, self.error = error["code"], error.get("field"), error


class Peer:
    """One client: a DEALER, and a SUB on one topic. events: {job: [event, ...]} in order of arrival."""

    def __init__(self, d, topic=None, listen=True, curve=None):
        self.d, self.topic = d, topic or os.urandom(16).hex()
        self.context = zmq.Context()
        self.dealer = self.socket(zmq.DEALER, curve)
        self.dealer.connect(d.request)
        self.sub = None
        self.next_id, self.replies, self.events, self.hellos = 0, {}, {}, 0
        self.said = []
        if listen:
            self.listen(curve)

    def socket(self, kind, curve=None):
        s = self.context.socket(kind)
        s.linger = 0
        if curve:
            s.curve_serverkey, s.curve_publickey, s.curve_secretkey = curve
        return s

    def listen(self, curve=None):
        self.sub = self.socket(zmq.SUB, curve)
        self.sub.rcvhwm = 0
        self.sub.connect(self.d.answer)
        self.sub.subscribe(self.topic)
        end = time.monotonic() + DEADLINE
        before = self.hellos
        while self.hellos == before:
            self.call("hello", topic=self.topic)
            self.pump(0.1)
            assert time.monotonic() < end, "no hello event in time"

    def deafen(self):
        """The listener goes away; requests go on."""
        self.sub.close()
        self.sub = None

    # ---- requests ----

    def send(self, op, **fields):
        self.next_id += 1
        return self.send_raw(msgpack.packb({"v": 1, "id": self.next_id, "op": op, **fields}), self.next_id)

    def send_raw(self, body, id=None):
        self.dealer.send(body)
        return id

    def reply(self, id):
        self.wait(lambda: id in self.replies, f"the reply to request {id}")
        return self.replies.pop(id)

    def call(self, op, **fields):
        r = self.reply(self.send(op, **fields))
        self.said.append((op, r))
        if not r["ok"]:
            raise Refused(r["error"])
        return r

    def refused(self, op, **fields):
        """The error of a request that must be refused."""
        try:
            r = self.call(op, **fields)
        except Refused as e:
            return e
        raise AssertionError(f"{op} {fields} was not refused: {r}")

    def generate(self, **fields):
        return self.call("generate", **{"topic": self.topic, **fields})["job"]

    # ---- events ----

    def done(self, job):
        """Waits for the job's last event; checks that seq has no gap and that nothing came twice."""
        self.wait(lambda: self.events.get(job) and self.events[job][-1]["event"] == "done", f"the end of job {job}")
        check_events(self.events[job])
        return self.events[job][-1]

    def seen(self, job, event):
        self.wait(lambda: any(e["event"] == event for e in self.events.get(job, ())), f"event {event} of job {job}")

    # ---- the pump ----

    def wait(self, condition, what, deadline=DEADLINE):
        end = time.monotonic() + deadline
        while not condition():
            left = end - time.monotonic()
            if left <= 0:
                self.show()
                raise AssertionError(f"not in time: {what}")
            self.pump(min(left, 1))

    def pump(self, seconds):
        poller = zmq.Poller()
        poller.register(self.dealer, zmq.POLLIN)
        if self.sub:
            poller.register(self.sub, zmq.POLLIN)
        if not poller.poll(int(seconds * 1000) or 1):
            return
        while self.dealer.poll(0):
            r = msgpack.unpackb(self.dealer.recv())
            self.replies[r["id"]] = r
        while self.sub and self.sub.poll(0):
            topic, body = self.sub.recv_multipart()
            assert topic.decode() == self.topic, "an event of another topic"
            e = msgpack.unpackb(body)
            if e["event"] == "hello":
                self.hellos += 1
            else:
                self.events.setdefault(e["job"], []).append(e)

    def show(self):
        for op, r in self.said[-20:]:
            print("<", op, {k: v for k, v in r.items() if k not in ("options", "plugins")}, file=sys.stderr)
        for job, events in list(self.events.items())[-5:]:
            print("*", job, [(e["seq"], e["event"]) for e in events], file=sys.stderr)

    def close(self):
        self.context.destroy(linger=0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def check_events(events):
    assert [e["seq"] for e in events] == list(range(len(events))), [e["seq"] for e in events]
    assert sum(e["event"] == "done" for e in events) == 1, "more than one terminal event"


def run(tests):
    """Runs every function of a module whose name begins with test_; names are facts."""
    for name, test in list(tests.items()):
        if name.startswith("test_") and callable(test):
            start = time.monotonic()
            test()
            print(f"ok {name} ({time.monotonic() - start:.1f} s)", flush=True)
