"""Blobs: whatever their size, they are what their digest says, or they are not there."""

from __future__ import annotations

import hashlib
import os
import resource
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from headrace.errors import StoreRefused
from headrace.library.manifest import digest_of
from headrace.library.store import Store
from headrace.server.ollama import blobs
from headrace.server.wire import SLOWEST_BYTES
from tests.server import raw
from tests.server.library import WAIT_S, ended, keeping, store
from tests.server.live import Live
from tests.server.test_ollama_client import Asynchronous, Blocking
from tests.server.tiny import until

CONTENT = b"\x00\xff" * 100_000
PLACE = f"/api/blobs/{digest_of(CONTENT)}"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))


@pytest.fixture
def live() -> Iterator[Live]:
    """One whose other bodies may be small."""
    with keeping(body_bytes=1000) as one:
        yield one


def left() -> list[str]:
    """What lies about in the store, beside whole blobs."""
    root = store().root
    return [str(path) for part in ("sessions", "partial") for path in (root / part).rglob("*") if path.is_file()]


@pytest.mark.parametrize("kind", [Blocking, Asynchronous])
def test_create_blob_by_ollamas_client(kind: type[Blocking], live: Live, tmp_path: Path) -> None:
    """The asynchronous one does not say how much is to come."""
    (tmp_path / "blob").write_bytes(CONTENT)
    for _ in range(2):
        assert kind(live.url).create_blob(tmp_path / "blob") == digest_of(CONTENT)
    assert store().blob(digest_of(CONTENT)).read_bytes() == CONTENT
    assert left() == []


def test_statuses(live: Live) -> None:
    assert httpx.head(live.url + PLACE).status_code == 404
    assert [httpx.post(live.url + PLACE, content=CONTENT).status_code for _ in range(2)] == [201, 200]
    assert httpx.head(live.url + PLACE).status_code == 200
    spelled = live.url + PLACE.replace("sha256:", "sha256-").upper().replace("/API/BLOBS/SHA256", "/api/blobs/sha256")
    assert httpx.head(spelled).status_code == 200
    empty = f"{live.url}/api/blobs/{digest_of(b'')}"
    assert (httpx.post(empty).status_code, httpx.head(empty).status_code) == (201, 200)


@pytest.mark.parametrize("name", ["sha256:12", "sha512:" + "0" * 64, "..%2F..%2Fetc", "sha256:" + "g" * 64, "x"])
def test_what_is_no_digest(name: str, live: Live) -> None:
    for method in ("HEAD", "POST"):
        assert httpx.request(method, f"{live.url}/api/blobs/{name}").status_code in (400, 404)
    if "%" not in name:
        assert httpx.post(f"{live.url}/api/blobs/{name}").json() == {"error": "invalid digest format"}
    assert not store().root.exists()


def test_something_else_than_its_digest_says_is_not_kept(live: Live) -> None:
    answer = httpx.post(live.url + PLACE, content=CONTENT[:-1])
    assert (answer.status_code, "digest mismatch" in answer.json()["error"]) == (400, True)
    assert not store().has_blob(digest_of(CONTENT))
    assert left() == []


def test_one_that_breaks_off_is_not_kept(live: Live) -> None:
    with raw.connected(live.url) as one:
        one.sendall(raw.head("POST", PLACE, content_length=str(len(CONTENT))) + CONTENT[:150_000])
        until(lambda: left())
    ended(live)
    assert left() == []
    assert httpx.head(live.url + PLACE).status_code == 404


def test_memory_does_not_grow_with_it(live: Live) -> None:
    """64 MiB come, which nobody has in memory."""
    piece = os.urandom(1 << 20)
    digest = hashlib.sha256()
    for _ in range(64):
        digest.update(piece)

    def pieces() -> Iterator[bytes]:
        yield from (piece for _ in range(64))

    tracemalloc.start()
    try:
        answer = httpx.post(f"{live.url}/api/blobs/sha256:{digest.hexdigest()}", content=pieces(), timeout=WAIT_S)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answer.status_code == 201
    assert most < 16 << 20
    assert store().blob(f"sha256:{digest.hexdigest()}").stat().st_size == 64 << 20


