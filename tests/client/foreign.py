"""A client of weftd that was written from PROTOCOL.md alone: pyzmq, msgpack and nothing of the project. It uses every operation against a real
weftd and checks what the page promises. (Starting that weftd is weftd.py's business; the client below knows nothing of it.)"""
import hashlib
import os
import struct
import sys
import time

try:
    import msgpack
    import zmq
except ImportError as e:
    print("SKIP: this Python lacks", e.name)
    sys.exit(77)

DEADLINE = 60


class Refused(Exception):
    def __init__(self, error):
        super().__init__(str(error))
        self.code, self.field, self.retry = error["code"], error.get("field"), error["retry"]
        self.retry_after_ms = error.get("retry_after_ms")
        assert isinstance(error["message"], str) and error["message"]


class Client:
    def __init__(self, request, answer, listen=True):
        self.context = zmq.Context()
        self.dealer = self.context.socket(zmq.DEALER)
        self.dealer.linger = 0
        self.dealer.connect(request)
        self.sub = self.context.socket(zmq.SUB)
        self.sub.linger = 0
        self.sub.connect(answer)
        self.topic = os.urandom(16).hex()
        self.last_id = 0
        self.early = []                 # events that were read while waiting for others
        if listen:
            self.sub.subscribe(self.topic.encode())
            end = time.monotonic() + DEADLINE
            while True:                 # section 3: hello until its event comes
                assert time.monotonic() < end, "no hello event"
                self.call("hello", topic=self.topic)
                if self.sub.poll(100):
                    event = self.event()
                    assert event["event"] == "hello" and event["topic"] == self.topic, event
                    assert "job" not in event and "seq" not in event
                    break
            while self.sub.poll(50):    # late hello events of the repetitions
                assert self.event()["event"] == "hello"

    def close(self):
        self.context.destroy(linger=0)

    def send(self, op, **fields):
        self.last_id += 1
        self.dealer.send(msgpack.packb({"v": 1, "id": self.last_id, "op": op, **fields}))
        return self.last_id

    def receive(self):
        assert self.dealer.poll(DEADLINE * 1000), "no reply"
        parts = self.dealer.recv_multipart()
        assert len(parts) == 1, parts
        reply = msgpack.unpackb(parts[0])
        assert reply["v"] == 1 and isinstance(reply["ok"], bool), reply
        return reply

    def call(self, op, **fields):
        id = self.send(op, **fields)
        reply = self.receive()
        assert reply["id"] == id, (reply, id)
        if not reply["ok"]:
            raise Refused(reply["error"])
        return reply

    def refused(self, code, field, op, **fields):
        try:
            reply = self.call(op, **fields)
        except Refused as e:
            assert e.code == code, (op, fields, e.args)
            if field is not None:
                assert e.field == field, (op, fields, e.args)
            assert e.retry == (code in ("overloaded", "draining", "internal")), e.args
            return e
        raise AssertionError(f"{op} {fields} was not refused: {reply}")

    def event(self):
        assert self.sub.poll(DEADLINE * 1000), "no event"
        topic, body = self.sub.recv_multipart()
        assert topic.decode() == self.topic
        event = msgpack.unpackb(body)
        assert event["v"] == 1
        return event

    def job_event(self, job):
        for i, e in enumerate(self.early):
            if e["job"] == job:
                return self.early.pop(i)
        while True:
            e = self.event()
            if e.get("job") == job:
                return e
            if "job" in e:
                self.early.append(e)

    def until(self, job, kind):
        events = [self.job_event(job)]
        while events[-1]["event"] != kind:
            assert events[-1]["event"] != "done", events[-1]
            events.append(self.job_event(job))
        return events

    def finish(self, job):
        """All events of a job, checked for what section 10 promises."""
        events = self.until(job, "done")
        assert [e["seq"] for e in events] == list(range(len(events))), [e["seq"] for e in events]
        assert events[0]["event"] == "queued", events[0]
        check_done(events)
        return events

    def generate(self, **fields):
        reply = self.call("generate", topic=self.topic, **fields)
        return reply, self.finish(reply["job"])


