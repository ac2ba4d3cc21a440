"""How many processors and how much memory this process may use, on machines made of files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from headrace.machine import available_memory_bytes, memory_bytes, peak_memory_bytes, usable_threads

V2 = "0::/user.slice/app\n"
V1 = "3:memory:/box\n2:cpu,cpuacct:/box\n0::/\n"


def machine(root: Path, files: dict[str, str], siblings: list[str] | None = None) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for cpu, names in enumerate(siblings or []):
        path = root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(names + "\n")
    return root


@pytest.mark.parametrize(
    ("files", "threads"),
    [
        ({}, 8),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/user.slice/app/cpu.max": "250000 100000\n"}, 3),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/user.slice/cpu.max": "50000 100000\n"}, 1),
        (
            {
                "proc/self/cgroup": V2,
                "sys/fs/cgroup/user.slice/app/cpu.max": "600000 100000\n",
                "sys/fs/cgroup/user.slice/cpu.max": "400000 100000\n",
            },
            4,
        ),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us": "300000\n",
                "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "100000\n",
            },
            8,
        ),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/cpu.max": "nonsense"}, 8),
    ],
)
def test_threads_are_cut_to_the_quotas_of_all_cgroups(tmp_path: Path, files: dict[str, str], threads: int) -> None:
    assert usable_threads(machine(tmp_path, files), set(range(8))) == threads


def test_threads_are_cores_of_the_affinity_mask(tmp_path: Path) -> None:
    root = machine(tmp_path, {}, ["0,4", "1,5", "2,6", "3,7"] * 2)
    assert usable_threads(root, set(range(8))) == 4
    assert usable_threads(root, {1, 2, 5}) == 2
    assert usable_threads(root, {3}) == 1


def test_memory_is_the_machines_cut_to_the_cgroups(tmp_path: Path) -> None:
    files = {"proc/meminfo": "MemTotal:       24576 kB\nMemFree:        1 kB\n", "proc/self/cgroup": V2}
    assert memory_bytes(machine(tmp_path, files)) == 24 << 20
    limit = tmp_path / "sys/fs/cgroup/user.slice/memory.max"
    for text, expected in (("1048576\n", 1 << 20), ("max\n", 24 << 20), (f"{1 << 62}\n", 24 << 20)):
        machine(tmp_path, {str(limit.relative_to(tmp_path)): text})
        assert memory_bytes(tmp_path) == expected
    limit.write_text("1048576\n")
    (tmp_path / "proc/meminfo").write_text("nothing of use")
    assert memory_bytes(tmp_path) == 1 << 20
    limit.unlink()
    assert memory_bytes(tmp_path) is None
    old = {"proc/self/cgroup": V1, "sys/fs/cgroup/memory/box/memory.limit_in_bytes": "2097152\n"}
    assert memory_bytes(machine(tmp_path, old)) == 2 << 20


def test_available_memory_is_the_machines_cut_to_what_the_cgroups_leave(tmp_path: Path) -> None:
    """Cached files can go: a limit is not used up by them."""
    meminfo = "MemTotal:       24576 kB\nMemFree:        1 kB\nMemAvailable:   16384 kB\n"
    own, above = "sys/fs/cgroup/user.slice/app", "sys/fs/cgroup/user.slice"
    machine(tmp_path, {"proc/meminfo": meminfo, "proc/self/cgroup": V2})
    assert available_memory_bytes(tmp_path) == 16 << 20
    machine(tmp_path, {f"{own}/memory.max": "max\n", f"{own}/memory.current": f"{9 << 20}\n"})
    assert available_memory_bytes(tmp_path) == 16 << 20
    machine(tmp_path, {f"{above}/memory.max": f"{10 << 20}\n", f"{above}/memory.current": f"{9 << 20}\n"})
    assert available_memory_bytes(tmp_path) == 1 << 20
    stat = f"anon {1 << 20}\nfile {7 << 20}\ninactive_file {4 << 20}\nactive_file {2 << 20}\n"
    machine(tmp_path, {f"{above}/memory.stat": stat})
    assert available_memory_bytes(tmp_path) == 7 << 20
    machine(tmp_path, {f"{above}/memory.current": f"{19 << 20}\n"})
    assert available_memory_bytes(tmp_path) == 0


def test_available_memory_of_old_cgroups(tmp_path: Path) -> None:
    box = "sys/fs/cgroup/memory/box/memory"
    files = {"proc/self/cgroup": V1, f"{box}.limit_in_bytes": f"{8 << 20}", f"{box}.usage_in_bytes": f"{6 << 20}"}
    files[f"{box}.stat"] = f"inactive_file {1 << 20}\ntotal_inactive_file {2 << 20}\ntotal_active_file {1 << 20}\n"
    assert available_memory_bytes(machine(tmp_path, files)) == 5 << 20


def test_where_nothing_is_said_of_available_memory_all_is(tmp_path: Path) -> None:
    assert available_memory_bytes(tmp_path) is None
    assert available_memory_bytes(machine(tmp_path, {"proc/meminfo": "MemTotal: 1024 kB\n"})) == 1 << 20


def test_this_machine_has_some() -> None:
    assert usable_threads() >= 1
    assert memory_bytes() is None or memory_bytes() > 1 << 28
    assert available_memory_bytes() is None or 0 < available_memory_bytes() <= memory_bytes()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of Linux's status file")
def test_the_peak_is_this_programs_own(tmp_path: Path) -> None:
    """And not that of whoever started it, which getrusage would count."""
    large = np.ones(200 << 20, np.uint8)
    code = "from headrace.machine import peak_memory_bytes; print(peak_memory_bytes())"
    peak = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert 1 << 20 < peak < large.size < peak_memory_bytes()
    assert peak_memory_bytes(machine(tmp_path, {"proc/self/status": "VmPeak:\t9 kB\nVmHWM:\t  7 kB\n"})) == 7 << 10