def test_one_that_is_there_need_not_be_sent(live: Live) -> None:
    """Who asks first is told at once; who sends it all the same is heard to the end; more than it is nobody hears."""
    assert httpx.post(live.url + PLACE, content=CONTENT).status_code == 201
    with raw.connected(live.url) as one:
        one.sendall(raw.head("POST", PLACE, content_length=str(len(CONTENT)), expect="100-continue"))
        assert raw.answer(one) == (200, b"")
    with raw.connected(live.url) as one:
        one.sendall(raw.head("POST", PLACE, content_length=str(len(CONTENT))) + CONTENT)
        assert raw.answer(one) == (200, b"")
        one.sendall(raw.head("GET", "/health"))
        assert raw.answer(one)[0] == 200, "the connection goes on"
    with raw.connected(live.url) as one:
        one.sendall(raw.head("POST", PLACE, content_length=str(1 << 40)) + bytes(len(CONTENT) + 4 * SLOWEST_BYTES))
        assert raw.status(raw.ended(one)) == 200


def test_who_waits_to_be_asked_is_asked(live: Live) -> None:
    with raw.connected(live.url) as one:
        one.sendall(raw.head("POST", PLACE, content_length=str(len(CONTENT)), expect="100-continue"))
        assert raw.answer(one) == (100, b"")
        one.sendall(CONTENT)
        assert raw.answer(one) == (201, b"")


def test_there_must_be_room(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    most = f"{live.url}/api/blobs/{digest_of(b'x')}"
    with raw.connected(live.url) as one:
        one.sendall(raw.head("POST", most.removeprefix(live.url), content_length=str(1 << 41)))
        told = raw.ended(one)
    assert (raw.status(told), b"GB are needed" in told) == (422, True)
    with raw.connected(live.url) as one:
        one.sendall(raw.head("POST", most.removeprefix(live.url), content_length=str(1 << 43)))
        assert raw.status(raw.ended(one)) == 413

    monkeypatch.setattr(blobs, "CHECKED_BYTES", 50_000)
    looks = list[int]()

    def fills_up(_: Store, size_bytes: int) -> None:
        looks.append(size_bytes)
        if len(looks) == 3:
            raise StoreRefused("the disk is full")

    monkeypatch.setattr(Store, "room_for", fills_up)
    with raw.connected(live.url) as one:  # who does not say how much is to come
        one.sendall(raw.head("POST", PLACE, transfer_encoding="chunked"))
        for at in range(0, len(CONTENT), 100_000):
            one.sendall(b"%x\r\n%s\r\n" % (100_000, CONTENT[at : at + 100_000]))
        told = raw.ended(one)
    assert (raw.status(told), b"the disk is full" in told) == (422, True)
    assert looks == [0, 50_000, 50_000]
    assert left() == []


def test_a_disk_that_is_full_all_the_same_is_a_sentence(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    monkeypatch.setattr(Store, "room_for", lambda *_: None)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))  # Python ignores the signal that comes with it
    try:
        answer = httpx.post(live.url + PLACE, content=CONTENT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (answer.status_code, "no room left" in answer.json()["error"]) == (422, True)
    assert left() == []


def test_one_that_comes_too_slowly() -> None:
    with keeping(limits={"stall_s": 0.05}) as live, raw.connected(live.url) as one:
        one.sendall(raw.head("POST", PLACE, content_length=str(len(CONTENT))) + CONTENT[:1000])
        told = raw.ended(one)
    assert (raw.status(told), b"of the body arrived within" in told) == (408, True)
    assert left() == []


def test_the_servers_end_ends_one(live: Live) -> None:
    with raw.connected(live.url) as one:
        one.sendall(raw.head("POST", PLACE, content_length=str(len(CONTENT))) + CONTENT[:150_000])
        until(lambda: left())
        live.server.should_exit = True
        assert raw.status(raw.ended(one)) == 503
    assert live.house.close()
    assert left() == []


def test_what_nothing_refers_to_is_kept_for_a_while(live: Live) -> None:
    """As long as for one that has just come, also where it came long ago."""
    assert httpx.post(live.url + PLACE, content=CONTENT).status_code == 201
    for ask in (httpx.head, httpx.post):
        os.utime(store().blob(digest_of(CONTENT)), (0, 0))
        assert ask(live.url + PLACE).status_code == 200
        store().collect()
        assert store().has_blob(digest_of(CONTENT))
    os.utime(store().blob(digest_of(CONTENT)), (0, 0))
    store().collect()
    assert not store().has_blob(digest_of(CONTENT))
