"""`make mutate`: breaks one line at a time and names the test that caught it. A survivor is a missing test.

Each mutation of `table.py` is made in a copy of the package; a native one is built first. The tests that it names run
against the copy, in a process whose imports come from there. Exit code 1 if a mutation survives.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.mutation.table import MUTATIONS, Mutation

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 300
RUN = """
import sys
sys.meta_path = [finder for finder in sys.meta_path if "ScikitBuild" not in type(finder).__name__]
sys.path.insert(0, {copy!r})
import headrace
assert headrace.__file__.startswith({copy!r}), headrace.__file__
import pytest
sys.exit(pytest.main(["-x", "-q", "--no-header", "-p", "no:cacheprovider", *sys.argv[1:]]))
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make mutate", description=__doc__)
    parser.add_argument("--only", default="", help="mutations whose file holds this text")
    parser.add_argument("--no-native", action="store_true", help="leave out what has to be compiled")
    options = parser.parse_args()
    chosen = [m for m in MUTATIONS if options.only in m.file and not (options.no_native and m.native)]
    with tempfile.TemporaryDirectory(prefix="mutate-") as folder:
        survivors = sum(caught is None for caught in _run_all(chosen, Path(folder)))
    print(f"\n{len(chosen) - survivors} of {len(chosen)} mutations were caught")
    return 1 if survivors else 0


def _run_all(mutations: list[Mutation], folder: Path) -> Iterator[str | None]:
    copy = folder / "src"
    shutil.copytree(ROOT / "src", copy, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    core = Path(importlib.util.find_spec("headrace._core").origin)  # type: ignore[union-attr, arg-type]
    shutil.copy(core, copy / "headrace" / core.name)
    everything = sorted({path for mutation in mutations for path in mutation.tests})
    if (whole := _tests(tuple(everything), copy)).returncode:
        raise SystemExit(f"unbroken code does not pass its own tests:\n{whole.stdout[-3000:]}\n{whole.stderr[-3000:]}")
    print("| file | line | becomes | caught by | s |\n|---|---|---|---|---|")
    for mutation in mutations:
        began = time.monotonic()
        caught = _native(mutation, folder, copy, core) if mutation.native else _python(mutation, copy)
        cells = (mutation.file, f"`{mutation.before}`", f"`{mutation.after}`", caught or "**SURVIVED**")
        row = " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells)
        print(f"| {row} | {time.monotonic() - began:.0f} |", flush=True)
        yield caught


def _python(mutation: Mutation, copy: Path) -> str | None:
    target = copy / mutation.file.removeprefix("src/")
    whole = target.read_text()
    target.write_text(mutation.applied(whole))
    try:
        return _caught(mutation, copy)
    finally:
        target.write_text(whole)


def _native(mutation: Mutation, folder: Path, copy: Path, core: Path) -> str | None:
    """Compiled apart; what the compiler refuses was caught too."""
    tree, build = folder / "native-tree", folder / "native-build"
    if not tree.exists():
        tree.mkdir()
        shutil.copytree(ROOT / "native", tree / "native")
        shutil.copy(ROOT / "CMakeLists.txt", tree)
        _cmake("-S", str(tree), "-B", str(build), f"-DPython_EXECUTABLE={sys.executable}")
    target, installed = tree / mutation.file, copy / "headrace" / core.name
    whole = target.read_text()
    target.write_text(mutation.applied(whole))
    try:
        _cmake("--build", str(build), "-j", "2")
        shutil.copy(next(build.glob("_core*.so")), installed)
        return _caught(mutation, copy)
    except subprocess.CalledProcessError:
        return "the compiler"
    finally:
        target.write_text(whole)
        shutil.copy(core, installed)


def _cmake(*arguments: str) -> None:
    subprocess.run(["cmake", *arguments], check=True, capture_output=True)


def _caught(mutation: Mutation, copy: Path) -> str | None:
    """The first test that fails, or None if all pass."""
    try:
        done = _tests(mutation.tests, copy)
    except subprocess.TimeoutExpired:
        return f"a test that hangs (more than {TIMEOUT_S} s)"
    if done.returncode == 0:
        return None
    failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", done.stdout, re.MULTILINE)
    if failed:
        return failed[1].removeprefix("tests/")
    if done.returncode < 0:
        return f"signal {-done.returncode}"
    raise RuntimeError(f"the tests did not run:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")


def _tests(paths: tuple[str, ...], copy: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", RUN.format(copy=str(copy)), *paths]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


if __name__ == "__main__":
    sys.exit(main())
