#!/usr/bin/env python3
"""What every model of the zoo gives in float64 for texts of 5, 33, 257, 700 and 2,000 tokens: goldens/long-texts.json.

    VENV/bin/python make-long-goldens.py LLAMA_WORKER       (see make-embedding-zoo.py)

Files of the zoo are read with a context of 2,048 tokens and, where a case says so, with keys more: scaled rotations, and
the windows of Mistral and Phi 3, which llama.cpp does not compute. Learned positions get rows by a formula that
long-texts.ts has too. Kept are every eighth logit of a decoder, an embedding, or a score; llama.cpp's numbers are compared
where it computes the same, and the largest difference is kept (GELU by its table of half floats makes the larger ones).
"""
import hashlib
import json
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path

import gguf
import numpy as np

zoo = import_module("make-embedding-zoo")
HERE = Path(__file__).resolve().parent
LENGTHS = [5, 33, 257, 700, 2000]
CONTEXT = 2048
WORDS = "the cat dog saw a red ball on grass and we can play with it one day small big went to park hello model reads text".split()
QUERY = "What did the cat see?"
YARN = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 512}
# Case: file, keys more, whether llama.cpp computes the same.
CASES = {
    "llama": ("llama-untied-gqa-f32", {}, True),
    "llama, Mistral's window": ("llama-untied-gqa-f32", {"attention.sliding_window": 48}, False),
    "llama, YaRN": ("llama-untied-gqa-f32", YARN, True),
    "llama, rope_freqs": ("llama32-ropefreqs-f32", {}, True),
    "llama, biases": ("llama-biases-f32", {}, True),
    "qwen2": ("qwen2-tiny-f32", {}, True),
    "qwen2, YaRN": ("qwen2-tiny-f32", YARN, True),
    "qwen3": ("qwen3-tiny-f32", {}, True),
    "phi3": ("phi3-tiny-f32", {}, True),
    "phi3, window": ("phi3-tiny-f32", {"attention.sliding_window": 40}, False),
    "phi3, LongRoPE": ("phi3-longrope-f32", {}, True),
    "gemma2": ("gemma2-tiny-f32", {}, True),
    "gemma3": ("gemma3-tiny-f32", {}, True),
    "gemma3, Ollama's": ("ollama-gemma3-f32", {}, False),
    "gemma3, linear": ("gemma3-tiny-f32", {"rope.scaling.type": "linear", "rope.scaling.factor": 8.0}, True),
    "gpt2": ("gpt2-tiny-f32", {}, True),
    "bert": ("bert-tiny-f32", {}, True),
    "roberta": ("roberta-bpe-f32", {}, True),
    "xlm-roberta": ("xlm-roberta-f32", {}, True),
    "nomic-bert": ("nomic-bert-f32", {}, True),
    "nomic-bert-moe": ("nomic-bert-moe-f32", {}, True),
    "gemma-embedding": ("gemma-embedding-f32", {}, True),
    "qwen3-embedding": ("qwen3-embedding-f32", {}, True),
    "bert reranker": ("bert-reranker-f32", {}, False),
    "xlm-roberta reranker": ("xlm-roberta-reranker-f32", {}, True),
    "qwen3 reranker": ("qwen3-reranker-f32", {}, True),
}


# What Ollama's file leaves out.
MEANT = {"ollama-gemma3-f32": {"rope.freq_base": 1e6, "attention.layer_norm_rms_epsilon": 1e-6}}
# Documents of so many words that a reranker puts in order.
RANKED = range(1, 21)


def prompt(length):
    return [1, *(3 + (7 * i * i + 11 * i) % 500 for i in range(length - 1))]


def text(words, more):
    return " ".join([WORDS[(7 * i * i + 11 * i) % len(WORDS)] for i in range(words)] + ["a"] * more)


