"""How fast a model runs here, each figure beside the limit that the machine had at that moment.

Prefill is bound by int8 multiply-adds, decoding by memory reads: what a step must compute or read at the least follows
from the plan, what the machine gives is measured before and after each row. Tokens are all different, and nothing is
found in a cache: a depth is filled once, and every row that starts from it forks it by sharing its blocks.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace import machine
from headrace.checkpoint import Checkpoint
from headrace.engine.batch import Batch
from headrace.engine.core import BLOCK_TOKENS, KV, build, chosen_isa, kv_type, load_core
from headrace.engine.pace import CHUNK_TOKENS
from headrace.engine.packed import in_panels
from headrace.errors import RequestInvalid
from headrace.library import opening
from headrace.models import lfm2

if TYPE_CHECKING:
    from headrace import _core
    from headrace.expectation import Shapes

DECODE_STEPS, WARM_UP = 24, 2
REPEATS = 3  # of a prefill

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """What to measure: the rows are the cross product. Depths are cut to whole cache blocks."""

    prefill: tuple[int, ...] = (512,)
    depth: tuple[int, ...] = (0,)
    sequences: tuple[int, ...] = (1,)
    threads: tuple[int, ...] = ()
    kv: tuple[str | None, ...] = (None,)  # types of cache; None is the model's own
    decode_steps: int = DECODE_STEPS
    start: bool = True

    def checked(self, window: int) -> Asked:
        """Raises RequestInvalid for what cannot be measured in a window of so many tokens."""
        numbers = {"prefill": self.prefill, "sequences": self.sequences, "threads": self.threads}
        for name, values in numbers.items():
            if any(value < 1 for value in values):
                raise RequestInvalid(f"--{name} is {', '.join(map(str, values))}: expected whole numbers from 1 on")
        if any(value < 0 for value in self.depth):
            raise RequestInvalid("--depth must not be negative")
        for kv in self.kv:
            kv_type({}, kv)
        longest = max(self.depth, default=0) + max(*self.prefill, self.decode_steps + WARM_UP)
        if longest > window:
            raise RequestInvalid(f"that takes {longest:,} positions, but the model's window has {window:,}")
        return self


@dataclass(frozen=True, slots=True)
class Cost:
    """What a token must cost: multiply-adds but for the head, and bytes that a step of `sequences` tokens reads."""

    multiply_adds: int
    shared_bytes: int  # read once a step
    expert_bytes: tuple[tuple[int, int, int], ...]  # of each mixture: bytes of one expert, experts, experts per token
    kv_numbers: int  # of one position

    @classmethod
    def of(cls, source: Checkpoint | Shapes) -> Cost:
        head = "embed_tokens" if source.backbone.tied else "lm_head"
        multiply_adds = shared = 0
        mixtures = []
        for step in source.plan.steps:
            matrices = [source.weights[name] for name in step.weights if len(source.weights[name][0].shape) == 2]
            if step.op == "experts":
                top_k = source.config.num_experts_per_tok  # type: ignore[union-attr]
                each = sum(tensors[0].data.size for tensors in matrices)
                mixtures.append((each, len(matrices[0]), top_k))
                multiply_adds += top_k * sum(prod(tensors[0].shape) for tensors in matrices)
            elif step.op in ("linear", "route"):
                shared += sum(tensors[0].data.size for tensors in matrices)
                if head not in step.weights:
                    multiply_adds += sum(prod(tensors[0].shape) for tensors in matrices)
        backbone = source.backbone
        layers = backbone.layer_types.count(lfm2.ATTENTION)
        of_position = layers * 2 * backbone.num_key_value_heads * backbone.head_dim
        return cls(multiply_adds, shared, tuple(mixtures), of_position)

    def step_bytes(self, sequences: int, depth: int, kv: str) -> float:
        """Of one decoded token for each of `sequences`; experts as independent routing would choose them."""
        experts = sum(each * count * (1 - (1 - top_k / count) ** sequences) for each, count, top_k in self.expert_bytes)
        return self.shared_bytes + experts + self.kv_numbers * KV[kv] * depth * sequences


class Bench:
    """One model on so many threads, with one filled context that rows fork."""

    def __init__(self, source: Checkpoint, asked: Asked, threads: int, kv: str | None = None) -> None:
        self.source, self.threads = source, threads
        self.cost = Cost.of(source)
        self.kv = kv_type(source.weights, kv)
        deepest = max(asked.depth, default=0) // BLOCK_TOKENS
        most = max(max(asked.prefill, default=1), max(asked.sequences) * (asked.decode_steps + WARM_UP))
        own = max(-(-max(asked.prefill, default=1) // BLOCK_TOKENS), max(asked.sequences) * self._tail(asked))
        panels = in_panels(source.path, source.weights)
        self.model: _core.Model = build(
            source.plan,
            panels,
            vocab_size=source.backbone.vocab_size,
            blocks=deepest + own,
            threads=threads,
            kv=self.kv,
        )
        self.probe: _core.Probe = load_core().Probe(threads)
        words = source.tokenizer.vocab_size
        self.tokens = np.resize(np.random.default_rng(7).permutation(words), (most + max(asked.depth, default=0),))
        self.filled = 0
        self.deepest = deepest

    @staticmethod
    def _tail(asked: Asked) -> int:
        return -(-(asked.decode_steps + WARM_UP) // BLOCK_TOKENS)

    def fill(self, depth: int) -> int:
        """Fills the common context to `depth` tokens, in whole blocks, and returns how many those are."""
        depth = depth // BLOCK_TOKENS * BLOCK_TOKENS
        while self.filled < depth:
            count = min(CHUNK_TOKENS, depth - self.filled)
            blocks = list(range(-(-(self.filled + count) // BLOCK_TOKENS)))
            self.model.step(
                batch_of([self.tokens[self.filled : self.filled + count]], [self.filled], [blocks], last=False)
            )
            self.filled += count
        return depth

    def prefill(self, tokens: int, depth: int) -> dict[str, Any]:
        """A prompt of `tokens` after `depth` others, one logit row at its end."""
        depth = self.fill(depth)
        blocks = [*range(depth // BLOCK_TOKENS), *self._own(-(-tokens // BLOCK_TOKENS))]
        before = self.probe.multiply_adds_per_second()
        seconds = []
        for _ in range(REPEATS):
            started = time.perf_counter()
            for first in range(0, tokens, CHUNK_TOKENS):
                part = self.tokens[depth + first : depth + min(first + CHUNK_TOKENS, tokens)]
                covered = -(-(depth + first + len(part)) // BLOCK_TOKENS)
                last = first + len(part) == tokens
                self.model.step(batch_of([part], [depth + first], [blocks[:covered]], last=last))
            seconds.append(time.perf_counter() - started)
        limit = max(before, self.probe.multiply_adds_per_second())
        speed = tokens / median(seconds)
        share = speed * self.cost.multiply_adds / limit
        return self._row("prefill", tokens, depth, 1, speed, share, int8_tmac_per_s=limit / 1e12)

    def decode(self, sequences: int, depth: int, steps: int) -> dict[str, Any]:
        """`steps` tokens for each of `sequences` that share a context of `depth` tokens and then differ."""
        depth = self.fill(depth)
        tail = -(-(steps + WARM_UP) // BLOCK_TOKENS)
        shared = list(range(depth // BLOCK_TOKENS))
        own = list(self._own(sequences * tail))
        tokens = self.tokens[: sequences * (steps + WARM_UP)].reshape(sequences, -1)
        before = self.probe.read_bytes_per_second()
        seconds = []
        for step in range(steps + WARM_UP):
            blocks = [[*shared, *own[i * tail : i * tail + step // BLOCK_TOKENS + 1]] for i in range(sequences)]
            batch = batch_of(list(tokens[:, step : step + 1]), [depth + step] * sequences, blocks, last=True)
            started = time.perf_counter()
            self.model.step(batch)
            seconds.append(time.perf_counter() - started)
        limit = max(before, self.probe.read_bytes_per_second())
        speed = sequences / median(seconds[WARM_UP:])
        share = self.cost.step_bytes(sequences, depth, self.kv) * speed / sequences / limit
        return self._row("decode", steps, depth, sequences, speed, share, read_gb_per_s=limit / 1e9)

    def _own(self, count: int) -> range:
        """Blocks behind those of the common context."""
        return range(self.deepest, self.deepest + count)

    def _row(
        self, kind: str, tokens: int, depth: int, sequences: int, speed: float, share: float, **limit: float
    ) -> dict[str, Any]:
        return {
            "kind": kind,
            "tokens": tokens,
            "depth": depth,
            "sequences": sequences,
            "threads": self.threads,
            "kv": self.kv,
            "tokens_per_s": round(speed, 3),
            "share_of_limit": round(share, 4),
            **{name: round(value, 4) for name, value in limit.items()},
            "peak_memory_bytes": machine.peak_memory_bytes(),
        }


def batch_of(tokens: Sequence[Any], positions: Sequence[int], blocks: Sequence[Sequence[int]], *, last: bool) -> Batch:
    """A greedy batch of bare token arrays; `last` asks for the logits of each sequence's last token."""
    starts = np.cumsum([0, *map(len, tokens)]).astype(np.int32)
    rows = starts[1:] - 1 if last else starts[:0]
    count = len(rows)
    zeros, ones = np.zeros(count, np.float32), np.ones(count, np.float32)
    none, no_starts = np.zeros(0, np.int32), np.zeros(count + 1, np.int32)
    return Batch(
        tokens=np.concatenate(list(tokens)).astype(np.int32),
        starts=starts,
        positions=np.array(positions, np.int32),
        blocks=np.concatenate([np.asarray(each, np.int32) for each in blocks]),
        block_starts=np.cumsum([0, *map(len, blocks)]).astype(np.int32),
        slots=np.full(len(positions), -1, np.int32),
        rewinds=np.zeros(len(positions), np.int32),
        rows=rows.astype(np.int32),
        temperature=zeros,
        top_k=np.zeros(count, np.int32),
        top_p=ones,
        min_p=zeros,
        repeat_penalty=ones,
        presence_penalty=zeros,
        frequency_penalty=zeros,
        seed=np.zeros(count, np.uint64),
        history=none,
        history_starts=no_starts,
        bias_ids=none,
        bias_values=np.zeros(0, np.float32),
        bias_starts=no_starts,
        mask=np.zeros((0, 0), np.uint32),
        mask_rows=np.full(count, -1, np.int32),
        targets=np.full(count, -1, np.int32),
        top_logprobs=np.full(count, -1, np.int32),
        experts=False,
    )


