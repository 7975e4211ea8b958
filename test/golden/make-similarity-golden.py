#!/usr/bin/env python3
"""What pairs of tokens add to the cosine of two texts, in float64 numpy: the golden of test/db/embeddings.test.ts.

    python3 -m venv VENV && VENV/bin/pip install numpy
    VENV/bin/python test/golden/make-similarity-golden.py

The model is models/zoo/bert-tiny-f32.gguf; token ids are llama.cpp's. Its forward pass shares no code with the engine.
"""
import importlib.util
import json
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
spec = importlib.util.spec_from_file_location("explain_goldens", HERE / "models" / "make-explain-goldens.py")
goldens = importlib.util.module_from_spec(spec)
spec.loader.exec_module(goldens)

PAIRS = 3


def states(meta, weights, ids):
    """Hidden states (tokens, dim) of a text behind the last layer."""
    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + meta["bert.attention.layer_norm_epsilon"])
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def linear(x, name):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    heads = meta["bert.attention.head_count"]
    x = weights["token_embd.weight"][ids] + weights["position_embd.weight"][: len(ids)] + weights["token_types.weight"][0]
    x = norm(x, "token_embd_norm")
    for layer in range(meta["bert.block_count"]):
        name = f"blk.{layer}"
        q, k, v = (linear(x, f"{name}.attn_{each}").reshape(len(ids), heads, -1).swapaxes(0, 1) for each in "qkv")
        attention = goldens.softmax(q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1]))
        attended = (attention @ v).swapaxes(0, 1).reshape(len(ids), -1)
        x = norm(x + linear(attended, f"{name}.attn_output"), f"{name}.attn_output_norm")
        inner = goldens.gelu(linear(x, f"{name}.ffn_up"))
        x = norm(x + linear(inner, f"{name}.ffn_down"), f"{name}.layer_output_norm")
    return x


def main():
    meta, weights = goldens.gguf(HERE / "models" / "zoo" / "bert-tiny-f32.gguf")
    tokenized = json.loads((HERE / "models" / "goldens" / "bert-tiny-f32.json").read_text())["tokenize"]
    texts = [each for each in tokenized if 4 <= len(each["ids"]) <= 24][: 2 * PAIRS]
    pairs = []
    for a, b in zip(texts[::2], texts[1::2]):
        of_a, of_b = (states(meta, weights, each["ids_with_bos_eos"]) for each in (a, b))
        length = np.linalg.norm(of_a.sum(0)) * np.linalg.norm(of_b.sum(0))
        contributions = of_a @ of_b.T / length
        assert abs(contributions.sum() - of_a.mean(0) @ of_b.mean(0) / np.linalg.norm(of_a.mean(0)) / np.linalg.norm(of_b.mean(0))) < 1e-12
        pairs.append({"a": a["text"], "b": b["text"], "contributions": np.round(contributions, 9).tolist()})
    (HERE / "similarity.json").write_text(json.dumps(pairs, ensure_ascii=False) + "\n")


main()
