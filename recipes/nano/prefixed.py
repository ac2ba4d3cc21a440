"""A step of training on a processor: one prefix, and many dialogues that continue it.

A step's tokens lie flat, the prefix first, without the padding of shorter dialogues: [T, hidden]. Lengths are rounded
up, for oneDNN compiles each product for its shape: with every step's own lengths that took longer than the products.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 (its common name)
from torch import Tensor

from recipes.nano.fused import fused
from recipes.nano.gathering import pick, spread, up_to
from recipes.nano.model import Config, convolve, rope


@dataclass(frozen=True, slots=True)
class Batch:
    """One prefix [P] and the dialogues after it [N, L], filled up with PAD; they stand at P + gap and on."""

    prefix: Tensor
    dialogues: Tensor
    gap: int = 0

    def to(self, device: str) -> Batch:
        return Batch(self.prefix.to(device), self.dialogues.to(device), self.gap)

    @property
    def real(self) -> Tensor:
        """Places [R] in the flattened dialogues that hold a token."""
        return self.dialogues.flatten().nonzero()[:, 0]

    def laid_out(self, config: Config, dtype: torch.dtype) -> tuple[Tensor, Shape]:
        p, (count, length), real = len(self.prefix), self.dialogues.shape, self.real
        device, padded = self.prefix.device, up_to(p, 128)
        tokens = torch.cat([self.prefix, self.dialogues.flatten()[real]])
        filling = (0, up_to(len(tokens), 256) - len(tokens))
        positions = torch.cat([torch.arange(p, device=device), p + self.gap + real % length])
        past_mask = torch.where(torch.arange(padded, device=device) < p, 0.0, HIDDEN).to(dtype)
        masks = (causal(padded, dtype, device), past_mask, causal(length, dtype, device))
        turns = rope(config, F.pad(positions, filling), dtype)
        return F.pad(tokens, filling), Shape(p, count, length, len(tokens) + filling[1], real, turns, *masks)

    def heard(self, x: Tensor) -> Tensor:
        """The dialogues' real tokens."""
        return x[len(self.prefix) : len(self.prefix) + len(self.real)]

    def aims(self, targets: Tensor) -> Tensor:
        """Of targets [N * L] those of `heard`."""
        return targets[self.real]

    @property
    def size(self) -> int:
        """Its real tokens."""
        return len(self.prefix) + len(self.real)


@dataclass(frozen=True, slots=True)
class Shape:
    """What the layers need to know of a batch whose T flat tokens are prefix, dialogues, filling."""

    prefix: int
    count: int
    length: int
    tokens: int
    real: Tensor
    rope: tuple[Tensor, Tensor]
    prefix_mask: Tensor
    past_mask: Tensor
    mask: Tensor

    def convolve(self, x: Tensor, taps: Tensor) -> Tensor:
        prefix, dialogues = self.apart(x)
        past = taps.shape[1] - 1
        prefix = F.pad(prefix, (0, 0, past, 0))
        state = prefix[-past:].expand(self.count, past, -1)
        following = convolve(torch.cat([state, dialogues], dim=1), taps)
        return self.together(convolve(prefix, taps), following.flatten(0, 1))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        (before_q, q), (before_k, k), (before_v, v) = (self.apart(t) for t in (q, k, v))
        filling = len(self.prefix_mask) - self.prefix
        before_q = F.pad(before_q, (0, 0, 0, 0, 0, 0, 0, filling))
        before_k, before_v = (F.pad(t, (0, 0, 0, 0, 0, filling)) for t in (before_k, before_v))
        first = attend(before_q[None], before_k[None], before_v[None], self.prefix_mask)[0, : self.prefix]
        rest = attend(q, k, v, self.mask, (before_k, before_v, self.past_mask))
        return self.together(first, rest.flatten(0, 1))

    def load(self, chosen: Tensor, experts: int) -> Tensor:
        return F.one_hot(chosen[: self.prefix + len(self.real)], experts).sum((0, 1))

    def apart(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[T, ...] -> the prefix's [P, ...] and the dialogues' [N, L, ...], 0 where they are filled up."""
        rows = spread(x[self.prefix : self.prefix + len(self.real)], self.real, self.count * self.length)
        return x[: self.prefix], rows.view(self.count, self.length, *x.shape[1:])

    def together(self, prefix: Tensor, dialogues: Tensor) -> Tensor:
        """The reverse, from [P, width] and [N * L, width]."""
        rows = pick(dialogues, self.real)
        filling = prefix.new_zeros(self.tokens - len(prefix) - len(rows), prefix.shape[1])
        return torch.cat([prefix, rows, filling])


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, before: tuple[Tensor, Tensor, Tensor] | None = None
) -> Tensor:
    """Scaled queries [N, L, kv_heads, groups, d] over own keys [N, L, kv_heads, d] under `mask` and, all of them, over
    the keys of a common prefix [P, kv_heads, d] under its own [P]: one product for all dialogues. Gives
    [N, L, heads * d].

    Values carry a 1 behind them, so that the products sum the weights, too, which are the scores' plain exponentials:
    normed queries and keys keep those small.
    """
    count, length, heads, groups, d = q.shape
    rows = q.permute(2, 0, 3, 1, 4).reshape(heads, count, groups * length, d)
    own_k = k.permute(2, 0, 3, 1).reshape(heads * count, d, length)
    own_v = F.pad(v, (0, 1), value=1.0).permute(2, 0, 1, 3).reshape(heads * count, length, d + 1)
    weights = weighed(torch.bmm(rows.flatten(0, 1), own_k), mask.repeat(groups, 1))
    out = torch.bmm(weights, own_v).view(heads, -1, d + 1)
    if before is not None:
        prefix_k, prefix_v = before[0].permute(1, 2, 0), F.pad(before[1], (0, 1), value=1.0).transpose(0, 1)
        out = out + torch.bmm(weighed(torch.bmm(rows.flatten(1, 2), prefix_k), before[2]), prefix_v)
    out = out[..., :d] / out[..., d:]
    return out.view(heads, count, groups, length, d).permute(1, 3, 0, 2, 4).reshape(count, length, -1)


@fused
def weighed(scores: Tensor, mask: Tensor) -> Tensor:
    return (scores.float() + mask).clamp(max=80.0).exp().to(scores.dtype)


HIDDEN = -3e4  # a score as good as minus infinity


def causal(length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """0 where a position may look, else `HIDDEN`."""
    return torch.full((length, length), HIDDEN, dtype=dtype, device=device).triu(1)
