"""What this machine gives to Headrace, what to expect of it, and what is set up wrongly.

What is found out is plain data; what is wrong with it follows from that data alone, so that tests can make it up.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from headrace import expectation, machine
from headrace.bench import Cost, limits
from headrace.engine.core import chosen_isa, load_core
from headrace.errors import HeadraceError
from headrace.expectation import Speed
from headrace.library import family, home
from headrace.library.home import Place
from headrace.machine import ROOT, format_bytes

# What a processor must have for each of the core's instruction sets, as the kernel names it; the best first.
NEEDED: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "avx512vnni": frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni"}),
        "avx2": frozenset({"avx2", "fma", "f16c"}),
    }
)
SCALAR: Final = "scalar"
LONGEST_COUNT: Final = 6  # digits of a number of threads
PROBE_BYTES: Final = 512 << 20  # to measure with, and some to spare
MOST_SWAPPED: Final = 1 / 16  # of the memory: more than what nobody misses
FOREIGN_THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # of other libraries


@dataclass(frozen=True, slots=True)
class Finding:
    """What is the case, and what to do about it, if that is not said yet. One that is not `wrong` costs nothing."""

    what: str
    remedy: str = ""
    wrong: bool = True


@dataclass(frozen=True, slots=True)
class Processors:
    """`threads` is how many run at the same time; `quota` the processors' worth of time that cgroups leave."""

    name: str
    architecture: str
    cores: int
    allowed_cores: int
    quota: float | None
    usable_threads: int
    threads: int

    @classmethod
    def here(cls, root: Path = ROOT, environment: Mapping[str, str] = os.environ) -> Processors:
        usable, said = machine.usable_threads(root), environment.get("HEADRACE_THREADS", "")[:LONGEST_COUNT]
        return cls(
            name=machine.processor(root)[0] or platform.processor(),
            architecture=platform.machine(),
            cores=machine.count_cores(root, machine.all_processors(root)),
            allowed_cores=machine.count_cores(root),
            quota=machine.quota_processors(root),
            usable_threads=usable,
            threads=int(said) if said.isdecimal() and int(said) else usable,
        )

    def findings(self) -> Iterator[Finding]:
        if self.allowed_cores < self.cores:
            yield Finding(
                f"this process may run on {self.allowed_cores} of {self.cores} cores",
                "start it without taskset, or in a container with a larger cpuset, unless that is meant",
            )
        if self.quota is not None and ceil(self.quota) < self.allowed_cores:
            yield Finding(
                f"a cgroup gives this process the time of {self.quota:g} of {self.allowed_cores} cores",
                "raise the quota (docker run --cpus, CPUQuota= of systemd), unless that is meant",
            )
        if self.threads != self.usable_threads:
            why = "so others wait for nothing" if self.threads < self.usable_threads else "so they wait for each other"
            yield Finding(
                f"HEADRACE_THREADS is {self.threads}, and {self.usable_threads} would be right here: {why}",
                "unset it, unless that is meant",
            )


@dataclass(frozen=True, slots=True)
class Kernels:
    """The instruction sets of the core that run here, best first, and the one that is used; none where it does not
    load. `possible` are those that the processor has."""

    usable: tuple[str, ...]
    used: str | None
    possible: tuple[str, ...]
    problem: str | None = None

    @classmethod
    def here(cls, root: Path = ROOT) -> Kernels:
        features = machine.processor(root)[1]
        possible = tuple(name for name, needed in NEEDED.items() if needed <= features)
        usable: tuple[str, ...] = ()
        try:
            usable = tuple(load_core().isas())
            return cls(usable, chosen_isa() or usable[0], possible)
        except HeadraceError as error:
            return cls(usable, None, possible, str(error))

    def findings(self) -> Iterator[Finding]:
        if self.problem:
            yield Finding(self.problem, "unset it" if self.usable else "")
            return
        missing = [name for name in self.possible if name not in self.usable]
        if missing and self.possible[0] == missing[0]:
            yield Finding(
                f"the processor has {missing[0]}, and the native core was built without it",
                "build it anew on this machine: `pip install --force-reinstall .` in the project",
            )
        elif self.usable == (SCALAR,):
            yield Finding(
                "the native core has no fast kernels for this processor, only portable ones, many times slower",
                "take a machine with AVX2 or AVX-512 VNNI where speed matters",
            )
        if self.used != self.usable[0]:
            yield Finding(
                f"HEADRACE_ISA is {self.used}, and {self.usable[0]} would be faster", "unset it, unless that is meant"
            )


