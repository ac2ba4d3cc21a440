"""Links in the store: what they lead to is never written, cut off, locked or taken for a blob, put there when they may.

The store's folder itself may be one: it is the user's.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.errors import FileInvalid, HeadraceError, StoreRefused
from headrace.library import partial
from headrace.library.files import write_whole
from headrace.library.manifest import CONFIG, OLLAMA, Layer, build, digest_of
from headrace.library.names import Name
from headrace.library.partial import Ranges, places
from headrace.library.store import Store
from tests.library.stores import install, receive

TINY, MODEL = Name.parse("tiny"), OLLAMA + "model"
CONTENT, DEAR = b"weights" * 20, b"Dear " * 28
LAYER = Layer(MODEL, digest_of(CONTENT), len(CONTENT))
MOVE = "Too many levels of symbolic links.*: move it away"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    install(store, "tiny", CONTENT)
    return store


@pytest.fixture
def dear(tmp_path: Path) -> Path:
    """A file of the user's, as large as the blob."""
    path = tmp_path / "dear"
    path.write_bytes(DEAR)
    assert len(DEAR) == len(CONTENT)
    return path


def swap(path: Path, dear: Path) -> None:
    """A link takes the place of what is there."""
    path.unlink(missing_ok=True)
    path.symlink_to(dear)


def test_the_store_may_be_one(store: Store, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(store.root)
    linked = Store(tmp_path / "link")
    install(linked, "other", b"else")
    assert linked.remove(TINY) == len(CONTENT)
    assert store.verify(Name.parse("other")) == []


@pytest.mark.parametrize("name", ["latest", "blob"])
def test_what_is_written_takes_the_place_of_a_link(name: str, store: Store, dear: Path) -> None:
    path = store.place_of(TINY) if name == "latest" else store.blob(LAYER.digest)
    swap(path, dear)
    install(store, "tiny", CONTENT)
    assert path.is_file()
    assert not path.is_symlink()
    assert dear.read_bytes() == DEAR
    swap(path, dear)
    store.remove(TINY)
    store.collect(kept_s=-1)
    assert dear.read_bytes() == DEAR
    assert not path.is_symlink()


@pytest.mark.parametrize("suffix", ["", ".lock"])
def test_a_download_goes_through_none(suffix: str, store: Store, dear: Path) -> None:
    store.remove(TINY)
    (store.root / "partial" / f"{LAYER.digest.replace(':', '-')}{suffix}").symlink_to(dear)
    with pytest.raises(StoreRefused, match=MOVE):
        receive(store, CONTENT, LAYER)
    assert dear.read_bytes() == DEAR


@pytest.mark.parametrize("suffix", [".journal", ".part"])
def test_a_journal_takes_the_place_of_one(suffix: str, store: Store, dear: Path) -> None:
    store.remove(TINY)
    (store.root / "partial" / f"{LAYER.digest.replace(':', '-')}{suffix}").symlink_to(dear)
    with store.writing() as session, session.partial(LAYER.digest, LAYER.size) as blob:
        blob.write(0, CONTENT[:50])
    assert store.received(LAYER) == 50
    assert receive(store, CONTENT, LAYER).read_bytes() == CONTENT
    assert dear.read_bytes() == DEAR


def test_locks_and_pins_are_none(store: Store, dear: Path) -> None:
    with store.writing() as session:
        (pins,) = (store.root / "sessions").glob("*/pins")
        swap(pins, dear)
        with pytest.raises(StoreRefused, match=MOVE):
            store.collect(kept_s=-1)
        pins.unlink()
        session.keep([LAYER.digest])
    swap(store.root / "lock", dear)
    for change in (lambda: store.remove(TINY), store.repair, lambda: install(store, "other")):
        with pytest.raises(StoreRefused, match=MOVE):
            change()  # type: ignore[operator]
    assert dear.read_bytes() == DEAR
    assert store.verify(TINY) == []


def test_a_scratch_file_is_none(store: Store, dear: Path) -> None:
    with store.writing() as session, session.scratch() as path:
        path.symlink_to(dear)
        with pytest.raises(FileInvalid, match="this is no file"):
            session.adopt(path, MODEL)
    assert dear.read_bytes() == DEAR


def test_a_part_is_none(dear: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    swap(tmp_path / "part", dear)
    write_whole(tmp_path / "file", b"whole", tmp_path / "part")
    assert not (tmp_path / "file").is_symlink()
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)  # as if it were put there just afterwards
    swap_in = tmp_path / "part"
    swap_in.symlink_to(dear)
    with pytest.raises(FileExistsError):
        write_whole(tmp_path / "file", b"whole", tmp_path / "part")
    assert dear.read_bytes() == DEAR


# --- put there between a look and the use


def test_a_download_that_becomes_one_before_it_is_opened(
    store: Store, dear: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.remove(TINY)
    data, _ = places(store.root / "partial", LAYER.digest)

    def late(*_: object) -> Ranges:
        swap(data, dear)
        return Ranges([(0, 10)])

    monkeypatch.setattr(partial, "journal_of", late)
    with pytest.raises(StoreRefused, match=MOVE):
        receive(store, CONTENT, LAYER)
    assert dear.read_bytes() == DEAR


def test_a_download_that_becomes_one_while_it_is_checked_is_no_blob(store: Store, dear: Path) -> None:
    store.remove(TINY)
    dear.write_bytes(CONTENT)
    data, _ = places(store.root / "partial", LAYER.digest)
    with store.writing() as session, session.partial(LAYER.digest, LAYER.size) as blob:
        blob.write(0, CONTENT)
        blob.commit(lambda *_: swap(data, dear))
        assert not store.has(LAYER)
        check_not_put(store, LAYER)
    store.collect(kept_s=-1)
    assert not store.blob(LAYER.digest).is_symlink()
    assert dear.read_bytes() == CONTENT


def test_a_file_that_becomes_one_while_it_is_checked_is_no_blob(store: Store, dear: Path) -> None:
    made = Layer(MODEL, digest_of(b"made here"), 9)
    with store.writing() as session:
        with session.scratch() as path:
            path.write_bytes(b"made here")
            session.adopt(path, MODEL, made.digest, lambda *_: swap(path, dear))
        check_not_put(store, made)
    store.collect(kept_s=-1)
    assert dear.read_bytes() == DEAR


def check_not_put(store: Store, layer: Layer) -> None:
    with store.writing() as session, pytest.raises(FileInvalid, match="which is not here"):
        session.put(Name.parse("other"), build(session.add(b"{}", CONFIG), [layer]))
    assert Name.parse("other") not in store.names()


@pytest.mark.parametrize("digest", ["sha256:../../dear", "../dear", f"sha256-{'0' * 64}", f"sha256:{'0' * 63}/", ""])
def test_no_digest_leads_out_of_the_store(digest: str, store: Store) -> None:
    layer = Layer(MODEL, digest, 1)
    with store.writing() as session:
        for use in (
            lambda: store.blob(digest),
            lambda: store.has(layer),
            lambda: store.drop(layer),
            lambda: session.keep([digest]),
            lambda: session.partial(digest, 1).__enter__(),
        ):
            with pytest.raises(HeadraceError, match="is no digest: expected sha256: and 64 digits"):
                use()


@pytest.mark.parametrize("size", [-1, 1 << 60, 1 << 42 | 1])
def test_no_blob_has_an_absurd_size(size: int, store: Store) -> None:
    with (
        store.writing() as session,
        pytest.raises(HeadraceError, match="a blob has from 0 to 4398046511104 bytes"),
        session.partial(LAYER.digest, size),
    ):
        pass
