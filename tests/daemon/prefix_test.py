"""The prefix cache over real sockets: a shared system prompt is computed once, nobody sees it in an answer, and salts keep requests apart."""
import os

from peer import Peer, Weftd, run

PAGE = 16
SYSTEM = "You are a fashion assistant. You answer in one sentence, you never name a price, and you recommend what lasts for years. " * 2
ADAPTERS = os.path.join(os.environ["top_srcdir"], "tests", "demo", "adapters")


def ask(p, question, system=SYSTEM, **options):
    """The done event."""
    messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    return p.done(p.generate(messages=messages, **{"max_tokens": 8, "seed": 7, "logprobs": 2, **options}))


def cached(done):
    return done["usage"]["cached_tokens"]


def same(a, b):
    assert a["choices"] == b["choices"] and a["digest"] == b["digest"], (a, b)


def test_a_shared_system_prompt_is_computed_once_and_seen_in_no_answer():
    questions = ["Is silk warm?", "What is tweed?", "How do I wash wool?"]
    with Weftd("--prefix-cache", "no") as d, Peer(d) as p:
        want = [ask(p, q) for q in questions for _ in range(2)]
        stats = p.call("stats")["engine"]
        assert all(cached(w) == 0 for w in want)
        assert all(stats[k] == 0 for k in ("prefix_hits", "prefix_tokens", "prefix_pages", "prefix_evictions"))
    with Weftd() as d, Peer(d) as p:
        shared = len(p.call("tokenize", text=f"### System:\n{SYSTEM}")["tokens"]) // PAGE * PAGE - PAGE
        got = [ask(p, q) for q in questions for _ in range(2)]
        for w, g in zip(want, got):
            same(w, g)
        assert cached(got[0]) == 0
        for first, second in zip(got[::2], got[1::2]):
            assert cached(second) == (second["usage"]["prompt_tokens"] - 1) // PAGE * PAGE
            assert first is got[0] or shared <= cached(first) < first["usage"]["prompt_tokens"]
        stats = p.call("stats")["engine"]
        assert stats["prefix_tokens"] == sum(map(cached, got)) and stats["prefix_hits"] == len(got) - 1 and stats["prefix_pages"] > 0
        assert stats["pages_used"] == 0, stats
        # the server's own start-up test is one token
        assert stats["prompt_tokens"] == sum(g["usage"]["prompt_tokens"] - cached(g) for g in got) + 1


def test_adapters_and_their_scales_keep_apart():
    with Weftd("--adapters", ADAPTERS) as d, Peer(d) as p:
        blends = [{}, {"adapters": {"tailor": 1.0}}, {"adapters": {"tailor": 0.5}}, {"adapters": {"orderline": 1.0}},
                  {"adapters": {"tailor": 1.0, "orderline": 1.0}}]
        first = [ask(p, "Is silk warm?", **b) for b in blends]
        assert [cached(x) for x in first] == [0] * len(blends)
        again = [ask(p, "Is silk warm?", **b) for b in blends]
        for a, b in zip(first, again):
            same(a, b)
            assert cached(b) > 0
        assert cached(ask(p, "Is silk warm?", adapters={"orderline": 1.0, "tailor": 1.0})) > 0   # the sum is the same in any order
        assert cached(ask(p, "Is silk warm?", adapters={"orderline": 0.0})) > 0                  # and nothing is the base


def test_requests_of_different_salts_share_nothing():
    with Weftd() as d, Peer(d) as p:
        first = [ask(p, "Is silk warm?", **s) for s in ({}, {"cache_salt": "a"}, {"cache_salt": "b"})]
        assert [cached(x) for x in first] == [0, 0, 0]
        for s in ({}, {"cache_salt": "a"}, {"cache_salt": "b"}):
            again = ask(p, "Is silk warm?", **s)
            same(first[0], again)
            assert cached(again) > 0
        assert cached(ask(p, "Is silk warm?", cache_salt="")) > 0   # none


def test_a_salt_is_a_short_text_of_generate_and_score_and_one_of_the_effective_options():
    with Weftd() as d, Peer(d) as p:
        for salt in (7, b"x", "x" * 129, "a\0b"):
            e = p.refused("generate", topic=p.topic, prompt="x", max_tokens=1, cache_salt=salt)
            assert (e.code, e.field) == ("invalid_argument", "cache_salt"), e
        r = p.call("generate", topic=p.topic, prompt="x", max_tokens=1, cache_salt="x" * 128)
        assert r["options"]["cache_salt"] == "x" * 128
        assert p.call("score", topic=p.topic, prompt="x", continuations=["y"], cache_salt="s")["options"]["cache_salt"] == "s"
        assert "cache_salt" not in p.call("generate", topic=p.topic, prompt="x", max_tokens=1)["options"]


def test_a_full_cache_makes_room_and_no_job_waits_for_it():
    with Weftd("--context", "256", "--kv-memory", "2M", "--max-running", "2") as d, Peer(d) as p:
        total = p.call("stats")["engine"]["pages_total"]
        seen, i = {}, 0
        while p.call("stats")["engine"]["prefix_evictions"] < 2 * total:
            question = f"{i % 100} is a number. Is silk warm?"
            done = ask(p, question, system=f"You like {i % 100}.", max_tokens=60, ignore_eos=True)
            assert done["state"] == "done"
            same(seen.setdefault(question, done), done)
            i += 1
            assert i < 2000, (total, p.call("stats")["engine"])
        stats = p.call("stats")["engine"]
        assert stats["preemptions"] == 0 and stats["pages_used"] == 0 and stats["prefix_pages"] <= total


run(globals())
