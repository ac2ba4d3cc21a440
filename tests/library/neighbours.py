"""Processes that use one store at once: some pull, remove and create what others need, one looks after all of it.

Each does so many deeds and says "done"; of what goes wrong, only that a model is not there (any more) is no surprise.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

from headrace.errors import ModelNotFound
from headrace.library import partial
from headrace.library.create import create
from headrace.library.manifest import digest_of
from headrace.library.modelfile import Modelfile
from headrace.library.models import Library
from headrace.library.names import Name
from headrace.library.progress import Progress
from headrace.library.pull import pull
from headrace.library.registry.client import Options
from headrace.library.store import Store
from tests.library.fault_server import HASTY, Registry

MODELS = ("a/one", "a/two", "b/three")
LONGEST_PAUSE_S = 0.005
LONGEST_S = 200  # that a process lives

PROGRAM = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.library.neighbours import main
main(*sys.argv[1:])
"""


def fill(source: Registry, weights: bytes) -> None:
    """Models that share weights, a licence, or all but a text."""
    source.keep("a/one:latest", weights, license=b"be nice", system=b"One.")
    source.keep("a/two:latest", weights, license=b"be nice", system=b"Two.")
    source.keep("b/three:latest", Random(5).randbytes(100_000), license=b"be nice", system=b"One.")


class Neighbour:
    def __init__(self, store: Store, host: str, rng: Random) -> None:
        self.store, self.host, self.rng = store, host, rng

    def name(self, model: str | None = None) -> Name:
        return Name.parse(f"{self.host}/{model or self.rng.choice(MODELS)}")

    def pause(self, _: Progress) -> None:
        """Whoever is slow leaves others time to do what he does not expect."""
        if self.rng.random() < 0.5:
            time.sleep(self.rng.random() * LONGEST_PAUSE_S)

    def come_and_go(self) -> None:
        """Pulls, and takes away what others may need."""
        if self.rng.random() < 0.5:
            pull(self.name(), self.store, self.pause, options=Options(settings=HASTY))
        else:
            self.store.remove(self.name() if self.rng.random() < 0.7 else Name.parse(f"mine:{self.rng.randrange(3)}"))

    def make(self) -> None:
        """Of the models whose weights are some. Content that exists nowhere else, so that it must be kept."""
        mine, source = Name.parse(f"mine:{self.rng.randrange(3)}"), self.name("a/one")
        match self.rng.randrange(3):
            case 0:
                self.store.copy(self.name(), mine)
            case 1:
                create(mine, self.store, Modelfile(str(source), system=f"{self.rng.random()}"), report=self.pause)
            case _:
                create(mine, self.store, Modelfile("nano", system=f"{self.rng.random()}"), report=self.pause)

    def look(self) -> None:
        """Lists, reads, checks every byte, takes away what nobody refers to; all that is listed is whole."""
        assert [one.problem for one in self.store.listed() if one.problem] == []
        for name in self.store.names():
            with suppress(ModelNotFound):
                assert self.store.verify(name) == []
            with suppress(ModelNotFound):
                assert Library(self.store).find(name).path
        check_referred(self.store)
        self.store.collect(kept_s=-1)
        self.store.repair()
        check_referred(self.store)


def check_referred(store: Store) -> None:
    """While nothing can change: each blob that a manifest names is there, and is what its name says."""
    with store.held():
        for name in store.names():
            for layer in store.manifest(name).blobs:
                assert store.has(layer), f"{name} misses {layer}"
        for blob in store.blobs.iterdir():
            assert digest_of(blob.read_bytes()) == blob.name.replace("-", ":")


ROLES: dict[str, Callable[[Neighbour], None]] = {
    "come and go": Neighbour.come_and_go,
    "make": Neighbour.make,
    "look": Neighbour.look,
}


def start(store: Store, host: str, role: str, deeds: int, seed: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, str(store.root), host, role, str(deeds), str(seed)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def main(root: str, host: str, role: str, deeds: str, seed: str) -> None:
    """Whoever started it may have died: it ends by itself, too."""
    signal.alarm(LONGEST_S)
    partial.CHECKPOINT_BYTES = 20_000  # type: ignore[misc]
    neighbour = Neighbour(Store(Path(root)), host, Random(int(seed)))
    for _ in range(int(deeds)):
        with suppress(ModelNotFound):
            ROLES[role](neighbour)
    sys.stdout.write("done\n")
