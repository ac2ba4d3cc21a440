"""Where things are: Headrace's own folders, those of the programs beside it, and the settings that say so."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from headrace.library.store import Store
from headrace.machine import cache_folder, home_folder

DEFAULT: Final = "default"
MODELS: Final = "models"
PROXIES: Final = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")
SHOWN: Final = (
    *("HEADRACE_HOME", "HEADRACE_CACHE", "HEADRACE_OFFLINE", "HEADRACE_REGISTRIES"),
    *("OLLAMA_MODELS", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN"),
)
SECRET: Final = ("HF_TOKEN",)
# Where Ollama keeps models when it runs as a service of the machine's.
SERVICE: Final = Path("/usr/share/ollama/.ollama/models")


@dataclass(frozen=True, slots=True)
class Place:
    """A folder, what it is for, and the environment's variable that says where it is, or "default"."""

    purpose: str
    path: Path
    origin: str
    is_ours: bool = True  # and written to

    @property
    def exists(self) -> bool:
        return os.path.isdir(self.path)  # noqa: PTH112 - and not where we may not even look

    @property
    def free_bytes(self) -> int | None:
        """Of its disk; None where that is not known."""
        with suppress(OSError):
            return shutil.disk_usage(_nearest(self.path)).free
        return None

    @property
    def problem(self) -> str | None:
        """What is wrong with it, in a sentence."""
        nearest = _nearest(self.path)
        if not os.path.isdir(nearest):  # noqa: PTH112
            return f"{nearest} is in the way of {self.path}: it is no folder"
        if self.exists and not os.access(self.path, os.R_OK | os.X_OK):
            return f"{self.path} cannot be read: mend its rights"
        if self.is_ours and not os.access(nearest, os.W_OK | os.X_OK):
            return f"{nearest} cannot be written to: mend its rights, or set {self.variable} to another folder"
        return None

    @property
    def variable(self) -> str:
        """That which moves it, set or not."""
        usual = "HEADRACE_HOME" if self.purpose == MODELS else "HEADRACE_CACHE"
        return self.origin if self.origin != DEFAULT else usual


def models_folder() -> Place:
    """Of our own store."""
    return Place(MODELS, home_folder() / "models", _set("HEADRACE_HOME") or DEFAULT)


def packed_folder() -> Place:
    return Place("packed weights", cache_folder() / "packed", _set("HEADRACE_CACHE") or DEFAULT)


def ollama_folders() -> list[Place]:
    """OLLAMA_MODELS, else the user's own store, and that of a service."""
    purpose, variable = "Ollama's models", "OLLAMA_MODELS"
    if _set(variable):
        return [Place(purpose, _folder(os.environ[variable]), variable, is_ours=False)]
    own = Path.home() / ".ollama" / "models"
    return [Place(purpose, path, DEFAULT, is_ours=False) for path in (own, SERVICE)]


def hub_folder() -> Place:
    """Of Hugging Face's libraries: their own rules, in their own order."""
    purpose = "Hugging Face's models"
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if _set(variable):
            return Place(purpose, _folder(os.environ[variable]), variable, is_ours=False)
    home, origin = _hugging_face_home()
    return Place(purpose, home / "hub", origin, is_ours=False)


def _hugging_face_home() -> tuple[Path, str]:
    for variable, below in (("HF_HOME", ""), ("XDG_CACHE_HOME", "huggingface")):
        if _set(variable):
            return _folder(os.environ[variable]) / below, variable
    return Path.home() / ".cache" / "huggingface", DEFAULT


def own_store() -> Store:
    return Store(models_folder().path)


def places() -> list[Place]:
    """All of them, ours first."""
    return [models_folder(), packed_folder(), *ollama_folders(), hub_folder()]


def settings() -> Iterator[tuple[str, str]]:
    """The variables of the environment that are set and mean something to the library. Secrets are not shown."""
    for variable in SHOWN:
        if value := os.environ.get(variable):
            yield variable, "set" if variable in SECRET else value
    token = _hugging_face_home()[0] / "token"
    if not os.environ.get("HF_TOKEN") and os.path.isfile(token):  # noqa: PTH113
        yield "HF_TOKEN", f"from {token}"
    for variable in PROXIES:
        for spelled in (variable.lower(), variable):
            if value := os.environ.get(spelled):
                yield spelled, without_password(value)


def _set(variable: str) -> str | None:
    return variable if os.environ.get(variable) else None


def _folder(text: str) -> Path:
    return Path(os.path.expandvars(text)).expanduser()


def _nearest(path: Path) -> Path:
    """The nearest thing above it that is there, as far as we may look."""
    place = path.absolute()
    return next(one for one in (place, *place.parents) if os.path.exists(one) or one == one.parent)  # noqa: PTH110


def without_password(address: str) -> str:
    """An address that may be shown."""
    return re.sub(r"^([a-z0-9+.-]+://)?.*@", r"\1...@", address, flags=re.I)
