"""The store: what is listed is whole, what is in use stays, and what goes is gone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headrace.errors import Busy, FileInvalid, ModelNotFound, RequestInvalid, StoreRefused
from headrace.library.manifest import CONFIG, OLLAMA, Layer, Manifest, build, digest_of
from headrace.library.names import Name
from headrace.library.store import Store
from tests.library.stores import install, receive

TINY = Name.parse("tiny")
MODEL = OLLAMA + "model"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def files(store: Store) -> set[str]:
    return {str(path.relative_to(store.root)) for path in store.root.rglob("*") if path.is_file()}


def test_a_store_that_is_not_there_is_empty(store: Store) -> None:
    assert store.names() == []
    assert store.listed() == []
    assert store.collect() == store.repair() == 0
    with pytest.raises(ModelNotFound, match="model 'tiny' not found: `headrace pull tiny` may bring it"):
        store.manifest(TINY)
    assert not store.root.exists()


def test_put_and_remove_leave_nothing_behind(store: Store) -> None:
    manifest = install(store, "Tiny", system=b"Be brief.")
    assert store.names() == [TINY]
    assert store.manifest(TINY) == manifest
    assert [store.blob(layer.digest).read_bytes() for layer in manifest.of("system")] == [b"Be brief."]
    [listed] = store.listed()
    assert (listed.size_bytes, listed.digest, listed.problem) == (manifest.size_bytes, manifest.digest, None)
    assert store.remove(Name.parse("TINY")) == manifest.size_bytes
    assert files(store) == {"lock"}
    with pytest.raises(ModelNotFound):
        store.remove(TINY)


def test_blobs_are_shared(store: Store) -> None:
    first, second = install(store, "one", b"same"), install(store, "two", b"same", system=b"else")
    assert store.remove(Name.parse("two")) == 4
    assert all(map(store.has, first.blobs))
    assert not store.has(second.of("system")[0])


def test_a_copy_keeps_the_bytes(store: Store) -> None:
    manifest = install(store, "tiny")
    assert store.copy(TINY, Name.parse("me/mine:v2")).raw == manifest.raw
    store.remove(TINY)
    assert store.names() == [Name.parse("me/mine:v2")]
    assert store.verify(Name.parse("me/mine:v2")) == []


def test_names_are_found_in_any_case(store: Store) -> None:
    install(store, "hf.co/LiquidAI/LFM2-8B-A1B-GGUF:Q4_0")
    found = store.place_of(Name.parse("huggingface.co/liquidai/lfm2-8b-a1b-gguf:q4_0"))
    assert found == store.manifests / "hf.co/LiquidAI/LFM2-8B-A1B-GGUF/Q4_0"
    install(store, "hf.co/liquidai/LFM2-8b-a1b-gguf:q4_0", b"newer")
    assert len(store.names()) == 1


def test_a_manifest_without_its_blobs_is_refused(store: Store) -> None:
    absent = Layer(MODEL, digest_of(b"absent"), 6)
    with store.writing() as session, pytest.raises(FileInvalid, match="which is not here: pull it again"):
        session.put(TINY, build(session.add(b"{}", CONFIG), [absent]))
    assert store.names() == []


def test_a_model_whose_blobs_are_gone_is_listed_as_broken(store: Store) -> None:
    manifest = install(store, "tiny")
    store.drop(manifest.of("model")[0])
    assert [one.problem for one in store.listed()] == ["1 of its 2 blobs are missing: pull it again"]
    assert store.verify(TINY) == [(manifest.of("model")[0], "it is missing or not whole")]


def test_a_model_that_goes_while_it_is_looked_at_is_not_listed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    install(store, "tiny")
    has = store.has

    def late(layer: Layer) -> bool:
        if store.has_model(TINY):
            store.remove(TINY)
        return has(layer)

    monkeypatch.setattr(store, "has", late)
    assert store.listed() == []


@pytest.mark.parametrize("look", ["listed", "verify"])
def test_a_model_that_goes_and_comes_while_it_is_looked_at_is_whole(
    look: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its manifest is the same afterwards, to the byte, and its blobs were missing in between."""
    manifest = install(store, "tiny")
    has, left = store.has, iter([True])

    def late(layer: Layer) -> bool:
        if layer.kind == "model" and next(left, False):
            store.remove(TINY)
            found = has(layer)
            install(store, "tiny")
            return found
        return has(layer)

    monkeypatch.setattr(store, "has", late)
    assert [one.problem for one in store.listed()] == [None] if look == "listed" else store.verify(TINY) == []
    assert next(left, None) is None
    assert store.manifest(TINY) == manifest


