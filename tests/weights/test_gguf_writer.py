"""What is written as GGUF is read back as it was meant, and copied without a change."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import RequestInvalid
from headrace.weights import gguf
from headrace.weights.gguf_writer import Entry, check_room, rewrite, write
from headrace.weights.quantisation import nbytes

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9)
NUMBERS = st.integers(-(2**31), 2**31 - 1)
VALUES = st.one_of(
    *(st.booleans(), st.integers(-(2**31), 2**32 - 1), st.floats(width=32, allow_nan=False), TEXTS),
    *(st.lists(one, min_size=1, max_size=4) for one in (TEXTS, NUMBERS, st.floats(width=32, allow_nan=False))),
)
KEYS = TEXTS.filter(lambda key: not key.startswith(("general.", "split.")))
SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(lambda sides: (*sides[:-1], 32 * sides[-1]))
TENSORS = st.dictionaries(TEXTS, st.tuples(st.sampled_from(["F32", "F16", "BF16", "Q8_0", "Q4_0"]), SHAPES), max_size=4)


def entries(tensors: dict[str, tuple[str, tuple[int, ...]]]) -> list[Entry]:
    def encoded(name: str, size: int) -> Any:
        return lambda: np.frombuffer((name.encode() * size)[:size], np.uint8)

    return [Entry(name, kind, shape, encoded(name, nbytes(kind, shape))) for name, (kind, shape) in tensors.items()]


def check(path: Path, metadata: dict[str, Any], wanted: list[Entry]) -> gguf.GgufFile:
    found = gguf.read(path)
    assert {key: np.asarray(value).tolist() for key, value in found.metadata.items()} == metadata
    assert list(found.tensors) == [entry.name for entry in wanted]
    for entry in wanted:
        tensor = found.tensors[entry.name]
        assert (tensor.type, tensor.shape) == (entry.type, entry.shape)
        assert tensor.data.tobytes() == entry.encode().tobytes()
    return found


@settings(max_examples=60)
@given(st.dictionaries(KEYS, VALUES, max_size=5), TENSORS)
def test_what_is_written_reads_back_equal(stated: dict[str, Any], tensors: dict[str, Any]) -> None:
    metadata, wanted = {"general.architecture": "lfm2", **stated}, entries(tensors)
    with tempfile.TemporaryDirectory() as folder:
        path, copy = Path(folder) / "file.gguf", Path(folder) / "copy.gguf"
        write(path, metadata, wanted)
        found = check(path, metadata, wanted)
        rewrite(copy, found, {}, wanted)
        check(copy, metadata, wanted)
        assert {each.name for each in Path(folder).iterdir()} == {path.name, copy.name}


def test_a_file_without_room_is_told_in_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_230_000))
    with pytest.raises(RequestInvalid, match=r"has 1\.23 MB free, but the file takes 9\.00 MB: free some space"):
        check_room(tmp_path / "some.gguf", 9_000_000)
