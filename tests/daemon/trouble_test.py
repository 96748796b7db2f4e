"""What a machine does to a daemon that runs for years: no space, no files, a store that is taken away, a clock that jumps, requests that kill."""
import os
import resource
import shutil
import subprocess

from durable_kit import House, ended, results, same_answer
from peer import BUILD, Peer, run

LONG = dict(prompt="Tell me about wool and silk.", max_tokens=300, ignore_eos=True, seed=11, temperature=0.9)
SHORT = dict(prompt="Which fabric keeps warm?", max_tokens=6, ignore_eos=True, seed=3)


def store_is(p, *states):
    p.wait(lambda: p.call("hello")["store"] in states, f"the store to be {states}")


def goes_wrong_and_comes_back(h, d, wrong, right):
    """Durable jobs wait while the store cannot be written, new ones are refused, others are served; then all goes on with the same bytes."""
    with h.peer() as p:
        want = p.done(p.generate(**LONG))
        jobs = [p.generate(durable=True, **LONG) for _ in range(3)]
        p.seen(jobs[0], "delta")
        wrong()
        store_is(p, "full", "unreachable")
        error = p.refused("generate", topic=p.topic, durable=True, **SHORT)
        assert error.code == "overloaded" and error.error["retry"] and error.error["retry_after_ms"], error
        assert p.done(p.generate(**SHORT))["state"] == "done", "jobs that are not durable go on"
        before = {j: len(p.events.get(j, ())) for j in jobs}
        p.pump(0.3)
        assert {j: len(p.events.get(j, ())) for j in jobs} == before, "nothing is told that is not on disk"
        right()
        store_is(p, "ok")
        for job in jobs:
            events = ended(p, job)
            same_answer(events[-1], want)
            p.done(job)
            assert p.events[job] == events, "told in full, once"
        p.generate(durable=True, **SHORT)
        assert d.process.poll() is None


def test_a_file_at_its_limit_is_a_full_store_and_all_goes_on_when_there_is_room():
    with House("--threads", "1", "--max-running", "2") as h:
        d = h.up()
        size = max(os.path.getsize(os.path.join(h.folder, "state", f)) for f in os.listdir(os.path.join(h.folder, "state")))
        free = resource.RLIM_INFINITY
        goes_wrong_and_comes_back(h, d, lambda: resource.prlimit(d.pid, resource.RLIMIT_FSIZE, (size, free)),
                                  lambda: resource.prlimit(d.pid, resource.RLIMIT_FSIZE, (free, free)))


