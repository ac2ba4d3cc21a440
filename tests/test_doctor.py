"""What the doctor finds: on machines made of files, in environments made up, and on this one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headrace import doctor, machine
from headrace.bench import Cost
from headrace.doctor import Candidate, Finding, Kernels, Memory, Processors, candidates, examine
from headrace.engine import core
from headrace.errors import CoreMissing
from headrace.expectation import DECODE_SHARE, PREFILL_SHARE, shapes_of, speed
from headrace.library.home import Place
from headrace.shapes import FAMILY, weights_bytes

ROOT = Path(__file__).parents[1]
GB = 10**9
FOUR = Processors("A Chip", "x86_64", cores=4, allowed_cores=4, quota=None, usable_threads=4, threads=4)
FAST = Kernels(("avx512vnni", "avx2", "scalar"), "avx512vnni", ("avx512vnni", "avx2"))
ROOMY = Memory(32 * GB, None, 32 * GB, 30 * GB, 0, 0)
SMALL = Candidate("small", GB, {4096: 2 * GB, 32_768: 3 * GB}, None)
LARGE = Candidate("large", 10 * GB, {4096: 11 * GB, 32_768: 12 * GB}, None)
FLAGS = "fpu avx2 fma f16c avx512f avx512bw avx512vl avx512dq avx512_vnni"
V2 = "0::/app\n"


def made(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def whats(findings: Any) -> list[str]:
    return [finding.what for finding in findings]


# --- processors


def test_a_machine_made_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "allowed_processors", lambda: {0, 1, 4, 5})
    files = {f"sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list": f"{n % 4},{n % 4 + 4}" for n in range(8)}
    files |= {
        "sys/devices/system/cpu/online": "0-3,4,5-7\n",
        "proc/cpuinfo": f"processor\t: 0\nmodel name\t: A Chip\nflags\t\t: {FLAGS}\n\nmodel name\t: Another\n",
        "proc/self/cgroup": V2,
        "sys/fs/cgroup/app/cpu.max": "150000 100000\n",
        "proc/meminfo": "MemTotal: 4096 kB\nMemAvailable: 1024 kB\nSwapTotal: 2048 kB\nSwapFree: 512 kB\n",
        "sys/fs/cgroup/app/memory.max": f"{3 << 20}\n",
    }
    root = made(tmp_path, files)
    found = Processors.here(root, {"HEADRACE_THREADS": "3"})
    assert replace(found, architecture="") == Processors("A Chip", "", 4, 2, 1.5, 2, 3)
    assert Processors.here(root, {"HEADRACE_THREADS": "many"}).threads == 2
    assert Memory.here(root) == Memory(4 << 20, 3 << 20, 3 << 20, 1 << 20, 2 << 20, 1536 << 10)
    assert Kernels.here(root).possible == ("avx512vnni", "avx2")


def test_nothing_is_known_of_a_machine_without_files(tmp_path: Path) -> None:
    assert Memory.here(tmp_path) == Memory(None, None, None, None, 0, 0)
    found = Processors.here(tmp_path, {})
    assert (found.cores, found.quota) == (found.allowed_cores, None)
    assert list(Memory.here(tmp_path).findings([SMALL, LARGE])) == []
    assert list(found.findings()) == []


@pytest.mark.parametrize(("text", "cpus"), [("0", {0}), ("0-2,9", {0, 1, 2, 9}), ("0-99999999999", set(range(4097)))])
def test_lists_of_processors(text: str, cpus: set[int], tmp_path: Path) -> None:
    assert machine.all_processors(made(tmp_path, {"sys/devices/system/cpu/online": text})) == cpus


@pytest.mark.parametrize("text", ["", "x", "1-", "-"])
def test_a_list_that_is_none(text: str, tmp_path: Path) -> None:
    allowed = machine.allowed_processors()
    found = machine.all_processors(made(tmp_path, {"sys/devices/system/cpu/online": text}))
    assert found in (allowed, {1})


@pytest.mark.parametrize(
    ("processors", "what", "remedy"),
    [
        (replace(FOUR, allowed_cores=2, usable_threads=2, threads=2), "may run on 2 of 4 cores", "taskset"),
        (replace(FOUR, quota=1.5, usable_threads=2, threads=2), "the time of 1.5 of 4 cores", "docker run --cpus"),
        (replace(FOUR, threads=1), "HEADRACE_THREADS is 1, and 4 would be right", "unset it"),
        (replace(FOUR, threads=8), "so they wait for each other", "unset it"),
    ],
)
def test_processors_that_are_held_back(processors: Processors, what: str, remedy: str) -> None:
    (finding,) = processors.findings()
    assert what in finding.what
    assert remedy in finding.remedy
    assert finding.wrong


@pytest.mark.parametrize("processors", [FOUR, replace(FOUR, quota=4.0), replace(FOUR, quota=3.5)])
def test_processors_that_are_not(processors: Processors) -> None:
    assert list(processors.findings()) == []


# --- the core


@pytest.mark.parametrize(
    ("kernels", "what"),
    [
        (
            replace(FAST, usable=("avx2", "scalar"), used="avx2"),
            "the processor has avx512vnni, and the native core was",
        ),
        (Kernels(("scalar",), "scalar", ()), "no fast kernels for this processor"),
        (replace(FAST, used="avx2"), "HEADRACE_ISA is avx2, and avx512vnni would be faster"),
        (Kernels((), None, ("avx2",), "the core does not load: build it"), "the core does not load: build it"),
        (replace(FAST, used=None, problem="HEADRACE_ISA is 'x' but"), "HEADRACE_ISA is 'x' but"),
    ],
)
def test_cores_that_are_slower_than_they_could_be(kernels: Kernels, what: str) -> None:
    (finding,) = kernels.findings()
    assert finding.what.startswith(what) or what in finding.what
    assert finding.wrong
    assert list(FAST.findings()) == []
    assert list(Kernels(("avx2", "scalar"), "avx2", ("avx2",)).findings()) == []


def test_the_core_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    usable = core.load_core().isas()
    monkeypatch.delenv("HEADRACE_ISA", raising=False)
    assert Kernels.here().used == usable[0]
    monkeypatch.setenv("HEADRACE_ISA", "scalar")
    assert (Kernels.here().usable, Kernels.here().used) == (tuple(usable), "scalar")
    monkeypatch.setenv("HEADRACE_ISA", "avx9")
    (finding,) = Kernels.here().findings()
    assert (finding.what, finding.remedy) == (
        f"HEADRACE_ISA is 'avx9' but this machine has {', '.join(usable)}",
        "unset it",
    )

    def missing() -> None:
        raise CoreMissing("it is not built: build it")

    monkeypatch.setattr(doctor, "load_core", missing)
    assert list(Kernels.here().findings()) == [Finding("it is not built: build it")]


# --- memory and disk


@pytest.mark.parametrize(
    ("memory", "what", "wrong"),
    [
        (
            replace(ROOMY, limit_bytes=4 * GB, usable_bytes=4 * GB),
            "limits this process to 4.0 GB of the machine's 32",
            1,
        ),
        (
            replace(ROOMY, swap_bytes=8 * GB, swap_used_bytes=3 * GB),
            "3.0 GB of what should be in memory are swapped",
            1,
        ),
        (replace(ROOMY, available_bytes=5 * GB), "5.0 GB of memory are available now, and large needs 11.0 GB", 0),
    ],
)
def test_memory_that_is_short(memory: Memory, what: str, wrong: int) -> None:
    (finding,) = memory.findings([SMALL, LARGE])
    assert what in finding.what
    assert finding.remedy
    assert finding.wrong == bool(wrong)


@pytest.mark.parametrize(
    "memory",
    [
        ROOMY,
        replace(ROOMY, limit_bytes=12 * GB, usable_bytes=12 * GB),
        Memory(8 * GB, 4 * GB, 4 * GB, 4 * GB, 0, 0),  # no machine of that size has room for the large one
        replace(ROOMY, swap_bytes=8 * GB, swap_used_bytes=GB),
    ],
)
def test_memory_that_is_not(memory: Memory) -> None:
    assert list(memory.findings([SMALL, LARGE])) == []


@pytest.mark.parametrize(("usable", "window"), [(GB, None), (11 * GB, 4096), (12 * GB, 32_768), (None, 32_768)])
def test_the_window_that_fits(usable: int | None, window: int | None) -> None:
    assert LARGE.window(replace(ROOMY, usable_bytes=usable)) == window


def test_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    good = Place("models", tmp_path / "home" / "models", "default")
    packed = Place("packed weights", tmp_path / "cache", "default")
    blocked = Place("models", tmp_path / "file" / "models", "HEADRACE_HOME")
    foreign = Place("Ollama's models", tmp_path / "file", "default", is_ours=False)

    def found(*places: Place, models: Sequence[Candidate] = (SMALL, LARGE), memory: Memory = ROOMY) -> list[Finding]:
        return list(doctor.disk_findings(places, models, memory))

    monkeypatch.setattr(Place, "free_bytes", 11 * GB)
    assert found(good, packed) == []
    (finding,) = found(blocked)
    assert "is in the way" in finding.what
    assert [finding.wrong for finding in found(foreign)] == [False]
    monkeypatch.setattr(Place, "free_bytes", 5 * GB)
    assert whats(found(good)) == [
        f"5.0 GB are free for models in {good.path}, and large, which memory has room for, takes 10.0 GB"
    ]
    assert [finding.remedy for finding in found(good, packed)] == [
        "make room, or set HEADRACE_HOME to a folder on a larger disk",
        "make room, or set HEADRACE_CACHE to a folder on a larger disk",
    ]
    assert found(good, memory=replace(ROOMY, usable_bytes=4 * GB)) == []
    assert found(good, models=()) == []
    monkeypatch.setattr(Place, "free_bytes", None)
    assert found(good) == []
    monkeypatch.setattr(Place, "free_bytes", 0)
    assert len(found(good)) == 1


def test_threads_of_other_libraries() -> None:
    (finding,) = doctor.environment_findings({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "2"})
    assert finding.what.startswith("OMP_NUM_THREADS=1 and OPENBLAS_NUM_THREADS=2 does not reach")
    assert not finding.wrong
    assert list(doctor.environment_findings({"OMP_NUM_THREADS": "1", "HEADRACE_THREADS": "1"})) == []
    assert list(doctor.environment_findings({})) == []


# --- what to expect


def test_the_shares_are_those_that_were_measured() -> None:
    """docs/performance.md has two machines: a table of one, a sentence about the other."""
    text = (ROOT / "docs" / "performance.md").read_text()
    table = {row: int(share) for row, share in re.findall(r"^\| ([\w ]+?) \|.*?\| (\d+)% \|", text, re.MULTILINE)}
    sentence = re.search(
        r"prefill of 512 [\d.]+ tok/s \((\d+) % of the limit.*?decode [\d.]+ \((\d+) %", text, re.DOTALL
    )
    assert sentence
    prefill = sorted((table["prefill of 512"] / 100, int(sentence[1]) / 100))
    decode = sorted((table["decode"] / 100, int(sentence[2]) / 100))
    assert prefill[0] < PREFILL_SHARE < prefill[1]
    assert decode[0] < DECODE_SHARE < decode[1]
    assert f"{100 * DECODE_SHARE:.0f} % of the reads for decoding, half of the multiply-adds" in text
    assert PREFILL_SHARE == 0.5


def test_the_speed_of_the_8b_is_about_what_was_measured() -> None:
    """Within a quarter of docs/performance.md's figures for both machines."""
    cost = Cost.of(shapes_of(FAMILY["lfm2:8b"], head="q4_0"))
    xeon, zen = speed(cost, 32e9, 0.94e12), speed(cost, 35e9, 0.47e12)
    assert xeon.decode == pytest.approx(27.4, rel=0.25)
    assert zen.decode == pytest.approx(35.5, rel=0.25)
    assert xeon.prefill == pytest.approx(265.5, rel=0.25)
    assert zen.prefill == pytest.approx(199.8, rel=0.25)


