"""Tiny children's stories, put together from parts."""

from random import Random

NAMES = "Lily Tom Anna Ben Sara Max Mia Leo Emma Jack Lucy Sam Nina Tim".split()
ANIMALS = "cat dog rabbit bird mouse bear fox duck frog pony".split()
PLACES = ["a green forest", "a small house", "a big garden", "a quiet village", "a farm near the river", "a tall tree"]
THINGS = ["red ball", "blue kite", "shiny stone", "little boat", "yellow hat", "sweet apple", "golden key", "warm scarf"]
FEELINGS = ["brave", "kind", "happy", "clever", "little", "curious"]


def story(random: Random, animal: str | None = None) -> str:
    """Return one story of six sentences, about `animal` if given."""
    pick, kind = random.choice, animal or random.choice(ANIMALS)
    name, other, thing, place = pick(NAMES), pick([a for a in ANIMALS if a != kind]), pick(THINGS), pick(PLACES)
    start = pick(["Once upon a time, there was", "One day, there was", "Long ago, there was"])
    lines = [
        f"{start} a {pick(FEELINGS)} {kind} named {name}. {name} lived in {place}.",
        f"Every day {name} {pick(['played outside', 'went for a walk', 'looked at the clouds', 'sang a song'])}.",
        pick([f"One morning, {name} found a {thing} in the grass.", f"One morning, {name} lost a {thing}."]),
        f"Then a {other} came by. \"{pick(['Can I help you?', 'Shall we play together?', 'Please do not be sad.'])}\" said the {other}.",
        f"{name} was very {pick(['happy', 'glad', 'surprised'])}, and they {pick(['played until the sun went down', 'shared a cake', 'looked at the stars together', 'laughed all day'])}.",
        pick(["From that day on, they were best friends.", "Then they went home and slept well.", "It was the best day of all."]),
    ]
    return " ".join(lines)


def story_pair(random: Random) -> tuple[str, str]:
    """Return a request for a story and the story."""
    ask = random.choice(["tell me a story", "tell me a short story", "can you tell me a story", "tell a story", "i want to hear a story", "a story please", "write a short story", "story", "do you know a story", "tell me a tale", "read me a bedtime story", "tell me another story", "make up a story", "i would like a story", "tell me a tiny story"])
    animal = random.choice([*ANIMALS, None, None])
    return (f"{ask} about a {animal}" if animal and "story" in ask and "please" not in ask else ask), story(random, animal)
