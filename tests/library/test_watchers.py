"""Whoever watches may fail at any step, as a terminal that is gone does: its error comes out as it is, and no disk is
blamed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace import nano
from headrace.errors import StoreRefused
from headrace.library import models
from headrace.library.create import create
from headrace.library.export import export
from headrace.library.files import disk_errors, watched
from headrace.library.modelfile import Modelfile
from headrace.library.names import Name
from headrace.library.pull import pull
from headrace.library.push import push
from headrace.library.store import Store
from tests.library.fault_server import registry
from tests.library.stores import install

NAME = Name.parse("mine")
Watcher = Callable[..., None]


def pulled(store: Store, watcher: Watcher, _: Path) -> None:
    with registry() as source:
        source.keep("a/b:latest", bytes(100))
        pull(Name.parse(source.name("a/b")), store, watcher)


def pushed(store: Store, watcher: Watcher, _: Path) -> None:
    with registry() as target:
        name = target.name("a/b")
        install(store, name, bytes(100))
        push(Name.parse(name), store, watcher)


def created(store: Store, watcher: Watcher, place: Path) -> None:
    (place / "copy.gguf").write_bytes(nano.FILE.read_bytes())
    create(NAME, store, Modelfile("./copy.gguf"), folder=place, report=watcher)


def exported(store: Store, watcher: Watcher, place: Path, form: str = "gguf") -> None:
    if not store.has_model(NAME):
        create(NAME, store, Modelfile("nano"))
    export(models.read(store, NAME), place / "out", form, progress=watcher)


def exported_as_a_folder(store: Store, watcher: Watcher, place: Path) -> None:
    exported(store, watcher, place, "safetensors")


def verified(store: Store, watcher: Watcher, _: Path) -> None:
    install(store, "mine", bytes(100))
    store.verify(NAME, watcher)


WORKS = [pulled, pushed, created, exported, exported_as_a_folder, verified]


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.__name__)
def test_its_error_comes_out_as_it_is(work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("headrace.library.pull.SHOWN_BYTES", 1)
    whole = list[Any]()
    work(Store(tmp_path / "whole"), lambda *step: whole.append(step), tmp_path)
    if (tmp_path / "out").exists():
        (tmp_path / "out").rename(tmp_path / "first")
    for last in range(0, len(whole), max(1, len(whole) // 12)):
        told = list[Any]()

        def breaks(*step: Any, told: list[Any] = told, last: int = last) -> None:
            told.append(step)
            if len(told) > last:
                raise BrokenPipeError(32, "Broken pipe")

        with pytest.raises(BrokenPipeError):
            work(Store(tmp_path / f"store-{last}"), breaks, tmp_path)
        assert len(told) == last + 1
    assert not (tmp_path / "out").exists()


def test_the_disk_is_blamed_for_its_own_errors_alone(tmp_path: Path) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"), disk_errors(tmp_path):
        watched(full)()
    with pytest.raises(StoreRefused, match="there is no room left"), disk_errors(tmp_path):
        full()
