"""One server with nano for all tests that leave it as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.server.live import Live, running


@pytest.fixture(scope="session")
def live() -> Iterator[Live]:
    with running() as one:
        yield one
