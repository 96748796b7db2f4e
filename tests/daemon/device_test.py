"""weftd with its model on a CUDA device (the shim's): the same bytes alone and among others, and what --device says when there is none."""
import os

from durable_kit import House, ended
from peer import BUILD, SRC, Peer, Weftd, run

MODULE = os.path.join(BUILD, "kernels", ".libs", "weft-cuda-shim.so")
EXIT_UNAVAILABLE = 69
ADAPTERS = os.path.join(SRC, "tests", "demo", "adapters")


def text_of(done):
    return done["choices"][0]["text"]


def test_answers_from_the_device_are_the_same_bytes_alone_and_among_others():
    asks = [{"prompt": "What does the shop sell?", "temperature": 0},
            {"prompt": "Two tables, please", "adapters": {"orderline": 1.0}, "temperature": 0},
            {"prompt": "Once", "adapters": {"orderline": 0.5, "tailor": 0.5}, "temperature": 0.8, "seed": 7}]
    with Weftd("--device", "cuda:0", "--cuda-module", MODULE, "--adapters", ADAPTERS) as d, Peer(d) as p:
        assert p.call("hello")["model"]["backend"] == "cuda:0"
        assert "device = cuda:0: cuda:0 shim, sm_90: weights" in d.log(), d.log()
        alone = [text_of(p.done(p.generate(max_tokens=6, **a))) for a in asks]
        jobs = [p.generate(max_tokens=6, **a) for a in asks]
        assert [text_of(p.done(j)) for j in jobs] == alone
        assert any(alone), alone


def test_an_adapter_arrives_beside_the_steps_of_others():
    with Weftd("--device", "cuda:0", "--cuda-module", MODULE, "--adapters", ADAPTERS) as d, Peer(d) as p:
        busy = p.generate(prompt="Once", max_tokens=400, temperature=0, ignore_eos=True)
        p.seen(busy, "delta")
        late = p.generate(prompt="Once", max_tokens=1, temperature=0, adapters={"tailor": 1.0})
        before = len(p.events[busy])
        p.seen(late, "delta")
        assert len(p.events[busy]) >= before + 5, p.events[busy] # in one pass's time there would be one or two
        p.call("cancel", job=busy)


def test_keys_and_values_in_8_bits_are_the_devices_too_and_f32_is_not():
    with Weftd("--device", "cuda:0", "--cuda-module", MODULE, "--kv-type", "int8") as d, Peer(d) as p:
        assert "KV pages (int8)" in d.log(), d.log()
        ask = {"prompt": "What does the shop sell?", "temperature": 0, "max_tokens": 6, "ignore_eos": True}
        alone = text_of(p.done(p.generate(**ask)))
        jobs = [p.generate(**ask), p.generate(prompt="Two tables, please", max_tokens=6), p.generate(**ask)]
        texts = [text_of(p.done(j)) for j in jobs]
        assert alone and texts[0] == texts[2] == alone, (alone, texts)
    with Weftd("--device", "cuda:0", "--cuda-module", MODULE, "--kv-type", "f32", ready=False) as d:
        assert d.wait() == EXIT_UNAVAILABLE and "keys and values in f32 are for the CPU: this device has f16 and int8" in d.log(), d.log()


def test_auto_without_a_module_takes_the_cpu_and_says_why():
    with Weftd("--device", "auto", "--cuda-module", "/nonexistent/weft-cuda.so") as d, Peer(d) as p:
        assert p.call("hello")["model"]["backend"].startswith("cpu-")
        assert "device = auto: the CPU, because cuda:0: the CUDA core cannot be loaded: /nonexistent/weft-cuda.so" in d.log(), d.log()


def test_an_answer_that_the_cpu_began_is_not_ended_by_a_device():
    with House() as h:
        d = h.up()
        with h.peer() as p:
            job = p.generate(prompt="Tell me about wool.", max_tokens=450, n=16, ignore_eos=True, seed=3, durable=True)
            p.wait(lambda: p.call("stats")["engine"]["checkpoints"] > 0, "a checkpoint")
            d.kill()
            h.up("--device", "cuda:0", "--cuda-module", MODULE)
            p.listen()
            done = ended(p, job)[-1]
            # The second: weftd was killed before that checkpoint was on disk, and the tokens that were did not come again.
            why = ("another kind of device", "the answer came out differently")
            assert done["state"] == "failed" and any(w in done["error"]["message"] for w in why), done["error"]


if __name__ == "__main__":
    run(globals())