def digest_of(choices, score):
    h = hashlib.sha256()
    for c in choices:
        h.update(struct.pack("<I", len(c["tokens"])) + struct.pack(f"<{len(c['tokens'])}I", *c["tokens"]))
        if score:
            h.update(struct.pack("<d", c["logprob"]))
    return h.hexdigest()


def check_done(events):
    done = events[-1]
    assert done["state"] in ("done", "failed", "cancelled", "expired"), done
    assert ("error" in done) == (done["state"] == "failed"), done
    for key in ("prompt_tokens", "completion_tokens", "cached_tokens"):
        assert isinstance(done["usage"][key], int), done["usage"]
    for key in ("queued_ms", "prefill_ms", "total_ms"):
        assert isinstance(done["timing"][key], (int, float)) and done["timing"][key] >= 0, done["timing"]
    score = any("logprob" in c for c in done["choices"])
    assert done["digest"] == digest_of(done["choices"], score), done["digest"]
    for i, choice in enumerate(done["choices"]):
        if score:
            continue
        deltas = [e for e in events if e["event"] == "delta" and e["choice"] == i]
        assert "".join(e["text"] for e in deltas) == choice["text"], (deltas, choice)
        assert [t for e in deltas for t in e["tokens"]] == choice["tokens"], (deltas, choice)
        for e in deltas:
            if "logprobs" in e:
                assert [x["token"] for x in e["logprobs"]] == e["tokens"]


GREEDY = {"temperature": 0.0, "max_tokens": 24}
MESSAGES = [{"role": "user", "content": "Which fabric keeps warm?"}]


# ---- the tests: each gets a client and the daemon ----

def test_hello_says_who_answers(c, d):
    r = c.call("hello")
    assert r["server"] == "weftd" and r["protocol"] == 1 and r["state"] == "running"
    for key in ("name", "arch", "backend", "quant", "digest", "template"):
        assert isinstance(r["model"][key], str) and r["model"][key], key
    for key in ("layers", "dim", "context", "vocab", "parameters"):
        assert r["model"][key] > 0, key
    for key in ("max_message", "max_queue", "max_running", "max_prompt_tokens", "max_n", "disconnect_ms", "retention_ms"):
        assert r["limits"][key] > 0, key


def test_a_prompt_is_answered_with_events_in_order(c, d):
    reply, events = c.generate(prompt="Wool is", **GREEDY)
    kinds = [e["event"] for e in events]
    assert "started" in kinds and kinds.index("started") < kinds.index("delta"), kinds
    done = events[-1]
    assert done["state"] == "done" and len(done["choices"]) == 1
    assert done["choices"][0]["finish"] in ("stop", "length")
    assert done["usage"]["prompt_tokens"] == reply["prompt_tokens"]
    assert done["usage"]["completion_tokens"] == len(done["choices"][0]["tokens"])
    assert isinstance(reply["position"], int)


def test_the_effective_options_give_the_same_answer_again(c, d):
    reply, events = c.generate(prompt="Wool is", max_tokens=16)
    options = reply["options"]
    assert options["max_tokens"] == 16 and options["temperature"] == 1.0 and isinstance(options["seed"], int)
    assert options["decoder"]["name"] == "sample" and options["class"] == "interactive" and options["priority"] == 100
    assert options["on_disconnect"] == "cancel" and isinstance(options["samplers"], list)
    again, more = c.generate(prompt="Wool is", **options)
    assert again["options"] == options, (again["options"], options)
    assert more[-1]["digest"] == events[-1]["digest"]


def test_seeds_decide_the_answer(c, d):
    digests = [c.generate(prompt="Wool is", max_tokens=16, seed=s)[1][-1]["digest"] for s in (1, 2, 1)]
    assert digests[0] == digests[2] and digests[0] != digests[1], digests


def test_tokens_are_a_prompt_as_they_are_and_text_gets_its_beginning(c, d):
    text = c.call("tokenize", text="Wool is")["tokens"]
    bos = c.call("tokenize", text="Wool is", bos=True)["tokens"]
    assert bos[1:] == text and len(bos) == len(text) + 1
    by_text, a = c.generate(prompt="Wool is", **GREEDY)
    by_tokens, b = c.generate(tokens=bos, **GREEDY)
    assert by_text["prompt_tokens"] == by_tokens["prompt_tokens"] == len(bos)
    assert a[-1]["digest"] == b[-1]["digest"]
    assert c.generate(tokens=text, **GREEDY)[0]["prompt_tokens"] == len(text)
    assert c.call("detokenize", tokens=text)["text"] == "Wool is"


