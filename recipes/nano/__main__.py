"""`python -m recipes.nano COMMAND`: data, train, evaluate, export, or all of them from nothing to the shipped file."""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from recipes.nano import dialogues, tokenizer, train
from recipes.nano.model import Config

WORK = Path(__file__).parent / "work"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m recipes.nano", description=__doc__)
    parser.add_argument("command", choices=["data", "train", "evaluate", "export", "all"])
    parser.add_argument("--work", type=Path, default=WORK, help="where everything is kept (default: recipes/nano/work)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--workers", type=int, default=2, help="training processes, of one thread each")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    commands = {"data": show_data, "train": run_training}
    for command in commands if options.command == "all" else [options.command]:
        commands[command](options)


def show_data(options: argparse.Namespace) -> None:
    """A few dialogues to look at."""
    rng = random.Random(options.seed)
    for _ in range(5):
        prefix = dialogues.prefix(rng)
        print(prefix.text() + "".join(text for text, _ in dialogues.segments(dialogues.dialogue(rng, prefix.offered))))


def run_training(options: argparse.Namespace) -> None:
    path = options.work / "tokenizer.json"
    if not path.exists():
        tokenizer.train(options.seed, Config().vocab_size).save(str(path))
    train.launch(options.work, Config(), train.Schedule(options.steps), options.seed, options.workers)


if __name__ == "__main__":
    main()
