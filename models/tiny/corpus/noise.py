"""Turns a tidy wording into what people type: greetings in front, courtesy, casing, lost punctuation, short forms, typing errors."""

from random import Random

GREETINGS = ["hi", "hello", "hey", "hi there", "hello there", "hey there", "good morning", "good evening", "good day", "howdy", "yo", "greetings", "hiya"]
ADDRESS = ["", "", "", "", "", " hartonomous", " buddy", " friend", " my friend", " computer", " bot", " assistant", " mate", " you"]
ASK = [
    "please tell me", "can you tell me", "could you tell me", "could you please tell me", "can you please tell me", "would you tell me", "tell me",
    "i want to know", "i would like to know", "i'd like to know", "i wonder", "i was wondering", "i am curious", "i'm curious", "just curious",
    "quick question", "one question", "i have a question", "question", "let me ask you", "may i ask", "can i ask", "do you know", "please", "please answer",
    "say", "so", "well", "ok", "okay", "now", "and", "but", "then", "um", "hmm", "ok so", "alright", "excuse me", "sorry but", "by the way", "also",
    "next question", "another question", "just tell me", "i need to know", "any idea", "help me out", "my question is", "answer me this", "honestly", "listen",
    "i forgot", "remind me", "for my homework", "for my boss", "i am new here", "i'm a beginner", "be honest", "in short", "in one sentence", "briefly",
]
COURTESY = [" please", " pls", ", please", " thanks", ", thanks", ", thank you", " for me", ", my friend", " exactly", " actually", " now", " today", " then", " btw", " again", " really", ", buddy", ", mate", " to me"]
SHORT = {
    "you": ["u", "ya"], "are": ["r"], "your": ["ur"], "please": ["pls", "plz"], "what": ["wat", "wut"], "thanks": ["thx", "tks"], "for": ["4"], "to": ["2"],
    "because": ["cuz"], "want to": ["wanna"], "going to": ["gonna"], "is": ["iz"], "the": ["da", "teh"], "about": ["abt"], "people": ["ppl"], "database": ["db"],
    "do not": ["dont"], "tell me": ["tell", "tel me"], "good": ["gud"], "what is": ["whats"], "who is": ["whos"], "how is": ["hows"], "and": ["n", "&"],
}
NEAR = {
    "a": "sq", "b": "vn", "c": "xv", "d": "sf", "e": "wr", "f": "dg", "g": "fh", "h": "gj", "i": "uo", "j": "hk", "k": "jl", "l": "k", "m": "n",
    "n": "bm", "o": "ip", "p": "o", "q": "w", "r": "et", "s": "ad", "t": "ry", "u": "yi", "v": "cb", "w": "qe", "x": "zc", "y": "tu", "z": "x",
}


SYNONYMS = {
    "stored": ["kept", "saved", "held"], "kept": ["stored", "saved"], "made": ["built", "created"], "created": ["made", "built"], "use": ["employ", "work with"], "explain": ["describe", "clarify"],
    "tell me": ["let me know", "inform me", "say"], "big": ["large"], "small": ["little", "tiny"], "start": ["begin", "launch"], "begin": ["start"], "answer": ["reply", "response"], "question": ["query", "request"],
    "want": ["wish", "would like"], "help": ["assist", "support"], "good": ["nice", "fine"], "database": ["db", "data base"], "program": ["software", "application"], "which": ["what"], "what": ["which"], "can": ["could", "may"],
    "could": ["can", "would"], "how do": ["how would", "how should", "how can"], "how can": ["how do", "how could", "how might"], "do i": ["should i", "must i", "would i", "can i"], "i'd like": ["i would like", "i want"],
    "people": ["folks", "someone"], "works": ["functions", "operates"], "run": ["work", "operate"], "computer": ["machine", "pc"], "word": ["term"], "show": ["give"], "really": ["truly", "actually"], "like": ["such as"],
}
FILLERS = ["really", "actually", "exactly", "please", "just", "maybe", "perhaps", "kindly", "simply", "quickly", "also", "here", "there", "now", "today", "in fact", "of course", "roughly", "basically", "honestly", "again", "at all", "somehow", "right now", "for me", "you know"]
TAILS = ["in there", "over there", "in here", "my little friend", "dear friend", "little model", "if you don't mind", "if you can", "when you have time", "if possible", "in your own words", "once more", "one more time", "to be precise", "after all", "by any chance", "for a start", "in plain words", "as far as you know", "if i may ask"]


