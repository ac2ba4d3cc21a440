"""Tests that take an `isa` run once for each instruction set of this machine."""

from __future__ import annotations

import pytest

from headrace import _core


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "isa" in metafunc.fixturenames:
        metafunc.parametrize("isa", _core.isas())
