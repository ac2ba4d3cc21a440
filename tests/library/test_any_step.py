"""Each deed is cut at each of its steps, by a kill or a full disk: the library is whole, and it can be done again."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Iterable, Iterator
from itertools import cycle
from pathlib import Path
from random import Random

import pytest

from headrace.convert import convert
from headrace.errors import UserError
from headrace.library.create import create
from headrace.library.manifest import OLLAMA, digest_of
from headrace.library.modelfile import Modelfile
from headrace.library.models import Library
from headrace.library.names import Name
from headrace.library.store import FOLDERS, Store
from headrace.weights import gguf
from tests import random_models
from tests.library.deeds import BASE, DEEDS, FLOATS, SAYS, End, Nursery, Place, again, no_sync, nursery
from tests.library.fault_server import Registry, registry
from tests.library.steps import Steps, full
from tests.library.test_killed import check_listed, check_mended


@pytest.fixture(scope="module", autouse=True)
def _no_sync() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", no_sync)
        yield


@pytest.fixture(scope="module")
def source() -> Iterator[Registry]:
    with registry() as found:
        yield found


@pytest.fixture(scope="module")
def child() -> Iterator[Nursery]:
    with nursery() as found:
        yield found


@pytest.fixture(scope="module")
def template(source: Registry, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A store with models that share blobs, and with what processes leave that die."""
    place = Place(tmp_path_factory.mktemp("template"), source.host)
    place.files.mkdir()
    model = random_models.moe(hidden_size=64, num_attention_heads=4, intermediate_size=64, moe_intermediate_size=32)
    folder = random_models.save_tokenizer(random_models.save(model, place.files / "folder"))
    convert(folder, place.files / "floats.gguf", "f32")
    convert(folder, place.files / "small.gguf", "q8_0")
    convert(folder, place.files / "other.gguf", "q4_0")
    create(BASE, place.store, Modelfile("small.gguf", **SAYS), folder=place.files)
    create(FLOATS, place.store, Modelfile("floats.gguf", **SAYS), folder=place.files)
    create(place.name("a/b"), place.store, Modelfile("base", system="Pushed."), folder=place.files)
    # A model that is not in the store, but for one of its blobs.
    source.keep("c/d:latest", Random(3).randbytes(300_000), system=b"Be brief.", params=b"{}")
    leave_remains(place.store)
    return place


def leave_remains(store: Store) -> None:
    """A session of the dead, a blob that nobody wants, half of a download."""
    dead = store.root / "sessions" / "0123456789abcdef"
    dead.mkdir()
    (dead / "pins").write_text(digest_of(b"x") + "\n")
    (dead / "fedcba9876543210").write_bytes(b"half")
    with store.writing() as session:
        session.add(b"left", OLLAMA + "license")
        with session.partial(digest_of(b"never"), 5) as blob:
            blob.write(0, b"ne")


class Trials:
    """One deed after the other in a library that is as the template each time."""

    def __init__(self, template: Place, source: Registry, child: Nursery, root: Path) -> None:
        self._template, self._source, self.child = template, source, child
        self.place = Place(root, source.host)
        self.before = manifests(template.store)
        self._first = cycle([True, False])
        self._done = dict[str, tuple[dict[Name, bytes], End]]()

    def begin(self) -> None:
        shutil.rmtree(self.place.root)
        self.place.root.mkdir()
        shutil.copytree(self._template.store.root, self.place.store.root)
        self.place.files.symlink_to(self._template.files)
        self._source.repositories.clear()
        self._source.manifests.pop("a/b:latest", None)

    def done(self, deed: str) -> tuple[dict[Name, bytes], End]:
        """What is listed when nothing happened, and how long that took."""
        if deed not in self._done:
            self.begin()
            end = self.child.run(deed, self.place)
            self._done[deed] = (manifests(self.place.store), end)
            self.check(deed)
        return self._done[deed]

    def check(self, deed: str) -> None:
        """The model is there or not, the others are as they were; the deed can be done, and nothing stays behind."""
        store, (done, _) = self.place.store, self.done(deed)
        check_whole(store)
        assert manifests(store) in (self.before, done)
        if next(self._first):  # whoever looks after the store, or whoever does the deed again
            check_mended(store)
        again(deed, self.place)
        assert manifests(store) == done
        check_mended(store)
        assert {path.name for path in store.root.iterdir()} == {"lock", *FOLDERS}
        if deed == "push":
            assert self._source.manifests["a/b:latest"] == done[self.place.name("a/b")]


