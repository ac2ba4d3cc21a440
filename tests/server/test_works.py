"""Works in threads, and whoever watches them from the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from headrace.errors import Busy, StoreRefused
from headrace.library.progress import Progress
from headrace.library.registry.patience import Stopped
from headrace.server import works as works_
from headrace.server.works import MOST_STEPS, MOST_WORKS, Work, Works

WAIT_S = 20.0


def run(work: Callable[[Works], Awaitable[None]]) -> None:
    async def whole() -> None:
        works = Works()
        try:
            await asyncio.wait_for(work(works), WAIT_S)
        finally:
            assert await asyncio.to_thread(works.close)

    asyncio.run(whole())


async def told(works: Works, do: Callable[[Work], object], seen: list[str] | None = None) -> list[str]:
    seen = [] if seen is None else seen
    with works.doing(do) as work:
        async for step in work:
            seen.append(step.status)
    return seen


def nothing(_: Work) -> None:
    return


def test_steps_come_in_order_and_the_last_before_the_end() -> None:
    def do(work: Work) -> None:
        for number in range(50):
            work.report(Progress(f"step {number}"))

    async def check(works: Works) -> None:
        assert await told(works, do) == [f"step {number}" for number in range(50)]

    run(check)


def test_of_what_nobody_reads_the_latest_of_each_kind_is_kept() -> None:
    """However long the work goes on, and without holding it up."""

    async def check(works: Works) -> None:
        done = threading.Event()

        def do(work: Work) -> None:
            for number in range(100_000):
                work.report(Progress("pulling", f"sha256:{number % 3}", 100_000, number))
            for number in range(2 * MOST_STEPS):
                work.report(Progress(f"layer {number}"))
            done.set()

        with works.doing(do) as work:
            assert await asyncio.to_thread(done.wait, WAIT_S)
            steps = [step async for step in work]
        assert len(steps) == MOST_STEPS
        assert steps[-1] == Progress(f"layer {2 * MOST_STEPS - 1}")

    run(check)


def test_what_comes_while_somebody_reads_is_one_step_of_each_kind() -> None:
    async def check(works: Works) -> None:
        first, go_on = threading.Event(), threading.Event()

        def do(work: Work) -> None:
            work.report(Progress("pulling", "sha256:a", 10, 1))
            first.set()
            go_on.wait(WAIT_S)
            for number in range(2, 11):
                work.report(Progress("pulling", "sha256:a", 10, number))

        seen = list[int | None]()
        with works.doing(do) as work:
            async for step in work:
                seen.append(step.completed)
                go_on.set()
                if len(seen) == 1:
                    await asyncio.to_thread(lambda: works._running[work].join(WAIT_S))
        assert seen == [1, 10]

    run(check)


def test_an_error_comes_after_the_steps() -> None:
    def do(work: Work) -> None:
        work.report(Progress("one"))
        raise StoreRefused("no room")

    async def check(works: Works) -> None:
        seen = list[str]()
        with pytest.raises(StoreRefused, match="no room"):
            await told(works, do, seen)
        assert seen == ["one"]

    run(check)


def test_who_leaves_ends_the_work_at_its_next_step() -> None:
    async def check(works: Works) -> None:
        ends = list[Exception]()
        reached = threading.Event()

        def do(work: Work) -> None:
            reached.set()
            work.stop.wait(WAIT_S)
            try:
                work.report(Progress("nobody hears this"))
            except Stopped as stopped:
                ends.append(stopped)
                raise

        with works.doing(do) as work:
            assert await asyncio.to_thread(reached.wait, WAIT_S)
        await asyncio.to_thread(works._running[work].join, WAIT_S)
        assert len(ends) == 1

    run(check)


def test_there_are_not_too_many_at_a_time() -> None:
    async def check(works: Works) -> None:
        begun = [works.doing(lambda work: work.stop.wait(WAIT_S)) for _ in range(MOST_WORKS)]
        works_here = [one.__enter__() for one in begun]
        with pytest.raises(Busy, match=f"{MOST_WORKS} models are being brought in or sent"):
            works.doing(nothing).__enter__()
        begun[0].__exit__(None, None, None)
        await asyncio.to_thread(works._running[works_here[0]].join, WAIT_S)
        assert await told(works, nothing) == []
        for one in begun[1:]:
            one.__exit__(None, None, None)

    run(check)


def test_at_the_end_of_the_server_all_are_told() -> None:
    async def check(works: Works) -> None:
        with works.doing(lambda work: work.stop.wait(WAIT_S)) as work:
            asyncio.get_running_loop().call_soon(works.go_down)
            with pytest.raises(Busy, match="the server is shutting down"):
                async for _ in work:
                    pass
            assert work.stop.is_set(), "also of one whose watcher stays"
        with pytest.raises(Busy, match="the server is shutting down"):
            works.doing(nothing).__enter__()

    run(check)


def test_the_first_end_counts() -> None:
    async def check() -> None:
        work = Work(asyncio.get_running_loop())
        work.end(Busy("first"))
        work.end()
        with pytest.raises(Busy, match="first"):
            async for _ in work:
                pass

    asyncio.run(check())


def test_one_that_does_not_notice_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(works_, "CLOSING_S", 0.01)
    go_on = threading.Event()

    async def check() -> None:
        works = Works()
        with works.doing(lambda _: go_on.wait(WAIT_S)) as work:
            assert not await asyncio.to_thread(works.close)
        go_on.set()
        await asyncio.to_thread(works._running[work].join, WAIT_S)
        assert works.close()

    asyncio.run(check())
