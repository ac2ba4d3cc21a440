"""Gates: what the model can do in the middle of training, one figure for each capability, in seconds.

Teacher-forced: a turn counts when each of its tokens is the most likely one, which is when greedy decoding says it.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from tokenizers import Tokenizer

from headrace.tools.builtin import builtin_schemas
from recipes.nano import dialogues, extraction, tools
from recipes.nano.arithmetic import arithmetic
from recipes.nano.asking import NONE_FITS, asked, unserved
from recipes.nano.dates import days_between
from recipes.nano.dialogues import Prefix
from recipes.nano.exchange import Exchange
from recipes.nano.model import Nano
from recipes.nano.prefixed import Batch
from recipes.nano.tokenizer import encode
from recipes.nano.values import Values

_Made = tuple[Prefix, Exchange]


def exactness(model: Nano, tokenizer: Tokenizer, count: int = 40, seed: int = 77) -> dict[str, float]:
    """The share of exact first turns for each of GATES, held-out tools, values and sentences."""
    shares = {}
    for name, make in GATES.items():
        rng = random.Random(f"{seed}/{name}")
        values = Values(rng, held=True)
        shares[name] = sum(_is_exact(model, tokenizer, *make(rng, values)) for _ in range(count)) / count
    return shares


@torch.no_grad()
def _is_exact(model: Nano, tokenizer: Tokenizer, prefix: Prefix, exchange: Exchange) -> bool:
    (asked, _), (said, _), *_ = dialogues.segments([exchange])
    before, wanted = encode(tokenizer, asked), encode(tokenizer, said)
    device = model.embedding_norm.weight.device
    start = torch.tensor(encode(tokenizer, prefix.text()), device=device)
    hidden = model(Batch(start, torch.tensor([before + wanted], device=device)))[len(before) - 1 : -1]
    return bool((model.head(hidden).argmax(-1) == torch.tensor(wanted, device=device)).all())


def _made_up(least: int, most: int) -> Callable[[random.Random, Values], _Made]:
    def make(rng: random.Random, values: Values) -> _Made:
        offered = dialogues.some_tools(rng, rng.randint(least, most), tools.catalogue(True), varied=False)
        text, call, answer = asked(rng, values, rng.choice(offered), varied=False)
        shown = tuple(each.schema for each in offered)
        return Prefix("", shown, frozenset(), tuple(offered)), Exchange(text, answer, (call,))

    return make


def _unserved(rng: random.Random, values: Values) -> _Made:
    offered = dialogues.some_tools(rng, rng.randint(1, 5), tools.catalogue(True), varied=False)
    text = unserved(rng, values, offered, tools.catalogue(True))
    shown = tuple(each.schema for each in offered)
    return Prefix("", shown, frozenset(), tuple(offered)), Exchange(text, NONE_FITS)


def _built_in(kind: Callable[[random.Random, str], Exchange]) -> Callable[[random.Random, Values], _Made]:
    schemas = tuple(builtin_schemas())
    offered = Prefix("", schemas, frozenset(schema["name"] for schema in schemas))
    return lambda rng, _: (offered, kind(rng, ""))


def _extraction(rng: random.Random, values: Values) -> _Made:
    return Prefix("", (), frozenset()), extraction.extraction(rng, values, extraction.catalogue(True), varied=False)


GATES: dict[str, Callable[[random.Random, Values], _Made]] = {
    "arithmetic": _built_in(arithmetic),
    "days_between": _built_in(days_between),
    "one unseen tool": _made_up(1, 1),
    "two to five unseen tools": _made_up(2, 5),
    "no tool fits": _unserved,
    "extraction": _extraction,
}
