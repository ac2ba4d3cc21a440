"""Chains of small steps as one pass over memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import Any

import torch

_compiling = False


def compile_steps() -> None:
    """From here on, what is `fused` is compiled when it is first called, which takes a minute in all."""
    global _compiling
    _compiling = True


def fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """Steps that touch each number once or twice are bound by memory: compiled, a chain of them is one pass."""
    compiled = cache(lambda: torch.compile(function, dynamic=True))
    return wraps(function)(lambda *arguments: (compiled() if _compiling else function)(*arguments))