@pytest.fixture(scope="module")
def trials(template: Place, source: Registry, child: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Trials:
    return Trials(template, source, child, tmp_path_factory.mktemp("place"))


def kill_at(trials: Trials, deed: str, steps: Iterable[int]) -> None:
    for last in steps:
        trials.begin()
        ended = trials.child.run(deed, trials.place, last, seed=last).signal
        assert ended == signal.SIGKILL or deed == "pull", "whose threads do not always take as many steps"
        trials.check(deed)


def kill_after(trials: Trials, deed: str, rng: Random, kills: int) -> None:
    """At moments that no step is: so many kills, and now and then one that came too late."""
    _, end = trials.done(deed)
    killed = 0
    while killed < kills:
        trials.begin()
        killed += trials.child.run(deed, trials.place, after_s=rng.uniform(0, end.seconds)).signal == signal.SIGKILL
        trials.check(deed)


def fill_at(trials: Trials, deed: str, steps: Iterable[int]) -> None:
    """The disk is full from there on; then there is room again."""
    for last in steps:
        trials.begin()
        with pytest.MonkeyPatch.context() as patch:
            counted = Steps(last, full, patch.setattr)
            error = attempt(deed, trials.place, counted)
        if error is None:  # there was nothing left to write
            assert manifests(trials.place.store) == trials.done(deed)[0]
        else:
            assert re.fullmatch(".*(no room|B free, but).*", str(error)), error
        trials.check(deed)


def attempt(deed: str, place: Place, counted: Steps) -> UserError | None:
    try:
        DEEDS[deed](place, counted.tell)
    except UserError as error:
        return error
    return None


def some(deed: str, end: End, most: int) -> list[int]:
    """Of the steps, where there is little time, and at which there is most to lose."""
    every = max(1, end.steps // most)
    return sorted({*range(1 + len(deed) % every, end.steps + 1, every), *filter(None, [end.largest])})


@pytest.mark.parametrize("deed", DEEDS)
def test_a_deed_is_killed_at_some_steps(deed: str, trials: Trials) -> None:
    _, end = trials.done(deed)
    kill_at(trials, deed, some(deed, end, 10))


@pytest.mark.slow
@pytest.mark.parametrize("deed", DEEDS)
def test_a_deed_is_killed_at_every_step(deed: str, trials: Trials) -> None:
    _, end = trials.done(deed)
    kill_at(trials, deed, range(1, end.steps + 1, 2 if deed == "pull" else 1))  # see test_faults, too


@pytest.mark.parametrize("deed", DEEDS)
def test_a_deed_is_killed_at_any_moment(deed: str, trials: Trials) -> None:
    kill_after(trials, deed, Random(1), 1)


@pytest.mark.slow
@pytest.mark.parametrize("deed", DEEDS)
def test_a_deed_is_killed_at_many_moments(deed: str, trials: Trials) -> None:
    kill_after(trials, deed, Random(2), 10)


@pytest.mark.parametrize("deed", DEEDS)
def test_the_disk_is_full_at_some_steps(deed: str, trials: Trials) -> None:
    _, end = trials.done(deed)
    fill_at(trials, deed, some(deed, end, 5))


@pytest.mark.slow
@pytest.mark.parametrize("deed", DEEDS)
def test_the_disk_is_full_at_many_steps(deed: str, trials: Trials) -> None:
    _, end = trials.done(deed)
    fill_at(trials, deed, range(1, end.steps + 1, 3))


def manifests(store: Store) -> dict[Name, bytes]:
    return {name: store.manifest(name).raw for name in store.names()}


def check_whole(store: Store) -> None:
    """All that is listed has its bytes and can be opened."""
    check_listed(store)
    for name in store.names():
        found = Library(store).find(name)
        if name.model != "d":  # of random bytes
            assert gguf.read(found.path).tensors
