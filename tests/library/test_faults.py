"""Whatever goes wrong on the way, nothing is installed that is not right, and every pull that can end well does."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from threading import Event
from typing import Any

import pytest

from headrace.errors import HeadraceError
from headrace.library import partial
from headrace.library.manifest import Layer, digest_of, parse
from headrace.library.names import Name
from headrace.library.progress import Progress
from headrace.library.pull import pull
from headrace.library.registry.client import Options
from headrace.library.registry.key import Key
from headrace.library.store import Store
from tests.library.fault_server import HASTY, NoTime, Registry, registry
from tests.library.puller import start

SIZES = (0, 1, 100, 16 << 10, (16 << 10) + 1, 60_000, 200_000)

Spoil = Callable[[Registry, Random], Callable[[], Any]]  # gives what mends it


def another_blob(source: Registry, rng: Random) -> Callable[[], Any]:
    """Of the same size, or of another."""
    digest = max(source.blobs, key=lambda one: len(source.blobs[one]))
    content = source.blobs[digest]
    size = rng.choice([len(content), len(content) - 1, len(content) + 1, 2 * len(content)])
    source.blobs[digest] = bytes(size) if content != bytes(size) else b"x" * size
    return lambda: source.blobs.__setitem__(digest, content)


def without_a_blob(source: Registry, rng: Random) -> Callable[[], Any]:
    digest = rng.choice(sorted(source.blobs))
    content = source.blobs.pop(digest)
    return lambda: source.blobs.__setitem__(digest, content)


def set_to(**settings: Any) -> Spoil:
    def spoil(source: Registry, _: Random) -> Callable[[], Any]:
        before = {name: getattr(source, name) for name in settings}
        for name, value in settings.items():
            setattr(source, name, value)
        return lambda: [setattr(source, name, value) for name, value in before.items()]

    return spoil


HOPELESS: tuple[Spoil, ...] = (
    *(another_blob, another_blob, without_a_blob),
    set_to(endless_manifests=True),
    set_to(location="https://evil.example/"),
    set_to(location="file:///etc/passwd"),
    set_to(location="/v2/round"),
    set_to(wants="nothing"),
    set_to(wants="token", realm="https://evil.example/token"),
    set_to(refuses={"blobs": 500}),
    set_to(refuses={"manifests": 404}),
    set_to(manifest_headers={"docker_content_digest": digest_of(b"another")}),
)


class Left(BaseException):
    """As Ctrl-C."""


def leave_after(steps: int) -> Callable[[Progress], None]:
    left = iter(range(steps))

    def report(_: Progress) -> None:
        if next(left, None) is None:
            raise Left

    return report


def contents(rng: Random) -> dict[str, bytes]:
    kinds = rng.sample(["license", "system", "params", "template"], rng.randrange(4))
    return {kind: rng.randbytes(rng.choice(SIZES)) for kind in ("content", *kinds)}


def check_blobs(store: Store) -> None:
    for path in store.blobs.glob("*"):
        assert digest_of(path.read_bytes()) == path.name.replace("-", ":")


def check_installed(store: Store, name: Name, raw: bytes, source: Registry) -> None:
    assert store.manifest(name).raw == raw
    for layer in parse(raw, "").blobs:
        assert store.blob(layer.digest).read_bytes() == source.blobs[layer.digest]
    assert store.verify(name) == []


def play(seed: int, folder: Path) -> None:
    """A registry with a character of its own, which may have had another version of the model, may have been left once,
    may be hopeless until it is mended; and goes wrong all the time until that is over."""
    rng = Random(seed)
    store, key = Store(folder / "store"), Key(folder / "key")
    options = Options(settings=replace(HASTY, stall_s=0.3), clock=NoTime(), key=key.path)
    character = {
        "gives_ranges": rng.random() < 0.8,
        "elsewhere": rng.random() < 0.5,
        "wants": rng.choice(["", "token", "key"]),
        "token_uses": rng.choice([30, 10**9]),
        "retry_after": rng.choice(["", "1", "soon", "200"]),
    }
    with registry(seed=seed, **character) as source:
        name = Name.parse(source.name())
        key.sign(b"")
        before = None
        if rng.random() < 0.3:
            before = source.keep(**contents(rng))
            pull(name, store, options=options)
        raw = source.keep(**contents(rng))
        source.faults, source.corrupts = rng.randrange(30), rng.randrange(2)
        if rng.random() < 0.4:
            with suppress(Left):
                pull(name, store, leave_after(rng.randrange(1, 40)), options)
            check_blobs(store)
        if rng.random() < 0.3:
            mend = rng.choice(HOPELESS)(source, rng)
            check_hopeless(store, name, options, before, raw)
            mend()
        pull(name, store, options=options)
        check_installed(store, name, raw, source)
        check_blobs(store)
        assert [path for path in (store.root / "partial").glob("*") if path.suffix != ".lock"] == []


def check_hopeless(store: Store, name: Name, options: Options, before: bytes | None, raw: bytes) -> None:
    """It is as it was, or (if what is hopeless was here already) as it should be."""
    try:
        pull(name, store, options=options)
    except HeadraceError:
        check_blobs(store)
        now = store.manifest(name).raw if store.has_model(name) else None
        assert now in (before, raw)
        assert store.verify(name) == [] if now else store.names() == []
    else:
        assert store.manifest(name).raw == raw
        assert store.verify(name) == []


@pytest.fixture(autouse=True)
def _small_checkpoints(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(partial, "CHECKPOINT_BYTES", 10_000)
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("seed", range(15))
def test_nothing_corrupt_is_installed(seed: int, tmp_path: Path) -> None:
    play(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 300))
def test_nothing_corrupt_is_installed_ever(seed: int, tmp_path: Path) -> None:
    play(seed, tmp_path)


# --- kills


def kill_many(store: Store, kills: int, seed: int) -> None:
    """At a step of its own, or when so many bytes have come; a pull that got through makes room for the next."""
    rng, content = Random(seed), Random(seed).randbytes(300_000)
    killed = 0
    with registry(seed=seed) as source:
        name = Name.parse(source.name())
        raw = source.keep(content=content, license=b"be nice", system=b"")
        while killed < kills:
            source.faults = rng.randrange(8)
            if rng.random() < 0.5:
                process = start(store, source.name(), rng.randrange(1, 400))
            else:
                source.served, source.at_byte = 0, (rng.randrange(1, 100_000), Event())
                process = start(store, source.name())
                while process.poll() is None and not source.at_byte[1].wait(0.01):
                    pass
                process.kill()
            _, errors = process.communicate(timeout=60)
            assert process.returncode in (0, -signal.SIGKILL), errors
            killed += process.returncode != 0
            check_blobs(store)
            if process.returncode == 0:
                check_installed(store, name, raw, source)
                store.remove(name)
            else:
                assert not store.has_model(name) or store.verify(name) == []
        source.faults = 0
        pull(name, store, options=Options(settings=HASTY))
        check_installed(store, name, raw, source)
        store.repair()
        assert list((store.root / "sessions").iterdir()) == []


def test_killed_at_any_point(tmp_path: Path) -> None:
    kill_many(Store(tmp_path / "store"), 4, seed=1)


@pytest.mark.slow
def test_killed_a_hundred_times(tmp_path: Path) -> None:
    kill_many(Store(tmp_path / "store"), 100, seed=2)


def test_a_killed_pull_goes_on_from_its_journal(tmp_path: Path) -> None:
    store, content = Store(tmp_path / "store"), Random(7).randbytes(300_000)
    with registry(stops_at=150_000) as source:
        source.keep(content=content)
        source.at_byte = (150_000, Event())
        process = start(store, source.name())
        assert source.at_byte[1].wait(60)
        process.kill()
        process.communicate()
        received = store.received(Layer("", digest_of(content), len(content)))
        assert received >= 150_000 - 4 * (16 << 10) - 2 * 10_000, "what was on its way, and after the last checkpoint"
        source.stops_at, source.served = 0, 0
        pull(Name.parse(source.name()), store, options=Options(settings=HASTY))
        assert source.served <= len(content) - received + len(b'{"model_format":"gguf"}')
        assert store.blob(digest_of(content)).read_bytes() == content


def test_two_processes_fetch_every_byte_once(tmp_path: Path) -> None:
    store, content = Store(tmp_path / "store"), Random(8).randbytes(300_000)
    with registry() as source:
        raw = source.keep(content=content, license=b"be nice")
        for process in [start(store, source.name()) for _ in range(3)]:
            assert process.communicate(timeout=60) == ("done\n", "")
        check_installed(store, Name.parse(source.name()), raw, source)
        assert source.served == sum(map(len, source.blobs.values()))
