#!/usr/bin/env python3
"""Explanations of the F32 test models by Hugging Face transformers, the golden of explain-transformers.test.ts.

    python3 -m venv VENV && VENV/bin/pip install torch==2.15.0 transformers==5.24.0 accelerate gguf==0.19.0
    VENV/bin/python test/golden/make-explain-golden.py

Weights are read by transformers: tinystories-656k from its own SafeTensors folder, the others by transformers' GGUF reader.
What went on inside is taken from forward hooks and `output_attentions`, with eager attention in float64 (transformers
computes norms, rotary angles and softmax in float32 all the same). Each model is first compared with llama.cpp's logits.
"""
import base64
import json
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[2] / "shared" / "models"
OUT = HERE / "explain-transformers.json"
# GELU by llama.cpp is a table of half floats, hence the bound; the models without it agree within 3e-5.
MAX_LOGIT_DIFFERENCE = 1e-2

# Settings that transformers' GGUF reader leaves at their defaults; models/MANIFEST.md describes the files.
MODELS = {
    "tinystories-656k-f32": {},
    "stories260k-f32": {},
    "llama-untied-gqa-f32": {},
    "llama32-ropefreqs-f32": {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 500000.0,
            "factor": 32.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        }
    },
    "qwen2-tiny-f32": {},
    "qwen3-tiny-f32": {"head_dim": 32},
    "phi3-tiny-f32": {"pad_token_id": None},
    "gemma2-tiny-f32": {"query_pre_attn_scalar": 32, "attn_logit_softcapping": 5.0},
    "gemma3-tiny-f32": {"query_pre_attn_scalar": 32},
    "gpt2-tiny-f32": {"n_positions": 256},
}


def load(name, settings):
    if name.startswith("tinystories"):
        source, file = SHARED / "tinystories-656k", {}
    else:
        source = SHARED / "stories260k" if name.startswith("stories") else HERE / "models" / "zoo"
        file = {"gguf_file": f"{name}.gguf"}
    config = AutoConfig.from_pretrained(source, **file)
    for key, value in settings.items():
        setattr(config, key, value)
    model, found = AutoModelForCausalLM.from_pretrained(
        source, **file, config=config, attn_implementation="eager", dtype=torch.float64, output_loading_info=True
    )
    assert not any(found.values()), (name, found)
    return model.eval()


def frozen(norm, x):
    """The norm as a linear map, frozen at what the module itself did to x; its bias is left out."""
    bias = getattr(norm, "bias", None)
    centred = (lambda v: v) if bias is None else (lambda v: v - v.mean(-1, keepdim=True))
    scale = (norm(x) - (0 if bias is None else bias)) / centred(x)
    return lambda piece: centred(piece) * scale


def modules(model):
    """Its layers, each with what they are read from, and the final norm."""
    if hasattr(model, "transformer"):  # gpt2
        layers = [(each, each.attn.c_proj, None, each.mlp, each.mlp.c_proj.bias) for each in model.transformer.h]
        return layers, model.transformer.ln_f
    layers = []
    for each in model.model.layers:
        output = each.self_attn.o_proj
        if hasattr(each, "pre_feedforward_layernorm"):  # Gemma's norms behind attention and feed-forward network
            layers.append((each, output, each.post_attention_layernorm, each.post_feedforward_layernorm, None))
        else:
            layers.append((each, output, None, each.mlp, None))
    return layers, model.model.norm


