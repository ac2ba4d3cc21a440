"""One aspect of a model at a time, as `ollama show` has them; and the plan."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from headrace import checkpoint, summary
from headrace.checkpoint import NO_TEMPLATE, Checkpoint
from headrace.cli.show import number
from headrace.library import licenses, modelfile, models
from headrace.library.models import INSTALLED, Found


@dataclass(frozen=True, slots=True)
class Aspect:
    """What is printed, and what of it is JSON. `note` is for stderr: what is not there, or not what it seems."""

    text: str
    facts: Any
    note: str = ""


def of_license(found: Found) -> Aspect:
    """The texts that come with it, else the licence's name."""
    known = licenses.of(found)
    facts = asdict(known)
    if known.texts:
        return Aspect("\n\n".join(text.strip("\n") for text in known.texts), facts)
    if known.name:
        return Aspect(license_line(known.name, known.url, ()), facts, f"({found.name} comes without its text)")
    return Aspect("", facts, f"{found.name} does not say under which licence it is published.")


def license_line(name: str | None, url: str | None, texts: Sequence[str]) -> str:
    """In a line: its name, else the first line of its text."""
    first = next((line.strip() for text in texts for line in text.splitlines() if line.strip()), "")
    return f"{name or first}{f' ({url})' if url else ''}"


def of_modelfile(found: Found) -> Aspect:
    """One that makes the same model of its file."""
    source = str(found.name) if found.origin == INSTALLED else str(found.path.absolute())
    made = modelfile.of(found.preset, source, found.licenses, models.requires(found))
    body = modelfile.write(made if found.manifest is None else replace(made, parameters=models.stated(found)))
    name = " ".join(str(found.name).split())
    head = "# `headrace create NAME -f FILE` makes the same model of this.\n# What is based on it begins with: FROM"
    text = f"{head} {name}\n{body}"
    return Aspect(text.rstrip("\n"), {"modelfile": text})


def of_template(found: Found) -> Aspect:
    """The one that is used, which is Jinja. Ollama's, in Go's language, is not."""
    source = checkpoint.read(found.path, found.preset)
    note = "" if found.template is None else "(its template for Ollama, in Go's language, is kept and not used)"
    if source.template.source == NO_TEMPLATE:
        return Aspect(
            "", {"template": None}, f"{found.name} has no chat template: it goes on with a text, and no more."
        )
    return Aspect(source.template.source, {"template": source.template.source}, note)


def of_plan(found: Found) -> Aspect:
    lines = summary.describe_plan(checkpoint.read(found.path, found.preset))
    return Aspect("\n".join(lines), lines)


def of_system(found: Found) -> Aspect:
    system = found.preset.system
    return Aspect(system, {"system": system or None}, "" if system else f"{found.name} has no system message.")


def of_parameters(found: Found) -> Aspect:
    """Those that its manifest, its file or its model card state: no others are the model's."""
    stated = parameters(checkpoint.read(found.path, found.preset))
    note = "" if stated else f"{found.name} states no parameters."
    return Aspect("\n".join(parameter_lines(stated)), {"parameters": stated}, note)


def parameters(source: Checkpoint) -> dict[str, Any]:
    """As JSON has them."""
    defaults, num_ctx = source.defaults, source.preset.num_ctx
    stated = {name: getattr(defaults.parameters, name) for name in defaults.origins if name != "logit_bias"}
    window = {} if num_ctx is None else {"num_ctx": num_ctx}
    return window | {name: list(value) if name == "stop" else value for name, value in stated.items()}


def parameter_lines(stated: Mapping[str, Any]) -> Iterator[str]:
    """As Ollama prints them: a line for each stop, in quotes."""
    for name, value in stated.items():
        for one in value if isinstance(value, list | tuple) else (value,):
            yield f"{name:<30} {json.dumps(one, ensure_ascii=False) if isinstance(one, str) else number(one)}"


ASPECTS: Final[Mapping[str, Callable[[Found], Aspect]]] = MappingProxyType(
    {
        "license": of_license,
        "modelfile": of_modelfile,
        "template": of_template,
        "system": of_system,
        "parameters": of_parameters,
        "plan": of_plan,
    }
)
