#!/usr/bin/env python3
"""Logits of a llama in GGUF by a float64 forward pass, to compare engines with that round activations.
  python3 float64-logits.py MODEL ID ...     one line: the logits after the last id, base64 of little-endian float32
F32 and Q8_0 tensors only; a matrix is read as it is used, so memory stays at some hundred megabytes. Needs numpy.
"""
import base64
import mmap
import struct
import sys

import numpy as np

ROWS = 2048  # of a matrix at a time
BLOCK = np.dtype([("scale", "<f2"), ("integers", "i1", 32)])  # Q8_0
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9


class Model:
    def __init__(self, path):
        with open(path, "rb") as file:
            self.bytes = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        self.at = 8
        tensors, keys = self.scalar("Q"), self.scalar("Q")
        self.metadata = {self.text(): self.value(self.scalar("I")) for _ in range(keys)}
        self.tensors = {}
        for _ in range(tensors):
            name = self.text()
            shape = [self.scalar("Q") for _ in range(self.scalar("I"))]
            self.tensors[name] = (shape, self.scalar("I"), self.scalar("Q"))
        self.data = (self.at + 31) // 32 * 32

    def scalar(self, code):
        (value,) = struct.unpack_from("<" + code, self.bytes, self.at)
        self.at += struct.calcsize("<" + code)
        return value

    def text(self):
        length = self.scalar("Q")
        self.at += length
        return self.bytes[self.at - length : self.at].decode("utf8", "replace")

    def value(self, kind):
        if kind == STRING:
            return self.text()
        if kind == ARRAY:
            element = self.scalar("I")
            return [self.value(element) for _ in range(self.scalar("Q"))]
        return self.scalar(SCALARS[kind])

    def rows(self, name, which=slice(None)):
        """Rows of a matrix, or a vector, as float64."""
        shape, kind, offset = self.tensors[name]
        count = int(np.prod(shape))
        if kind == 0:
            return np.frombuffer(self.bytes, "<f4", count, self.data + offset).reshape(shape[::-1])[which].astype(np.float64)
        assert kind == 8, f"tensor {name} has type {kind}, expected F32 (0) or Q8_0 (8)"
        blocks = np.frombuffer(self.bytes, BLOCK, count // 32, self.data + offset).reshape(shape[1], -1)[which]
        return (blocks["integers"] * blocks["scale"].astype(np.float64)[..., None]).reshape(len(blocks), shape[0])

    def product(self, x, name):
        """x (tokens, cols) times a matrix: (tokens, rows)."""
        rows = self.tensors[name][0][1]
        return np.concatenate([x @ self.rows(name, slice(r, r + ROWS)).T for r in range(0, rows, ROWS)], axis=1)


def logits(model, ids):
    def key(name):
        return model.metadata["llama." + name]

    dim, heads, kv_heads = key("embedding_length"), key("attention.head_count"), key("attention.head_count_kv")
    size, epsilon, tokens = dim // heads, key("attention.layer_norm_rms_epsilon"), len(ids)
    angles = np.outer(np.arange(tokens), key("rope.freq_base") ** (-np.arange(0, size, 2) / size))
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    future = np.arange(tokens)[None] > np.arange(tokens)[:, None]

    def norm(x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * model.rows(name)

    def rotate(x):  # (tokens, heads, size), pairs (2i, 2i + 1)
        a, b = x[..., 0::2], x[..., 1::2]
        return np.stack([a * cos - b * sin, a * sin + b * cos], axis=-1).reshape(x.shape)

    x = model.rows("token_embd.weight", ids)
    for layer in range(key("block_count")):
        at = f"blk.{layer}."
        h = norm(x, at + "attn_norm.weight")
        q, k, v = (model.product(h, f"{at}attn_{role}.weight").reshape(tokens, -1, size) for role in "qkv")
        k, v = (np.repeat(each, heads // kv_heads, axis=1) for each in (rotate(k), v))
        scores = np.where(future, -np.inf, np.einsum("ihd,jhd->hij", rotate(q), k) / np.sqrt(size))
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        x = x + model.product(np.einsum("hij,jhd->ihd", weights, v).reshape(tokens, dim), at + "attn_output.weight")
        h = norm(x, at + "ffn_norm.weight")
        gate = model.product(h, at + "ffn_gate.weight")
        h = gate / (1 + np.exp(-gate)) * model.product(h, at + "ffn_up.weight")
        x = x + model.product(h, at + "ffn_down.weight")
    output = "output.weight" if "output.weight" in model.tensors else "token_embd.weight"
    return model.product(norm(x[-1:], "output_norm.weight"), output)[0]


if __name__ == "__main__":
    result = logits(Model(sys.argv[1]), [int(word) for word in sys.argv[2:]])
    print(base64.b64encode(result.astype("<f4").tobytes()).decode())