@torch.no_grad()
def explain(model, ids):
    """Of the most likely token after ids: components (also of the runner-up), lens and attention."""
    layers, final = modules(model)
    seen = {}  # by module and side: its vector at the last position
    hooks = []

    def keep_input(module):
        hooks.append(module.register_forward_pre_hook(lambda m, args: seen.update({(m, "in"): args[0][0, -1]})))

    def keep_output(module):
        hooks.append(module.register_forward_hook(lambda m, _, y: seen.update({(m, "out"): y[0, -1]})))

    for layer, output, _, feed_forward, _ in layers:
        for module in (layer, output):
            keep_input(module)
        for module in (output, feed_forward):
            keep_output(module)
    keep_input(final)
    position_embedding = model.transformer.wpe if hasattr(model, "transformer") else None
    if position_embedding is not None:
        keep_output(position_embedding)
    result = model(torch.tensor([ids]), output_attentions=True, use_cache=False)
    for hook in hooks:
        hook.remove()

    cap = getattr(model.config, "final_logit_softcapping", None)

    def logits(stream):
        y = model.lm_head(final(stream))
        return cap * torch.tanh(y / cap) if cap else y

    streams = [seen[layer[0], "in"] for layer in layers] + [seen[final, "in"]]
    assert torch.allclose(logits(streams[-1]), result.logits[0, -1], rtol=1e-6, atol=1e-6)
    chosen, other = torch.argsort(result.logits[0, -1], descending=True, stable=True)[:2].tolist()

    pieces = []  # kind, layer, head, what it wrote into the residual stream
    embedding = streams[0]
    if position_embedding is not None:
        position = seen[position_embedding, "out"]
        pieces.append(("position", -1, -1, position))
        embedding = embedding - position
    pieces.append(("embedding", -1, -1, embedding))
    for i, (_, output, norm, feed_forward, ffn_bias) in enumerate(layers):
        columns = output.weight.T if type(output).__name__ == "Conv1D" else output.weight  # (dim, heads * head size)
        through = (lambda v: v) if norm is None else frozen(norm, seen[output, "out"])
        heads = result.attentions[i].shape[1]
        by_head = zip(seen[output, "in"].chunk(heads), columns.chunk(heads, 1))
        pieces += [("head", i, h, through(own @ mine.T)) for h, (own, mine) in enumerate(by_head)]
        if output.bias is not None:
            pieces.append(("attention_bias", i, -1, through(output.bias)))
        written = seen[feed_forward, "out"]
        if ffn_bias is not None:
            pieces.append(("ffn_bias", i, -1, ffn_bias))
            written = written - ffn_bias
        pieces.append(("ffn", i, -1, written))

    unembedding = model.lm_head.weight[[chosen, other]]
    read = frozen(final, streams[-1])
    components = [(kind, i, h, unembedding @ read(piece)) for kind, i, h, piece in pieces]
    if getattr(final, "bias", None) is not None:
        components.append(("norm_bias", len(layers), -1, unembedding @ final.bias))
    before_cap = unembedding @ final(streams[-1])
    residual = float((sum(each[3] for each in components) - before_cap).abs().max() / before_cap.abs().max())

    lens, gap = [], 1.0
    for stream in streams:
        p = torch.softmax(logits(stream), -1)
        order = torch.argsort(p, descending=True, stable=True)
        first = p[order[:6]]
        gap = min(gap, float(((first[:-1] - first[1:]) / first[:-1]).min()))
        rank = order.tolist().index(chosen) + 1
        lens.append([rank, *digits(p[chosen]), order[:5].tolist(), digits(first[:5])])
    return {
        "ids": ids,
        "chosen": chosen,
        "other": other,
        "components": [[*each[:3], *digits(each[3])] for each in components],
        "lens": lens,
        "attention": [[digits(row) for row in layer[0, :, -1]] for layer in result.attentions],
    }, residual, gap


def digits(values):
    return [float("%.7g" % v) for v in values.reshape(-1).tolist()]


@torch.no_grad()
def logit_difference(model, prompts):
    """Largest difference from llama.cpp's logits, and that every position has the same first token."""
    most = 0.0
    for prompt in prompts:
        y = model(torch.tensor([prompt["ids"]])).logits[0]
        assert y.argmax(-1).tolist() == prompt["prompt_argmax"]
        if "last_logits_f32_base64" in prompt:
            wanted = np.frombuffer(base64.b64decode(prompt["last_logits_f32_base64"]), "<f4")
            most = max(most, float(np.abs(y[-1].numpy() - wanted).max()))
    assert most < MAX_LOGIT_DIFFERENCE, most
    return most


def main():
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    goldens = {}
    for name, settings in MODELS.items():
        model = load(name, settings)
        prompts = json.loads((HERE / "models" / "goldens" / f"{name}.json").read_text())["prompts"]
        from_llama = logit_difference(model, prompts)
        # The second prompt, and the last one cut to what is behind the sliding windows.
        explained = [explain(model, ids) for ids in (prompts[1]["ids"], prompts[3]["ids"][:24])]
        goldens[f"{name}.gguf"] = [each for each, _, _ in explained]
        print(
            f"{name:24} logits {from_llama:.1e} from llama.cpp's, components sum to the logit within"
            f" {max(each[1] for each in explained):.1e} of it,"
            f" places of the lens at least {min(each[2] for each in explained):.1e} apart"
        )
    versions = {"transformers": transformers.__version__, "torch": torch.__version__.split("+")[0]}
    OUT.write_text(json.dumps({"generator": versions, "models": goldens}, separators=(",", ":")) + "\n")


main()
