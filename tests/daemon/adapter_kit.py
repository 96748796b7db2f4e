"""Random LoRA adapters for the demo model, written as PEFT folders with nothing but the standard library."""
import array
import json
import os
import random
import struct

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
