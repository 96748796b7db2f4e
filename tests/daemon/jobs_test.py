"""The life of jobs over real sockets: order, cancel, deadlines, overload, pre-emption, disconnection, replay."""
import os

from peer import BUILD, Peer, Weftd, check_events, run

LONG = dict(prompt="Tell me about wool.", max_tokens=400, ignore_eos=True, temperature=1)
SLOW = {**LONG, "n": 8, "max_tokens": 250}    # a second or more: time enough to act on it while it runs


def test_the_same_request_has_the_same_answer_alone_and_amid_load():
    with Weftd() as d, Peer(d) as p:
        want = dict(prompt="A coat for winter", max_tokens=60, ignore_eos=True, seed=7, temperature=0.9, top_p=0.9, repetition_penalty=1.1, n=2)
        alone = p.done(p.generate(**want))
        noise = [p.generate(**{**LONG, "seed": i, "prompt": "noise " * (i + 1)}) for i in range(20)]
        amid = p.done(p.generate(**want))
        assert amid["choices"] == alone["choices"] and amid["digest"] == alone["digest"]
        assert len(alone["choices"]) == 2 and alone["choices"][0]["text"] != alone["choices"][1]["text"]
        for job in noise:
            assert p.done(job)["state"] == "done"


def test_a_preempted_job_loses_nothing():
    with Weftd("--max-running", "1") as d, Peer(d) as p:
        batch = {**LONG, "n": 6, "seed": 5, "class": "batch"}
        undisturbed = p.done(p.generate(**batch))
        job = p.generate(**batch)
        p.seen(job, "delta")
        quick = p.done(p.generate(prompt="Hi", max_tokens=3))
        assert quick["state"] == "done"
        done = p.done(job)
        kinds = [e["event"] for e in p.events[job]]
        assert "preempted" in kinds and "resumed" in kinds, kinds
        assert done["digest"] == undisturbed["digest"] and done["choices"] == undisturbed["choices"]
        assert p.call("stats")["engine"]["preemptions"] >= 1


def test_preempt_no_makes_interactive_wait_for_batch():
    with Weftd("--max-running", "1", "--preempt", "no") as d, Peer(d) as p:
        job = p.generate(**{**SLOW, "class": "batch"})
        p.seen(job, "delta")
        p.done(p.generate(prompt="Hi", max_tokens=3))
        assert p.events[job][-1]["event"] == "done" and "preempted" not in [e["event"] for e in p.events[job]]


def test_lower_priority_numbers_go_first():
    with Weftd("--max-running", "1") as d, Peer(d) as p:
        first = p.generate(**SLOW)
        p.seen(first, "started")
        late = p.generate(prompt="late", max_tokens=2, priority=900)
        soon = p.generate(prompt="soon", max_tokens=2, priority=0)
        p.done(late)
        p.done(soon)
        order = [p.call("job", job=j)["age_ms"] - p.call("job", job=j)["running_ms"] for j in (late, soon)]
        assert p.events[soon][1]["event"] == "started"
        assert p.done(soon)["timing"]["queued_ms"] < p.done(late)["timing"]["queued_ms"], order


def test_a_waiting_job_is_cancelled_at_once_and_only_once():
    with Weftd("--max-running", "1") as d, Peer(d) as p:
        running = p.generate(**SLOW)
        waiting = p.generate(**LONG)
        assert p.call("cancel", job=waiting)["state"] == "cancelled"
        done = p.done(waiting)
        assert done["state"] == "cancelled" and done["choices"][0]["finish"] == "cancelled"
        assert p.call("cancel", job=waiting)["result"] == "noop"
        p.call("cancel", job=running)


def test_a_running_job_is_cancelled_with_what_it_had():
    with Weftd() as d, Peer(d) as p:
        job = p.generate(**SLOW)
        p.seen(job, "delta")
        r = p.call("cancel", job=job)
        assert r["result"] == "cancelled", r
        done = p.done(job)
        assert done["state"] == "cancelled" and done["choices"][0]["finish"] == "cancelled"
        deltas = [e for e in p.events[job] if e["event"] == "delta"]
        for i, c in enumerate(done["choices"]):
            assert c["tokens"] == [t for e in deltas if e["choice"] == i for t in e["tokens"]]
            assert c["text"] == "".join(e["text"] for e in deltas if e["choice"] == i)


def test_a_parked_job_can_be_cancelled():
    with Weftd("--max-running", "1") as d, Peer(d) as p:
        job = p.generate(**{**SLOW, "class": "batch"})
        p.seen(job, "delta")
        others = [p.generate(**LONG) for _ in range(3)]
        p.seen(job, "preempted")
        p.call("cancel", job=job)
        assert p.done(job)["state"] == "cancelled"
        for o in others:
            p.call("cancel", job=o)
            p.done(o)
        assert p.call("stats")["engine"]["pages_used"] == 0


