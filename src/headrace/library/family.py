"""The published models of the family under short names: what each takes, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from headrace.library.names import HUGGING_FACE, Name

if TYPE_CHECKING:
    from headrace.shapes import Member

WINDOWS: Final = (4096, 32_768)  # tokens, for which the memory is worked out
OWNER: Final = "LiquidAI"  # at Hugging Face
QUANT: Final = "Q4_0"  # with an embedding in Q6_K: what runs fastest on a CPU

LICENSE: Final = "LFM Open License v1.0"
LICENSE_URL: Final = "https://www.liquid.ai/lfm-license"

# Short name -> repository of its GGUF files. LFM2.5-230M is left out: its layers are not published.
_TABLE: Final = (
    ("lfm2:350m", "LFM2-350M"),
    ("lfm2:700m", "LFM2-700M"),
    ("lfm2:1.2b", "LFM2-1.2B"),
    ("lfm2:2.6b", "LFM2-2.6B"),
    ("lfm2:8b", "LFM2-8B-A1B"),
    ("lfm2:24b", "LFM2-24B-A2B"),
    ("lfm2.5:350m", "LFM2.5-350M"),
    ("lfm2.5:1.2b", "LFM2.5-1.2B-Instruct"),
    ("lfm2.5:1.2b-thinking", "LFM2.5-1.2B-Thinking"),
    ("lfm2.5:2.6b", "LFM2.5-2.6B"),
    ("lfm2.5:8b", "LFM2.5-8B-A1B"),
)


@dataclass(frozen=True, slots=True)
class Available:
    """A model that can be pulled. Sizes in bytes; `memory_bytes` is that of the weights and a full cache, by window."""

    name: Name
    title: str
    source: Name
    shape: Member

    @property
    def parameters(self) -> int:
        from headrace import shapes  # NumPy: not needed to know a name

        return shapes.parameters(self.shape)

    @property
    def size_bytes(self) -> int:
        """Of the weights: the file has two or three megabytes more."""
        from headrace import shapes

        return shapes.weights_bytes(self.shape)

    @property
    def memory_bytes(self) -> dict[int, int]:
        from headrace import shapes

        return {window: self.size_bytes + shapes.cache_bytes(self.shape, window) for window in WINDOWS}

    @property
    def license(self) -> str:
        return LICENSE


def available() -> Iterator[Available]:
    """The whole table, in order."""
    from headrace.shapes import FAMILY, FAMILY_25

    known = {**FAMILY, **FAMILY_25}
    for (name, source), (_, title) in zip(sources().items(), _TABLE, strict=True):
        shape = known[str(name).removesuffix("-thinking")]  # which is of its sibling's
        yield Available(name, title, source, shape)


def sources() -> dict[Name, Name]:
    """Each short name, and where its model is fetched from."""
    return {Name.parse(short): Name(HUGGING_FACE, OWNER, f"{title}-GGUF", QUANT) for short, title in _TABLE}


def source(name: Name) -> Name:
    """Where the model of a short name is fetched from; any other name is its own source."""
    return sources().get(name, name)


def license_of(name: Name) -> str | None:
    """The licence of a model that its name says to be of the family; what its own files say comes first."""
    return LICENSE if source(name).model.lower().startswith("lfm2") else None
