"""docs/formats.md: what is supported or refused and where that is tested, and the figures of `quality`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gguf import GGMLQuantizationType

from benchmarks import page
from headrace.convert import OUTTYPES
from headrace.weights.quantisation import TYPES

if TYPE_CHECKING:
    from benchmarks.quality import Row

PAGE = "formats.md"
SUPPORT = "<!-- support: written by benchmarks/quality.py -->", "<!-- end of support -->"
FIGURES = "<!-- figures: written by benchmarks/quality.py -->", "<!-- end of figures -->"
FLOATS = "native/test_linear.py::test_float_weights_of_every_width"
QUANTISED = "native/test_linear.py::test_quantised_weights_around_the_tiles"
REFUSED = "weights/test_gguf.py::test_broken_files_are_refused_with_a_sentence_and_without_memory"


def support() -> list[str]:
    """A row for each type of weight that there is a name for."""
    lines = [
        "| type | bits a weight | read | kernel | `convert` writes it | test of the kernel |",
        "|---|---|---|---|---|---|",
    ]
    for name, layout in TYPES.items():
        kernel = FLOATS if layout.block == 1 else QUANTISED
        lines.append(
            f"| {name} | {8 * layout.block_bytes / layout.block:g} | yes | yes "
            f"| {_said(name.lower() in OUTTYPES, 'in q4_0, the head' if name == 'Q6_K' else 'no')} "
            f"| `{kernel}` |"
        )
    refused = ", ".join(name for name in GGMLQuantizationType.__members__ if name not in TYPES)
    lines.append(f"| {refused} | | refused, by name | | | `{REFUSED}` |")
    return lines


def figures(found: list[Row]) -> list[str]:
    lines = [
        "| model | format | bits a weight | perplexity | KL | same top | weights alone | activations | int8 cache |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    return lines + [
        f"| {row.model} | {row.format} | {row.bits:.2f} | {row.perplexity:.3f} | {row.divergence:.2g} "
        f"| {row.agreement:.1%} | {row.weights:.2g} | {row.activations:.2g} | {row.cache:.2g} |"
        for row in found
    ]


def write_support(docs: Path) -> None:
    page.replace(docs / PAGE, SUPPORT, "\n".join(support()))


def write_figures(docs: Path, found: list[Row]) -> None:
    body = "\n".join(figures(found)) + "\n\n![Divergence over bits a weight](formats-quality.png)"
    page.replace(docs / PAGE, FIGURES, body)


def _said(holds: bool, otherwise: str) -> str:
    return "yes" if holds else otherwise
