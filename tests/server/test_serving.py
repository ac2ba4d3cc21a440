"""Who is served, who waits, who is told to come again; and that nothing is left of whoever went away."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from headrace import loading
from headrace.engine.residents import Candidate, Residents
from headrace.engine.turns import Turns
from headrace.errors import Busy, DeadlineExceeded, ModelClosed
from headrace.model import Model
from headrace.server.serving import Mailbox, Serving
from headrace.text.stream import TextStream
from tests.server import raw, tiny
from tests.server.live import Live, running
from tests.server.tiny import body, counts, gated, leases, loaded, post, until


@contextmanager
def slow_loading(live: Live) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Models are loaded when the second event says so; the first says that one is about to be."""
    begun, go = threading.Event(), threading.Event()
    residents = live.house.serving.models
    find = residents._find

    def slowly(name: str) -> Candidate[Model]:
        found = find(name)

        def load(turns: Turns) -> Model:
            begun.set()
            assert go.wait(60)
            return found.load(turns)

        return Candidate(found.size_bytes, load)

    residents._find = slowly
    try:
        yield begun, go
    finally:
        go.set()
        residents._find = find


def nothing_is_left(live: Live) -> bool:
    return leases(live.house) == 0 and live.house.serving.in_flight == 0 and counts(live.house) == (0, 0)


# --- whoever goes away


@pytest.mark.parametrize("stream", [False, True])
def test_who_goes_away_while_it_is_answered_is_gone_at_the_next_step(stream: bool, tiny_live: Live) -> None:
    with gated(tiny_live.house) as gate:
        with raw.connected(tiny_live.url) as one:
            one.sendall(raw.request("/tiny", body(stream=stream)))
            gate.permits.release(4)
            until(lambda: gate.steps == 4 and gate.waiting.is_set())
            assert leases(tiny_live.house) == 1
        until(lambda: leases(tiny_live.house) == 0)  # in the middle of the fifth step
        gate.permits.release(1)
        until(lambda: nothing_is_left(tiny_live))
        assert gate.steps == 5


def test_who_goes_away_in_the_middle_of_its_prompt_is_gone_at_the_next_step(tiny_live: Live) -> None:
    with loaded(tiny_live.house) as model:
        model.clear_cache()
    with gated(tiny_live.house) as gate:
        with raw.connected(tiny_live.url) as one:
            one.sendall(raw.request("/tiny", body(prompt="and then the water " * 700)))
            assert gate.waiting.wait(20)
        until(lambda: leases(tiny_live.house) == 0)
        gate.permits.release(1)
        until(lambda: nothing_is_left(tiny_live))
        assert gate.steps == 1


def test_who_goes_away_while_it_waits_for_a_place_never_gets_one(tiny_live: Live) -> None:
    with gated(tiny_live.house) as gate:
        with raw.connected(tiny_live.url) as first:
            first.sendall(raw.request("/tiny", body(n=16, num_predict=100)))  # as many as decode together
            gate.permits.release(3)
            until(lambda: gate.steps == 3 and gate.waiting.is_set())
            with raw.connected(tiny_live.url) as second:
                second.sendall(raw.request("/tiny", body(prompt="Another", stream=True)))
                until(lambda: leases(tiny_live.house) == 2)
            until(lambda: leases(tiny_live.house) == 1)
            gate.permits.release(1)
            until(lambda: gate.steps == 4 and gate.waiting.is_set())
            scheduler = _engine(tiny_live)._scheduler
            assert (len(scheduler.running), len(scheduler.waiting)) == (16, 0)
        until(lambda: leases(tiny_live.house) == 0)
        gate.permits.release(1)
        until(lambda: nothing_is_left(tiny_live))


def test_who_goes_away_while_the_model_is_loaded_does_not_wait_for_it() -> None:
    with running(tiny.routes) as live, slow_loading(live) as (begun, go):
        with raw.connected(live.url) as first:
            first.sendall(raw.request("/tiny", body(num_predict=1)))
            assert begun.wait(20)
            with raw.connected(live.url) as second:
                second.sendall(raw.request("/tiny", body()))
                until(lambda: leases(live.house) == 2)
            until(lambda: leases(live.house) == 1)  # though it is not loaded yet
            assert live.house.serving.in_flight == 1
            go.set()
            assert raw.answer(first)[0] == 200
        until(lambda: nothing_is_left(live))


