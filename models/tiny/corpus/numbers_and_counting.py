"""Small sums and counting."""

from random import Random

WORDS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty".split()
ASK = ["what is {}", "what's {}", "{}", "how much is {}", "calculate {}", "compute {}", "{} =", "{} is", "tell me {}", "what does {} make", "can you add {}", "solve {}", "what do you get for {}", "the result of {}"]


def sum_pair(random: Random) -> tuple[str, str]:
    """Return a question about one sum, difference or product and its answer."""
    a, b, kind = random.randint(0, 20), random.randint(0, 20), random.choice("++++--*")
    if kind == "-" and b > a:
        a, b = b, a
    if kind == "*":
        a, b = a % 11, b % 11
    value = {"+": a + b, "-": a - b, "*": a * b}[kind]
    sign = random.choice({"+": ["+", "plus", "and", "+"], "-": ["-", "minus", "-"], "*": ["*", "times", "x"]}[kind])
    left, right = (WORDS[a], WORDS[b]) if random.random() < 0.2 else (str(a), str(b))
    tight = random.random() < 0.2 and sign in "+-*"
    return random.choice(ASK).format(f"{left}{sign}{right}" if tight else f"{left} {sign} {right}"), f"The answer is {value}."


def count_pair(random: Random) -> tuple[str, str]:
    """Return a request to count, or to name the next number, and its answer."""
    top, kind = random.randint(2, 20), random.random()
    name = WORDS[top] if random.random() < 0.3 else str(top)
    if kind < 0.2:
        return random.choice(["what comes after {}", "which number comes after {}", "what number follows {}", "what is the next number after {}"]).format(name), f"The answer is {top + 1}."
    if kind < 0.35:
        return random.choice(["what comes before {}", "which number comes before {}", "what number is before {}"]).format(name), f"The answer is {top - 1}."
    if kind < 0.5:
        return random.choice(["count down from {}", "count backwards from {}", "count from {} to 1", "count down {} to 1"]).format(name), ", ".join(map(str, range(top, 0, -1))) + "."
    return random.choice(["count to {}", "count up to {}", "can you count to {}", "count from 1 to {}", "count from one to {}", "please count to {}", "list the numbers from 1 to {}", "say the numbers up to {}"]).format(name), ", ".join(map(str, range(1, top + 1))) + "."
