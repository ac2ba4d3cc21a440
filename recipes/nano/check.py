"""`python -m recipes.nano.check FILE`: every pattern of a catalogue tried."""

from __future__ import annotations

import random
import re
import sys
from pathlib import Path

from recipes.nano.asking import asked, filled
from recipes.nano.offering import offer
from recipes.nano.tools import CatalogueInvalid, parse
from recipes.nano.values import Values


def check(path: Path) -> list[str]:
    """What is wrong with a catalogue, in sentences."""
    rng = random.Random(0)
    values = Values(rng)
    wrong: list[str] = []
    for entry in parse(path.read_text(encoding="utf-8")):
        required = {p.name for p in entry.parameters if p.required}
        wrong += [
            f"{entry.names[0]}: unknown type {p.kind!r}"
            for p in entry.parameters
            if p.kind != "bool" and not values.knows(p.kind)
        ]
        if not entry.asks or not entry.results:
            wrong.append(f"{entry.names[0]}: no requests or no results")
        for pattern in entry.asks:
            try:
                for _ in range(8):
                    given, text = filled(rng, values, entry, pattern)
                    if missing := required - given.keys():
                        wrong.append(f"{entry.names[0]}: {pattern!r} lacks {sorted(missing)}")
                        break
                    if set("[]{}|") & set(re.sub(r"\S*://\S*", "", text)):
                        wrong.append(f"{entry.names[0]}: {text!r} has brackets left")
                        break
            except (CatalogueInvalid, KeyError, ValueError) as error:
                wrong.append(f"{entry.names[0]}: {pattern!r}: {error!r}")
        for _ in range(6):
            try:
                asked(rng, values, offer(rng, entry, "snake"))
            except (CatalogueInvalid, KeyError, ValueError, IndexError) as error:
                wrong.append(f"{entry.names[0]}: {error!r}")
                break
    return wrong


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print("\n".join(check(Path(name))) or "ok")
