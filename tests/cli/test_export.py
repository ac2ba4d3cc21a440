"""`headrace export`: which form, which file, and what is left alone."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pexpect
import pyte
import pytest
from click.testing import CliRunner, Result

import headrace as library
from headrace import nano
from headrace.cli import headrace as cli
from headrace.cli.export import file_name
from headrace.errors import HeadraceError, RequestInvalid
from headrace.library.models import Found
from headrace.library.names import Name
from headrace.preset import Preset

NANO = nano.FILE.read_bytes()


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def export(*arguments: str) -> Result:
    """Its error is raised."""
    return CliRunner().invoke(cli, ["export", *arguments], catch_exceptions=False, standalone_mode=False)


def create(name: str, *options: str) -> None:
    arguments = ["create", name, "--from", str(nano.FILE), *options]
    CliRunner().invoke(cli, arguments, catch_exceptions=False, standalone_mode=False)


def test_the_end_of_the_name_says_the_form(place: Path) -> None:
    result = export("nano", "out.gguf")
    assert (result.stdout, result.stderr) == ("Wrote out.gguf.\n", "writing out.gguf\n")
    assert (place / "out.gguf").read_bytes() == NANO
    export("nano", "out")
    assert {"config.json", "model.safetensors"} < {path.name for path in (place / "out").iterdir()}
    export("nano", "odd", "--form", "gguf")
    assert (place / "odd").read_bytes() == NANO


def test_a_model_of_the_library_goes_into_a_folder_under_its_name(place: Path) -> None:
    create("mine:8b", "--system", "Be brief.")
    (place / "files").mkdir()
    export("mine:8b", "files", "--form", "gguf")
    export(str(nano.FILE), "files", "--form", "gguf")
    assert {path.name: path.read_bytes() for path in (place / "files").iterdir()} == {
        "mine-8b.gguf": NANO,
        "nano.gguf": NANO,
    }


@pytest.mark.parametrize(
    ("name", "path", "file"),
    [
        (Name.parse("lfm2:8b"), "blobs/sha256-00", "lfm2-8b.gguf"),
        (Name.parse("hf.co/LiquidAI/LFM2-8B-A1B-GGUF:Q4_0"), "blobs/sha256-00", "LFM2-8B-A1B-Q4_0.gguf"),
        (Name.parse("brief"), "blobs/sha256-00", "brief.gguf"),
        (Name.parse("hf.co/a/b:Q8_0"), "snapshots/1/b-Q8_0.gguf", "b-Q8_0.gguf"),
        (Path("somewhere/weights"), "somewhere/weights", "weights.gguf"),
    ],
)
def test_file_names(name: Name | Path, path: str, file: str) -> None:
    assert file_name(Found(name, "", Path(path), Preset())) == file


def test_what_floats_become(place: Path) -> None:
    export("nano", "whole")
    export("nano", "half", "--floats", "bf16")
    whole, half = ((place / name / "model.safetensors").stat().st_size for name in ("whole", "half"))
    assert half < 0.6 * whole


def test_force_replaces_an_export_and_nothing_else(place: Path) -> None:
    (place / "out.gguf").write_bytes(b"old")
    with pytest.raises(RequestInvalid, match=r"out\.gguf exists: --force writes over it"):
        export("nano", "out.gguf")
    export("nano", "out.gguf", "--force")
    assert (place / "out.gguf").read_bytes() == NANO
    (place / "out").mkdir()
    export("nano", "out")
    (place / "out" / "model-00001-of-00002.safetensors").touch()
    with pytest.raises(RequestInvalid, match="out exists: --force writes over it"):
        export("nano", "out")
    export("nano", "out", "--force")
    assert not (place / "out" / "model-00001-of-00002.safetensors").exists(), "no rest of the former one"
    (place / "out" / "diary.txt").write_text("dear")
    with pytest.raises(RequestInvalid, match=r"more than a model in it \(diary\.txt\)"):
        export("nano", "out", "--force")
    assert (place / "out" / "diary.txt").read_text() == "dear"
    assert (place / "out" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nonesuch", "out.gguf"], "there is no model 'nonesuch': "),
        (["nowhere.gguf", "out.gguf"], "there is no model 'nowhere.gguf'"),
        (["lfm2:8b", "out"], "`headrace pull lfm2:8b` fetches it"),
        (["nano", "out.gguf", "--floats", "f16"], "--floats is for a folder of safetensors"),
        (["nano", "out.safetensors"], "safetensors are written as a folder"),
        (["nano", "none/out.gguf"], "none is not a folder: make it first"),
        (["nano", "file", "--force"], "file is a file, which safetensors is not"),
        (["folder", "out.gguf"], "is a folder of safetensors: `headrace convert`"),
        (["old.panels", "out", "--form", "safetensors"], "of which the GGUF file alone comes back"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_mistakes_are_one_sentence(arguments: list[str], sentence: str, place: Path) -> None:
    (place / "file").touch()
    (place / "folder").mkdir()
    (place / "old.panels").touch()
    with pytest.raises(HeadraceError) as raised:
        export(*arguments)
    assert sentence in str(raised.value)
    assert not list(place.glob("out*"))


def test_a_packed_file_goes_into_a_folder(place: Path) -> None:
    (place / "old-123.panels").touch()
    with pytest.raises(library.FileInvalid, match="not a whole packed file"):
        export("old-123.panels", ".")
    assert not list(place.glob("*.gguf*"))


def test_on_a_terminal_it_has_a_bar(place: Path) -> None:
    environment = os.environ | {"TERM": "xterm"}
    arguments = ["-c", "from headrace.cli import main; main()", "export", "nano", "out.gguf"]
    size = (24, 120)
    child = pexpect.spawn(sys.executable, arguments, env=environment, encoding="utf-8", timeout=60, dimensions=size)
    child.expect(pexpect.EOF)
    screen = pyte.Screen(120, 24)
    pyte.Stream(screen).feed(child.before)
    lines = [line.rstrip() for line in screen.display if line.strip()]
    megabytes = len(NANO) / 1e6
    assert lines[0].startswith("writing out.gguf ━")
    assert f"{megabytes:.1f}/{megabytes:.1f} MB" in lines[0]
    assert lines[1:] == ["Wrote out.gguf."]
    assert (place / "out.gguf").read_bytes() == NANO