def test_who_goes_away_while_it_loads_the_model_leaves_it_to_others() -> None:
    with running(tiny.routes) as live, slow_loading(live) as (begun, go):
        with raw.connected(live.url) as first:
            first.sendall(raw.request("/tiny", body()))
            assert begun.wait(20)
        until(lambda: live.house.serving.in_flight == 0)
        go.set()
        until(lambda: [one.state for one in live.house.serving.models.list()] == ["loaded"])
        until(lambda: nothing_is_left(live))


def test_who_goes_away_while_vectors_are_computed_is_gone_at_the_next_step(tiny_live: Live) -> None:
    serving = tiny_live.house.serving

    async def leave(gate: tiny.Gate) -> None:
        texts = ["a long text of many words " * 100 for _ in range(40)]
        work = asyncio.ensure_future(serving.watched_call("nano", lambda model, gone: model.embed(texts, gone=gone)))
        await asyncio.to_thread(gate.waiting.wait, 20)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        gate.permits.release(2)
        await asyncio.to_thread(until, lambda: nothing_is_left(tiny_live))

    with gated(tiny_live.house) as gate:
        asyncio.run(leave(gate))
        assert gate.steps <= 2


@pytest.mark.parametrize("path", ["/api/embed", "/v1/embeddings"])
def test_so_it_is_over_http(path: str, live: Live) -> None:
    with gated(live.house) as gate:
        with raw.connected(live.url) as one:
            one.sendall(raw.request(path, {"model": "nano", "input": ["a long text of many words " * 100] * 40}))
            assert gate.waiting.wait(20)
            scheduler = _engine(live)._scheduler
            assert len(scheduler.running) + len(scheduler.waiting) <= 16  # who comes now is not behind all of them
        until(lambda: live.house.serving.in_flight == 0)
        gate.permits.release(2)
        until(lambda: nothing_is_left(live))
        assert gate.steps <= 2