class Disk:
    """A small file system of its own."""

    def __init__(self, path, size):
        self.path = path
        os.mkdir(path)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "weft-test", path], capture_output=True, text=True)
        self.mounted = done.returncode == 0
        self.why = done.stderr.strip()

    def fill(self):
        with open(os.path.join(self.path, "filler"), "wb", buffering=0) as f:
            for piece in (1 << 16, 1):
                try:
                    while f.write(b"x" * piece) == piece:
                        pass
                except OSError:
                    pass

    def free(self):
        os.unlink(os.path.join(self.path, "filler"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.mounted:
            subprocess.run(["umount", "-l", self.path], check=True)


def test_a_disk_that_is_full_for_a_while_loses_nothing():
    with House("--threads", "1", "--max-running", "2") as h, Disk(os.path.join(h.folder, "state"), "16m") as disk:
        if not disk.mounted:
            print(f"   not tried: no file system can be mounted here ({disk.why})")
            return
        d = h.up()
        try:
            goes_wrong_and_comes_back(h, d, disk.fill, disk.free)
        finally:
            d.stop()


def test_a_read_only_disk_is_told_at_the_start():
    with House("--threads", "1") as h, Disk(os.path.join(h.folder, "state"), "16m") as disk:
        if not disk.mounted:
            print(f"   not tried: no file system can be mounted here ({disk.why})")
            return
        h.up().stop()
        subprocess.run(["mount", "-o", "remount,ro", disk.path], check=True)
        d = h.up(ready=False)
        assert d.wait() in (73, 78), d.log()
        assert "read-only" in d.log().lower(), d.log()


class Taken:
    """The files of a store, taken from under its daemon, and another one in their place if so."""

    def __init__(self, h, other):
        self.path, self.other = os.path.join(h.folder, "state", "weft.db"), other

    def take(self):
        for end in ("", "-wal"):
            os.rename(self.path + end, self.path + ".aside" + end)
        if self.other:
            shutil.copy(self.path + ".aside", self.path)

    def put_back(self):
        for end in ("", "-wal"):
            os.rename(self.path + ".aside" + end, self.path + end)


def test_a_store_that_is_taken_away_takes_nothing_more_until_it_is_back():
    for other in (False, True):
        with House("--threads", "1", "--max-running", "2") as h:
            d, taken = h.up(), Taken(h, other)
            goes_wrong_and_comes_back(h, d, taken.take, taken.put_back)
            assert "put it back" in d.log(), d.log()


def test_a_store_that_is_taken_away_and_back_while_nobody_runs_has_all_that_was_accepted():
    with House("--threads", "1", "--max-running", "2") as h:
        d, taken = h.up(), Taken(h, False)
        with h.peer() as p:
            want = p.done(p.generate(**LONG))
            job = p.generate(durable=True, **LONG)
            p.seen(job, "delta")
            taken.take()
            store_is(p, "unreachable")
            d.kill()
            taken.put_back()
            h.up()
            p.listen()
            same_answer(ended(p, job)[-1], want)


def descriptors(d):
    return len(os.listdir(f"/proc/{d.pid}/fd"))


def test_more_clients_than_files_end_nothing():
    """libzmq gives up the process when it gets no descriptor for a connection, so weftd must never come so far."""
    with House("--threads", "1") as h:
        d = h.up()
        with h.peer() as p:
            want = p.done(p.generate(**LONG))
            most = descriptors(d) + 48 + 20     # 48 are kept from clients
            resource.prlimit(d.pid, resource.RLIMIT_NOFILE, (most, most))
            jobs = [p.generate(durable=i % 2 == 0, **LONG) for i in range(4)]
            crowd = [Peer(h, listen=False) for _ in range(60)]
            for q in crowd:
                q.send("stats")
            for job in jobs:
                same_answer(p.done(job), want)
            p.wait(lambda: sum(q.pump(0.001) or bool(q.replies) for q in crowd) >= 10, "an answer for some of them")
            p.wait(lambda: "turned away" in d.log(), "a line about the others")
            assert descriptors(d) <= most - 48 + 8, (descriptors(d), most)
            waiting = [q for q in crowd if not q.replies]
            assert waiting
            for q in crowd:
                if q.replies:
                    q.close()
            p.wait(lambda: any(q.pump(0.001) or q.replies for q in waiting), "who waited is served when others go")
            for q in waiting:
                q.close()
            with h.peer() as q:
                assert q.done(q.generate(**SHORT))["state"] == "done", "who comes later is served"


def test_a_start_with_too_few_files_says_so():
    for files in (20, 127, 128):
        with House("--threads", "1") as h:
            d = h.up(ready=files >= 128, limit=(resource.RLIMIT_NOFILE, files))
            if files >= 128:
                with h.peer() as p:
                    assert p.done(p.generate(durable=True, **SHORT))["state"] == "done"
            else:
                assert d.wait() == 69 and "RLIMIT_NOFILE" in d.log(), d.log()


def test_a_clock_that_jumps_changes_no_answer_and_loses_nothing():
    jump = os.path.join(BUILD, "tests", "daemon", ".libs", "clock_jump.so")
    for seconds in (86400, -86400):
        with House("--threads", "1", "--max-running", "2") as h:
            clock = os.path.join(h.folder, "clock")
            with open(clock, "w") as f:
                f.write(f"{0:20d}")
            env = {"LD_PRELOAD": jump, "WEFT_CLOCK": clock, "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"}
            d = h.up(env=env)
            with h.peer() as p:
                want = p.done(p.generate(**LONG))
                kept = p.generate(durable=True, **SHORT)
                p.done(kept)
                jobs = [p.generate(durable=True, deadline_ms=600000, **LONG) for _ in range(2)]
                delayed = p.generate(durable=True, delay_ms=3600000, **SHORT)
                p.seen(jobs[0], "delta")
                with open(clock, "r+") as f:
                    f.write(f"{seconds:20d}")
                jobs.append(p.generate(durable=True, **LONG))
                for job in jobs:
                    same_answer(p.done(job), want)
                assert p.done(p.generate(durable=True, delay_ms=50, **SHORT))["state"] == "done"
                if seconds > 0:
                    assert p.done(delayed)["state"] == "done", "its time has come by the clock"
                else:
                    assert p.call("job", job=delayed)["state"] == "delayed"
                    p.call("kick", job=delayed)
                    assert p.done(delayed)["state"] == "done"
                assert len(results(p, kept)) == len(p.events[kept])
                last = p.generate(durable=True, **LONG)
                p.seen(last, "delta")
                d.kill()
                h.up(env=env)
                p.listen()
                same_answer(ended(p, last)[-1], want)


def test_rows_that_kill_their_daemon_are_dead_and_the_batch_ends():
    with House("--threads", "1", "--max-running", "4") as h:
        d = h.up()
        with h.peer() as p:
            batch = p.call("batch.open", name="b")["batch"]["batch"]
            rows = [dict(request=dict(SHORT, **(dict(poison=3) if i in (4, 9) else {}))) for i in range(16)]
            p.call("batch.add", batch=batch, first=0, rows=rows)
            p.call("batch.seal", batch=batch)
            deaths = 0
            while not batch_over(p, d, batch):
                deaths += 1
                assert d.wait() == -9 and deaths <= 12, deaths
                shutil.rmtree(d.folder, ignore_errors=True)
                d = h.up(ready=False)
            p.listen()
            want = p.done(p.generate(**SHORT))["choices"]
            seen = p.call("batch.results", batch=batch, ordered=True)["results"]
            assert [x["row"] for x in seen if x["state"] == "dead"] == [4, 9], [x["state"] for x in seen]
            assert all("3 times" in seen[i]["done"]["error"]["message"] for i in (4, 9))
            assert all(x["done"]["choices"] == want for x in seen if x["row"] not in (4, 9))
            assert deaths >= 6, deaths


def batch_over(p, d, batch):
    """True when it is; False when the daemon died."""
    while True:
        asked = p.send("batch.status", batch=batch)
        while asked not in p.replies and d.process.poll() is None:
            p.pump(0.05)
        if d.process.poll() is not None:
            return False
        r = p.replies.pop(asked)
        if r["ok"] and r["batch"]["ended_ms"]:
            return True
        p.pump(0.02)


run(globals())
