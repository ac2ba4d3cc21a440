"""The models, as Ollama's API lists, shows and keeps them."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
import numpy as np

from headrace import __version__
from headrace.engine.residents import Resident
from headrace.errors import HeadraceError, NotServed, RequestInvalid
from headrace.model import Model
from headrace.server.endpoint import Call, Reply, Stream
from headrace.server.ollama.dialect import NDJSON, last_words, line, rfc3339, shelved
from headrace.server.ollama.requests import Copy, Create, Delete, Pull, Push, Show
from headrace.server.shelf import TAG, Facts, Shelf, Shelved
from headrace.server.wire import Fields
from headrace.summary import human_count, level

_log = logging.getLogger("headrace.server")

FOR_EVER: Final = timedelta(days=292 * 365)  # as long as Go can say
LONGEST_ARRAY: Final = 64  # of a header, that is shown: not its tokens and merges
DIGEST: Final = re.compile(r"sha256[:-][0-9a-fA-F]{64}")
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
        "name": _tagged(model.name),
        "model": _tagged(model.name),
        "modified_at": rfc3339(model.modified),
        "size": model.size_bytes,
        "digest": facts.digest,
        "details": {**_details(model, facts), **backbone},
        "capabilities": _capabilities(facts),
    }


def _tagged(name: str) -> str:
    return name if ":" in name else name + TAG


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
        "name": _tagged(resident.name),
        "model": _tagged(resident.name),
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
        facts = shelf.facts(name)
        details = _details(shelf.find(name), facts)
    except HeadraceError as error:
        _log.warning("cannot be described", extra={"facts": {"model": name, "error": str(error)}})
        return {"digest": "", "details": {}}
    window = call.house.num_ctx or facts.summary["context"]["default"]
    return {"digest": facts.digest, "details": details, "context_length": window}


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
    template = facts.summary["template"]["text"]
    parameters = [
        f"{name:<30} {entry['value']:g}"
        for name, entry in facts.summary["defaults"].items()
        if entry["origin"] != "Headrace"
    ]
    return Reply.json(
        {
            "license": str(facts.header.get("general.license", "")),
            "modelfile": _modelfile(model.name, template, parameters),
            "parameters": "\n".join(parameters),
            "template": template,
            "details": _details(model, facts),
            "model_info": _model_info(model.name, facts, asked.verbose),
            "capabilities": _capabilities(facts),
            "modified_at": rfc3339(model.modified),
            "headrace": {"version": __version__},
        }
    )


def _modelfile(name: str, template: str, parameters: list[str]) -> str:
    """The template is Jinja, as everywhere here."""
    given = [f"PARAMETER {' '.join(line_.split())}" for line_ in parameters]
    return "\n".join([f"FROM {_tagged(name)}", f'TEMPLATE """{template}"""', *given]) + "\n"


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


async def pull(call: Call, asked: Pull) -> Reply | Stream:
    """Fetches a model: so far only one that is there, as Ollama does where it has all of its parts."""
    if not asked.either.strip():
        raise RequestInvalid("model is required")
    shelf = call.house.shelf
    if not shelf.has(asked.either):
        raise NotServed(f"pull: this server cannot fetch {asked.either!r}: it has {', '.join(shelf.names())}")
    model = call.model(asked.either)
    if not asked.stream:
        return Reply.json({"status": "success"})
    facts = await asyncio.to_thread(shelf.facts, model.name)
    return Stream(NDJSON, _pulled(model, facts), last_words)


async def _pulled(model: Shelved, facts: Facts) -> AsyncIterator[bytes]:
    size = model.size_bytes
    yield line({"status": "pulling manifest"})
    whole = {"digest": f"sha256:{facts.digest}", "total": size, "completed": size}
    yield line({"status": f"pulling {facts.digest[:12]}", **whole})
    for status in ("verifying sha256 digest", "writing manifest", "success"):
        yield line({"status": status})


async def push(call: Call, asked: Push) -> Reply:
    """Not served yet."""
    shelved(call, asked.either)
    raise NotServed("push: this server cannot send models anywhere yet")


async def create(call: Call, asked: Create) -> Reply:  # noqa: ARG001
    """Not served yet."""
    if not asked.either.strip():
        raise RequestInvalid("model is required")
    raise NotServed("create: this server cannot make models yet: start it with the files of those that it should have")


async def copy(call: Call, asked: Copy) -> Reply:
    """Not served yet."""
    for name, value in (("source", asked.source), ("destination", asked.destination)):
        if not value.strip():
            raise RequestInvalid(f'{name} "{value}" is invalid')
    shelved(call, asked.source)
    raise NotServed("copy: this server cannot copy models yet: give one a second name with --model NAME=PATH")


async def delete(call: Call, asked: Delete) -> Reply:
    """Not served yet."""
    shelved(call, asked.either)
    raise NotServed("delete: this server cannot delete models yet: remove the file, and start it anew")


async def blob(call: Call, asked: Fields) -> Reply:  # noqa: ARG001
    """Not served yet: there are no blobs, and what is sent is not read."""
    if not DIGEST.fullmatch(call.path("digest")):
        raise RequestInvalid("invalid digest format")
    if call.scope["method"] == "HEAD":
        body = msgspec.json.encode({"error": f'blob "{call.path("digest")}" not found'})
        return Reply(body, 404)
    raise NotServed("blobs: this server cannot take files of models yet: start it with those that it should have")
