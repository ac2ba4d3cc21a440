"""What a name in the library says of a model beside its file: what a Modelfile, or a pulled manifest, states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Preset:
    """`parameters` are under the names of `Parameters`, `num_ctx` is a window in tokens, `template` is Jinja.

    What is empty is the model's own.
    """

    name: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    num_ctx: int | None = None
    template: str = ""
    system: str = ""
    messages: Sequence[Mapping[str, Any]] = ()

    def before(self, messages: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """The conversation that the model reads: a system message of its own takes the place of the preset's.

        Raises nothing: what is wrong with `messages` is for the template to say.
        """
        own = 1 if messages and messages[0].get("role") == "system" else 0
        system = [{"role": "system", "content": self.system}] if self.system and not own else []
        return [*messages[:own], *system, *self.messages, *messages[own:]]
