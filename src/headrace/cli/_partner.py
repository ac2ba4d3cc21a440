"""Who a conversation is with: a model that runs here (`_local`), or one that a server has (`_remote`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from headrace.events import Event
from headrace.tools.loop import AnyTool


class Stated(NamedTuple):
    """What a parameter is where the user says nothing of it, and who says so."""

    value: Any
    origin: str


class Partner(Protocol):
    """What a conversation needs of a model. `load_s` is how long it took to load, as far as that is known."""

    @property
    def num_ctx(self) -> int | None:
        """The window, in tokens; None where it is not known."""

    @property
    def can_think(self) -> bool: ...

    @property
    def load_s(self) -> float: ...

    @property
    def lacks(self) -> Mapping[str, str]:
        """Settings that it cannot be given, as `/set` names them, and why."""

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Tools = None,
        run_tools: bool = False,
        **options: Any,
    ) -> Iterator[Event]:
        """As `Model.chat` answers."""

    def begin(self, system: Sequence[Mapping[str, Any]], tools: Tools, think: bool | None) -> None:
        """What its prompts will begin with, said before the first of them."""

    def check(self, **parameters: Any) -> None:
        """Raises RequestInvalid for one that cannot be."""

    def parameters(self) -> Mapping[str, Stated]: ...

    def info(self) -> str:
        """What it is, for people."""

    def template(self) -> str: ...

    def figures(self) -> Mapping[str, str]:
        """What --verbose shows beside times and rates."""

    def close(self) -> None: ...


class Runtime(Protocol):
    """Where the models of a session come from, and how they are run."""

    @property
    def server(self) -> str | None:
        """Where they run, if not here."""

    def lasting_name(self, name: str) -> str:
        """What finds the same model from any folder, another time."""

    def load(self, name: str, num_ctx: int | None = None) -> Partner: ...


Tools = Literal["builtin"] | Sequence[AnyTool] | None  # as `Model.chat` takes them
