"""Batches: rows that are kept, run, fail alone, and are read again."""
from durable_kit import House
from peer import run


def rows(first, n, **more):
    return [dict(custom_id=f"row {i}", request=dict(prompt=f"Tell me about fabric {i % 7}.", max_tokens=4, ignore_eos=True, seed=i, **more))
            for i in range(first, first + n)]


def read(p, batch, n, **fields):
    """Results until there are n of them."""
    seen, cursor = [], 0
    while len(seen) < n:
        r = p.call("batch.results", batch=batch, cursor=cursor, **fields)
        seen += r["results"]
        cursor = r["cursor"]
        if not r["results"]:
            p.pump(0.02)
    assert p.call("batch.results", batch=batch, cursor=cursor, **fields)["results"] == []
    return seen


def status(p, batch):
    return p.call("batch.status", batch=batch)["batch"]


def over(p, batch):
    p.wait(lambda: status(p, batch)["ended_ms"], "the end of the batch")
    return status(p, batch)


def test_rows_run_in_spite_of_kills_and_each_has_one_result():
    with House("--threads", "1", "--max-running", "8") as h:
        d = h.up()
        with h.peer() as p:
            b = p.call("batch.open", name="spring", meta={"file": "spring.jsonl"})["batch"]
            assert b["rows"] == 0 and not b["sealed"] and b["meta"] == {"file": "spring.jsonl"}
            batch = b["batch"]
            assert p.call("batch.add", batch=batch, first=0, rows=rows(0, 60)) == {"v": 1, "id": p.next_id, "ok": True, "batch": batch, "rows": 60, "added": 60}
            for _ in range(2):      # a third one could find a row that got nowhere in all of them, which is then dead
                p.wait(lambda: p.call("batch.results", batch=batch)["results"], "results")
                d.kill()
                d = h.up()
                p.listen()
            again = p.call("batch.open", name="spring")["batch"]
            assert again["batch"] == batch and again["rows"] == 60
            r = p.call("batch.add", batch=batch, first=40, rows=rows(40, 60))
            assert r["rows"] == 100 and r["added"] == 40, r
            assert p.refused("batch.add", batch=batch, first=200, rows=rows(200, 1)).field == "first"
            assert p.refused("batch.add", batch=batch, first=0, rows=rows(5, 1)).code == "conflict"
            assert p.call("batch.seal", batch=batch)["batch"]["sealed"]
            assert p.refused("batch.add", batch=batch, first=100, rows=rows(100, 1)).code == "conflict"
            end = over(p, batch)
            assert end["counts"]["done"] == 100 and sum(end["counts"].values()) == 100 and end["completion_tokens"] == 400, end
            seen = read(p, batch, 100, limit=33)
            assert sorted(x["row"] for x in seen) == list(range(100))
            ordered = read(p, batch, 100, ordered=True, limit=1000)
            assert [x["row"] for x in ordered] == list(range(100))
            assert all(x["custom_id"] == f"row {x['row']}" and x["done"]["seq"] == 0 for x in ordered)
            for x in ordered[::17]:
                request = rows(x["row"], 1)[0]["request"]
                assert p.done(p.generate(**request))["choices"] == x["done"]["choices"]
            assert [x["name"] for x in p.call("batch.list")["batches"]] == ["spring"]
            p.call("batch.close", batch=batch)
            assert p.refused("batch.status", batch=batch).code == "not_found"


def test_a_bad_row_is_one_failed_row():
    with House("--threads", "1") as h:
        h.up()
        with h.peer() as p:
            batch = p.call("batch.open", name="b")["batch"]["batch"]
            bad = [dict(request=dict(prompt="x", temprature=1)), dict(request=dict(messages=[])), dict(request=dict(prompt="x", topic=p.topic)),
                   dict(request=dict(prompt="w " * 3000)), dict(op="score", request=dict(prompt="Wool is", continuations=[" warm"]))]
            p.call("batch.add", batch=batch, first=0, rows=bad + rows(5, 3), topic=p.topic)
            p.call("batch.seal", batch=batch)
            end = over(p, batch)
            assert end["counts"]["failed"] == 4 and end["counts"]["done"] == 4, end
            seen = read(p, batch, 8, ordered=True)
            assert [x["done"].get("error", {}).get("code") for x in seen[:4]] == ["invalid_argument", "invalid_argument", "invalid_request", "too_large"], seen[:4]
            assert "temprature" in str(seen[0]["done"]["error"]) or seen[0]["done"]["error"]["message"]
            assert seen[4]["done"]["choices"][0]["logprob"] < 0
            p.wait(lambda: len(p.events) == 8, "every row's last event on the topic")
            assert all([e["event"] for e in events] == ["done"] for events in p.events.values())
            for fields, name in [(dict(rows=[]), "rows"), (dict(rows=[5]), "rows.0"), (dict(rows=[dict(request=5)]), "rows.0.request"),
                                 (dict(rows=[dict(request={}, extra=1)]), "rows.0"), (dict(rows=[dict(request={}, custom_id="")]), "rows.0.custom_id")]:
                error = p.refused("batch.add", batch=batch, first=8, **fields)
                assert (error.code, error.field) == ("invalid_argument", name), (fields, error)
            assert p.call("batch.retry", batch=batch)["retried"] == 4
            assert over(p, batch)["counts"]["failed"] == 4


def test_a_cancelled_batch_ends_and_is_retried():
    with House("--threads", "1", "--max-running", "2") as h:
        h.up()
        with h.peer() as p:
            batch = p.call("batch.open", name="c")["batch"]["batch"]
            slow = [dict(request=dict(prompt="Tell me about wool.", max_tokens=200, ignore_eos=True)) for _ in range(200)]
            p.call("batch.add", batch=batch, first=0, rows=slow)
            p.call("batch.seal", batch=batch)
            p.wait(lambda: p.call("batch.results", batch=batch)["results"], "a result")
            assert p.refused("batch.close", batch=batch).code == "conflict"
            p.call("batch.cancel", batch=batch)
            end = over(p, batch)
            assert end["cancelled"] and end["counts"]["cancelled"] > 100 and sum(end["counts"].values()) == 200, end
            seen = read(p, batch, 200, limit=1000)
            assert {x["state"] for x in seen} == {"done", "cancelled"}
            assert all(x["done"]["event"] == "done" and x["done"]["state"] == x["state"] for x in seen)


def test_interactive_jobs_go_before_rows():
    with House("--threads", "1", "--max-running", "4") as h:
        h.up()
        with h.peer() as p:
            batch = p.call("batch.open", name="d")["batch"]["batch"]
            p.call("batch.add", batch=batch, first=0, rows=rows(0, 500))
            for i in range(5):
                p.done(p.generate(prompt="quick", max_tokens=2, durable=i % 2 == 0))
            assert status(p, batch)["counts"]["done"] < 500


run(globals())
