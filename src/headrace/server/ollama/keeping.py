"""The library over Ollama's API: models are pulled, pushed, made, copied and taken away.

Each verb is the library's own, at work in a thread (see `works`); these routes say where it works, and for whom.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Final

from headrace import checkpoint, packing
from headrace.errors import FileInvalid, ModelNotFound, RequestInvalid, StoreRefused
from headrace.library import pull as pulling
from headrace.library import push as pushing
from headrace.library.create import create as create_model
from headrace.library.modelfile import Modelfile
from headrace.library.names import Name
from headrace.library.progress import Progress, Report
from headrace.library.registry.client import Options
from headrace.library.source import find
from headrace.library.store import Store
from headrace.server.endpoint import Call, House, Reply, Stream
from headrace.server.log import note
from headrace.server.ollama import making
from headrace.server.ollama.dialect import NDJSON, last_words, line
from headrace.server.ollama.requests import Copy, Create, Delete, Named, Pull, Push
from headrace.server.shelf import plain
from headrace.server.works import Work

NOTHING: Final = Reply(b"", media_type="text/plain; charset=utf-8")

Do = Callable[[Work], object]


async def pull(call: Call, asked: Pull) -> Reply | Stream:
    """Fetches a model from its registry, or what of it is new."""
    if _is_fixed(call, _named(asked)):
        return await _there(call, asked)
    name = Name.parse(asked.either, insecure=asked.insecure)
    note(call.scope, model=plain(str(name)))

    def make(work: Work, report: Report) -> None:
        pulling.pull(name, call.house.library.store, report, _options(call, work))

    return await _worked(call, asked.stream, _bringing(call.house, name, make))


async def _there(call: Call, asked: Pull) -> Reply | Stream:
    """One that the server has beside its library comes from nowhere else."""
    model = call.model(str(_name(asked.either) or asked.either))
    facts = await asyncio.to_thread(call.house.shelf.facts, model.name)
    digest, size = f"sha256:{facts.digest}", model.size_bytes

    def tell(work: Work) -> None:
        work.report(Progress("pulling manifest"))
        work.report(Progress(f"pulling {facts.digest[:12]}", digest, size, size))
        for status in ("verifying sha256 digest", "writing manifest", packing.SUCCESS):
            work.report(Progress(status))

    return await _worked(call, asked.stream, tell)


async def push(call: Call, asked: Push) -> Reply | Stream:
    """Sends a model to its registry."""
    _check_not_fixed(call, _named(asked), "pushed: create a model from it, and push that")
    store = await asyncio.to_thread(_store_of, call, asked)
    name = Name.parse(asked.either, insecure=asked.insecure)
    note(call.scope, model=plain(str(name)))

    def send(work: Work) -> None:
        pushing.push(name, store, work.report, _options(call, work))

    return await _worked(call, asked.stream, send)


def _store_of(call: Call, asked: Push) -> Store:
    """Ours, or Ollama's, of which all can be sent on."""
    library, name = call.house.library, _name(asked.either, insecure=asked.insecure)
    if store := next((store for store in (library.store, *library.others) if name and store.has_model(name)), None):
        return store
    found = call.model(asked.either)
    own = found.spelled.rpartition("/")[2]
    raise RequestInvalid(f"{found.spelled} cannot be pushed as it is: copy it to YOUR-NAME/{own}, and push that")


async def create(call: Call, asked: Create) -> Reply | Stream:
    """Makes a model: from another one, or from files that were sent as blobs."""
    name = Name.parse(_named(asked))
    _check_not_fixed(call, asked.either, "made anew: take another name")
    made, files = making.read(asked)
    fixed = call.house.shelf.fixed_path(made.source)
    base = fixed or (find(made.source, None) if made.source else None)
    made = replace(made, source=str(fixed)) if fixed else made
    library = call.house.library

    def make(work: Work, report: Report) -> None:
        if isinstance(base, Name):
            _have(call, base, work, report)
        create_model(
            name,
            library.store,
            made,
            folder=fixed.parent if fixed else None,
            files=files,
            quantize=asked.quantize or asked.quantization or None,
            library=library,
            report=report,
        )

    note(call.scope, model=plain(str(name)))
    return await _worked(call, asked.stream, _bringing(call.house, name, make))


def _have(call: Call, name: Name, work: Work, report: Report) -> None:
    """What a model is made from is pulled where it is not here, as Ollama does."""
    try:
        call.house.library.find(name)
    except ModelNotFound:
        pulling.pull(name, call.house.library.store, report, _options(call, work))


