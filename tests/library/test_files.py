"""Files that are whole or not there, locks that mean what their name says, ranges, and journals that lie."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import FileInvalid, StoreRefused
from headrace.library import files, partial
from headrace.library.files import read_small, room_for, write_whole
from headrace.library.manifest import OLLAMA, Layer, digest_of
from headrace.library.partial import Ranges, journal_of, places
from headrace.library.store import Store

CONTENT = bytes(100)
LAYER = Layer(OLLAMA + "model", digest_of(CONTENT), len(CONTENT))


def test_a_file_that_cannot_be_written_stays_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, part = tmp_path / "file", tmp_path / "part"
    write_whole(path, b"old", part)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "sync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"new", part)
    assert path.read_bytes() == b"old"
    assert not part.exists()


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EROFS, "set HEADRACE_HOME to a folder that can be written to"),
        (errno.EACCES, "mend its rights"),
        (errno.ENOTDIR, "move it away"),
        (errno.EIO, "is the disk sound?"),
    ],
)
def test_what_a_disk_refuses_is_told_with_what_to_do(number: int, advice: str, tmp_path: Path) -> None:
    sentence = f"{tmp_path} cannot be read or written ({os.strerror(number)}): {advice}"
    with pytest.raises(StoreRefused) as refused, files.disk_errors(tmp_path):
        raise OSError(number, os.strerror(number), str(tmp_path))
    assert str(refused.value) == sentence


def test_what_is_read_is_a_small_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_small(tmp_path / "file", 5) == b"12345"
    with pytest.raises(FileInvalid, match="more than 4 bytes"):
        read_small(tmp_path / "file", 4)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileInvalid, match="this is no file"):
        read_small(tmp_path / "pipe", 4)


def test_room_is_that_of_the_nearest_folder(tmp_path: Path) -> None:
    room_for(tmp_path / "not" / "yet" / "there", 0)
    with pytest.raises(StoreRefused, match="set HEADRACE_HOME to a folder on another disk"):
        room_for(tmp_path / "not" / "yet" / "there", 10**18)


PAIRS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=8)


@given(PAIRS)
def test_ranges_are_sets_of_bytes(pairs: list[tuple[int, int]]) -> None:
    ranges, present = Ranges(pairs), {byte for start, stop in pairs for byte in range(start, stop)}
    assert [byte for start, stop in ranges for byte in range(start, stop)] == sorted(present)
    assert [byte for start, stop in ranges.missing(12) for byte in range(start, stop)] == sorted({*range(12)} - present)
    assert ranges.total == len(present)
    assert all(a[1] < b[0] for a, b in zip(list(ranges), list(ranges)[1:], strict=False)), "what touches is one"


def test_the_journal_follows_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a loss of power, what the journal says must be there."""
    deeds = list[str]()
    sync, write = partial.sync, partial.write_whole
    monkeypatch.setattr(partial, "sync", lambda handle: [deeds.append("sync"), sync(handle)])
    monkeypatch.setattr(partial, "write_whole", lambda *given: [deeds.append("journal"), write(*given)])
    monkeypatch.setattr(partial, "CHECKPOINT_BYTES", 50)
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda *given: [deeds.append("write"), pwrite(*given)][1])
    with Store(tmp_path).writing() as session, session.partial(LAYER.digest, LAYER.size) as blob:
        blob.write(0, CONTENT[:30])
        blob.write(30, CONTENT[30:60])
        blob.write(60, CONTENT[60:])
        blob.commit()
    assert deeds == ["write", "write", "sync", "journal", "write", "sync"]


def journal(**changes: object) -> bytes:
    return json.dumps({"digest": LAYER.digest, "size": LAYER.size, "ranges": [[0, 50]]} | changes).encode()


LIES = [
    *(b"", b"[]", b"{}", b"[" * 100_000, b"\xff", journal(digest=digest_of(b"x"))),
    *(journal(size=size) for size in (99, 101, "100", None, 10**400)),
    *(journal(ranges=[one]) for one in (None, 1, [0, 101], [-1, 5], [5, 5], [0, 1, 2], ["0", 1], [0, 1.5])),
    journal(ranges={"0": 50}),
]


@pytest.mark.parametrize("text", LIES)
def test_a_journal_that_lies_is_not_believed(text: bytes, tmp_path: Path) -> None:
    data, place = places(tmp_path, LAYER.digest)
    data.write_bytes(CONTENT)
    place.write_bytes(text)
    assert journal_of(data, place, LAYER.digest, LAYER.size) is None
    place.write_bytes(journal())
    assert [*(journal_of(data, place, LAYER.digest, LAYER.size) or ())] == [(0, 50)]


def test_a_journal_whose_data_are_gone_or_cut_off_is_not_believed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.writing() as session, session.partial(LAYER.digest, LAYER.size) as blob:
        blob.write(0, CONTENT[:30])
    assert store.received(LAYER) == 30
    data, _ = places(tmp_path / "partial", LAYER.digest)
    os.truncate(data, 50)
    assert store.received(LAYER) == 0
    with store.writing() as session, session.partial(LAYER.digest, LAYER.size) as blob:
        assert blob.missing() == [(0, 100)]
