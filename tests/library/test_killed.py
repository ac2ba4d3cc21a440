"""Processes are killed at any step of what they do with a store: what is listed stays whole, and all can be mended."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from headrace.library.manifest import OLLAMA, Layer, digest_of
from headrace.library.store import Store
from tests.library.restless import CONTENTS
from tests.library.stores import receive

PROGRAM = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.library.restless import main
main(*sys.argv[1:])
"""


def start(store: Store, seed: int, kill_at: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, str(store.root), str(seed), str(kill_at)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def check_listed(store: Store) -> None:
    for listed in store.listed():
        assert listed.problem is None
        assert store.verify(listed.name) == []


def check_mended(store: Store) -> None:
    """Nothing is left of those who died but what a download can go on from; and without that, only what is listed."""
    store.repair()
    assert not list((store.root / "sessions").iterdir())
    store.collect(kept_s=-1)
    wanted = {store.blob(layer.digest) for name in store.names() for layer in store.manifest(name).blobs}
    assert set(store.blobs.iterdir()) == wanted
    assert not list((store.root / "partial").iterdir())
    check_listed(store)


def kill_many(store: Store, seeds: range) -> None:
    rng = Random(seeds.start)
    for seed in seeds:
        process = start(store, seed, rng.randrange(1, 500))
        _, errors = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL, errors
        check_listed(store)
        if rng.random() < 0.3:
            content = rng.choice(CONTENTS)
            received = receive(store, content, Layer(OLLAMA + "model", digest_of(content), len(content)))
            assert received.read_bytes() == content, "a download goes on, wherever it was cut"
        if rng.random() < 0.3:
            check_mended(store)
    check_mended(store)


def live_together(store: Store, seeds: range) -> None:
    """Some live, some are killed while the others go on."""
    rng = Random(seeds.start)
    processes = {seed: start(store, seed, 0 if seed % 2 else rng.randrange(1, 500)) for seed in seeds}
    while any(process.poll() is None for process in processes.values()):
        assert [listed.problem for listed in store.listed() if listed.problem] == []
    for seed, process in processes.items():
        said, errors = process.communicate(timeout=60)
        assert (said, errors, process.returncode) == (("done\n", "", 0) if seed % 2 else ("", "", -signal.SIGKILL))
    check_listed(store)
    check_mended(store)


def test_killed_at_any_step(tmp_path: Path) -> None:
    kill_many(Store(tmp_path), range(12))


def test_several_at_once(tmp_path: Path) -> None:
    live_together(Store(tmp_path), range(3))


@pytest.mark.slow
def test_killed_at_a_hundred_steps(tmp_path: Path) -> None:
    kill_many(Store(tmp_path), range(1000, 1150))


@pytest.mark.slow
@pytest.mark.parametrize("turn", range(10))
def test_many_at_once(turn: int, tmp_path: Path) -> None:
    live_together(Store(tmp_path), range(100 * turn, 100 * turn + 5))
