"""How far a pull or a push has come, in Ollama's words: its clients know what to make of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from headrace.library.manifest import Layer


@dataclass(frozen=True, slots=True)
class Progress:
    """One step. `total` and `completed` are bytes, of the blob with this `digest` where there is one."""

    status: str
    digest: str | None = None
    total: int | None = None
    completed: int | None = None

    @classmethod
    def of(cls, doing: str, layer: Layer, completed: int) -> Progress:
        """A blob on its way: "pulling 0123456789ab"."""
        return cls(f"{doing} {short(layer.digest)}", layer.digest, layer.size, completed)

    def fields(self) -> dict[str, Any]:
        """As a line of Ollama's stream has it."""
        every = {"status": self.status, "digest": self.digest, "total": self.total, "completed": self.completed}
        return {name: value for name, value in every.items() if value is not None}


Report = Callable[[Progress], None]


def unwatched(step: Progress) -> None:
    """For whoever does not watch."""


def short(digest: str) -> str:
    """The first twelve digits: enough for people to tell blobs apart."""
    return digest.removeprefix("sha256:")[:12]
