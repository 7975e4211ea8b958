#!/usr/bin/env python3
"""Embeddings of a Sentence Transformers folder with torch or ONNX Runtime, mean pooling, length 1:

    python embed.py torch|onnx FOLDER THREADS < TEXTS.json        -> one JSON line: seconds, the batch's size, the first vector

FOLDER has model.onnx for the latter. The warm-up takes the size of batches that is fastest on a part of the texts; what is timed begins
with texts and ends with vectors.
"""
import json
import sys
import time
from pathlib import Path

import numpy as np

BATCHES = (1, 4, 16, 32)
WARM_UP = 32


def by_torch(folder, threads):
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    model = SentenceTransformer(str(folder), device="cpu")
    return lambda texts, batch: model.encode(texts, batch_size=batch, normalize_embeddings=True, show_progress_bar=False)


def by_onnx(folder, threads):
    import onnxruntime
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    names = {each.name for each in session.get_inputs()}

    def some(texts):
        encoded = tokenizer.encode_batch(texts)
        ids = np.array([each.ids for each in encoded])
        mask = np.array([each.attention_mask for each in encoded])
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        states = session.run(None, {name: value for name, value in given.items() if name in names})[0]
        pooled = (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)
        return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)

    return lambda texts, batch: np.concatenate([some(texts[i : i + batch]) for i in range(0, len(texts), batch)])


def main():
    engine, folder, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    embed = {"torch": by_torch, "onnx": by_onnx}[engine](folder, threads)
    texts = json.load(sys.stdin)

    def seconds(some, batch):
        started = time.perf_counter()
        vectors = embed(some, batch)
        return time.perf_counter() - started, vectors

    embed(texts[:WARM_UP], WARM_UP)
    batch = min(BATCHES, key=lambda size: seconds(texts[:WARM_UP], size)[0])
    took, vectors = seconds(texts, batch)
    print(json.dumps({"seconds": took, "batch": batch, "vector": [float(x) for x in vectors[0]]}))


main()