def test_a_deadline_ends_a_running_job_as_expired_never_as_length():
    with Weftd() as d, Peer(d) as p:
        load = [p.generate(**{**LONG, "n": 8}) for _ in range(4)]
        job = p.generate(**{**LONG, "deadline_ms": 60})
        done = p.done(job)
        assert done["state"] == "expired" and done["choices"][0]["finish"] == "expired", done
        for j in load:
            p.call("cancel", job=j)
            p.done(j)


def test_queue_ms_expires_a_job_that_never_ran():
    with Weftd("--max-running", "1") as d, Peer(d) as p:
        load = [p.generate(**LONG) for _ in range(8)]
        job = p.generate(prompt="x", max_tokens=1, queue_ms=1)
        done = p.done(job)
        assert done["state"] == "expired" and done["usage"]["completion_tokens"] == 0
        assert [e["event"] for e in p.events[job]] == ["queued", "done"]
        for j in load:
            p.call("cancel", job=j)


def test_a_full_queue_refuses_with_a_time_to_try_again():
    with Weftd("--max-running", "1", "--max-queue", "3") as d, Peer(d) as p:
        jobs = [p.generate(**SLOW)]
        p.seen(jobs[0], "started")
        jobs += [p.generate(**LONG) for _ in range(3)]
        e = p.refused("generate", topic=p.topic, **LONG)
        assert e.code == "overloaded" and e.error["retry"] and 100 <= e.error["retry_after_ms"] <= 60000
        assert p.call("stats")["jobs"]["rejected"] == 1
        for j in jobs:
            p.call("cancel", job=j)
            p.done(j)
        p.done(p.generate(prompt="again", max_tokens=1))


def test_the_queue_is_bounded_in_tokens():
    with Weftd("--max-running", "1", "--max-queue-tokens", "1000") as d, Peer(d) as p:
        p.seen(p.generate(**LONG), "started")   # 16 of these would be too large for this queue
        jobs = [p.generate(**LONG), p.generate(**LONG)]
        e = p.refused("generate", topic=p.topic, **LONG)
        assert e.code == "overloaded" and "tokens" in e.error["message"]
        assert p.refused("generate", topic=p.topic, prompt="x", max_tokens=500, n=8).code == "too_large"
        for j in jobs:
            p.call("cancel", job=j)


def test_a_job_that_can_never_have_its_pages_is_too_large():
    with Weftd("--kv-memory", "1M") as d, Peer(d) as p:
        assert p.refused("generate", topic=p.topic, prompt="x", max_tokens=500, n=64).code == "too_large"
        p.done(p.generate(prompt="x", max_tokens=2))


def test_results_gives_the_same_events_again():
    with Weftd() as d, Peer(d) as p:
        job = p.generate(**LONG)
        p.done(job)
        again, at = [], 0
        while not again or again[-1]["event"] != "done":
            r = p.call("results", job=job, **{"from": at})
            again += r["events"]
            at = r["next"]
        assert again == p.events[job]
        assert p.call("results", job=job, **{"from": at})["events"] == []
        assert p.call("results", job=job, **{"from": 3})["events"][0]["seq"] == 3


def test_a_closed_job_is_forgotten_and_an_unended_one_cannot_be_closed():
    with Weftd() as d, Peer(d) as p:
        job = p.generate(**SLOW)
        assert p.refused("close", job=job).code == "conflict"
        p.call("cancel", job=job)
        p.done(job)
        assert p.call("close", job=job)["job"] == job
        for op in ("job", "results", "cancel", "close"):
            assert p.refused(op, job=job).code == "not_found"


def test_retention_forgets_the_oldest_ended_jobs_first():
    with Weftd("--results-jobs", "2") as d, Peer(d) as p:
        jobs = []
        for i in range(4):
            jobs.append(p.generate(prompt="x", max_tokens=1))
            p.done(jobs[-1])
        p.wait(lambda: len(p.call("jobs")["jobs"]) == 2, "retention")
        assert [j["job"] for j in p.call("jobs")["jobs"]] == jobs[2:]
    with Weftd("--results-time", "50ms") as d, Peer(d) as p:
        job = p.generate(prompt="x", max_tokens=1)
        p.done(job)
        p.wait(lambda: not p.call("jobs")["jobs"], "retention by time")


