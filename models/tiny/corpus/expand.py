"""Expand the corpus: `python3 expand.py [seed]` writes one JSON object a line, {"turns": [[user, answer], ...]} or {"text": story}."""

import json
import sys
from random import Random

import more_wordings
import noise
import numbers_and_counting
import project
import refusals
import smalltalk
import stories
import words
from grammar import Grammar

SEED = 7
DIALOGUES = 76000
STORIES = 2500


def intents() -> dict[str, tuple[str, str, float, list[str]]]:
    """Return every intent of the templates: name -> (answer, kind, weight, templates)."""
    found = {**smalltalk.INTENTS, **project.INTENTS, **refusals.INTENTS}
    for name, article, names, answer in project.DEFINITIONS:
        found[name] = (answer, "q", 1.0, words.definition(article, *names)[0])
    for name, templates in more_wordings.MORE.items():
        answer, kind, weight, known = found[name]
        found[name] = (answer, kind, weight, known + templates)
    return found


def expand(seed: int = SEED, dialogues: int = DIALOGUES, tales: int = STORIES) -> list[dict[str, object]]:
    """Return the whole corpus for a seed: dialogues of one turn (some of two), then stories."""
    random = Random(seed)
    grammar = Grammar({**words.LISTS, **refusals.LISTS}, random)
    table = intents()
    names, weights = list(table), [table[name][2] ** 0.8 for name in table]

    def pair() -> list[str]:
        roll = random.random()
        if roll < 0.13:
            ask, answer = numbers_and_counting.sum_pair(random)
            return [ask + random.choice(["?", "", ""]), answer]
        if roll < 0.155:
            ask, answer = numbers_and_counting.count_pair(random)
        elif roll < 0.175:
            ask, answer = stories.story_pair(random)
        else:
            answer, kind, _, templates = table[random.choices(names, weights)[0]]
            text = noise.reword(grammar.expand(random.choice(templates)), random)
            return [noise.dress(text, kind == "q", random, kind != "g"), answer]
        return [noise.dress(ask, False, random), answer]

    corpus: list[dict[str, object]] = [{"turns": [pair() for _ in range(2 if random.random() < 0.06 else 1)]} for _ in range(dialogues)]
    return corpus + [{"text": stories.story(random)} for _ in range(tales)]


if __name__ == "__main__":
    for item in expand(int(sys.argv[1]) if len(sys.argv) > 1 else SEED):
        print(json.dumps(item))
