#!/usr/bin/env python3
"""Train the demo model: vocabulary, then weights.  See README.md."""
import argparse
import json
import math
import os
import random
import time

import numpy as np
import sentencepiece as spm
import torch
import torch.nn.functional as F
from transformers import LlamaConfig, LlamaForCausalLM

import demolib

CONFIG = dict(vocab_size=2048, hidden_size=256, intermediate_size=640, num_hidden_layers=4,
              num_attention_heads=8, num_key_value_heads=2, rms_norm_eps=1e-5, rope_theta=10000.0,
              max_position_embeddings=512, hidden_act="silu", tie_word_embeddings=False,
              attention_bias=False, mlp_bias=False, bos_token_id=1, eos_token_id=2, pad_token_id=None,
              initializer_range=0.02)


def train_tokenizer(corpus, out):
    spm.SentencePieceTrainer.train(
        input=corpus, model_prefix=os.path.join(out, "tokenizer"), model_type="bpe", vocab_size=2048,
        character_coverage=1.0, byte_fallback=True, split_digits=True, add_dummy_prefix=True,
        remove_extra_whitespaces=False, normalization_rule_name="identity",
        allow_whitespace_only_pieces=True, unk_id=0, bos_id=1, eos_id=2, pad_id=-1,
        unk_surface=" \u2047 ", num_threads=2, max_sentence_length=4096,
        input_sentence_size=0, shuffle_input_sentence=False, minloglevel=1)
    os.remove(os.path.join(out, "tokenizer.vocab"))
    forget_paths(os.path.join(out, "tokenizer.model"))


def fields(data):
    """The fields of a protobuf message, as (number, all bytes of the field, bytes of its value)."""
    def varint(i):
        n = shift = 0
        while True:
            n |= (data[i] & 127) << shift
            shift += 7
            i += 1
            if data[i - 1] < 128:
                return n, i
    i = 0
    while i < len(data):
        begin = i
        key, i = varint(i)
        if key & 7 == 0:
            value = i
            _, i = varint(i)
        elif key & 7 == 2:
            n, value = varint(i)
            i = value + n
        else:
            value, i = i, i + (8 if key & 7 == 1 else 4)
        yield key >> 3, data[begin:i], data[value:i]


def forget_paths(model):
    """SentencePiece notes in trainer_spec (field 2) where the texts lay (1) and where the model went (2)."""
    def varint(n):
        return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)
    out = b""
    for number, whole, value in fields(open(model, "rb").read()):
        if number == 2:
            spec = b"".join(w for n, w, _ in fields(value) if n not in (1, 2))
            whole = b"\x12" + varint(len(spec)) + spec
        out += whole
    with open(model, "wb") as f:
        f.write(out)


def save(model, out):
    """The Hugging Face folder, in the form of a Llama-2 folder, weights in bf16."""
    from safetensors.torch import save_file
    os.makedirs(out, exist_ok=True)
    sd = {k: v.detach().to(torch.bfloat16).contiguous().clone() for k, v in model.state_dict().items()
          if "rotary" not in k}
    save_file(sd, os.path.join(out, "model.safetensors"), metadata={"format": "pt"})
    cfg = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    cfg.update({k: v for k, v in CONFIG.items() if v is not None})
    cfg.update(rope_scaling=None, pretraining_tp=1, torch_dtype="bfloat16", use_cache=True)
    tok = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False, "legacy": True,
           "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": None,
           "clean_up_tokenization_spaces": False, "model_max_length": 512,
           "chat_template": "{% for m in messages %}"
           "{% if m['role'] == 'system' %}{{ '### System:\\n' + m['content'] + '\\n' }}"
           "{% elif m['role'] == 'user' %}{% if not loop.first and loop.previtem['role'] == 'assistant' %}{{ '\\n' }}{% endif %}"
           "{{ '### User:\\n' + m['content'] + '\\n' }}"
           "{% else %}{{ '### Assistant:\\n' + m['content'] + '</s>' }}{% endif %}{% endfor %}"
           "{% if add_generation_prompt %}{{ '### Assistant:\\n' }}{% endif %}"}
    gen = {"bos_token_id": 1, "eos_token_id": 2, "max_length": 512, "do_sample": False}
    for name, d in (("config.json", cfg), ("tokenizer_config.json", tok), ("generation_config.json", gen)):
        with open(os.path.join(out, name), "w") as fh:
            json.dump(d, fh, indent=2)
            fh.write("\n")


def load_tokens(sp, path, cache):
    """All conversations one after another, and where each begins."""
    if os.path.exists(cache):
        z = np.load(cache)
        return z["ids"], z["mask"], z["start"]
    rng = random.Random(7)
    ids, mask, start = [], [], []
    for c in demolib.read_jsonl(path):
        i, m = demolib.encode(sp, c["messages"], rng.random() < 0.75)
        if len(i) > 512:
            continue
        start.append(len(ids))
        ids += i
        mask += m
    ids, mask, start = np.array(ids, np.int16), np.array(mask, np.int8), np.array(start, np.int64)
    np.savez(cache, ids=ids, mask=mask, start=start)
    return ids, mask, start


