"""200 clients talk while the engine is saturated: every request is answered, and the loop's lag is reported.

Lag has two parts: what the loop does to itself, and how late this machine wakes any program. So beside it stands the lag of a program that
only sleeps, measured at the same time."""
import subprocess
import sys
import time

import msgpack
import zmq

from peer import DEADLINE, Peer, Weftd, run

CLIENTS, SECONDS = 200, 4
LONG = dict(prompt="Tell me about wool.", max_tokens=450, ignore_eos=True)
SLEEPER = """
import time
late = []
for _ in range(150):
    t = time.monotonic(); time.sleep(0.02); late.append((time.monotonic() - t - 0.02) * 1000)
print(sorted(late)[147])
"""


def test_two_hundred_clients_are_answered_while_the_engine_is_busy():
    with Weftd("--max-running", "32") as d, Peer(d) as p:
        load = [p.generate(**LONG) for _ in range(64)]
        poller, sockets, sent, answered, worst = zmq.Poller(), [], {}, 0, 0.0
        request = msgpack.packb({"v": 1, "id": 1, "op": "stats"})
        for i in range(CLIENTS):
            s = p.socket(zmq.DEALER)
            s.connect(d.request)
            poller.register(s, zmq.POLLIN)
            sockets.append(s)
        sleeper = subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE, text=True)
        end = time.monotonic() + SECONDS
        for s in sockets:
            s.send(request)
            sent[s] = time.monotonic()
        waiting = {}
        while sent or (time.monotonic() < end and waiting):
            assert time.monotonic() < end + DEADLINE, f"{len(sent)} requests without a reply"
            now = time.monotonic()
            for s in [s for s, at in waiting.items() if at <= now]:
                del waiting[s]
                s.send(request)
                sent[s] = now
            for s, _ in poller.poll(20):
                assert msgpack.unpackb(s.recv())["ok"]
                worst = max(worst, time.monotonic() - sent.pop(s))
                answered += 1
                if time.monotonic() < end:
                    waiting[s] = time.monotonic() + 0.2    # each client asks five times a second
            while len([j for j in load if j not in p.events or p.events[j][-1]["event"] != "done"]) < 40 and time.monotonic() < end:
                load.append(p.generate(**LONG))
            p.pump(0)
        stats = p.call("stats")
        assert answered >= CLIENTS and stats["engine"]["steps"] > 0, stats["engine"]
        machine = float(sleeper.communicate(timeout=DEADLINE)[0])
        lag = stats["loop"]
        print(f"   {answered} replies, the slowest after {worst * 1000:.1f} ms; engine step {stats['engine']['step_ms_mean']:.1f} ms")
        print(f"   loop lag p50 {lag['lag_ms_p50']:.2f} ms, p99 {lag['lag_ms_p99']:.2f} ms, max {lag['lag_ms_max']:.2f} ms; a program that only sleeps: p99 {machine:.2f} ms")
        for j in load:
            p.call("cancel", job=j)
            p.done(j)


run(globals())
