#!/usr/bin/env python3
"""What fusing writes is read by the tools that others use: PEFT loads the folder, gguf-py the LoRA file, transformers the merged model, and
all of them come to the same logits. Skipped where a Python with torch, peft, transformers and gguf is not at hand (TOOLS_PYTHON names one)."""
import os, subprocess, sys, tempfile

top, build = os.environ.get("top_srcdir", "."), os.environ.get("top_builddir", ".")
try:
    import gguf, numpy, peft, torch, transformers
except ImportError as missing:
    other = os.environ.get("TOOLS_PYTHON")
    if other and not os.environ.get("IN_TOOLS_PYTHON"):
        os.environ["IN_TOOLS_PYTHON"] = "1"
        os.execv(other, [other, *sys.argv])
    print(f"skipped: {missing}")
    sys.exit(77)

BASE = os.path.join(top, "tests/kernels/fixtures/golden/gqa-untied")
ADAPTERS = os.path.join(top, "tests/kernels/fixtures/adapters")
PARTS = {"plain": 0.7, "patterns": -0.4, "embedding": 0.5}


def base(path=BASE):
    return transformers.LlamaForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()


def logits(model):
    vocab = model.config.vocab_size
    with torch.no_grad():
        return model(torch.tensor([[(i * 37 + i * i * 5 + 11) % vocab for i in range(24)]])).logits


def blend():
    """The inputs as several active adapters of PEFT, each at its weight."""
    model = None
    for name in PARTS:
        path = os.path.join(ADAPTERS, name)
        if model is None:
            model = peft.PeftModel.from_pretrained(base(), path, adapter_name=name)
        else:
            model.load_adapter(path, adapter_name=name)
    model.base_model.set_adapter(list(PARTS))
    for module in model.modules():
        for name, weight in PARTS.items():
            if isinstance(module, peft.tuners.lora.LoraLayer) and name in module.scaling:
                module.scaling[name] *= weight
    return logits(model)


def expect(what, got, want):
    error = ((got - want).abs().max() / want.abs().max()).item()
    print(f"{what}: off by {error:.2g} of the largest logit")
    assert error < 1e-4, what


with tempfile.TemporaryDirectory() as d:
    subprocess.run([os.path.join(build, "tests/kernels/fuse_files"), "make", d], check=True)
    want = blend()
    assert (logits(base()) - want).abs().max() > 0.01 * want.abs().max()
    expect("PEFT folder", logits(peft.PeftModel.from_pretrained(base(), os.path.join(d, "peft"))), want)
    expect("merged model", logits(base(os.path.join(d, "merged"))), want)

    reader = gguf.GGUFReader(os.path.join(d, "lora.gguf"))
    field = lambda key: reader.get_field(key).contents()
    assert (field("general.type"), field("general.architecture"), field("adapter.type")) == ("adapter", "llama", "lora")
    alpha, tensors = field("adapter.lora.alpha"), {t.name: numpy.array(t.data) for t in reader.tensors}
    folder = peft.PeftModel.from_pretrained(base(), os.path.join(d, "peft"))
    q = folder.base_model.model.model.layers[1].self_attn.q_proj
    delta = q.get_delta_weight("default").detach().numpy()
    a, b = tensors["blk.1.attn_q.weight.lora_a"], tensors["blk.1.attn_q.weight.lora_b"]
    heads = folder.config.num_attention_heads if hasattr(folder, "config") else 4
    rows = numpy.arange(delta.shape[0]).reshape(heads, 2, -1).swapaxes(1, 2).flatten()  # where GGUF's rows come from
    assert numpy.abs(alpha / a.shape[0] * b @ a - delta[rows]).max() < 1e-5 * numpy.abs(delta).max()
    embed = folder.base_model.model.model.embed_tokens.get_delta_weight("default").detach().numpy()
    a, b = tensors["token_embd.weight.lora_a"], tensors["token_embd.weight.lora_b"]
    assert numpy.abs(alpha / a.shape[1] * a @ b.T - embed).max() < 1e-5 * numpy.abs(embed).max()
    print("GGUF file: the same factors")
