"""Near words stand in what training's users say and in descriptions, and nowhere else."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable, Iterator

import pytest

pytest.importorskip("faker", reason="the recipe's extra is not installed")

from recipes.nano import asking, cases, dialogues, extraction, offering, synonyms, tools, words
from recipes.nano.phrases import choose
from recipes.nano.synonyms import reworded
from recipes.nano.values import Values

MODULES = (asking, extraction, offering)
Spy = Callable[[Callable[[str, str], None]], None]


@pytest.fixture
def spied(monkeypatch: pytest.MonkeyPatch) -> Spy:
    """Tells each text that is reworded, and what becomes of it."""

    def spy(tell: Callable[[str, str], None]) -> None:
        def both(rng: random.Random, text: str, *args: object, **named: object) -> str:
            made = reworded(rng, text, *args, **named)  # type: ignore[arg-type]
            tell(text, made)
            return made

        for module in MODULES:
            monkeypatch.setattr(module, "reworded", both)

    return spy


def requests(seed: int, count: int) -> Iterator[tuple[str, list[offering.Offered], offering.Offered]]:
    rng = random.Random(seed)
    values = Values(rng)
    for _ in range(count):
        offered = dialogues.some_tools(rng, 3, tools.catalogue())
        served = rng.choice(offered)
        yield asking.asked(rng, values, served, others=offered)[0], offered, served


def test_near_words_are_other_words_in_the_same_form() -> None:
    thesaurus = synonyms.load()
    assert len(thesaurus) > 3000
    assert {"search", "seek"} & set(thesaurus["find"].of["v"])
    for word, entry in thesaurus.items():
        assert len(word) > 3
        assert word not in words.GRAMMAR
        assert word not in entry.any
        for part, near in entry.of.items():
            assert len(near) <= 6
            ending = {"ing": "ing", "ed": "ed", "ns": "s"}.get(part, "")
            assert all(one.endswith(ending) for one in (word, *near))


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("Please record {a}", "v"),
        ("record this {a}", "v"),
        ("the record for {a}", "n"),
        ("{a} of record", "n"),
        ("{a} record", ""),
    ],
)
def test_a_near_word_is_of_the_part_of_speech_that_it_stands_for(text: str, part: str) -> None:
    of = synonyms.load()["record"].of
    assert of["v"] != of["n"]
    made = {reworded(random.Random(seed), text, 1.0, about=frozenset({"record"})) for seed in range(60)}
    assert made == ({text.replace("record", one) for one in of[part]} if part else {text})


def test_articles_agree_and_capitals_stay() -> None:
    for seed in range(20):
        made = reworded(random.Random(seed), "Delete an alarm for {an hour}", 0.0, 1.0)
        assert made[0].isupper()
        article, noun = re.fullmatch(r"[A-Z][a-z]+ (an?) (\w+) for \{an hour\}", made).groups()  # type: ignore[union-attr]
        assert (article == "an") == (noun[0] in "aeiou")


def test_slots_and_grammar_are_untouched() -> None:
    rng = random.Random(2)
    changed = 0
    for entry in tools.catalogue():
        for ask in entry.asks:
            text = choose(rng, ask)
            made = reworded(rng, text, 1.0, 1.0)
            changed += made != text
            assert re.findall(r"\{[^{}]*\}|[^\w\s]+", made) == re.findall(r"\{[^{}]*\}|[^\w\s]+", text)
            pairs = list(zip(text.split(), made.split(), strict=True))
            kept = {one for one, other in pairs if one.lower() == other.lower()} | {"a", "an", "A", "An"}
            assert all(one in kept for one, _ in pairs if one.strip(".,?!").lower() in words.GRAMMAR)
    assert changed > 5000


def test_requests_and_descriptions_alone_are_reworded(spied: Spy) -> None:
    """Patterns before their values are filled in, and descriptions; what is called and with what stays as it is."""
    seen: list[str] = []
    spied(lambda text, _: seen.append(text))
    rng = random.Random(3)
    values = Values(rng)
    for _ in range(300):
        (served,) = dialogues.some_tools(rng, 1, tools.catalogue())
        assert set(seen) <= set(served.entry.descriptions)
        seen.clear()
        schema, renamed = copy.deepcopy(served.schema), dict(served.renamed)
        request, call, _ = asking.asked(rng, values, served)
        assert (served.schema, served.renamed) == (schema, renamed)
        assert set(call.arguments) <= set(schema["parameters"]["properties"])
        if any(f"{{{p.name}}}" in "".join(seen) for p in served.entry.parameters):
            slots = re.findall(r"\{(\w+)\}", seen[0])
            said = [call.arguments[served.renamed[slot]] for slot in slots]
            assert all(value in request for value in said if isinstance(value, str))
        seen.clear()


def test_a_third_of_requests_have_near_words_and_none_speaks_of_another_tool(spied: Spy) -> None:
    changes: list[tuple[str, str]] = []
    spied(lambda text, made: changes.append((text, made)))
    count = changed = 0
    for _, offered, served in requests(4, 1500):
        *_, (text, made) = changes or [("", "")]
        changes.clear()
        count += 1
        if text == made or any(text in each.entry.descriptions for each in offered):
            continue
        changed += 1
        new = tools.words_of(made) - tools.words_of(text)
        others = (tools.words_of(each.name) for each in offered if each is not served)
        assert not new & frozenset[str]().union(*others)
        assert not new & served.about
    assert 0.3 < changed / count < 0.5


def test_keys_stay_as_they_were_asked_for_and_no_near_word_is_a_key(spied: Spy) -> None:
    changes: list[tuple[str, str]] = []
    spied(lambda text, made: changes.append((text, made)))
    rng = random.Random(5)
    values = Values(rng)
    changed = 0
    for _ in range(800):
        exchange = extraction.extraction(rng, values, extraction.catalogue())
        wanted = tools.words_of(" ".join(json.loads(exchange.answer)))
        assert all(key in exchange.user for key in json.loads(exchange.answer))
        new = frozenset[str]().union(*(tools.words_of(made) - tools.words_of(text) for text, made in changes))
        changed += bool(new)
        assert not new & wanted
        changes.clear()
    assert 0.15 < changed / 800 < 0.35


def test_what_is_measured_has_the_catalogues_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Held-out cases, and the gates of training, never ask for a near word."""

    def refused(*_: object, **__: object) -> str:
        raise AssertionError("a held-out wording was about to be reworded")

    for module in MODULES:
        monkeypatch.setattr(module, "reworded", refused)
    for kind in cases.GENERATED:
        assert len(cases.generated(kind, 60, 1)) == 60
    pytest.importorskip("torch")
    from recipes.nano import gates

    for name, make in gates.GATES.items():
        rng = random.Random(name)
        values = Values(rng, held=True)
        assert all(make(rng, values)[1].user for _ in range(60))
    with pytest.raises(AssertionError, match="held-out"):
        list(requests(6, 50))
