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

from platformdirs import user_cache_dir, user_data_dir

ROOT = Path("/")
NO_LIMIT = 1 << 62  # and above: how cgroups of version 1 say so
MOST_PROCESSORS = 4096  # that a list is read up to


def usable_threads(root: Path = ROOT, cpus: set[int] | None = None) -> int:
    """Processors that this process may keep busy: cores of its affinity mask, cut to the quota of its cgroups.

    Two hardware threads of one core count once: they share its multipliers and its way to memory, which one thread of
    ours keeps busy.
    """
    cores, quota = count_cores(root, cpus), quota_processors(root)
    return max(1, cores if quota is None else min(cores, ceil(quota)))


def count_cores(root: Path = ROOT, cpus: set[int] | None = None) -> int:
    """Of these processors; by default those of the affinity mask."""
    siblings = "topology/thread_siblings_list"
    cpus = allowed_processors() if cpus is None else cpus
    return len({_read(root / f"sys/devices/system/cpu/cpu{cpu}" / siblings) or str(cpu) for cpu in cpus})


def allowed_processors() -> set[int]:
    """Those of this process's affinity mask."""
    affinity = getattr(os, "sched_getaffinity", None)
    return affinity(0) if affinity else set(range(os.cpu_count() or 1))


def all_processors(root: Path = ROOT) -> set[int]:
    """Those of the machine that are switched on, which it lists as "0-3,8"; the allowed ones where it does not."""
    found = set[int]()
    for part in _read(root / "sys/devices/system/cpu/online").split(","):
        first, _, last = part.partition("-")
        if first.isdecimal() and (last or first).isdecimal():
            found.update(range(int(first), min(int(last or first), MOST_PROCESSORS) + 1))
    return found or allowed_processors()


def quota_processors(root: Path = ROOT) -> float | None:
    """Processors' worth of time that the cgroups of this process leave it; None where none of them has a limit."""
    return min(_quotas(root), default=None)


def processor(root: Path = ROOT) -> tuple[str, frozenset[str]]:
    """What the first processor is called, and its features as the kernel names them; both may be empty."""
    fields = dict[str, str]()
    for line in _read(root / "proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    features = fields.get("flags") or fields.get("Features") or ""
    return fields.get("model name", ""), frozenset(features.split())


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
    known = [size for size in (total_memory_bytes(root), memory_limit_bytes(root)) if size is not None]
    return min(known, default=None)


def memory_limit_bytes(root: Path = ROOT) -> int | None:
    """What the cgroups of this process let it have; None where none of them has a limit."""
    limits = [*_cgroup_settings(root, "", "memory.max"), *_cgroup_settings(root, "memory", "memory.limit_in_bytes")]
    found = [int(text) for text in limits if text.isdigit()]  # "max" is none
    return min((size for size in found if size < NO_LIMIT), default=None)


def swap_bytes(root: Path = ROOT) -> tuple[int, int]:
    """Room for what is pushed out of memory, and how much of it is in use."""
    total = _of_meminfo(root, "SwapTotal") or 0
    return total, max(0, total - (_of_meminfo(root, "SwapFree") or 0))


def available_memory_bytes(root: Path = ROOT) -> int | None:
    """The memory that this process can come to without pushing anybody out: what the machine has available, cut to what
    the limits of its cgroups leave. All of `memory_bytes` where the machine does not say; None where neither is known.

    Cached files count as available, as the kernel counts them: it drops them when the memory is asked for.
    """
    left = [*_left_in_cgroups(root, "", "memory.max", "memory.current")]
    left += _left_in_cgroups(root, "memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
    available = _of_meminfo(root, "MemAvailable")
    everything = memory_bytes(root) if available is None else available
    return min([*left, *([] if everything is None else [everything])], default=None)


def _left_in_cgroups(root: Path, controller: str, limit: str, usage: str) -> Iterator[int]:
    """Bytes that may still be allocated, for each cgroup above this process that has a limit."""
    for folder in _cgroups(root, controller):
        most, used = _read(folder / limit), _read(folder / usage)
        if most.isdigit() and used.isdigit():
            yield max(0, int(most) - int(used) + _cached_files(_read(folder / "memory.stat")))


def _cached_files(stat: str) -> int:
    """Of a cgroup and those below it: version 1 calls these sums total_, and version 2 knows no others."""
    pairs = (line.partition(" ") for line in stat.splitlines())
    found = {name: int(text) for name, _, text in pairs if text.isdigit()}
    prefix = "total_" if "total_inactive_file" in found else ""
    return sum(found.get(f"{prefix}{kind}_file", 0) for kind in ("inactive", "active"))


def _cgroup_settings(root: Path, controller: str, name: str) -> Iterator[str]:
    """What a setting says, for each cgroup that has it."""
    yield from filter(None, (_read(folder / name) for folder in _cgroups(root, controller)))


def _cgroups(root: Path, controller: str) -> Iterator[Path]:
    """The cgroups from this process's own up to the top; of version 2 if `controller` is ""."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller not in controllers.split(","):
            continue
        mounted = root / "sys/fs/cgroup" / controllers
        own = mounted / path.lstrip("/")
        for folder in (own, *own.parents):  # in a container the path may be the host's, and only the top be there
            yield folder
            if folder == mounted:
                break


def total_memory_bytes(root: Path = ROOT) -> int | None:
    """Of the machine, whoever may use it; None where it is not known."""
    if (total := _of_meminfo(root, "MemTotal")) is not None:
        return total
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if root == ROOT else None
    except (OSError, ValueError):
        return None


def _of_meminfo(root: Path, wanted: str) -> int | None:
    return _of_lines(root / "proc/meminfo", wanted)


def _of_lines(file: Path, wanted: str) -> int | None:
    """Bytes, of a file with lines as "MemTotal:    1024 kB"."""
    for line in _read(file).splitlines():
        name, _, rest = line.partition(":")
        if name == wanted and rest.split()[:1] and rest.split()[0].isdigit():
            return int(rest.split()[0]) * 1024
    return None


def _read(path: Path) -> str:
    """Its text, or nothing where there is none."""
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def peak_memory_bytes(root: Path = ROOT) -> int:
    """The most memory that this process has had resident so far.

    Linux's getrusage counts what its parent had before this program began, so there its status file is read.
    """
    if (peak := _of_lines(root / "proc/self/status", "VmHWM")) is not None:
        return peak
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def cache_folder() -> Path:
    """Where files lie that were made once and are kept for later: HEADRACE_CACHE, or the user's cache."""
    return Path(os.environ.get("HEADRACE_CACHE") or user_cache_dir("headrace"))


def home_folder() -> Path:
    """Where models and all that belongs to them are kept: HEADRACE_HOME, or the user's data."""
    return Path(os.environ.get("HEADRACE_HOME") or user_data_dir("headrace"))


def format_bytes(size_bytes: int) -> str:
    """As it stands in a sentence: "4.7 GB", "0.73 MB"."""
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.2f} MB"
