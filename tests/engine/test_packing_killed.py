"""Packing is cut at each of its steps: what is used is whole, and the next start makes what is not."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random

import pytest

from headrace import _core
from headrace.convert import convert
from headrace.engine import packed, packed_file
from tests import random_models
from tests.library.deeds import PACK, End, Nursery, Place, no_sync, nursery
from tests.library.steps import Steps, full

pytestmark = pytest.mark.skipif(not _core.panel_types(), reason="this machine's kernels read rows")


@pytest.fixture(scope="module")
def child() -> Iterator[Nursery]:
    with nursery() as found:
        yield found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("place"))
    place.files.mkdir()
    model = random_models.moe(hidden_size=64, num_attention_heads=4, intermediate_size=64, moe_intermediate_size=32)
    folder = random_models.save_tokenizer(random_models.save(model, place.root / "folder"))
    convert(folder, place.files / "small.gguf", "q8_0")
    return place


@pytest.fixture(scope="module")
def whole(place: Place, child: Nursery) -> End:
    """How it ends when nothing happens."""
    begin(place)
    end = child.run("pack", place)
    check(place)
    return end


def begin(place: Place) -> None:
    shutil.rmtree(place.root / "cache", ignore_errors=True)


def panels(place: Place) -> list[Path]:
    return sorted((place.root / "cache" / "packed").glob("*.panels"))


def check(place: Place) -> None:
    """A packed file is whole, where there is one; else the next start makes it."""
    for path in panels(place):
        check_whole(path, place)
    PACK["pack"](place, lambda _: None)
    (path,) = panels(place)
    check_whole(path, place)
    assert not list(path.parent.glob("*.part"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADRACE_CACHE", str(place.root / "cache"))
        packed.collect()
    assert list(path.parent.iterdir()) == [path]


def check_whole(path: Path, place: Place) -> None:
    assert packed_file.damaged(path) == []
    packed_file.export(path, place.root / "back.gguf")
    assert (place.root / "back.gguf").read_bytes() == (place.files / "small.gguf").read_bytes()


def kill_at(place: Place, child: Nursery, steps: Iterable[int]) -> None:
    for last in steps:
        begin(place)
        assert child.run("pack", place, last, seed=last).signal == signal.SIGKILL
        check(place)


def test_packing_is_killed_at_some_steps(place: Place, child: Nursery, whole: End) -> None:
    kill_at(place, child, {*range(1, whole.steps + 1, max(1, whole.steps // 20)), whole.steps - 1, whole.steps})


@pytest.mark.slow
def test_packing_is_killed_at_every_step(place: Place, child: Nursery, whole: End) -> None:
    kill_at(place, child, range(1, whole.steps + 1))


def test_packing_is_killed_at_any_moment(place: Place, child: Nursery, whole: End) -> None:
    rng = Random(1)
    for _ in range(5):
        begin(place)
        child.run("pack", place, after_s=rng.uniform(0, whole.seconds))
        check(place)


def test_one_packs_after_several_were_killed(place: Place, child: Nursery, whole: End) -> None:
    """What several of the dead left is in nobody's way."""
    begin(place)
    for last in (whole.steps // 2, whole.largest, whole.steps - 2):
        assert child.run("pack", place, last).signal == signal.SIGKILL
    check(place)


def test_the_disk_is_full_at_some_steps(place: Place, whole: End, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs unpacked then."""
    for last in range(1, whole.steps + 1, max(1, whole.steps // 12)):
        begin(place)
        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", no_sync)
            counted = Steps(last, full, patch.setattr)
            PACK["pack"](place, counted.tell)
        check(place)
