"""Imports go one way through the house, and heavy libraries stay in their rooms."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import headrace

ROOT = Path(headrace.__file__).parent
TIERS = (
    ("errors", "events", "nano", "preset", "_core"),
    ("packaged", "plan", "machine", "transcript", "connection", "keys", "locks"),
    ("weights",),
    ("reference", "models", "text"),
    ("engine", "tools"),
    ("shapes",),
    ("defaults",),
    ("checkpoint",),
    ("summary", "convert", "synthetic", "remote"),
    ("library",),
    ("fitting",),
    ("budget", "binding", "reply", "answers", "bench", "expectation", "doctor", "words", "packing"),
    ("jobs",),
    ("model",),
    ("loading",),
    ("server",),
    ("cli",),
)
LEVEL = {room: level for level, rooms in enumerate(TIERS) for room in rooms}
HEAVY = {"torch", "transformers", "ray", "matplotlib", "tensorboard"}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=str(module), names=names):
                yield from (f"{module}.{name.name}" for name in names)


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


FILES = [path for path in ROOT.rglob("*.py") if room_of(path) != "__init__"]


def test_every_room_has_a_level() -> None:
    assert {room_of(path) for path in FILES} <= LEVEL.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    for name in imports(path):
        parts = name.split(".")
        assert parts[0] not in HEAVY
        if parts[0] == "headrace" and len(parts) > 1 and parts[1] in LEVEL:
            assert LEVEL[parts[1]] <= LEVEL[room_of(path)], f"{path.name} imports {name}"


def test_every_room_imports_without_the_heavy_libraries() -> None:
    rooms = ["headrace." + ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in FILES]
    code = f"""
import sys
sys.modules.update(dict.fromkeys({sorted(HEAVY)}))
from importlib import import_module
for room in {rooms}:
    import_module(room.removesuffix(".__init__"))
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_package_imports_little() -> None:
    """Counted, not timed: `import headrace` stays far below 150 ms as long as it imports none of its rooms."""
    code = "import sys; before = set(sys.modules); import headrace; print(*sorted(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"numpy", "jinja2", "tokenizers", "click"} & set(loaded)
    assert [name for name in loaded if name.startswith("headrace")] == ["headrace"]


def test_public_names() -> None:
    assert sorted(headrace.__all__) == headrace.__all__
    for name in headrace.__all__:
        assert getattr(headrace, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        headrace.lod  # noqa: B018
