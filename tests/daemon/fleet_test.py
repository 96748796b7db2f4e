"""Daemons that share one PostgreSQL (its URL is in PG_URL): each runs what waits, goes on with what a dead one had, and tells of the others' jobs."""
import contextlib
import os
import subprocess

from durable_kit import House, ended, same_answer
from peer import run

LONG = dict(prompt="Tell me about wool and silk.", max_tokens=300, ignore_eos=True, seed=11, temperature=0.9, top_p=0.95)
SHARED = ("--threads", "1", "--store-lease", "2s")


def house(*args):
    return House(*SHARED, *args, store=os.environ["PG_URL"])


@contextlib.contextmanager
def open_transaction():
    """While it is open, nothing that is written can be watched: all that is newer than it may still be undone."""
    with subprocess.Popen([os.path.join(os.environ["PG_BIN"], "psql"), "-XqAt", os.environ["PG_URL"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as p:
        p.stdin.write("BEGIN;\nSELECT pg_current_xact_id();\n")
        p.stdin.flush()
        assert p.stdout.readline().strip().isdigit()
        yield
        p.stdin.close()


def test_another_daemon_goes_on_with_the_job_of_a_dead_one_and_its_client_follows_there():
    with house() as a, house() as b:
        d = a.up()
        with a.peer() as p:
            want = p.done(p.generate(**LONG))
            job = p.generate(durable=True, **dict(LONG, n=1))
            p.seen(job, "delta")
            d.kill()
            b.up()
            with b.peer(topic=p.topic) as q:
                events = ended(q, job)
                same_answer(events[-1], want)
                seen = q.call("job", job=job)
                assert seen["attempt"] == 2 and seen["state"] == "done", seen


def test_what_a_dead_one_said_is_told_by_the_next_one_before_what_it_says_itself():
    with house() as a, house() as b:
        d = a.up()
        b.up()
        with a.peer(listen=False) as p, b.peer() as q, open_transaction():
            job = p.generate(durable=True, **dict(LONG, topic=q.topic))
            d.kill()
            assert q.done(job)["state"] == "done"   # and no seq is missing, or late


def test_a_batch_is_drained_by_two_and_jobs_are_seen_and_cancelled_through_either():
    with house("--max-running", "4") as a, house("--max-running", "4") as b:
        a.up()
        b.up()
        with a.peer() as p, b.peer() as q:
            batch = p.call("batch.open", name="fleet")["batch"]["batch"]
            p.call("batch.add", batch=batch, first=0, rows=[dict(request=dict(prompt=f"Fabric {i}", max_tokens=30, ignore_eos=True, seed=i)) for i in range(200)])
            p.call("batch.seal", batch=batch)
            q.wait(lambda: q.call("batch.status", batch=batch)["batch"]["ended_ms"], "the end of the batch")
            status = q.call("batch.status", batch=batch)["batch"]
            assert status["counts"]["done"] == 200 and sum(status["counts"].values()) == 200, status
            claimed = [x.call("stats")["store"]["claimed"] for x in (p, q)]
            assert sum(claimed) >= 200 and min(claimed) > 0, claimed
            rest = p.generate(durable=True, delay_ms=600000, **LONG)
            assert q.call("job", job=rest)["state"] == "delayed"
            assert q.call("cancel", job=rest)["state"] == "cancelled"
            slow = p.generate(durable=True, **dict(LONG, n=16))
            assert q.call("cancel", job=slow)["result"] in ("ordered", "cancelled", "noop")
            assert ended(q, slow)[-1]["state"] in ("cancelled", "done")


run(globals())
