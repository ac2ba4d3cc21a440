"""The loop guard: never on what people ask for, always on what never ends, within a bound."""

from __future__ import annotations

import base64
import json
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import checkpoint
from headrace.engine.batch import Batch, Stepped
from headrace.engine.cache import BlockCache
from headrace.engine.engine import Engine
from headrace.engine.parameters import Parameters
from headrace.engine.repetition import EVERY, LONGEST_UNIT, LOOP_TOKENS, ONE_TOKEN_TIMES, is_endless
from headrace.engine.request import Finished, Sequence
from headrace.engine.scheduler import Scheduler

RANDOM = random.Random(1)


def ends_at(ids: list[int]) -> int | None:
    """After how many tokens the guard ends a reply."""
    array = np.array(ids, np.int32)
    return next((n for n in range(1, len(ids) + 1) if is_endless(array[:n])), None)


def matrix_of(value: str) -> str:
    return "[" + ",\n ".join("[" + ", ".join([value] * 20) + "]" for _ in range(20)) + "]"


# Long, regular, and meant.
LEGITIMATE = {
    "a matrix of zeros": matrix_of("0"),
    "a matrix of zeros, without commas": matrix_of("0").replace(",", ""),
    "a matrix of float zeros": matrix_of("0.0"),
    "a matrix of short float zeros": matrix_of("0."),
    "a matrix of zeros as json": json.dumps([[0] * 20] * 20, indent=2),
    "400 zeros in a row": ", ".join(["0"] * 400),
    "a unit matrix": json.dumps([[int(i == j) for j in range(40)] for i in range(40)]),
    "rulers": "\n".join(mark * 200 for mark in "-=*_#~.+/\\"),
    "a ruler of a heavy line": "\u2501" * 200,
    "a chessboard": "\n".join("#." * 32 if row % 2 else ".#" * 32 for row in range(32)),
    "a box": "+" + "-" * 100 + "+\n" + ("|" + " " * 100 + "|\n") * 30 + "+" + "-" * 100 + "+",
    "ha": "ha " * 200,
    "haha": "Ha" * 300 + "!",
    "ha with commas": "ha, " * 200,
    "laughter in another alphabet": "\u54c8" * 300,
    "dots": "." * 400,
    "a scream": "A" * 400,
    "spaces": " " * 1000,
    "ten to the five hundred": "1" + "0" * 500,
    "a table": "\n".join(f"| {i} | Name {i} | {i * 17 % 101}.{i % 10} | yes | active |" for i in range(200)),
    "a table of equal rows but for a number": "\n".join(f"| {i:03} | yes | no | 0 | 0 | 0 |" for i in range(200)),
    "equal rows": json.dumps([{"id": None, "name": "", "active": False, "tags": []}] * 60, indent=1),
    "numbers": "\n".join(map(str, range(1500))),
    "numbered lines": "\n".join(f"{i}. Item number {i} of the list" for i in range(1, 300)),
    "a counter": " ".join(f"{i // 60:02}:{i % 60:02}" for i in range(900)),
    "base64": base64.b64encode(RANDOM.randbytes(4000)).decode(),
    "base64 of zeros": base64.b64encode(bytes(300)).decode(),
    "hexadecimal": "\n".join(RANDOM.randbytes(16).hex(" ") for _ in range(120)),
    "a hexdump of zeros": "\n".join(f"{i * 16:08x}  " + "00 " * 16 + " |................|" for i in range(40)),
    "code": "\n".join(f"    def test_case_{i}(self):\n        self.assertEqual(f({i}), {i * i})\n" for i in range(120)),
    "getters": "\n".join(
        f"  public int get{n}() {{\n    return this.{n.lower()};\n  }}\n"
        for n in ("".join(RANDOM.choices("ABCDEFGHIJKLMNOP", k=5)) for _ in range(100))
    ),
    "css": "\n".join(f".m-{i} {{ margin: {i}px; padding: {i}px; }}" for i in range(200)),
    "closing brackets": "[" * 150 + "]" * 150 + "\n" + "{" * 150 + "}" * 150,
    "a chorus": "Na na na, hey hey, goodbye\n" * 60 + "We will sing it once more, all together now\n" * 30,
    "lines written a hundred times": "I will not talk in class.\n" * 100,
    "dna": "".join(RANDOM.choices("ACGT", k=3000)),
    "a paragraph ten times": "The quick brown fox jumps over the lazy dog, and then it rests for a while. " * 10,
    "csv": "\n".join(f"2024-{1 + i // 28 % 12:02}-{1 + i % 28:02},0,0,0,0,0" for i in range(200)),
}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return checkpoint.read("nano").tokenizer


@pytest.mark.parametrize("text", LEGITIMATE.values(), ids=LEGITIMATE.keys())
def test_it_never_fires_on_what_people_ask_for(text: str, tokenizer: Any) -> None:
    assert ends_at(tokenizer.encode(text)) is None


def test_it_never_fires_on_all_of_that_in_one_reply(tokenizer: Any) -> None:
    assert ends_at(tokenizer.encode("\n\n".join(LEGITIMATE.values()))) is None


