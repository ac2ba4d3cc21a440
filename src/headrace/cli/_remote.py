"""Models that a server has: where it is, and what a conversation needs of one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from headrace.cli._display import safe
from headrace.cli._partner import Stated, Tools
from headrace.cli.show import sections
from headrace.connection import PORT, Server
from headrace.engine.parameters import Parameters
from headrace.errors import Unreachable
from headrace.events import Event
from headrace.remote import RemoteModel

LACKS: Final[Mapping[str, str]] = MappingProxyType(
    {"noloopguard": "the server ends an answer that repeats itself, and Ollama's API cannot tell it not to"}
)
DETAILS: Final = ("family", "parameter_size", "quantization_level", "format")


@dataclass(frozen=True, slots=True)
class RemoteRuntime:
    """The models of the server at `url`."""

    url: str
    key: str | None = None
    keep_alive_s: float | None = None

    @property
    def server(self) -> str:
        return self.url

    def lasting_name(self, name: str) -> str:
        return name

    def load(self, name: str, num_ctx: int | None = None) -> Remote:
        server = Server(self.url, self.key)
        try:
            return Remote(RemoteModel(server, name, num_ctx, self.keep_alive_s))
        except BaseException as error:
            server.close()
            word = re.fullmatch(rf"http://(\w+):{PORT}", self.url)
            if word and isinstance(error, Unreachable):
                raise Unreachable(f"{error}; or, if {word[1]} is a model, write --host behind it") from None
            raise


@dataclass(frozen=True, slots=True)
class Remote:
    """A model of a server, which loads it when it is first asked something."""

    model: RemoteModel

    @property
    def lacks(self) -> Mapping[str, str]:
        return LACKS

    @property
    def num_ctx(self) -> int | None:
        return self.model.num_ctx

    @property
    def can_think(self) -> bool:
        return self.model.can_think

    @property
    def load_s(self) -> float:
        return self.model.load_s

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Tools = None,
        run_tools: bool = False,
        loop_guard: bool = True,  # noqa: ARG002 - the server's own
        **options: Any,
    ) -> Iterator[Event]:
        return self.model.chat(messages, tools=tools, run_tools=run_tools, **options)

    def begin(self, system: Sequence[Mapping[str, Any]], tools: Tools, think: bool | None) -> None:
        """The server remembers what it has read."""

    def check(self, **parameters: Any) -> None:
        Parameters().override(**parameters)

    def parameters(self) -> Mapping[str, Stated]:
        return {name: Stated(value, "the model") for name, value in self.model.parameters.items() if name != "num_ctx"}

    def info(self) -> str:
        shown, num_ctx = self.model.shown, self.model.num_ctx
        details, capabilities = shown.get("details"), shown.get("capabilities")
        rows = {name.replace("_", " "): details.get(name) for name in DETAILS} if isinstance(details, dict) else {}
        rows["can"] = ", ".join(map(str, capabilities)) if isinstance(capabilities, list) else ""
        window = {"tokens": f"{num_ctx:,}"} if num_ctx else {}
        stated = {name: str(value) for name, (value, _) in self.parameters().items()}
        parts = {
            "Model": {"name": self.model.name, "server": self.model.server.url, **_told(rows)},
            "Window": window,
            "Defaults": stated,
        }
        return "\n".join(map(safe, sections({name: part for name, part in parts.items() if part}).split("\n")))

    def template(self) -> str:
        return safe(self.model.template)

    def figures(self) -> Mapping[str, str]:
        return {}

    def close(self) -> None:
        self.model.close()


def _told(rows: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in rows.items() if value}
