"""One server with nano for all tests that leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.server import tiny
from tests.server.live import Live, running


@pytest.fixture(scope="session")
def live() -> Iterator[Live]:
    with running() as one:
        yield one


@pytest.fixture(scope="session")
def tiny_live() -> Iterator[Live]:
    """The same with the routes of the tests."""
    with running(tiny.routes) as one:
        yield one
