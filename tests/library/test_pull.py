"""Pulls from a registry that does what it should, and from registries that do one thing wrong."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from headrace.errors import (
    FileInvalid,
    Forbidden,
    HeadraceError,
    ModelNotFound,
    ServerFailed,
    StoreRefused,
    Unreachable,
    Unsupported,
)
from headrace.library import files
from headrace.library import pull as pulling
from headrace.library.manifest import CONFIG, OLLAMA, Layer, build, digest_of, parse
from headrace.library.names import Name
from headrace.library.progress import Progress
from headrace.library.pull import pull
from headrace.library.registry import fetch as fetching
from headrace.library.registry.client import Options, Place, connect
from headrace.library.registry.patience import Stopped
from headrace.library.registry.span import Span
from headrace.library.store import Store
from tests.library.disks import small_disk
from tests.library.fault_server import HASTY, PASSING, NoTime, Registry, registry

CONTENT = Random(1).randbytes(100_000)
OPTIONS = Options(settings=HASTY)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def source() -> Iterator[Registry]:
    with registry() as found:
        found.keep(content=CONTENT, license=b"be nice", system=b"")
        yield found


def fetch(source: Registry, store: Store, model: str = "a/b", **settings: Any) -> list[Progress]:
    steps = list[Progress]()
    options = Options(**{"settings": HASTY, "clock": NoTime(), **settings})
    pull(Name.parse(source.name(model)), store, steps.append, options)
    return steps


def check(store: Store, source: Registry, model: str = "a/b:latest") -> None:
    """All is there, byte for byte, and nothing else is left."""
    manifest = store.manifest(Name.parse(f"{source.host}/{model}"))
    assert manifest.raw == source.manifests[model]
    for layer in manifest.blobs:
        assert store.blob(layer.digest).read_bytes() == source.blobs[layer.digest]
    assert [path for path in (store.root / "partial").iterdir() if path.suffix != ".lock"] == []


def test_a_pull_in_ollamas_words(store: Store, source: Registry) -> None:
    steps = fetch(source, store)
    check(store, source)
    model = parse(source.manifests["a/b:latest"], "").of("model")[0]
    assert steps[0].fields() == {"status": "pulling manifest"}
    assert [step.status for step in steps if step.digest is None] == (
        ["pulling manifest", *["verifying sha256 digest"] * 3, "writing manifest", "success"]
    )
    of_model = [step for step in steps if step.digest == model.digest]
    assert of_model[-1].fields() == {
        "status": f"pulling {model.digest[7:19]}",
        "digest": model.digest,
        "total": 100_000,
        "completed": 100_000,
    }
    assert sorted(step.completed or 0 for step in of_model) == [step.completed or 0 for step in of_model]
    assert len(source.asks(f"GET /v2/a/b/blobs/{model.digest}")) == 7, "of 16 KiB each"


def test_a_second_pull_moves_the_manifest_alone(store: Store, source: Registry) -> None:
    fetch(source, store)
    source.asked.clear()
    steps = fetch(source, store)
    assert source.asked == ["GET /v2/a/b/manifests/latest"]
    assert [step.completed for step in steps if step.digest] == [
        layer.size for layer in parse(source.manifests["a/b:latest"], "").blobs
    ]


@pytest.mark.parametrize("family", ["gemma9", ["llama"]])
def test_what_cannot_run_is_not_fetched(family: object, store: Store, source: Registry) -> None:
    keep_family(source, family)
    with pytest.raises(Unsupported, match=r"the family .*, which does not run here: lfm2, lfm2moe, llama do"):
        fetch(source, store)
    assert not store.names()
    assert not [path for path in source.asked if digest_of(CONTENT) in path]


@pytest.mark.parametrize("family", ["lfm2moe", "llama", "", None])
def test_what_may_run_is_fetched(family: object, store: Store, source: Registry) -> None:
    keep_family(source, family)
    fetch(source, store)
    check(store, source)


def keep_family(source: Registry, family: object) -> None:
    config = json.dumps({"model_family": family}).encode()
    source.blobs[digest_of(config)] = config
    model = Layer(OLLAMA + "model", digest_of(CONTENT), len(CONTENT))
    source.manifests["a/b:latest"] = build(Layer(CONFIG, digest_of(config), len(config)), [model])


def test_a_changed_model_moves_the_changed_layers_alone(store: Store, source: Registry) -> None:
    fetch(source, store)
    source.asked.clear()
    source.keep(content=CONTENT, license=b"be very nice", system=b"")
    fetch(source, store)
    check(store, source)
    assert source.asked == ["GET /v2/a/b/manifests/latest", f"GET /v2/a/b/blobs/{digest_of(b'be very nice')}"]


def test_a_short_name_of_the_family_comes_from_its_source(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with registry() as source:
        source.keep("LiquidAI/LFM2-350M-GGUF:Q4_0")
        there = Name(source.host, "LiquidAI", "LFM2-350M-GGUF", "Q4_0")
        monkeypatch.setattr("headrace.library.family.source", lambda _: there)
        monkeypatch.setattr(Name, "repository", "LiquidAI/LFM2-350M-GGUF")
        pull(Name.parse("lfm2:350m"), store, options=OPTIONS)
        assert store.names() == [Name.parse("lfm2:350m")]
        assert source.asked[0] == "GET /v2/LiquidAI/LFM2-350M-GGUF/manifests/Q4_0"


def test_what_comes_from_elsewhere_comes_without_our_token(store: Store) -> None:
    with registry(elsewhere=True, wants="token") as source:  # which checks that itself
        source.keep(content=CONTENT)
        fetch(source, store)
        check(store, source)


def test_a_registry_that_is_not_there(store: Store) -> None:
    with registry() as source:
        pass
    clock = NoTime()
    with pytest.raises(Unreachable, match=rf"nothing answers at {source.host} \(.*\): start the registry there"):
        pull(Name.parse(source.name()), store, options=Options(clock=clock))
    assert len(clock.waits) == 3
    assert 0.25 <= clock.waits[0] <= 0.5 <= clock.waits[1] <= 1.0 <= clock.waits[2] <= 2.0
    assert store.names() == []


def test_a_model_that_is_not_there(store: Store, source: Registry) -> None:
    with pytest.raises(ModelNotFound, match=re.escape(f"{source.host} has no {source.name('a/c')}: it is 404")):
        fetch(source, store, "a/c")
    assert len(source.asked) == 1, "an answer is no reason to ask again"


def test_what_is_no_model(store: Store, source: Registry) -> None:
    raw = source.manifests["a/b:latest"].replace(b"ollama.image.model", b"other.image.layer")
    source.manifests["a/b:latest"] = raw
    with pytest.raises(Unsupported, match="is no model"):
        fetch(source, store)
    assert not source.served


def test_what_others_remove_meanwhile_stays(store: Store, source: Registry) -> None:
    fetch(source, store)
    store.copy(Name.parse(source.name()), Name.parse("mine"))
    store.remove(Name.parse(source.name()))

    def remove(step: Progress) -> None:
        if step.digest and store.names():
            store.remove(Name.parse("mine"))

    source.served = 0
    pull(Name.parse(source.name()), store, remove, OPTIONS)
    check(store, source)
    assert store.names() == [Name.parse(source.name())]
    assert source.served == 0


def test_nothing_is_written_once_it_is_over(store: Store, source: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = Layer("", digest_of(CONTENT), len(CONTENT))
    with (
        connect(Name.parse(source.name())) as client,
        store.writing() as session,
        session.partial(layer.digest, layer.size) as partial,
    ):

        def pieces() -> Iterator[bytes]:
            client.patience.stop.set()
            yield CONTENT

        monkeypatch.setattr(fetching, "opened", lambda *_: nullcontext(Span(0, True, pieces())))
        part = fetching.Part(fetching.Incoming(layer, partial), 0, len(CONTENT))
        with pytest.raises(Stopped):
            fetching.Fetch(client, Place("a/b", "a/b"))._ask(part, threading.Lock())
        assert partial.received == 0


# --- one thing goes wrong, and passes


@pytest.mark.parametrize(
    "kind",
    [*dict.fromkeys(PASSING), "corrupt"],
)
@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "elsewhere"])
def test_it_is_asked_again(store: Store, kind: str, elsewhere: bool) -> None:
    many = 1 if kind in ("corrupt", "stall") else 3
    with registry(faults=many, kinds=(kind,), elsewhere=elsewhere, seed=len(kind)) as source:
        source.keep(content=CONTENT)
        fetch(source, store)
        check(store, source)
        assert source.faults < many, "it has gone wrong"


@pytest.mark.parametrize("kinds", [("drop",), ("drop", "stall"), ("whole",), ("trickle", "surplus")])
def test_without_ranges_it_comes_in_one_stream(store: Store, kinds: tuple[str, ...]) -> None:
    with registry(faults=4, kinds=kinds, gives_ranges=False) as source:
        source.keep(content=CONTENT)
        fetch(source, store)
        check(store, source)
        assert len(source.asks(digest_of(CONTENT))) <= 5


def test_a_registry_that_refuses_every_range_gives_the_whole(store: Store) -> None:
    with registry(faults=10**6, luck=0, kinds=("416",)) as source:
        source.keep(content=CONTENT)
        fetch(source, store, settings=replace(HASTY, tries=2))
        check(store, source)


def test_a_range_that_was_not_asked_for_is_not_taken(store: Store) -> None:
    with registry(faults=10**6, luck=0, kinds=("another range",)) as source:
        source.keep(content=CONTENT)
        with pytest.raises(ServerFailed, match=r"was asked for bytes [0-9]+ to [0-9]+ and sends 'bytes [0-9]+-"):
            fetch(source, store, settings=replace(HASTY, tries=2))


def test_a_registry_that_sends_byte_after_byte_is_left(store: Store) -> None:
    with registry(faults=10**6, luck=0, kinds=("one byte",)) as source:
        source.keep(content=CONTENT)
        with pytest.raises(ServerFailed, match=r"sends less of sha256:[0-9a-f]{64} than it is asked for"):
            fetch(source, store, settings=replace(HASTY, tries=8, worthwhile_bytes=64 << 10))


def test_what_storage_does_is_said_of_storage(store: Store) -> None:
    with registry(elsewhere=True, faults=10**6, kinds=("hang up",)) as source:
        source.keep(content=CONTENT)
        source.storage = source.storage.replace("127.0.0.1", "127.0.0.2")
        with pytest.raises(Unreachable, match=r"nothing answers at 127\.0\.0\.2:\d+ \(Connection refused\)"):
            fetch(source, store, settings=replace(HASTY, tries=2))


def test_storage_that_refuses_an_address_that_expired_is_asked_with_another(store: Store) -> None:
    with registry(faults=3, kinds=("403",), elsewhere=True) as source:
        source.keep(content=CONTENT)
        fetch(source, store)
        check(store, source)


def test_a_registry_is_given_the_time_that_it_asks_for(store: Store) -> None:
    clock = NoTime()
    with registry(faults=2, kinds=("429",), retry_after="120") as source:
        source.keep(content=b"short")
        fetch(source, store, clock=clock)
    assert clock.waits == [120, 120]


def test_a_manifest_that_comes_without_end_but_slowly(
    store: Store, source: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.endless_manifests = True
    monkeypatch.setattr("headrace.library.registry.web.LONGEST_S", -1)
    with pytest.raises(ServerFailed, match=r"127.0.0.1 has sent only [0-9]+ bytes in -1 seconds: try again later"):
        fetch(source, store, settings=replace(HASTY, first_tries=2))
    assert len(source.asks("manifests")) == 2


def test_a_registry_that_asks_for_too_much_time(store: Store, source: Registry) -> None:
    source.refuses["manifests"], source.retry_after = 503, "3600"
    with pytest.raises(ServerFailed, match=r"it is 503 \(it asks for 3600 seconds of patience\): try again later"):
        fetch(source, store)


@pytest.mark.parametrize(("worthwhile", "ends"), [(1, True), (1 << 30, False)], ids=["some", "too few"])
def test_a_server_that_is_too_slow_is_left_and_its_bytes_are_kept(
    store: Store, source: Registry, worthwhile: int, ends: bool
) -> None:
    """On a clock that stands still, whatever comes is too slow if so much is wanted within no time."""
    source.keep(content=CONTENT * 10)
    slow = replace(HASTY, slow_s=0, slow_bytes=1 << 30, worthwhile_bytes=worthwhile, tries=3, part_bytes=1 << 30)
    if ends:
        fetch(source, store, settings=slow)
        check(store, source)
    else:
        with pytest.raises(ServerFailed, match=r"has sent only [0-9]+ bytes in 0 seconds: try again later"):
            fetch(source, store, settings=slow)
        assert store.received(Layer("", digest_of(CONTENT * 10), len(CONTENT) * 10)) > 0


# --- one thing goes wrong, and stays


def test_a_blob_with_another_digest_is_fetched_twice_and_not_installed(store: Store, source: Registry) -> None:
    digest, other = digest_of(CONTENT), bytes(100_000)
    source.blobs[digest] = other
    with pytest.raises(FileInvalid, match=f"{digest}: what was received has the digest {digest_of(other)}"):
        fetch(source, store)
    assert len(source.asks(digest)) == 14
    assert store.names() == []
    assert not store.blob(digest).exists()
    assert store.blob(digest_of(b"be nice")).exists(), "what is right stays"


@pytest.mark.parametrize("size", [0, 50_000, 99_999, 100_001, 200_000])
@pytest.mark.parametrize("ranges", [False, True], ids=["whole", "ranges"])
def test_a_blob_of_another_size_is_not_installed(store: Store, size: int, ranges: bool) -> None:
    with registry(gives_ranges=ranges) as source:
        source.keep(content=CONTENT)
        source.blobs[digest_of(CONTENT)] = Random(2).randbytes(size)
        with pytest.raises(ServerFailed, match=r"100000|bytes 0 to"):
            fetch(source, store)
    assert store.names() == []


HOPELESS: dict[str, tuple[Callable[[Registry], Any], type[HeadraceError], str]] = {
    "a blob that is missing": (
        lambda r: r.blobs.pop(digest_of(CONTENT)),
        ServerFailed,
        "has no blob sha256:[0-9a-f]{64}, which the manifest names",
    ),
    "a manifest without end": (
        lambda r: setattr(r, "endless_manifests", True),
        ServerFailed,
        "more than 4194304 bytes",
    ),
    "a manifest of another digest": (
        lambda r: r.manifest_headers.update(docker_content_digest=digest_of(b"")),
        ServerFailed,
        "gives the manifest's digest as sha256:e3b0c442",
    ),
    "a manifest that is a page": (lambda r: r.manifests.update({"a/b:latest": b"<html>"}), FileInvalid, "is not JSON"),
    "a digest that is a path": (
        lambda r: r.manifests.update({"a/b:latest": _with(r, digest="sha256:../../../../etc/passwd")}),
        FileInvalid,
        "digest should be sha256: and 64 digits",
    ),
    "a size without measure": (
        lambda r: r.manifests.update({"a/b:latest": _with(r, size=1 << 60)}),
        FileInvalid,
        "size should be from 0 to",
    ),
    "a size beyond the disk": (
        lambda r: r.manifests.update({"a/b:latest": _with(r, size=1 << 41)}),
        StoreRefused,
        "GB are needed",
    ),
    "a registry that lets nobody in": (lambda r: setattr(r, "wants", "nothing"), Forbidden, "does not let us in"),
    "a token from a stranger": (
        lambda r: (setattr(r, "wants", "token"), setattr(r, "realm", "https://evil.example/token")),
        ServerFailed,
        "sends us to https://evil.example/token, which does not speak for it",
    ),
    "a token from an address that is none": (
        lambda r: (setattr(r, "wants", "token"), setattr(r, "realm", "http://[::1")),
        ServerFailed,
        "names an address that is none",
    ),
    "a redirection to a file": (
        lambda r: setattr(r, "location", "file:///etc/passwd"),
        ServerFailed,
        "sends us to file:///etc/passwd, which is not encrypted",
    ),
    "a redirection in a circle": (lambda r: setattr(r, "location", "/v2/round"), ServerFailed, "on and on"),
    "a redirection with a password": (
        lambda r: setattr(r, "location", "http://me:secret@127.0.0.1/x"),
        ServerFailed,
        "which is no address to follow",
    ),
    "a manifest from a stranger": (
        lambda r: setattr(r, "location", "https://evil.example/v2/a/b/manifests/latest"),
        ServerFailed,
        "which does not speak for it",
    ),
    "a registry that is broken": (lambda r: r.refuses.update(blobs=500), ServerFailed, "answers with the status 500"),
    "a registry that refuses": (lambda r: r.refuses.update(blobs=403), Forbidden, "does not let us at"),
}


def _with(source: Registry, **fields: Any) -> bytes:
    """The manifest with its first layer changed."""
    manifest = json.loads(source.manifests["a/b:latest"])
    manifest["layers"][0].update(fields)
    return json.dumps(manifest).encode()


@pytest.mark.parametrize(("spoil", "kind", "sentence"), HOPELESS.values(), ids=HOPELESS)
def test_it_ends_in_a_sentence_and_nothing_is_installed(
    spoil: Callable[[Registry], Any], kind: type[HeadraceError], sentence: str, store: Store, source: Registry
) -> None:
    spoil(source)
    with pytest.raises(HeadraceError, match=sentence) as raised:
        fetch(source, store)
    assert type(raised.value) is kind
    assert store.names() == []


# --- ends and beginnings


class Left(BaseException):
    """As Ctrl-C."""


def test_a_pull_that_is_left_goes_on_from_there(store: Store) -> None:
    """Also while threads wait for a server that has stopped sending."""

    def leave(step: Progress) -> None:
        if step.total == len(CONTENT) and (step.completed or 0) > len(CONTENT) // 2:
            raise Left

    with registry(faults=2, kinds=("stall",)) as source:
        source.keep(content=CONTENT)
        patient = Options(settings=replace(HASTY, stall_s=600, part_bytes=8192), clock=NoTime())
        with pytest.raises(Left):
            pull(Name.parse(source.name()), store, leave, patient)
        assert store.names() == []
        before, source.faults, source.served = store.received(Layer("", digest_of(CONTENT), len(CONTENT))), 0, 0
        fetch(source, store)
        check(store, source)
        assert source.served <= len(CONTENT) - before + len(b'{"model_format":"gguf"}')
        assert before > len(CONTENT) // 2


def test_what_the_power_took_is_fetched_again(store: Store, source: Registry) -> None:
    """The journal says that bytes are there, and the disk has others."""
    with pytest.raises(Left):
        pull(Name.parse(source.name()), store, _left_when_received, Options(settings=HASTY, clock=NoTime()))
    [partial] = [path for path in (store.root / "partial").iterdir() if path.stat().st_size == len(CONTENT)]
    partial.write_bytes(bytes(len(CONTENT)))
    fetch(source, store)
    check(store, source)


def _left_when_received(step: Progress) -> None:
    if step.status.startswith("verifying"):
        raise Left


def test_a_second_pull_waits_for_the_first_and_moves_nothing(store: Store, source: Registry) -> None:
    first = _Held()
    one = threading.Thread(target=pull, args=(Name.parse(source.name()), store, first, OPTIONS))
    one.start()
    first.reached.wait(10)
    steps = list[Progress]()

    def release(step: Progress) -> None:
        steps.append(step)
        if step.status.startswith("waiting for another pull of "):
            first.go_on.set()

    pull(Name.parse(source.name()), store, release, OPTIONS)
    one.join()
    check(store, source)
    assert any(step.status.startswith("waiting") for step in steps)
    assert len(source.asks(digest_of(CONTENT))) == 7
    assert source.served == len(CONTENT) + len(b"be nice") + len(b'{"model_format":"gguf"}')


def test_a_second_pull_takes_over_from_a_first_that_ends(store: Store, source: Registry) -> None:
    first = _Held(fails=True)
    one = threading.Thread(target=first.pull, args=(source, store))
    one.start()
    first.reached.wait(10)
    first.go_on.set()
    fetch(source, store)
    one.join()
    check(store, source)


def test_who_waits_for_another_pull_is_asked_again_and_again(
    store: Store, source: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its watcher may have left."""
    monkeypatch.setattr(pulling, "WAITING_S", 0.01)
    first, waits = _Held(), list[str]()
    one = threading.Thread(target=pull, args=(Name.parse(source.name()), store, first, OPTIONS))
    one.start()
    first.reached.wait(10)

    def leave(step: Progress) -> None:
        if step.status.startswith("waiting"):
            waits.append(step.status)
        if len(waits) == 3:
            raise Left

    with pytest.raises(Left):
        pull(Name.parse(source.name()), store, leave, OPTIONS)
    first.go_on.set()
    one.join()
    check(store, source)


