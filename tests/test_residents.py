"""Several real models in one process: what each says is what it says alone."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import headrace
from headrace import Busy, Model, RequestInvalid, Text, nano
from headrace.engine.residents import Residents
from headrace.loading import candidate, residents
from headrace.summary import memory_bytes

QUESTIONS = ["What is 37 * 12?", "Name a colour.", "Tell me a story about a fox."]
NUM_CTX = 256


@pytest.fixture
def twin(tmp_path: Path) -> str:
    return str(shutil.copy(nano.FILE, tmp_path / "twin.gguf"))


@pytest.fixture
def models() -> Iterator[Residents[Model]]:
    with residents(num_ctx=NUM_CTX) as models:
        yield models


def answer(model: Model, question: str) -> str:
    events = model.chat([{"role": "user", "content": question}], num_predict=40)
    return "".join(event.text for event in events if isinstance(event, Text))


def test_two_models_answer_at_once(models: Residents[Model], twin: str) -> None:
    with headrace.load("nano", num_ctx=NUM_CTX) as alone:
        expected = [answer(alone, question) for question in QUESTIONS]
    assert all(expected)
    begin = threading.Barrier(2 * len(QUESTIONS))

    def ask(name: str, question: str) -> str:
        begin.wait(60)
        with models.lease(name) as model:
            return answer(model, question)

    asked = [(name, question) for name in ("nano", twin) for question in QUESTIONS]
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = list(pool.map(lambda one: ask(*one), asked))
    assert answers == expected * 2
    assert sorted(resident.name for resident in models.list()) == sorted(["nano", twin])
    assert all(resident.in_flight == 0 for resident in models.list())


def test_the_size_is_that_of_the_summary(models: Residents[Model]) -> None:
    with models.lease("nano") as model:
        (resident,) = models.list()
        assert resident.size_bytes == memory_bytes(model.checkpoint, NUM_CTX)["total"]
        assert model.num_ctx == NUM_CTX
    assert resident.size_bytes < candidate("nano").size_bytes, "a longer window takes more"


def test_a_budget_for_one(twin: str) -> None:
    budget = candidate("nano", num_ctx=NUM_CTX).size_bytes
    with residents(budget, num_ctx=NUM_CTX) as models:
        with models.lease("nano") as first, pytest.raises(Busy), models.lease(twin, timeout_s=0):
            pass
        with models.lease(twin) as second:
            assert answer(second, QUESTIONS[0])
        with pytest.raises(headrace.ModelClosed):
            answer(first, QUESTIONS[0])
    with (
        residents(budget - 1, num_ctx=NUM_CTX) as models,
        pytest.raises(RequestInvalid, match=r"nano needs .* MB of memory, but all models together may take .* MB"),
        models.lease("nano"),
    ):
        pass


@pytest.mark.parametrize(
    ("name", "options", "kind"),
    [
        ("nanoo", {}, headrace.ModelNotFound),
        ("nano", {"num_ctx": 10**6}, RequestInvalid),
        ("nano", {"kv": "int3"}, RequestInvalid),
        ("nano", {"threads": 0}, RequestInvalid),
    ],
)
def test_what_cannot_be_loaded_says_so(name: str, options: Any, kind: type[Exception]) -> None:
    with residents(**options) as models:
        with pytest.raises(kind), models.lease(name):
            pass
        assert not models.list()
