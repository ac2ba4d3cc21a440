"""A registry that others wrote: Debian's docker-registry, on loopback, in a folder of its own."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from threading import Thread
from typing import IO

import httpx
import pytest

from headrace import nano
from headrace.errors import ModelNotFound
from headrace.library.manifest import CONFIG, OLLAMA, build
from headrace.library.names import Name
from headrace.library.progress import Progress
from headrace.library.pull import pull
from headrace.library.push import _Push, push
from headrace.library.registry.client import Options, Place, connect
from headrace.library.registry.patience import Settings
from headrace.library.store import Store
from tests.library.fault_server import NoTime

PROGRAM = shutil.which("docker-registry") or shutil.which("registry", path="/usr/local/bin:/usr/bin")
OPTIONS = Options(settings=Settings(part_bytes=64 << 10, chunk_bytes=100 << 10))

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="docker-registry is not installed (Debian: docker-registry)")


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """Its host and port, which it chose itself."""
    folder.mkdir()
    config = {
        "version": "0.1",
        "log": {"level": "info", "formatter": "text", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": "127.0.0.1:0"},
    }
    (folder / "config.yml").write_text(json.dumps(config))  # which is YAML too
    command = [str(PROGRAM), "serve", str(folder / "config.yml")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        try:
            host = _host(process.stderr)
            drain = Thread(target=process.stderr.read)  # or it would stand still once the pipe is full
            drain.start()
            yield host
        finally:
            process.kill()
        drain.join()


def _host(log: IO[str]) -> str:
    said = list[str]()
    for line in log:
        said.append(line)
        if found := re.search(r"listening on (127\.0\.0\.1:\d+)", line):
            return found[1]
    pytest.fail(f"docker-registry does not listen: {said}")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(tmp_path_factory.mktemp("registry") / "registry") as found:
        yield found


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path / "cache"))


def install_nano(store: Store, name: Name) -> None:
    with store.writing() as session, session.scratch() as path:
        config = session.add(b'{"model_format":"gguf","model_family":"lfm2moe"}', CONFIG)
        shutil.copyfile(nano.FILE, path)
        layers = [session.adopt(path, OLLAMA + "model")]
        layers += [session.add(text, OLLAMA + kind) for kind, text in (("license", b"Apache-2.0"), ("system", b"x"))]
        session.put(name, build(config, layers))


def test_what_is_pushed_comes_back(host: str, tmp_path: Path) -> None:
    here, there, name = Store(tmp_path / "here"), Store(tmp_path / "there"), Name.parse(f"{host}/me/nano:v1")
    install_nano(here, name)
    sent, came = list[Progress](), list[Progress]()
    pushed = push(name, here, sent.append, OPTIONS)
    pulled = pull(name, there, came.append, OPTIONS)
    assert pulled == pushed == here.manifest(name) == there.manifest(name)
    assert there.blob(pulled.of("model")[0].digest).read_bytes() == nano.FILE.read_bytes()
    assert there.verify(name) == []
    assert (sent[-1].status, came[-1].status) == ("success", "success")


def test_nothing_is_moved_twice(host: str, tmp_path: Path) -> None:
    store, name, copy = Store(tmp_path / "store"), Name.parse(f"{host}/me/twice"), Name.parse(f"{host}/you/copy:v2")
    install_nano(store, name)
    push(name, store, options=OPTIONS)
    store.copy(name, copy)
    steps = list[Progress]()
    for one in (name, copy):
        push(one, store, steps.append, OPTIONS)
    assert {step.completed for step in steps if step.digest} == {0, *(blob.size for blob in store.manifest(name).blobs)}
    with connect(copy) as registry:
        place = Place(copy.repository, str(copy))
        assert registry.manifest_digest(place, "v2") == store.manifest(name).digest
        assert registry.manifest_digest(place, "v3") is None
        assert all(registry.has_blob(place, blob.digest) for blob in store.manifest(name).blobs)


def test_a_model_that_it_does_not_have(host: str, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=f"{host} has no {host}/me/nobody: manifest unknown"):
        pull(Name.parse(f"{host}/me/nobody"), Store(tmp_path / "store"), options=OPTIONS)


def install_noise(store: Store, name: Name) -> None:
    with store.writing() as session:
        config = session.add(b"{}", CONFIG)
        session.put(name, build(config, [session.add(Random(1).randbytes(1 << 20), OLLAMA + "model")]))


class Left(BaseException):
    """As Ctrl-C."""


def test_an_upload_that_was_left_does_not_hinder_another(host: str, tmp_path: Path) -> None:
    def leave(step: Progress) -> None:
        if step.total == 1 << 20 and (step.completed or 0) > 500_000:
            raise Left

    store, name = Store(tmp_path / "store"), Name.parse(f"{host}/me/left")
    install_noise(store, name)
    with pytest.raises(Left):
        push(name, store, leave, OPTIONS)
    push(name, store, options=OPTIONS)
    assert pull(name, Store(tmp_path / "other"), options=OPTIONS) == store.manifest(name)


def test_an_upload_that_was_cut_ends_well(host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of a chunk, three times. This registry forgets such an upload, so it begins again."""
    whole, cuts = _Push._body, [700_000, 400_000, 300_000]

    def body(self: _Push, at: int, stop: int) -> Callable[[], Iterator[bytes]]:
        def pieces() -> Iterator[bytes]:
            if cuts and at < cuts[-1] < stop:
                yield from whole(self, at, cuts.pop())()
                raise httpx.WriteError("cut")
            yield from whole(self, at, stop)()

        return pieces

    monkeypatch.setattr(_Push, "_body", body)
    store, name = Store(tmp_path / "store"), Name.parse(f"{host}/me/cut")
    install_noise(store, name)
    push(name, store, options=replace(OPTIONS, clock=NoTime()))
    assert pull(name, Store(tmp_path / "other"), options=OPTIONS) == store.manifest(name)
    assert cuts == []