def rows(path: str | Path, asked: Asked, say: Say = lambda _: None) -> Iterator[dict[str, Any]]:
    """Measures everything that is asked, a row at a time; `say` hears what comes next."""
    source = opening.read(path)
    asked = asked.checked(source.backbone.max_position_embeddings)
    if asked.start:
        say("start, packed")
        in_panels(source.path, source.weights)  # made at the first start only: that is not what is timed
        yield start(source.path)
    for threads, kv in product(asked.threads or (machine.usable_threads(),), asked.kv):
        bench = Bench(source, asked, threads, kv)
        for depth in sorted(asked.depth):
            for tokens in asked.prefill:
                say(f"prefill of {tokens} at {depth}, {threads} threads, {bench.kv}")
                yield bench.prefill(tokens, depth)
            for sequences in asked.sequences:
                say(f"decoding {sequences} at {depth}, {threads} threads, {bench.kv}")
                yield bench.decode(sequences, depth, asked.decode_steps)


def start(path: Path) -> dict[str, Any]:
    """A new process to its first token, its end included: the second of two, which finds the file in memory."""
    command = "import sys; from headrace.cli import main; main(sys.argv[1:])"
    for _ in range(2):
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", command, "run", str(path), "Hello", "--num-predict", "1"],
            check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    return {"kind": "start", "tokens": 1, "seconds": round(time.perf_counter() - started, 3)}


def limits(threads: int) -> dict[str, Any]:
    """What the machine is, and what it gives to so many threads right now."""
    isa = chosen_isa()
    core = load_core()
    probe = core.Probe(threads, isa)
    return {
        "read_gb_per_s": round(probe.read_bytes_per_second() / 1e9, 2),
        "int8_tmac_per_s": round(probe.multiply_adds_per_second() / 1e12, 4),
        "threads": threads,
        "instruction_set": isa or core.isas()[0],
        "memory_bytes": machine.memory_bytes(),
    }
