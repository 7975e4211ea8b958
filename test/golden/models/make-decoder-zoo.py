#!/usr/bin/env python3
"""Random decoders with what the older zoo lacks, and llama.cpp's logits: zoo/*.gguf, goldens/decoder-zoo.json.

    VENV/bin/python make-decoder-zoo.py LLAMA_WORKER       (see make-embedding-zoo.py)

phi3-longrope: factors for short and long sequences, a part of each head rotated. llama.cpp chooses the factors by the size
of its context, transformers by the length of the sequence, so each prompt gets a context on its own side of the original.
llama-biases: every matrix of a layer has one. ollama-gemma3: as Ollama's converter writes it, with vision tensors;
llama.cpp reads the same weights under GGUF's keys.
"""
import json
import sys
from pathlib import Path

import numpy as np

from importlib import import_module

zoo = import_module("make-embedding-zoo")
HERE = Path(__file__).resolve().parent
LENGTHS = [5, 33, 257, 700]
ORIGINAL = 256


def prompt(length):
    return [1, *(3 + (7 * i * i + 11 * i) % 500 for i in range(length - 1))]


def gated(m, at, dim, hidden, bias=0.0):
    m.linear(at + "ffn_gate", hidden, dim, 1.3, bias)
    m.linear(at + "ffn_up", hidden, dim, 1.3, bias)
    m.linear(at + "ffn_down", dim, hidden, 1.3, bias)


def sizes(layers, dim, hidden, heads, kv, context=1024):
    return {"block_count": layers, "context_length": context, "embedding_length": dim, "feed_forward_length": hidden, "attention.head_count": heads, "attention.head_count_kv": kv}


