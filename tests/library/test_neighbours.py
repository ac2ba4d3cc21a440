"""Several processes at one store: whatever they pull, make and take away, what is listed is whole, and nobody fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.library.store import Store
from tests.library import neighbours
from tests.library.fault_server import registry
from tests.library.test_killed import check_mended

ROLES = ("come and go", "come and go", "make", "look")


def live_together(store: Store, deeds: int, seed: int) -> None:
    with registry() as source:
        neighbours.fill(source, bytes(range(256)) * 500)
        processes = [
            neighbours.start(store, source.host, role, deeds, 10 * seed + place) for place, role in enumerate(ROLES)
        ]
        for process in processes:
            said, errors = process.communicate(timeout=300)
            assert (said, errors) == ("done\n", ""), errors
    neighbours.check_referred(store)
    check_mended(store)


def test_neighbours(tmp_path: Path) -> None:
    live_together(Store(tmp_path), 50, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 12))
def test_neighbours_for_long(seed: int, tmp_path: Path) -> None:
    live_together(Store(tmp_path), 300, seed)
