"""Accepted means kept: durable jobs over kill -9, drain, and everything that clients do with them."""
import resource

from durable_kit import House, ended, results, same_answer, text_of
from peer import Peer, Refused, Weftd, run

LONG = dict(prompt="Tell me about wool and silk.", max_tokens=480, ignore_eos=True, seed=11, temperature=0.9, top_p=0.95)
SHORT = dict(prompt="Which fabric keeps warm?", max_tokens=6, ignore_eos=True, seed=3)


def deltas(p, job):
    return [e for e in p.events.get(job, ()) if e["event"] == "delta"]


def undisturbed(p, **request):
    return p.done(p.generate(**request))


def test_a_job_goes_on_after_kill_where_its_journal_ends_with_the_same_bytes():
    with House("--threads", "1") as h:
        d = h.up()
        with h.peer() as p:
            request = dict(LONG, n=2, logprobs=1)
            want = undisturbed(p, **request)
            job = p.generate(durable=True, **request)
            for enough in (1, 60, 150):
                p.wait(lambda: p.call("job", job=job)["seq"] > enough, f"{enough} events")    # live ones may pass before we listen again
                d.kill()
                seen = list(p.events[job])
                d = h.up()
                p.listen()
                kept = results(p, job)
                assert all(kept[e["seq"]] == e for e in seen), "what was on the wire is on disk"
            events = ended(p, job)
            same_answer(events[-1], want)
            assert [e["event"] for e in events].count("recovered") >= 1, [e["event"] for e in events]
            assert [e["event"] for e in events].count("started") == 1
            for choice in (0, 1):
                assert text_of(events, choice) == want["choices"][choice]["text"]
            live = p.events[job]
            assert all(events[e["seq"]] == e for e in live), "published and kept are the same"


def test_an_accepted_job_that_waits_survives_a_kill_at_once():
    with House("--threads", "1", "--max-running", "1") as h:
        d = h.up()
        with h.peer() as p:
            want = undisturbed(p, **SHORT)
            p.generate(**LONG)    # holds the only slot, and dies with the daemon
            jobs = [p.generate(durable=True, **SHORT) for _ in range(5)]
            d.kill()
            h.up()
            p.listen()
            for job in jobs:
                same_answer(ended(p, job)[-1], want)
            assert len(set(jobs)) == 5 and p.generate(**SHORT) > max(jobs), "numbers are not used twice"


def test_scores_and_quiet_restarts_have_the_same_result():
    with House("--threads", "1") as h:
        d = h.up()
        with h.peer() as p:
            request = dict(prompt="Wool is", continuations=[" warm and soft" * 20, " a fish" * 30], logprobs=2)
            want = p.done(p.call("score", topic=p.topic, **request)["job"])
            job = p.call("score", topic=p.topic, durable=True, **request)["job"]
            d.kill()
            h.up()
            p.listen()
            same_answer(ended(p, job)[-1], want)


def parked(p, d, job):
    """True when the job is dead; False when the daemon is."""
    while True:
        asked = p.send("job", job=job)
        while asked not in p.replies and d.process.poll() is None:
            p.pump(0.05)
        if d.process.poll() is not None:
            return False
        if p.replies.pop(asked).get("state") == "dead":
            return True


def test_a_key_stands_for_one_job_also_after_a_restart():
    with House("--threads", "1") as h:
        d = h.up()
        with h.peer() as p, h.peer() as q:
            first = p.call("generate", topic=p.topic, key="order 1", **LONG)
            assert first["durable"] is True and "existing" not in first
            again = q.call("generate", topic=q.topic, key="order 1", **dict(reversed(LONG.items())))
            assert again["job"] == first["job"] and again["existing"] is True and again["topic"] == p.topic, again
            q.wait(lambda: deltas(q, first["job"]), "events on the second client's topic, too")
            error = p.refused("generate", topic=p.topic, key="order 1", **dict(LONG, max_tokens=7))
            assert (error.code, error.field) == ("conflict", "key")
            error = p.refused("generate", topic=p.topic, key="order 2", durable=False, **SHORT)
            assert (error.code, error.field) == ("invalid_argument", "key")
            d.kill()
            h.up()
            p.listen()
            assert p.call("generate", topic=p.topic, key="order 1", **LONG)["job"] == first["job"]
            done = ended(p, first["job"])[-1]
            again = p.call("generate", topic=p.topic, key="order 1", **LONG)
            assert again["job"] == first["job"] and again["state"] == done["state"]
            p.call("close", job=first["job"])
            assert p.refused("job", job=first["job"]).code == "not_found"
            assert p.call("generate", topic=p.topic, key="order 1", **SHORT)["job"] != first["job"]


