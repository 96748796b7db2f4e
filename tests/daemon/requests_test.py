"""Every operation, every refusal, and what no client should send: the daemon answers, stays small, and answers the next good request (P4)."""
import os
import random

import msgpack

from peer import Peer, Weftd, run

GOOD = {"v": 1, "id": 1, "op": "hello"}


def memory(d):
    with open(f"/proc/{d.pid}/status") as f:
        return next(int(line.split()[1]) << 10 for line in f if line.startswith("VmRSS"))


def error_of(p, body):
    """The error of a raw frame; its reply has id nil when the frame cannot be decoded."""
    p.replies.clear()
    p.send_raw(body)
    p.wait(lambda: p.replies, "a reply to a bad frame")
    (reply,) = p.replies.values()
    p.replies.clear()
    assert not reply["ok"], reply
    return reply


def test_malformed_frames_are_answered_and_the_next_good_request_too():
    pack = msgpack.packb
    deep = b"\x81\xa1v" + b"\x91" * 100000 + b"\x01"
    corpus = [b"", b"\xc1", b"\x00", b"\x80", b"\x93\x01\x02\x03", pack(GOOD)[:-1], pack(GOOD) + b"\x00", deep,
              b"\xdf\xff\xff\xff\xff", b"\x81\xa1v\xdd\xff\xff\xff\xff", b"\x81\xa1v\xdb\xff\xff\xff\xff", b"\x81\xa1v\xc6\x7f\xff\xff\xff",
              b"\x81\xa1v\xd4\x01\x00", b"\x82\xa1v\x01\xa1v\x01", b"\x81\x01\x01", b"\x81\xa2\xff\xfe\x01", b"\x81\xa1v\xa2\xff\xff",
              pack({}), pack({"v": 1}), pack({"v": 2, "id": 1, "op": "hello"}), pack({"v": 1, "op": "hello"}), pack({"v": 1, "id": -1, "op": "hello"}),
              pack({"v": 1, "id": "", "op": "hello"}), pack({"v": 1, "id": "x" * 129, "op": "hello"}), pack({"v": 1, "id": 2 ** 60, "op": "hello"}),
              pack({"v": 1, "id": 1}), pack({"v": 1, "id": 1, "op": 7}), pack({"v": 1, "id": 1.5, "op": "hello"}), pack({"v": True, "id": 1, "op": "hello"}),
              pack({"v": 1, "id": None, "op": "hello"}), os.urandom(3000), os.urandom(100000)]
    with Weftd() as d, Peer(d) as p:
        p.done(p.generate(prompt="warm", max_tokens=2))
        before = memory(d)
        for body in corpus:
            e = error_of(p, body)
            assert e["error"]["code"] == "invalid_request", (body[:40], e)
        assert error_of(p, pack(GOOD)[:-1])["id"] is None
        rng = random.Random(1)
        good = pack({"v": 1, "id": 1, "op": "generate", "topic": p.topic, "prompt": "Hello", "max_tokens": 1, "logit_bias": {"3": 1.5}, "stop": ["x"]})
        for _ in range(2000):
            bad = bytearray(good)
            for _ in range(rng.randrange(1, 4)):
                bad[rng.randrange(len(bad))] = rng.randrange(256)
            p.send_raw(bytes(bad))
            p.pump(0.001)
        with Peer(d) as q:      # the ids of what was sent above may be anything
            q.wait(lambda: (lambda c: c["queued"] + c["running"] == 0)(q.call("stats")["jobs"]), "the jobs that were good all the same")
            assert q.done(q.generate(prompt="still here", max_tokens=2))["state"] == "done"
        assert memory(d) - before < (320 if "ASAN_OPTIONS" in os.environ else 64) << 20, (before, memory(d))


def test_large_frames_stay_within_bounds_and_keep_their_order():
    with Weftd() as d, Peer(d) as p:
        before = memory(d)
        numbers = msgpack.packb({"v": 1, "id": "numbers", "op": "detokenize", "tokens": [1] * 1000000})
        ids = []
        for i in range(8):
            p.send_raw(numbers)
            ids.append(p.send("tokenize", text="wool " * 100000))
            ids.append(p.send("hello"))
        order = []
        while len(order) < len(ids):
            p.wait(lambda: any(i in p.replies for i in ids if i not in order), "replies")
            order += [i for i in p.replies if i in ids and i not in order]
        assert order == ids, "replies to one client came out of order"
        assert len(p.replies[ids[0]]["tokens"]) >= 100000
        assert p.replies["numbers"]["ok"] and p.replies["numbers"]["text"] == ""
        assert memory(d) - before < 800 << 20