@dataclass(frozen=True, slots=True)
class Memory:
    """None is what is not known, or no limit. `usable_bytes` is what a model may count on."""

    total_bytes: int | None
    limit_bytes: int | None
    usable_bytes: int | None
    available_bytes: int | None
    swap_bytes: int
    swap_used_bytes: int

    @classmethod
    def here(cls, root: Path = ROOT) -> Memory:
        return cls(
            machine.total_memory_bytes(root),
            machine.memory_limit_bytes(root),
            machine.memory_bytes(root),
            machine.available_memory_bytes(root),
            *machine.swap_bytes(root),
        )

    def findings(self, models: Sequence[Candidate]) -> Iterator[Finding]:
        """`models` are ordered by their size."""
        total, limit, available = self.total_bytes or 0, self.limit_bytes, self.available_bytes
        kept_out = [one for one in models if not self.holds(one.least_bytes) and one.least_bytes <= total]
        fitting = [one for one in models if self.holds(one.least_bytes)]
        if kept_out and limit is not None:
            yield Finding(
                f"a cgroup limits this process to {format_bytes(limit)} of the machine's {format_bytes(total)}, and "
                f"{kept_out[-1].name} needs {format_bytes(kept_out[-1].least_bytes)} of memory",
                "raise the limit (docker run --memory, MemoryMax= of systemd), unless that is meant",
            )
        if self.swap_used_bytes > total * MOST_SWAPPED:
            yield Finding(
                f"{format_bytes(self.swap_used_bytes)} of what should be in memory are swapped out to disk",
                "end other programs, or take a smaller model or window",
            )
        if fitting and available is not None and fitting[-1].least_bytes > available:
            yield Finding(
                f"{format_bytes(available)} of memory are available now, and {fitting[-1].name} needs "
                f"{format_bytes(fitting[-1].least_bytes)}",
                "end other programs before it is run",
                wrong=False,
            )

    def holds(self, size_bytes: int) -> bool:
        return self.usable_bytes is None or size_bytes <= self.usable_bytes


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model of the family. `memory_bytes` is that of weights and a full cache, by the tokens of the window; `speed`
    is what to expect, where the machine was measured."""

    name: str
    size_bytes: int
    memory_bytes: Mapping[int, int]
    speed: Speed | None

    @property
    def least_bytes(self) -> int:
        """Less than that, and it is not loaded."""
        return min(self.memory_bytes.values())

    def window(self, memory: Memory) -> int | None:
        """The largest that fits, of those that are worked out; None where none does."""
        return max((window for window, size in self.memory_bytes.items() if memory.holds(size)), default=None)


def candidates(measured: Mapping[str, Any] | None) -> list[Candidate]:
    """The family, the smallest first; `measured` is what `headrace.bench.limits` says."""
    found = [
        Candidate(str(one.name), one.size_bytes, one.memory_bytes, _speed(one, measured) if measured else None)
        for one in family.available()
    ]
    return sorted(found, key=lambda one: one.size_bytes)


def _speed(model: family.Available, measured: Mapping[str, Any]) -> Speed:
    cost = Cost.of(expectation.shapes_of(model.shape))
    return expectation.speed(cost, measured["read_gb_per_s"] * 1e9, measured["int8_tmac_per_s"] * 1e12)


def disk_findings(places: Sequence[Place], models: Sequence[Candidate], memory: Memory) -> Iterator[Finding]:
    """Of our own folders: whether they can be used, and hold what the memory can, a packed copy included."""
    largest = max((one for one in models if one.window(memory)), key=lambda one: one.size_bytes, default=None)
    for place in places:
        free = place.free_bytes
        if place.problem:
            yield Finding(place.problem, wrong=place.is_ours)
        elif largest and place.is_ours and free is not None and free < largest.size_bytes:
            yield Finding(
                f"{format_bytes(free)} are free for {place.purpose} in {place.path}, and "
                f"{largest.name}, which memory has room for, takes {format_bytes(largest.size_bytes)}",
                f"make room, or set {place.variable} to a folder on a larger disk",
            )


def environment_findings(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Of variables that are other programs'."""
    said = [f"{name}={environment[name]}" for name in FOREIGN_THREADS if environment.get(name)]
    if said and not environment.get("HEADRACE_THREADS"):
        yield Finding(
            f"{' and '.join(said)} does not reach the threads of Headrace", "set HEADRACE_THREADS if it should", False
        )


@dataclass(frozen=True, slots=True)
class Report:
    """Everything. `measured` is None where the core does not load, or memory is too short for it."""

    processors: Processors
    kernels: Kernels
    memory: Memory
    measured: Mapping[str, Any] | None
    places: tuple[Place, ...]
    models: tuple[Candidate, ...]
    findings: tuple[Finding, ...]


def examine(
    root: Path = ROOT,
    environment: Mapping[str, str] = os.environ,
    measure: Callable[[int], Mapping[str, Any]] = limits,
) -> Report:
    """Looks at everything, and measures for a second what the processors and their memory give."""
    processors, kernels, memory = Processors.here(root, environment), Kernels.here(root), Memory.here(root)
    short = memory.available_bytes is not None and memory.available_bytes < PROBE_BYTES
    threads = min(processors.threads, processors.usable_threads)
    measured = None if kernels.problem or short else measure(threads)
    models, places = candidates(measured), home.places()
    findings = (
        *([Finding("there is too little memory available to measure speeds", "end other programs")] if short else ()),
        *processors.findings(),
        *kernels.findings(),
        *memory.findings(models),
        *disk_findings(places, models, memory),
        *environment_findings(environment),
    )
    return Report(processors, kernels, memory, measured, tuple(places), tuple(models), findings)
