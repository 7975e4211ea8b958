#!/usr/bin/env python3
"""Random models of the kinds that embed and rerank, and what they give in float64: zoo/*.gguf, goldens/embedding-zoo.json.

    python3 -m venv VENV && VENV/bin/pip install gguf==0.19.0 numpy
    VENV/bin/python make-embedding-zoo.py LLAMA_WORKER

LLAMA_WORKER is the command that runs llama-worker.mjs beside a node_modules with node-llama-cpp 3.22.1. Token ids are
llama.cpp's. Numbers are those of the float64 passes below (GELU in its tanh form); llama.cpp's own are compared with them
where it computes the same, and the largest difference is kept in the golden. Vocabularies come from the older zoo.
"""
import base64
import json
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np

HERE = Path(__file__).resolve().parent
SEED = 20261128
TEXTS = [
    "Hello world",
    "The cat sat on the mat.",
    "A model reads the text and predicts the next token from the ones before it.",
    "naïve café",
    "One day, a small cat and a big dog went to the park. The cat saw a red ball on the grass. \"Can we play with it?\" asked the cat.",
]
PAIRS = [
    ["What did the cat see?", "The cat saw a red ball on the grass."],
    ["What did the cat see?", "Stock prices fell sharply today."],
    ["Hello", "The answer is that the model reads the text."],
]


# ------------------------------------------------------------------------------------------------ vocabularies
def fields_of(name):
    """Metadata tokenizer.* of a file of the zoo as (key, value, type) triples."""
    reader = gguf.GGUFReader(HERE / "zoo" / f"{name}.gguf")
    return {key: field for key, field in reader.fields.items() if key.startswith("tokenizer.")}


def put_vocabulary(writer, name, more={}):
    for key, field in fields_of(name).items():
        if key in more or key == "tokenizer.chat_template":
            continue
        kind, *element = field.types
        value = field.contents()
        writer.add_key_value(key, value, kind, element[0] if element else None)
    for key, value in more.items():
        put(writer, key, value)


def put(writer, key, value):
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def character_map(pairs):
    """SentencePiece's precompiled map of replacements: a double-array trie, then texts ended by zero."""
    texts, trie = b"", {}
    for source, target in pairs:
        node = trie
        for byte in source.encode():
            node = node.setdefault(byte, {})
        node[0] = len(texts)
        texts += target.encode() + b"\0"
    units, used = [0] * 1024, {0}

    def place(node, at):
        labels = sorted(node)
        offset = next(o for o in range(1, 512) if all((at ^ o ^ label) not in used for label in labels))
        # labels of a node stand at (its place) XOR (its offset) XOR (label)
        units[at] |= offset << 10 | (0x100 if 0 in node else 0)
        used.update(at ^ offset ^ label for label in labels)
        for label in labels:
            child = at ^ offset ^ label
            if label == 0:
                units[child] = node[0] | 0x80000000
            else:
                units[child] = label
                place(node[label], child)

    place(trie, 0)
    size = max(used) + 1
    blob = np.array(units[: size + 256], "<u4").tobytes()
    return len(blob).to_bytes(4, "little") + blob + texts


CHARACTER_MAP = character_map([("Ａ", "A"), ("ﬁ", "fi"), ("…", "..."), ("\u3000", " ")])


def unigram():
    """A unigram vocabulary as XLM-R has: <s>, <pad>, </s>, <unk>, then pieces with scores."""
    words = "the a cat dog saw red ball on grass hello world model read s text and predict next token from before it sat mat what did see stock price fell sharp ly today answer is that one day small big went to park can we play with asked".split()
    pieces = ["▁"] + ["▁" + word for word in words] + list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,!?\"'ïé")
    tokens = ["<s>", "<pad>", "</s>", "<unk>"] + list(dict.fromkeys(pieces + words)) + ["<mask>"]
    scores = [0.0] * 4 + [-1.0 - 0.03 * i for i in range(len(tokens) - 5)] + [0.0]
    types = [3, 3, 3, 2] + [1] * (len(tokens) - 5) + [3]
    return tokens, scores, types


