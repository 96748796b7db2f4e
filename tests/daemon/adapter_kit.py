"""Random LoRA adapters for the demo model, written as PEFT folders with nothing but the standard library."""
import array
import json
import os
import random
import shutil
import struct
import tempfile

DIM, FFN, KV, LAYERS = 256, 640, 64, 4
SHAPES = {"self_attn.q_proj": (DIM, DIM), "self_attn.k_proj": (KV, DIM), "self_attn.v_proj": (KV, DIM), "self_attn.o_proj": (DIM, DIM),
          "mlp.gate_proj": (FFN, DIM), "mlp.up_proj": (FFN, DIM), "mlp.down_proj": (DIM, FFN)}


def tensors(rank, seed, modules, strength):
    rng = random.Random(seed)
    for layer in range(LAYERS):
        for module in modules:
            out, into = SHAPES[module]
            name = f"base_model.model.model.layers.{layer}.{module}.lora_"
            yield name + "A.weight", (rank, into), [rng.uniform(-0.05, 0.05) for _ in range(rank * into)]
            yield name + "B.weight", (out, rank), [rng.uniform(-strength, strength) for _ in range(out * rank)]


def write(folder, rank=4, seed=1, modules=tuple(SHAPES), strength=0.3, damage=False):
    """Makes the folder, or replaces its files by renaming."""
    os.makedirs(folder, exist_ok=True)
    header, body = {}, b""
    for name, shape, values in tensors(rank, seed, modules, strength):
        data = array.array("f", values).tobytes()
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": [m.split(".")[1] for m in modules], "bias": "none"}
    put(os.path.join(folder, "adapter_config.json"), json.dumps(config).encode())
    put(os.path.join(folder, "adapter_model.safetensors"), struct.pack("<Q", len(head)) + head + (body[:-64] if damage else body))
    return folder


def put(path, data):
    with open(path + ".new", "wb") as f:
        f.write(data)
    os.rename(path + ".new", path)


# ---- for tests that talk to weftd ----

PROMPT = {"prompt": "The loom is", "max_tokens": 12, "temperature": 0, "ignore_eos": True}


class Folder:
    """Four adapters of different ranks; a's second content is other."""

    def __enter__(self):
        self.path = tempfile.mkdtemp(prefix="weft-adapters-", dir="/tmp")
        for i, name in enumerate("abcd"):
            write(os.path.join(self.path, name), rank=(4, 2, 8, 3)[i], seed=i, modules=list(SHAPES)[: 7 - i])
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.path, ignore_errors=True)

    def join(self, name):
        return os.path.join(self.path, name)


def answer(p, **fields):
    done = p.done(p.generate(**{**PROMPT, **fields}))
    assert done["state"] == "done", done
    return done


def tokens(p, **fields):
    return answer(p, **fields)["choices"][0]["tokens"]


def listed(p, name):
    return next(a for a in p.call("adapters")["adapters"] if a["name"] == name)


def loaded(p, name):
    p.call("adapter.load", name=name)
    p.wait(lambda: listed(p, name)["residency"] != "loading", f"loading of {name}")
    return listed(p, name)
