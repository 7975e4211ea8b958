#!/usr/bin/env python3
"""Embeddings of real models by their own ONNX graphs: real-embeddings.json of real-embeddings.test.ts.

    python3 -m venv VENV && VENV/bin/pip install onnxruntime==1.22.1 tokenizers==0.21.4 numpy
    VENV/bin/python make-real-embedding-golden.py OUT.json FOLDER...

FOLDERs are those that real-embedding-models.ts made. Tokens are those of Hugging Face's tokenizers, pooling and prefixes
those of the makers' model cards. Kept are half floats, which turn no embedding by as much as 1e-6.
"""
import base64
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

PREFIXES = {
    "bge-small-en-v1.5": ("Represent this sentence for searching relevant passages: ", ""),
    "e5-small-v2": ("query: ", "passage: "),
    "bge-small-zh-v1.5": ("为这个句子生成表示以用于检索相关文章：", ""),
}
LIMIT = 512
QUERIES = [
    "how do vaccines work",
    "What is the capital of France?",
    "best way to cook rice",
    "postgres index is not used",
    "symptoms of a cold",
]
DOCUMENTS = [
    "A vaccine trains the immune system to recognise a pathogen, so that it answers faster when it meets it again.",
    "Paris has been France's capital since the 10th century; the Seine runs through it.",
    "Rinse the rice, then simmer one part of it in two parts of water until the water is gone.",
    "The planner prefers a sequential scan where a table is small or its statistics are stale; run ANALYZE.",
    "A runny nose, a sore throat and sneezing are what most people have for a week.",
    "Naïve café owners in Zürich charge 4€50 — für einen Espresso! 日本語 テキスト",
    "def binary_search(values, wanted):\n    low, high = 0, len(values)",
    "The stock market fell by 3% on Tuesday, led by chip makers.",
    "Immunity after an infection may last for years.",
    "Rice grows in flooded fields called paddies, and feeds half of the world. " * 60,
]
PAIRS = [[q, (2 * q + step) % len(DOCUMENTS)] for q in range(len(QUERIES)) for step in (0, 1, 4, 7)]


def main():
    out, folders = sys.argv[1], [Path(each) for each in sys.argv[2:]]
    golden = {"queries": QUERIES, "documents": DOCUMENTS, "pairs": PAIRS, "models": {}}
    for folder in folders:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.enable_truncation(LIMIT)
        session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
        first = "pooling_mode_cls_token" in json.loads((folder / "1_Pooling/config.json").read_text())

        def embed(text):
            ids = np.array([tokenizer.encode(text).ids])
            ones = np.ones_like(ids)
            (states,) = session.run(None, {"input_ids": ids, "attention_mask": ones, "token_type_ids": 0 * ids})
            pooled = (states[0, 0] if first else states[0].mean(0)).astype(np.float64)
            return ids[0].tolist(), pooled / np.linalg.norm(pooled)

        query, document = PREFIXES[folder.name]
        made = [[embed(query + text) for text in QUERIES], [embed(document + text) for text in DOCUMENTS]]
        scores = sorted(made[0][q][1] @ made[1][d][1] for q, d in PAIRS)
        print(folder.name, "closest scores", np.diff(scores).min())
        half = lambda each: [{"tokens": len(ids), "f16": base64.b64encode(vector.astype("<f2").tobytes()).decode()} for ids, vector in each]
        digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
        golden["models"][folder.name] = {"sha256": digest, "queries": half(made[0]), "documents": half(made[1])}
    Path(out).write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