def test_a_pull_ends_when_it_is_told_to_whatever_it_waits_for(store: Store, source: Registry) -> None:
    source.stops_at, stop = 40_000, threading.Event()
    patient = replace(OPTIONS, settings=replace(HASTY, stall_s=600.0), stop=stop)

    def tell(step: Progress) -> None:
        if step.total == len(CONTENT) and (step.completed or 0) > 20_000:
            stop.set()

    with pytest.raises(Stopped):
        pull(Name.parse(source.name()), store, tell, patient)
    assert not store.names()
    source.stops_at = source.served = 0
    fetch(source, store)
    check(store, source)
    assert source.served < len(CONTENT) - 20_000 + 1000


class _Held:
    """A report that stands still at the first byte until it may go on."""

    def __init__(self, fails: bool = False) -> None:
        self.reached, self.go_on, self.fails = threading.Event(), threading.Event(), fails

    def __call__(self, step: Progress) -> None:
        if step.total == len(CONTENT) and not self.reached.is_set():
            self.reached.set()
            self.go_on.wait(10)
            if self.fails:
                raise Left

    def pull(self, source: Registry, store: Store) -> None:
        with suppress(Left):
            pull(Name.parse(source.name()), store, self, OPTIONS)


def test_a_model_of_more_blobs_than_files_may_be_open(store: Store, source: Registry) -> None:
    """A tensor may be a layer of its own, and a model has thousands."""
    blobs = [bytes([number % 256, number // 256]) for number in range(260)]
    layers = [Layer(OLLAMA + "tensor", digest_of(blob), len(blob)) for blob in blobs]
    source.blobs |= {layer.digest: blob for layer, blob in zip(layers, blobs, strict=True)}
    config = Layer(CONFIG, digest_of(b"{}"), 2)
    source.blobs[config.digest] = b"{}"
    source.manifests["a/b:latest"] = build(config, layers)
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len([*Path("/dev/fd").iterdir()]) + 300, most))
    try:
        fetch(source, store)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))
    check(store, source)


