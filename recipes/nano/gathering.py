"""Rows moved to other places of a matrix, with gradients that know that no place occurs twice."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Spread(torch.autograd.Function):
    """Rows put at given places of a longer matrix of zeros. Its gradient picks them again, which autograd's own
    indexing, made for places that may repeat, does many times more slowly."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, places: Tensor, length: int) -> Tensor:
        ctx.save_for_backward(places)
        return rows.new_zeros(length, *rows.shape[1:]).index_copy_(0, places, rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient.index_select(0, ctx.saved_tensors[0]), None, None


def spread(rows: Tensor, places: Tensor, length: int) -> Tensor:
    """A matrix of `length` rows with `rows` at `places`, none of which occurs twice, and zeros elsewhere."""
    whole: Tensor = _Spread.apply(rows, places, length)
    return whole


class _Pick(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.length = len(rows)
        return rows.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        whole = gradient.new_zeros(ctx.length, *gradient.shape[1:])
        return whole.index_copy_(0, ctx.saved_tensors[0], gradient), None


def pick(rows: Tensor, places: Tensor) -> Tensor:
    """The rows [len(places), ...] at `places`, none of which occurs twice."""
    picked: Tensor = _Pick.apply(rows, places)
    return picked


class _Deal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, slots: Tensor, places: int) -> Tensor:
        ctx.save_for_backward(slots)
        token_of = slots.new_zeros(places)
        token_of[slots] = torch.arange(len(slots), device=slots.device)[:, None]
        return x.index_select(0, token_of)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (slots,) = ctx.saved_tensors
        return gradient.index_select(0, slots.flatten()).view(*slots.shape, -1).sum(1), None, None


def deal(x: Tensor, slots: Tensor, places: int) -> Tensor:
    """Each token's row of x [T, hidden] at its `slots` [T, k] of `places` rows; the others hold anything."""
    dealt: Tensor = _Deal.apply(x, slots, places)
    return dealt


def up_to(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
