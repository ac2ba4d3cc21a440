"""Training: dialogues made as they are needed, saved every few minutes, resumed to the same losses.

Several processes of one thread each share the cores better than one process of several threads, above all while others
use them too: each makes its own batch, and the gradients are averaged.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812 (its common name)
from tokenizers import Tokenizer
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from recipes.nano import dialogues
from recipes.nano.export import read_back
from recipes.nano.gates import exactness
from recipes.nano.journal import Journal
from recipes.nano.model import Batch, Config, Nano, compile_steps, fused, initialise, pick, up_to
from recipes.nano.tokenizer import PAD, SPECIAL, encode, load, pieces_of
from recipes.nano.values import Values


@dataclass(frozen=True, slots=True)
class Schedule:
    """`rate` falls linearly from `hold` of the steps on, to a hundredth.

    Until then nothing depends on how many steps there will be, so a run can be made longer from there.
    """

    steps: int
    rate: float = 1.2e-3
    warmup: int = 100
    hold: float = 0.65

    @property
    def falls_from(self) -> int:
        return round(self.steps * self.hold)

    def at(self, step: int) -> float:
        rising = min(1.0, (step + 1) / self.warmup)
        falling = min(1.0, (self.steps - step) / (self.steps - self.falls_from))
        return self.rate * rising * max(0.01, falling)


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids of a dialogue and, for each, whether the model says it."""

    ids: list[int]
    said: list[bool]


def example(tokenizer: Tokenizer, parts: list[dialogues.Segment]) -> Example:
    """Special tokens stand at each segment's edge, so that segments may be encoded one by one."""
    ids: list[int] = []
    said: list[bool] = []
    for text, is_said in parts:
        piece = encode(tokenizer, text)
        ids += piece
        said += [is_said] * len(piece)
    return Example(ids, said)


POOL = 24  # prefixes whose dialogues are made together
PER_PREFIX = 40
POOL_STEPS = 48  # of a pool's steps this many are taken, so that all processes change pools together
BUDGET = 2560  # dialogue tokens of a step, padding included
DRILLS = 0.06  # batches of pure copying beside those of dialogues
CONTEXT_SHARE = 0.1  # of the tokens that others say, also predicted


