"""A draft model, through the whole engine: whatever it guesses, the answers are those without one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import cycle, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import headrace
from headrace import Choice, Model, RequestInvalid, Text, Token, Unsupported, checkpoint, model
from headrace.budget import Need
from headrace.engine import draft_model, parts
from headrace.engine.parameters import Parameters
from headrace.engine.request import Sequence
from headrace.engine.speculation import GUESSED, LONGEST_MATCH, PRIORS, Ledger, PromptLookup, StepCosts
from tests import random_models

SHAPE: dict[str, Any] = {"num_predict": 100, "loop_guard": False, "logit_bias": {2: -100, 7: -100}}  # no early end
GREEDY: dict[str, Any] = SHAPE | {"temperature": 0, "repeat_penalty": 1.0}
SAMPLED: dict[str, Any] = SHAPE | {"temperature": 0.7, "seed": 3}
Entered = list[tuple[int, int]]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_models.save_gguf(random_models.moe(), tmp_path_factory.mktemp("target") / "target.gguf")


@pytest.fixture(scope="module", params=["same", "other"])
def draft(request: Any, target: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights, whose guesses come true, or others in another shape, whose guesses mostly do not."""
    path = tmp_path_factory.mktemp("draft") / f"{request.param}.gguf"
    if request.param == "same":
        return Path(shutil.copy(target, path))
    layers = ["conv", "full_attention", "conv"]
    return random_models.save_gguf(random_models.dense(num_hidden_layers=3, layer_types=layers), path)


@pytest.fixture(autouse=True)
def entered(monkeypatch: pytest.MonkeyPatch) -> Entered:
    """Drafts wherever one can be, whatever they cost; and what became of them: tokens drafted, and taken."""
    found, enter = Entered(), Ledger.enter

    def note(ledger: Ledger, drafted: int, accepted: int, saved_s: float) -> None:
        found.append((drafted, accepted))
        enter(ledger, drafted, accepted, saved_s)

    lengths = cycle([4, 8, 16, 2, 1])
    monkeypatch.setattr(Ledger, "allowed", lambda *_: True)
    monkeypatch.setattr(Ledger, "length", lambda _, __, ___, longer: min(next(lengths), len(longer)))
    monkeypatch.setattr(Ledger, "enter", note)
    monkeypatch.setattr(draft_model, "LEAST_PROBABILITY", 1e-9)
    return found


@pytest.fixture(scope="module")
def plain(target: Path) -> Iterator[Model]:
    with headrace.load(target, draft=None) as model:
        yield model


@pytest.fixture(scope="module")
def drafting(target: Path, draft: Path) -> Iterator[Model]:
    with headrace.load(target, draft=draft) as model:
        model._engine.call(lambda scheduler, _: scheduler.costs.observe(1, 1e-3))  # a draft needs something to compare
        yield model


def gives_all_back(loaded: Model) -> bool:
    def free(*_: Any) -> bool:
        small = loaded._draft_model
        return bool(small) and small.cache.available == small.cache.count and len(small.slots) == model.MAX_SEQUENCES

    return loaded._engine.call(free)


def bits(events: Iterator[Any]) -> list[tuple[int, float | None]]:
    return [(event.id, event.logprob) for event in events if isinstance(event, Token)]


def text_of(events: Iterator[Any]) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


def texts(choices: Iterator[Choice]) -> list[str]:
    found: dict[int, str] = {}
    for choice in choices:
        piece = choice.event.text if isinstance(choice.event, Text) else ""
        found[choice.index] = found.get(choice.index, "") + piece
    return [found[index] for index in sorted(found)]


# --- the answers


