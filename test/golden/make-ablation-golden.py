#!/usr/bin/env python3
"""Log-probabilities with parts of the F32 test models left out, in float64 numpy: the golden of ablation.test.ts.

    python3 -m venv VENV && VENV/bin/pip install numpy
    VENV/bin/python test/golden/make-ablation-golden.py

Each ablation stands under the names of option `ablate`, with the log-probability of the token that is likeliest without it and
of the runner-up. The forward pass is that of models/make-explain-goldens.py, which shares no code with the engine.
"""
import importlib.util
import json
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
spec = importlib.util.spec_from_file_location("explain_goldens", HERE / "models" / "make-explain-goldens.py")
goldens = importlib.util.module_from_spec(spec)
spec.loader.exec_module(goldens)

NAMES = [f"{name}-tiny-f32" for name in ("qwen2", "qwen3", "phi3", "gemma2", "gemma3", "gpt2")] + ["llama-untied-gqa-f32"]


def logprobs(y):
    return y - y.max() - np.log(np.exp(y - y.max()).sum())


def ablated(meta, weights, ids, option):
    """Logits with what `option` names written as zeros or as its mean over all of ids."""
    arch = meta["general.architecture"]
    size = meta.get(f"{arch}.attention.key_length", meta[f"{arch}.embedding_length"] // meta[f"{arch}.attention.head_count"])
    columns = {}
    for part in option.get("heads", []):
        columns.setdefault(("heads", part["layer"]), []).append(slice(part["head"] * size, (part["head"] + 1) * size))
    for part in option.get("neurons", []):
        columns.setdefault(("neurons", part["layer"]), []).append(slice(part["index"], part["index"] + 1))
    for part in option.get("ffns", []):
        columns.setdefault(("ffn", part["layer"]), []).append(slice(None))
    means = {}

    def measure(to, layer, rows):
        means[to, layer] = rows.mean(0)
        return rows

    def leave_out(to, layer, rows):
        rows = rows.copy()
        for part in columns.get((to, layer), []):
            rows[option.get("from", 0):, part] = means[to, layer][part] if option.get("by") == "mean" else 0
        return rows

    goldens.explain(meta, weights, ids, measure)
    return goldens.explain(meta, weights, ids, leave_out)


def options(meta, length):
    arch = meta["general.architecture"]
    last = meta[f"{arch}.block_count"] - 1
    head = meta[f"{arch}.attention.head_count"] - 1
    neuron = meta[f"{arch}.feed_forward_length"] - 1
    for by in ("zero", "mean"):
        for begin in (0, length - 1):
            yield {"heads": [{"layer": 0, "head": head}], "by": by, "from": begin}
            yield {"ffns": [{"layer": last}], "by": by, "from": begin}
            yield {"neurons": [{"layer": 0, "index": 0}, {"layer": last, "index": neuron}], "by": by, "from": begin}
            yield {
                "heads": [{"layer": last, "head": 0}, {"layer": last, "head": head}],
                "ffns": [{"layer": 0}],
                "neurons": [{"layer": last, "index": 1}],
                "by": by,
                "from": begin,
            }


def main():
    out = {}
    for name in NAMES:
        meta, weights = goldens.gguf(HERE / "models" / "zoo" / f"{name}.gguf")
        ids = json.loads((HERE / "models" / "goldens" / f"{name}.json").read_text())["prompts"][3]["ids"][:40]
        whole = goldens.explain(meta, weights, ids, lambda to, layer, rows: rows)
        chosen, other = (int(each) for each in np.argsort(-whole, kind="stable")[:2])
        cases = []
        for option in options(meta, len(ids)):
            found = logprobs(ablated(meta, weights, ids, option))
            cases.append([option, *(float("%.7g" % found[each]) for each in (chosen, other))])
        out[name] = {"ids": ids, "chosen": chosen, "other": other, "cases": cases}
        moved = max(abs(case[1] - logprobs(whole)[chosen]) for case in cases)
        print(f"{name:24} {len(cases)} ablations of {len(ids)} tokens, which move a log-probability by up to {moved:.2f}")
    (HERE / "ablations.json").write_text(json.dumps(out, separators=(",", ":")) + "\n")


main()
