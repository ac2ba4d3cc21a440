"""The native core built with AddressSanitizer and UndefinedBehaviorSanitizer: its own tests, and the hostile files."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Puts the other build in the place of the installed one, wherever that is, before anything imports it.
RUN = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("headrace._core", sys.argv[1])
core = importlib.util.module_from_spec(spec)
spec.loader.exec_module(core)
sys.modules["headrace._core"] = core
import pytest
sys.exit(pytest.main(sys.argv[2:]))
"""


@pytest.fixture(scope="module")
def runtime() -> str:
    """Libraries that must be loaded before Python: the sanitizer's, and that of the exceptions that it sees."""
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if sys.platform != "linux" or compiler is None:
        pytest.skip("the sanitizers' runtime is preloaded as on Linux, with a C++ compiler")
    found = [library_of(compiler, name) for name in ("libasan.so", "libstdc++.so.6")]
    if not all(Path(library).is_absolute() for library in found):
        pytest.skip(f"{compiler} has no libasan.so: install GCC's sanitizer runtime")
    return ":".join(found)


def library_of(compiler: str, name: str) -> str:
    """The library's path, or its bare name where the compiler has none."""
    return subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def core(runtime: str, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001  Nothing is built to be skipped
    """The extension module, built as `make` builds it but for the sanitizers."""
    into = tmp_path_factory.mktemp("sanitized")
    build = importlib.util.find_spec("scikit_build_core") and importlib.util.find_spec("nanobind")
    settings = {
        "cmake.define.HEADRACE_SANITIZE": "address,undefined",
        "cmake.build-type": "RelWithDebInfo",
        "install.strip": "false",
        "build-dir": str(into / "build"),
    }
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--no-deps",
        "--target",
        str(into),
    ]
    command += ["--no-build-isolation"] if build else []
    command += [part for name, value in settings.items() for part in ("-C", f"{name}={value}")]
    built = subprocess.run([*command, str(ROOT)], capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (module,) = (into / "headrace").glob("_core.*.so")
    return module


@pytest.mark.slow
@pytest.mark.parametrize(
    "tests",
    [
        ["tests/test_hostile.py"],
        ["tests/native", "tests/engine/test_core.py", "-k", "not invariance"],
    ],
    ids=["hostile files", "native"],
)
def test_nothing_is_read_or_written_out_of_bounds(tests: list[str], core: Path, runtime: str) -> None:
    environment = os.environ | {
        "LD_PRELOAD": runtime,
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",  # Python itself frees little when it ends
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    command = [sys.executable, "-c", RUN, str(core), "-q", "-x", "-p", "no:cacheprovider", "--capture=sys", *tests]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-8000:]
