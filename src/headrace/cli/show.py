"""`headrace show`: what a model is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from headrace import nano


@click.command("show")
@click.argument("model", default=nano.NAME)
@click.option("--plan", is_flag=True, help="Print the plan: every operation, its weights and their types.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(model: str, plan: bool, as_json: bool) -> None:
    """Describe MODEL: architecture, sizes, quantisation, window, defaults and where they come from, memory."""
    from headrace import summary  # NumPy and the tokenizer: not needed for `--help`
    from headrace.library import opening

    source = opening.read(model)
    if plan:
        lines = summary.describe_plan(source)
        click.echo(json.dumps(lines, indent=2) if as_json else "\n".join(lines))
        return
    facts = summary.summarise(source)
    click.echo(json.dumps(facts, indent=2, ensure_ascii=False) if as_json else page(facts))


def page(facts: dict[str, Any]) -> str:
    """Sections of aligned rows, as `ollama show` prints them."""
    parts = {
        "Model": _model(facts),
        "Quantisation": {kind: _types(types) for kind, types in facts["quantisation"].items()},
        "Window": {
            "default": f"{facts['context']['default']:,} tokens",
            "largest": f"{facts['context']['largest']:,} tokens (--num-ctx)",
        },
        "Words": _words(facts),
        "Defaults": {name: f"{entry['value']:g}  ({entry['origin']})" for name, entry in facts["defaults"].items()},
        "Memory": {
            f"at {int(window):,} tokens": f"{human_size(sizes['total'])} (weights {human_size(sizes['weights'])}, "
            f"cache {human_size(sizes['cache'])})"
            for window, sizes in facts["memory"].items()
        },
    }
    return sections(parts)


def sections(parts: Mapping[str, Mapping[str, str]]) -> str:
    """Each with its title, and a line for each of its rows."""
    return "\n\n".join(_section(title, rows) for title, rows in parts.items())


def _section(title: str, rows: Mapping[str, str]) -> str:
    return "\n".join([f"  {title}", *(f"    {name:<20}{value}" for name, value in rows.items())])


def _model(facts: dict[str, Any]) -> dict[str, str]:
    layers, attention, sizes = facts["layers"], facts["attention"], facts["parameters"]
    rows = {
        "architecture": facts["architecture"],
        "parameters": f"{_count(sizes['total'])} ({_count(sizes['active'])} active)",
        "width": str(facts["hidden_size"]),
        "layers": f"{layers['convolution']} convolution, {layers['attention']} attention",
        "heads": f"{attention['heads']}, sharing {attention['kv_heads']} keys and values of {attention['head_dim']}",
    }
    if experts := facts["experts"]:
        rows["experts"] = f"{experts['count']}, {experts['per_token']} a token; {experts['dense_layers']} dense layers"
    return rows


def _words(facts: dict[str, Any]) -> dict[str, str]:
    tokenizer = facts["tokenizer"]
    return {
        "tokens": f"{tokenizer['tokens']:,} of {tokenizer['embeddings']:,} embeddings",
        "end of answer": ", ".join(map(str, tokenizer["end"])),
        "chat template": f"from {facts['template']['origin']}",
    }


def _types(types: dict[str, int]) -> str:
    return ", ".join(f"{name} {human_size(size)}" for name, size in types.items())


def _count(number: int) -> str:
    for limit, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= limit:
            return f"{number / limit:.2f} {unit}"
    return str(number)


def human_size(size_bytes: int) -> str:
    """For people: "1.5 MiB"."""
    for limit, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size_bytes >= limit:
            return f"{size_bytes / limit:.1f} {unit}"
    return f"{size_bytes} B"