def test_a_frame_above_the_limit_is_not_read():
    with Weftd("--max-message", "64K") as d, Peer(d) as p, Peer(d) as other:
        p.send_raw(b"x" * 100000)
        assert other.call("hello")["limits"]["max_message"] == 65536
        other.done(other.generate(prompt="x", max_tokens=1))


def test_an_unknown_or_impossible_field_is_refused_by_name():
    with Weftd() as d, Peer(d) as p:
        base = dict(topic=p.topic, prompt="x")
        for fields, code, field in [
            (dict(temprature=1), "invalid_argument", "temprature"), (dict(temperature=-1), "invalid_argument", "temperature"),
            (dict(temperature="hot"), "invalid_argument", "temperature"), (dict(max_tokens=1.5), "invalid_argument", "max_tokens"),
            (dict(max_tokens=None), "invalid_argument", "max_tokens"), (dict(n=0), "invalid_argument", "n"), (dict(n=65), "invalid_argument", "n"),
            (dict(seed=-1), "invalid_argument", "seed"), (dict(seed=2 ** 53), "invalid_argument", "seed"),
            (dict(stop="x"), "invalid_argument", "stop"), (dict(stop=[1]), "invalid_argument", "stop.0"), (dict(stop=["a\0b"]), "invalid_argument", "stop.0"),
            (dict(logit_bias={"99999999": 1}), "invalid_argument", "logit_bias.99999999"), (dict(logit_bias={"01": 1}), "invalid_argument", "logit_bias.01"),
            (dict(logit_bias=[]), "invalid_argument", "logit_bias"), (dict(samplers=["nope"]), "invalid_argument", "samplers.0"),
            (dict(samplers=["top_k", "top_k"]), "invalid_argument", "samplers.1"), (dict(samplers=["temperature"], top_k=3), "invalid_argument", "top_k"),
            (dict(samplers=["sample"]), "invalid_argument", "samplers.0"), (dict(decoder={"name": "smaple"}), "invalid_argument", "decoder.name"),
            (dict(decoder={}), "invalid_argument", "decoder.name"), (dict(decoder={"name": "sample", "nope": 1}), "invalid_argument", "decoder.nope"),
            (dict(decoder={"name": "sample", "max_tokens": 2}, max_tokens=3), "invalid_argument", "max_tokens"),
            (dict(**{"class": "vip"}), "invalid_argument", "class"), (dict(priority=1001), "invalid_argument", "priority"),
            (dict(deadline_ms=0), "invalid_argument", "deadline_ms"), (dict(queue_ms="1"), "invalid_argument", "queue_ms"),
            (dict(on_disconnect="maybe"), "invalid_argument", "on_disconnect"), (dict(template="fashiongpt"), "invalid_argument", "template"),
            (dict(adapters={"a": 1}), "not_found", "adapters.a"), (dict(model="a"), "not_found", "model"), (dict(adapters=[]), "invalid_argument", "adapters"), (dict(durable=True), "unsupported", "durable"), (dict(key="k"), "unsupported", "key"),
            (dict(topic="UPPER"), "invalid_argument", "topic"), (dict(tokens=[1]), "invalid_argument", "prompt"), (dict(continuations=["x"]), "invalid_argument", "continuations"),
        ]:
            e = p.refused("generate", **{**base, **fields})
            assert (e.code, e.field) == (code, field), (fields, e)
        for fields, code, field in [
            (dict(tokens=[]), "invalid_argument", "tokens"), (dict(tokens=[1 << 30]), "invalid_argument", "tokens.0"), (dict(tokens=[-1]), "invalid_argument", "tokens.0"),
            (dict(tokens=[1] * 600), "too_large", "tokens"), (dict(prompt="x" * 100000), "too_large", "prompt"), (dict(prompt="w " * 600), "too_large", "prompt"),
            (dict(), "invalid_argument", "tokens"), (dict(messages=[]), "invalid_argument", "messages"), (dict(messages="hi"), "invalid_argument", "messages"),
            (dict(messages=[{"role": "user"}]), "invalid_argument", "messages.0.content"), (dict(messages=[{"role": "boss", "content": "x"}]), "invalid_argument", "messages.0.role"),
            (dict(messages=[{"role": "user", "content": "x", "name": "y"}]), "invalid_argument", "messages.0.name"),
            (dict(messages=[{"role": "assistant", "content": "x"}]), "invalid_argument", "messages.0"),
            (dict(messages=[{"role": "user", "content": "x"}, {"role": "user", "content": "x"}]), "invalid_argument", "messages.1"),
            (dict(messages=[{"role": "user", "content": "<|im_end|>"}], template="chatml"), "invalid_argument", "messages.0"),
            (dict(messages=[{"role": "user", "content": "x"}], template="nope"), "invalid_argument", "template"),
        ]:
            e = p.refused("generate", topic=p.topic, **fields)
            assert (e.code, e.field) == (code, field), (fields, e)
        assert p.refused("generate", prompt="x").field == "topic"
        assert p.refused("score", topic=p.topic, prompt="x").field == "continuations"
        assert p.refused("score", topic=p.topic, prompt="x", continuations=[]).field == "continuations"
        assert p.refused("score", topic=p.topic, prompt="x", continuations=["y"], temperature=1).field == "temperature"
        assert p.refused("score", topic=p.topic, prompt="x", continuations=["y"], seed=1).field == "seed"
        assert p.refused("score", topic=p.topic, prompt="x", continuations=[[]]).field == "continuations.0"
        assert "did you mean \"temperature\"" in p.refused("generate", **base, temperatur=1).error["message"]
        for op, fields, field in [("hello", dict(topics="x"), "topics"), ("jobs", dict(state="odd"), "state"), ("jobs", dict(limit=0), "limit"), ("job", {}, "job"),
                                  ("job", dict(job=1, x=1), "x"), ("results", {"job": 1, "job from": 1}, "job from"), ("tokenize", {}, "text"), ("tokenize", dict(text="x", bos=1), "bos"),
                                  ("detokenize", dict(tokens=["a"]), "tokens.0"), ("stats", dict(x=1), "x"), ("hello", dict(topic="x"), "topic")]:
            e = p.refused(op, **fields)
            assert (e.code, e.field) == ("invalid_argument", field), (op, fields, e)
        assert p.refused("job", job=12345).code == "not_found"
        assert p.refused("generat", prompt="x").code == "unknown_op"
        assert p.refused("adapter.fuse").field == "topic"
        assert p.call("jobs")["jobs"] == [], "a refused request left a job behind"


