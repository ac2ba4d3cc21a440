"""`headrace bench`: how fast a model runs here, beside what the machine could do at most."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import click

from headrace.cli import _completing
from headrace.cli._progress import progress
from headrace.errors import RequestInvalid


def numbers(_: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Whole numbers with commas between them."""
    if value is None:
        return None
    try:
        return tuple(int(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(
            f"{value!r}: expected whole numbers with commas between them", param=parameter
        ) from None


def names(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str | None, ...]:
    """Words with commas between them."""
    return (None,) if value is None else tuple(value.split(","))


@click.command("bench", short_help="Measure how fast a model runs here.")
@click.argument("model", required=False, shell_complete=_completing.models)
@click.option("--prefill", callback=numbers, default="512", show_default=True, help="Prompt lengths, in tokens.")
@click.option("--depth", callback=numbers, default="0", show_default=True, help="Tokens that are there already.")
@click.option("--sequences", callback=numbers, default="1", show_default=True, help="Sequences that decode together.")
@click.option("--threads", callback=numbers, default=None, help="Threads to use (default: all this process may use).")
@click.option("--kv", callback=names, default=None, help="Types of cache: fp16, int8, fp32 (default: the model's own).")
@click.option("--decode-steps", type=click.IntRange(1, 10_000), default=24, show_default=True, help="Steps to time.")
@click.option("--synthetic", metavar="NAME", help="Instead of MODEL: random weights in the shapes of lfm2:8b, ...")
@click.option(
    "--quant",
    default="q4_0",
    show_default=True,
    help="Type of the synthetic matrices: q4_0, q8_0, f16, or mixed as published: q3_k_l, q4_k_m, q5_k_m, q6_k.",
)
@click.option("--head", default="q4_0", show_default=True, help="Type of the synthetic embedding: q4_0, q6_k.")
@click.option("--out", type=click.Path(path_type=Path), help="Keep the synthetic file here.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    model: str | None,
    prefill: tuple[int, ...],
    depth: tuple[int, ...],
    sequences: tuple[int, ...],
    threads: tuple[int, ...] | None,
    kv: tuple[str | None, ...],
    decode_steps: int,
    synthetic: str | None,
    quant: str,
    head: str,
    out: Path | None,
    as_json: bool,
) -> None:
    """Time MODEL: prompts, decoding, several sequences; each figure with its share of the machine's limit.

    Progress goes to stderr; on stdout comes a table, or JSON alone.
    """
    if (model is None) == (synthetic is None):
        raise RequestInvalid("give a MODEL or --synthetic NAME: one of them")
    from headrace import bench, machine  # NumPy: not needed for `--help`

    asked = bench.Asked(prefill, depth, sequences, threads or (machine.usable_threads(),), kv, decode_steps)
    with tempfile.TemporaryDirectory(prefix="headrace-") as folder:
        if synthetic is not None:
            from headrace.synthetic import synthesise

            model = str(out or Path(folder) / f"{synthetic.replace(':', '-')}.gguf")
            if not Path(model).exists():
                synthesise(synthetic, Path(model), quant, head, progress("writing"))
        machine_facts = bench.limits(max(asked.threads))
        rows = list(bench.rows(str(model), asked, lambda text: click.echo(text, err=True)))
    click.echo(json.dumps({"machine": machine_facts, "rows": rows}) if as_json else table(machine_facts, rows))


def table(facts: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Aligned columns, and the machine's limits above them."""
    head = ("kind", "tokens", "depth", "sequences", "threads", "kv", "tokens/s", "of limit", "peak memory")
    lines = [head, *(_cells(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    body = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    limits = f"{facts['read_gb_per_s']} GB/s of reads, {facts['int8_tmac_per_s']} T int8 multiply-adds/s"
    return "\n".join([f"{facts['threads']} threads, {facts['instruction_set']}: {limits}", "", *body])


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    if row["kind"] == "start":
        return ("start", "1", "", "", "", "", f"{row['seconds']:.2f} s", "", "")
    memory = f"{row['peak_memory_bytes'] / 2**30:.2f} GiB"
    shown = [str(row[name]) for name in ("kind", "tokens", "depth", "sequences", "threads", "kv")]
    return (*shown, f"{row['tokens_per_s']:.1f}", f"{row['share_of_limit']:.0%}", memory)
