"""What the scripts share: the tokeniser, the prompt convention, loading."""
import json
import os

import sentencepiece as spm

HERE = os.path.dirname(os.path.abspath(__file__))
MODEL = os.path.join(HERE, "model")
BOS, EOS = 1, 2


def tokenizer(path=None):
    return spm.SentencePieceProcessor(model_file=path or os.path.join(MODEL, "tokenizer.model"))


def pieces(messages, rest=False):
    """The template as text, one string per turn; </s> stands between turns.

    The first user turn carries the system block.  Each later turn starts with
    a newline.  Returns [(prompt text, answer text or None), ...].
    """
    out, head = [], ""
    for m in messages:
        if m["role"] == "system":
            head = f"### System:\n{m['content']}\n"
        elif m["role"] == "user":
            lead = "\n" if out else ""
            out.append([f"{lead}{head}### User:\n{m['content']}\n### Assistant:\n", None])
            head = ""
        else:
            out[-1][1] = m["content"]
    return out


def encode(sp, messages, prefix_after_eos=True):
    """Token ids and a mask that is 1 where the assistant speaks.

    BOS, then each turn as one SentencePiece text (so it starts with the dummy
    prefix, also after </s>: what Llama-2's "legacy" tokeniser does), then EOS
    after the answer.  With prefix_after_eos=False later turns have no dummy
    prefix ("legacy": false); the model is trained on both.
    """
    ids, mask = [BOS], [0]
    for k, (prompt, answer) in enumerate(pieces(messages)):
        if k and not prefix_after_eos:
            enc = lambda t: sp.encode("\n" + t)[2:]     # drop the prefix and the helper newline
        else:
            enc = sp.encode
        p = enc(prompt)
        whole = enc(prompt + answer) if answer is not None else p
        assert whole[:len(p)] == p
        ids += whole
        mask += [0] * len(p) + [1] * (len(whole) - len(p))
        if answer is not None:
            ids.append(EOS)
            mask.append(1)
    return ids, mask


def read_jsonl(path):
    with open(path, encoding="utf-8") as fh:
        return [json.loads(x) for x in fh]
