"""Many clients at once: nobody gets a wrong answer, and nothing is left of anybody."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server import load
from tests.server.faults import watched
from tests.server.live import Live, running
from tests.server.tiny import counts, leases, loaded, until

BODY_BYTES = 256 << 10
SPARE_BYTES = 64 << 20  # that a process may have more than before: arenas of threads, caches of grammars


@pytest.fixture
def brief() -> Iterator[Live]:
    """A server that does not wait long for whoever is slow. Until its end nothing may go wrong inside."""
    with watched() as faults:
        with running(limits={"header_s": 1.0, "body_s": 1.0}, body_bytes=BODY_BYTES) as live:
            yield live
        assert not faults, f"{len(faults)} of them: {faults[:3]}"


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def nothing_is_left(live: Live) -> bool:
    serving = live.house.serving
    if serving.in_flight or leases(live.house) or counts(live.house) != (0, 0):
        return False
    with loaded(live.house) as model:
        return model._engine.call(lambda scheduler, _: scheduler.cache.available == scheduler.cache.count)


def check(live: Live, clients: int, requests: int, bad: int, seed: int) -> None:
    wanted = load.asks(seed, requests)
    asyncio.run(load.load(live.url, wanted[:16], 4, 0.3, load.bad_requests(3, BODY_BYTES), seed))  # all is warm now
    until(lambda: nothing_is_left(live))
    proc = Path("/proc/self/fd").exists()
    before = (resident_bytes(), descriptors()) if proc else (0, 0)
    told = asyncio.run(load.load(live.url, wanted, clients, 1 / 3, load.bad_requests(bad, BODY_BYTES), seed + 1))
    assert not told.wrong, told.wrong[:3]
    assert told.statuses.keys() <= {200, 503}
    assert not told.without_retry
    assert told.left > requests // 20, "or nobody went away"
    assert told.statuses[200] > requests // 2
    assert sum(told.malformed.values()) == bad
    assert all(status == 0 or 400 <= status < 500 for status in told.malformed), told.malformed
    until(lambda: nothing_is_left(live))
    assert threading.active_count() < 60 + clients
    if proc:
        until(lambda: descriptors() <= before[1] + 4)
        assert resident_bytes() < before[0] + SPARE_BYTES


def test_eight_clients(brief: Live) -> None:
    check(brief, 8, 100, 15, seed=1)


@pytest.mark.slow
def test_sixty_four_clients(brief: Live) -> None:
    check(brief, 64, 2000, 50, seed=2)