def positions(rows, dim):
    """Rows of learned positions beyond those of the file: multiples of 1/128, so that floats hold them."""
    p, i = np.arange(rows, CONTEXT)[:, None], np.arange(dim)[None]
    return (((31 * p + 17 * i + p * i) % 101 - 50) / 128).astype(np.float32)


def read(name, more):
    """Architecture, keys and tensors of a file of the zoo, with a longer context and more keys."""
    reader = gguf.GGUFReader(HERE / "zoo" / f"{name}.gguf")
    arch = reader.fields["general.architecture"].contents()
    keys = {key: field.contents() for key, field in reader.fields.items() if key.startswith(f"{arch}.")}
    keys |= {f"{arch}.context_length": CONTEXT} | {f"{arch}.{key}": value for key, value in {**more, **MEANT.get(name, {})}.items()}
    tensors = {tensor.name: np.array(tensor.data) for tensor in reader.tensors if not tensor.name.startswith(("v.", "mm."))}
    if "position_embd.weight" in tensors:
        known = tensors["position_embd.weight"]
        tensors["position_embd.weight"] = np.concatenate([known, positions(*known.shape)])
    return arch, keys, tensors


def written(folder, name, arch, keys, tensors):
    file = Path(folder) / "case.gguf"
    writer = gguf.GGUFWriter(file, arch)
    for key, value in keys.items():
        zoo.put(writer, key, value)
    zoo.put_vocabulary(writer, name)
    for tensor, value in tensors.items():
        writer.add_tensor(tensor, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(file)


class Decoder:
    """The float64 pass of a decoder over one text; rotations as transformers computes them."""

    def __init__(self, arch, keys, tensors):
        self.arch, self.keys, self.t = arch, keys, {name: value.astype(np.float64) for name, value in tensors.items()}

    def key(self, name, otherwise=None):
        return self.keys.get(f"{self.arch}.{name}", otherwise)

    def linear(self, x, name):
        out = x @ self.t[f"{name}.weight"].T
        return out + self.t[f"{name}.bias"] if f"{name}.bias" in self.t else out

    def norm(self, x, name):
        weight = self.t[f"{name}.weight"]
        if self.arch == "gpt2":
            x = x - x.mean(-1, keepdims=True)
            return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.key("attention.layer_norm_epsilon")) * weight + self.t[f"{name}.bias"]
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.key("attention.layer_norm_rms_epsilon")) * weight

    def rotation(self, tokens, size, local):
        """Angles (tokens, pairs) and what the rotated is multiplied by."""
        dims = self.key("rope.dimension_count", size)
        own = self.arch == "gemma3" and local
        base = 10000.0 if own else self.key("rope.freq_base", 10000.0)
        frequencies, magnitude = base ** (-np.arange(0, dims, 2) / dims), 1.0
        factor, original = self.key("rope.scaling.factor", 1.0), self.key("rope.scaling.original_context_length")
        if "rope_freqs.weight" in self.t:
            frequencies = frequencies / self.t["rope_freqs.weight"]
        if "rope_factors_long.weight" in self.t:
            which = "long" if tokens > original else "short"
            frequencies, magnitude = frequencies / self.t[f"rope_factors_{which}.weight"], self.key("rope.scaling.attn_factor")
        if self.key("rope.scaling.type") == "linear" and not own:
            frequencies = frequencies / factor
        if self.key("rope.scaling.type") == "yarn":
            turns = lambda n: dims * np.log(original / (n * 2 * np.pi)) / (2 * np.log(base))
            low, high = max(np.floor(turns(32)), 0), min(np.ceil(turns(1)), dims - 1)
            ramp = np.clip((np.arange(dims // 2) - low) / max(high - low, 0.001), 0, 1)
            frequencies = frequencies / factor * ramp + frequencies * (1 - ramp)
            magnitude = 0.1 * np.log(factor) + 1
        return np.outer(np.arange(tokens), frequencies)[:, None], magnitude

    def rotate(self, x, angles, magnitude):
        pairs = angles.shape[-1]
        first, second = (slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)) if self.arch == "llama" else (slice(0, pairs), slice(pairs, 2 * pairs))
        a, b, out = x[..., first], x[..., second], x.copy()
        out[..., first] = magnitude * (a * np.cos(angles) - b * np.sin(angles))
        out[..., second] = magnitude * (b * np.cos(angles) + a * np.sin(angles))
        return out

    def isLocal(self, layer):
        every = {"gemma2": 2, "gemma3": 6}.get(self.arch)
        return self.key("attention.sliding_window", 0) > 0 and (every is None or layer % every != every - 1)

    def logits(self, ids):
        key, t, n = self.key, self.t, len(ids)
        dim, heads = key("embedding_length"), key("attention.head_count")
        kv_heads, size = key("attention.head_count_kv", heads), key("attention.key_length", dim // heads)
        gemma = self.arch.startswith("gemma")
        x = t["token_embd.weight"][ids] * (np.sqrt(dim) if gemma else 1)
        if self.arch == "gpt2":
            x = x + t["position_embd.weight"][:n]
        distance = np.arange(n)[:, None] - np.arange(n)[None]
        for layer in range(key("block_count")):
            at = f"blk.{layer}."
            local = self.isLocal(layer)
            h = self.norm(x, at + "attn_norm")
            if f"{at}attn_qkv.weight" in t:
                q, k, v = np.split(self.linear(h, at + "attn_qkv"), [heads * size, (heads + kv_heads) * size], -1)
            else:
                q, k, v = (self.linear(h, at + f"attn_{role}") for role in "qkv")
            q, k, v = (each.reshape(n, -1, size) for each in (q, k, v))
            if f"{at}attn_q_norm.weight" in t:
                q, k = self.norm(q, at + "attn_q_norm"), self.norm(k, at + "attn_k_norm")
            if self.arch != "gpt2":
                rotation = self.rotation(n, size, local)
                q, k = self.rotate(q, *rotation), self.rotate(k, *rotation)
            k, v = (np.repeat(each, heads // kv_heads, 1) for each in (k, v))
            scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(size)
            cap = key("attn_logit_softcapping")
            if cap:
                scores = cap * np.tanh(scores / cap)
            hidden = distance < 0
            if local:
                hidden = hidden | (distance >= key("attention.sliding_window"))
            weights = zoo.softmax(np.where(hidden, -np.inf, scores))
            h = self.linear(np.einsum("hij,jhd->ihd", weights, v).reshape(n, -1), at + "attn_output")
            x = x + (self.norm(h, at + "post_attention_norm") if gemma else h)
            h = self.norm(x, at + "ffn_norm")
            if self.arch == "gpt2":
                h = zoo.gelu(self.linear(h, at + "ffn_up"))
            elif self.arch == "phi3":
                gate, up = np.split(self.linear(h, at + "ffn_up"), 2, -1)
                h = zoo.silu(gate) * up
            else:
                h = (zoo.gelu if gemma else zoo.silu)(self.linear(h, at + "ffn_gate")) * self.linear(h, at + "ffn_up")
            h = self.linear(h, at + "ffn_down")
            x = x + (self.norm(h, at + "post_ffw_norm") if gemma else h)
        out = self.norm(x[-1:], "output_norm")[0] @ t.get("output.weight", t["token_embd.weight"]).T
        cap = key("final_logit_softcapping")
        return cap * np.tanh(out / cap) if cap else out


class Llama:
    def __init__(self, worker):
        self.process = subprocess.Popen(worker, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **job):
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert "error" not in answer, answer
        return answer


def of_length(ids_of, length):
    """Words and more of the text that has so many tokens, with its ids."""
    low, high = 0, length
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(ids_of(text(middle, 0))[0]) <= length else (low, middle - 1)
    more = length - len(ids_of(text(low, 0))[0])
    while len(ids_of(text(low, more))[0]) > length:
        more -= 1
    return low, more, *ids_of(text(low, more))


def decoder_items(llama, file, arch, keys, tensors, same):
    forward = Decoder(arch, keys, tensors)
    original = keys.get(f"{arch}.rope.scaling.original_context_length") if "rope_factors_long.weight" in tensors else None
    for length in LENGTHS:
        ids = prompt(length)
        ours = forward.logits(ids)
        # llama.cpp chooses among LongRoPE's factors by the size of its context.
        context = original if original is not None and length <= original else 2304
        theirs = llama.ask(file=file, mode="logits", ids=ids, context=context)["values"] if same else ours
        yield {"tokens": length, "best": int(ours.argmax()), "values": zoo.encoded(ours[length % 8 :: 8])}, np.abs(ours - theirs).max()


def embedding_items(llama, file, arch, keys, tensors):
    forward = zoo.Pass(arch, keys, tensors)
    for length in LENGTHS:
        ids_of = lambda of: (llama.ask(file=file, mode="tokenize", text=of)["ids"],)
        words, more, ids = of_length(ids_of, length)
        ours, theirs = forward.embedding(ids), llama.ask(file=file, mode="embed", ids=ids)["values"]
        yield {"tokens": len(ids), "words": words, "more": more, "ids": digest(ids), "values": zoo.encoded(ours)}, np.abs(ours - theirs).max()


def score_items(llama, file, name, arch, keys, tensors, same):
    forward = zoo.Pass(arch, keys, tensors)

    def pair(document):
        if arch == "qwen3":
            filled = zoo.RERANK_TEMPLATE.replace("{query}", QUERY).replace("{document}", document)
            return llama.ask(file=file, mode="tokenize", text=filled, bare=True)["ids"], None
        one, other = (llama.ask(file=file, mode="tokenize", text=each, bare=True) for each in (QUERY, document))
        return zoo.pair_ids(name.split("-")[0], one["special"], one["ids"], other["ids"])

    for length in LENGTHS[2:]:
        words, more, ids, second = of_length(pair, length)
        ours = forward.score(ids, second)
        theirs = llama.ask(file=file, mode="embed", ids=ids)["values"][0] if same else ours
        yield {"tokens": len(ids), "words": words, "more": more, "values": zoo.encoded([ours])}, abs(ours - theirs)
    scores = [forward.score(*pair(text(words, 0))) for words in RANKED]
    assert np.diff(np.sort(scores)).min() > 1e-5, "scores too close to tell an order"
    yield {"ranked": np.argsort(scores)[::-1].tolist()}, 0


def digest(ids):
    return hashlib.sha256(",".join(map(str, ids)).encode()).hexdigest()[:16]


def main():
    llama = Llama(sys.argv[1:])
    golden = {}
    with tempfile.TemporaryDirectory() as folder:
        for case, (name, more, same) in CASES.items():
            arch, keys, tensors = read(name, more)
            file = written(folder, name, arch, keys, tensors) if name not in MEANT else None
            pooling = keys.get(f"{arch}.pooling_type")
            if pooling is None:
                mode, made = "logits", decoder_items(llama, file, arch, keys, tensors, same)
            elif pooling == 4:
                mode, made = "rank", score_items(llama, file, name, arch, keys, tensors, same)
            else:
                mode, made = "embed", embedding_items(llama, file, arch, keys, tensors)
            items, differences = zip(*made)
            golden[case] = {"file": name, "keys": more, "mode": mode, "llama_difference": float(f"{max(differences):.2g}") if same else None, "items": items}
            print(case, [item.get("tokens") for item in items], ["%.1e" % each for each in differences], flush=True)
    lines = ",\n".join(f"{json.dumps(case)}: {json.dumps(entry)}" for case, entry in golden.items())
    (HERE / "goldens" / "long-texts.json").write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()