# --- the disk


def test_the_packed_copy_needs_room_too(store: Store, source: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 2 * len(CONTENT) + len(b"be nice") + len(b'{"model_format":"gguf"}') + files.SPARE_BYTES
    usage = shutil.disk_usage(store.root.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free - 1))
    with pytest.raises(StoreRefused, match=r"store has \d+\.\d+ MB free, but \d+\.\d+ MB are needed, with some"):
        fetch(source, store)
    assert source.asks("blobs") == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free))
    fetch(source, store)
    check(store, source)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    fetch(source, store)  # for which no room is needed


def test_a_disk_that_becomes_full(store: Store, source: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was received stays, and once there is room the pull goes on."""
    write, left = os.pwrite, iter([True] * 4)

    def full(handle: int, data: bytes, offset: int) -> int:
        if next(left, False):
            return write(handle, data, offset)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StoreRefused, match="there is no room left on this disk"):
        fetch(source, store)
    assert store.names() == []
    assert any(store.received(layer) for layer in parse(source.manifests["a/b:latest"], "").blobs)
    monkeypatch.setattr(os, "pwrite", write)
    fetch(source, store)
    check(store, source)


def test_a_disk_that_is_really_full(tmp_path: Path, source: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    source.keep(content=Random(3).randbytes(3 << 20), license=b"be nice")
    with small_disk(tmp_path / "small", 1 << 20, monkeypatch) as make_room:
        store = Store(tmp_path / "small" / "store")
        with pytest.raises(StoreRefused, match="there is no room left on this disk"):
            fetch(source, store)
        assert store.names() == []
        make_room()
        fetch(source, store)
        check(store, source)