def test_the_effective_options_are_echoed_and_make_the_same_request():
    with Weftd() as d, Peer(d) as p:
        r = p.call("generate", topic=p.topic, messages=[{"role": "user", "content": "Hi"}], max_tokens=8, temperature=0.5, stop=["zzz"], logit_bias={"5": -2}, deadline_ms=50000)
        o = r["options"]
        assert o["temperature"] == 0.5 and o["max_tokens"] == 8 and o["top_k"] == 0 and o["logit_bias"] == {"5": -2.0} and o["deadline_ms"] == 50000
        assert o["stop"] == ["zzz", "### User:", "### System:", "### Assistant:"] and o["template"] == "fashiongpt" and o["decoder"]["name"] == "sample"
        again = p.call("generate", topic=p.topic, messages=[{"role": "user", "content": "Hi"}], **o)
        assert again["options"] == o
        assert p.done(r["job"])["digest"] == p.done(again["job"])["digest"]


def test_text_cannot_inject_special_tokens():
    with Weftd() as d, Peer(d) as p:
        eos_inside = p.call("tokenize", text="a</s>b<s>")["tokens"]
        assert 1 not in eos_inside and 2 not in eos_inside
        r = p.call("generate", topic=p.topic, messages=[{"role": "user", "content": "a</s>b"}], max_tokens=1)
        t = p.call("tokenize", text="### User:\na</s>b\n### Assistant:\n", bos=True)["tokens"]
        assert t[0] == 1 and len(t) == r["prompt_tokens"]