def test_messages_go_through_a_template(c, d):
    sizes = set()
    for template in ("fashiongpt", "llama-2-chat", "chatml", "alpaca", "vicuna", "none"):
        reply, events = c.generate(messages=[{"role": "system", "content": "Be brief."}] + MESSAGES, template=template, **GREEDY)
        assert reply["options"]["template"] == template
        assert events[-1]["state"] == "done"
        sizes.add(reply["prompt_tokens"])
    assert len(sizes) > 3, sizes
    reply, _ = c.generate(messages=MESSAGES + [{"role": "assistant", "content": "Wool."}, {"role": "user", "content": "Why?"}], **GREEDY)
    assert reply["options"]["template"] == c.call("hello")["model"]["template"]


def test_several_answers_to_one_prompt(c, d):
    _, events = c.generate(prompt="Wool is", n=3, max_tokens=12, seed=5)
    choices = events[-1]["choices"]
    assert len(choices) == 3 and len({tuple(x["tokens"]) for x in choices}) > 1
    assert events[-1]["usage"]["completion_tokens"] == sum(len(x["tokens"]) for x in choices)


def test_logprobs_come_with_the_tokens(c, d):
    _, events = c.generate(prompt="Wool is", logprobs=2, **GREEDY)
    n = 0
    for e in events:
        if e["event"] != "delta":
            continue
        assert len(e["logprobs"]) == len(e["tokens"]), e
        for x in e["logprobs"]:
            assert x["logprob"] <= 0 and x["greedy"] is True and len(x["top"]) == 2
            assert x["top"][0] == [x["token"], x["logprob"]] and x["top"][0][1] >= x["top"][1][1], x
            n += 1
    assert n == events[-1]["usage"]["completion_tokens"]
    plain = c.generate(prompt="Wool is", **GREEDY)[1]
    assert all("logprobs" not in e for e in plain)


def test_prompt_logprobs_begin_with_nothing(c, d):
    reply, events = c.generate(prompt="Wool is warm", prompt_logprobs=1, **GREEDY)
    p = events[-1]["prompt_logprobs"]
    assert len(p["tokens"]) == len(p["token_logprobs"]) == reply["prompt_tokens"], p
    assert p["token_logprobs"][0] is None and all(x < 0 for x in p["token_logprobs"][1:])
    assert p["top"][0] is None and len(p["top"][1]) == 1 and len(p["top"][1][0]) == 2


