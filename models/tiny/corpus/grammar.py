"""A small text grammar: `{a|b|}` chooses one branch (an empty branch is allowed), `<name>` inserts a word list."""

import re
from random import Random

_PARTS = re.compile(r"[{}|]|<[a-z_]+>|[^{}|<]+|<")


def _parse(tokens: list[str], at: int, depth: int) -> tuple[list[list[object]], int]:
    """Read branches until the closing brace; return (branches, next position)."""
    branches: list[list[object]] = [[]]
    while at < len(tokens):
        token = tokens[at]
        at += 1
        if token == "{":
            choice, at = _parse(tokens, at, depth + 1)
            branches[-1].append(choice)
        elif token == "}":
            if depth == 0:
                raise ValueError("template has } without {")
            return branches, at
        elif token == "|":
            branches.append([])
        else:
            branches[-1].append(token)
    if depth:
        raise ValueError("template has { without }")
    return branches, at


class Grammar:
    """Expands templates with one random source and named word lists."""

    def __init__(self, lists: dict[str, list[str]], random: Random) -> None:
        self.lists = lists
        self.random = random
        self._parsed: dict[str, list[list[object]]] = {}

    def expand(self, template: str) -> str:
        """Return one random expansion with single spaces and none before punctuation."""
        if template not in self._parsed:
            self._parsed[template] = _parse(_PARTS.findall(template), 0, 0)[0]
        text = self._choose(self._parsed[template])
        text = re.sub(r"\s+", " ", text).strip()
        return re.sub(r" ([,.?!;:])", r"\1", text)

    def _choose(self, branches: list[list[object]]) -> str:
        return "".join(self._part(part) for part in self.random.choice(branches))

    def _part(self, part: object) -> str:
        if isinstance(part, list):
            return self._choose(part)
        name = str(part)
        if name.startswith("<") and name.endswith(">"):
            if name[1:-1] not in self.lists:
                raise ValueError(f"template names unknown list {name}")
            return self.expand(self.random.choice(self.lists[name[1:-1]]))
        return name