@pytest.mark.parametrize("asked", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("prompt", ["Hello, Hello", "a" * 62, "xyz" * 60], ids=["short", "border", "long"])
def test_answers_are_those_without_a_draft_model(
    prompt: str, asked: dict[str, Any], draft: Path, plain: Model, drafting: Model, entered: Entered
) -> None:
    """To the bit: ids, and log-probabilities. Twice, so that the second finds the caches of both models."""
    expected = bits(plain.generate(prompt, logprobs=0, **asked))
    assert len(expected) == 100
    assert not entered
    for _ in range(2):
        assert bits(drafting.generate(prompt, logprobs=0, **asked)) == expected
    drafted, taken = map(sum, zip(*entered, strict=True))
    if draft.stem == "other":
        assert taken < drafted / 2
    elif asked is GREEDY:
        assert drafted > 100
        assert taken > 0.9 * drafted  # it knows nothing of the bias
    assert gives_all_back(drafting)


def test_answers_beside_each_other(plain: Model, drafting: Model, entered: Entered) -> None:
    """Of different lengths, more than decode at once, and three of each."""
    prompts = ["a", "Hello", "xyz" * 30, "ab" * 70, "Why?", "b" * 63] * 2
    expected = texts(plain.generate(prompts, n=3, **SAMPLED))
    assert texts(drafting.generate(prompts, n=3, **SAMPLED)) == expected
    assert len(entered) > 20
    assert gives_all_back(drafting)


def test_answers_in_a_form(plain: Model, drafting: Model, entered: Entered) -> None:
    """Where a grammar cuts drafts short, and forces tokens that were not drafted."""
    for form in ({"regex": r"(.|\n)*!{3}"}, {"regex": "[^a-f]*"}, {"choices": ["yes, of course", "yes, but", "no"]}):
        for asked in (GREEDY, SAMPLED):
            expected = text_of(plain.generate("Hello", format=form, **asked))
            assert text_of(drafting.generate("Hello", format=form, **asked)) == expected
    assert entered


def test_a_prompt_that_is_scored_and_an_answer_that_is_left(plain: Model, drafting: Model) -> None:
    asked = GREEDY | {"echo": True, "logprobs": 2}
    assert (
        list(map(str, drafting.generate("xyz" * 20, **asked)))[:-1]
        == list(map(str, plain.generate("xyz" * 20, **asked)))[:-1]
    )
    for _ in drafting.generate("Hello", **GREEDY):
        break
    text_of(drafting.generate("Hello", **GREEDY))
    assert gives_all_back(drafting)


def test_answers_where_memory_is_short(target: Path, draft: Path, plain: Model) -> None:
    """Sequences are put back and computed again, and so is what the draft model knew of them."""
    block = Need.of(checkpoint.read(target), None, checkpoint.read(draft)).block
    prompts = [letter * 100 for letter in "abcdef"]
    expected = texts(plain.generate(prompts, **SAMPLED))
    with headrace.load(target, draft=draft, cache_bytes=9 * block) as tight:
        assert texts(tight.generate(prompts, **SAMPLED)) == expected
        assert tight.cache().preempted
        assert gives_all_back(tight)


def test_nano_drafts_for_itself(entered: Entered) -> None:
    """In text, a call and JSON; most of it comes true."""
    person = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}
    forms: list[dict[str, Any]] = [{}, {"tools": "builtin"}, {"format": person}]
    with headrace.load("nano", draft=None) as alone, headrace.load("nano", draft="nano") as drafting:
        for form, asked in product(forms, ({"temperature": 0, "repeat_penalty": 1.0}, {"temperature": 1.0, "seed": 4})):
            messages = [{"role": "user", "content": "What is 37 * 12? Ann, who is 31, wants to know."}]
            expected = list(alone.chat(messages, num_predict=60, **form, **asked))
            found = list(drafting.chat(messages, num_predict=60, **form, **asked))
            assert list(map(str, found[:-1])) == list(map(str, expected[:-1]))
    drafted, taken = map(sum, zip(*entered, strict=True))
    assert taken > 0.6 * drafted > 30


# --- the option


