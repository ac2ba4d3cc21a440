"""Models that are loaded into this process."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click

from headrace import summary
from headrace.cli import _caches
from headrace.cli._fetching import fetch_if_missing
from headrace.cli._partner import Stated, Tools
from headrace.cli._progress import progress
from headrace.cli.show import page
from headrace.engine.core import BLOCK_TOKENS
from headrace.events import Event
from headrace.library import opening
from headrace.loading import load
from headrace.machine import peak_memory_bytes
from headrace.model import Model

PACKING = "packing for this machine, once"


@dataclass(frozen=True, slots=True)
class LocalRuntime:
    """How every model of the session is run. `cached` is a model's name and the file of what its prompts begin with."""

    threads: int | None = None
    kv: str | None = None
    cache_bytes: int | None = None
    draft: str | None = "lookup"
    cached: tuple[str, Path] | None = None

    @property
    def server(self) -> None:
        return None

    def lasting_name(self, name: str) -> str:
        return opening.lasting_name(name)

    def load(self, name: str, num_ctx: int | None = None) -> Local:
        fetch_if_missing(name)
        began = time.perf_counter()
        model = load(
            name,
            num_ctx=num_ctx,
            threads=self.threads,
            kv=self.kv,
            cache_bytes=self.cache_bytes,
            draft=self.draft,
            progress=progress(PACKING),
        )
        if num_ctx is not None:
            _warn_of_a_long_window(model)
        cache = self.cached[1] if self.cached and self.cached[0] == name else None
        return Local(model, time.perf_counter() - began, cache)


@dataclass(frozen=True, slots=True)
class Local:
    """A loaded model, and the file of what its prompts begin with."""

    model: Model
    load_s: float
    cache: Path | None = None

    @property
    def num_ctx(self) -> int:
        return self.model.num_ctx

    @property
    def can_think(self) -> bool:
        return self.model.can_think

    @property
    def lacks(self) -> Mapping[str, str]:
        return {}

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Tools = None,
        run_tools: bool = False,
        **options: Any,
    ) -> Iterator[Event]:
        return self.model.chat(messages, tools=tools, run_tools=run_tools, **options)

    def begin(self, system: Sequence[Mapping[str, Any]], tools: Tools, think: bool | None) -> None:
        """Loads its cache, and says what came of it: one that does not help looks like one that does, only slower."""
        if not self.cache:
            return
        click.secho(f"({_caches.load(self.model, self.cache)})", dim=True, err=True)
        prefix, name = self.model.prefix(system, tools, think), _caches.name_of(self.cache)
        if len(prefix) >= BLOCK_TOKENS and not self.model.cached(prefix):
            why = "--system, --system-file or the tools are others"
            click.secho(f"Warning: the cache {name} is of no use here: {why}", err=True)

    def check(self, **parameters: Any) -> None:
        self.model.checkpoint.defaults.parameters.override(**parameters)

    def parameters(self) -> Mapping[str, Stated]:
        defaults = self.model.checkpoint.defaults
        return {
            field.name: Stated(getattr(defaults.parameters, field.name), defaults.origins.get(field.name, "Headrace"))
            for field in fields(defaults.parameters)
            if field.name != "logit_bias"
        }

    def info(self) -> str:
        return page(summary.summarise(self.model.checkpoint))

    def template(self) -> str:
        return self.model.checkpoint.template.source

    def figures(self) -> Mapping[str, str]:
        return {"peak memory": f"{peak_memory_bytes() / 2**20:,.0f} MiB"}

    def close(self) -> None:
        self.model.close()


def _warn_of_a_long_window(model: Model) -> None:
    """Files allow more than their models were trained on."""
    if model.num_ctx > (card := model.checkpoint.context_length):
        click.secho(f"Warning: the model card says {card:,} tokens; beyond them answers may get worse", err=True)
