"""The recipe's data: what the test measures is in no training dialogue, and every catalogue line can be used."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

pytest.importorskip("faker", reason="the recipe's extra is not installed")

from headrace.text.calls import parse_calls
from recipes.nano import asking, cases, dialogues, extraction, synonyms, tools, ways
from recipes.nano.arithmetic import spelled
from recipes.nano.check import check
from recipes.nano.exchange import Number
from recipes.nano.offering import offer, styled, translated
from recipes.nano.values import Values, is_held_out


def names(held_out: bool) -> set[str]:
    return {styled(name, e.domain, style) for e in tools.catalogue(held_out) for name in e.names for style in STYLES}


STYLES = ("snake", "camel", "dotted", "dotted camel")
KINDS = ("person", "city", "company", "email", "id", "title", "date", "sentence", "int 100 900000", "url")
JSON_TYPES = {"string": str, "integer": int, "number": int | float, "boolean": bool, "array": list}


def parameters(held_out: bool) -> set[str]:
    return {name for entry in tools.catalogue(held_out) for p in entry.parameters for name in p.names}


def patterns(held_out: bool) -> set[str]:
    said = [*extraction.catalogue(held_out).asks, *(t for f in extraction.catalogue(held_out).forms for t in f.texts)]
    return {*said, *(ask for entry in tools.catalogue(held_out) for ask in entry.asks)}


def keys(held_out: bool) -> set[str]:
    return {key for form in extraction.catalogue(held_out).forms for _, each in form.fields.values() for key in each}


@pytest.mark.parametrize("of", [names, parameters, patterns, keys])
def test_the_held_out_catalogue_shares_nothing_with_training(of: object) -> None:
    assert callable(of)
    training, held_out = of(False), of(True)
    assert len(held_out) > 30
    assert not training & held_out


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_on_one_side_or_the_other(kind: str) -> None:
    training, held_out = (Values(random.Random(5), held) for held in (False, True))
    seen = {text(training.draw(kind)) for _ in range(400)}
    assert len(seen) > 50
    assert not any(map(is_held_out, seen))
    assert all(is_held_out(text(held_out.draw(kind))) for _ in range(100))


def text(value: object) -> str:
    return value.text if isinstance(value, Number) else str(value)


@pytest.mark.parametrize("path", sorted(tools.CATALOGUE.rglob("*.tools")), ids=lambda path: path.name)
def test_every_line_of_a_catalogue_can_be_used(path: Path) -> None:
    assert check(path) == []


def test_calls_in_training_are_calls_to_headrace() -> None:
    """What the generators write parses to the very arguments that were drawn, and fits the schema on offer."""
    rng = random.Random(7)
    values = Values(rng)
    for _ in range(300):
        (offered,) = dialogues.some_tools(rng, 1, tools.catalogue())
        request, call, _ = asking.asked(rng, values, offered)
        ((name, arguments),) = parse_calls(f"[{call.text()}]")
        assert name == offered.name
        assert (
            set(offered.schema["parameters"].get("required", ()))
            <= set(arguments)
            <= set(offered.schema["parameters"]["properties"])
        )
        for key, value in arguments.items():
            schema = offered.schema["parameters"]["properties"][key]
            assert isinstance(value, JSON_TYPES[schema["type"]])
            if isinstance(value, str) and "=" not in "".join(offered.entry.asks):
                assert value in request


def test_extraction_copies_from_its_text() -> None:
    rng = random.Random(8)
    values = Values(rng)
    for _ in range(300):
        exchange = extraction.extraction(rng, values, extraction.catalogue())
        for key, value in json.loads(exchange.answer).items():
            assert key in exchange.user
            for part in value if isinstance(value, list) else [value]:
                assert part is None or isinstance(part, int | float) or part in exchange.user


FIELDS = {"start_time": "string", "Unit price": "number", "tags": "array"}


def test_ways_to_ask_are_many_and_hold_the_keys_in_order() -> None:
    """As written, once for each place; the text stands whole, and no pattern's own marks are left."""
    rng = random.Random(12)
    said = "He said: it's 5 today."
    asks = [ways.asked(rng, said, FIELDS) for _ in range(3000)]
    assert len(set(asks)) > 2950
    for ask in asks:
        assert ask.count(said) == 1
        around = ask.replace(said, "")
        assert "json" in around.lower()
        places = [around.index(key) for key in FIELDS]
        assert places == sorted(places)
        assert not re.search(r"\{(?:list|block|shape|json|verb|ref|noun|w|as|phrase|k|t|l)s?\}|[\0\1\2]", around)


