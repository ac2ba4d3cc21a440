"""When a reply has become an endless loop, and is ended.

The rule: its last tokens are one token 512 times, or a unit of 2 to 256 tokens again and again, exactly the same, over
2,560 tokens (so at least ten times). Similar is not the same: rows of a table that differ in a digit are no loop, so
neither is one that counts upwards. The figures stand above what people ask for, in nano's tokens: a 20 x 20 matrix of
zeros is one row of 62 tokens over 1,240, as indented JSON of 107 over 2,139; a ruler of 200 characters is 200 at most,
the base64 of 300 zeros 400.

Every 16th token is looked at, so a loop is ended at most 15 tokens after it is that long. Nothing is remembered between
two looks: tokens may also be taken back.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

ONE_TOKEN_TIMES: Final = 512
LONGEST_UNIT: Final = 256  # tokens
LOOP_TOKENS: Final = 2560
EVERY: Final = 16  # tokens between two looks; so many are compared first


def is_endless(ids: NDArray[np.int32]) -> bool:
    """Whether a reply (int32 [tokens], without its prompt) ends in a loop. To be asked after each of its tokens."""
    if len(ids) % EVERY or len(ids) < ONE_TOKEN_TIMES:
        return False
    if (ids[-ONE_TOKEN_TIMES:] == ids[-1]).all():
        return True
    if len(ids) < LOOP_TOKENS:
        return False
    tail = ids[-LOOP_TOKENS:].tobytes()
    return any(tail[distance:] == tail[:-distance] for distance in _distances(tail, ids.itemsize))


def _distances(tail: bytes, width: int) -> Iterator[int]:
    """How many bytes back its last tokens stand once more, as far as units reach: in most texts, nowhere."""
    end = tail[-EVERY * width :]
    first = len(tail) - (LONGEST_UNIT + EVERY) * width
    last = len(tail) - len(end)
    at = last
    while (at := tail.rfind(end, first, at + len(end) - 1)) >= 0:
        if at % width == 0:
            yield last - at
