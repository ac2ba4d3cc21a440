"""Which registries are asked, and whose word counts for them.

A model's name says where it comes from, and names come from strangers: so only registries that are known, on this
machine, or allowed by the user (HEADRACE_REGISTRIES) are asked at all, and encrypted unless the user said otherwise.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from headrace.errors import Forbidden, Offline

# Who else may speak for a registry: hand out its tokens, and answer for its manifests.
KNOWN: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "registry.ollama.ai": frozenset({"ollama.com"}),
        "hf.co": frozenset({"huggingface.co"}),
        "huggingface.co": frozenset({"hf.co"}),
    }
)
HUGGING_FACE: Final = frozenset({"hf.co", "huggingface.co"})
OFFLINE: Final = ("HEADRACE_OFFLINE", "HF_HUB_OFFLINE")
REGISTRIES: Final = "HEADRACE_REGISTRIES"


@dataclass(frozen=True, slots=True)
class Host:
    """A registry that may be asked: `name` is host or host:port, `friends` are others that may speak for it."""

    name: str
    friends: frozenset[str] = frozenset()
    plain: bool = False  # not encrypted

    @property
    def url(self) -> str:
        """Without a slash at the end."""
        return f"{'http' if self.plain else 'https'}://{self.name}"

    @property
    def is_loopback(self) -> bool:
        return is_loopback(self.name.rpartition(":")[0] or self.name)

    @property
    def is_hugging_face(self) -> bool:
        return self.name in HUGGING_FACE


def host_of(
    name: str,
    *,
    plain: bool = False,
    also: Iterable[str] = (),
    loopback: bool = True,
    environment: Mapping[str, str] = os.environ,
) -> Host:
    """The registry of this name, where it may be asked. Raises Offline; Forbidden for one that nobody allowed.

    HEADRACE_REGISTRIES and `also` list more, each `host[:port]`, with `=host` behind it for each that hands out its
    tokens: "models.example.org=auth.example.org, registry.example.com:5000". What is on this machine is never
    encrypted, and allowed unless `loopback` is False: who asks from elsewhere may not look around here. `plain` leaves
    out encryption elsewhere.
    """
    check_online(name, environment)
    more = [*environment.get(REGISTRIES, "").split(","), *also]
    allowed = {**KNOWN, **dict(_entry(text) for text in more if text.strip())}
    plain = plain or Host(name).is_loopback
    if not (loopback and Host(name).is_loopback) and name.lower() not in allowed:
        raise Forbidden(
            f"{name} is none of the registries that models come from ({', '.join(sorted(allowed))}): name it in "
            f"{REGISTRIES} if you trust it"
        )
    usual = ":80" if plain else ":443"  # which addresses leave out
    return Host(name.lower().removesuffix(usual), allowed.get(name.lower(), frozenset()), plain)


def check_online(name: str, environment: Mapping[str, str] = os.environ) -> None:
    """Raises Offline where the user wants nothing to be fetched."""
    for variable in OFFLINE:
        if is_offline(environment, variable):
            raise Offline(f"{name} is not asked, since {variable} is set: unset it to fetch what is not here")


def is_offline(environment: Mapping[str, str] = os.environ, *variables: str) -> bool:
    """Whether one of the variables (by default, of all that there are) is set to anything but "no"."""
    values = (environment.get(variable, "").strip().lower() for variable in variables or OFFLINE)
    return any(value not in ("", "0", "false", "no", "off") for value in values)


def is_loopback(name: str) -> bool:
    """Of this machine, without asking anybody: a name that only resolves to it does not count."""
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return name.lower().rstrip(".") == "localhost"


def _entry(text: str) -> tuple[str, frozenset[str]]:
    name, *friends = (part.strip().lower() for part in text.split("="))
    return name, frozenset(filter(None, friends))
