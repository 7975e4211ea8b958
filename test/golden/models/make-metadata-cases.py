#!/usr/bin/env python3
"""Numbers of files whose metadata was once passed over: goldens/metadata-cases.json.

    VENV/bin/python make-metadata-cases.py LLAMA_WORKER       (see make-embedding-zoo.py)

Each is a file of the zoo with keys in place of its own; null takes a key away. llama.cpp's logits, or where it looks GELU up
in a table or has no window those of a float64 pass, which reads what the keys mean; every eighth is kept.
"""
import json
import sys
import tempfile
from importlib import import_module

import numpy as np

long = import_module("make-long-goldens")
LENGTHS = [5, 33, 257]
# Case: file, keys in place of its own, what they mean to the float64 pass; None where llama.cpp's numbers are kept.
CASES = {
    "a factor of the rotation without its type": ("llama-untied-gqa-f32", {"rope.scaling.factor": 4.0}, None),
    "its older name": ("llama-untied-gqa-f32", {"rope.scale_linear": 4.0}, None),
    "a factor of attention": ("llama-untied-gqa-f32", {"rope.scaling.attn_factor": 1.3}, None),
    "gemma2 without a window": (
        "gemma2-tiny-f32",
        {"attention.sliding_window": None, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "context_length": 8192},
        {"attention.sliding_window": 4096},
    ),
    "Ollama's bases of gemma3": (
        "gemma3-tiny-f32",
        {"attention.sliding_window": 24, "rope.freq_base": None, "rope.global.freq_base": 1e6, "rope.local.freq_base": 1e4},
        {"rope.freq_base": 1e6},
    ),
    "a window of phi3": ("phi3-tiny-f32", {"attention.sliding_window": 64}, {}),
}


def main():
    llama = long.Llama(sys.argv[1:])
    golden = {}
    for case, (name, changed, meant) in CASES.items():
        arch, keys, tensors = long.read(name, {})
        keys |= {f"{arch}.context_length": 512} | {f"{arch}.{key}": value for key, value in changed.items()}
        keys = {key: value for key, value in keys.items() if value is not None}
        items = []
        for length in LENGTHS + ([4200] if "context_length" in changed else []):
            ids = long.prompt(length)
            if meant is None:
                with tempfile.TemporaryDirectory() as folder:
                    file = long.written(folder, name, arch, keys, tensors)
                    logits = np.array(llama.ask(file=file, mode="logits", ids=ids)["values"])
            else:
                logits = long.Decoder(arch, keys | {f"{arch}.{key}": value for key, value in meant.items()}, tensors).logits(ids)
            items.append({"tokens": length, "best": int(logits.argmax()), "values": long.zoo.encoded(logits[length % 8 :: 8])})
        golden[case] = {"file": name, "keys": changed, "items": items}
        print(case, [item["best"] for item in items], flush=True)
    lines = ",\n".join(f"{json.dumps(case)}: {json.dumps(entry)}" for case, entry in golden.items())
    (long.HERE / "goldens" / "metadata-cases.json").write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()