@pytest.mark.parametrize("name", FAMILY)
def test_shapes_have_the_bytes_of_the_file(name: str) -> None:
    """But take none."""
    weights = shapes_of(FAMILY[name]).weights
    tensors = [tensor for tensors in weights.values() for tensor in tensors]
    assert sum(tensor.data.size for tensor in tensors) == weights_bytes(FAMILY[name])
    assert all(tensor.data.strides[0] == 0 for tensor in tensors)


def test_candidates_are_the_family_by_size() -> None:
    measured = {"read_gb_per_s": 32.0, "int8_tmac_per_s": 0.94}
    found = {one.name: one for one in candidates(measured)}
    sizes = [one.size_bytes for one in found.values()]
    assert sizes == sorted(sizes)
    expected = speed(Cost.of(shapes_of(FAMILY["lfm2:24b"])), 32e9, 0.94e12)
    assert found["lfm2:24b"].speed == expected
    assert [one.speed for one in candidates(None)] == [None] * len(found)
    assert found["lfm2:24b"].window(replace(ROOMY, usable_bytes=25 * GB)) == 32_768


# --- all together


def test_a_whole_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADRACE_ISA", raising=False)
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    asked = list[int]()

    def measure(threads: int) -> dict[str, Any]:
        asked.append(threads)
        return {"read_gb_per_s": 32.0, "int8_tmac_per_s": 0.94}

    files = {"proc/self/cgroup": V2, "sys/fs/cgroup/app/memory.max": f"{GB}", "proc/meminfo": "MemTotal: 32000000 kB\n"}
    report = examine(made(tmp_path / "machine", files), {"HEADRACE_THREADS": "99", "OMP_NUM_THREADS": "1"}, measure)
    assert asked == [machine.usable_threads()], "as many as can run"
    assert report.places[0].path == tmp_path / "home" / "models"
    assert report.models[0].speed is not None
    found = " ".join(whats(report.findings))
    assert "HEADRACE_THREADS is 99" in found
    assert "a cgroup limits this process to 1.0 GB of the machine's 32.8 GB, and lfm2:24b needs" in found
    made(tmp_path / "full", {"proc/meminfo": "MemTotal: 32000000 kB\nMemAvailable: 100000 kB\n"})
    report = examine(tmp_path / "full", {}, measure)
    assert (len(asked), report.measured, report.models[0].speed) == (1, None, None)
    assert "there is too little memory available to measure speeds" in whats(report.findings)
    monkeypatch.setenv("HEADRACE_ISA", "avx9")
    report = examine(tmp_path, {}, measure)
    assert (len(asked), report.measured) == (1, None), "what does not load is not measured"


def test_what_is_used_is_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[tuple[int, str]]()

    class Probe:
        def __init__(self, threads: int, isa: str = "") -> None:
            asked.append((threads, isa))

        def read_bytes_per_second(self) -> float:
            return 32e9

        def multiply_adds_per_second(self) -> float:
            return 0.5e12

    monkeypatch.setattr(core.load_core(), "Probe", Probe)
    monkeypatch.setenv("HEADRACE_ISA", "scalar")
    assert doctor.limits(3)["instruction_set"] == "scalar"
    assert asked == [(3, "scalar")]
