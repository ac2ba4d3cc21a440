"""A process that does with a store whatever can be done, in a random order, until it is killed at a step of its own."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from pathlib import Path
from random import Random

from headrace.errors import ModelNotFound
from headrace.library import partial
from headrace.library.manifest import CONFIG, OLLAMA, Layer, build, digest_of
from headrace.library.names import Name
from headrace.library.store import Store
from tests.library.steps import Steps, killed

CONTENTS = [bytes([65 + n]) * (40 + 20 * n) for n in range(6)]  # few, so that models share them
NAMES = [Name.parse(f"{owner}/{model}:{tag}") for owner in "ab" for model in "xy" for tag in ("one", "two")]
DEEDS = 25
LONGEST_S = 90  # that a process lives


def install(store: Store, rng: Random) -> None:
    """A model of which one layer is received in pieces, one added, and one adopted."""
    name, (first, second, third) = rng.choice(NAMES), rng.sample(CONTENTS, 3)
    with store.writing() as session:
        received = Layer(OLLAMA + "model", digest_of(first), len(first))
        with session.partial(received.digest, received.size) as blob:
            for start, stop in blob.missing():
                for at in range(start, stop, 17):
                    blob.write(at, first[at : min(at + 17, stop)])
            if rng.random() < 0.2:
                return
            blob.commit()
        with session.scratch() as path:
            path.write_bytes(third)
            adopted = session.adopt(path, OLLAMA + "license")
        layers = [received, session.add(second, OLLAMA + "system"), adopted]
        session.put(name, build(session.add(b"{}", CONFIG), layers))


def act(store: Store, rng: Random) -> None:
    match rng.randrange(8):
        case 0 | 1 | 2:
            install(store, rng)
        case 3 | 4:
            store.remove(rng.choice(NAMES))
        case 5:
            store.copy(rng.choice(NAMES), rng.choice(NAMES))
        case 6:
            store.collect(kept_s=-1)
        case _:
            store.repair()


def main(root: str, seed: str, kill_at: str) -> None:
    """Killed at step `kill_at`; 0 lives, ends after some deeds, and says so. Whoever started it may have died: it ends
    by itself, too."""
    signal.alarm(LONGEST_S)
    partial.CHECKPOINT_BYTES = 30  # type: ignore[misc]
    store, rng, last = Store(Path(root)), Random(int(seed)), int(kill_at)
    if last:
        Steps(last, killed(rng))
    deeds = 0
    while last or deeds < DEEDS:
        deeds += 1
        with suppress(ModelNotFound):
            act(store, rng)
    sys.stdout.write("done\n")
