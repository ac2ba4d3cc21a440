"""The native core: runs a plan's steps on the CPU. Private: `headrace.engine` is its only user.

Shapes: T tokens of a batch, R rows whose logits are wanted, V vocabulary rows, H hidden width. Everything raises
ValueError, with a sentence, when an argument does not fit, before anything has run or changed.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, final

import numpy as np
from numpy.typing import NDArray

class Batch(Protocol):
    """What a step needs, as C-contiguous arrays: `headrace.engine.batch.Batch` describes each."""

    @property
    def tokens(self) -> NDArray[np.int32]: ...
    @property
    def starts(self) -> NDArray[np.int32]: ...
    @property
    def positions(self) -> NDArray[np.int32]: ...
    @property
    def blocks(self) -> NDArray[np.int32]: ...
    @property
    def block_starts(self) -> NDArray[np.int32]: ...
    @property
    def slots(self) -> NDArray[np.int32]: ...
    @property
    def rewinds(self) -> NDArray[np.int32]: ...
    @property
    def rows(self) -> NDArray[np.int32]: ...
    @property
    def temperature(self) -> NDArray[np.float32]: ...
    @property
    def top_k(self) -> NDArray[np.int32]: ...
    @property
    def top_p(self) -> NDArray[np.float32]: ...
    @property
    def min_p(self) -> NDArray[np.float32]: ...
    @property
    def repeat_penalty(self) -> NDArray[np.float32]: ...
    @property
    def presence_penalty(self) -> NDArray[np.float32]: ...
    @property
    def frequency_penalty(self) -> NDArray[np.float32]: ...
    @property
    def seed(self) -> NDArray[np.uint64]: ...
    @property
    def history(self) -> NDArray[np.int32]: ...
    @property
    def history_starts(self) -> NDArray[np.int32]: ...
    @property
    def bias_ids(self) -> NDArray[np.int32]: ...
    @property
    def bias_values(self) -> NDArray[np.float32]: ...
    @property
    def bias_starts(self) -> NDArray[np.int32]: ...
    @property
    def mask(self) -> NDArray[np.uint32]: ...
    @property
    def mask_rows(self) -> NDArray[np.int32]: ...
    @property
    def targets(self) -> NDArray[np.int32]: ...
    @property
    def top_logprobs(self) -> NDArray[np.int32]: ...
    @property
    def experts(self) -> bool: ...

def isas() -> list[str]:
    """The instruction sets that this machine can use, best first; the last one is always "scalar"."""

def panel_types(isa: str = "") -> list[str]:
    """The types that `isa` (empty: the best) reads in panels; the kernels over panels are the fast ones."""

def to_panels(kind: str, rows: int, columns: int, data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The bytes of a matrix [rows, columns] in the order that the fast kernels read: as many, and nothing is lost.

    `rows` is a multiple of 32, `kind` Q4_0, Q8_0 or Q6_K. A model takes the result as type "Q4_0/panels".
    """

def from_panels(kind: str, rows: int, columns: int, data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What `to_panels` was given."""

@final
class Probe:
    """The machine's limits, measured when asked. Takes 256 MiB of memory. `isa` as for `Model`."""

    def __init__(self, threads: int, isa: str = "") -> None: ...
    def read_bytes_per_second(self) -> float:
        """Memory reads of all threads together, past every cache: the best of a few passes."""

    def multiply_adds_per_second(self) -> float:
        """int8 multiply-adds of all threads together: the best of a few passes."""

@final
class Model:
    """A plan bound to its weights, a cache and threads. Calls are served one at a time; each releases the GIL."""

    def __init__(
        self,
        steps: Sequence[tuple[str, Sequence[int], Sequence[str], Mapping[str, float]]],
        weights: dict[str, list[tuple[str, int, int, NDArray[np.uint8]]]],
        *,
        vocab_size: int,
        block_tokens: int,
        blocks: int,
        kv: str,
        threads: int,
        isa: str = "",
        draft_slots: int = 0,
        max_rewind: int = 0,
    ) -> None:
        """Binds `steps` (the fields of `headrace.plan.Step`) to `weights`.

        weights       name -> matrices, each (GGML type, "/panels" behind it for what `to_panels` gives, rows, columns,
                      bytes of all rows): one for a plain weight, one
                      for each expert otherwise. A vector is one row. Norms, taps, biases and router gates are F32.
                      The bytes of matrices are used in place, so the arrays are kept alive.
        block_tokens  tokens in a cache block, a multiple of 16.
        blocks        cache blocks; memory is taken only when one is first written.
        kv            "fp16", "int8" or "fp32": how keys and values are kept.
        isa           one of `isas()`; empty: the best.
        draft_slots   how many sequences can take tokens back at a time; memory is taken when a slot is first named.
        max_rewind    how many tokens of its last step each of them can take back.
        """

    def step(
        self, batch: Batch
    ) -> tuple[
        NDArray[np.int32],
        NDArray[np.float32] | None,
        NDArray[np.int32] | None,
        NDArray[np.float32] | None,
        NDArray[np.float32] | None,
    ]:
        """Runs the tokens and samples one for each row: what `headrace.engine.batch.Stepped` names.

        Top-k 0, top-p 1 and min-p 0 mean off.
        """

    def logits(self, batch: Batch) -> NDArray[np.float32]:
        """Runs the tokens: logits [R, V], before anything that sampling does to them."""

    def hidden(self, batch: Batch) -> NDArray[np.float32]:
        """Runs the tokens, but not the head, the plan's last step: what it would read, [R, H]."""

    def copy_block(self, source: int, target: int) -> None:
        """Makes block `target` remember what `source` does."""

    def read_block(self, block: int) -> NDArray[np.uint8]:
        """All that a block remembers: [block_bytes]. It means something to a model with the same plan and options."""

    def write_block(self, block: int, data: NDArray[np.uint8] | bytes) -> None:
        """Makes a block remember what `read_block` gave."""

    @property
    def block_bytes(self) -> int:
        """Bytes of a cache block."""

    def values(self, batch: Batch) -> list[NDArray[np.float32]]:
        """Runs the tokens and keeps the value of every step: [T, width], or [R, width] from `select` on.

        The value of `route` is [T, 2 top_k]: the chosen experts, best first, then their weights.
        """