def _of_one_prefix(tokenizer: Tokenizer, rng: random.Random, values: Values) -> Iterator[tuple[Batch, Tensor]]:
    prefix = dialogues.prefix(rng)
    ids = encode(tokenizer, prefix.text())
    examples = [
        example(tokenizer, dialogues.segments(dialogues.dialogue(rng, prefix, values))) for _ in range(PER_PREFIX)
    ]
    examples.sort(key=lambda one: len(one.ids))
    while examples:
        length = -(-len(examples[-1].ids) // 16) * 16
        examples, taken = examples[: -max(1, BUDGET // length)], examples[-max(1, BUDGET // length) :]
        yield _batch(rng, ids, taken, length)


def _batch(rng: random.Random, prefix: list[int], examples: list[Example], length: int) -> tuple[Batch, Tensor]:
    tokens = torch.full((len(examples), length), PAD)
    targets = torch.full((len(examples), length), -100)
    for row, one in enumerate(examples):
        tokens[row, : len(one.ids)] = torch.tensor(one.ids)
        wanted = [
            token if said or rng.random() < CONTEXT_SHARE else -100
            for token, said in zip(one.ids, one.said, strict=True)
        ]
        targets[row, : len(one.ids) - 1] = torch.tensor(wanted[1:])
    gap = rng.randrange(1200) if rng.random() < 0.15 else 0
    return Batch(torch.tensor(prefix), tokens, gap), targets.flatten()


def _drill(rng: random.Random, vocab_size: int) -> tuple[Batch, Tensor]:
    """Copying for its own sake: random tokens, then pieces of them again, so that unseen things are copied too."""
    prefix = [rng.randrange(len(SPECIAL), vocab_size) for _ in range(rng.randrange(150, 400))]
    rows, wanted = [], []
    for _ in range(16):
        row: list[int] = []
        target: list[int] = []
        while len(row) < 96:
            start, length = rng.randrange(len(prefix) - 12), rng.randrange(3, 12)
            row += prefix[start : start + length]
            target += [-100, *prefix[start + 2 : start + length], -100]
        rows.append(row[:96])
        wanted.append(target[:96])
    return Batch(torch.tensor(prefix), torch.tensor(rows)), torch.tensor(wanted).flatten()


def loss_of(model: Nano, batch: Batch, targets: Tensor, dtype: torch.dtype) -> Tensor:
    """`targets` [N * L] are what follows each token, or negative where that is not to be learnt."""
    hidden, targets = model(batch, dtype), targets[batch.real]
    wanted = (targets >= 0).nonzero()[:, 0]
    filling = up_to(len(wanted), ROWS) - len(wanted)
    rows = F.pad(pick(hidden, wanted), (0, 0, 0, filling))
    aims = F.pad(targets[wanted], (0, filling), value=-100)
    return cross_entropy(rows, model.embedding.table(), aims) / len(wanted)


ROWS = 128


def cross_entropy(rows: Tensor, table: Tensor, targets: Tensor) -> Tensor:
    """Summed over rows [R, hidden] against a table [vocabulary, hidden], targets [R] below 0 left out.

    The gradient is made beside the loss, `ROWS` at a time, while the logits are still in the cache.
    """
    total: Tensor = _CrossEntropy.apply(rows, table, targets)
    return total


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, table: Tensor, targets: Tensor) -> Tensor:
        weight = table.to(rows.dtype)
        gradient, losses = rows.new_empty(len(rows), len(weight)), []
        for start in range(0, len(rows), ROWS):
            logits, target = F.linear(rows[start : start + ROWS], weight), targets[start : start + ROWS, None]
            counted, target = target >= 0, target.clamp(min=0)
            total, part = _softmax(logits, counted)
            losses.append(((total - logits.gather(1, target).float()) * counted).sum())
            part.scatter_add_(1, target, -counted.to(part.dtype))
            gradient[start : start + ROWS] = part
        ctx.save_for_backward(rows, weight, gradient)
        return torch.stack(losses).sum()

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, Tensor, None]:
        rows, weight, gradient = ctx.saved_tensors
        return (gradient @ weight) * scale.to(rows.dtype), (gradient.T @ rows).to(scale.dtype) * scale, None


@fused
def _softmax(logits: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    """The logarithm of the exponentials' sum [R, 1], and the softmax in the logits' type, 0 in rows not counted."""
    precise = logits.float()
    high = precise.amax(-1, keepdim=True)
    exponentials = (precise - high).exp()
    total = exponentials.sum(-1, keepdim=True)
    return total.log() + high, (exponentials * (counted / total)).to(logits.dtype)


class Trainer:
    """Model, optimiser, running average of the weights, and where in the data it stands."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        config: Config,
        schedule: Schedule,
        seed: int,
        workers: int = 1,
        rank: int = 0,
        device: str = "cpu",
    ) -> None:
        self.tokenizer, self.schedule, self.seed = tokenizer, schedule, seed
        self.workers, self.rank, self.device = workers, rank, device
        self.model = Nano(config)
        initialise(self.model, seed, pieces_of(tokenizer))
        self.model.to(device)
        self.average = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.optimiser = torch.optim.AdamW(self._groups(), lr=schedule.rate, betas=(0.9, 0.95), fused=True)
        self.step = self.tokens = self.pool = self.in_pool = 0

    def _groups(self) -> list[dict[str, Any]]:
        embedding = list(self.model.embedding.parameters())
        rest = [p for name, p in self.model.named_parameters() if not name.startswith("embedding.")]
        # Norm weights are few and each moves a whole channel: the matrices' rate upsets them. A word's vector is eight
        # times larger than a row of a matrix, and most steps do not see it; six times the rate was too much for it.
        return [
            {"params": [p for p in rest if p.dim() > 1], "weight_decay": 0.05, "share": 1.0},
            {"params": [p for p in rest if p.dim() == 1], "weight_decay": 0.0, "share": 0.15},
            {"params": embedding, "weight_decay": 0.0, "share": 2.0},
        ]

    def run(self, folder: Path, save_every: float = 180.0, gates_every: int = 500) -> None:
        """Trains to the end of the schedule; the first process keeps the log, the gates and the saved state."""
        journal = Journal(folder, self.tokens, self.schedule.steps) if not self.rank else None
        saved = time.monotonic()
        data = self.data()
        parent = os.getppid()
        while self.step < self.schedule.steps and os.getppid() == parent:  # nobody trains on for a command that ended
            loss = self.update(*next(data))
            if journal is None:
                continue
            journal.note(self.step, self.tokens, loss, self.schedule.at(self.step))
            if self.step % gates_every == 0 or self.step == self.schedule.steps:
                journal.gates(self.step, exactness(self.averaged(), self.tokenizer))
            if self.step == self.schedule.falls_from:
                self.save(folder / "before-decay.pt")
            if time.monotonic() - saved > save_every:
                self.save(folder / "state.pt")
                saved = time.monotonic()
        if journal is not None:
            self.save(folder / "state.pt")

    def averaged(self) -> Nano:
        """The model with the averaged weights, which are those that ship."""
        model = Nano(self.model.config).to(self.device)
        model.load_state_dict(self.average)
        return model

    def data(self) -> Iterator[tuple[Batch, Tensor]]:
        """This process's batches from the place where the trainer stands; pools go round the processes."""
        while True:
            made = _pool(self.tokenizer, self.seed, self.pool * self.workers + self.rank, self.workers)
            while self.in_pool < POOL_STEPS:
                self.in_pool += 1
                yield made[(self.in_pool - 1) % len(made)]
            self.pool, self.in_pool = self.pool + 1, 0

    def update(self, batch: Batch, targets: Tensor) -> float:
        for group in self.optimiser.param_groups:
            group["lr"] = group["share"] * self.schedule.at(self.step)
        batch = batch.to(self.device)
        own = loss_of(self.model, batch, targets.to(self.device), torch.bfloat16)
        torch.autograd.backward(own)
        loss, tokens = self._share(float(own.detach()), len(batch.prefix) + len(batch.real))
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        for experts in self.model.experts():
            experts.balance(1e-3)
        self.step += 1
        self.tokens += tokens
        self._average()
        return loss

    def _share(self, loss: float, tokens: int) -> tuple[float, int]:
        """Mean gradients and loss, summed expert loads and tokens over all processes."""
        if self.workers == 1:
            return loss, tokens
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        loads = [experts.load for experts in self.model.experts()]
        flat = torch.cat([*(g.flatten() for g in gradients), *loads, torch.tensor([loss, float(tokens)])])
        dist.all_reduce(flat)
        parts = torch.split(flat, [*(g.numel() for g in gradients), *(counted.numel() for counted in loads), 1, 1])
        for gradient, part in zip(gradients, parts, strict=False):
            gradient.copy_(part.view_as(gradient)).div_(self.workers)
        for counted, part in zip(loads, parts[len(gradients) :], strict=False):
            counted.copy_(part)
        return float(parts[-2]) / self.workers, int(parts[-1])

    @torch.no_grad()
    def _average(self) -> None:
        """Weights of the last few hundred steps; young runs forget their start sooner."""
        keep = min(0.997, self.step / (self.step + 20))
        for name, value in self.model.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - keep)

    def save(self, path: Path) -> None:
        state = {"model": self.model.state_dict(), "average": self.average, "optimiser": self.optimiser.state_dict()}
        place = {"step": self.step, "tokens": self.tokens, "pool": self.pool, "in_pool": self.in_pool}
        torch.save({**state, "place": place}, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def begin_with(self, path: Path) -> None:
        """Takes the weights of another run's state, or of the file that it exported, and nothing else."""
        if path.suffix == ".gguf":
            weights = read_back(path, self.model)
        else:
            weights = torch.load(path, map_location=self.device)["model"]
        self.model.load_state_dict(weights)
        self.average = {name: value.clone() for name, value in self.model.state_dict().items()}

    def resume(self, path: Path) -> None:
        state = torch.load(path, map_location=self.device)
        self.model.load_state_dict(state["model"])
        self.average = state["average"]
        self.optimiser.load_state_dict(state["optimiser"])
        for name, value in state["place"].items():
            setattr(self, name, value)


def _pool(tokenizer: Tokenizer, seed: int, number: int, workers: int) -> list[tuple[Batch, Tensor]]:
    """The steps of one pool, which follow from (seed, number, workers) alone.

    Their order is one of sizes, the same for the pools that workers take together: who has less waits for the others.
    """
    rng = random.Random(f"{seed}/{number}")
    values = Values(rng)
    made = [made for _ in range(POOL) for made in _of_one_prefix(tokenizer, rng, values)]
    made += [_drill(rng, tokenizer.get_vocab_size()) for _ in range(round(DRILLS * len(made)))]
    made = rng.sample(made, POOL_STEPS) if len(made) > POOL_STEPS else made
    made.sort(key=lambda one: one[0].dialogues.numel() + len(one[0].prefix))
    random.Random(f"{seed}/{number // workers}").shuffle(made)
    return made


def train(
    rank: int,
    folder: Path,
    config: Config,
    schedule: Schedule,
    seed: int,
    workers: int,
    device: str = "cpu",
    start: Path | None = None,
) -> None:
    """One process of the training; goes on from `folder/state.pt` where there is one, else begins with `start`."""
    compile_steps()
    if device == "cpu":
        torch.set_num_threads(1)
    if workers > 1:
        dist.init_process_group(
            "gloo", init_method=f"file://{(folder / 'meeting').absolute()}", rank=rank, world_size=workers
        )
    trainer = Trainer(load(folder / "tokenizer.json"), config, schedule, seed, workers, rank, device)
    if (folder / "state.pt").exists():
        trainer.resume(folder / "state.pt")
    elif start:
        trainer.begin_with(start)
    trainer.run(folder)


# glibc gives large blocks back to the system after every step, and fetching them anew costs a tenth of the time.
# oneDNN compiles each product for its shape and keeps a thousand of them: too few for all lengths of a batch.
_ENVIRONMENT = {
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16384",
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


def launch(
    folder: Path,
    config: Config,
    schedule: Schedule,
    seed: int,
    workers: int,
    device: str = "cpu",
    start: Path | None = None,
) -> None:
    """Trains in `workers` processes, or in this one on an accelerator."""
    if device != "cpu":
        train(0, folder, config, schedule, seed, 1, device, start)
        return
    (folder / "meeting").unlink(missing_ok=True)
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    spawn(train, (folder, config, schedule, seed, workers, "cpu", start), nprocs=workers)  # type: ignore[no-untyped-call]
