"""A process that pulls one model and says "done", if it is not killed at a step of its own before."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from random import Random

from headrace.library import partial
from headrace.library.names import Name
from headrace.library.pull import pull
from headrace.library.registry.client import Options
from headrace.library.store import Store
from tests.library.fault_server import HASTY
from tests.library.steps import Steps, killed

LONGEST_S = 90  # that a process lives

PROGRAM = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.library.puller import main
main(*sys.argv[1:])
"""


def start(store: Store, name: str, kill_at: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, str(store.root), name, str(kill_at)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def main(root: str, name: str, kill_at: str) -> None:
    """Killed at step `kill_at`; 0 lives. Whoever started it may have died: it ends by itself, too."""
    signal.alarm(LONGEST_S)
    partial.CHECKPOINT_BYTES = 10_000  # type: ignore[misc]
    if int(kill_at):
        Steps(int(kill_at), killed(Random(int(kill_at))))
    pull(Name.parse(name), Store(Path(root)), options=Options(settings=HASTY))
    sys.stdout.write("done\n")
