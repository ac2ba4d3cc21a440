"""A step of training on an accelerator: rows of one length, each a prefix and as many dialogues as it holds.

Every shape is the same in all steps, so that the layers are compiled once and no step waits for a number to come back
from the device. A dialogue sees its row's prefix and itself: what lies between is masked.
"""

from __future__ import annotations

import queue
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 (its common name)
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from recipes.nano.model import Config, rope

Made = tuple["Rows", Tensor]
Ids = npt.NDArray[np.integer[Any]]
PREFIX, EMPTY = 0, -1  # owners of a row's tokens beside its dialogues, which are 1, 2, ...
HIDDEN = -1e4


@dataclass(frozen=True, slots=True)
class Rows:
    """`tokens`, whose dialogue each is (`owner`) and its `position` [B, L]; `places` [R] of those with targets."""

    tokens: Tensor
    owner: Tensor
    position: Tensor
    places: Tensor

    def to(self, device: str) -> Rows:
        return Rows(*(part.to(device, non_blocking=True) for part in self.parts()))

    def pinned(self) -> Rows:
        return Rows(*(part.pin_memory() for part in self.parts()))

    def parts(self) -> Iterator[Tensor]:
        return (getattr(self, field.name) for field in fields(self))

    def laid_out(self, config: Config, dtype: torch.dtype) -> tuple[Tensor, Layout]:
        owner, length = self.owner, self.owner.shape[1]
        places = torch.arange(length, device=owner.device)
        sees = (owner[:, None, :] == owner[:, :, None]) | (owner[:, None, :] == PREFIX)
        mask = torch.where(sees & (places[None, :] <= places[:, None]), 0.0, HIDDEN).to(dtype)[:, None]
        earlier = [F.pad(owner, (back, 0), value=EMPTY)[:, :length] for back in (1, 2)]
        follows = torch.stack([before == owner for before in earlier], dim=-1)
        prefix = (owner == PREFIX).sum(1)
        turns = rope(config, self.position.flatten(), dtype)
        return self.tokens.flatten(), Layout(turns, mask, follows, owner > PREFIX, prefix, owner != EMPTY)

    def heard(self, x: Tensor) -> Tensor:
        return x[self.places]

    def aims(self, targets: Tensor) -> Tensor:
        """The targets are those of `places` already."""
        return targets

    @property
    def size(self) -> int:
        return self.tokens.numel()


@dataclass(frozen=True, slots=True)
class Layout:
    """What the convolution and the attention need to know of rows [B, L], made once for all layers."""

    rope: tuple[Tensor, Tensor]
    mask: Tensor  # [B, 1, L, L], added to scores
    follows: Tensor  # [B, L, 2]: whether the token one or two before belongs to the same sequence
    inside: Tensor  # [B, L]: whether it is a dialogue's
    prefix: Tensor  # [B]: how many tokens stand before the dialogues
    real: Tensor  # [B, L]

    def convolve(self, x: Tensor, taps: Tensor) -> Tensor:
        """A dialogue's first tokens follow the prefix's last; what comes before the prefix is 0."""
        rows, taps = x.view(*self.inside.shape, -1), taps.to(x.dtype)
        last, second = (self._of_prefix(rows, back) for back in (1, 2))
        one, two = (F.pad(rows, (0, 0, back, 0))[:, : rows.shape[1]] for back in (1, 2))
        follows, inside = self.follows[..., None], self.inside[..., None]
        begins = inside & ~follows[..., 0, :]
        one = torch.where(follows[..., 0, :], one, torch.where(begins, last, 0.0))
        two = torch.where(follows[..., 1, :], two, torch.where(begins, second, torch.where(inside, last, 0.0)))
        return (rows * taps[:, 2] + one * taps[:, 1] + two * taps[:, 0]).view(len(x), -1)

    def _of_prefix(self, rows: Tensor, back: int) -> Tensor:
        """The prefix's last token but `back` - 1 [B, 1, hidden]."""
        place = (self.prefix - back).clamp(min=0)[:, None, None].expand(-1, 1, rows.shape[2])
        return torch.where((self.prefix >= back)[:, None, None], rows.gather(1, place), 0.0)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        count, length = self.inside.shape
        _, heads, groups, d = q.shape
        q = q.reshape(count, length, heads * groups, d).transpose(1, 2)
        k, v = (
            t.view(count, length, heads, d).transpose(1, 2).repeat_interleave(groups, dim=1).contiguous()
            for t in (k, v)
        )
        out = F.scaled_dot_product_attention(q.contiguous(), k, v, attn_mask=self.mask, scale=1.0)
        return out.transpose(1, 2).reshape(count * length, -1)

    def load(self, chosen: Tensor, experts: int) -> Tensor:
        return (F.one_hot(chosen, experts).sum(1) * self.real.flatten()[:, None]).sum(0)