def phi3_longrope():
    dim, heads, kv, size, hidden, layers, rotated = 48, 3, 1, 16, 72, 2, 12
    keys = sizes(layers, dim, hidden, heads, kv) | {"attention.layer_norm_rms_epsilon": 1e-5, "rope.dimension_count": rotated, "rope.freq_base": 10000.0}
    keys |= {"rope.scaling.original_context_length": ORIGINAL, "rope.scaling.attn_factor": float(np.sqrt(1 + np.log(1024 / ORIGINAL) / np.log(ORIGINAL)))}
    m = zoo.Model("phi3-longrope-f32", "phi3", keys)
    m.add("token_embd.weight", 512, dim, std=0.25)
    for layer in range(layers):
        at = f"blk.{layer}."
        m.norm(at + "attn_norm", dim, False)
        m.linear(at + "attn_qkv", (heads + 2 * kv) * size, dim, 1.4)
        m.linear(at + "attn_output", dim, heads * size, 1.4)
        m.norm(at + "ffn_norm", dim, False)
        m.linear(at + "ffn_up", 2 * hidden, dim, 1.3)
        m.linear(at + "ffn_down", dim, hidden, 1.3)
    m.norm("output_norm", dim, False)
    m.tensors["rope_factors_short.weight"] = np.linspace(1, 1.5, rotated // 2, dtype=np.float32)
    m.tensors["rope_factors_long.weight"] = np.geomspace(1.2, 30, rotated // 2).astype(np.float32)
    return m


def llama_biases():
    dim, heads, kv, size, hidden, layers = 40, 5, 1, 8, 68, 2
    m = zoo.Model("llama-biases-f32", "llama", sizes(layers, dim, hidden, heads, kv) | {"attention.layer_norm_rms_epsilon": 1e-5, "rope.dimension_count": size, "rope.freq_base": 10000.0})
    m.add("token_embd.weight", 512, dim, std=0.25)
    for layer in range(layers):
        at = f"blk.{layer}."
        m.norm(at + "attn_norm", dim, False)
        for role, rows in (("q", heads * size), ("k", kv * size), ("v", kv * size)):
            m.linear(at + f"attn_{role}", rows, dim, 1.4, 0.3)
        m.linear(at + "attn_output", dim, heads * size, 1.4, 0.3)
        m.norm(at + "ffn_norm", dim, False)
        gated(m, at, dim, hidden, 0.3)
    m.norm("output_norm", dim, False)
    return m


GEMMA3 = {"attention.key_length": 16, "attention.value_length": 16, "attention.sliding_window": 24}


def gemma3(name):
    dim, heads, kv, size, hidden, layers = 40, 3, 1, 16, 56, 7
    m = zoo.Model(name, "gemma3", sizes(layers, dim, hidden, heads, kv) | GEMMA3, "gemma3")
    m.add("token_embd.weight", 512, dim, std=0.1)
    for layer in range(layers):
        at = f"blk.{layer}."
        m.norm(at + "attn_norm", dim, False)
        for role, rows in (("q", heads * size), ("k", kv * size), ("v", kv * size)):
            m.linear(at + f"attn_{role}", rows, dim, 1.6)
        m.linear(at + "attn_output", dim, heads * size)
        for role in "qk":
            m.add(f"{at}attn_{role}_norm.weight", size, std=0.3, mean=1.2)
        m.add(at + "post_attention_norm.weight", dim, std=0.3, mean=1.2)
        m.norm(at + "ffn_norm", dim, False)
        gated(m, at, dim, hidden)
        m.add(at + "post_ffw_norm.weight", dim, std=0.3, mean=1.2)
    m.add("output_norm.weight", dim, std=1, mean=5)
    return m


def main():
    worker = sys.argv[1:]
    spm = lambda name, more={}: lambda writer: zoo.put_vocabulary(writer, name, more)
    written = []
    m = phi3_longrope()
    file = m.write(spm("phi3-tiny-f32"))
    written.append((m.name, file, [ORIGINAL if n <= ORIGINAL else 1024 for n in LENGTHS]))
    m = llama_biases()
    written.append((m.name, m.write(spm("llama-untied-gqa-f32")), [1024] * 4))
    m = gemma3("ollama-gemma3-f32")
    m.add("v.patch_embedding.weight", 6, 10)
    m.add("v.blk.0.attn_q.weight", 8, 8)
    m.add("mm.input_projection.weight", 8, 40)
    # One token more than embeddings, as <image_soft_token>.
    tokens = [*zoo.fields_of("gemma3-tiny-f32")["tokenizer.ggml.tokens"].contents(), "<image_soft_token>"]
    scores = [*map(float, zoo.fields_of("gemma3-tiny-f32")["tokenizer.ggml.scores"].contents()), 0.0]
    kinds = [*zoo.fields_of("gemma3-tiny-f32")["tokenizer.ggml.token_type"].contents(), 4]
    vocabulary = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.scores": scores, "tokenizer.ggml.token_type": kinds}
    more = {"gemma3.rope.global.freq_base": 1e6, "gemma3.rope.local.freq_base": 10000.0, "gemma3.vision.block_count": 1, "gemma3.mm.tokens_per_image": 256}
    m.write(spm("gemma3-tiny-f32", vocabulary), None, more)
    plain = gemma3("gemma3-plain")
    plain.keys |= {"gemma3.attention.layer_norm_rms_epsilon": 1e-6, "gemma3.rope.freq_base": 1e6}
    file = plain.write(spm("gemma3-tiny-f32"))
    written.append((m.name, file, [1024] * 4))
    golden = {}
    for name, file, contexts in written:
        jobs = [{"file": str(file), "mode": "logits", "ids": prompt(n), "context": size} for n, size in zip(LENGTHS, contexts)]
        answers = zoo.llama(worker, jobs)
        golden[name] = [{"ids": job["ids"], "logits": zoo.encoded(answer["values"])} for job, answer in zip(jobs, answers)]
        print(name, Path(file).stat().st_size, "bytes", flush=True)
    file.unlink()
    (HERE / "goldens" / "decoder-zoo.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