def reword(text: str, random: Random) -> str:
    """Swap a word for a near one, slip in a filler, drop a small word, or add a tail; most texts stay as they are."""
    roll = random.random()
    if roll < 0.18:
        keys = [key for key in SYNONYMS if f" {key} " in f" {text} "]
        if keys:
            key = random.choice(keys)
            text = f" {text} ".replace(f" {key} ", f" {random.choice(SYNONYMS[key])} ", 1).strip()
    elif roll < 0.30:
        words = text.split(" ")
        if len(words) > 2:
            words.insert(random.randrange(1, len(words)), random.choice(FILLERS))
            text = " ".join(words)
    elif roll < 0.36:
        words = text.split(" ")
        small = [i for i, word in enumerate(words) if word in ("the", "a", "an", "do", "is", "are", "to", "of", "me", "please")]
        if small and len(words) > 3:
            del words[random.choice(small)]
            text = " ".join(words)
    elif roll < 0.42:
        text += random.choice(["", ","]) + " " + random.choice(TAILS)
    return text


def _typo(word: str, random: Random) -> str:
    """Return the word with one slip of the fingers inside it."""
    at = random.randrange(1, len(word) - 1)
    kind = random.randrange(4)
    if kind == 0:
        return word[:at] + word[at + 1] + word[at] + word[at + 2:]
    if kind == 1:
        return word[:at] + word[at + 1:]
    if kind == 2:
        return word[:at] + word[at] + word[at:]
    return word[:at] + random.choice(NEAR.get(word[at].lower(), word[at])) + word[at + 1:]


def add_typo(text: str, random: Random) -> str:
    """Put one typing error into a word of four letters or more, if there is one."""
    words = text.split(" ")
    long = [i for i, word in enumerate(words) if len(word) >= 4 and word.isalpha()]
    if long:
        at = random.choice(long)
        words[at] = _typo(words[at], random)
    return " ".join(words)


def _shorten(text: str, random: Random) -> str:
    keys = [key for key in SHORT if f" {key} " in f" {text} "]
    if not keys:
        return text
    key = random.choice(keys)
    return f" {text} ".replace(f" {key} ", f" {random.choice(SHORT[key])} ", 1).strip()


def _case(text: str, random: Random) -> str:
    roll = random.random()
    if roll < 0.52:
        return text[:1].upper() + text[1:]
    if roll < 0.90:
        return text.lower()
    if roll < 0.93:
        return text.upper()
    if roll < 0.96:
        return text.title()
    return text


def dress(text: str, question: bool, random: Random, lead: bool = True) -> str:
    """Return one lived-in variant of a tidy wording.

    `question` adds question marks and requests in front; `lead` allows a greeting in front.
    """
    if question and random.random() < 0.24:
        ask = random.choice(ASK)
        text = f"{ask}{random.choice(['', '', '', ',', ':'])} {text}"
    if question and random.random() < 0.08:
        text += random.choice(COURTESY)
    end = random.choice(["?", "?", "?", "?", "", "", "", "??", "...", ".", " ?"]) if question else random.choice(["", "", "", ".", ".", "!", "!", "!!", "..."])
    if not text.endswith(("?", "!", ".")):
        text += end
    if lead and random.random() < 0.14:
        greeting = random.choice(GREETINGS) + random.choice(ADDRESS)
        text = f"{greeting}{random.choice([',', ',', '!', '.', ''])} {text}"
    if random.random() < 0.10:
        text = _shorten(text, random)
    text = _case(text, random)
    if random.random() < 0.30:
        text = text.replace("'", "")
    if random.random() < 0.16:
        text = add_typo(text, random)
        if random.random() < 0.2:
            text = add_typo(text, random)
    return text
