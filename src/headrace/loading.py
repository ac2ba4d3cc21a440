"""`load` a model, or keep several within one budget of memory: by name, from a file, from a folder."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

from headrace.budget import Claim, Need
from headrace.checkpoint import Checkpoint
from headrace.engine.packed_file import Progress, unwatched
from headrace.engine.residents import KEEP_ALIVE_S, Candidate, Residents, default_budget
from headrace.engine.turns import Turns
from headrace.errors import RequestInvalid
from headrace.jobs import window_of
from headrace.library import opening
from headrace.machine import memory_bytes
from headrace.model import Model


def load(
    name_or_path: str | Path,
    *,
    num_ctx: int | None = None,
    threads: int | None = None,
    kv: str | None = None,
    cache_bytes: int | None = None,
    draft: str | Path | None = "lookup",
    progress: Progress = unwatched,
) -> Model:
    """Loads a model of the library by its name, `nano` (the embedded one), a GGUF file, or a model folder.

    `num_ctx` is the context window in tokens (default: the model card's), `threads` the processors to use (default: as
    many as this process may keep busy), `kv` how keys and values are kept: "fp16" (the default) or "int8", which takes
    half the memory and is faster in long contexts. `cache_bytes` is the memory that keys and values may take, all
    sequences and what is kept of ended ones together, those of a draft model too (default: what 16 full windows need,
    but not more than half of what the weights leave of the memory); none of it is taken before it is used. A window may
    be larger than that: a reply ends, with the reason "length", where the memory does. `draft` says where drafts come
    from: "lookup" finds them in the context, a small model of the same vocabulary (named as the large one) guesses
    them, None tries none; the answers are the same. A large GGUF is packed at its first start, into the user's cache:
    `progress` is told the bytes done, and all. Raises a UserError that says what is wrong with the file or the numbers.
    """
    source = opening.read(name_or_path)
    if draft is not None and not isinstance(draft, str | Path):
        raise RequestInvalid(f"draft is {draft!r} but should be 'lookup', a model, or None")
    drafts: Literal["lookup"] | Checkpoint | None = "lookup"
    if draft != "lookup":
        drafts = None if draft is None else opening.read(draft)
    return Model(
        source,
        num_ctx=num_ctx,
        threads=threads,
        kv=kv,
        cache_bytes=cache_bytes,
        draft=drafts,
        progress=progress,
    )


def residents(
    budget_bytes: int | None = None,
    *,
    max_models: int | None = None,
    keep_alive_s: float = KEEP_ALIVE_S,
    num_ctx: int | None = None,
    threads: int | None = None,
    kv: str | None = None,
    cache_bytes: int | None = None,
) -> Residents[Model]:
    """Several models, each loaded when it is first leased by a name or path as `load` knows them. See `Residents`.

    `num_ctx`, `threads`, `kv` and `cache_bytes` are those of `load`, for each of them; they step in turns, so each has
    all `threads`. The cache is by default one full window, or what there is memory for; with `max_models` what `load`
    would give it, as far as an equal part of the budget allows: for a single model, all of it.
    """
    budget = default_budget() if budget_bytes is None else budget_bytes
    options: dict[str, Any] = {"num_ctx": num_ctx, "threads": threads, "kv": kv, "cache_bytes": cache_bytes}

    def share(own: Claim) -> int:
        return own.within(budget // max_models if max_models else 0)

    find = partial(candidate, **options, budget_bytes=budget, share=share)
    return Residents(find, budget, max_models=max_models, keep_alive_s=keep_alive_s)


def candidate(
    source: str | Path | Checkpoint,
    *,
    num_ctx: int | None = None,
    threads: int | None = None,
    kv: str | None = None,
    cache_bytes: int | None = None,
    budget_bytes: int | None = None,
    share: Callable[[Claim], int] = lambda own: own.least,
) -> Candidate[Model]:
    """A model that may be loaded, and what it takes: its weights and its cache.

    The cache is by default what fits with the weights into the bytes that are the model's `share`: without one, a
    window of `num_ctx`, or what of it fits into `budget_bytes` with the weights, but not less than a small window.
    Raises a UserError that says what is wrong with the file or the numbers.
    """
    source = _read(source)
    window, need = window_of(source, num_ctx), Need.of(source, kv)
    smaller = partial(need.smaller, window if cache_bytes is None else 1)
    if cache_bytes is None:
        blocks = (share(need.claim(window, memory_bytes(), budget_bytes)) - need.weights) // need.block
    else:
        blocks = need.blocks(window, cache_bytes, memory_bytes())
    cache = blocks * need.block

    def load_it(turns: Turns) -> Model:
        return Model(source, num_ctx=window, threads=threads, kv=kv, cache_bytes=cache, turns=turns)

    return Candidate(need.weights + cache, load_it, smaller)


def claim(
    source: str | Path | Checkpoint,
    *,
    num_ctx: int | None = None,
    kv: str | None = None,
    budget_bytes: int | None = None,
) -> Claim:
    """What a model would ask of a budget that it may share. Raises a UserError where it could not be loaded."""
    source = _read(source)
    return Need.of(source, kv).claim(window_of(source, num_ctx), memory_bytes(), budget_bytes)


def _read(source: str | Path | Checkpoint) -> Checkpoint:
    return source if isinstance(source, Checkpoint) else opening.read(source)
