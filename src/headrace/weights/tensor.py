"""A named tensor as it lies in its file: raw bytes, a type, a shape. Nothing is converted until somebody asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Tensor:
    """`shape` is in row-major order (rows first, as PyTorch prints it); `type` is a GGML name such as "Q4_0" or "BF16".

    `data` is a one-dimensional uint8 view of the file, usually memory-mapped: keep no copy of it.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    data: NDArray[np.uint8]

    def unstack(self) -> tuple[Tensor, ...]:
        """The slices along the first axis, as views: an expert stack [E, O, I] gives E matrices [O, I]."""
        count = self.shape[0]
        size_bytes = self.data.size // count
        return tuple(
            Tensor(f"{self.name}[{i}]", self.type, self.shape[1:], self.data[i * size_bytes : (i + 1) * size_bytes])
            for i in range(count)
        )

    def rows(self, start: int, stop: int) -> Tensor:
        """Rows `start` to `stop` of a matrix, as a view: rows are stored one after another in every type."""
        size_bytes = self.data.size // self.shape[0]
        shape = (stop - start, *self.shape[1:])
        return Tensor(
            f"{self.name}[{start}:{stop}]", self.type, shape, self.data[start * size_bytes : stop * size_bytes]
        )

    def pieces(self, most: int) -> Iterator[Tensor]:
        """All of it in order, as views: whole entries of the first axis, each with at most `most` weights, or one."""
        if len(self.shape) == 1:
            yield self
            return
        count = max(1, most // prod(self.shape[1:]))
        for start in range(0, self.shape[0], count):
            yield self.rows(start, min(start + count, self.shape[0]))


# What a plan's weight names stand for. A plain weight is one tensor; the experts of a layer are E matrices, which a
# file may keep stacked (GGUF), fused with others, or apart (safetensors): the plan does not care.
Weights = Mapping[str, tuple[Tensor, ...]]
