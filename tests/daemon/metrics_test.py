"""Metrics and health over HTTP: the page is what Prometheus' own parser takes, its numbers are those of `stats`, health tells the truth."""
import os
import re
import subprocess
import time
import urllib.error
import urllib.request

from peer import BUILD, DEADLINE, Peer, Weftd, run, skip

if not re.search(r"^#define HAVE_MICROHTTPD 1", open(os.path.join(BUILD, "config.h")).read(), re.M):
    skip("built without libmicrohttpd")
try:
    from prometheus_client.parser import text_string_to_metric_families
except ImportError:
    skip("no prometheus_client, whose parser judges the page")


def port_of(d):
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        m = re.search(r"metrics on port (\d+)", d.log())
        if m:
            return int(m.group(1))
    raise AssertionError("the log names no port")


def get(d, path, method="GET", host="127.0.0.1"):
    request = urllib.request.Request(f"http://{host}:{port_of(d)}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE) as r:
            return r.status, r.read().decode(), r.headers
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode(), e.headers


def page(d, path="/metrics"):
    """{(name, labels): value}; the parser refuses what Prometheus would refuse."""
    status, text, headers = get(d, path)
    assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4"), (status, headers)
    out = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        for s in family.samples:
            key = (s.name, tuple(sorted(s.labels.items())))
            assert key not in out, key
            out[key] = s.value
    return out


def label(**labels):
    return tuple(sorted(labels.items()))


def check_histogram(m, name, n):
    buckets = sorted((float("inf") if k[1][0][1] == "+Inf" else float(k[1][0][1]), v) for k, v in m.items() if k[0] == name + "_bucket")
    counts = [v for _, v in buckets]
    assert counts == sorted(counts) and counts[-1] == m[(name + "_count", ())] == n, (name, buckets, n)
    assert m[(name + "_sum", ())] > 0


def test_counts_are_those_of_stats():
    with Weftd("--metrics", "127.0.0.1:0") as d, Peer(d) as p:
        before = page(d)
        assert before[("weft_jobs_ended_total", label(state="done"))] == 0 and before[("weft_info", next(k[1] for k in before if k[0] == "weft_info"))] == 1
        tokens = 0
        for i in range(3):
            done = p.done(p.generate(prompt="A coat", max_tokens=6, ignore_eos=True, seed=i, n=2))
            tokens += done["usage"]["completion_tokens"]
        job = p.generate(prompt="A coat", max_tokens=100000 // 64, n=8, ignore_eos=True)
        p.seen(job, "delta")
        p.call("cancel", job=job)
        p.done(job)
        m, stats = page(d), p.call("stats")
        for state in ("done", "failed", "cancelled", "expired"):
            assert m[("weft_jobs_ended_total", label(state=state))] == stats["jobs"][state], state
        assert m[("weft_jobs_accepted_total", ())] == stats["jobs"]["accepted"] == 4
        assert m[("weft_choices_finished_total", label(finish="length"))] == 6
        assert m[("weft_choices_finished_total", label(finish="cancelled"))] == 8
        assert m[("weft_kv_pages", ())] == stats["engine"]["pages_total"]
        assert m[("weft_completion_tokens_total", ())] >= tokens
        for name in ("weft_queue_seconds", "weft_time_to_first_token_seconds", "weft_prefill_seconds", "weft_decode_seconds", "weft_job_seconds"):
            check_histogram(m, name, 4)
        assert m[("weft_inter_token_seconds_count", ())] > 0


def test_rejects_and_adapters_have_labels():
    adapters = os.path.join(os.environ["top_srcdir"], "tests", "demo", "adapters")
    with Weftd("--metrics", "127.0.0.1:0", "--max-queue", "1", "--max-running", "1", "--adapters", adapters) as d, Peer(d) as p:
        done = p.done(p.generate(prompt="A coat", max_tokens=4, ignore_eos=True, adapters={"orderline": 1.0, "tailor": 0.5}))
        jobs = [p.generate(prompt="A coat", max_tokens=400, n=8, ignore_eos=True)]
        p.seen(jobs[0], "started")
        jobs.append(p.generate(prompt="A coat", max_tokens=400, n=8, ignore_eos=True))
        error = p.refused("generate", topic=p.topic, prompt="A coat", max_tokens=4)
        assert error.code == "overloaded"
        m = page(d)
        assert m[("weft_jobs_rejected_total", label(cause="jobs"))] == 1
        for name in ("orderline", "tailor"):
            assert m[("weft_adapter_requests_total", label(adapter=name))] == 1
            assert m[("weft_adapter_completion_tokens_total", label(adapter=name))] == done["usage"]["completion_tokens"]
        assert m[("weft_adapters_resident_bytes", ())] > 0
        for job in jobs:
            p.call("cancel", job=job)


def test_names_of_vllm_are_on_a_page_of_their_own():
    with Weftd("--metrics", "127.0.0.1:0") as d:
        names = {k[0] for k in page(d)}
        assert not any(n.startswith("vllm:") for n in names)
        also = {k[0] for k in page(d, "/metrics/vllm")}
        assert also - names == {"vllm:num_requests_waiting", "vllm:num_requests_running", "vllm:kv_cache_usage_perc"}


def test_health_says_whether_work_is_taken():
    with Weftd("--metrics", "127.0.0.1:0") as d, Peer(d) as p:
        assert get(d, "/healthz")[0] == 200 and get(d, "/readyz")[:2] == (200, "ready\n")
        p.call("pause")
        assert get(d, "/readyz")[:2] == (503, "paused\n") and get(d, "/healthz")[0] == 200
        p.call("resume")
        assert get(d, "/readyz")[0] == 200


def test_other_paths_and_methods_are_refused():
    with Weftd("--metrics", "127.0.0.1:0") as d:
        assert get(d, "/")[0] == 404
        status, _, headers = get(d, "/metrics", method="POST")
        assert status == 405 and headers["Allow"] == "GET, HEAD"
        assert get(d, "/metrics", method="HEAD")[:2] == (200, "")


def test_a_bad_or_taken_address_is_refused_at_the_start():
    with Weftd("--metrics", "127.0.0.1:0") as d:
        for address, word in (("nonsense", "HOST:PORT"), ("127.0.0.1:99999", "HOST:PORT"), ("localhost:9464", "HOST:PORT"), (":9464", "HOST:PORT"),
                              (f"127.0.0.1:{port_of(d)}", "in use")):
            other = Weftd("--metrics", address, ready=False)
            assert other.wait() != 0 and word in other.log(), (address, other.log())
            other.finish(True)


run(globals())
