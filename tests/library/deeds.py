"""What people do with a library, each as one call; and a process that does it until it is killed.

A place holds `files` to create models from, and a `store`, as `tests.library.test_any_step` lays them out.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from headrace import checkpoint
from headrace.engine import packed as packing
from headrace.errors import ModelNotFound
from headrace.library import partial
from headrace.library.create import create
from headrace.library.modelfile import Message, Modelfile
from headrace.library.models import Library
from headrace.library.names import Name
from headrace.library.progress import Progress, Report
from headrace.library.pull import pull
from headrace.library.push import push
from headrace.library.registry.client import Options
from headrace.library.registry.patience import Settings
from headrace.library.store import Store
from tests.library.steps import Steps, killed

BASE, FLOATS, MADE = Name.parse("base"), Name.parse("floats:f32"), Name.parse("made:v1")
SAYS: dict[str, Any] = {"system": "Be brief.", "parameters": {"temperature": 0.5}, "licenses": ("be nice",)}
OPTIONS = Options(
    settings=Settings(connections=3, part_bytes=64 << 10, chunk_bytes=100_000, stall_s=5, first_wait_s=0.01)
)
LONGEST_S = 90  # that a process lives


@dataclass(frozen=True)
class Place:
    """`host` is the registry's, where there is one."""

    root: Path
    host: str = ""

    @property
    def store(self) -> Store:
        return Store(self.root / "store")

    @property
    def files(self) -> Path:
        return self.root / "files"

    def name(self, model: str) -> Name:
        return Name.parse(f"{self.host}/{model}")


def made(place: Place, report: Report, modelfile: Modelfile, **options: Any) -> None:
    create(MADE, place.store, modelfile, folder=place.files, report=report, library=Library(place.store), **options)


def removed(place: Place, _: Report) -> None:
    place.store.remove(FLOATS)


def collected(place: Place, _: Report) -> None:
    place.store.remove(FLOATS)
    place.store.collect(kept_s=-1)


def sent(place: Place, report: Report) -> None:
    """From blobs, as a client of the server sends them."""
    (layer,) = place.store.manifest(FLOATS).of("model")
    create(MADE, place.store, Modelfile(""), files={"m.gguf": layer.digest}, quantize="q8_0", report=report)


def packed(place: Place, report: Report) -> None:
    """As a start does it; a model that is small otherwise stays in memory."""
    path = place.files / "small.gguf"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADRACE_CACHE", str(place.root / "cache"))
        patch.setattr(packing, "SMALL_BYTES", 0)
        packing.in_panels(path, checkpoint.read(path).weights, lambda *_: report(Progress("packing")))


Deed = Callable[[Place, Report], object]
TALK = (Message("user", "Hello?"), Message("assistant", "Yes."))
DEEDS: dict[str, Deed] = {
    "create from a file": lambda place, report: made(place, report, Modelfile("other.gguf", **SAYS)),
    "create from a folder": lambda place, report: made(place, report, Modelfile("folder"), quantize="q8_0"),
    "create from a model": lambda place, report: made(place, report, Modelfile("base", messages=TALK)),
    "create from a model in another type": lambda place, report: made(
        place, report, Modelfile("floats:f32", system="Shout."), quantize="q4_0"
    ),
    "create from blobs": sent,
    "create anew": lambda place, report: create(
        BASE, place.store, Modelfile("base", system="Be long."), folder=place.files, report=report
    ),
    "copy": lambda place, _: place.store.copy(BASE, MADE),
    "remove": removed,
    "remove and collect": collected,
    "push": lambda place, report: push(place.name("a/b"), place.store, report, OPTIONS),
    "pull": lambda place, report: pull(place.name("c/d"), place.store, report, OPTIONS),
}


PACK: dict[str, Deed] = {"pack": packed}


def again(deed: str, place: Place) -> None:
    """Whoever removes what is gone is told so."""
    try:
        DEEDS[deed](place, lambda _: None)
    except ModelNotFound:
        if not deed.startswith("remove"):
            raise


def no_sync(_: object) -> None:
    """It is the power that may fail, and here only processes do: nobody need wait for the disk."""


# --- the process

PROGRAM = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.library.deeds import main
main()
"""


@dataclass(frozen=True)
class End:
    """How a child ended: `signal` is 0 if it did its deed, which took `steps`, in so many `seconds`. At step `largest`
    it wrote most."""

    signal: int
    steps: int
    largest: int
    seconds: float


class Nursery:
    """A process that has imported all that there is to import, and has children: each does one deed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, deed: str, place: Place, last: int = 0, after_s: float | None = None, seed: int = 0) -> End:
        """Killed at step `last` (0: never), or after so many seconds."""
        assert self._process.stdin
        assert self._process.stdout
        wanted = {"deed": deed, "root": str(place.root), "host": place.host, "last": last, "after_s": after_s}
        self._process.stdin.write(json.dumps(wanted | {"seed": seed}) + "\n")
        self._process.stdin.flush()
        said = json.loads(self._process.stdout.readline())
        assert said["status"] in (0, -signal.SIGKILL), said["words"]
        steps, largest = map(int, (said["words"] or "0 0").split())
        return End(-said["status"], steps, largest, said["seconds"])


@contextmanager
def nursery() -> Iterator[Nursery]:
    quiet = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # no threads before children are born
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | quiet,
    )
    try:
        yield Nursery(process)
    finally:
        assert process.stdin
        process.stdin.close()
        assert process.wait(60) == 0
        assert process.stdout
        process.stdout.close()


def main() -> None:
    import gguf  # noqa: F401 - what would be imported on use, is so once

    partial.CHECKPOINT_BYTES = 50_000  # type: ignore[misc]
    os.fsync = no_sync  # type: ignore[assignment]
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_raised(**json.loads(line))) + "\n")
        sys.stdout.flush()


def _raised(deed: str, root: str, host: str, last: int, after_s: float | None, seed: int) -> dict[str, Any]:
    """Raises a child, and says what became of it."""
    reading, writing = os.pipe()
    began = time.monotonic()
    if (child := os.fork()) == 0:
        os.close(reading)
        _live(deed, Place(Path(root), host), last, Random(seed), writing)
    os.close(writing)
    select.select([reading], [], [], after_s)
    if after_s is not None:
        os.kill(child, signal.SIGKILL)
    with os.fdopen(reading) as file:
        words = file.read()
    _, status = os.waitpid(child, 0)
    return {
        "status": os.waitstatus_to_exitcode(status),
        "words": words,
        "seconds": time.monotonic() - began,
    }


def _live(deed: str, place: Place, last: int, rng: Random, writing: int) -> None:
    """Whoever started it may have died: it ends by itself, too."""
    signal.alarm(LONGEST_S)
    say, status = os.write, 1
    try:
        steps = Steps(last, killed(rng))
        (DEEDS | PACK)[deed](place, steps.tell)
        say(writing, f"{steps.count} {steps.largest[1]}".encode())
        status = 0
    except BaseException:
        say(writing, traceback.format_exc().encode())
    finally:
        os._exit(status)
