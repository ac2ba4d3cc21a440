"""The published models of the family under short names: what each takes, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from headrace import shapes
from headrace.library.names import HUGGING_FACE, Name
from headrace.shapes import FAMILY, FAMILY_25, Member

WINDOWS: Final = (4096, 32_768)  # tokens, for which the memory is worked out
OWNER: Final = "LiquidAI"  # at Hugging Face
QUANT: Final = "Q4_0"  # with an embedding in Q6_K: what runs fastest on a CPU

LICENSE: Final = "LFM Open License v1.0"
LICENSE_URL: Final = "https://www.liquid.ai/lfm-license"

# Short name -> repository of its GGUF files, and its shape. LFM2.5-230M is left out: its layers are not published.
_TABLE: Final = (
    ("lfm2:350m", "LFM2-350M", FAMILY["lfm2:350m"]),
    ("lfm2:700m", "LFM2-700M", FAMILY["lfm2:700m"]),
    ("lfm2:1.2b", "LFM2-1.2B", FAMILY["lfm2:1.2b"]),
    ("lfm2:2.6b", "LFM2-2.6B", FAMILY["lfm2:2.6b"]),
    ("lfm2:8b", "LFM2-8B-A1B", FAMILY["lfm2:8b"]),
    ("lfm2:24b", "LFM2-24B-A2B", FAMILY["lfm2:24b"]),
    ("lfm2.5:350m", "LFM2.5-350M", FAMILY_25["lfm2.5:350m"]),
    ("lfm2.5:1.2b", "LFM2.5-1.2B-Instruct", FAMILY_25["lfm2.5:1.2b"]),
    ("lfm2.5:1.2b-thinking", "LFM2.5-1.2B-Thinking", FAMILY_25["lfm2.5:1.2b"]),
    ("lfm2.5:2.6b", "LFM2.5-2.6B", FAMILY_25["lfm2.5:2.6b"]),
    ("lfm2.5:8b", "LFM2.5-8B-A1B", FAMILY_25["lfm2.5:8b"]),
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
        return shapes.parameters(self.shape)

    @property
    def size_bytes(self) -> int:
        """Of the weights: the file has two or three megabytes more."""
        return shapes.weights_bytes(self.shape)

    @property
    def memory_bytes(self) -> dict[int, int]:
        return {window: self.size_bytes + shapes.cache_bytes(self.shape, window) for window in WINDOWS}

    @property
    def license(self) -> str:
        return LICENSE


def available() -> Iterator[Available]:
    """The whole table, in order."""
    for short, title, shape in _TABLE:
        source = Name(HUGGING_FACE, OWNER, f"{title}-GGUF", QUANT)
        yield Available(Name.parse(short), title, source, shape)


def source(name: Name) -> Name:
    """Where the model of a short name is fetched from; any other name is its own source."""
    return next((one.source for one in available() if one.name == name), name)


def license_of(name: Name) -> str | None:
    """The licence of a model that its name says to be of the family; what its own files say comes first."""
    return LICENSE if source(name).model.lower().startswith("lfm2") else None
