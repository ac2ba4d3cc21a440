"""The packed file: the same bits faster, made once, made anew when it is not what it should be, and the way back."""

from __future__ import annotations

import logging
import os
import shutil
from collections import namedtuple
from pathlib import Path

import gguf
import numpy as np
import pytest
from click.testing import CliRunner

import headrace
from headrace import _core, synthetic
from headrace.cli import headrace as cli
from headrace.engine import packed, packed_file
from headrace.errors import FileInvalid
from headrace.weights.gguf import read
from headrace.weights.mixtures import MIXTURES
from tests import found_files

IDS = np.random.default_rng(1).integers(300, 60_000, 40).tolist()

pytestmark = pytest.mark.skipif(not _core.panel_types(), reason="this machine's kernels read rows")


def synthesised(path: Path, quant: str) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            synthetic, "FAMILY", {"small": synthetic.Member(512, 8, 512, 4, (2,), experts=8, expert_width=256)}
        )
        synthetic.synthesise("small", path, quant, head="q6_k")
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mixture in Q4_0 with a Q6_K head, and a router that no panel holds."""
    return synthesised(tmp_path_factory.mktemp("model") / "small.gguf", "q4_0")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(packed, "SMALL_BYTES", 0)
    return tmp_path / "cache" / "packed"


def logits(path: Path) -> bytes:
    with headrace.load(path) as model:
        return model.logits(IDS).tobytes()


def only(cache: Path) -> Path:
    (found,) = cache.iterdir()
    return found


def test_it_is_made_once_and_gives_the_bits_of_rows(file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    with headrace.load(file, progress=lambda done, total: told.append((done, total))) as model:
        first = model.logits(IDS).tobytes()
    assert told[-1][0] == told[-1][1] > 0
    before = only(cache).stat()
    assert logits(file) == first
    after = only(cache).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    monkeypatch.setenv("HEADRACE_ISA", "scalar")
    plain = logits(file)
    monkeypatch.setattr("headrace.engine.packed.in_panels", lambda *given: given[1])
    assert logits(file) == plain
    monkeypatch.delenv("HEADRACE_ISA")
    assert logits(file) == first


def test_the_way_back_is_exact(file: Path, cache: Path, tmp_path: Path) -> None:
    logits(file)
    result = CliRunner().invoke(cli, ["export", str(only(cache)), str(tmp_path / "back.gguf")], catch_exceptions=False)
    assert result.exit_code == 0
    assert (tmp_path / "back.gguf").read_bytes() == file.read_bytes()


@pytest.mark.parametrize("quant", MIXTURES)
def test_mixed_files_are_packed_and_given_back(
    quant: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = synthesised(tmp_path / "mixed.gguf", quant)
    panels = logits(file)
    packed_file.export(only(cache), tmp_path / "back.gguf")
    assert (tmp_path / "back.gguf").read_bytes() == file.read_bytes()
    monkeypatch.setattr("headrace.engine.packed.in_panels", lambda *given: given[1])
    assert logits(file) == panels


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def outdate(path: Path) -> None:
    with path.open("r+b") as open_file:
        open_file.seek(16)
        open_file.write(b"\x63")


def replace(path: Path) -> None:
    path.write_bytes(b"something else entirely")


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("spoil", [cut, outdate, replace, empty])
def test_what_is_not_whole_is_made_anew(spoil: object, file: Path, cache: Path) -> None:
    first = logits(file)
    assert callable(spoil)
    spoil(only(cache))
    assert logits(file) == first
    assert packed_file.damaged(only(cache)) == []


def test_another_source_at_the_same_path_is_packed_anew(file: Path, cache: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.gguf"
    shutil.copy(file, copy)
    logits(copy)
    data = bytearray(copy.read_bytes())
    data[-40:] = bytes(40)
    copy.write_bytes(data)
    logits(copy)
    packed_file.export(only(cache), tmp_path / "back.gguf")
    assert (tmp_path / "back.gguf").read_bytes() == bytes(data)


def test_a_flipped_bit_is_found(file: Path, cache: Path) -> None:
    logits(file)
    path = only(cache)
    with path.open("r+b") as open_file:
        open_file.seek(-100, os.SEEK_END)
        byte = open_file.read(1)
        open_file.seek(-100, os.SEEK_END)
        open_file.write(bytes([byte[0] ^ 1]))
    assert len(packed_file.damaged(path)) == 1
    with pytest.raises(FileInvalid):
        packed_file.damaged(file)


def test_without_room_it_runs_unpacked_and_says_so(
    file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 1))
    with caplog.at_level(logging.WARNING):
        logits(file)
    assert "runs unpacked" in caplog.text
    assert "free" in caplog.text
    assert not list(cache.iterdir())


def test_a_failed_packing_leaves_nothing(file: Path, cache: Path) -> None:
    def interrupted(done: int, total: int) -> None:
        if 3 * done > total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        headrace.load(file, progress=interrupted)
    assert not list(cache.iterdir())


def test_what_lies_between_tensors_is_not_lost(file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    copy = tmp_path / "more.gguf"
    copy.write_bytes(file.read_bytes() + b"a note")
    with caplog.at_level(logging.WARNING):
        logits(copy)
    assert "between its tensors" in caplog.text


# --- models in parts


@pytest.fixture
def parts(file: Path, tmp_path: Path) -> list[Path]:
    """The file in three; the first has the metadata and no tensors."""
    source = read(file)
    writer = gguf.GGUFWriter(
        tmp_path / "parts.gguf", source.metadata["general.architecture"], split_max_tensors=30, small_first_shard=True
    )
    for key, value in source.metadata.items():
        if key != "general.architecture":
            found_files.add(writer, key, value)
    for name, tensor in source.tensors.items():
        rows = tensor.data.reshape(*tensor.shape[:-1], -1)
        writer.add_tensor(name, rows, raw_dtype=gguf.GGMLQuantizationType[tensor.type])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = sorted(tmp_path.glob("parts-*.gguf"))
    assert len(found) >= 3
    return found


def test_each_part_has_a_packed_file_of_its_own(file: Path, parts: list[Path], cache: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    expected = logits(file)
    only(cache).unlink()
    with headrace.load(parts[1], progress=lambda done, total: told.append((done, total))) as model:
        assert model.logits(IDS).tobytes() == expected
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert {total for _, total in told} == {told[-1][0]}
    made = sorted(cache.iterdir())
    before = [path.stat().st_mtime_ns for path in made]
    assert logits(parts[0]) == expected
    assert [path.stat().st_mtime_ns for path in sorted(cache.iterdir())] == before
    for part, there in zip(parts, made, strict=True):
        packed_file.export(there, tmp_path / "back.gguf")
        assert (tmp_path / "back.gguf").read_bytes() == part.read_bytes()


def test_a_part_that_changed_is_packed_anew_and_no_other(parts: list[Path], cache: Path) -> None:
    expected = logits(parts[0])
    made = sorted(cache.iterdir())
    before = [path.stat().st_ino for path in made]
    cut(made[-1])
    assert logits(parts[0]) == expected
    assert [path.stat().st_ino for path in made[:-1]] == before[:-1]
    assert packed_file.damaged(made[-1]) == []


def test_room_is_wanted_for_all_parts_before_the_first(
    parts: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    usage = namedtuple("usage", "total used free")
    free = sum(part.stat().st_size for part in parts)  # for each part, and just not for all
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2 * free, free, free))
    with caplog.at_level(logging.WARNING):
        logits(parts[0])
    assert "runs unpacked" in caplog.text
    assert not list(cache.iterdir())