def test_a_lost_listener_cancels_interactive_jobs_and_keeps_batch_jobs():
    with Weftd("--disconnect-grace", "50ms", "--max-running", "1") as d, Peer(d) as p, Peer(d) as watcher:
        gone = [p.generate(**SLOW) for _ in range(3)]
        kept = p.generate(prompt="keep", max_tokens=3, **{"class": "batch"})
        told = p.generate(prompt="keep me", max_tokens=3, on_disconnect="keep")
        p.deafen()
        state = lambda job: watcher.call("job", job=job)["state"]
        watcher.wait(lambda: all(state(j) == "cancelled" for j in gone), "the cancels")
        watcher.wait(lambda: state(kept) == state(told) == "done", "the kept jobs")
        events = watcher.call("results", job=gone[0])["events"]
        check_events(events)
        assert events[-1]["choices"][0]["finish"] == "cancelled"


def test_a_listener_that_comes_back_within_the_grace_time_loses_nothing():
    with Weftd("--disconnect-grace", "30s") as d, Peer(d) as p:
        job = p.generate(**LONG)
        p.seen(job, "started")
        p.deafen()
        p.listen()
        p.wait(lambda: p.call("job", job=job)["state"] == "done", "the end")
        check_events(p.call("results", job=job)["events"])


def test_a_topic_that_nobody_listens_to_counts_as_left():
    with Weftd("--disconnect-grace", "50ms", "--max-running", "1") as d, Peer(d) as p:
        jobs = [p.call("generate", **{**LONG, "topic": "0123456789abcdef" * 2})["job"] for _ in range(2)]
        p.wait(lambda: p.call("job", job=jobs[1])["state"] == "cancelled", "the cancel")


def test_pause_keeps_jobs_waiting_and_refuses_new_ones():
    with Weftd("--max-running", "1") as d, Peer(d) as p:
        first, waiting = p.generate(**SLOW), p.generate(prompt="x", max_tokens=2)
        assert p.call("pause")["state"] == "paused"
        assert p.refused("generate", topic=p.topic, **LONG).code == "draining"
        assert p.done(first)["state"] == "done"
        assert p.call("job", job=waiting)["state"] == "queued"
        assert p.call("resume")["state"] == "running"
        assert p.done(waiting)["state"] == "done"


def test_jobs_can_be_filtered_and_paged():
    with Weftd() as d, Peer(d) as p:
        jobs = [p.generate(prompt="x", max_tokens=1, **{"class": "batch" if i % 2 else "interactive"}) for i in range(6)]
        for j in jobs:
            p.done(j)
        assert [j["job"] for j in p.call("jobs", **{"class": "batch"})["jobs"]] == jobs[1::2]
        assert [j["job"] for j in p.call("jobs", limit=2, after=jobs[1])["jobs"]] == jobs[2:4]
        assert p.call("jobs", state="queued")["jobs"] == []
        assert p.call("jobs")["counts"]["done"] == 6


def test_score_gives_logprobs_that_generate_agrees_with():
    with Weftd() as d, Peer(d) as p:
        g = p.done(p.generate(prompt="I like", max_tokens=1, temperature=0, logprobs=3))
        token = [e for e in p.events[g["job"]] if e["event"] == "delta"][0]["logprobs"][0]
        s = p.done(p.call("score", topic=p.topic, prompt="I like", continuations=[[token["token"]], [t for t, _ in token["top"][1:2]]])["job"])
        assert s["choices"][0]["token_logprobs"] == [token["logprob"]] and s["choices"][0]["greedy"]
        assert s["choices"][1]["logprob"] == token["top"][1][1] and not s["choices"][1]["greedy"]


def test_a_plugin_that_fails_ends_its_own_job_with_its_reason():
    crooked = os.path.join(BUILD, "tests", "daemon", ".libs")
    assert os.path.exists(os.path.join(crooked, "engine_crooked.so")), "make check builds it"
    with Weftd("--plugins", os.path.join(BUILD, "plugins", ".libs") + ":" + crooked) as d, Peer(d) as p:
        neighbour = p.generate(**LONG)
        refused = p.done(p.generate(prompt="x", decoder={"name": "crooked", "crooked_mode": "create_error"}))
        assert refused["state"] == "failed" and refused["choices"][0]["finish"] == "error"
        assert refused["error"] == {"code": "invalid_argument", "message": "crooked: crooked_mode: this value is refused"}, refused["error"]
        cheated = p.done(p.generate(prompt="x", decoder={"name": "crooked", "crooked_mode": "delta_in_create"}))
        assert cheated["state"] == "failed" and cheated["error"]["message"]
        assert p.done(neighbour)["state"] == "done" and p.call("stats")["jobs"]["failed"] == 2


run(globals())