@pytest.mark.parametrize("after", [None, b"another"])
def test_what_goes_before_it_is_kept_is_not_copied(
    after: bytes | None, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(store, "tiny")
    manifest, left = store.manifest, iter([True])

    def late(name: Name) -> Manifest:
        found = manifest(name)
        if next(left, False):
            store.remove(TINY)
            if after:
                install(store, "tiny", after)
        return found

    monkeypatch.setattr(store, "manifest", late)
    if after:
        assert store.copy(TINY, Name.parse("mine")) == manifest(TINY)
        assert store.verify(Name.parse("mine")) == []
    else:
        with pytest.raises(ModelNotFound, match="'tiny' not found"):
            store.copy(TINY, Name.parse("mine"))


def test_a_damaged_blob_is_found_and_dropped(store: Store) -> None:
    manifest = install(store, "tiny")
    [layer] = manifest.of("model")
    store.blob(layer.digest).write_bytes(b"wEights")
    seen = list[tuple[int, int]]()
    [(wrong, problem)] = store.verify(TINY, lambda done, total: seen.append((done, total)))
    assert (wrong, problem) == (layer, f"its digest is {digest_of(b'wEights')}")
    assert seen == sorted(seen)
    assert seen[-1] == (manifest.size_bytes, manifest.size_bytes)
    store.drop(layer)
    assert not store.has(layer)


def test_a_damaged_manifest_is_listed_and_can_be_removed(store: Store) -> None:
    manifest = install(store, "tiny")
    store.place_of(TINY).write_bytes(manifest.raw[:-1])
    [listed] = store.listed()
    assert listed.problem == "tiny: the manifest is not JSON"
    assert store.collect(kept_s=-1) == 0, "what it names may still be wanted"
    assert store.remove(TINY) == manifest.size_bytes


def test_what_a_session_makes_stays_until_it_ends(store: Store) -> None:
    with store.writing() as session:
        layer = session.add(b"data", MODEL)
        assert store.collect(kept_s=-1) == 0
        assert store.has(layer)
    assert store.collect() == 0, "it may be wanted soon"
    assert store.collect(kept_s=-1) == 4
    assert not store.has(layer)


def test_what_a_session_found_stays_when_its_model_goes(store: Store) -> None:
    manifest = install(store, "tiny")
    with store.writing() as session:
        session.keep(layer.digest for layer in manifest.blobs)
        assert store.remove(TINY) == 0
        session.put(Name.parse("again"), manifest.raw)
    assert store.verify(Name.parse("again")) == []


def test_a_download_goes_on_where_it_was_left(store: Store) -> None:
    content = bytes(range(256)) * 40
    layer = Layer(MODEL, digest_of(content), len(content))
    with store.writing() as session, session.partial(layer.digest, layer.size) as partial:
        partial.write(0, content[:100])
        partial.write(5000, content[5000:6000])
    assert store.received(layer) == 1100
    with store.writing() as session, session.partial(layer.digest, layer.size) as partial:
        assert partial.missing() == [(100, 5000), (6000, 10_240)]
    assert receive(store, content, layer).read_bytes() == content
    assert store.received(layer) == layer.size
    assert not list((store.root / "partial").iterdir())


def test_a_download_of_other_bytes_is_dropped(store: Store) -> None:
    layer = Layer(MODEL, digest_of(b"right"), 5)
    with pytest.raises(FileInvalid, match="was dropped: pull it again"):
        receive(store, b"wrong", layer)
    assert not store.has(layer)
    assert receive(store, b"right", layer).read_bytes() == b"right"


def test_a_download_that_lacks_bytes_is_no_blob(store: Store) -> None:
    layer = Layer(MODEL, digest_of(b"right"), 5)
    with store.writing() as session, session.partial(layer.digest, layer.size) as partial:
        partial.write(0, b"rig")
        with pytest.raises(FileInvalid, match="2 of 5 bytes are missing"):
            partial.commit()
        with pytest.raises(RequestInvalid, match="bytes 3 to 6 do not belong to a blob of 5 bytes"):
            partial.write(3, b"ht!")
    assert store.received(layer) == 3


def test_only_one_receives_a_blob(store: Store) -> None:
    layer = Layer(MODEL, digest_of(b"right"), 5)
    told = list[bool]()
    with store.writing() as one, one.partial(layer.digest, layer.size) as partial:
        with (
            store.writing() as two,
            pytest.raises(Busy, match="another process is at it"),
            two.partial(layer.digest, layer.size, 0, lambda: told.append(True)),
        ):
            pass
        partial.write(0, b"right")
        partial.commit()
        with pytest.raises(RequestInvalid):
            partial.write(0, b"right")
    with store.writing() as two, two.partial(layer.digest, layer.size) as partial:
        assert partial.is_whole
        assert partial.missing() == []
        assert partial.commit() == store.blob(layer.digest)


def test_collecting_spares_a_download_in_progress(store: Store) -> None:
    layer = Layer(MODEL, digest_of(b"right"), 5)
    with store.writing() as session, session.partial(layer.digest, layer.size) as partial:
        partial.write(0, b"rig")
        partial.checkpoint()
        store.collect(kept_s=-1)
        assert store.received(layer) == 3
        partial.write(3, b"ht")
        partial.commit()
        store.collect(kept_s=-1)
        assert store.has(layer)
    with store.writing() as session, session.partial(digest_of(b"x"), 1):
        pass
    store.collect()
    assert list((store.root / "partial").iterdir()), "it is not old"
    store.collect(kept_s=-1)
    assert not list((store.root / "partial").iterdir())


def test_a_file_is_adopted(store: Store) -> None:
    with store.writing() as session:
        with session.scratch() as path:
            path.write_bytes(b"made here")
            with pytest.raises(FileInvalid, match="what was received has the digest"):
                session.adopt(path, MODEL, digest_of(b"made elsewhere"))
            layer = session.adopt(path, MODEL, digest_of(b"made here"))
        with session.scratch() as path:
            path.write_bytes(b"given up")
        assert not path.exists()
    assert store.blob(layer.digest).read_bytes() == b"made here"


def test_a_folder_to_write_in_is_gone_afterwards(store: Store) -> None:
    with store.writing() as session:
        with session.folder() as folder:
            (folder / "below").mkdir()
            (folder / "below" / "file").write_bytes(b"made here")
        assert not folder.exists()
        never_left = session.folder()
        lost = never_left.__enter__()
        (lost / "file").write_bytes(b"of one who was killed")
    assert not lost.exists()


def test_what_others_leave_among_sessions_is_in_nobodys_way(store: Store, tmp_path: Path) -> None:
    """A file browser's own file; a link, which may lead to what is dear to somebody."""
    install(store, "tiny")
    (tmp_path / "dear").mkdir()
    (tmp_path / "dear" / "letter").write_bytes(b"Dear")
    (store.root / "sessions" / ".DS_Store").write_bytes(b"")
    (store.root / "sessions" / "link").symlink_to(tmp_path / "dear")
    install(store, "other", b"else")
    store.repair()
    store.collect(kept_s=-1)
    assert store.remove(TINY) > 0
    assert [path.name for path in (tmp_path / "dear").iterdir()] == ["letter"]


def test_links_are_not_written_through(store: Store, tmp_path: Path) -> None:
    install(store, "tiny")
    outside = tmp_path / "outside"
    (store.manifests / "registry.ollama.ai" / "library").rename(outside)
    (store.manifests / "registry.ollama.ai" / "library").symlink_to(outside)
    assert store.names() == [TINY], "reading is another matter"
    with pytest.raises(StoreRefused, match="should be a folder and is a link or a file: move it away"):
        store.remove(TINY)
    with pytest.raises(StoreRefused, match="should be a folder"):
        install(store, "other")
    assert [path.name for path in outside.rglob("*") if path.is_file()] == ["latest"]


@pytest.mark.parametrize("folder", ["blobs", "manifests", "partial", "sessions"])
def test_no_folder_of_the_store_is_a_link(folder: str, store: Store, tmp_path: Path) -> None:
    manifest = install(store, "tiny")
    (store.root / folder).rename(tmp_path / "outside")
    (store.root / folder).symlink_to(tmp_path / "outside")
    before = sorted((tmp_path / "outside").rglob("*"))
    changes = (
        lambda: store.remove(TINY),
        lambda: store.drop(manifest.layers[0]),
        lambda: store.collect(kept_s=-1),
        lambda: install(store, "other"),
        store.repair,
    )
    for change in changes:
        with pytest.raises(StoreRefused, match=f"{folder} should be a folder and is a link or a file: move it away"):
            change()  # type: ignore[operator]
    assert sorted((tmp_path / "outside").rglob("*")) == before


def test_what_is_in_the_way_is_to_be_moved(store: Store) -> None:
    store.root.parent.mkdir(exist_ok=True)
    store.root.write_bytes(b"")
    with pytest.raises(StoreRefused, match=r"store cannot be read or written \(File exists\): move it away"):
        install(store, "tiny")
    store.root.unlink()
    (store.manifests / "registry.ollama.ai/library/tiny/latest").mkdir(parents=True)
    with pytest.raises(StoreRefused, match=r"latest cannot be read or written \(Is a directory\): move it away"):
        install(store, "tiny")


def test_a_blob_that_is_a_link_is_none(store: Store, tmp_path: Path) -> None:
    manifest = install(store, "tiny")
    [layer] = manifest.of("model")
    (tmp_path / "elsewhere").write_bytes(b"weights")
    store.blob(layer.digest).unlink()
    store.blob(layer.digest).symlink_to(tmp_path / "elsewhere")
    assert not store.has(layer)
    assert Store(store.root, can_write=False).has(layer), "others may do as they like with theirs"


def test_a_store_of_others_is_not_changed(store: Store) -> None:
    install(store, "tiny")
    before = files(store)
    theirs = Store(store.root, can_write=False)
    assert theirs.names() == [TINY]
    assert theirs.verify(TINY) == []
    for change in (theirs.collect, theirs.repair, lambda: theirs.remove(TINY), lambda: install(theirs, "x")):
        with pytest.raises(StoreRefused, match="belongs to another program: Headrace does not change it"):
            change()  # type: ignore[operator]
    assert files(store) == before


def test_what_the_disk_refuses_is_a_sentence(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    layer = Layer(MODEL, digest_of(b"right"), 5)
    with store.writing() as session, session.partial(layer.digest, layer.size) as partial:
        partial.write(0, b"ri")
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", full)
            with pytest.raises(StoreRefused, match="there is no room left on this disk: free some space"):
                partial.write(2, b"ght")
    assert store.received(layer) == 2
    with pytest.raises(StoreRefused, match=r"GB free, but 1000000000\.1 GB are needed"):
        store.room_for(10**18)
