"""Packed weights come with a model, are checked with it, and go with it."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from headrace import _core, checkpoint, packing
from headrace.cli import headrace as cli
from headrace.convert import convert
from headrace.engine import packed, packed_file
from headrace.library.create import create
from headrace.library.modelfile import Modelfile
from headrace.library.models import Library
from headrace.library.names import Name
from headrace.library.progress import Progress
from tests import random_models

pytestmark = pytest.mark.skipif(not _core.panel_types(), reason="this machine's kernels read rows")
NAME = Name.parse("small:v1")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("model")
    model = random_models.moe(hidden_size=64, num_attention_heads=4, intermediate_size=64, moe_intermediate_size=32)
    convert(random_models.save_tokenizer(random_models.save(model, place / "folder")), place / "small.gguf", "q8_0")
    return place / "small.gguf"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(packed, "SMALL_BYTES", 0)
    return tmp_path / "cache" / "packed"


def made(cache: Path) -> list[Path]:
    return sorted(cache.iterdir()) if cache.is_dir() else []


def bring(source: str | Path, name: Name = NAME, **says: Any) -> list[Progress]:
    steps, library = list[Progress](), Library.here()
    modelfile = Modelfile(str(source), **says)
    packing.bring(
        library,
        name,
        lambda told: create(name, library.store, modelfile, folder=Path.cwd(), library=library, report=told),
        steps.append,
    )
    return steps


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, arguments)
    return result.exit_code, result.stdout


def test_what_arrives_is_packed_before_it_is_a_success(file: Path, cache: Path) -> None:
    steps = bring(file)
    assert [step.status for step in steps].count("success") == 1
    assert steps[-1].status == "success"
    assert (steps[-2].status, steps[-2].completed) == ("packing", steps[-2].total)
    (path,) = made(cache)
    assert packed_file.damaged(path) == []
    before = path.stat()
    packed.in_panels(found := Library.here().find(NAME).path, checkpoint.read(found).weights)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_the_command_packs(file: Path, cache: Path) -> None:
    assert run("create", "small:v1", "--from", str(file))[0] == 0
    assert len(made(cache)) == 1


def test_they_stay_as_long_as_any_model_has_the_weights(file: Path, cache: Path) -> None:
    bring(file)
    (path,) = made(cache)
    before = path.stat()
    assert not [step for step in bring("small:v1", system="Be brief.") if step.status == "packing"]
    bring("small:v1", Name.parse("other"))
    assert run("rm", "small:v1")[0] == 0
    assert made(cache) == [path]
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert run("rm", "other")[0] == 0
    assert made(cache) == []


def test_what_is_freed_counts_them(file: Path, cache: Path) -> None:
    bring(file)
    size, store = made(cache)[0].stat().st_size, Library.here().store
    freed = store.remove(NAME)
    assert freed
    assert packing.collect(store) == size
    assert packing.collect(store) == 0


def test_those_of_files_outside_the_library_go_with_them_too(file: Path, cache: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.gguf"
    mine.write_bytes(file.read_bytes())
    for path in (file, mine):
        packed.pack(path, checkpoint.read(path).weights)
    both = made(cache)
    assert packed.collect() == 0
    assert made(cache) == both
    mine.unlink()
    packed.collect()
    (left,) = made(cache)
    assert left.name.startswith("small-")


@pytest.mark.parametrize("name", ["a.panels", "a.panels.part", "a.panels.lock", "a.panels.123.part"])
def test_what_is_no_packed_file_goes(name: str, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / name).write_bytes(b"nothing of use")
    (cache / "a file of somebody else").write_bytes(b"mine")
    packed.collect()
    assert [path.name for path in made(cache)] == ["a file of somebody else"]


def test_of_two_who_pack_the_second_waits_and_takes_what_is_there(
    file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, written = threading.Event(), threading.Event(), list[str]()

    def counted(*given: Any) -> None:
        written.append("")
        packed_file_write(*given)

    def slow(done: int, total: int) -> None:  # noqa: ARG001
        begun.set()
        assert go_on.wait(60)

    packed_file_write = packed.write
    monkeypatch.setattr(packed, "write", counted)
    weights = checkpoint.read(file).weights
    first = threading.Thread(target=packed.pack, args=(file, weights, slow))
    second = threading.Thread(target=packed.pack, args=(file, weights))
    first.start()
    assert begun.wait(60)
    second.start()
    packed.collect()  # touches nothing that somebody is at
    assert {path.suffix for path in made(cache)} == {".part", ".lock"}
    go_on.set()
    first.join(60)
    second.join(60)
    assert len(written) == 1
    (path,) = made(cache)
    assert packed_file.damaged(path) == []


def test_what_cannot_run_is_said_to_and_stays(file: Path) -> None:
    bring(file)
    steps, library = list[Progress](), Library.here()
    (layer,) = library.store.manifest(NAME).of("model")
    blob = library.store.blob(layer.digest)
    blob.write_bytes(b"GGUX" + blob.read_bytes()[4:])
    packing.pack(library, NAME, steps.append)
    assert len(steps) == 1
    assert steps[0].status.startswith("it cannot run here: small:v1: ")


def test_verify_looks_at_them_and_the_next_start_makes_them_anew(file: Path, cache: Path) -> None:
    bring(file)
    assert run("verify") == (0, "small:v1 is whole.\n")
    (path,) = made(cache)
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    code, said = run("verify", "--json")
    (row,) = json.loads(said)
    assert (code, row["whole"], row["damaged"][0]["kind"]) == (1, False, "packed weights")
    assert made(cache) == []
    assert run("verify")[0] == 0
    packed.pack(found := Library.here().find(NAME).path, checkpoint.read(found).weights)
    assert packed_file.damaged(path) == []