def test_a_draft_model_takes_memory(target: Path, draft: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large, small = checkpoint.read(target), checkpoint.read(draft)
    alone, both = Need.of(large, None), Need.of(large, None, small)
    assert both.weights == alone.weights + Need.of(small, None).weights
    assert both.block == alone.block + Need.of(small, None).block
    with headrace.load(target, draft=draft, cache_bytes=3 * both.block) as loaded:
        assert loaded._draft_model
        assert loaded._draft_model.cache.count == 3
    monkeypatch.setattr(model, "memory_bytes", lambda: both.weights - 1)
    with pytest.raises(RequestInvalid, match=f"target with the draft model {draft.stem} needs .* for its weights"):
        headrace.load(target, draft=draft, num_ctx=64)
    headrace.load(target, num_ctx=64).close()


def test_a_closed_model_lets_go_of_its_draft_model(target: Path) -> None:
    loaded = headrace.load(target, draft=target)
    drafter = loaded._drafter()
    text_of(loaded.generate("Hello", num_predict=3))
    loaded.close()
    assert isinstance(drafter, draft_model.ModelDrafter)
    assert drafter.model.core is None


def test_a_file_that_is_cut_off_is_noticed(target: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(target, tmp_path / "small.gguf"))
    with headrace.load(target, draft=path) as loaded:
        with path.open("r+b") as file:
            file.truncate(1000)
        with pytest.raises(headrace.FileInvalid, match=r"small\.gguf: the file.* has lost"):
            text_of(loaded.generate("Hello", num_predict=3))


def test_what_cannot_draft(target: Path) -> None:
    with pytest.raises(Unsupported, match=r"the draft model nano has another vocabulary: its token [0-9]+ is "):
        headrace.load(target, draft="nano")
    with pytest.raises(headrace.ModelNotFound, match="there is no model 'none'"):
        headrace.load(target, draft="none")
    for wrong in (5, True, ["lookup"]):
        with pytest.raises(RequestInvalid, match="but should be 'lookup', a model, or None"):
            headrace.load(target, draft=wrong)  # type: ignore[arg-type]


def test_where_drafts_come_from(target: Path) -> None:
    for draft, kind in (("lookup", PromptLookup), (None, type(None)), (str(target), draft_model.ModelDrafter)):
        with headrace.load(target, draft=draft) as loaded:
            assert isinstance(loaded._drafter(), kind)


# --- what they cost


def test_the_time_of_making_drafts_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock of our own: guesses that all come true, but take as long as the tokens that they save."""
    monkeypatch.undo()
    now = [0.0]
    monkeypatch.setattr(parts.time, "perf_counter", lambda: now[0])

    class Slow(PromptLookup):
        def read(self, _: Any) -> bool:
            now[0] += 1000  # the prompt is read before there is anything to save
            return True

        def trust(self, _: Any) -> int:
            return GUESSED

        def propose(self, *_: Any) -> list[int]:
            now[0] += 1.5
            return []

    one = Sequence.start([1, 2, 3], Parameters(), 100, drafter=Slow())
    costs = StepCosts({1: 1.0})
    for _ in range(2):
        assert one.ledger.allowed(1.0)
        assert parts.draft_of(one, costs, 1) == []
    assert one.ledger.saved_s == -3.0
    assert not one.ledger.allowed(1.0)
    assert parts.draft_of(one, costs, 1) == []
    assert now[0] == 2003
    one.ledger.decoded_s = 1.0  # a hundredth of the time that it has decoded may be lost, too
    assert one.ledger.allowed(1.0)


def test_a_draft_is_as_long_as_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each token of it makes the step longer by a quarter of a token's time."""
    monkeypatch.undo()
    longer, ledger = np.arange(1, 17) * 0.25, Ledger()
    by_trust = [ledger.length(trust, 1.0, longer) for trust in sorted(PRIORS.keys() - {GUESSED})]
    assert by_trust == sorted(by_trust)
    assert by_trust[0] >= 1
    assert by_trust[-1] == 16
    assert ledger.length(LONGEST_MATCH, 1.0, 4 * longer) == 0, "a step of two tokens takes as long as two of one"
    ledger.making_s = 0.75
    assert ledger.length(LONGEST_MATCH, 1.0, longer) == 0, "it takes as long to make it"


def test_what_held_before_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    longer, ledger = np.arange(1, 17) * 0.25, Ledger()
    first = ledger.length(4, 1.0, longer)
    for _ in range(5):
        ledger.enter(first, first, 0.0)
    assert ledger.length(4, 1.0, longer) > first
    for _ in range(80):
        ledger.enter(4, 0, 0.0)
    assert ledger.length(4, 1.0, longer) == 0
    assert ledger.length(5, 1.0, longer) == Ledger().length(5, 1.0, longer), "another trust"
    for _ in range(10):
        ledger.length(4, 1.0, longer)
        ledger.enter(16, 16, 0.0)
    assert ledger.length(4, 1.0, longer), "what was long ago counts less"


def test_lookup_trusts_longer_matches_more() -> None:
    lookup, text = PromptLookup(), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 21, 22]
    for count, trust in ((1, None), (2, 2), (3, 3), (4, 4), (7, 5), (8, 8), (10, 8)):
        context = np.array([*text, 99, *text[10 - count : 10]], np.int32)
        assert PromptLookup().trust(context) == trust
        assert PromptLookup().propose(context, 2) == ([20, 21] if trust else [])
    context = np.array([*text, 99, 9, 10, 20, 77, 9, 10], np.int32)
    assert lookup.propose(context, 2) == [20, 77], "the latest place"


def test_a_step_that_nobody_has_seen_is_taken_to_grow() -> None:
    costs = StepCosts({2: 4.0, 6: 6.0})
    assert costs.of(4) == 5.0
    assert costs.longer(2, 6).tolist() == [0.5, 1.0, 1.5, 2.0, 3.0, 4.0]
    costs.observe(512, 100.0)
    assert costs.seconds.keys() == {2, 6}, "that one held a prompt"
