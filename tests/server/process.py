"""`headrace serve` as a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

COMMAND = [sys.executable, "-c", "from headrace.cli import main; main()"]


def environment(more: Mapping[str, str] = {}) -> dict[str, str]:
    """Nothing that somebody has set for their own server; but where the tests' own models are."""
    kept = ("HEADRACE_HOME", "OLLAMA_MODELS")
    bare = {
        name: value
        for name, value in os.environ.items()
        if name in kept or not name.startswith(("HEADRACE_", "OLLAMA_"))
    }
    return {**bare, **more}


@dataclass(frozen=True, slots=True)
class Served:
    """`lines` are those of its standard error so far."""

    process: subprocess.Popen[str]
    url: str
    lines: list[str] = field(default_factory=list)

    def ended(self, within_s: float = 60.0) -> int:
        return self.process.wait(within_s)


@contextmanager
def serving(*options: str, program: str | None = None, **settings: str) -> Iterator[Served]:
    """On a free port. `program` takes the place of the command: Python that calls `headrace.cli.main` in the end."""
    command = [sys.executable, "-c", program] if program else COMMAND
    process = subprocess.Popen(
        [*command, "serve", "--port", "0", *options], stderr=subprocess.PIPE, text=True, env=environment(settings)
    )
    assert process.stderr
    reader = None
    try:
        first = process.stderr.readline()
        found = re.search(r"listens on (http://\S+)", first)
        assert found, first + process.stderr.read()
        served = Served(process, found[1])
        reader = threading.Thread(target=lambda: served.lines.extend(process.stderr or ()), daemon=True)
        reader.start()
        yield served
    finally:
        process.kill()
        process.wait()
        if reader:
            reader.join(10)
        process.stderr.close()
