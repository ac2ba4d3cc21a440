"""Drills: single skills in bare form, many to a row, for what dialogues hold too seldom to teach it soon.

After 27 M tokens of dialogues no run had learnt that March is 03, which a dialogue asks at most twice; nor that the
name after `("` is the one of the sentence with its capital, which copying blind to forms gets wrong at first.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from recipes.nano import words
from recipes.nano.arithmetic import spelled
from recipes.nano.dates import day, written
from recipes.nano.values import Values

Pair = tuple[str, str]  # what is given, and what is to be said of it


def _date(rng: random.Random, _: Values) -> Pair:
    iso = day(rng)
    return written(rng, iso), iso


def _number(rng: random.Random, _: Values) -> Pair:
    value = rng.choice((rng.randrange(21), rng.randrange(100)))
    return spelled(value), str(value)


def _spelling(rng: random.Random, _: Values) -> Pair:
    """The same words in another form."""
    chosen = rng.sample(words.frequent(12000), rng.choice((1, 2, 2, 3)))
    forms = (
        " ".join(chosen), " ".join(word.capitalize() for word in chosen), "_".join(chosen), " ".join(chosen).upper(),
        chosen[0] + "".join(word.capitalize() for word in chosen[1:]), " ".join(chosen).capitalize(),
    )  # fmt: skip
    first, second = rng.sample(forms, 2)
    return first, second


def _quoted(rng: random.Random, values: Values) -> Pair:
    """A value of any type as an argument holds it."""
    value = str(values.draw(rng.choice(_KINDS)))
    return value, f'"{value}"'


_KINDS = (
    "person", "city", "company", "title", "street", "product", "artist", "id", "email", "filename", "username", "text",
    "sentence", "url", "phone", "time",
)  # fmt: skip
_PAIRS: dict[Callable[[random.Random, Values], Pair], float] = {
    _date: 0.4, _number: 0.15, _spelling: 0.2, _quoted: 0.25,
}  # fmt: skip


def pairs(rng: random.Random, values: Values) -> Iterator[Pair]:
    """Pairs of one skill, without end."""
    kind = rng.choices(list(_PAIRS), list(_PAIRS.values()))[0]
    while True:
        yield kind(rng, values)


def copying(rng: random.Random, first: int, vocab_size: int) -> tuple[list[int], Iterator[tuple[list[int], list[int]]]]:
    """Random tokens, then pieces of them, with what follows each token, or -100 where nobody can know."""
    prefix = [rng.randrange(first, vocab_size) for _ in range(rng.randrange(150, 400))]

    def sequences() -> Iterator[tuple[list[int], list[int]]]:
        while True:
            ids: list[int] = []
            wanted: list[int] = []
            while len(ids) < 96:
                start, length = rng.randrange(len(prefix) - 12), rng.randrange(3, 12)
                ids += prefix[start : start + length]
                wanted += [-100, *prefix[start + 2 : start + length], -100]
            yield ids[:96], wanted[:96]

    return prefix, sequences()