class Packer:
    """Rows of T tokens.  A row begins with a conversation; what does not fit is cut."""

    def __init__(self, ids, mask, start, seed):
        self.ids, self.mask, self.start = ids, mask, start
        self.end = np.append(start[1:], len(ids))
        self.rng = np.random.default_rng(seed)
        self.order, self.pos, self.epoch = self.rng.permutation(len(start)), 0, 0

    def batch(self, rows, T):
        x = np.zeros((rows, T + 1), np.int64)
        w = np.zeros((rows, T + 1), np.float32)
        for r in range(rows):
            n = 0
            while n < T + 1:
                if self.pos == len(self.order):
                    self.order, self.pos, self.epoch = self.rng.permutation(len(self.start)), 0, self.epoch + 1
                k = self.order[self.pos]
                self.pos += 1
                a, b = self.start[k], min(self.end[k], self.start[k] + T + 1 - n)
                x[r, n:n + b - a] = self.ids[a:b]
                w[r, n:n + b - a] = np.where(self.mask[a:b], 1.0, 0.1)
                if n:
                    w[r, n] = 0.0          # nothing announces the next conversation
                n += b - a
        return torch.from_numpy(x), torch.from_numpy(w)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--data", required=True, help="folder written by make_data.py")
    ap.add_argument("--texts", default="base", help="which of its files: base or focus")
    ap.add_argument("--out", default=demolib.MODEL)
    ap.add_argument("--minutes", type=float, default=30, help="length of the training, by the clock")
    ap.add_argument("--steps", type=int, default=0, help="length of the training in steps (then --minutes is ignored)")
    ap.add_argument("--tokens", type=int, default=8192, help="tokens in a step")
    ap.add_argument("--lr", type=float, default=0.02, help="Muon's rate for the matrices")
    ap.add_argument("--adam-lr", type=float, default=2e-3, help="rate for embeddings, head and norms")
    ap.add_argument("--long", type=float, default=0.8, help="after this share rows are 512 long, before 256")
    ap.add_argument("--resume", help="a model folder to start from, for a second stretch")
    ap.add_argument("--warm", type=int, default=100, help="steps of warm-up")
    ap.add_argument("--flat", type=float, default=0.3, help="share of the training before the rates fall")
    ap.add_argument("--init-only", action="store_true")
    ap.add_argument("--seed", type=int, default=11)
    ap.add_argument("--threads", type=int, default=2)
    a = ap.parse_args()
    torch.manual_seed(a.seed)
    torch.set_num_threads(a.threads)
    os.makedirs(a.out, exist_ok=True)
    if not os.path.exists(os.path.join(a.out, "tokenizer.model")):
        train_tokenizer(os.path.join(a.data, "spm.txt"), a.out)
    sp = demolib.tokenizer(os.path.join(a.out, "tokenizer.model"))
    assert sp.get_piece_size() == 2048
    model = LlamaForCausalLM(LlamaConfig(**CONFIG))
    if a.resume:
        from safetensors.torch import load_file
        model.load_state_dict({k: v.float() for k, v in load_file(os.path.join(a.resume, "model.safetensors")).items()})
    print("parameters", sum(p.numel() for p in model.parameters()), flush=True)
    if a.init_only:
        save(model, a.out)
        return
    ids, mask, start = load_tokens(sp, os.path.join(a.data, a.texts + ".jsonl"), os.path.join(a.data, a.texts + ".npz"))
    print("conversations", len(start), "tokens", len(ids), "spoken", int(mask.sum()), flush=True)
    pack = Packer(ids, mask, start, a.seed)
    mats = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n and "lm_head" not in n]
    rest = [p for n, p in model.named_parameters() if not (p.ndim == 2 and "embed" not in n and "lm_head" not in n)]
    opts = [torch.optim.Muon(mats, lr=a.lr, weight_decay=0.01, momentum=0.95),
            torch.optim.AdamW(rest, lr=a.adam_lr, betas=(0.9, 0.98), weight_decay=0.01)]
    base_lr = [a.lr, a.adam_lr]
    t0, step, run = time.time(), 0, []
    while True:
        share = step / a.steps if a.steps else (time.time() - t0) / (60 * a.minutes)
        if share >= 1:
            break
        warm = min(1.0, (step + 1) / a.warm)
        scale = warm * (1.0 if share < a.flat else 0.02 + 0.98 * (1 - (share - a.flat) / (1 - a.flat)))
        for o, l in zip(opts, base_lr):
            for g in o.param_groups:
                g["lr"] = l * scale
        T = 512 if share > a.long else 256
        x, w = pack.batch(a.tokens // T, T)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(input_ids=x[:, :-1], use_cache=False).logits
        l = F.cross_entropy(logits.float().view(-1, logits.shape[-1]), x[:, 1:].reshape(-1), reduction="none")
        w1 = w[:, 1:].reshape(-1)
        loss = (l * w1).sum() / w1.sum()
        for o in opts:
            o.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(rest, 1.0)
        for o in opts:
            o.step()
        with torch.no_grad():
            spoken = w1 == 1.0
            run.append(float(l[spoken].mean()))
        step += 1
        if step % 20 == 0:
            print(f"step {step} share {share:.3f} spoken loss {sum(run) / len(run):.4f} epoch {pack.epoch} "
                  f"tokens {step * a.tokens} {time.time() - t0:.0f}s", flush=True)
            run = []
        if step % 100 == 0:
            save(model, a.out)
    save(model, a.out)
    print("done", step, flush=True)


if __name__ == "__main__":
    main()
