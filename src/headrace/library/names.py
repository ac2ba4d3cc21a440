"""The names of models: [host/][namespace/]model[:tag], as Ollama's users and Hugging Face's write them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import total_ordering
from pathlib import Path, PurePosixPath
from typing import Final

from headrace.errors import RequestInvalid

HOST: Final = "registry.ollama.ai"
NAMESPACE: Final = "library"
TAG: Final = "latest"
HUGGING_FACE: Final = "hf.co"
ALIASES: Final = {"huggingface.co": HUGGING_FACE, "www.huggingface.co": HUGGING_FACE, "www.hf.co": HUGGING_FACE}

LONGEST_PART: Final = 96  # characters: as long as a repository's name at Hugging Face
LONGEST_HOST: Final = 253  # without the port
LONGEST: Final = 2048  # of a whole text: more is not even looked at

_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_-])?")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?"
_HOST = re.compile(rf"({_LABEL}(?:\.{_LABEL})*)(?::([1-9][0-9]{{0,4}}))?")
_EXPECTED = "expected [host/][namespace/]model[:tag] of letters, digits, '_', '-' and '.'"


@total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class Name:
    """A model's full name. Two names are equal if they differ in case alone, or in the spelling of Hugging Face's host.

    Whatever the parts come from, a Name that exists is safe as a path: RequestInvalid is raised for any other.
    """

    host: str
    namespace: str
    model: str
    tag: str = TAG
    scheme: str = field(default="https", repr=False)  # "http" only for a registry that was asked for so

    def __post_init__(self) -> None:
        object.__setattr__(self, "host", canonical_host(self.host))
        if not _is_host(self.host):
            raise RequestInvalid(f"{self.host!r} is no registry's host: expected one such as {HOST} or localhost:5000")
        for kind in ("namespace", "model", "tag"):
            part = getattr(self, kind)
            if not _is_part(part):
                expected = f"{_EXPECTED}, {LONGEST_PART} at most a part" if len(part) > LONGEST_PART else _EXPECTED
                raise RequestInvalid(f"{part!r} cannot be the {kind} of a model's name: {expected}")

    @classmethod
    def parse(cls, text: str, *, insecure: bool = False) -> Name:
        """Missing parts are Ollama's: registry.ollama.ai, library, latest. Raises RequestInvalid.

        `http://` before a host is for those alone who said that an insecure registry will do.
        """
        scheme, rest = _scheme(text, insecure)
        place, _, last = rest.rpartition("/")
        model, colon, tag = last.partition(":")
        parts = place.split("/") if place else []
        if not rest or len(rest) > LONGEST or len(parts) > 2 or (colon and not tag) or rest.startswith("/"):
            raise RequestInvalid(f"{text!r} is no model's name: {_EXPECTED}")
        host, namespace = _place(text, parts)
        return cls(host, namespace, model, tag or TAG, scheme)

    @classmethod
    def of_path(cls, path: PurePosixPath) -> Name:
        """The way back from `path`. Raises RequestInvalid."""
        if len(path.parts) != 4:
            raise RequestInvalid(f"{str(path)!r} is no place of a manifest: expected host/namespace/model/tag")
        return cls(*path.parts)

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What tells names apart."""
        return (self.host, self.namespace.lower(), self.model.lower(), self.tag.lower())

    @property
    def path(self) -> PurePosixPath:
        """Where its manifest lies under a store's `manifests`."""
        return PurePosixPath(self.host, self.namespace, self.model, self.tag)

    @property
    def repository(self) -> str:
        """namespace/model, as its registry is asked: as spelled, but in small letters where it knows no others."""
        spelled = f"{self.namespace}/{self.model}"
        keeps_case = self.host == HUGGING_FACE or (self.host == HOST and self.namespace.lower() != NAMESPACE)
        return spelled if keeps_case else spelled.lower()

    @property
    def url(self) -> str:
        """Of its registry, without a slash at the end."""
        return f"{self.scheme}://{self.host}"

    @property
    def full(self) -> str:
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    def __str__(self) -> str:
        """The shortest text that means it."""
        shown = self.model if self.tag.lower() == TAG else f"{self.model}:{self.tag}"
        if self.host != HOST or _names_a_host(self.namespace):
            return f"{self.host}/{self.namespace}/{shown}"
        return shown if self.namespace.lower() == NAMESPACE else f"{self.namespace}/{shown}"

    def __eq__(self, other: object) -> bool:
        return self.key == other.key if isinstance(other, Name) else NotImplemented

    def __lt__(self, other: Name) -> bool:
        return self.key < other.key

    def __hash__(self) -> int:
        return hash(self.key)


def means_a_path(text: str) -> bool:
    """Whether nobody who writes this means a name."""
    return text.startswith((".", "/", "~")) or text.lower().endswith((".gguf", ".panels", ".safetensors"))


def path_of(text: str) -> Path | None:
    """What lies there as a file or a folder; a text may be too long for a path, or begin with the ~ of nobody."""
    try:
        path = Path(text).expanduser()
        return path if path.exists() else None
    except (OSError, ValueError, RuntimeError):
        return None


def canonical_host(host: str) -> str:
    """In small letters, and Hugging Face by one name."""
    return ALIASES.get(host.lower(), host.lower())


def _scheme(text: str, insecure: bool) -> tuple[str, str]:
    before, separator, rest = text.partition("://")
    if not separator:
        return "https", text
    if before.lower() == "http" and not insecure:
        raise RequestInvalid(
            f"{text!r} asks for an unencrypted registry: say --insecure (`insecure` over HTTP) if that is meant"
        )
    if before.lower() not in ("http", "https") or "/" not in rest:
        raise RequestInvalid(f"{text!r} is no model's name: {_EXPECTED}")
    return before.lower(), rest


def _place(text: str, parts: list[str]) -> tuple[str, str]:
    """Host and namespace. What stands alone before the model is a host if it can be nothing else."""
    if len(parts) == 2:
        return parts[0], parts[1]
    if not parts:
        return HOST, NAMESPACE
    if not _names_a_host(parts[0]):
        return HOST, parts[0]
    if canonical_host(parts[0]) == HUGGING_FACE:
        raise RequestInvalid(f"{text!r} has no owner: a model of Hugging Face is hf.co/OWNER/REPOSITORY[:QUANT]")
    return parts[0], NAMESPACE


def _names_a_host(part: str) -> bool:
    return "." in part or ":" in part or part.lower() == "localhost"


def _is_host(host: str) -> bool:
    found = _HOST.fullmatch(host)
    return found is not None and len(found[1]) <= LONGEST_HOST and int(found[2] or 1) < 2**16


def _is_part(part: str) -> bool:
    return len(part) <= LONGEST_PART and ".." not in part and _PART.fullmatch(part) is not None
