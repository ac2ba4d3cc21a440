"""`headrace cache` and `run --cache`: what is saved is found again, and what is no use says so."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from headrace.cli import _caches
from headrace.cli import headrace as cli
from headrace.cli._local import Local, LocalRuntime
from headrace.cli._session import Session, Settings
from headrace.engine import snapshot
from headrace.engine.core import BLOCK_TOKENS, load_core
from headrace.errors import FileInvalid, HeadraceError, RequestInvalid

SYSTEM = " ".join(f"Rule {number}: be brief." for number in range(40))


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path / "user"))
    return tmp_path / "user" / "prefixes"


def headrace(*arguments: str | Path) -> Result:
    """What a command prints; its error is raised."""
    return CliRunner().invoke(cli, [*map(str, arguments)], catch_exceptions=False, standalone_mode=False)


def refused(*arguments: str | Path) -> str:
    with pytest.raises(RequestInvalid) as raised:
        headrace(*arguments)
    return str(raised.value)


def rows() -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in json.loads(headrace("cache", "list", "--json").stdout)}


def changed(path: Path, **fields: Any) -> Path:
    """The file with another first line."""
    header, rest = path.read_bytes().split(b"\n", 1)
    path.write_bytes(json.dumps(json.loads(header) | fields).encode() + b"\n" + rest)
    return path


def flipped(path: Path) -> Path:
    whole = bytearray(path.read_bytes())
    whole[-1000] ^= 1
    path.write_bytes(whole)
    return path


def file_of_a_folder(folder: Path) -> Path:
    (folder / "folder.cache").mkdir()
    return folder / "folder.cache"


def cut_off(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-1])
    return path


# --- from one process to the next


@pytest.mark.parametrize("options", [(), ("--system", SYSTEM), ("--tools", "none", "--system", SYSTEM)])
def test_what_is_saved_is_all_of_the_prompt_up_to_the_question(options: tuple[str, ...]) -> None:
    saved = headrace("cache", "save", "talk", *options)
    tokens = int(re.search(r"^Saved (\d+) tokens of nano as talk \(\d+\.\d [KM]iB\)\.$", saved.stdout)[1])  # type: ignore[index]
    asked = ("run", "nano", "Hi", "--num-predict", "1", "--verbose", *options)
    assert "cached:" not in headrace(*asked).stderr
    done = headrace(*asked, "--cache", "talk")
    assert done.stderr.startswith(f"(cache talk: {tokens} tokens loaded)\n")
    assert "Warning" not in done.stderr
    assert int(re.search(r"^cached: +(\d+) tokens more", done.stderr, re.MULTILINE)[1]) == tokens  # type: ignore[index]
    prompt = int(re.search(r"^prompt: +(\d+) tokens", done.stderr, re.MULTILINE)[1])  # type: ignore[index]
    assert prompt < BLOCK_TOKENS + 16  # less than a block, and the question
    assert done.stdout == headrace(*asked).stdout


def test_a_system_prompt_in_a_file_is_the_same_as_in_an_option(tmp_path: Path) -> None:
    file = tmp_path / "système.txt"
    file.write_text(SYSTEM + " é\n")
    headrace("cache", "save", "talk", "--system-file", file)
    done = headrace("run", "nano", "Hi", "--num-predict", "1", "--cache", "talk", "--system", SYSTEM + " é")
    assert "Warning" not in done.stderr
    assert "give one of them" in refused("run", "nano", "Hi", "--system-file", file, "--system", "")
    file.write_bytes(b"\xff")
    for wrong in (file, tmp_path / "nonesuch", tmp_path):
        with pytest.raises(FileInvalid, match=re.escape(str(wrong))):
            headrace("run", "nano", "Hi", "--system-file", wrong)


def test_another_beginning_is_a_warning() -> None:
    headrace("cache", "save", "talk")
    asked = ("run", "nano", "Hi", "--num-predict", "1", "--cache", "talk", "--system")
    warning = "Warning: the cache talk is of no use here: --system, --system-file or the tools are others"
    assert warning in headrace(*asked, SYSTEM).stderr
    assert "Warning" not in headrace(*asked, "Brief.", "--tools", "none").stderr  # too short for a cache to help


def test_a_new_window_loads_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    headrace("cache", "save", "talk")
    session = Session.open("nano", Settings(), None, LocalRuntime(cached=("nano", _caches.found("talk"))))
    session.resize(2048)
    try:
        assert capsys.readouterr().err.count("(cache talk: 512 tokens loaded)") == 2
        assert isinstance(session.model, Local)
        model = session.model.model
        assert model.cached(model.prefix(*session.beginning())) == 512
    finally:
        session.close()


def test_where_there_is_no_room_for_all() -> None:
    headrace("cache", "save", "talk")
    assert snapshot.read_header(_caches.found("talk")).tokens == 512
    done = headrace("run", "nano", "Hi", "--tools", "none", "--cache", "talk", "--cache-bytes", "700000")
    assert "(cache talk: 192 of 512 tokens loaded, --cache-bytes leaves no room for more)" in done.stderr


# --- what does not fit


def test_a_file_of_another_model_or_another_way_to_run_it_says_what_to_do() -> None:
    headrace("cache", "save", "talk")
    file, run = _caches.found("talk"), ("run", "nano", "Hi", "--cache", "talk")
    assert "run it with --kv fp16, or save one with --kv int8" in refused(*run, "--kv", "int8")
    before = file.read_bytes()
    for field, value, sentence in (
        ("model", "ab", "is of another file of that name, not of this nano: save one for this model"),
        ("isa", "mmx", f"the instruction set mmx, and here it is {load_core().isas()[0]}, which rounds otherwise"),
    ):
        assert sentence in refused("run", "nano", "Hi", "--cache", changed(file, **{field: value}))
        file.write_bytes(before)
    changed(file, model="ab", name="LFM2-8B-A1B")
    assert "the cache talk is of another model, LFM2-8B-A1B, not of this nano" in refused(*run)


def test_a_damaged_file_is_not_loaded() -> None:
    for damage in (flipped, cut_off):
        headrace("cache", "save", "talk")
        damage(_caches.found("talk"))
        with pytest.raises(FileInvalid, match=r"(damaged|cut off), save it again"):
            headrace("run", "nano", "Hi", "--cache", "talk")


def test_too_short_a_beginning_is_not_saved(caches: Path) -> None:
    sentence = refused("cache", "save", "talk", "--tools", "none", "--system", "Be brief.")
    assert re.search(r"the beginning has \d+ tokens, but one from 64 on can be saved", sentence)
    assert not caches.exists()


TOO_LONG = (
    "the prompt has 512 tokens but the context window holds 256: shorten it, or ask for a larger window with --num-ctx$"
)


def test_too_long_a_beginning_names_both_numbers() -> None:
    with pytest.raises(HeadraceError, match=TOO_LONG):
        headrace("cache", "save", "talk", "--num-ctx", "256")


# --- the files


def test_list_and_show_say_what_there_is(caches: Path) -> None:
    assert headrace("cache", "list").stdout == ""
    assert rows() == {}
    headrace("cache", "save", "one")
    headrace("cache", "save", "two", "--kv", "int8")
    headrace("cache", "save", "two", "--kv", "int8")  # over itself
    (caches / "notes.txt").write_text("no cache, no name")
    header, *lines = headrace("cache", "list").stdout.splitlines()
    assert header.split() == ["NAME", "MODEL", "TOKENS", "SIZE", "SAVED"]
    assert [line.split()[:3] for line in lines] == [["one", "nano", "512"], ["two", "nano", "512"]]
    found = rows()["two"]
    assert found["damage"] is None
    assert (found["model"], found["tokens"], found["size_bytes"]) == (
        "nano",
        512,
        (caches / "two.cache").stat().st_size,
    )
    assert abs(datetime.fromisoformat(found["saved_at"]).timestamp() - (caches / "two.cache").stat().st_mtime) <= 1
    shown = json.loads(headrace("cache", "show", "two", "--json").stdout)
    assert shown.items() > found.items()
    assert (shown["kv"], shown["isa"], shown["block_tokens"]) == ("int8", load_core().isas()[0], BLOCK_TOKENS)
    assert re.search(r"^keys and values +int8$", headrace("cache", "show", "two").stdout, re.MULTILINE)


def test_damaged_files_are_listed_as_such(caches: Path) -> None:
    for name in ("whole", "cut", "flipped"):
        headrace("cache", "save", name)
    cut_off(caches / "cut.cache")
    flipped(caches / "flipped.cache")
    (caches / "other.cache").write_text("hello")
    assert {name: bool(row["damage"]) for name, row in rows().items()} == {
        "cut": True,
        "flipped": False,  # every byte would have to be read
        "other": True,
        "whole": False,
    }
    listed = headrace("cache", "list").stdout
    assert re.search(r"^cut +damaged: it has \d+ bytes but should have \d+: it was cut off", listed, re.MULTILINE)
    assert re.search(r"^other +damaged: it is no saved cache", listed, re.MULTILINE)
    for name in ("cut", "flipped", "other"):
        with pytest.raises(FileInvalid):
            headrace("cache", "show", name)
        headrace("cache", "rm", name)
    assert rows().keys() == {"whole"}
    headrace("cache", "show", "whole")


def test_the_name_of_a_model_does_not_command_the_terminal(caches: Path) -> None:
    headrace("cache", "save", "talk")
    changed(caches / "talk.cache", name="\x1b[2Jevil")
    assert "\x1b" not in headrace("cache", "list").stdout


def test_a_path_is_as_good_as_a_name(tmp_path: Path, caches: Path) -> None:
    file = tmp_path / "elsewhere" / "talk.cache"
    assert f"as {file} (" in headrace("cache", "save", file).stdout
    assert not caches.exists()
    assert f"(cache {file}: 512 tokens loaded)" in headrace("run", "nano", "Hi", "--cache", file).stderr
    other = file.rename(tmp_path / "any name")
    assert json.loads(headrace("cache", "show", other, "--json").stdout)["tokens"] == 512
    headrace("cache", "rm", other)
    assert not other.exists()


def test_nothing_else_is_written_over_or_deleted(tmp_path: Path, caches: Path) -> None:
    notes = tmp_path / "notes.cache"
    notes.write_text("mine")
    assert "exists and is no saved cache: give another name" in refused("cache", "save", notes)
    assert "cannot be written: Is a directory" in refused("cache", "save", file_of_a_folder(tmp_path))
    assert "is no saved cache: it stays where it is" in refused("cache", "rm", notes)
    assert notes.read_text() == "mine"
    caches.mkdir(parents=True)
    (caches / "other").write_text("mine")
    assert "it stays where it is" in refused("cache", "rm", caches / "other")
    with pytest.raises(FileInvalid, match="cannot be written"):
        headrace("cache", "save", notes / "talk.cache")


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "a/b", "../up", "a\\b", "~", "x" * 101, "new\nline", "é" * 51]
)
@pytest.mark.parametrize(
    "command", [("cache", "save"), ("cache", "rm"), ("cache", "show"), ("run", "nano", "Hi", "--cache")]
)
def test_names_stay_in_their_folder(name: str, command: tuple[str, ...], caches: Path) -> None:
    assert re.search(r"is no name of a cache: expected no dot first|there is no cache", refused(*command, name))
    assert not caches.exists()


def test_other_names_are_fine(caches: Path) -> None:
    for name in ("support desk", "v1.2", "größe", "a" * 100):
        assert _caches.path_of(name) == caches / f"{name}.cache"
        assert _caches.name_of(_caches.path_of(name)) == name


@pytest.mark.parametrize("command", ["show", "rm"])
def test_what_is_not_there_says_where_to_look(command: str) -> None:
    sentence = "there is no cache 'talk': `headrace cache list` has those that were saved"
    assert sentence in refused("cache", command, "talk")


def test_the_model_is_not_loaded_for_a_cache_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.cli._local.load", None)
    assert "there is no cache 'talk'" in refused("run", "nano", "Hi", "--cache", "talk")


def test_the_files_are_the_users_alone(caches: Path) -> None:
    headrace("cache", "save", "talk")
    assert (caches / "talk.cache").stat().st_mode & 0o077 == 0
    assert [file.name for file in caches.iterdir()] == ["talk.cache"]


def test_every_command_helps_itself() -> None:
    for command in ("save", "list", "show", "rm"):
        assert headrace("cache", command, "--help").stdout.startswith("Usage:")
