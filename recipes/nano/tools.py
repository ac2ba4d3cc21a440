"""The catalogue of made-up tools and of ways to ask for them, as its files hold it."""

# ruff: noqa: E501 (a wording stands on one line)

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

CATALOGUE = Path(__file__).parent / "catalogue"
HELD_OUT = CATALOGUE / "heldout"

_PARAMETER = re.compile(r"(\w+)(\*?): (.+?) \"(.*?)\"(?: /\s*(.*))?$")


@dataclass(frozen=True, slots=True)
class Parameter:
    """`names` are interchangeable; `kind` is a type of values.py, or bool."""

    name: str
    names: tuple[str, ...]
    kind: str
    description: str
    required: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """A tool of the catalogue, its ways of asking, and its (result, answer) pairs.

    `foreign` are the stems of words that stand in it for others, whatever part of speech they are.
    """

    domain: str
    names: tuple[str, ...]
    descriptions: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    asks: tuple[str, ...]
    results: tuple[tuple[str, str], ...]
    foreign: frozenset[str] = frozenset()


class CatalogueInvalid(ValueError):
    """A line of a catalogue that cannot be used."""


@cache
def catalogue(held_out: bool = False) -> tuple[Entry, ...]:
    """All entries for training, or those that only the test may see."""
    folder = HELD_OUT if held_out else CATALOGUE
    return tuple(entry for path in sorted(folder.glob("*.tools")) for entry in parse(path.read_text(encoding="utf-8")))


def parse(text: str) -> list[Entry]:
    """The entries of a catalogue: `## domain`, then `name: Description.` and its indented lines (see catalogue/README.md)."""
    entries: list[Entry] = []
    domain = ""
    lines: list[str] = []
    for line in [*text.splitlines(), "## end"]:
        if line and not line[0].isspace():
            if lines:
                entries.append(_entry(domain, lines))
            lines = [] if line.startswith("#") else [line]
            domain = line[2:].strip() if line.startswith("##") else domain
        elif line.strip():
            lines.append(line.strip())
    return entries


def _entry(domain: str, lines: list[str]) -> Entry:
    name, _, description = lines[0].partition(": ")
    names, descriptions = [name], [description]
    parameters: list[Parameter] = []
    asks, results = [], []
    for line in lines[1:]:
        if line.startswith("> "):
            asks.append(line[2:])
        elif line.startswith("= "):
            result, _, answer = line[2:].partition(" -> ")
            results.append((result, answer))
        elif line.startswith("names:"):
            names += [each.strip() for each in line[6:].split(",") if each.strip()]
        elif line.startswith("desc:"):
            descriptions.append(line[5:].strip())
        elif found := _PARAMETER.fullmatch(line):
            first, star, kind, said, others = found.groups()
            also = [each.strip() for each in (others or "").split(",") if each.strip()]
            parameters.append(Parameter(first, tuple(dict.fromkeys([first, *also])), kind, said, bool(star)))
        else:
            raise CatalogueInvalid(f"{name}: {line!r} is no parameter, request or result")
    return Entry(
        domain.replace(" ", "_"), tuple(names), tuple(descriptions), tuple(parameters), tuple(asks), tuple(results)
    )


@lru_cache(1 << 15)
def words_of(text: str) -> frozenset[str]:
    """Its words of four letters and more without their endings, to see whether two texts speak of the same thing."""
    found = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).lower().replace("_", " "))
    return frozenset(stem(word) for word in found if len(word) > 3)


@cache
def stem(word: str) -> str:
    """A small word without its ending."""
    return re.sub(r"(ing|ed|es|s|e)$", "", word)


if __name__ == "__main__":
    import sys

    from recipes.nano.check import check

    for one in sys.argv[1:]:
        print("\n".join(check(Path(one))) or "ok")
