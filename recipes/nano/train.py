"""Training: dialogues made as they are needed, saved every few minutes, resumed to the same losses.

Several processes of one thread each share the cores better than one process of several threads, above all while others
use them too: each makes its own batch, and the gradients are averaged. An accelerator is fed by one process, and the
processor's cores make its dialogues.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tokenizers import Tokenizer
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from recipes.nano import batches, rows
from recipes.nano.export import read_back
from recipes.nano.fused import compile_steps
from recipes.nano.gates import exactness
from recipes.nano.journal import Journal
from recipes.nano.loss import loss_of
from recipes.nano.model import Config, Experts, Nano, Step
from recipes.nano.start import initialise
from recipes.nano.tokenizer import load, pieces_of


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


DROPOUT = 0.05


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
        if self.accelerated:
            self._for_accelerator()
        self.average = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.optimiser = torch.optim.AdamW(self._groups(), lr=schedule.rate, betas=(0.9, 0.95), fused=True)
        self.step = self.tokens = self.pool = self.in_pool = 0

    @property
    def accelerated(self) -> bool:
        return self.device != "cpu"

    def _for_accelerator(self) -> None:
        """Every layer one compiled graph; dropout, for there is time to see each wording many times."""
        torch.set_float32_matmul_precision("high")
        torch.set_num_threads(1)  # the cores make dialogues
        for layer in self.model.blocks():
            layer.dropout = DROPOUT
            if isinstance(layer.feed_forward, Experts):
                layer.feed_forward.dense = True
            layer.compile(dynamic=False, fullgraph=True)

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
        if journal is not None:
            cores = f"{self.workers} processes on a processor"
            journal.begins_on(torch.cuda.get_device_name(self.device) if self.accelerated else cores)
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
        return model.eval()

    def data(self) -> Iterator[tuple[Step, Tensor]]:
        """This process's steps from the place where the trainer stands."""
        if self.accelerated:
            source, makers = batches.Source(self.tokenizer), max(1, (os.cpu_count() or 2) - 3)
            yield from rows.sent(rows.steps(source, self.seed, self.step, self.schedule.steps, makers), self.device)
            return
        while True:  # pools go round the processes
            made = batches.pool(self.tokenizer, self.seed, self.pool * self.workers + self.rank, self.workers)
            while self.in_pool < batches.POOL_STEPS:
                self.in_pool += 1
                yield made[(self.in_pool - 1) % len(made)]
            self.pool, self.in_pool = self.pool + 1, 0

    def update(self, step: Step, targets: Tensor) -> Tensor:
        """The loss before the update, still on the device: nobody waits for it but who reads it."""
        for group in self.optimiser.param_groups:
            group["lr"] = group["share"] * self.schedule.at(self.step)
        step = step.to(self.device)
        own = loss_of(self.model, step, targets.to(self.device, non_blocking=True), torch.bfloat16)
        torch.autograd.backward(own)
        loss, tokens = self._share(own.detach(), step.size)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        for experts in self.model.experts():
            experts.balance(1e-3)
        self.step += 1
        self.tokens += tokens
        self._average()
        return loss

    def _share(self, loss: Tensor, tokens: int) -> tuple[Tensor, int]:
        """Mean gradients and loss, summed expert loads and tokens over all processes."""
        if self.workers == 1:
            return loss, tokens
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        loads = [experts.taken for experts in self.model.experts()]
        counted = torch.tensor([float(loss), float(tokens)])
        flat = torch.cat([*(g.flatten() for g in gradients), *loads, counted])
        dist.all_reduce(flat)
        parts = torch.split(flat, [*(g.numel() for g in gradients), *(load.numel() for load in loads), 1, 1])
        for gradient, part in zip(gradients, parts, strict=False):
            gradient.copy_(part.view_as(gradient)).div_(self.workers)
        for taken, part in zip(loads, parts[len(gradients) :], strict=False):
            taken.copy_(part)
        return parts[-2][0] / self.workers, int(parts[-1])

    @torch.no_grad()
    def _average(self) -> None:
        """Weights of the last few hundred steps; young runs forget their start sooner."""
        keep = min(0.997, self.step / (self.step + 20))
        now = {name: value for name, value in self.model.state_dict().items() if value.is_floating_point()}
        torch._foreach_lerp_([self.average[name] for name in now], list(now.values()), 1 - keep)

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
    if device == "cpu":
        compile_steps()
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


def blend(first: Path, second: Path, share: float, to: Path) -> None:
    """Averaged weights between those of two runs: what one does better and what the other does, each in part.

    The second must have begun with the first's: weights of runs that began apart have nothing between them.
    """
    ours, theirs = (torch.load(path, map_location="cpu") for path in (first, second))
    average = {
        name: torch.lerp(value, theirs["average"][name], share) if value.is_floating_point() else value
        for name, value in ours["average"].items()
    }
    place = {name: value + theirs["place"][name] for name, value in ours["place"].items()}
    torch.save({"model": average, "average": average, "place": place}, to)
