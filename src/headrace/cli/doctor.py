"""`headrace doctor`: what this machine gives, what to expect of it, and what is set up wrongly."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from headrace import __version__
from headrace.cli._display import safe
from headrace.cli._log import Log
from headrace.cli._table import table
from headrace.machine import format_bytes

if TYPE_CHECKING:
    from headrace.doctor import Candidate, Finding, Memory, Report
    from headrace.library.home import Place

COLUMNS = ("MODEL", "SIZE", "MEMORY AT 4K", "AT 32K", "FITS", "ANSWERS AT ABOUT", "READS AT ABOUT")


@click.command("doctor", short_help="Say what this machine can do, and what is set up wrongly.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """Say what this machine gives, how fast each model should be on it, where things are, and what is set up wrongly.

    Memory and processors are measured, which takes about a second. The exit code is 1 if something is wrong.
    """
    from headrace import doctor  # NumPy and the native core: not needed for `--help`
    from headrace.cli import _settings

    root = context.find_root().command
    group = root if isinstance(root, click.Group) else click.Group()
    report = doctor.examine()
    settings = _settings.settings(group, os.environ)
    findings = sorted([*report.findings, *_settings.findings(group, os.environ)], key=lambda one: not one.wrong)
    if as_json:
        click.echo(json.dumps(facts(report, settings, findings), indent=2, ensure_ascii=False))
    else:
        click.echo(safe(page(report, settings, findings)))
    if any(finding.wrong for finding in findings):
        sys.exit(1)


def facts(report: Report, settings: Mapping[str, str | None], findings: Sequence[Finding]) -> dict[str, Any]:
    """Plain JSON values; sizes in bytes, speeds in tokens per second."""
    return {
        "version": __version__,
        "processors": asdict(report.processors),
        "instruction_sets": asdict(report.kernels),
        "memory": asdict(report.memory),
        "measured": report.measured and dict(report.measured),
        "places": [_place_facts(place) for place in report.places],
        "log": str(Log.of_user().path),
        "settings": dict(settings),
        "models": [_model_facts(model, report.memory) for model in report.models],
        "findings": [asdict(finding) for finding in findings],
    }


def _place_facts(place: Place) -> dict[str, Any]:
    facts = {"purpose": place.purpose, "path": str(place.path), "origin": place.origin, "exists": place.exists}
    return facts | {"free_bytes": place.free_bytes, "problem": place.problem}


def _model_facts(model: Candidate, memory: Memory) -> dict[str, Any]:
    return {
        "name": model.name,
        "size_bytes": model.size_bytes,
        "memory_bytes": {str(window): size for window, size in model.memory_bytes.items()},
        "fits_at": model.window(memory),
        "decode_tokens_per_s": model.speed and round(model.speed.decode, 1),
        "prefill_tokens_per_s": model.speed and round(model.speed.prefill, 1),
    }


def page(report: Report, settings: Mapping[str, str | None], findings: Sequence[Finding]) -> str:
    places = [(place.purpose, _place(place)) for place in report.places]
    places.append(("conversations", str(Log.of_user().path)))
    models = "\n".join(["  What to expect of Q4_0", *(f"    {line}" for line in _table(report))])
    return "\n\n".join(
        [
            _section("Machine", list(_machine(report).items())),
            _section("Where things are", places),
            _section("Settings", [(name, "not set" if value is None else value) for name, value in settings.items()]),
            models,
            _findings(findings),
        ]
    )


def _section(title: str, rows: Sequence[tuple[str, str]]) -> str:
    width = max((len(name) for name, _ in rows), default=0) + 2
    return "\n".join([f"  {title}", *(f"    {name:<{width}}{value}" for name, value in rows)])


def _machine(report: Report) -> dict[str, str]:
    processors, kernels, measured = report.processors, report.kernels, report.measured
    rows = {
        "processor": f"{processors.name or 'unknown'} ({processors.architecture}), {processors.cores} cores",
        "threads": f"{processors.threads}, of {processors.allowed_cores} cores that this process may use",
        "instruction set": f"{kernels.used or 'none'} (the core has {', '.join(kernels.usable) or 'none'})",
        "memory": _memory(report.memory),
        "swap": f"{_size(report.memory.swap_used_bytes)} of {_size(report.memory.swap_bytes)}"
        if report.memory.swap_bytes
        else "none",
    }
    if processors.quota is not None:
        rows["quota"] = f"{processors.quota:g} processors"
    if measured:
        rows["memory reads"] = f"{measured['read_gb_per_s']:.1f} GB/s"
        rows["int8 products"] = f"{measured['int8_tmac_per_s']:.2f} T multiply-adds/s"
    return rows


def _memory(memory: Memory) -> str:
    known = {"available": memory.available_bytes, "allowed by a cgroup": memory.limit_bytes}
    return ", ".join([_size(memory.total_bytes), *(f"{_size(size)} {what}" for what, size in known.items() if size)])


def _size(size: int | None) -> str:
    return "unknown" if size is None else format_bytes(size)


def _place(place: Place) -> str:
    room = f", {_size(place.free_bytes)} free" if place.is_ours else "" if place.exists else ", not there"
    return f"{place.path} ({place.origin}{room})"


def _table(report: Report) -> list[str]:
    return table(COLUMNS, [_cells(model, report.memory) for model in report.models]).splitlines()


def _cells(model: Candidate, memory: Memory) -> tuple[str, ...]:
    window, sizes = model.window(memory), map(format_bytes, model.memory_bytes.values())
    speed = model.speed if window else None
    speeds = (_rate(speed.decode), _rate(speed.prefill)) if speed else ("-", "-")
    return (model.name, format_bytes(model.size_bytes), *sizes, f"{window >> 10}k" if window else "no", *speeds)


def _rate(tokens_per_s: float) -> str:
    """Two digits: it is an estimate."""
    digits = 1 if tokens_per_s < 10 else 0
    step = 10 ** max(0, len(f"{tokens_per_s:.0f}") - 2)
    return f"{round(tokens_per_s / step, digits) * step:,.{digits}f} tok/s"


def _findings(findings: Sequence[Finding]) -> str:
    if not findings:
        return "Nothing is set up wrongly."
    lines = [
        f"    {'!' if finding.wrong else '-'} {finding.what}" + (f": {finding.remedy}" if finding.remedy else "")
        for finding in findings
    ]
    return "\n".join(["  What is set up wrongly" if any(one.wrong for one in findings) else "  To know", *lines])
