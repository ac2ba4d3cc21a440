"""What this machine gives to this process.

Linux tells it in files, which tests replace: `root` is where its file system begins.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator
from math import ceil
from pathlib import Path

ROOT = Path("/")


def usable_threads(root: Path = ROOT, cpus: set[int] | None = None) -> int:
    """Processors that this process may keep busy: cores of its affinity mask, cut to the quota of its cgroups.

    Two hardware threads of one core count once: they share its multipliers and its way to memory, which one thread of
    ours keeps busy.
    """
    if cpus is None:
        affinity = getattr(os, "sched_getaffinity", None)
        cpus = affinity(0) if affinity else set(range(os.cpu_count() or 1))
    cores = {_read(root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") or str(cpu) for cpu in cpus}
    return max(1, min([len(cores), *map(ceil, _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """Processors' worth of time, for each cgroup above this process that has a limit."""
    for text in _cgroup_settings(root, "", "cpu.max"):  # version 2: "200000 100000", or "max 100000"
        share, _, period = text.partition(" ")
        if share.isdigit() and period.isdigit() and int(period):
            yield int(share) / int(period)
    quotas = _cgroup_settings(root, "cpu", "cpu.cfs_quota_us")  # version 1: -1 is no limit
    for share, period in zip(quotas, _cgroup_settings(root, "cpu", "cpu.cfs_period_us"), strict=False):
        if share.isdigit() and period.isdigit() and int(period):
            yield int(share) / int(period)


def memory_bytes(root: Path = ROOT) -> int | None:
    """The memory of the machine, cut to the limits of this process's cgroups; None where it is not known."""
    limits = [*_cgroup_settings(root, "", "memory.max"), *_cgroup_settings(root, "memory", "memory.limit_in_bytes")]
    found = [int(text) for text in limits if text.isdigit()]  # "max" is no limit
    total = _total_memory(root)
    return min([*found, *([] if total is None else [total])], default=None)


def _cgroup_settings(root: Path, controller: str, name: str) -> Iterator[str]:
    """What a setting says in each cgroup from this process's own up to the top; of version 2 if `controller` is ""."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller not in controllers.split(","):
            continue
        mounted = root / "sys/fs/cgroup" / controllers
        own = mounted / path.lstrip("/")
        for folder in (own, *own.parents):  # in a container the path may be the host's, and only the top be there
            if text := _read(folder / name):
                yield text
            if folder == mounted:
                break


def _total_memory(root: Path) -> int | None:
    for line in _read(root / "proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        if name == "MemTotal" and rest.split()[:1] and rest.split()[0].isdigit():
            return int(rest.split()[0]) * 1024
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if root == ROOT else None
    except (OSError, ValueError):
        return None


def _read(path: Path) -> str:
    """Its text, or nothing where there is none."""
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def peak_memory_bytes() -> int:
    """The most memory that this process has had resident so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
