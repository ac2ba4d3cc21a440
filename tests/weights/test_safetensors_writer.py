"""What is written as safetensors, the safetensors package and our own reader give back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from headrace.weights import safetensors
from headrace.weights.safetensors_writer import Entry, write

VALUES = {
    "a": np.arange(12, dtype=np.float32).reshape(3, 4),
    "b.weight": np.arange(5, dtype=np.float16),
    "é": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "c": np.full((1,), 7, np.float32),
}


def entry(name: str, array: Any) -> Entry:
    raw = array.reshape(-1).view(np.uint8)

    def pieces() -> Iterator[Any]:
        yield from np.array_split(raw, 3)

    return Entry(name, {"float32": "F32", "float16": "F16"}[str(array.dtype)], array.shape, pieces)


@pytest.mark.parametrize(("shard_bytes", "files"), [(10**9, 1), (100, 2), (60, 3), (1, 4), (158, 1), (157, 2)])
def test_other_readers_give_the_same(shard_bytes: int, files: int, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write(tmp_path, [entry(*item) for item in VALUES.items()], lambda *at: seen.append(at), shard_bytes=shard_bytes)
    total = sum(array.nbytes for array in VALUES.values())
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (total, total)
    paths = sorted(tmp_path.glob("*.safetensors"))
    assert len(paths) == files
    found: dict[str, Any] = {}
    for path in paths:
        with safe_open(path, "np") as opened:
            assert opened.metadata() == {"format": "pt"}
            found |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    ours = safetensors.read_folder(tmp_path)
    assert found.keys() == ours.keys() == VALUES.keys()
    for name, array in VALUES.items():
        assert np.array_equal(found[name], array)
        assert (ours[name].shape, ours[name].data.tobytes()) == (array.shape, array.tobytes())
    index = tmp_path / "model.safetensors.index.json"
    assert index.exists() == (files > 1)
    if files > 1:
        assert paths[0].name == f"model-00001-of-0000{files}.safetensors"
        assert json.loads(index.read_text())["metadata"] == {"total_size": total}


def test_data_begins_where_any_number_may(tmp_path: Path) -> None:
    write(tmp_path, [entry("x" * length, VALUES["c"]) for length in range(1, 9)], shard_bytes=10**9)
    header = int.from_bytes((tmp_path / "model.safetensors").read_bytes()[:8], "little")
    assert header % 8 == 0


def test_no_file_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("mine")
    with pytest.raises(FileExistsError):
        write(tmp_path, [entry("c", VALUES["c"])], shard_bytes=10**9)
