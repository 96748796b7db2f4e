"""P3: a thousand jobs with cancels, deadlines and disconnections: each has exactly one terminal event, and seq has no gap."""
import random

from peer import Peer, Weftd, check_events, run

JOBS, WAVE, CLIENTS = 1000, 50, 8


def replay(watcher, job):
    events, at = [], 0
    while not events or events[-1]["event"] != "done":
        r = watcher.call("results", job=job, **{"from": at})
        events += r["events"]
        at = r["next"]
    return events


def fields(rng, i):
    f = dict(prompt="job %d" % i, max_tokens=rng.choice([1, 3, 8, 20, 60, 150]), ignore_eos=True, seed=i, priority=rng.choice([0, 100, 900]),
             n=rng.choice([1, 1, 1, 3]), **{"class": rng.choice(["interactive", "batch"])})
    dice = rng.random()
    if dice < 0.15:
        f["deadline_ms"] = rng.randrange(1, 400)
    elif dice < 0.25:
        f["queue_ms"] = rng.randrange(1, 100)
    return f


def test_a_thousand_jobs_each_end_exactly_once():
    rng = random.Random(4)
    with Weftd("--max-running", "12", "--max-queue", "2000", "--results-jobs", "2000", "--disconnect-grace", "20ms") as d, Peer(d) as watcher:
        clients = [Peer(d) for _ in range(CLIENTS)]
        jobs, deaf = {}, set()
        for wave in range(JOBS // WAVE):
            sent = [(p, p.send("generate", topic=p.topic, **fields(rng, wave * WAVE + i))) for i, p in enumerate(rng.choices(clients, k=WAVE))]
            new = {p.reply(id)["job"]: p for p, id in sent}
            jobs.update(new)
            for job in rng.sample(list(new), WAVE // 5) + rng.sample(list(jobs), 3):
                watcher.call("cancel", job=job)
            if wave in (8, 14):
                clients[wave % CLIENTS].deafen()
                deaf.add(clients[wave % CLIENTS])
            for c in clients:
                c.pump(0)
        watcher.wait(lambda: (lambda c: c["queued"] + c["running"] + c["preempted"] == 0)(watcher.call("stats")["jobs"]), "the end of all jobs")
        states = {}
        for job, p in jobs.items():
            events = replay(watcher, job)
            check_events(events)
            done = events[-1]
            states[done["state"]] = states.get(done["state"], 0) + 1
            finishes = {c["finish"] for c in done["choices"]}
            assert ("expired" in finishes) <= (done["state"] == "expired") and ("cancelled" in finishes) <= (done["state"] == "cancelled"), done
            if p not in deaf:
                p.done(job)
                assert p.events[job] == events, "what was published is not what is kept"
        stats = watcher.call("stats")
        assert sum(states.values()) == JOBS == stats["jobs"]["accepted"], states
        assert {s: stats["jobs"][s] for s in states} == states, (states, stats)
        assert set(states) == {"done", "cancelled", "expired"}, states
        assert stats["engine"]["pages_used"] == 0 and stats["engine"]["running"] == 0
        print("  ", states, stats["loop"])
        for c in clients:
            c.close()


run(globals())
