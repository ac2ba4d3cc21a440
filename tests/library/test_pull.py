"""A pull brings what the registry has, whole or not at all, whatever goes wrong on the way."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random
from threading import Event

import pytest

from headrace.errors import FileInvalid, Forbidden, HeadraceError, ModelNotFound, Offline, ServerFailed, StoreRefused
from headrace.library.manifest import digest_of
from headrace.library.names import Name
from headrace.library.progress import Progress
from headrace.library.pull import pull
from headrace.library.registry.client import Options
from headrace.library.registry.patience import Settings
from headrace.library.store import Store
from tests.library.fault_server import PASSING, Shelf, registry

WEIGHTS = Random(7).randbytes(300_000)
LAYERS = (("model", WEIGHTS), ("params", b'{"temperature":0.3}'), ("license", b"Free." * 900))
PART_BYTES = 16 << 10


class Hasty:
    """A clock that waits for nothing, and counts what it was asked to wait."""

    def __init__(self) -> None:
        self.waited: list[float] = []

    def now(self) -> float:
        return sum(self.waited)

    def wait(self, stop: Event, seconds: float) -> None:  # noqa: ARG002 - the protocol's signature
        self.waited.append(seconds)


def options(clock: Hasty | None = None, **settings: float) -> Options:
    given = Settings(**{"part_bytes": PART_BYTES, "connections": 3, "stall_s": 20.0, **settings})  # type: ignore[arg-type]
    return Options(settings=given, clock=clock or Hasty())


@pytest.fixture
def shelf() -> Shelf:
    shelf = Shelf()
    shelf.add("library/tiny:latest", *LAYERS)
    return shelf


@pytest.fixture
def host(shelf: Shelf) -> Iterator[str]:
    with registry(shelf) as found:
        yield found


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


def tiny(host: str) -> Name:
    return Name.parse(f"{host}/library/tiny")


def is_whole(store: Store, name: Name) -> bool:
    return store.has_model(name) and not store.verify(name)


def test_what_it_brings_and_what_it_tells(host: str, shelf: Shelf, store: Store) -> None:
    steps = list[Progress]()
    manifest = pull(tiny(host), store, steps.append, options())
    assert manifest.raw == shelf.manifests["library/tiny:latest"]
    assert is_whole(store, tiny(host))
    said = [step.status for step in steps]
    assert said[0] == "pulling manifest"
    assert said[-2:] == ["writing manifest", "success"]
    assert "verifying sha256 digest" in said
    last = {step.digest: step for step in steps if step.digest}
    assert all(step.total == step.completed for step in last.values())
    assert last.keys() == shelf.blobs.keys()


def test_a_second_pull_moves_no_blob(host: str, shelf: Shelf, store: Store) -> None:
    pull(tiny(host), store, options=options())
    shelf.asked.clear()
    pull(tiny(host), store, options=options())
    assert shelf.asked == ["/v2/library/tiny/manifests/latest"]


def test_of_a_changed_model_only_what_is_new(host: str, shelf: Shelf, store: Store) -> None:
    pull(tiny(host), store, options=options())
    shelf.asked.clear()
    shelf.add("library/tiny:latest", ("model", WEIGHTS), ("system", b"Be brief."), ("license", b"Free." * 900))
    pull(tiny(host), store, options=options())
    assert [path.rpartition("/")[2] for path in shelf.asked[1:]] == [digest_of(b"Be brief.")]
    assert is_whole(store, tiny(host))


def test_it_goes_on_where_it_was_ended(host: str, shelf: Shelf, store: Store) -> None:
    class Enough(Exception):
        pass

    def until_half(step: Progress) -> None:
        if step.digest == digest_of(WEIGHTS) and (step.completed or 0) > len(WEIGHTS) // 2:
            raise Enough

    with pytest.raises(Enough):
        pull(tiny(host), store, until_half, options(connections=1))
    assert not store.has_model(tiny(host))
    before, shelf.blob_bytes = shelf.blob_bytes, 0
    pull(tiny(host), store, options=options())
    assert is_whole(store, tiny(host))
    assert before > len(WEIGHTS) // 2
    assert shelf.blob_bytes < len(WEIGHTS), "what was there is not fetched again"


def test_a_registry_without_ranges(host: str, shelf: Shelf, store: Store) -> None:
    shelf.ranges = False
    pull(tiny(host), store, options=options())
    assert is_whole(store, tiny(host))
    assert len(shelf.asked) == 1 + len(shelf.blobs), "each blob in one stream"


def test_a_token_is_fetched_and_shown_to_nobody_else(host: str, shelf: Shelf, store: Store) -> None:
    shelf.needs_token = True
    shelf.faults = ["elsewhere"] * 9
    pull(tiny(host), store, options=options())
    assert is_whole(store, tiny(host))
    assert not shelf.faults
    assert shelf.leaked == []


def test_a_realm_of_others_gets_nothing(host: str, shelf: Shelf, store: Store) -> None:
    shelf.needs_token, shelf.realm = True, f"{shelf.storage}/token"
    with pytest.raises(ServerFailed, match="does not speak for it"):
        pull(tiny(host), store, options=options())


def test_it_waits_as_long_as_it_is_asked_to(host: str, shelf: Shelf, store: Store) -> None:
    clock, shelf.faults = Hasty(), ["429"]
    pull(tiny(host), store, options=options(clock))
    assert clock.waited == [2.0]


def test_damage_is_found_and_mended_once(host: str, shelf: Shelf, store: Store) -> None:
    shelf.damage = 1
    pull(tiny(host), store, options=options())
    assert is_whole(store, tiny(host))


def test_damage_that_stays_is_told_with_both_digests(host: str, shelf: Shelf, store: Store) -> None:
    shelf.damage = 10_000
    with pytest.raises(FileInvalid, match=r"sha256:[0-9a-f]{64}.*sha256:[0-9a-f]{64}"):
        pull(tiny(host), store, options=options())
    assert store.names() == []


def test_a_blob_that_is_not_there(host: str, shelf: Shelf, store: Store) -> None:
    del shelf.blobs[digest_of(WEIGHTS)]
    with pytest.raises(ServerFailed, match="which the manifest names"):
        pull(tiny(host), store, options=options())
    assert store.names() == []


def test_a_model_that_is_not_there(host: str, store: Store) -> None:
    with pytest.raises(ModelNotFound, match="look at its spelling"):
        pull(Name.parse(f"{host}/library/other"), store, options=options())


@pytest.mark.parametrize(
    "raw",
    [
        b"[]",
        b"{" * 5000,
        b'{"schemaVersion":2,"layers":[]}',
        b'{"schemaVersion":2,"config":{"mediaType":"x","digest":"sha256:../../etc","size":1},"layers":[]}',
        b'{"schemaVersion":2,"layers":[{"mediaType":"application/vnd.ollama.image.model","digest":"sha256:'
        + b"0" * 64
        + b'","size":9223372036854775807}]}',
        b" " * (5 << 20),
    ],
    ids=["a list", "deep", "nothing", "traversal", "absurd size", "huge"],
)
def test_a_manifest_that_is_none(raw: bytes, host: str, shelf: Shelf, store: Store) -> None:
    shelf.manifests["library/tiny:latest"] = raw
    with pytest.raises(HeadraceError):
        pull(tiny(host), store, options=options())
    assert store.names() == []
    assert not any(path.is_file() for path in store.blobs.glob("*"))


def test_a_full_disk_is_a_sentence_and_no_loss(host: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    written, real = 0, os.pwrite

    def full(handle: int, data: bytes, at: int) -> int:
        nonlocal written
        written += len(data)
        if written > len(WEIGHTS) // 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, data, at)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(StoreRefused, match=r"No space left|room"):
            pull(tiny(host), store, options=options())
    assert store.names() == []
    pull(tiny(host), store, options=options())
    assert is_whole(store, tiny(host))


def test_room_is_looked_for_first(host: str, shelf: Shelf, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(size_bytes: int) -> None:
        raise StoreRefused(f"there is no room for {size_bytes}")

    monkeypatch.setattr(store, "room_for", none)
    with pytest.raises(StoreRefused, match="no room"):
        pull(tiny(host), store, options=options())
    assert shelf.blob_bytes == 0


def test_nothing_is_fetched_offline(host: str, shelf: Shelf, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_OFFLINE", "1")
    with pytest.raises(Offline, match="HEADRACE_OFFLINE is set"):
        pull(tiny(host), store, options=options())
    assert shelf.asked == []


def test_a_registry_that_nobody_allowed(store: Store) -> None:
    with pytest.raises(Forbidden, match="name it in HEADRACE_REGISTRIES"):
        pull(Name.parse("registry.example.com/a/b"), store, options=options())


def attempt(seed: int, shelf: Shelf, host: str, store: Store) -> None:
    """With faults that pass: it comes to its end. With damage that may stay: whole, or not at all."""
    rng = Random(seed)
    shelf.ranges, shelf.needs_token = rng.random() < 0.8, rng.random() < 0.3
    shelf.draw(rng, rng.randrange(12), PASSING)
    shelf.damage = rng.choice((0, 0, 0, 1, 1, 50))
    lasting = shelf.damage > 1
    try:
        pull(tiny(host), store, options=options(connections=rng.randrange(1, 5), tries=14, first_tries=14))
    except FileInvalid:
        assert lasting
    for name in store.names():
        assert is_whole(store, name)
    assert lasting or store.has_model(tiny(host))
    assert shelf.leaked == []


@pytest.mark.parametrize("seed", range(15))
def test_nothing_corrupt_is_ever_installed(seed: int, shelf: Shelf, host: str, store: Store) -> None:
    attempt(seed, shelf, host, store)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 300))
def test_nothing_corrupt_is_ever_installed_in_the_long_run(seed: int, shelf: Shelf, host: str, store: Store) -> None:
    attempt(seed, shelf, host, store)
