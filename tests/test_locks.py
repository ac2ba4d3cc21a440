"""A lock is held by one process, and what had its name before is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headrace import locks
from headrace.errors import Busy
from headrace.locks import is_held, locked


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_held(path)
    with locked(path):
        assert is_held(path)
        with pytest.raises(Busy), locked(path, wait_s=0):
            pass
    assert not is_held(path)


def test_a_lock_whose_name_was_taken_away_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one before unlinks it between our opening and our locking: then two would hold two files of one name."""
    path, real, tried = tmp_path / "lock", locks._try, list[int]()

    def late(handle: int) -> bool:
        if not tried:
            path.unlink()
        tried.append(handle)
        return real(handle)

    monkeypatch.setattr(locks, "_try", late)
    with locked(path) as handle:
        assert os.path.samestat(os.fstat(handle), path.stat())
    assert len(tried) == 2
