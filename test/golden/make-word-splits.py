# Splits texts into words as the tokenizers of GPT-4o, Mistral's Tekken and DeepSeek do, with Hugging Face's tokenizers, and
# writes word-splits.json beside this file.
#   pip install tokenizers
#   python3 test/golden/make-word-splits.py
# The regular expressions are those of the models' tokenizer.json, as llama.cpp cites them in llama-vocab.cpp.
import json
import random
from pathlib import Path

import tokenizers
from tokenizers import Regex
from tokenizers.pre_tokenizers import Sequence, Split

UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def cased(digits, contraction):
    prefix = r"[^\r\n\p{L}\p{N}]?"
    return f"{prefix}{UPPER}*{LOWER}+{contraction}|{prefix}{UPPER}+{LOWER}*{contraction}|{digits}{REST}"


CASED = "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\u1f7dᾀ-ᾴᾶ-ᾼ\u1fbeῂ-ῄῆ-ῌῐ-\u1fd3ῖ-\u1fdbῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
EAST_ASIAN = "[一-龥ࠀ-一가-\ud7ff]+"
PATTERNS = {
    "gpt-4o": [cased(r"\p{N}{1,3}", CONTRACTION)],
    "tekken": [cased(r"\p{N}", "")],
    "deepseek-llm": ["[\r\n]", rf"\s?[{CASED}]+", "\\s?[!-/:-~！-／：-～‘-‟\u3000-。]+", r"\s+$", EAST_ASIAN, r"\p{N}+"],
    "deepseek-coder": ["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", EAST_ASIAN, r"\p{N}"],
}
TEXTS = [
    "Hello World, it's THE HTMLParser's I'LL do iPhone12 and 12345 don'T",
    "ÉCOLE Été naïve Straße ǅungla ΑΒΓ αβγ Привет МИР",
    "http://example.com/a//b\n/c  \r\n\r\n  x",
    "中文 漢字かな交じり文 한국어 텍스트 हिन्दी ไทย",
    "e\u0301a\u0300 \u0301\u0302x !\u0301A\u0301B -\u0301-",
    "tab\tand\u00a0nbsp\u3000wide  spaces   ",
    "x\u3000。「引用」—“quoted” ‘it’s’ a.b,c;d!?",
    "1 22 333 4444 ½ ٣٤ Ⅳ ① 一二三",
    "😀😀 👩‍👩‍👧 a😀B 🇩🇪 ™®",
    "camelCaseWordsLIKEThis_and_snake CONSTANT_NAME x2Y",
    "   leading", "trailing   ", "\n\n\n", " ", "'", "'s", "A's B'S c'll", "\t\n x", "a\u200bb\ufeffc", "",
]
POOL = list("aBcDéÉ'sStT12 \t\n\r/.,!?-_ʰªºǅ中かハ한ह्नิ\u0301\u0308\u3000\u00a0😀½Ⅳ") + ["'ll", "  ", "'RE"]


def words(name, text):
    pieces = Sequence([Split(Regex(pattern), "isolated") for pattern in PATTERNS[name]]).pre_tokenize_str(text)
    return [piece for piece, _ in pieces]


def main():
    drawn = random.Random(22)
    texts = TEXTS + ["".join(drawn.choices(POOL, k=drawn.randint(1, 40))) for _ in range(150)]
    golden = {
        "generator": {"tokenizers": tokenizers.__version__, "script": "make-word-splits.py"},
        "texts": texts,
        # The length of each word in code points.
        "words": {name: [[len(word) for word in words(name, text)] for text in texts] for name in PATTERNS},
    }
    Path(__file__).with_name("word-splits.json").write_text(json.dumps(golden, ensure_ascii=False) + "\n")
    print(f"{len(texts)} texts, {', '.join(PATTERNS)}")


main()