def test_ended_jobs_are_replayed_from_any_seq_and_closed():
    with House("--threads", "1") as h:
        d = h.up()
        with h.peer() as p:
            job = p.generate(durable=True, **SHORT)
            p.done(job)
            events = p.events[job]
            d.stop()
            h.up()
            p.listen()
            for start in (0, 1, len(events) - 1, len(events), len(events) + 3):
                assert results(p, job, start) == events[start:], start
            seen = p.call("job", job=job)
            assert seen["state"] == "done" and seen["durable"] and seen["seq"] == len(events) and seen["completion_tokens"] == 6, seen
            listed = p.call("jobs", state="done")
            assert [j["job"] for j in listed["jobs"]] == [job] and listed["counts"]["done"] == 1, listed
            with h.peer(listen=False) as stranger:
                assert stranger.call("job", job=job)["state"] == "done"    # ipc: one identity
            p.call("close", job=job)
            assert p.refused("results", job=job).code == "not_found"


def test_delay_bury_kick_cancel():
    long = {**LONG, "n": 8} # a fast core ends one choice before it can be buried
    with House("--threads", "1") as h:
        h.up()
        with h.peer() as p:
            late = p.generate(durable=True, delay_ms=600000, **SHORT)
            assert p.call("job", job=late)["state"] == "delayed"
            soon = p.generate(durable=True, delay_ms=300, **SHORT)
            p.done(soon)
            assert p.call("kick", job=late)["state"] in ("queued", "running")
            p.done(late)
            job = p.generate(durable=True, **long)
            p.seen(job, "delta")
            p.call("bury", job=job)
            p.wait(lambda: p.call("job", job=job)["state"] == "buried", "the job is buried")
            n = len(results(p, job))
            assert p.call("jobs", state="buried")["jobs"][0]["job"] == job
            assert p.call("kick", job=job)["result"] == "kicked"
            same_answer(ended(p, job)[-1], undisturbed(p, **long))
            assert n < len(results(p, job))
            job = p.generate(durable=True, delay_ms=600000, **SHORT)
            assert p.call("cancel", job=job)["result"] == "cancelled"
            assert p.done(job)["state"] == "cancelled"
            assert results(p, job)[-1]["state"] == "cancelled" and results(p, job, 2) == []
            assert p.call("cancel", job=job)["result"] == "noop"
            assert p.call("touch", job=job)["result"] == "touched"
            job = p.generate(durable=True, **long)
            p.seen(job, "delta")
            assert p.call("cancel", job=job)["result"] == "cancelled"
            assert p.done(job)["choices"][0]["finish"] == "cancelled"
            assert p.refused("bury", job=p.generate(**long)).code == "conflict"


def test_drain_hands_back_what_does_not_finish_and_the_next_start_goes_on():
    with House("--threads", "1", "--max-running", "3", "--drain-timeout", "20ms") as h:
        d = h.up()
        with h.peer() as p:
            want = undisturbed(p, **LONG)
            jobs = [p.generate(durable=True, **LONG) for _ in range(4)]
            mortal = p.generate(priority=0, **dict(LONG, n=8))
            p.seen(jobs[0], "delta")
            assert d.stop() == 0
            assert p.done(mortal)["choices"][0]["finish"] == "shutdown"
            d = h.up()
            p.listen()
            for job in jobs:
                same_answer(ended(p, job)[-1], want)
            seen = [p.call("job", job=job) for job in jobs]
            assert any(j["attempt"] >= 2 for j in seen) and not any(j["crashes"] for j in seen), seen


