"""A dialect of the tests, which asks for everything that a dialect may ask of the frame, and a gate in the engine."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import msgspec
from starlette.routing import Route

from headrace.answers import Answers
from headrace.errors import OUTCOMES, HeadraceError
from headrace.events import Choice, Done, Text
from headrace.model import Model
from headrace.server.endpoint import Call, Endpoint, House, Reply, Stream
from headrace.server.log import note
from headrace.server.wire import Fields

FLOODS = set[object]()  # what is being poured


class Asked(Fields):
    """`bug` is where something goes wrong that nobody thought of."""

    prompt: str
    model: str = "nano"
    stream: bool = False
    num_predict: int = 4000
    seed: int = 0
    temperature: float = 0.0
    n: int = 1
    bug: str = ""


class Dialect:
    def refuse(self, error: HeadraceError) -> Reply:
        return Reply.json({"tiny": str(error)}, OUTCOMES[type(error)].http_status)


def routes(house: House) -> list[Route]:
    return [
        Route("/tiny", Endpoint(house, Dialect(), answer, Asked), methods=["POST"]),
        Route("/well", Endpoint(house, Dialect(), well, Fields), methods=["GET"]),
        Route("/flood", Endpoint(house, Dialect(), flood, Fields), methods=["POST"]),
        Route("/api/pull", Endpoint(house, Dialect(), well, Fields), methods=["POST"]),
    ]


async def well(call: Call, asked: Fields) -> Reply:  # noqa: ARG001 - every route is called alike
    return Reply.json({"well": True})


async def flood(call: Call, asked: Fields) -> Stream:  # noqa: ARG001
    """Far more than goes into any buffer."""

    async def endless() -> AsyncIterator[bytes]:
        FLOODS.add(True)
        try:
            for _ in range(10_000):
                yield b"x" * (1 << 16)
        finally:
            FLOODS.clear()

    return Stream("text/plain", endless(), last_words)


async def answer(call: Call, asked: Asked) -> Reply | Stream:
    fail(asked, "handle")
    note(call.scope, model=asked.model)
    name = call.house.shelf.find(asked.model).name
    if asked.stream:
        return Stream("application/x-ndjson", pieces(call, name, asked), last_words)
    async with call.house.serving.answering(name, lambda model: ask(model, asked)) as running:
        events = [choice async for choice in running]
    return Reply.json({"text": "".join(map(text_of, events)), "reasons": [reason_of(one) for one in events][-1]})


async def pieces(call: Call, name: str, asked: Asked) -> AsyncIterator[bytes]:
    async with call.house.serving.answering(name, lambda model: ask(model, asked)) as running:
        fail(asked, "first")
        async for number, choice in anumerate(running):
            yield msgspec.json.encode({"text": text_of(choice), "done": reason_of(choice)}) + b"\n"
            if number == 2:
                fail(asked, "middle")


async def anumerate(events: AsyncIterator[Choice]) -> AsyncIterator[tuple[int, Choice]]:
    number = 0
    async for event in events:
        yield number, event
        number += 1


def last_words(error: HeadraceError) -> bytes:
    return msgspec.json.encode({"tiny": str(error)}) + b"\n"


def ask(model: Model, asked: Asked) -> Answers:
    fail(asked, "ask")
    never = dict.fromkeys(model.checkpoint.end_ids, -100.0)
    return model.text_answers(
        [asked.prompt],
        n=asked.n,
        num_predict=asked.num_predict,
        seed=asked.seed,
        temperature=asked.temperature,
        loop_guard=False,
        logit_bias=never,
    )


def fail(asked: Asked, place: str) -> None:
    if asked.bug == place:
        raise ZeroDivisionError(f"nobody thought of this:\n2026-01-01T00:00:00 info forged {asked.prompt}")


def text_of(choice: Choice) -> str:
    return choice.event.text if isinstance(choice.event, Text) else ""


def reason_of(choice: Choice) -> str | None:
    return choice.event.reason if isinstance(choice.event, Done) else None


class Gate:
    """Before a model's core: no step is done without a permit."""

    def __init__(self, core: Any) -> None:
        self.core = core
        self.permits = threading.Semaphore(0)
        self.waiting = threading.Event()  # a step has come to the gate
        self.steps = 0

    def step(self, batch: Any) -> Any:
        self.waiting.set()
        self.permits.acquire()
        self.waiting.clear()
        self.steps += 1
        return self.core.step(batch)

    def hidden(self, batch: Any) -> Any:
        self.waiting.set()
        self.permits.acquire()
        self.waiting.clear()
        self.steps += 1
        return self.core.hidden(batch)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.core, name)


@contextmanager
def loaded(house: House, name: str = "nano") -> Iterator[Model]:
    with house.serving.models.lease(name) as model:
        yield model


@contextmanager
def gated(house: House) -> Iterator[Gate]:
    """nano is held before each step; at the end it may go on."""
    with loaded(house) as model:
        engine = model._engine
    gate = Gate(engine._core)
    engine._core = gate
    try:
        yield gate
    finally:
        engine._core = gate.core
        gate.permits.release(1_000_000)


def counts(house: House) -> tuple[int, int]:
    """Sequences of nano that run and that wait, as the engine's own thread sees them, and not in a step."""
    with loaded(house) as model:
        return model._engine.call(lambda scheduler, _: (len(scheduler.running), len(scheduler.waiting)))


def leases(house: House) -> int:
    return sum(one.in_flight for one in house.serving.models.list())


def until(true: Callable[[], object], within_s: float = 20.0) -> None:
    """Waits for something that must come: the time is only how long to wait before giving up."""
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.005)


def body(**more: Any) -> dict[str, Any]:
    return {"prompt": "The river", **more}


def post(url: str, **more: Any) -> httpx.Response:
    return httpx.post(f"{url}/tiny", json=body(**more), timeout=60)