def test_texts_of_made_up_fields_tell_each_value_beside_the_words_of_its_key() -> None:
    """Or beside near words. Nor is a key asked for that the held-out catalogue asks for."""
    rng = random.Random(13)
    values = Values(rng)
    absent = 0
    for _ in range(1000):
        told, fields, reply = extraction._made_up(rng, values)
        assert 2 <= len(reply) <= 6
        assert list(fields) == list(reply)
        assert not {key.lower() for key in fields} & {key.lower() for key in keys(True)}
        for key, value in reply.items():
            absent += value is None
            words_of = re.split(r"\W+|_", ways.in_words(key))
            assert value is None or all(any(one in told.lower() for one in near_to(word)) for word in words_of)
            assert value is None or text(value) in told
            assert isinstance(value, Number) or value is None or fields[key] == "string"
    assert 150 < absent < 350


def near_to(word: str) -> tuple[str, ...]:
    return (word, *synonyms.load()[word].any) if word in synonyms.load() else (word,)


def test_the_held_out_catalogue_is_asked_for_in_its_own_words() -> None:
    """What is measured has nothing of the grammar: not varied, an exchange is as the catalogue has it."""
    rng = random.Random(14)
    values = Values(rng, held=True)
    source = extraction.catalogue(True)
    known = {key for form in source.forms for _, each in form.fields.values() for key in each}
    plain = {re.sub(r"[ _]", "", key).lower() for key in known}
    for _ in range(300):
        exchange = extraction.extraction(rng, values, source, varied=False)
        assert {re.sub(r"[ _]", "", key).lower() for key in json.loads(exchange.answer)} <= plain


@pytest.mark.parametrize("make", [asking._listed, asking._nested])
def test_answers_tell_every_value_of_lists_and_nested_results(make: object) -> None:
    assert callable(make)
    rng = random.Random(15)
    values = Values(rng)
    for _ in range(300):
        result, answer = make(rng, values)
        pending = [json.loads(result, parse_float=str)]
        while pending:
            match pending.pop():
                case dict() as members:
                    pending += members.values()
                case list() as items:
                    pending += items
                case bool() as flag:
                    assert str(flag).lower() in answer
                case value:
                    assert str(value) in answer


def test_cases_written_by_hand_are_enough_and_can_be_answered() -> None:
    counts = {kind: len(cases.handwritten(kind)) for kind in ("builtin", "one", "several", "none", "extract", "result")}
    assert min(counts.values()) >= 40
    assert sum(counts.values()) >= 150
    for case in cases.handwritten("one") + cases.handwritten("several"):
        properties = {
            schema.get("function", schema)["name"]: schema.get("function", schema)["parameters"]["properties"]
            for schema in case.schemas
        }
        assert all(set(arguments) <= set(properties[name]) for name, arguments in case.calls)


def test_the_generators_follow_from_the_seed() -> None:
    made = []
    for _ in range(2):
        rng = random.Random(9)
        values = Values(rng)
        prefixes = [dialogues.prefix(rng) for _ in range(20)]
        made.append([dialogues.dialogue(rng, prefix, values) for prefix in prefixes])
    assert made[0] == made[1]


HOTEL = """## hotel
book_table: Book a table.
  names: reserve_table
  at*: oneof Luigi's|Nora's "Restaurant of the table" / table_at
  late: bool "Late?" / is_late
  > Book [a|one] table at {at}< table for later{late=true}>
  = {"table": %n:int 1 9%} -> Your table at {at} is %n%.
"""


def test_a_translated_tool_is_the_same_tool_in_other_words() -> None:
    """Every word that changes does so in the schema and in the requests alike; values, syntax and types stay."""
    (entry,) = tools.parse(HOTEL)
    seen = set()
    for seed in range(40):
        made = translated(random.Random(seed), entry)
        word = made.parameters[0].names[1].removesuffix("_at")
        seen.add(word)
        assert all(name.endswith("_" + word) for name in made.names)
        assert made.descriptions[0].endswith(f" a {word}.")
        assert f"] {word} at {{at}}< {word} for " in made.asks[0]
        assert made.asks[0].endswith("{late=true}>")
        assert made.results == (('{"table": %n:int 1 9%}', f"Your {word} at {{at}} is %n%."),)
        assert [p.kind for p in made.parameters] == [p.kind for p in entry.parameters]
    assert len(seen) > 20


def test_requests_of_any_kind_hold_their_arguments() -> None:
    """Plain ones and small numbers in letters too, for every tool of the catalogue."""
    rng = random.Random(3)
    values = Values(rng)
    spelled_out = 0
    for entry in tools.catalogue():
        offered = offer(rng, entry, "camel")
        request, call, answer = asking.asked(rng, values, offered)
        assert set("{}") & set(request) == set() or "{" in str(call.arguments)
        assert answer
        for value in call.arguments.values():
            if isinstance(value, Number) and value.text not in request:
                spelled_out += spelled(int(float(value.text))) in request or "=" in "".join(offered.entry.asks)
                assert spelled(int(float(value.text))) in request or "=" in "".join(offered.entry.asks)
    assert spelled_out > 5
