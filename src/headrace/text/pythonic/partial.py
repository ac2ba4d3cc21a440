"""The arguments of calls as JSON, piece by piece, while the calls are being written."""

from __future__ import annotations

import json
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from headrace.text.pythonic.reader import More, Reader


@dataclass(frozen=True, slots=True)
class Fragment:
    """A piece of the JSON of a call's arguments. `call` counts the calls of the block from 0."""

    call: int
    name: str
    json: str


def fragments(body: str, names: Collection[str] = (), growing: bool = True) -> list[Fragment]:
    """All that is certain of the calls in `body`. What more text adds, comes after what there is."""
    told = _Told()
    with suppress(More, ValueError, RecursionError):
        Reader(body, growing=growing, names=names, watcher=told).body()
    return told.fragments


@dataclass(slots=True)
class _Told:
    fragments: list[Fragment] = field(default_factory=list)
    call: int = -1
    name: str = ""
    separator: str = ""
    obscured: bool = False

    def begin(self, name: str) -> None:
        self.call, self.name, self.separator = self.call + 1, name, ""
        self._tell("{")

    def key(self, name: str) -> None:
        self._tell(f"{self.separator}{json.dumps(name, ensure_ascii=False)}: ")
        self.separator = ", "

    def value(self, value: Any) -> None:
        self._tell(json.dumps(value, ensure_ascii=False))

    def end(self) -> None:
        self._tell("}")

    def obscure(self) -> None:
        self.obscured = True

    def _tell(self, text: str) -> None:
        if not self.obscured:
            self.fragments.append(Fragment(self.call, self.name, text))