def bound(unit: int) -> int:
    """The most tokens of an endless loop."""
    return (ONE_TOKEN_TIMES if unit == 1 else LOOP_TOKENS) + EVERY - 1


@pytest.mark.parametrize("length", [1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 32, 33, 64, 100, 127, 128, 199, 200, 255, 256])
@pytest.mark.parametrize("before", [0, 1, 5, 700, 3001])
def test_every_endless_loop_ends(length: int, before: int) -> None:
    """A loop of any unit, after anything, also where the unit holds itself in part."""
    choices = random.Random(length * 10_000 + before)
    for alphabet in (2, 16_000):
        unit = [choices.randrange(alphabet) for _ in range(length)]
        if length > 1:
            unit[-1] = alphabet  # no shorter unit makes it up
        ids = [choices.randrange(alphabet) for _ in range(before)] + unit * (bound(length) // length + 1)
        ended = ends_at(ids)
        assert ended is not None
        assert ended - before <= bound(length)
        assert ended >= (ONE_TOKEN_TIMES if length == 1 else LOOP_TOKENS)


@pytest.mark.parametrize("text", ['")]]]]', "]", " the", "I am sorry. ", '"name": "John",\n', "\\n", "\t", "\u54c8"])
def test_loops_of_a_model_end(text: str, tokenizer: Any) -> None:
    ids = tokenizer.encode("Here it is: " + text * 3000)
    assert (ended := ends_at(ids)) is not None
    assert ended <= len(tokenizer.encode("Here it is: ")) + bound(2)


def test_a_unit_that_is_longer_is_no_loop() -> None:
    unit = [*range(LONGEST_UNIT + 1)]
    assert ends_at(unit * 20) is None
    assert ends_at(unit[:-1] * 20) is not None


def test_a_unit_that_begins_as_it_ends_is_found_at_once() -> None:
    """The tokens that are compared first stand two places before a whole unit, too, and overlap with where it is."""
    unit = [1, 2, *range(10, 152), *([1, 2] * 8)]
    assert ends_at(unit * 20) == LOOP_TOKENS == 16 * len(unit)


def test_one_other_token_begins_the_count_again() -> None:
    loop = [1, 2, 3] * 2000
    loop[LOOP_TOKENS - 20] = 9
    assert (ends_at(loop) or 0) - (LOOP_TOKENS - 20) >= LOOP_TOKENS
    run = [7] * 2000
    run[ONE_TOKEN_TIMES - 1] = 9
    assert (ends_at(run) or 0) >= 2 * ONE_TOKEN_TIMES


@given(st.lists(st.integers(0, 2), min_size=1, max_size=40), st.integers(0, 3), st.integers(0, 2600))
def test_it_is_the_rule(unit: list[int], before: int, loop: int) -> None:
    """Beside the rule as it is written down, for replies that end where it looks."""
    ids = ([9] * before + unit * (loop // len(unit) + 1))[: (before + loop) // EVERY * EVERY]
    tail = ids[-LOOP_TOKENS:]
    expected = len(set(ids[-ONE_TOKEN_TIMES:])) == 1 and len(ids) >= ONE_TOKEN_TIMES
    if len(tail) == LOOP_TOKENS:
        expected |= any(tail[p:] == tail[:-p] for p in range(1, LONGEST_UNIT + 1))
    assert is_endless(np.array(ids, np.int32)) == expected


class StuckCore:
    """Says the same token again and again."""

    def step(self, batch: Batch) -> Any:
        return Stepped(np.full(len(batch.rows), 7, np.int32))

    def hidden(self, batch: Batch) -> Any:
        raise NotImplementedError

    def copy_block(self, source: int, target: int) -> None:
        raise NotImplementedError

    def logits(self, batch: Batch) -> Any:
        raise NotImplementedError


class Script:
    """Stands for a Constraint that forces nine tokens after each."""

    def begin(self) -> list[int]:
        return []

    def mask(self) -> None:
        return None

    def accept(self, token: int) -> list[int]:
        return [token] * 9


def asked_of_a_stuck_core(prompt: list[int], **given: Any) -> tuple[Sequence, Finished]:
    scheduler = Scheduler(BlockCache(64, 64), max_sequences=1)
    with Engine(StuckCore(), scheduler) as engine:
        asked = Sequence.start(prompt, Parameters(), 4096, **given)
        *_, last = engine.submit(asked).stream()
    assert isinstance(last, Finished)
    assert scheduler.cache.available == 64
    return asked, last


def test_the_scheduler_ends_a_loop_of_what_was_generated() -> None:
    """The prompt may hold any loop."""
    asked, finished = asked_of_a_stuck_core([7] * 1001)
    assert (finished.reason, asked.generated) == ("repetition", ONE_TOKEN_TIMES)
    asked, finished = asked_of_a_stuck_core([1], loop_guard=False)
    assert (finished.reason, asked.generated) == ("length", 4095)


def test_forced_tokens_count() -> None:
    asked, finished = asked_of_a_stuck_core([1], constraint=Script())
    assert (finished.reason, asked.generated) == ("repetition", ONE_TOKEN_TIMES)
    assert asked.forced > 400