def test_a_stop_string_ends_the_answer_and_is_not_part_of_it(c, d):
    text = c.generate(prompt="Wool is", **GREEDY)[1][-1]["choices"][0]["text"]
    stop = text[len(text) // 2:][:3]
    choice = c.generate(prompt="Wool is", stop=[stop], **GREEDY)[1][-1]["choices"][0]
    assert choice["finish"] == "stop_string" and stop not in choice["text"], choice
    assert text.startswith(choice["text"])


def test_stop_tokens_and_the_context_have_finishes_of_their_own(c, d):
    tokens = c.generate(prompt="Wool is", **GREEDY)[1][-1]["choices"][0]["tokens"]
    choice = c.generate(prompt="Wool is", stop_token_ids=[tokens[3]], **GREEDY)[1][-1]["choices"][0]
    assert choice["finish"] == "stop" and choice["tokens"][-1] == tokens[3]
    context = c.call("hello")["model"]["context"]
    choice = c.generate(prompt="Wool is", ignore_eos=True)[1][-1]["choices"][0]
    assert choice["finish"] == "context" and len(choice["tokens"]) > context - 20, choice["finish"]
    choice = c.generate(prompt="Wool is", ignore_eos=True, max_tokens=5)[1][-1]["choices"][0]
    assert choice["finish"] == "length" and len(choice["tokens"]) == 5


def test_decoders_and_samplers_are_chosen_by_name(c, d):
    chain = c.call("plugins")["chain"]
    reply, _ = c.generate(prompt="Wool is", decoder={"name": "sample", "max_tokens": 4}, samplers=["top_k", "temperature"], top_k=5, seed=1)
    assert reply["options"]["samplers"] == ["top_k", "temperature"] and reply["options"]["max_tokens"] == 4
    assert set(reply["options"]["samplers"]) < set(chain)
    c.refused("invalid_argument", "top_p", "generate", topic=c.topic, prompt="x", samplers=["top_k"], top_p=0.5)
    c.refused("invalid_argument", "decoder.name", "generate", topic=c.topic, prompt="x", decoder={"name": "nothing"})
    c.refused("invalid_argument", "samplers.1", "generate", topic=c.topic, prompt="x", samplers=["top_k", "nothing"])
    c.refused("invalid_argument", None, "generate", topic=c.topic, prompt="x", samplers=["top_k", "top_k"])


def test_a_token_map_has_tokens_as_keys(c, d):
    first = c.generate(prompt="Wool is", **GREEDY)[1][-1]["choices"][0]["tokens"][0]
    banned = c.generate(prompt="Wool is", logit_bias={str(first): -100.0}, **GREEDY)[1][-1]["choices"][0]["tokens"][0]
    assert first != banned
    c.refused("invalid_argument", None, "generate", topic=c.topic, prompt="x", logit_bias={"x": 1.0})


def test_score_gives_each_continuation_its_likelihood(c, d):
    greedy = c.generate(prompt="Wool is", logprobs=0, temperature=0.0, max_tokens=3, ignore_eos=True)[1]
    tokens = greedy[-1]["choices"][0]["tokens"]
    want = [x["logprob"] for e in greedy if e["event"] == "delta" for x in e["logprobs"]]
    prompt = c.call("tokenize", text="Wool is", bos=True)["tokens"]
    reply = c.call("score", topic=c.topic, tokens=prompt, continuations=[tokens, [5, 6]])
    assert "samplers" not in reply["options"] and "seed" not in reply["options"], reply["options"]
    done = c.finish(reply["job"])[-1]
    assert len(done["choices"]) == 2
    first, second = done["choices"]
    assert first["tokens"] == tokens and first["greedy"] is True and second["greedy"] is False
    # the generated tokens went by the generation path, the scored ones by the prompt path: equal up to rounding
    assert all(abs(a - b) < 0.05 for a, b in zip(first["token_logprobs"], want)), (first["token_logprobs"], want)
    for x in (first, second):
        assert abs(sum(x["token_logprobs"]) - x["logprob"]) < 1e-4
    text = c.finish(c.call("score", topic=c.topic, prompt="Wool is", continuations=[" warm", " a fish"], echo=True, logprobs=1)["job"])[-1]
    p = text["prompt_logprobs"]
    assert p["tokens"] == prompt and p["token_logprobs"][0] is None and all(isinstance(x, float) for x in p["token_logprobs"][1:])
    assert len(text["choices"][0]["top"]) == len(text["choices"][0]["tokens"])
    again = c.finish(c.call("score", topic=c.topic, prompt="Wool is", continuations=[" warm", " a fish"], echo=True, logprobs=1)["job"])[-1]
    assert again["digest"] == text["digest"]


def long_job(c, **fields):
    """One that runs for a while: two of them take all places."""
    options = {"prompt": "Wool is", "n": 20, "ignore_eos": True, "max_tokens": 400, **fields}
    return c.call("generate", topic=c.topic, **options)["job"]


def test_job_and_jobs_tell_what_is_known(c, d):
    first = long_job(c)
    second = long_job(c, **{"class": "batch", "priority": 7})
    c.until(first, "started")
    r = c.call("job", job=first)
    assert r["job"] == first and r["state"] == "running" and r["op"] == "generate" and r["class"] == "interactive"
    assert r["priority"] == 100 and r["decoder"] == "sample" and r["topic"] == c.topic and r["seq"] >= 2
    for key in ("age_ms", "queued_ms", "running_ms", "prompt_tokens", "completion_tokens"):
        assert isinstance(r[key], int), key
    r = c.call("jobs")
    numbers = [x["job"] for x in r["jobs"]]
    assert numbers == sorted(numbers) and first in numbers and second in numbers
    assert set(r["counts"]) == {"queued", "running", "preempted", "delayed", "buried", "done", "failed", "cancelled", "expired", "dead"}, r["counts"]
    assert r["counts"]["done"] > 0
    assert [x["job"] for x in c.call("jobs", **{"class": "batch"})["jobs"]] == [second]
    assert first in [x["job"] for x in c.call("jobs", state="running")["jobs"]]
    page = c.call("jobs", limit=2)["jobs"]
    assert [x["job"] for x in page] == numbers[:2]
    assert [x["job"] for x in c.call("jobs", limit=1, after=page[1]["job"])["jobs"]] == numbers[2:3]
    c.refused("not_found", "job", "job", job=10**9)
    c.refused("invalid_argument", "job", "job", job="7")
    c.refused("invalid_argument", "job", "job")
    c.refused("invalid_argument", "limit", "jobs", limit=1001)
    c.refused("invalid_argument", "state", "jobs", state="asleep")
    for job in (first, second):
        assert c.call("cancel", job=job)["job"] == job
        c.early = [e for e in c.early if e["job"] != job]
        while c.job_event(job)["event"] != "done":
            pass


def test_cancel_ends_a_job_in_any_state(c, d):
    running = long_job(c)
    queued = [long_job(c) for _ in range(3)]          # behind it: two jobs run at once
    started = c.until(running, "started")
    last = queued[-1]
    assert c.call("job", job=last)["state"] == "queued"
    r = c.call("cancel", job=last)
    assert r["result"] == "cancelled" and r["state"] == "cancelled"
    done = c.finish(last)[-1]
    assert done["state"] == "cancelled" and [x["finish"] for x in done["choices"]] == ["cancelled"] * 20
    assert all(x["tokens"] == [] for x in done["choices"])
    c.until(running, "delta")
    assert c.call("cancel", job=running)["result"] == "cancelled"
    while True:
        e = c.job_event(running)
        if e["event"] == "done":
            break
    assert e["state"] == "cancelled" and any(x["tokens"] for x in e["choices"]), "what there was is kept"
    assert c.call("cancel", job=running) | {"id": 0} == {"v": 1, "id": 0, "ok": True, "job": running, "state": "cancelled", "result": "noop"}
    for job in queued[:-1]:
        c.call("cancel", job=job)
        c.finish(job)
    c.refused("not_found", "job", "cancel", job=10**9)
    assert started[0]["event"] == "queued"


def test_results_are_the_events_again(c, d):
    reply, events = c.generate(prompt="Wool is", **GREEDY)
    job = reply["job"]
    r = c.call("results", job=job)
    assert r["events"] == events and r["next"] == len(events) and r["state"] == "done"
    r = c.call("results", **{"job": job, "from": 2})
    assert r["events"] == events[2:] and r["next"] == len(events)
    r = c.call("results", **{"job": job, "from": len(events)})
    assert r["events"] == [] and r["next"] == len(events)
    c.refused("not_found", "job", "results", job=10**9)
    assert c.call("close", job=job)["job"] == job
    c.refused("not_found", "job", "results", job=job)
    c.refused("not_found", "job", "close", job=job)


def test_a_job_that_has_not_ended_is_not_closed(c, d):
    job = long_job(c)
    c.refused("conflict", None, "close", job=job)
    c.call("cancel", job=job)
    c.finish(job)


def test_deadlines_expire_jobs_and_are_not_called_length(c, d):
    job = long_job(c, deadline_ms=300)
    done = c.finish(job)[-1]
    assert done["state"] == "expired" and {x["finish"] for x in done["choices"]} == {"expired"}, done["state"]
    first = [long_job(c) for _ in range(3)]
    waiting = long_job(c, queue_ms=1)
    done = c.finish(waiting)[-1]
    assert done["state"] == "expired" and all(x["finish"] == "expired" and x["tokens"] == [] for x in done["choices"])
    for job in first:
        c.call("cancel", job=job)
        c.finish(job)


def test_pause_refuses_new_jobs_until_resume(c, d):
    assert c.call("pause")["state"] == "paused"
    assert c.call("pause")["state"] == "paused"
    assert c.call("hello")["state"] == "paused"
    c.refused("draining", None, "generate", topic=c.topic, prompt="x")
    c.refused("draining", None, "score", topic=c.topic, prompt="x", continuations=["y"])
    assert c.call("tokenize", text="still there")["tokens"]
    assert c.call("resume")["state"] == "running"
    assert c.call("resume")["state"] == "running"
    c.generate(prompt="Wool is", **GREEDY)


def test_plugins_list_their_options(c, d):
    r = c.call("plugins")
    names = {p["name"]: p for p in r["plugins"]}
    assert names["sample"]["kind"] == "decoder" and names["top_p"]["kind"] == "sampler"
    assert set(r["chain"]) == {p["name"] for p in r["plugins"] if p["kind"] == "sampler"}
    orders = [names[n]["order"] for n in r["chain"]]
    assert orders == sorted(orders)
    for p in r["plugins"]:
        assert p["version"] and p["doc"] and int(p["digest"], 16) >= 0
        for q in p["params"]:
            assert q["type"] in ("bool", "int", "float", "string", "int_list", "string_list", "token_map"), q
            assert q["doc"] and "default" in q
            assert ("max_items" in q) == (q["type"] in ("int_list", "string_list", "token_map")), q
            assert ("min" in q) == ("max" in q) == (q["type"] in ("int", "float", "int_list", "token_map")), q
            # out of range is refused, by name
            if q["type"] in ("int", "float") and p["kind"] == "sampler":
                c.refused("invalid_argument", q["name"], "generate", topic=c.topic, prompt="x", **{q["name"]: q["max"] + 1})
                c.refused("invalid_argument", q["name"], "generate", topic=c.topic, prompt="x", **{q["name"]: "1"})


def test_stats_count(c, d):
    before = c.call("stats")
    c.generate(prompt="Wool is", **GREEDY)
    after = c.call("stats")
    for key in ("queued", "running", "preempted", "accepted", "done", "failed", "cancelled", "expired", "rejected"):
        assert isinstance(after["jobs"][key], int), key
    for key in ("steps", "prompt_tokens", "generated_tokens", "preemptions", "running", "pages_used", "pages_total"):
        assert isinstance(after["engine"][key], int), key
    assert isinstance(after["engine"]["step_ms_mean"], float) and isinstance(after["engine"]["busy"], bool)
    assert set(after["loop"]) >= {"lag_ms_p50", "lag_ms_p99", "lag_ms_max"}
    assert after["jobs"]["accepted"] == before["jobs"]["accepted"] + 1 and after["jobs"]["done"] == before["jobs"]["done"] + 1
    assert after["engine"]["generated_tokens"] > before["engine"]["generated_tokens"]
    assert after["uptime_ms"] >= before["uptime_ms"] and after["clients"] >= 1 and after["state"] == "running"


def test_tokens_outside_the_vocabulary_are_refused(c, d):
    vocab = c.call("hello")["model"]["vocab"]
    c.refused("invalid_argument", None, "detokenize", tokens=[vocab])
    c.refused("invalid_argument", None, "detokenize", tokens=[-1])
    c.refused("invalid_argument", None, "detokenize", tokens="1")
    c.refused("invalid_argument", None, "generate", topic=c.topic, tokens=[1, vocab])
    c.refused("invalid_argument", "tokens", "generate", topic=c.topic, tokens=[])
    assert c.call("detokenize", tokens=[])["text"] == ""
    assert c.call("tokenize", text="")["tokens"] == []


def test_what_is_wrong_is_refused_by_name(c, d):
    g = lambda code, field, **f: c.refused(code, field, "generate", **{"topic": c.topic, **f})
    c.refused("invalid_argument", "topic", "generate", prompt="x")
    c.refused("unknown_op", "op", "genrate", prompt="x")
    for topic in ("", "ABCDEF00112233445566778899aabbcc", "0" * 31, "0" * 33, 7):
        g("invalid_argument", "topic", topic=topic, prompt="x")
        c.refused("invalid_argument", "topic", "hello", topic=topic)
    g("invalid_argument", None)                                     # no prompt at all
    g("invalid_argument", None, prompt="x", tokens=[1])             # two prompts
    g("invalid_argument", "prompt", prompt=5)
    g("invalid_argument", "temprature", prompt="x", temprature=1.0)
    g("invalid_argument", "temperature", prompt="x", temperature=None)
    g("invalid_argument", "temperature", prompt="x", temperature=float("nan"))
    g("invalid_argument", "temperature", prompt="x", temperature=-1)
    g("invalid_argument", "max_tokens", prompt="x", max_tokens=1.5)
    g("invalid_argument", "max_tokens", prompt="x", max_tokens=True)
    g("invalid_argument", "seed", prompt="x", seed=2**53)
    g("invalid_argument", "seed", prompt="x", seed=-1)
    g("invalid_argument", "priority", prompt="x", priority=1001)
    g("invalid_argument", "class", prompt="x", **{"class": "urgent"})
    g("invalid_argument", "on_disconnect", prompt="x", on_disconnect="ignore")
    g("invalid_argument", "deadline_ms", prompt="x", deadline_ms=0)
    g("invalid_argument", "template", messages=MESSAGES, template="nothing")
    g("invalid_argument", "template", prompt="x", template="none")
    g("invalid_argument", "stop", prompt="x", stop="text")
    g("invalid_argument", None, prompt="x", n=10**6)
    g("invalid_argument", "messages", messages=[])
    g("invalid_argument", "messages.0.role", messages=[{"role": "robot", "content": "x"}])
    g("invalid_argument", None, messages=[{"role": "user"}])
    g("invalid_argument", None, messages=[{"role": "assistant", "content": "x"}])
    g("invalid_argument", None, messages=MESSAGES + [{"role": "system", "content": "late"}])
    g("invalid_argument", None, messages=MESSAGES + MESSAGES)
    for field, value in (("durable", True), ("key", "k")):
        g("unsupported", field, prompt="x", **{field: value})
        c.refused("unsupported", field, "score", topic=c.topic, prompt="x", continuations=["y"], **{field: value})
    g("too_large", None, prompt="word " * 2000)
    c.refused("too_large", None, "score", topic=c.topic, prompt="x", continuations=["word " * 2000])
    c.refused("invalid_argument", "continuations", "score", topic=c.topic, prompt="x")
    c.refused("invalid_argument", None, "score", topic=c.topic, prompt="x", continuations=[""])
    c.refused("invalid_argument", None, "score", topic=c.topic, prompt="x", continuations=[5])
    c.refused("invalid_argument", "temperature", "score", topic=c.topic, prompt="x", continuations=["y"], temperature=1.0)
    for op in ("stats", "plugins", "pause", "resume", "drain"):
        c.refused("invalid_argument", "extra", op, extra=1)
    assert c.call("hello")["state"] == "running"


def test_without_adapter_folders_no_adapter_is_known(c, d):
    assert c.call("adapters")["adapters"] == []
    for op in ("adapter.load", "adapter.unload"):
        c.refused("not_found", "name", op, name="persona")
    c.refused("invalid_argument", "topic", "adapter.fuse")


def test_frames_that_are_no_request_are_answered_and_the_next_one_is_served(c, d):
    bad = [b"", b"\xc1", b"\x80", b"\x90", b"hello", b"\xdf\xff\xff\xff\xff", b"\x81\xa1a\xdd\xff\xff\xff\xff", b"\x81" * 64,
           msgpack.packb({"v": 2, "id": 1, "op": "hello"}), msgpack.packb({"id": 1, "op": "hello"}), msgpack.packb({"v": 1, "op": "hello"}),
           msgpack.packb({"v": 1, "id": [1], "op": "hello"}), msgpack.packb({"v": 1, "id": "x" * 129, "op": "hello"}),
           msgpack.packb({"v": 1, "id": -1, "op": "hello"}), msgpack.packb({"v": 1, "id": 1}), msgpack.packb({"v": 1, "id": 1, "op": 5}),
           msgpack.packb({"v": 1, "id": 1, "op": "hello"}) + b"\x00", b"\x82\xa1v\x01\xa1v\x01", msgpack.packb({1: 2}),
           msgpack.packb({"v": 1, "id": 1, "op": "hello", "x": msgpack.ExtType(1, b"x")}), b"\x81\xa1v\xa1\xff"]
    for frame in bad:
        c.dealer.send(frame)
        reply = c.receive()
        assert reply["ok"] is False and reply["error"]["code"] == "invalid_request", (frame, reply)
        assert reply["error"]["retry"] is False
        assert reply["id"] in (None, 1), reply
    assert c.call("hello")["server"] == "weftd"


def test_ids_are_echoed_as_they_came(c, d):
    for id in (0, 2**53 - 1, "x", "z" * 128, "\u00e9"):
        c.dealer.send(msgpack.packb({"v": 1, "id": id, "op": "hello"}))
        assert c.receive()["id"] == id


def test_a_req_socket_works_too(c, d):
    req = c.context.socket(zmq.REQ)
    req.linger = 0
    req.connect(d.request)
    for _ in range(2):
        req.send(msgpack.packb({"v": 1, "id": 1, "op": "hello"}))
        assert req.poll(DEADLINE * 1000)
        assert msgpack.unpackb(req.recv())["server"] == "weftd"
    req.close()


def test_many_requests_may_be_under_way(c, d):
    ids = {c.send("tokenize", text=str(i)) for i in range(200)}
    while ids:
        ids.remove(c.receive()["id"])


def test_only_whole_topics_can_be_listened_to(c, d):
    spy = c.context.socket(zmq.SUB)
    spy.linger = 0
    spy.connect(d.answer)
    for prefix in ("", c.topic[:8], c.topic[:31], c.topic.upper()):
        spy.subscribe(prefix.encode())
    other = Client(d.request, d.answer)         # its handshake shows that subscriptions sent before have arrived
    other.close()
    c.generate(prompt="Wool is", **GREEDY)
    assert not spy.poll(300), spy.recv_multipart()
    spy.close()


def test_a_job_outlives_its_listener_only_when_it_is_to_be_kept(c, d):
    grace = c.call("hello")["limits"]["disconnect_ms"]
    gone = Client(d.request, d.answer)
    first, second, cancelled = (long_job(gone) for _ in range(3))     # one after the other: the last is far from its end
    kept = long_job(gone, on_disconnect="keep", max_tokens=20, n=1)
    batch = long_job(gone, max_tokens=20, n=1, **{"class": "batch"})
    gone.until(first, "started")
    gone.close()
    end = time.monotonic() + DEADLINE + grace / 1000
    ends = {}
    while len(ends) < 3:
        assert time.monotonic() < end, ends
        for job in (cancelled, kept, batch):
            state = c.call("job", job=job)["state"]
            if state not in ("queued", "running", "preempted"):
                ends[job] = state
        c.sub.poll(50)
    assert (ends[kept], ends[batch]) == ("done", "done"), ends
    assert ends[cancelled] == "cancelled", ends
    assert c.call("results", job=kept)["events"][-1]["event"] == "done"


def test_drain_ends_the_server_and_leaves_nothing_undone(c, d):
    job = long_job(c, n=4, max_tokens=200)
    assert c.call("drain")["state"] == "draining"
    c.refused("draining", None, "generate", topic=c.topic, prompt="x")
    c.refused("conflict", None, "resume")
    c.refused("conflict", None, "pause")
    assert c.call("drain")["state"] == "draining"
    assert c.finish(job)[-1]["state"] == "done"
    assert d.wait() == 0


def main():
    from weftd import Weftd
    tests = [(name, f) for name, f in globals().items() if name.startswith("test_")]
    wanted = sys.argv[1:]
    failures = []
    with Weftd("--threads", "1", "--max-running", "2", "--disconnect-grace", "50ms") as d:
        for name, f in tests:
            if wanted and name not in wanted:
                continue
            if d.process.poll() is not None and not d.ended:
                raise RuntimeError(f"weftd died: {', '.join(failures)}")
            client = Client(d.request, d.answer)
            begin = time.monotonic()
            try:
                f(client, d)
                print(f"ok {name} ({time.monotonic() - begin:.2f} s)", flush=True)
            except (AssertionError, Refused, KeyError, TypeError) as e:
                failures.append(name)
                import traceback
                traceback.print_exc(file=sys.stdout)
                print(f"FAILED {name}: {e}", flush=True)
            finally:
                client.close()
        if failures:
            raise RuntimeError(f"{len(failures)} failed: {', '.join(failures)}")


if __name__ == "__main__":
    try:
        main()
    except RuntimeError as e:
        print(e)
        sys.exit(1)
