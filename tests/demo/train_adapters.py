#!/usr/bin/env python3
"""Train the two LoRA adapters of the demo model with PEFT.  See README.md."""
import argparse
import os
import random
import time

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from transformers import LlamaForCausalLM

import demolib

ADAPTERS = {
    # The persona: how an answer sounds.
    "tailor": dict(r=8, lora_alpha=16, target_modules=[
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]),
    # Another task: an order in plain words becomes one structured line.
    "orderline": dict(r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]),
}


def batches(sp, path, rows, seed):
    """Right-padded batches of conversations of about the same length, for ever."""
    rng = random.Random(seed)
    items = [demolib.encode(sp, c["messages"], rng.random() < 0.75) for c in demolib.read_jsonl(path)]
    items = sorted((i for i in items if len(i[0]) <= 256), key=lambda i: len(i[0]))
    groups = [items[k:k + rows] for k in range(0, len(items), rows)]
    while True:
        rng.shuffle(groups)
        for g in groups:
            n = max(len(i[0]) for i in g)
            x = torch.zeros(len(g), n, dtype=torch.long)
            w = torch.zeros(len(g), n)
            for k, (ids, mask) in enumerate(g):
                x[k, :len(ids)] = torch.tensor(ids)
                w[k, :len(ids)] = torch.tensor(mask, dtype=torch.float)
            yield x, w


def train(name, a):
    torch.manual_seed(a.seed)
    os.chdir(demolib.HERE)
    base = LlamaForCausalLM.from_pretrained(a.model, dtype=torch.float32)
    cfg = LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, bias="none", **ADAPTERS[name])
    model = get_peft_model(base, cfg)
    model.print_trainable_parameters()
    params = [p for p in model.parameters() if p.requires_grad]
    opt = torch.optim.AdamW(params, lr=a.lr, betas=(0.9, 0.98), weight_decay=0.0)
    data = batches(demolib.tokenizer(os.path.join(a.model, "tokenizer.model")),
                   os.path.join(a.data, name + ".jsonl"), a.rows, a.seed)
    t0, run = time.time(), []
    for step in range(a.steps):
        for g in opt.param_groups:
            g["lr"] = a.lr * min(1.0, (step + 1) / 30) * (1 - step / a.steps)
        x, w = next(data)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(input_ids=x[:, :-1], use_cache=False).logits
        l = F.cross_entropy(logits.float().view(-1, logits.shape[-1]), x[:, 1:].reshape(-1), reduction="none")
        w1 = w[:, 1:].reshape(-1)
        loss = (l * w1).sum() / w1.sum()
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        run.append(loss.item())
        if (step + 1) % 50 == 0:
            print(f"{name} step {step + 1} loss {sum(run) / len(run):.4f} {time.time() - t0:.0f}s", flush=True)
            run = []
    out = os.path.join(a.out, name)
    for c in model.peft_config.values():
        c.base_model_name_or_path = "weft-demo"
    model.save_pretrained(out, save_embedding_layers=False)
    card = os.path.join(out, "README.md")       # PEFT's empty model card
    if os.path.exists(card):
        os.remove(card)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--data", required=True, help="folder written by make_data.py")
    ap.add_argument("--model", default="model")
    ap.add_argument("--out", default="adapters")
    ap.add_argument("--only", choices=list(ADAPTERS))
    ap.add_argument("--steps", type=int, default=500)
    ap.add_argument("--rows", type=int, default=32)
    ap.add_argument("--lr", type=float, default=4e-3)
    ap.add_argument("--seed", type=int, default=21)
    ap.add_argument("--threads", type=int, default=2)
    a = ap.parse_args()
    a.data, a.out = os.path.abspath(a.data), a.out if os.path.isabs(a.out) else a.out
    torch.set_num_threads(a.threads)
    for name in ADAPTERS:
        if a.only in (None, name):
            train(name, a)


if __name__ == "__main__":
    main()