def test_a_job_that_kills_its_daemon_three_times_is_dead_and_the_others_go_on():
    with House("--threads", "1") as h:
        d = h.up()
        with h.peer() as p:
            want = undisturbed(p, **LONG)
            innocent = [p.generate(durable=True, **LONG) for _ in range(2)]
            poison = p.generate(durable=True, poison=4, **SHORT)
            deaths = 0
            while not parked(p, d, poison):
                deaths += 1
                assert d.wait() == -9 and deaths <= 3 + 2 * 4, deaths  # each of 4 writes that it gets through starts the count anew, at most after 2 deaths
                d = h.up(ready=False)
            assert deaths >= 3, deaths
            p.listen()
            events = ended(p, poison)
            assert events[-1]["state"] == "dead" and "3 times" in events[-1]["error"]["message"], events[-1]
            assert p.call("jobs", state="dead")["jobs"][0]["error"]["message"]
            for job in innocent:
                same_answer(ended(p, job)[-1], want)


def test_after_a_restart_a_job_that_wants_a_listener_still_does():
    with House("--threads", "1", "--disconnect-grace", "50ms") as h:
        d = h.up()
        with h.peer() as p, h.peer() as q:
            lonely = q.generate(durable=True, on_disconnect="cancel", **dict(LONG, n=16))
            kept = q.generate(durable=True, **dict(LONG, seed=4))
            q.seen(lonely, "delta")
            d.kill()
            q.deafen()
            h.up()
            assert ended(p, lonely)[-1]["state"] == "cancelled"
            assert ended(p, kept)[-1]["state"] == "done"


def limit_files(d, size):
    """Files of the daemon may not grow beyond size: for the store the disk is full there."""
    hard = resource.prlimit(d.pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(d.pid, resource.RLIMIT_FSIZE, (size, hard))


def test_a_full_disk_stops_durable_jobs_only_and_all_goes_on_when_there_is_room():
    with House("--threads", "1") as h:
        d = h.up()
        with h.peer() as p:
            want = undisturbed(p, **LONG)
            before = p.done(p.generate(durable=True, **SHORT))
            job = p.generate(durable=True, **LONG)
            p.seen(job, "delta")
            limit_files(d, 4096)
            error = None
            while not error:
                try:
                    p.generate(durable=True, **SHORT)
                except Refused as e:
                    error = e
            assert error.code == "overloaded" and error.error["retry"] and error.error["retry_after_ms"], error
            p.wait(lambda: p.call("hello")["store"] == "full", "the state of the store is told")
            for _ in range(3):
                assert p.done(p.generate(**SHORT))["choices"] == before["choices"], "others are served"
            store = p.call("stats")["store"]
            assert store["state"] == "full" and store["reason"], store
            assert p.call("job", job=job)["state"] in ("queued", "running", "preempted")
            limit_files(d, resource.RLIM_INFINITY)
            same_answer(ended(p, job)[-1], want)
            p.wait(lambda: p.call("hello")["store"] == "ok", "the store is well again")
            p.done(p.generate(durable=True, **SHORT))


def test_what_runs_while_the_disk_is_full_is_whole_after_a_kill():
    with House("--threads", "1") as h:
        d = h.up()
        with h.peer() as p:
            want = undisturbed(p, **LONG)
            job = p.generate(durable=True, **LONG)
            p.seen(job, "delta")
            limit_files(d, 4096)
            p.wait(lambda: p.call("hello")["store"] == "full", "the state of the store is told")
            said = len(results(p, job))
            d.kill()
            h.up()
            p.listen()
            events = ended(p, job)
            assert len(events) >= said
            same_answer(events[-1], want)


def test_without_a_store_durable_jobs_are_refused():
    with Weftd("--threads", "1") as d, Peer(d) as p:
        assert p.call("hello")["store"] == "none"
        for fields in (dict(durable=True), dict(key="k")):
            error = p.refused("generate", topic=p.topic, **fields, **SHORT)
            assert error.code == "unsupported", error
        assert p.refused("batch.list").code == "unsupported"
        assert p.refused("generate", topic=p.topic, delay_ms=5, **SHORT).field == "delay_ms"


run(globals())