LENGTH = 2048
ROWS = 16

Sequence = tuple[list[int], list[int]]  # token ids, and what is to be said after each, or -100
Source = Callable[[random.Random], Iterator[tuple[list[int], Iterator[Sequence], int]]]


class Steps(Dataset[tuple[Ids, ...]]):
    """Step `number` of a run, from (seed, number) alone.

    A source gives prefixes, for each of them dialogues without end, and how far behind it their positions lie.
    """

    def __init__(self, source: Source, seed: int, rows: int = ROWS, length: int = LENGTH) -> None:
        self.source, self.seed, self.rows, self.length = source, seed, rows, length

    def __getitem__(self, number: int) -> tuple[Ids, ...]:
        drawn = self.source(random.Random(f"{self.seed}/{number}"))
        fitting = (one for one in drawn if len(one[0]) < self.length * 3 // 4)
        made = [self._row(*one) for one in islice(fitting, self.rows)]
        tokens, owner, position, targets = (np.stack(part) for part in zip(*made, strict=True))
        (places,) = (targets.ravel() >= 0).nonzero()
        return tokens, owner, position, places, targets.ravel()[places].astype(np.int64)

    def _row(self, prefix: list[int], dialogues: Iterator[Sequence], gap: int) -> tuple[Ids, ...]:
        tokens, owner, position = list(prefix), [PREFIX] * len(prefix), list(range(len(prefix)))
        targets = [-100] * len(prefix)
        for number, (ids, wanted) in enumerate(dialogues, 1):
            if len(tokens) + len(ids) > self.length:
                break
            tokens += ids
            targets += wanted
            owner += [number] * len(ids)
            position += range(len(prefix) + gap, len(prefix) + gap + len(ids))
        filling = self.length - len(tokens)
        columns = (tokens, 0), (owner, EMPTY), (position, 0), (targets, -100)
        return tuple(np.array(column + [empty] * filling, np.int32) for column, empty in columns)


def steps(source: Source, seed: int, first: int, last: int, makers: int, rows: int = ROWS) -> Iterator[Made]:
    """The steps from `first` on, in their order, made by other processes, and their targets [R]."""
    loader: DataLoader[tuple[Ids, ...]] = DataLoader(
        Steps(source, seed, rows),
        sampler=range(first, last),
        batch_size=None,
        num_workers=makers,
        collate_fn=_as_made,
        prefetch_factor=8 if makers else None,
    )
    for made in loader:
        *parts, targets = map(torch.from_numpy, made)
        yield Rows(*parts), targets


def _as_made(made: Any) -> Any:
    """Arrays go through a pipe: shared memory is scarce in containers."""
    return made


def sent(made: Iterator[Made], device: str, ahead: int = 4) -> Iterator[Made]:
    """The same steps, already on their way to the device: copied by a thread, from memory that the device reads itself.

    From other memory a copy waits for all that the device still has to do, and then the device waits for the next step.
    """
    ready: queue.Queue[Made | BaseException | None] = queue.Queue(ahead)

    def copy() -> None:
        try:
            for step, targets in made:
                ready.put((step.pinned().to(device), targets.pin_memory().to(device, non_blocking=True)))
            ready.put(None)
        except BaseException as error:
            ready.put(error)

    threading.Thread(target=copy, daemon=True).start()
    while (one := ready.get()) is not None:
        if isinstance(one, BaseException):
            raise one
        yield one
