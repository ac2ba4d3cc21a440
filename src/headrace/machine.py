"""What this machine gives to this process."""

from __future__ import annotations

import os
import resource
import sys
from math import ceil
from pathlib import Path

CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_threads(quota: Path = CGROUP_QUOTA) -> int:
    """Processors that this process may keep busy: its affinity mask, cut to the quota of its cgroup (version 2)."""
    affinity = getattr(os, "sched_getaffinity", None)
    allowed = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        share, period = quota.read_text().split()
        return max(1, min(allowed, ceil(int(share) / int(period))))
    except (OSError, ValueError):  # no cgroup, or "max": no quota
        return allowed


def peak_memory_bytes() -> int:
    """The most memory that this process has had resident so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
