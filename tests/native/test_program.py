"""headrace_kernel_tests, the C++ program in native/tests: as it is, under sanitizers, and what its objects hold."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLES = {"avx2.cpp.o": "headrace::kAvx2Kernels", "avx512vnni.cpp.o": "headrace::kAvx512VnniKernels"}

pytestmark = pytest.mark.slow  # the build alone takes half a minute on two cores
on_x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="only x86 has files for its sets")


def tool(name: str) -> str:
    """The program's path, where a virtual environment keeps it or on PATH."""
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    found = shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def build(into: Path, **settings: str) -> Path:
    """Builds the program, as `cmake` does it for anybody who has no Python."""
    cmake = tool("cmake")
    tool(os.environ.get("CXX", "c++"))
    settings = {"CMAKE_BUILD_TYPE": "Release", "HEADRACE_PYTHON": "OFF", "HEADRACE_TESTS": "ON"} | settings
    defines = [f"-D{name}={value}" for name, value in settings.items()]
    for command in (
        [cmake, "-S", str(ROOT), "-B", str(into), *defines],
        [cmake, "--build", str(into), "--parallel", str(os.cpu_count() or 1)],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "warning:" not in done.stderr, done.stderr
    return into / "headrace_kernel_tests"


def run(program: Path, *tests: str, isa: str = "") -> subprocess.CompletedProcess[str]:
    """With a time limit, for a thread that waits for ever is one of the mistakes that are looked for."""
    options = {"UBSAN_OPTIONS": "print_stacktrace=1", "TSAN_OPTIONS": "halt_on_error=1"}
    environment = os.environ | options | {"HEADRACE_ISA": isa}
    command = [str(program), *tests]
    return subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", timeout=900)


def assert_passed(done: subprocess.CompletedProcess[str], isa: str) -> None:
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-8000:]
    assert done.stdout.startswith(f"instruction sets: {isa}\n"), output[-8000:]
    assert re.search(r"^[1-9]\d* comparisons, 0 failures$", done.stdout, re.MULTILINE), output[-8000:]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("release"))


def test_every_kernel_meets_its_definition(program: Path, isa: str) -> None:
    done = run(program, isa=isa)
    assert_passed(done, isa)
    rows = ("quantise", "norm", "swiglu", "add_scaled", "to_half")
    for kernel in ("linear Q4_0", *rows, "attend fp16", "attend fp32", "attend int8"):
        assert re.search(rf"^{kernel} +{isa} [1-9]", done.stdout, re.MULTILINE), done.stdout


def test_what_cannot_be_tested_is_a_failure(program: Path) -> None:
    unknown = run(program, isa="abacus")
    assert unknown.returncode == 1
    assert "abacus is not usable here" in unknown.stdout
    assert run(program, "no such test").returncode == 1


@pytest.fixture(scope="module", params=["address,undefined", "thread"])
def sanitized(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A build under sanitizers, and the tests to run in it: ThreadSanitizer is slow, and threads are its business."""
    directory = tmp_path_factory.mktemp("sanitized")
    skip_unless_sanitizers_work(request.param, directory)
    flags = {"CMAKE_BUILD_TYPE": "Debug", "CMAKE_CXX_FLAGS_DEBUG": "-O1 -g1", "HEADRACE_SANITIZE": request.param}
    tests = ["pool", "threads", "model", "drafts"] if request.param == "thread" else []
    return build(directory / "build", **flags), tests


def test_sanitizers_find_nothing(sanitized: tuple[Path, list[str]], isa: str) -> None:
    program, tests = sanitized
    assert_passed(run(program, *tests, isa=isa), isa)


def skip_unless_sanitizers_work(sanitizers: str, directory: Path) -> None:
    """A compiler may lack their runtime, and a system may place memory where ThreadSanitizer cannot follow."""
    source, program = directory / "nothing.cpp", directory / "nothing"
    source.write_text("int main() {}\n")
    compiler = tool(os.environ.get("CXX", "c++"))
    for command in ([compiler, f"-fsanitize={sanitizers}", str(source), "-o", str(program)], [str(program)]):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"-fsanitize={sanitizers} does not work here: {done.stderr.strip()[-300:]}")


def objects(program: Path) -> dict[str, Path]:
    found = {path.name: path for path in program.parent.rglob("*.o")}
    assert {"scalar.cpp.o", "cpu.cpp.o", *TABLES} <= set(found)
    return found


@on_x86
def test_only_the_files_of_instruction_sets_use_them(program: Path) -> None:
    """Registers of 256 or 512 bits, and the newer encoding of all instructions, whose names begin with v."""
    objdump = tool("objdump")
    newer = re.compile(r"%[yz]mm\d|:\tv\w+ ")
    for name, path in objects(program).items():
        listing = subprocess.run([objdump, "-d", "--no-show-raw-insn", str(path)], capture_output=True, text=True)
        assert listing.returncode == 0, listing.stderr
        lines = [line for line in listing.stdout.splitlines() if newer.search(line)]
        assert bool(lines) == (name in TABLES), (name, lines[:5])


@on_x86
def test_the_files_of_instruction_sets_give_the_linker_their_table_and_nothing_else(program: Path) -> None:
    """An inline function that is not local would be a weak symbol: the linker keeps one of many for the whole program,
    and may keep the one that only some processors can run."""
    nm = tool("nm")
    for name, table in TABLES.items():
        command = [nm, "-C", "--defined-only", "--extern-only", str(objects(program)[name])]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        symbols = [line.split(maxsplit=2)[1:] for line in done.stdout.splitlines() if line]
        assert [symbol for _, symbol in symbols] == [table], done.stdout
        assert not {kind for kind, _ in symbols} & set("WVu"), done.stdout