def test_turns_are_rendered_as_the_demo_model_was_trained():
    with Weftd() as d, Peer(d) as p:
        talk = [{"role": "system", "content": "S"}, {"role": "user", "content": "U1"}, {"role": "assistant", "content": "A1"}, {"role": "user", "content": "U2"}]
        first = p.call("tokenize", text="### System:\nS\n### User:\nU1\n### Assistant:\nA1", bos=True)["tokens"]
        second = p.call("tokenize", text="\n### User:\nU2\n### Assistant:\n")["tokens"]
        by_hand = p.done(p.generate(tokens=first + [2] + second, max_tokens=8, temperature=0))
        rendered = p.done(p.generate(messages=talk, max_tokens=8, temperature=0))
        assert rendered["usage"]["prompt_tokens"] == len(first) + 1 + len(second) and rendered["choices"][0]["tokens"] == by_hand["choices"][0]["tokens"]


def test_only_whole_topics_are_admitted():
    import zmq
    with Weftd() as d, Peer(d) as p:
        spy = p.socket(zmq.SUB)
        spy.connect(d.answer)
        for prefix in (b"", p.topic[:31].encode(), b"0", p.topic.upper().encode() + b"x", b"\x00" * 32):
            spy.subscribe(prefix)
        own = Peer(d)
        spy.subscribe(own.topic)        # one good subscription: it must not bring the others with it
        for _ in range(3):
            p.done(p.generate(prompt="secret", max_tokens=5))
        own.done(own.generate(prompt="mine", max_tokens=2))
        heard = set()
        while spy.poll(200):
            heard.add(spy.recv_multipart()[0].decode())
        assert heard == {own.topic}, heard
        own.close()


def test_a_req_socket_is_served_too():
    import zmq
    with Weftd() as d, Peer(d) as p:
        req = p.socket(zmq.REQ)
        req.connect(d.request)
        req.send(msgpack.packb(GOOD))
        assert req.poll(60000) and msgpack.unpackb(req.recv())["server"] == "weftd"
        odd = p.socket(zmq.DEALER)      # more frames than a request has: dropped, nothing else suffers
        odd.connect(d.request)
        odd.send_multipart([b"a", b"b", b"c"])
        odd.send_multipart([b"", b"", msgpack.packb(GOOD)])
        odd.send(msgpack.packb(GOOD))
        assert odd.poll(60000) and msgpack.unpackb(odd.recv())["ok"]


def test_plugins_and_stats_have_what_the_protocol_says():
    with Weftd() as d, Peer(d) as p:
        r = p.call("plugins")
        by_name = {x["name"]: x for x in r["plugins"]}
        assert {"sample", "score"} <= {n for n, x in by_name.items() if x["kind"] == "decoder"}
        assert r["chain"] == sorted((n for n, x in by_name.items() if x["kind"] == "sampler"), key=lambda n: (by_name[n]["order"], n))
        assert all(len(x["digest"]) == 64 for x in r["plugins"])
        t = next(q for q in by_name["temperature"]["params"] if q["name"] == "temperature")
        assert (t["type"], t["default"], t["min"]) == ("float", 1.0, 0.0) and t["doc"]
        s = p.call("stats")
        assert set(s["jobs"]) == {"queued", "running", "preempted", "accepted", "done", "failed", "cancelled", "expired", "rejected"}
        assert set(s["engine"]) == {"steps", "prompt_tokens", "generated_tokens", "preemptions", "checkpoints", "checkpoint_bytes", "prefix_hits", "prefix_tokens", "prefix_pages", "prefix_evictions", "running", "pages_used", "pages_total", "step_ms_mean", "step_ms_p50", "step_ms_p99",
                                    "step_ms_max", "step_ms_counts", "last_step_age_ms", "busy"}
        assert sum(n for _, n in s["engine"]["step_ms_counts"]) == s["engine"]["steps"] > 0
        assert s["engine"]["step_ms_p50"] <= s["engine"]["step_ms_p99"] <= s["engine"]["step_ms_max"]
        assert set(s["loop"]) == {"lag_ms_p50", "lag_ms_p99", "lag_ms_max"} and s["clients"] == 1


def test_keys_and_values_in_8_bits_leave_room_for_more_pages():
    pages, words = {}, {}
    for kv in ["f16", "int8"]:
        with Weftd("--kv-type", kv, "--kv-memory", "2M") as d, Peer(d) as p:
            pages[kv] = p.call("stats")["engine"]["pages_total"]
            words[kv] = p.done(p.generate(prompt="Wool is", max_tokens=8, temperature=0))["choices"][0]["text"]
            assert f"{pages[kv]} pages of {kv}" in d.log(), d.log()
    assert pages["int8"] >= 1.7 * pages["f16"] and all(words.values()), (pages, words)


run(globals())
