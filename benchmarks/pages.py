"""docs/performance.md and its plots, from the figures of `versus`."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

import matplotlib.pyplot as plt

from benchmarks import page
from benchmarks.versus import Row, described, medians, table
from headrace.bench import Cost

COLOURS = {"headrace": "#0b6e99", "llama.cpp": "#c05621", "transformers": "#7b6a9c"}
ENDS = "<!-- figures: written by benchmarks/versus.py -->", "<!-- end of figures -->"


def write(found: list[Row], cost: Cost, docs: Path) -> None:
    """Replaces the part of the page between the two comments; what stands around it is written by hand."""
    bars(found, docs / "performance-speed.png")
    roofline(found, cost, docs / "performance-roofline.png")
    files = ", ".join(dict.fromkeys(f"`{row['file']}`" for row in found))
    runs = min(row["runs"] for engines in medians(found).values() for row in engines.values())
    rounds = "one round" if runs == 1 else f"{runs} rounds or more"
    limits = [row for row in found if row["engine"] == "headrace"]
    reads, multiplies = ([row[name] for row in limits if name in row] for name in ("read_gb_per_s", "int8_tmac_per_s"))
    facts = (
        f"{files}, {found[0]['threads']} threads, {rounds} in turn, medians. The machine gave"
        f" {min(reads):.0f} to {max(reads):.0f} GB/s of reads (median {median(reads):.0f}) and"
        f" {median(multiplies):.2f} T int8 multiply-adds a second."
    )
    pictures = "![Tokens per second](performance-speed.png)\n\n![Roofline](performance-roofline.png)"
    page.replace(docs / "performance.md", ENDS, "\n\n".join([facts, "\n".join(table(found)), pictures]))


def bars(found: list[Row], path: Path) -> None:
    figures = medians(found)
    engines = list(dict.fromkeys(row["engine"] for row in found))
    figure, axes = plt.subplots(figsize=(9, 0.55 * len(figures) + 1.4), layout="constrained")
    height = 0.8 / len(engines)
    for i, engine in enumerate(engines):
        places = [n + i * height for n, each in enumerate(figures.values()) if engine in each]
        speeds = [each[engine]["tokens_per_s"] for each in figures.values() if engine in each]
        drawn = axes.barh(places, speeds, height=0.9 * height, color=COLOURS[engine], label=engine)
        axes.bar_label(drawn, fmt="%.0f", padding=3, fontsize=8)
    names = [described(next(iter(each.values()))) for each in figures.values()]
    axes.set_yticks([n + 0.4 - height / 2 for n in range(len(names))], names)
    axes.invert_yaxis()
    axes.set_xlabel("tokens per second")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def roofline(found: list[Row], cost: Cost, path: Path) -> None:
    """Multiply-adds a second over multiply-adds for each byte that must be read; the roof is the machine's."""
    ours = [row for row in found if row["engine"] == "headrace"]
    reads = median(row["read_gb_per_s"] for row in ours if "read_gb_per_s" in row) * 1e9
    peak = median(row["int8_tmac_per_s"] for row in ours if "int8_tmac_per_s" in row) * 1e12
    figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    intensities = [1.0, peak / reads, 1000.0]
    axes.plot(intensities, [min(peak, reads * x) for x in intensities], color="black", linewidth=1)
    axes.annotate(f"{peak / 1e12:.2f} T int8 multiply-adds/s", (500, 1.06 * peak), ha="center")
    axes.annotate(f"{reads / 1e9:.0f} GB/s of reads", (1.05, 3 * reads))
    for engines in medians(found).values():
        for engine, row in engines.items():
            x = cost.multiply_adds * tokens_of_step(row) / bytes_of_step(cost, row)
            y = cost.multiply_adds * row["tokens_per_s"]
            axes.plot(x, y, "o", color=COLOURS[engine])
            if engine == "headrace":
                axes.annotate(described(row), (x, y), (6, -4), textcoords="offset points", fontsize=8)
    for engine in dict.fromkeys(row["engine"] for row in found):
        axes.plot([], [], "o", color=COLOURS[engine], label=engine)
    axes.set(xscale="log", yscale="log", xlabel="multiply-adds for each byte read", ylabel="multiply-adds per second")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=120)
    plt.close(figure)


CHUNK = 512  # tokens of a prompt that read the weights together


def tokens_of_step(row: dict[str, Any]) -> int:
    return min(row["tokens"], CHUNK) if row["kind"] == "prefill" else int(row["sequences"])


def bytes_of_step(cost: Cost, row: dict[str, Any]) -> float:
    if row["kind"] == "prefill":
        return cost.step_bytes(tokens_of_step(row), 0, "fp16") + cost.kv_numbers * 2 * row["depth"]
    return cost.step_bytes(row["sequences"], row["depth"], "fp16")
