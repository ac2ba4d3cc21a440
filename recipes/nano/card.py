"""The model card: prose from card.md, figures from the evaluation, the learning curve from the training's log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from recipes.nano.model import Config, Nano

TEMPLATE = Path(__file__).parent / "card.md"


def write(work: Path, config: Config, folder: Path) -> None:
    """`folder`/README.md and curve.png from `work`/results.json and log.jsonl."""
    lines = [json.loads(line) for line in (work / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    results = json.loads((work / "results.json").read_text(encoding="utf-8"))
    draw(lines, folder / "curve.png")
    text = TEMPLATE.read_text(encoding="utf-8")
    told = {**_training(lines), **_shape(config), "figures": _table(results)}
    for name, value in told.items():
        text = text.replace(f"<{name}>", value)
    (folder / "README.md").write_text(text, encoding="utf-8")


def _training(lines: list[dict[str, Any]]) -> dict[str, str]:
    steps = [line for line in lines if "loss" in line]
    machines = dict.fromkeys(line["machine"] for line in lines if "machine" in line)
    speeds = sorted(line["tokens_per_second"] for line in steps)
    return {
        "steps": f"{steps[-1]['step']:,}",
        "tokens": f"{steps[-1]['tokens'] / 1e6:.1f}",
        "speed": f"{speeds[len(speeds) // 2]:,}",
        "loss": str(steps[-1]["loss"]),
        "machine": ", then ".join(machines),
    }


def _shape(config: Config) -> dict[str, str]:
    parts = Nano(config).named_parameters()
    parameters = config.vocab_size * config.hidden_size  # what ships of the embedding's three parts
    parameters += sum(value.numel() for name, value in parts if not name.startswith("embedding."))
    return {"parameters": f"{parameters / 1e6:.2f}", "vocabulary": f"{config.vocab_size:,}"}


def _table(results: list[dict[str, Any]]) -> str:
    rows = []
    for row in results:
        share = 100 * row["right"] / row["total"]
        rows.append(f"| {row['name']} | {row['right']} of {row['total']} | {share:.0f} % | {row['in_float32']} |")
    return "\n".join(["| | right | | before rounding to Q8_0 |", "|---|---|---|---|", *rows])


def draw(lines: list[dict[str, Any]], path: Path) -> None:
    """Loss, and the share of exact held-out turns, over tokens."""
    steps = [line for line in lines if "loss" in line]
    at = {line["step"]: line["tokens"] / 1e6 for line in steps}
    gates = [line for line in lines if "gates" in line and line["step"] in at]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), constrained_layout=True)
    left.plot([line["tokens"] / 1e6 for line in steps], [line["loss"] for line in steps], color="#30638e")
    left.set(title="training loss", xlabel="million tokens", ylabel="nats a token", ylim=(0, None))
    for name in gates[0]["gates"] if gates else ():
        right.plot(
            [at[line["step"]] for line in gates], [100 * line["gates"][name] for line in gates], marker=".", label=name
        )
    right.set(title="exact first turns, held out", xlabel="million tokens", ylabel="%", ylim=(0, 101))
    if gates:
        right.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(path, dpi=110)
    plt.close(figure)