def put_unigram(writer, charsmap):
    tokens, scores, types = unigram()
    writer.add_tokenizer_model("t5")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    more = {"bos_token_id": 0, "eos_token_id": 2, "unknown_token_id": 3, "seperator_token_id": 2, "padding_token_id": 1, "cls_token_id": 0, "mask_token_id": len(tokens) - 1}
    more |= {"add_space_prefix": True, "remove_extra_whitespaces": True, "token_type_count": 1, "add_bos_token": True, "add_eos_token": True}
    for key, value in more.items():
        put(writer, f"tokenizer.ggml.{key}", value)
    if charsmap == "bytes":
        writer.add_precompiled_charsmap(CHARACTER_MAP)
    else:  # as Ollama's converter wrote it: base64, a text a character
        writer.add_array("tokenizer.ggml.precompiled_charsmap", list(base64.b64encode(CHARACTER_MAP).decode()))
    return len(tokens)


# ------------------------------------------------------------------------------------------------ float64 passes
def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def silu(x):
    return x / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


class Pass:
    """The forward pass of one model over one text, all tokens at once."""

    def __init__(self, arch, keys, tensors):
        self.arch, self.keys, self.t = arch, keys, {name: value.astype(np.float64) for name, value in tensors.items()}

    def key(self, name, otherwise=None):
        return self.keys.get(f"{self.arch}.{name}", otherwise)

    def linear(self, x, name):
        out = x @ self.t[f"{name}.weight"].T
        return out + self.t[f"{name}.bias"] if f"{name}.bias" in self.t else out

    def norm(self, x, name):
        weight = self.t[f"{name}.weight"]
        if self.rms:
            return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * weight
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * weight + self.t[f"{name}.bias"]

    def rotate(self, x, base):  # (tokens, heads, size), halves
        size = x.shape[-1]
        angles = np.outer(np.arange(len(x)), base ** (-np.arange(0, size, 2) / size))[:, None]
        a, b = x[..., : size // 2], x[..., size // 2 :]
        return np.concatenate([a * np.cos(angles) - b * np.sin(angles), b * np.cos(angles) + a * np.sin(angles)], -1)

    def states(self, ids, second=None):
        """Hidden states (tokens, dim); `second` is where the second text of a pair begins."""
        key, t, n = self.key, self.t, len(ids)
        dim, heads = key("embedding_length"), key("attention.head_count")
        kv_heads, size = key("attention.head_count_kv", heads), key("attention.key_length", dim // heads)
        self.rms = self.arch in ("gemma-embedding", "qwen3")
        self.eps = key("attention.layer_norm_rms_epsilon" if self.rms else "attention.layer_norm_epsilon")
        gemma = self.arch == "gemma-embedding"
        x = t["token_embd.weight"][ids] * (np.sqrt(dim) if gemma else 1)
        if "token_types.weight" in t:
            types = np.zeros(n, int)
            types[n if second is None else second :] = 1
            x = x + t["token_types.weight"].reshape(-1, dim)[np.minimum(types, t["token_types.weight"].size // dim - 1)]
        if "position_embd.weight" in t:
            x = x + t["position_embd.weight"][:n]
        if "token_embd_norm.weight" in t:
            x = self.norm(x, "token_embd_norm")
        distance = np.arange(n)[:, None] - np.arange(n)[None]
        for layer in range(key("block_count")):
            at = f"blk.{layer}."
            local = gemma and layer % 6 != 5
            h = self.norm(x, at + "attn_norm") if self.rms else x
            if f"{at}attn_qkv.weight" in t:
                q, k, v = np.split(self.linear(h, at + "attn_qkv"), [heads * size, (heads + kv_heads) * size], -1)
            else:
                q, k, v = (self.linear(h, at + f"attn_{role}") for role in "qkv")
            q, k, v = (each.reshape(n, -1, size) for each in (q, k, v))
            if f"{at}attn_q_norm.weight" in t:
                q, k = self.norm(q, at + "attn_q_norm"), self.norm(k, at + "attn_k_norm")
            if "position_embd.weight" not in t:
                base = key("rope.freq_base_swa", 10000.0) if local else key("rope.freq_base")
                q, k = self.rotate(q, base), self.rotate(k, base)
            k, v = (np.repeat(each, heads // kv_heads, 1) for each in (k, v))
            scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(size)
            hidden = np.zeros((n, n), bool)
            if local:
                hidden = np.abs(distance) > key("attention.sliding_window") // 2
            if self.arch == "qwen3":
                hidden = distance < 0
            weights = softmax(np.where(hidden, -np.inf, scores))
            h = self.linear(np.einsum("hij,jhd->ihd", weights, v).reshape(n, -1), at + "attn_output")
            if gemma:
                h = self.norm(h, at + "post_attention_norm")
            x = x + h
            if not self.rms:
                x = self.norm(x, at + "attn_output_norm")
            h = self.norm(x, at + "ffn_norm") if self.rms else x
            if f"{at}ffn_gate_inp.weight" in t:
                h = self.experts(h, at)
            elif f"{at}ffn_gate.weight" in t:
                h = (gelu if gemma else silu)(self.linear(h, at + "ffn_gate")) * self.linear(h, at + "ffn_up")
                h = self.linear(h, at + "ffn_down")
            else:
                h = self.linear(gelu(self.linear(h, at + "ffn_up")), at + "ffn_down")
            if gemma:
                h = self.norm(h, at + "post_ffw_norm")
            x = x + h
            if not self.rms:
                x = self.norm(x, at + "layer_output_norm")
        return self.norm(x, "output_norm") if self.rms else x

    def experts(self, h, at):
        shares = softmax(self.linear(h, at + "ffn_gate_inp"))
        out = np.zeros_like(h)
        for row, share in enumerate(shares):
            for expert in np.argsort(-share)[: self.key("expert_used_count")]:
                inner = gelu(self.t[at + "ffn_up_exps.weight"][expert] @ h[row])
                out[row] += share[expert] * (self.t[at + "ffn_down_exps.weight"][expert] @ inner)
        return out

    def embedding(self, ids):
        states, pooling = self.states(ids), self.key("pooling_type", 1)
        pooled = {1: states.mean(0), 2: states[0], 3: states[-1]}[pooling]
        for head in ("dense_2", "dense_3"):
            if f"{head}.weight" in self.t:
                pooled = self.linear(pooled, head)
        return pooled

    def score(self, ids, second):
        states = self.states(ids, second)
        x = states[-1] if self.arch == "qwen3" else states[0]
        if "cls.weight" in self.t:
            x = np.tanh(self.linear(x, "cls"))
        if "cls.output.weight" in self.t:
            x = self.linear(x, "cls.output")
        return softmax(x)[0] if self.arch == "qwen3" else x[0]


# ------------------------------------------------------------------------------------------------ models
class Model:
    def __init__(self, name, arch, keys, seed=None):
        self.name, self.arch, self.tensors = name, arch, {}
        self.keys = {f"{arch}.{key}": value for key, value in keys.items()}
        self.random = np.random.default_rng([SEED, *(seed or name).encode()])

    def add(self, name, *shape, std=1.0, mean=0.0):
        self.tensors[name] = (mean + std * self.random.standard_normal(shape)).astype(np.float32)

    def linear(self, name, rows, cols, gain=1.2, bias=0.0):
        self.add(f"{name}.weight", rows, cols, std=gain / np.sqrt(cols))
        if bias:
            self.add(f"{name}.bias", rows, std=bias)

    def norm(self, name, size, bias=True):
        self.add(f"{name}.weight", size, std=0.2, mean=1)
        if bias:
            self.add(f"{name}.bias", size, std=0.1)

    def write(self, put_tokenizer, architecture=None, more={}, rename=lambda name: name):
        file = HERE / "zoo" / f"{self.name}.gguf"
        writer = gguf.GGUFWriter(file, architecture or self.arch)
        # llama.cpp looks for tokens of the real model where the name has phi3 in it.
        writer.add_name(f"random weights {self.name.replace('phi3', 'phi')}")
        writer.add_file_type(0)
        for key, value in {**self.keys, **more}.items():
            put(writer, key.replace(f"{self.arch}.", f"{architecture or self.arch}.", 1), value)
        put_tokenizer(writer)
        for name, value in self.tensors.items():
            writer.add_tensor(rename(name), value)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return file


def bert(name, vocabulary, *, arch="bert", dim=48, heads=3, hidden=104, layers=3, context=160, types=2, keys={}, experts=0, **how):
    """BERT and those that are like it; odd widths, so that a wrong shape shows."""
    nomic = arch != "bert"
    common = {"block_count": layers, "context_length": context, "embedding_length": dim, "feed_forward_length": hidden, "attention.head_count": heads}
    m = Model(name, arch, {**common, "attention.layer_norm_epsilon": 1e-5, "attention.causal": False, "pooling_type": 1, **keys}, how.get("seed"))
    m.add("token_embd.weight", vocabulary, dim, std=0.6)
    m.add("token_types.weight", *((types, dim) if types > 1 else (dim,)), std=0.4)
    if not nomic:
        m.add("position_embd.weight", context, dim, std=0.3)
    m.norm("token_embd_norm", dim)
    bias = 0.0 if arch == "nomic-bert" else 0.2
    for layer in range(layers):
        at = f"blk.{layer}."
        if nomic:
            m.linear(at + "attn_qkv", 3 * dim, dim, 1.4, bias)
        else:
            for role in "qkv":
                m.linear(at + f"attn_{role}", dim, dim, 1.4, bias)
        m.linear(at + "attn_output", dim, dim, 1.2, bias)
        m.norm(at + "attn_output_norm", dim)
        if experts and layer % 2 == 1:
            m.linear(at + "ffn_gate_inp", experts, dim, 2)
            m.add(at + "ffn_up_exps.weight", experts, hidden, dim, std=1.2 / np.sqrt(dim))
            m.add(at + "ffn_down_exps.weight", experts, dim, hidden, std=1.2 / np.sqrt(hidden))
        else:
            if arch == "nomic-bert":
                m.linear(at + "ffn_gate", hidden, dim)
            m.linear(at + "ffn_up", hidden, dim, 1.2, bias)
            m.linear(at + "ffn_down", dim, hidden, 1.2, bias)
        m.norm(at + "layer_output_norm", dim)
    if "cls" in how:
        if how["cls"] == "both":
            m.linear("cls", dim, dim, 1.2, 0.2)
        m.linear("cls.output", 1, dim, 2, 0.3)
    return m


def gemma_embedding(name, vocabulary, seed):
    dim, heads, kv, size, hidden, layers = 40, 3, 1, 16, 72, 7
    keys = {"block_count": layers, "context_length": 512, "embedding_length": dim, "feed_forward_length": hidden, "attention.head_count": heads, "attention.head_count_kv": kv}
    keys |= {"attention.key_length": size, "attention.value_length": size, "attention.layer_norm_rms_epsilon": 1e-6, "attention.sliding_window": 16, "rope.freq_base": 1e6, "pooling_type": 1}
    keys |= {"dense_2_feat_in": dim, "dense_2_feat_out": 120, "dense_3_feat_in": 120, "dense_3_feat_out": dim}
    m = Model(name, "gemma-embedding", keys, seed)
    m.add("token_embd.weight", vocabulary, dim, std=0.1)
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
        m.linear(at + "ffn_gate", hidden, dim)
        m.linear(at + "ffn_up", hidden, dim)
        m.linear(at + "ffn_down", dim, hidden)
        m.add(at + "post_ffw_norm.weight", dim, std=0.3, mean=1.2)
    m.norm("output_norm", dim, False)
    m.linear("dense_2", 120, dim)
    m.linear("dense_3", dim, 120)
    return m


def qwen3(name, vocabulary, keys, labels=0):
    dim, heads, kv, size, hidden, layers = 48, 4, 2, 16, 88, 3
    common = {"block_count": layers, "context_length": 512, "embedding_length": dim, "feed_forward_length": hidden, "attention.head_count": heads, "attention.head_count_kv": kv}
    common |= {"attention.key_length": size, "attention.value_length": size, "attention.layer_norm_rms_epsilon": 1e-6, "rope.freq_base": 1e6}
    m = Model(name, "qwen3", {**common, **keys})
    m.add("token_embd.weight", vocabulary, dim, std=0.25)
    for layer in range(layers):
        at = f"blk.{layer}."
        m.norm(at + "attn_norm", dim, False)
        for role, rows in (("q", heads * size), ("k", kv * size), ("v", kv * size)):
            m.linear(at + f"attn_{role}", rows, dim)
        m.linear(at + "attn_output", dim, heads * size, 1.4)
        for role in "qk":
            m.add(f"{at}attn_{role}_norm.weight", size, std=0.3, mean=1.2)
        m.norm(at + "ffn_norm", dim, False)
        m.linear(at + "ffn_gate", hidden, dim, 1.3)
        m.linear(at + "ffn_up", hidden, dim, 1.3)
        m.linear(at + "ffn_down", dim, hidden, 1.3)
    m.norm("output_norm", dim, False)
    if labels:
        m.linear("cls.output", labels, dim, 2)
    return m


RERANK_TEMPLATE = "<|im_start|>system\nAnswer yes or no.<|im_end|>\n<|im_start|>user\n<Query>: {query}\n<Document>: {document}<|im_end|>\n<|im_start|>assistant\n"


def models():
    wordpiece = lambda more={}: lambda writer: put_vocabulary(writer, "bert-tiny-f32", more)
    roberta = lambda writer: put_vocabulary(writer, "qwen2-tiny-f32", {"tokenizer.ggml.token_type_count": 1, "tokenizer.ggml.pre": "roberta-bpe", "tokenizer.ggml.bos_token_id": 510, "tokenizer.ggml.eos_token_id": 511, "tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.add_eos_token": True})
    spm = lambda writer: put_vocabulary(writer, "gemma3-tiny-f32", {"tokenizer.ggml.add_eos_token": True})
    qwen = lambda more={}: lambda writer: put_vocabulary(writer, "qwen2-tiny-f32", {"tokenizer.ggml.eos_token_id": 509, "tokenizer.ggml.add_eos_token": True, **more})
    pieces = len(unigram()[0])
    yield bert("nomic-bert-f32", 512, arch="nomic-bert", keys={"rope.freq_base": 1000.0}), wordpiece(), "embed"
    moe = {"rope.freq_base": 10000.0, "moe_every_n_layers": 2, "expert_count": 5, "expert_used_count": 2}
    yield bert("nomic-bert-moe-f32", pieces, arch="nomic-bert-moe", types=1, experts=5, layers=4, keys=moe), lambda w: put_unigram(w, "bytes"), "embed"
    yield gemma_embedding("gemma-embedding-f32", 512, "gemma-embedding"), spm, "embed"
    yield qwen3("qwen3-embedding-f32", 512, {"pooling_type": 3}), qwen(), "embed"
    yield bert("roberta-bpe-f32", 512, types=1, keys={"pooling_type": 2}), roberta, "embed"
    yield bert("xlm-roberta-f32", pieces, types=1, keys={"pooling_type": 2}), lambda w: put_unigram(w, "bytes"), "embed"
    yield bert("bert-reranker-f32", 512, cls="both", keys={"pooling_type": 4}), wordpiece(), "rank"
    yield bert("xlm-roberta-reranker-f32", pieces, types=1, cls="both", keys={"pooling_type": 4}), lambda w: put_unigram(w, "bytes"), "rank"
    yield qwen3("qwen3-reranker-f32", 512, {"pooling_type": 4, "classifier.output_labels": ["yes", "no"]}, 2), qwen({"tokenizer.ggml.add_eos_token": False, "tokenizer.chat_template.rerank": RERANK_TEMPLATE}), "rank"


def ollama_forms():
    """The same weights as some of `models`, in the form of files that Ollama's converter made."""
    seed = "gemma-embedding"
    m = gemma_embedding("ollama-embeddinggemma-f32", 512, seed)
    names = {"dense_2.weight": "dense.0.weight", "dense_3.weight": "dense.1.weight"}
    pattern = [layer % 6 != 5 for layer in range(7)]
    more = {"gemma-embedding.attention.causal": False, "gemma-embedding.attention.sliding_window_pattern": pattern}
    spm = lambda writer: put_vocabulary(writer, "gemma3-tiny-f32", {"tokenizer.ggml.add_eos_token": True})
    m.write(spm, "gemma3", more, lambda name: names.get(name, name))
    pieces = len(unigram()[0])
    bert("ollama-xlm-roberta-f32", pieces, types=1, keys={"pooling_type": 2, "normalize_embeddings": True}, seed="xlm-roberta-f32").write(lambda w: put_unigram(w, "characters"))


def llama(worker, jobs):
    lines = "".join(json.dumps(job) + "\n" for job in jobs)
    out = subprocess.run(worker, input=lines, capture_output=True, text=True, check=True)
    answers = [json.loads(line) for line in out.stdout.splitlines()]
    assert not any("error" in answer for answer in answers), answers
    return answers


def pair_ids(kind, tokens, query, document):
    """Ids of a pair, as transformers makes them, and where the second text begins."""
    if kind == "bert":
        first = [tokens["bos"], *query, tokens["sep"]]
        return [*first, *document, tokens["sep"]], len(first)
    first = [tokens["bos"], *query, tokens["eos"]]
    return [*first, tokens["eos"], *document, tokens["eos"]], len(first)


def encoded(values):
    return base64.b64encode(np.asarray(values, "<f4").tobytes()).decode()


def main():
    worker = sys.argv[1:]
    golden = {}
    for m, vocabulary, mode in models():
        file = str(m.write(vocabulary))
        forward = Pass(m.arch, m.keys, m.tensors)
        entry = {"mode": mode, "items": []}
        worst = 0.0
        if mode == "embed":
            tokenized = llama(worker, [{"file": file, "mode": "tokenize", "text": text} for text in TEXTS])
            ids = [each["ids"] for each in tokenized]
            theirs = llama(worker, [{"file": file, "mode": "embed", "ids": each} for each in ids])
            for text, each, their in zip(TEXTS, ids, theirs):
                ours = forward.embedding(each)
                worst = max(worst, np.abs(ours - np.array(their["values"])).max())
                entry["items"].append({"text": text, "ids": each, "embedding": encoded(ours)})
        else:
            texts = [text for pair in PAIRS for text in pair]
            if m.arch == "qwen3":
                texts = [RERANK_TEMPLATE.replace("{query}", q).replace("{document}", d) for q, d in PAIRS]
            bare = llama(worker, [{"file": file, "mode": "tokenize", "text": text, "bare": True} for text in texts])
            for i, (query, document) in enumerate(PAIRS):
                if m.arch == "qwen3":
                    ids, second = bare[i]["ids"], None
                else:
                    one, other = bare[2 * i], bare[2 * i + 1]
                    ids, second = pair_ids(m.name.split("-")[0], one["special"], one["ids"], other["ids"])
                score = forward.score(ids, second)
                # llama.cpp gives every token the first type.
                (their,) = llama(worker, [{"file": file, "mode": "embed", "ids": ids}])
                worst = max(worst, abs(forward.score(ids, None) - their["values"][0]))
                entry["items"].append({"query": query, "document": document, "ids": ids, "second": second, "score": float(score)})
        entry["llama_difference"] = float(f"{worst:.2g}")
        print(m.name, Path(file).stat().st_size, "bytes; llama.cpp differs by", entry["llama_difference"], flush=True)
        golden[m.name] = entry
    ollama_forms()
    (HERE / "goldens" / "embedding-zoo.json").write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
