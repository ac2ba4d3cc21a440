"""The models, as Ollama's API lists and shows them."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np

from headrace import __version__
from headrace.engine.residents import Resident
from headrace.errors import HeadraceError, RequestInvalid
from headrace.library import modelfile
from headrace.library.modelfile import Modelfile
from headrace.model import Model
from headrace.server.endpoint import Call, Reply
from headrace.server.ollama.dialect import rfc3339, shelved
from headrace.server.ollama.requests import Show
from headrace.server.shelf import TAG, Facts, Shelf, Shelved
from headrace.server.wire import Fields
from headrace.summary import human_count, level

_log = logging.getLogger("headrace.server")

FOR_EVER: Final = timedelta(days=292 * 365)  # as long as Go can say
LONGEST_ARRAY: Final = 64  # of a header, that is shown: not its tokens and merges
HIDDEN: Final = "tokenizer.chat_template"  # of a header: it is the reply's `template`


async def tags(call: Call, asked: Fields) -> Reply:  # noqa: ARG001 - every route is called alike
    """The models of this server."""
    known = await asyncio.to_thread(_known, call.house.shelf)
    return Reply.json({"models": [_listed(model, facts) for model, facts in known]})


def _known(shelf: Shelf) -> list[tuple[Shelved, Facts]]:
    """The models that can be read, the last changed first."""
    known = list[tuple[Shelved, Facts]]()
    for name in shelf.names():
        try:
            known.append((shelf.find(name), shelf.facts(name)))
        except HeadraceError as error:  # one that is damaged must not hide the others
            _log.warning("left out", extra={"facts": {"model": name, "error": str(error)}})
    return sorted(known, key=lambda one: one[0].modified, reverse=True)


def _listed(model: Shelved, facts: Facts) -> Mapping[str, Any]:
    backbone = {
        "context_length": facts.summary["context"]["largest"],
        "embedding_length": facts.summary["hidden_size"],
    }
    return {
        "name": tagged(model.spelled),
        "model": tagged(model.spelled),
        "modified_at": rfc3339(model.modified),
        "size": model.size_bytes,
        "digest": model.digest or facts.digest,
        "details": {**_details(model, facts), **backbone},
        "capabilities": _capabilities(facts),
    }


def tagged(name: str) -> str:
    """With its tag, which a port before it is none."""
    return name if ":" in name.rpartition("/")[2] else name + TAG


def _details(model: Shelved, facts: Facts) -> Mapping[str, Any]:
    family = _architecture(facts)
    return {
        "parent_model": "",
        "format": "safetensors" if model.path.is_dir() else "gguf",
        "family": family,
        "families": [family],
        "parameter_size": human_count(facts.summary["parameters"]["total"]),
        "quantization_level": _quantisation(facts),
    }


def _architecture(facts: Facts) -> str:
    """As GGUF files spell it."""
    return str(facts.header.get("general.architecture", facts.summary["architecture"].replace("_", "")))


def _quantisation(facts: Facts) -> str:
    return level(facts.header.get("general.file_type"), facts.summary["quantisation"])


def _capabilities(facts: Facts) -> list[str]:
    return ["completion", *(["tools"] if facts.can_call else []), *(["thinking"] if facts.can_think else [])]


async def ps(call: Call, asked: Fields) -> Reply:  # noqa: ARG001
    """The models that are loaded, or on their way in or out, and until when. No engine is waited for."""
    seen = [one for one in call.house.serving.models.list() if one.state != "waiting"]
    running = await asyncio.to_thread(lambda: [_running(call, one) for one in seen])
    return Reply.json({"models": running})


def _running(call: Call, resident: Resident) -> Mapping[str, Any]:
    return {
        "size": resident.size_bytes,
        **_described(call, resident.name),
        "expires_at": rfc3339(_expiry(resident)),
        "size_vram": 0,
        "headrace": _doing(resident, call.house.serving.models.held(resident.name)),
    }


def _described(call: Call, name: str) -> Mapping[str, Any]:
    """By its file, or by nothing where that is gone: the model may well be loaded still."""
    shelf = call.house.shelf
    try:
        model, facts = shelf.find(name), shelf.facts(name)
        details = _details(model, facts)
    except HeadraceError as error:
        _log.warning("cannot be described", extra={"facts": {"model": name, "error": str(error)}})
        return {"name": tagged(name), "model": tagged(name), "digest": "", "details": {}}
    return {
        "name": tagged(model.spelled),
        "model": tagged(model.spelled),
        "digest": model.digest or facts.digest,
        "details": details,
        "context_length": call.house.num_ctx or facts.summary["context"]["default"],
    }


def _doing(resident: Resident, model: Model | None) -> Mapping[str, Any]:
    """What Ollama has no words for. Of a model that is not loaded yet, or no more, there is less to say."""
    doing: dict[str, Any] = {"state": resident.state, "in_flight": resident.in_flight}
    if model is None:
        return doing
    return {**doing, **asdict(model.status())}


def _expiry(resident: Resident) -> datetime:
    """While it is in use its time begins anew at every moment."""
    if resident.expires_at is not None:
        return datetime.fromtimestamp(resident.expires_at, UTC)
    kept = FOR_EVER
    if resident.state == "unloading":
        kept = timedelta()
    elif 0 <= resident.keep_alive_s < FOR_EVER.total_seconds():
        kept = timedelta(seconds=resident.keep_alive_s)
    return datetime.now(UTC) + kept


async def show(call: Call, asked: Show) -> Reply:
    """What a model is, and what it can do."""
    model = shelved(call, asked.either)
    facts = await asyncio.to_thread(call.house.shelf.facts, model.name)
    made = _made(model, facts)
    said = {"system": made.system, "messages": [asdict(message) for message in made.messages]}
    return Reply.json(
        {
            "license": "\n".join(made.licenses) or str(facts.header.get("general.license", "")),
            "modelfile": _modelfile(made),
            "parameters": "\n".join(_parameter_lines(made.parameters)),
            "template": made.template,
            **{name: value for name, value in said.items() if value},
            "details": _details(model, facts),
            "model_info": _model_info(model.name, facts, asked.verbose),
            "capabilities": _capabilities(facts),
            "modified_at": rfc3339(model.modified),
            "headrace": {"version": __version__},
        }
    )


def _made(model: Shelved, facts: Facts) -> Modelfile:
    """What the model's file says, and what its manifest does. The template is Jinja, as everywhere here."""
    defaults = facts.summary["defaults"].items()
    of_the_file = {name: _short(entry["value"]) for name, entry in defaults if entry["origin"] != "Headrace"}
    made = modelfile.of(model.preset, tagged(model.spelled), model.licenses)
    return replace(made, template=facts.summary["template"]["text"], parameters={**of_the_file, **made.parameters})


