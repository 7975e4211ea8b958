#!/usr/bin/env python3
"""nDCG@10 of all-MiniLM-L6-v2 by sentence-transformers: retrieval.json of retrieval.test.ts.

    python3 -m venv VENV && VENV/bin/pip install sentence-transformers==6.2.0 torch==2.15.0
    npx tsx test/golden/semanlink.ts SETS.json
    VENV/bin/python make-retrieval-golden.py MODEL_FOLDER SETS.json OUT.json

MODEL_FOLDER is that of minilm-file.ts. Vectors are floats, scores their products, ties in the order of the documents.
"""
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

DEPTH = 10


def ndcg(order, documents, relevant):
    """Gain 1 for what is relevant, discounted by log2 of rank + 1, over that of a perfect order."""
    found = sum(1 / np.log2(i + 2) for i, d in enumerate(order[:DEPTH]) if documents[d]["id"] in relevant)
    return found / sum(1 / np.log2(i + 2) for i in range(min(DEPTH, len(relevant))))


def main():
    folder, sets, out = sys.argv[1:4]
    model = SentenceTransformer(folder)
    golden = {"sha256": hashlib.sha256((Path(folder) / "model.safetensors").read_bytes()).hexdigest(), "sets": {}}
    for name, each in json.loads(Path(sets).read_text()).items():
        documents, queries = each["documents"], each["queries"]
        vectors = model.encode([d["text"] for d in documents], normalize_embeddings=True)
        asked = model.encode([q["text"] for q in queries], normalize_embeddings=True)
        scores = asked @ vectors.T
        gains = [ndcg(np.argsort(-s, kind="stable"), documents, set(q["relevant"])) for s, q in zip(scores, queries)]
        golden["sets"][name] = {
            "documents": len(documents),
            "queries": len(queries),
            "ndcg": {"all": np.mean(gains), "even": np.mean(gains[0::2]), "odd": np.mean(gains[1::2])},
        }
    Path(out).write_text(json.dumps(golden, indent=2) + "\n")


if __name__ == "__main__":
    main()
