"""`headrace show`: what a model is."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from headrace import nano
from headrace.cli import _completing
from headrace.cli._display import safe
from headrace.errors import RequestInvalid

if TYPE_CHECKING:
    from headrace.cli._aspects import Aspect
    from headrace.library.models import Found

MOST_LINES: Final = 8  # of a system message, and of messages
LONGEST_LINE: Final = 100  # characters of each


@click.command("show", short_help="Describe a model, or print its licence, template, ...")
@click.argument("model", default=nano.NAME, shell_complete=_completing.models)
@click.option("--license", is_flag=True, help="Print its licence.")
@click.option("--modelfile", is_flag=True, help="Print a Modelfile that makes it.")
@click.option("--template", is_flag=True, help="Print its chat template.")
@click.option("--system", is_flag=True, help="Print its system message.")
@click.option("--parameters", is_flag=True, help="Print the parameters that it states.")
@click.option("--plan", is_flag=True, help="Print the plan: every operation, its weights and their types.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(model: str, as_json: bool, **asked: bool) -> None:
    """Describe MODEL: architecture, sizes, quantisation, window, defaults and where they come from, memory, licence;
    its system message, parameters and messages, where it has such. Or print one of these alone.
    """
    wanted = [name for name, is_asked in asked.items() if is_asked]
    if len(wanted) > 1:
        raise RequestInvalid(f"{' and '.join(f'--{name}' for name in wanted)}: one of them is printed at a time")
    from headrace.cli import _aspects  # NumPy and the tokenizer: not needed for `--help`
    from headrace.library import opening

    found = opening.find(model)
    if wanted:
        _print(_aspects.ASPECTS[wanted[0]](found), as_json)
        return
    facts = _facts(found)
    click.echo(json.dumps(facts, indent=2, ensure_ascii=False) if as_json else safe(page(facts)))


def _print(aspect: Aspect, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(aspect.facts, indent=2, ensure_ascii=False))
        return
    if aspect.text:
        click.echo(safe(aspect.text) if sys.stdout.isatty() else aspect.text, color=True)  # click must strip nothing
    if aspect.note:
        click.echo(safe(aspect.note), err=True)


def _facts(found: Found) -> dict[str, Any]:
    """Plain JSON values: a summary of its file, and what is said beside that."""
    from headrace import checkpoint, summary
    from headrace.library import licenses

    facts, preset = summary.summarise(checkpoint.read(found.path, found.preset)), found.preset
    facts["license"] = asdict(licenses.of(found))
    facts["preset"] = {
        "system": preset.system or None,
        "parameters": {**preset.parameters, **({} if preset.num_ctx is None else {"num_ctx": preset.num_ctx})},
        "messages": [dict(message) for message in preset.messages],
    }
    return facts


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
        "Defaults": {name: f"{number(one['value'])}  ({one['origin']})" for name, one in facts["defaults"].items()},
        "Memory": {
            f"at {int(window):,} tokens": f"{human_size(sizes['total'])} (weights {human_size(sizes['weights'])}, "
            f"cache {human_size(sizes['cache'])})"
            for window, sizes in facts["memory"].items()
        },
    }
    return "\n\n".join([sections(parts), *_beside(facts)])


def _beside(facts: dict[str, Any]) -> Iterator[str]:
    """What is known beside the file, as far as it is short; /show of a conversation has none of it."""
    from headrace.cli._aspects import license_line, parameter_lines

    preset, license_ = facts.get("preset", {}), facts.get("license")
    if license_ and (line := license_line(**license_)):
        yield _block("Licence", [line])
    if preset.get("parameters"):
        yield _block("Parameters", list(parameter_lines(preset["parameters"])))
    if preset.get("system"):
        yield _block("System", preset["system"].splitlines())
    if preset.get("messages"):
        yield _block("Messages", [f"{one['role']}: {' '.join(one['content'].split())}" for one in preset["messages"]])


def _block(title: str, lines: Sequence[str]) -> str:
    """Under its title; of what is long the beginning."""
    shown = [line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 1]}…" for line in lines[:MOST_LINES]]
    more = [f"... and {len(lines) - MOST_LINES} lines more"] if len(lines) > MOST_LINES else []
    return "\n".join([f"  {title}", *(f"    {line}".rstrip() for line in (*shown, *more))])


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


def number(value: float) -> str:
    """A whole one with all of its digits."""
    return f"{value:g}" if isinstance(value, float) else str(value)


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