@pytest.mark.parametrize("path", ["/api/embed", "/v1/embeddings"])
def test_many_texts_are_not_read_for_nobody(path: str, live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    read, prompt, begun, go = list[Any](), Model.prompt, threading.Event(), threading.Event()

    def held(model: Model, text: Any) -> list[int]:
        read.append(text)
        begun.set()
        assert go.wait(20)
        return prompt(model, text)

    monkeypatch.setattr(Model, "prompt", held)
    with raw.connected(live.url) as one:
        one.sendall(raw.request(path, {"model": "nano", "input": [f"text {number}" for number in range(40)]}))
        assert begun.wait(20)
    until(lambda: live.house.serving.in_flight == 0)
    go.set()
    until(lambda: nothing_is_left(live))
    assert read == ["text 0"]


def test_who_goes_away_before_it_has_said_all_leaves_nothing(tiny_live: Live) -> None:
    with raw.connected(tiny_live.url) as one:
        one.sendall(raw.request("/tiny", body())[:-3])
        until(lambda: tiny_live.house.intake.taken > 0)
    until(lambda: tiny_live.house.intake.taken == 0)
    assert nothing_is_left(tiny_live)


def _engine(live: Live) -> Any:
    with loaded(live.house) as model:
        return model._engine


# --- how many, how long


def test_more_than_the_queue_takes_are_told_to_come_again() -> None:
    with running(tiny.routes, max_queue=2) as live:
        assert post(live.url, num_predict=1).status_code == 200
        with gated(live.house) as gate, ThreadPoolExecutor() as pool:
            both = [pool.submit(post, live.url, num_predict=2) for _ in range(2)]
            until(lambda: live.house.serving.in_flight == 2)
            late = post(live.url, num_predict=2)
            assert late.status_code == 503
            assert late.headers["retry-after"] == "1"
            assert "2 requests are waiting or being answered, which is the most: try again later" in late.text
            gate.permits.release(1000)
            assert [one.result().status_code for one in both] == [200, 200]
        assert post(live.url, num_predict=2).status_code == 200


def test_large_bodies_have_a_limit_together() -> None:
    with running(tiny.routes, body_bytes=1000) as live:
        most = live.house.intake.most_bytes
        assert most == 8000
        with live.house.intake.counted() as take:
            take(most - 10)
            late = post(live.url, num_predict=1)
            assert late.status_code == 503
            assert late.headers["retry-after"] == "1"
            assert "other requests have large bodies: try again later" in late.text
        assert post(live.url, num_predict=1).status_code == 200
        until(lambda: live.house.intake.taken == 0)


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_takes_too_long_is_told_so(stream: bool) -> None:
    with running(tiny.routes, deadline_s=0.5) as live:
        assert post(live.url, num_predict=1).status_code == 200
        with gated(live.house) as gate:
            gate.permits.release(3) if stream else None
            answer = post(live.url, stream=stream)
            assert answer.status_code == (200 if stream else 504)
            assert answer.text.splitlines()[-1] == '{"tiny":"it took longer than the 0.5 seconds that a request may"}'
            gate.permits.release(1)
            until(lambda: nothing_is_left(live))
            assert gate.steps == (4 if stream else 1)


@pytest.mark.parametrize("path", ["/api/embed", "/v1/embeddings"])
def test_many_vectors_have_no_more_time_than_one(path: str) -> None:
    """There are sixty steps to do and more, each of which alone would be soon enough."""
    with running(deadline_s=0.5) as live, gated(live.house) as gate:
        ended = threading.Event()

        def drip() -> None:
            while not ended.wait(0.1):
                gate.permits.release(1)

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            texts = [f"text {number}" for number in range(1000)]
            answer = httpx.post(live.url + path, json={"model": "nano", "input": texts}, timeout=60)
            assert answer.status_code == 504
            assert "longer than the 0.5 seconds" in answer.text
            until(lambda: nothing_is_left(live))
        finally:
            ended.set()
            dripping.join()
        assert gate.steps < 60


def test_loading_counts_too() -> None:
    with running(tiny.routes, deadline_s=0.5) as live, slow_loading(live) as (_, go):
        assert post(live.url).status_code == 504
        go.set()
        until(lambda: nothing_is_left(live))


def test_the_mailbox_gives_what_was_put_in_its_order_with_one_waking() -> None:
    async def read() -> list[Any]:
        loop = asyncio.get_running_loop()
        box = Mailbox(loop)
        wakings, wake = [], loop.call_soon_threadsafe
        loop.call_soon_threadsafe = lambda *given: (wakings.append(given), wake(*given))  # type: ignore[assignment]
        try:
            for number in range(5):
                box.put((number, "x"))  # type: ignore[arg-type]
            got = []
            async for number, _ in box.taken(loop.time() + 10):
                got.append(number)
                if number == 3:
                    box.put((5, "x"))  # type: ignore[arg-type]
                if number == 5:
                    break
        finally:
            loop.call_soon_threadsafe = wake  # type: ignore[method-assign]
        assert len([one for one in wakings if one[0] == box._wake]) == 2
        with pytest.raises(TimeoutError):
            await anext(box.taken(loop.time() + 0.05))
        box.put((6, "x"))  # type: ignore[arg-type]
        with pytest.raises(TimeoutError):  # although there is something
            await anext(box.taken(loop.time() - 1))
        return got

    assert asyncio.run(read()) == [0, 1, 2, 3, 4, 5]


# --- what goes wrong


@pytest.mark.parametrize(("bug", "status"), [("handle", 500), ("ask", 500), ("first", 500), ("middle", 200)])
def test_a_bug_is_one_sentence_and_leaves_nothing(bug: str, status: int, tiny_live: Live, caplog: Any) -> None:
    caplog.set_level(logging.ERROR, "headrace.server")
    answer = post(tiny_live.url, stream=True, bug=bug)
    assert answer.status_code == status
    assert answer.text.splitlines()[-1] == '{"tiny":"something went wrong inside Headrace: its log says what"}'
    assert "ZeroDivisionError" in caplog.text
    assert "ZeroDivisionError" not in answer.text
    until(lambda: nothing_is_left(tiny_live))


def test_a_bug_in_one_sequence_is_not_the_others(tiny_live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = post(tiny_live.url, num_predict=60, prompt="The mill").text
    push = TextStream.push

    def failing(self: TextStream, token: int) -> str:
        if self._stops == ("unlucky",):
            raise ZeroDivisionError("of one sequence")
        return push(self, token)

    monkeypatch.setattr(TextStream, "push", failing)
    monkeypatch.setattr(tiny, "ask", _with_a_stop(tiny.ask))
    with gated(tiny_live.house) as gate, ThreadPoolExecutor() as pool:
        other = pool.submit(post, tiny_live.url, num_predict=60, prompt="The mill")
        until(lambda: leases(tiny_live.house) == 1 and gate.waiting.is_set())
        unlucky = pool.submit(post, tiny_live.url, num_predict=60, prompt="Unlucky")
        until(lambda: leases(tiny_live.house) == 2)
        gate.permits.release(1000)
        assert unlucky.result().status_code == 500
        assert other.result().text == alone
    until(lambda: nothing_is_left(tiny_live))


def _with_a_stop(ask: Callable[..., Any]) -> Callable[..., Any]:
    def asked(model: Model, given: tiny.Asked) -> Any:
        if given.prompt != "Unlucky":
            return ask(model, given)
        return model.text_answers([given.prompt], num_predict=given.num_predict, stop=["unlucky"], loop_guard=False)

    return asked


def test_a_core_that_fails_fails_who_runs_and_nobody_after(tiny_live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: tiny.Gate, _: Any) -> Any:
        self.permits.acquire()
        raise MemoryError("no room for this step")

    with monkeypatch.context() as patched, gated(tiny_live.house) as gate:
        patched.setattr(tiny.Gate, "step", broken)
        gate.permits.release(1)
        assert post(tiny_live.url).status_code == 500
    assert post(tiny_live.url, num_predict=3).status_code == 200
    until(lambda: nothing_is_left(tiny_live))


def test_a_model_whose_engine_has_ended_is_loaded_again() -> None:
    with running(tiny.routes) as live:
        with loaded(live.house) as model:
            model.close()
        answer = post(live.url, num_predict=3)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        until(lambda: not live.house.serving.models.list())
        assert post(live.url, num_predict=3).status_code == 200


def test_a_model_that_cannot_be_loaded_says_why_and_the_next_request_tries_again(
    tiny_live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_live.house.serving.models.unload("nano")
    until(lambda: not tiny_live.house.serving.models.list())
    with monkeypatch.context() as patched:
        patched.setattr(loading, "Model", lambda *_, **__: 1 / 0)
        assert post(tiny_live.url, num_predict=3).status_code == 500
    assert post(tiny_live.url, num_predict=3).status_code == 200


def test_what_one_answers_is_what_it_answers_among_others(tiny_live: Live) -> None:
    asked = [
        {"prompt": f"The {what}", "num_predict": 40, "seed": seed, "temperature": temperature}
        for what in ("river", "mill", "wheel")
        for seed, temperature in ((1, 0.0), (2, 1.0))
    ]
    alone = [post(tiny_live.url, **one).text for one in asked]
    with ThreadPoolExecutor() as pool:
        assert [one.text for one in pool.map(lambda one: post(tiny_live.url, **one), asked)] == alone
    assert len(set(alone)) > 3


# --- without a server


class Closable:
    def close(self) -> None:
        pass


def test_going_down_tells_whoever_waits() -> None:
    begun, go = threading.Event(), threading.Event()

    def load(_: Turns) -> Any:
        begun.set()
        go.wait(60)
        return Closable()

    async def wait() -> None:
        waiting = asyncio.ensure_future(serving.call("slow", lambda model: model))
        await asyncio.to_thread(begun.wait, 20)
        serving.go_down()
        with pytest.raises(ModelClosed, match="shutting down"):
            await waiting
        with pytest.raises(Busy, match="shutting down"):
            await serving.call("slow", lambda model: model)

    serving = Serving(Residents(lambda _: Candidate(1, load), 10), max_queue=4)
    asyncio.run(wait())
    go.set()
    assert serving.close()


def test_giving_up_a_lease_ends_its_wait() -> None:
    begun, go = threading.Event(), threading.Event()

    def load(_: Turns) -> Any:
        begun.set()
        go.wait(60)
        return Closable()

    with Residents(lambda _: Candidate(1, load), 10) as residents, ThreadPoolExecutor() as pool:
        given_up = threading.Event()

        def lease(given_up: threading.Event | None) -> None:
            with residents.lease("slow", given_up=given_up):
                pass

        first = pool.submit(lease, None)
        assert begun.wait(20)
        second = pool.submit(lease, given_up)
        until(lambda: residents.list()[0].in_flight == 2)
        residents.give_up(given_up)
        with pytest.raises(Busy, match="nobody waits for it any more"):
            second.result(20)
        assert residents.list()[0].in_flight == 1
        go.set()
        first.result(20)


def test_a_deadline_is_an_error_of_ours() -> None:
    async def late() -> None:
        await serving.call("slow", lambda model: model)

    go = threading.Event()
    serving = Serving(Residents(lambda _: Candidate(1, lambda _: go.wait(60)), 10), deadline_s=0.05)  # type: ignore[arg-type, return-value]
    with pytest.raises(DeadlineExceeded, match=r"longer than the 0\.05 seconds"):
        asyncio.run(late())
    go.set()


def test_httpx_closes_what_it_leaves(tiny_live: Live) -> None:
    """As clients do it: they leave the block of a stream."""
    with gated(tiny_live.house) as gate:
        gate.permits.release(3)
        with httpx.stream("POST", f"{tiny_live.url}/tiny", json=body(stream=True), timeout=20) as stream:
            next(stream.iter_raw())
        until(lambda: leases(tiny_live.house) == 0)
        gate.permits.release(1)
        until(lambda: nothing_is_left(tiny_live))
