"""`python -m benchmarks.quality`: what each format costs in quality, on a real text; `--write` puts it into the docs.

A model's weights as its file has them, in float32 and with an fp32 cache, are the measure: perplexity on
`passage.txt` (a text of our own, so no model was trained on it), and for each format that `convert` can write the
mean divergence from that. Parts are told apart: a format's weights under float activations, its activations rounded
to int8 on top, and an int8 cache in place of an fp16 one. SmolLM2 is left out where its package is not installed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from benchmarks import formats_page
from headrace import checkpoint, nano, packaged
from headrace.checkpoint import Checkpoint
from headrace.convert import OUTTYPES, head_of, tensor_type
from headrace.errors import ModelNotFound
from headrace.model import Model
from headrace.weights.quantisation import dequantise
from headrace.weights.rounding import quantise
from headrace.weights.tensor import Tensor, Weights

PASSAGE = Path(__file__).parent / "passage.txt"
DOCS = Path(__file__).parents[1] / "docs"
Logits = NDArray[np.float32]  # [tokens, vocabulary]
COLOURS = {"smollm2": "#0b6e99", "nano": "#c05621"}


@dataclass(frozen=True, slots=True)
class Row:
    """Divergences are means over the tokens of the text, in nats; `agreement` is of the most likely tokens.

    `weights` is the format under float activations, `activations` what rounding them adds (from the same weights under
    float ones), `cache` what an int8 cache adds to an fp16 one.
    """

    model: str
    format: str
    bits: float  # a weight, of the whole file
    perplexity: float
    divergence: float
    agreement: float
    weights: float
    activations: float
    cache: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the figures into docs/formats.md, with a picture")
    parser.add_argument("--support", action="store_true", help="only write there what is supported: measure nothing")
    options = parser.parse_args()
    if options.support:
        formats_page.write_support(DOCS)
        return
    found: list[Row] = []
    for name in (*packaged.MODELS, nano.NAME):
        try:
            source = checkpoint.read(name)
        except ModelNotFound as error:
            print(f"{name} is left out: {error}")
            continue
        found += rows(name, source)
    print("\n".join(formats_page.figures(found)))
    if options.write:
        formats_page.write_support(DOCS)
        draw(found, DOCS / "formats-quality.png")
        formats_page.write_figures(DOCS, found)


def rows(name: str, source: Checkpoint) -> Iterator[Row]:
    """The file as it is, then what `convert` would make of its values."""
    text = PASSAGE.read_text(encoding="utf-8")
    ids = source.tokenizer.encode(text, add_bos=True)
    exact = floats(source.weights)
    measure = logits(source, exact, ids, "fp32")
    print(f"{name}: {len(ids)} tokens, perplexity {perplexity(measure, ids):.3f}", flush=True)
    stored = {"as it is": source.weights} | {kind: rounded(source, kind) for kind in OUTTYPES}
    for kind, weights in stored.items():
        usual = logits(source, weights, ids, "fp16")
        under_floats = logits(source, floats(weights), ids, "fp16")
        row = Row(
            name,
            kind,
            8 * sum(t.data.size for t in _each(weights)) / sum(int(np.prod(t.shape)) for t in _each(weights)),
            perplexity(usual, ids),
            *compared(usual, measure),
            weights=compared(under_floats, measure)[0],
            activations=compared(usual, under_floats)[0],
            cache=compared(logits(source, weights, ids, "int8"), usual)[0],
        )
        print(row, flush=True)
        yield row


def logits(source: Checkpoint, weights: Weights, ids: list[int], kv: str) -> Logits:
    """By the native core; the folder stands for the file, whose packed copy holds other weights."""
    with Model(replace(source, weights=weights, path=source.path.parent), num_ctx=len(ids), kv=kv) as model:
        return model.logits(ids)


def rounded(source: Checkpoint, outtype: str) -> Weights:
    """The weights of the file that `convert` would write, with its rules for what stays finer."""
    head = head_of(source)

    def encoded(name: str, tensor: Tensor) -> Tensor:
        kind = tensor_type(name, tensor.shape, outtype, head=name == head)
        return replace(tensor, type=kind, data=quantise(dequantise(tensor), kind))

    return {name: tuple(encoded(name, tensor) for tensor in tensors) for name, tensors in source.weights.items()}


def floats(weights: Weights) -> Weights:
    """The same values as float32, which meet float activations."""

    def exact(tensor: Tensor) -> Tensor:
        return replace(tensor, type="F32", data=dequantise(tensor).reshape(-1).view(np.uint8))

    return {name: tuple(map(exact, tensors)) for name, tensors in weights.items()}


def perplexity(found: Logits, ids: list[int]) -> float:
    """exp of the mean surprise at each token of the text that has one before it."""
    surprise = [-log_softmax(row[None])[0, token] for row, token in zip(found[:-1], ids[1:], strict=True)]
    return float(np.exp(np.mean(surprise)))


def compared(ours: Logits, measure: Logits) -> tuple[float, float]:
    """Mean divergence of ours from the measure, and how often both hold the same token most likely."""
    divergence = 0.0
    for start in range(0, len(ours), 64):  # of a large vocabulary, float64 copies of all rows would fill the memory
        p, q = log_softmax(measure[start : start + 64]), log_softmax(ours[start : start + 64])
        divergence += float((np.exp(p) * (p - q)).sum())
    return divergence / len(ours), float((ours.argmax(1) == measure.argmax(1)).mean())


def log_softmax(rows_: Logits) -> NDArray[np.float64]:
    shifted = rows_.astype(np.float64) - rows_.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def draw(found: list[Row], path: Path) -> None:
    """Divergence over bits a weight: the weights alone, and as it runs."""
    figure, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
    for model in dict.fromkeys(row.model for row in found):
        some = sorted((row for row in found if row.model == model and row.divergence > 0), key=lambda row: row.bits)
        bits: list[Any] = [row.bits for row in some]
        axes.plot(bits, [row.divergence for row in some], "o", color=COLOURS[model], label=f"{model}, as it runs")
        alone = [max(row.weights, 1e-9) for row in some]
        axes.plot(bits, alone, "o", color=COLOURS[model], fillstyle="none", label=f"{model}, float activations")
        names = {(row.bits, row.divergence): row.format for row in some}  # one for two that are the same
        for row in some:
            if names[row.bits, row.divergence] != row.format:
                continue
            axes.annotate(row.format, (row.bits, row.divergence), (6, 4), textcoords="offset points", fontsize=8)
    axes.set(xscale="log", yscale="log", xlabel="bits a weight", ylabel="KL divergence from float32, nats a token")
    axes.set_xticks([4, 5, 6, 8, 16, 32], ["4", "5", "6", "8", "16", "32"])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _each(weights: Weights) -> Iterator[Tensor]:
    for tensors in weights.values():
        yield from tensors


if __name__ == "__main__":
    main()