async def copy(call: Call, asked: Copy) -> Reply:
    """Gives a model another name, too."""
    for name, value in (("source", asked.source), ("destination", asked.destination)):
        if not value.strip():
            raise RequestInvalid(f'{name} "{value}" is invalid')
    _check_not_fixed(call, asked.destination, "made anew: take another name")
    source, destination = call.model(asked.source).name, Name.parse(asked.destination)
    if checkpoint.always_there(source) is None:
        _check_not_fixed(call, source, "copied: create a model from it")

    def make(_: Work, report: Report) -> None:
        _copy(call.house, source, destination, report)

    await _worked(call, False, _bringing(call.house, destination, make))
    return NOTHING


def _copy(house: House, source: str, destination: Name, report: Report) -> None:
    """Of what is in our store its manifest alone; of what others have, all."""
    store = house.library.store
    if house.shelf.fixed_path(source) is None and store.has_model(name := Name.parse(source)):
        store.copy(name, destination)
    else:
        create_model(destination, store, Modelfile(source), library=house.library, report=report)


async def delete(call: Call, asked: Delete) -> Reply:
    """Takes a model away, and the files that it alone has."""
    _check_not_fixed(call, _named(asked), "deleted")
    await asyncio.to_thread(_delete, call, asked.either)
    return NOTHING


def _delete(call: Call, asked: str) -> None:
    """One that cannot be read, too. First its name goes: nobody loads it again meanwhile."""
    store, name = call.house.library.store, _name(asked)
    if name is None or not store.has_model(name):
        raise _not_ours(call, asked)
    note(call.scope, model=plain(str(name)))
    store.remove(name)
    call.house.serving.models.unload(plain(str(name)))
    packing.collect(store)


def _not_ours(call: Call, asked: str) -> Exception:
    """Why a model that may well be listed is not deleted. Raises ModelNotFound for one that is not."""
    found = call.model(asked)
    if call.house.library.store.has_model(Name.parse(found.name)):
        return RequestInvalid(f"{asked} is {found.spelled} here: delete it by that name")
    return StoreRefused(
        f"{found.spelled} is kept by another program, Ollama or Hugging Face's: Headrace does not change it"
    )


# --- what they share


def _named(asked: Named) -> str:
    if not asked.either.strip():
        raise RequestInvalid("model is required")
    return asked.either


def _name(text: str, *, insecure: bool = False) -> Name | None:
    """None for what is no name, and so the name of nothing."""
    try:
        return Name.parse(text, insecure=insecure)
    except RequestInvalid:
        return None


def _is_fixed(call: Call, text: str) -> bool:
    """Whether it names one of the models that the server has beside its library, which would hide any other."""
    name = _name(text)
    return call.house.shelf.fixed_path(str(name) if name else text) is not None


def _check_not_fixed(call: Call, text: str, done: str) -> None:
    if _is_fixed(call, text):
        name = str(_name(text) or text)
        note(call.scope, model=plain(name))
        raise RequestInvalid(f"{name} is not in the library, the server was started with it, and cannot be {done}")


def _options(call: Call, work: Work) -> Options:
    """Whoever asks from another machine may not have this one look around on itself."""
    return replace(call.house.registries, stop=work.stop, loopback=call.is_near)


async def _worked(call: Call, stream: bool, do: Do) -> Reply | Stream:
    """What the work tells as it goes, or that it is done."""
    if stream:
        return Stream(NDJSON, _lines(call, do), last_words)
    with call.house.works.doing(do) as work:
        async for _ in work:
            pass
    return Reply.json({"status": packing.SUCCESS})


async def _lines(call: Call, do: Do) -> AsyncIterator[bytes]:
    with call.house.works.doing(do) as work:
        async for step in work:
            yield line(step.fields())


def _bringing(house: House, name: Name, make: Callable[[Work, Report], object]) -> Do:
    """What brings a model into the library. It is a success, and the last step, when the next request gets it."""

    def renew(work: Work, report: Report) -> None:
        before = _digest(house.library.store, name)
        make(work, report)
        if before and _digest(house.library.store, name) != before:
            house.serving.models.unload(plain(str(name)))

    def do(work: Work) -> None:
        packing.bring(house.library, name, lambda report: renew(work, report), work.report)

    return do


def _digest(store: Store, name: Name) -> str:
    """Of its manifest; nothing for a model that is not there, or cannot be read."""
    try:
        return store.manifest(name).digest
    except (ModelNotFound, FileInvalid):
        return ""