def _short(value: Any) -> Any:
    """A file's numbers are of 32 bits, and look odd with 64."""
    return float(f"{value:g}") if isinstance(value, float) else value


def _modelfile(made: Modelfile) -> str:
    """What makes the same of it, as far as a Modelfile can say it: not every text goes into one."""
    for one in (made, replace(made, template=None), replace(made, template=None, licenses=()), Modelfile(made.source)):
        with suppress(RequestInvalid):
            return modelfile.write(one)
    return ""


def _parameter_lines(parameters: Mapping[str, Any]) -> Iterator[str]:
    for name, value in parameters.items():
        for one in value if isinstance(value, list) else [value]:
            shown = f"{one:g}" if isinstance(one, float) else json.dumps(one, ensure_ascii=False)
            yield f"{name:<30} {shown}"


def _model_info(name: str, facts: Facts, verbose: bool) -> Mapping[str, Any]:
    """What a GGUF header would say, and what this one does; of long arrays nothing, unless `verbose`."""
    summary, arch = facts.summary, _architecture(facts)
    experts = summary["experts"] or {}
    layers, attention = summary["layers"], summary["attention"]
    own = {
        "block_count": len(layers["kinds"]),
        "context_length": summary["context"]["largest"],
        "embedding_length": summary["hidden_size"],
        "attention.head_count": attention["heads"],
        "attention.head_count_kv": attention["kv_heads"],
        "rope.freq_base": attention["rope_theta"],
        "vocab_size": summary["tokenizer"]["embeddings"],
        "expert_count": experts.get("count"),
        "expert_used_count": experts.get("per_token"),
    }
    return {
        "general.architecture": arch,
        "general.basename": name,
        "general.parameter_count": summary["parameters"]["total"],
        **{f"{arch}.{key}": value for key, value in own.items() if value is not None},
        **{key: _plain(value, verbose) for key, value in facts.header.items() if key != HIDDEN},
    }


def _plain(value: Any, verbose: bool) -> Any:
    if not isinstance(value, list | np.ndarray):
        return value
    if len(value) > LONGEST_ARRAY and not verbose:
        return None
    return value if isinstance(value, list) else value.tolist()
