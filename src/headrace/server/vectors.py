"""Vectors of texts, as clients want them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headrace.errors import RequestInvalid


def cut(vectors: NDArray[np.float32], dimensions: int | None) -> NDArray[np.float32]:
    """The first `dimensions` of each, scaled to length 1 again. Raises RequestInvalid."""
    if dimensions is None:
        return vectors
    if dimensions > vectors.shape[1]:
        raise RequestInvalid(f"dimensions is {dimensions} but this model has {vectors.shape[1]}", "dimensions")
    kept = vectors[:, :dimensions]
    scaled: NDArray[np.float32] = kept / np.maximum(np.sqrt(np.square(kept).sum(1, keepdims=True)), 1e-12)
    return scaled
