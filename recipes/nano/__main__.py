"""`python -m recipes.nano COMMAND`: data, train, export, evaluate, card, or all from nothing to the shipped file.

`blend` puts the weights of two runs between each other, of which the second began with the first's.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from recipes.nano import dialogues, tokenizer, train
from recipes.nano.model import MINIATURE, Config
from recipes.nano.values import Values

WORK = Path(__file__).parent / "run"
SHIPPED = Path(__file__).parents[2] / "src" / "headrace" / "nano" / "nano.gguf"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m recipes.nano", description=__doc__)
    commands = {
        "data": show_data, "train": run_training, "export": run_export, "evaluate": run_evaluation, "card": write_card,
    }  # fmt: skip
    parser.add_argument("command", choices=[*commands, "all", "blend"])
    parser.add_argument("--work", type=Path, default=WORK, help="where everything is kept (default: recipes/nano/run)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=12000)
    parser.add_argument("--rate", type=float, help="highest learning rate (default: 1.2e-3; on an accelerator, 2e-3)")
    parser.add_argument(
        "--miniature", action="store_true", help="a model of 0.3 M parameters, to try the recipe itself"
    )
    parser.add_argument("--gguf", type=Path, default=SHIPPED, help="the file to write (default: the one that ships)")
    parser.add_argument("--each", type=int, default=100, help="generated cases of each kind to evaluate")
    parser.add_argument("--workers", type=int, default=2, help="training processes, of one thread each")
    parser.add_argument(
        "--start", type=Path, help="weights to begin with: a state.pt of an earlier run, or the GGUF that it exported"
    )
    parser.add_argument("--blend", type=Path, help="blend: the second run's folder; --start has the first's state.pt")
    parser.add_argument("--share", type=float, default=0.5, help="blend: how much of the second run's weights")
    parser.add_argument("--device", default="cpu", help="cpu, or an accelerator that torch knows, such as cuda")
    options = parser.parse_args()
    options.config = MINIATURE if options.miniature else Config()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.command == "blend":
        train.blend(options.start, options.blend / "state.pt", options.share, options.work / "state.pt")
        return
    for command in commands if options.command == "all" else [options.command]:
        commands[command](options)


def show_data(options: argparse.Namespace) -> None:
    """A few dialogues to look at."""
    rng = random.Random(options.seed)
    values = Values(rng)
    for _ in range(5):
        prefix = dialogues.prefix(rng)
        print(prefix.text() + "".join(text for text, _ in dialogues.segments(dialogues.dialogue(rng, prefix, values))))


def run_training(options: argparse.Namespace) -> None:
    path = options.work / "tokenizer.json"
    if not path.exists():
        known = options.start is not None and options.start.suffix == ".gguf"
        made = tokenizer.of_gguf(options.start) if known else tokenizer.train(options.seed, options.config.vocab_size)
        made.save(str(path))
    schedule = train.Schedule(options.steps, options.rate or (1.2e-3 if options.device == "cpu" else 2e-3))
    train.launch(options.work, options.config, schedule, options.seed, options.workers, options.device, options.start)


def run_export(options: argparse.Namespace) -> None:
    from recipes.nano import export

    export.export(options.work, options.config, options.gguf)
    print(f"{options.gguf}: {options.gguf.stat().st_size / 1e6:.2f} MB")


def run_evaluation(options: argparse.Namespace) -> None:
    """The file that ships, then the same weights in float32: what rounding costs stands in the card."""
    from recipes.nano import evaluate

    found: dict[str, list[evaluate.Row]] = {}
    with (options.work / "failures.txt").open("w", encoding="utf-8") as failures:
        for name, path in {"q8_0": options.gguf, "f32": options.work / "nano-f32.gguf"}.items():
            print(f"{path.name}:", flush=True)
            found[name] = []
            for row in evaluate.evaluate(path, options.each):
                print(row, flush=True)
                found[name].append(row)
                failures.writelines(f"{name}, {row.name}: {failure}\n" for failure in row.failures)
    rows = [
        {"name": row.name, "right": row.right, "total": row.total, "in_float32": exact.right}
        for row, exact in zip(found["q8_0"], found["f32"], strict=True)
    ]
    (options.work / "results.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")


def write_card(options: argparse.Namespace) -> None:
    from recipes.nano import card

    card.write(options.work, options.config, options.gguf.parent)


if __name__ == "__main__":
    main()
