"""`python -m benchmarks.versus FILE`: Headrace, llama.cpp and transformers on one machine, and docs/performance.md.

The engines take turns, each in a process of its own, several times over, for machines change speed from one minute to
the next: what counts is the median of each and their ratio. The machine's limits are measured beside every row of ours.
llama.cpp is `llama-cpp-python` in this environment, or in that of `--llama-python`, or else `llama-bench` on PATH; a
peer that is not there is left out. Needs matplotlib.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from collections import defaultdict
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from headrace import bench, checkpoint, machine
from headrace.engine.packed import in_panels

Row = dict[str, Any]
Key = tuple[str, int, int, int]  # kind, tokens, depth, sequences
PEERS = Path(__file__).parent / "peers.py"
DOCS = Path(__file__).parents[1] / "docs"
LIMIT_S = 1800  # for one engine's turn


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.versus", description=__doc__)
    parser.add_argument(
        "file", type=Path, help="a GGUF file; `headrace bench --synthetic lfm2:8b --out FILE` writes one"
    )
    parser.add_argument("--engines", default="headrace,llama.cpp", help="of headrace, llama.cpp, transformers")
    parser.add_argument("--prefill", default="512,2048")
    parser.add_argument("--depth", default="0")
    parser.add_argument("--sequences", default="1,16")
    parser.add_argument("--threads", type=int, default=machine.usable_threads())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--llama-python", default=sys.executable, help="a Python that has llama-cpp-python")
    parser.add_argument(
        "--results", type=Path, default=Path("versus.json"), help="figures of all rounds; kept and added to"
    )
    parser.add_argument("--write", action="store_true", help="write docs/performance.md and its plots from the results")
    options = parser.parse_args()
    found = json.loads(options.results.read_text()) if options.results.exists() else []
    source = checkpoint.read(options.file)
    in_panels(source.path, source.weights)  # once, before anything is timed
    rows = list(asked(options))
    for _, engine in product(range(options.rounds), options.engines.split(",")):
        python = options.llama_python if engine == "llama.cpp" else sys.executable
        for row in turn(python, engine, options.file, rows, options.threads):
            found.append({"engine": engine, "file": options.file.name, "threads": options.threads, **row})
            options.results.write_text(json.dumps(found, indent=1))
            print(f"{engine:<13}{described(row)}: {row['tokens_per_s']:.1f} tokens/s", flush=True)
    print("\n".join(table(found)))
    if options.write:
        from benchmarks import pages

        pages.write(found, bench.Cost.of(source), DOCS)


def asked(options: argparse.Namespace) -> list[Row]:
    numbers = {name: [int(n) for n in getattr(options, name).split(",")] for name in ("prefill", "depth", "sequences")}
    rows = []
    for depth in sorted(numbers["depth"]):
        rows += [{"kind": "prefill", "tokens": n, "depth": depth, "sequences": 1} for n in numbers["prefill"]]
        rows += [{"kind": "decode", "tokens": 24, "depth": depth, "sequences": n} for n in numbers["sequences"]]
    return rows


def turn(python: str, engine: str, file: Path, rows: list[Row], threads: int, limit_s: float = LIMIT_S) -> list[Row]:
    """What one engine reaches in a process of its own; nothing, and a line why, where it does not run."""
    return said([python, str(PEERS), engine, str(file), json.dumps(rows), str(threads)], engine, limit_s)


def said(command: list[str], engine: str, limit_s: float, given: str = "") -> list[Row]:
    """The lines of JSON of a process that is `given` some text, and on stderr why there are no more, if it fails."""
    try:
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=limit_s, check=False)
        output, why = done.stdout, ending(done) if done.returncode else ""
    except subprocess.TimeoutExpired as late:
        output, why = (late.stdout or b"").decode(), f"it took more than {limit_s:g} seconds"
    if why:
        print(f"{engine} is left out: {why}", file=sys.stderr)
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def ending(done: subprocess.CompletedProcess[str]) -> str:
    """Why a process ended before it was done: what killed it, or its last word."""
    if done.returncode < 0:
        return f"it was ended by {signal.Signals(-done.returncode).name}"
    return (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]


def described(row: Row) -> str:
    place = f" after {row['depth']:,}" if row["depth"] else ""
    if row["kind"] == "prefill":
        return f"prefill of {row['tokens']:,}{place}"
    return f"decode, {row['sequences']} together{place}" if row["sequences"] > 1 else f"decode{place}"


def medians(found: list[Row]) -> dict[Key, dict[str, Row]]:
    """For each row, each engine's median figures, in the order in which rows were first measured."""
    runs: dict[Key, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in found:
        runs[row["kind"], row["tokens"], row["depth"], row["sequences"]][row["engine"]].append(row)
    numeric = ("tokens_per_s", "share_of_limit", "read_gb_per_s", "int8_tmac_per_s")
    return {
        key: {
            engine: {
                **each[0],
                **{n: median(row[n] for row in each) for n in numeric if n in each[0]},
                "runs": len(each),
            }
            for engine, each in engines.items()
        }
        for key, engines in runs.items()
    }


def table(found: list[Row]) -> list[str]:
    """Markdown: a row for each measurement, a column for each engine, our share of the limit and of the best peer."""
    engines = list(dict.fromkeys(row["engine"] for row in found))
    head = ["", *(f"{engine}, tok/s" for engine in engines), "of the limit", "beside the best peer"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for figures in medians(found).values():
        ours = figures.get("headrace")
        peers = [row["tokens_per_s"] for engine, row in figures.items() if engine != "headrace"]
        cells = [described(next(iter(figures.values())))]
        cells += [f"{figures[engine]['tokens_per_s']:.1f}" if engine in figures else "" for engine in engines]
        cells.append(f"{ours['share_of_limit']:.0%}" if ours else "")
        cells.append(f"{ours['tokens_per_s'] / max(peers):.1f} x" if ours and peers else "")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
