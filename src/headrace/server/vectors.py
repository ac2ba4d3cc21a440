"""Vectors of texts, as clients want them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from headrace.errors import Busy, RequestInvalid
from headrace.server.serving import Gone

T = TypeVar("T")


def wanted(texts: Iterable[T], gone: Gone) -> Iterator[T]:
    """The texts, as long as somebody waits for their vectors: many take a while to be read. Raises Busy."""
    for text in texts:
        if gone():
            raise Busy("nobody waits for these vectors any more")
        yield text


def cut(vectors: NDArray[np.float32], dimensions: int | None) -> NDArray[np.float32]:
    """The first `dimensions` of each, scaled to length 1 again. Raises RequestInvalid."""
    if dimensions is None:
        return vectors
    if dimensions > vectors.shape[1]:
        raise RequestInvalid(f"dimensions is {dimensions} but this model has {vectors.shape[1]}", "dimensions")
    kept = vectors[:, :dimensions]
    scaled: NDArray[np.float32] = kept / np.maximum(np.sqrt(np.square(kept).sum(1, keepdims=True)), 1e-12)
    return scaled
