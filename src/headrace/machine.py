"""What this machine gives to this process."""

from __future__ import annotations

import os
import resource
import sys
from math import ceil
from pathlib import Path

CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")
CGROUP_MEMORY = Path("/sys/fs/cgroup/memory.max")
MEMINFO = Path("/proc/meminfo")


def usable_threads(quota: Path = CGROUP_QUOTA) -> int:
    """Processors that this process may keep busy: its affinity mask, cut to the quota of its cgroup (version 2)."""
    affinity = getattr(os, "sched_getaffinity", None)
    allowed = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        share, period = quota.read_text().split()
        return max(1, min(allowed, ceil(int(share) / int(period))))
    except (OSError, ValueError):  # no cgroup, or "max": no quota
        return allowed


def memory_bytes(meminfo: Path = MEMINFO, limit: Path = CGROUP_MEMORY) -> int | None:
    """The memory of the machine, cut to the limit of this process's cgroup (version 2); None where it is not known."""
    found = [size for size in (_total_memory(meminfo), _cgroup_limit(limit)) if size is not None]
    return min(found, default=None)


def _total_memory(meminfo: Path) -> int | None:
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        return int(lines["MemTotal"].split()[0]) * 1024
    except (OSError, ValueError, KeyError):
        return _physical_pages() if meminfo == MEMINFO else None


def _physical_pages() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def _cgroup_limit(limit: Path) -> int | None:
    try:
        return int(limit.read_text())
    except (OSError, ValueError):  # no cgroup, or "max": no limit
        return None


def peak_memory_bytes() -> int:
    """The most memory that this process has had resident so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
