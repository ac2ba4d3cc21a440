"""`headrace show`: one aspect of a model at a time, and what is said of it beside its file."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pexpect
import pytest
from click.testing import CliRunner, Result

from headrace import checkpoint, nano
from headrace.cli import headrace as cli
from headrace.errors import ModelNotFound, RequestInvalid
from headrace.library import family, licenses
from headrace.library.home import own_store
from headrace.library.manifest import JINJA
from headrace.library.models import Found
from headrace.library.names import Name
from headrace.preset import Preset
from headrace.weights import gguf_writer
from tests import found_files, random_models
from tests.library.stores import install

MODELFILE = '''FROM nano
PARAMETER temperature 0.5
PARAMETER num_ctx 999
PARAMETER num_gpu 3
PARAMETER use_mmap false
PARAMETER seed -1
PARAMETER stop <|x|>
PARAMETER stop "two words"
TEMPLATE """{% for m in messages %}{{ m.content }}{% endfor %}"""
SYSTEM """Be brief.
Always."""
MESSAGE user Hi
MESSAGE assistant Ho
LICENSE """A License
of several lines"""
LICENSE Another
REQUIRES 0.9.0
'''


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def full(place: Path) -> str:
    """A model with all that a Modelfile can say."""
    (place / "Modelfile").write_text(MODELFILE)
    headrace("create", "full")
    return "full"


def headrace(*arguments: str) -> Result:
    return CliRunner().invoke(cli, [*arguments], catch_exceptions=False, standalone_mode=False)


def shown(*arguments: str) -> tuple[str, str, Any]:
    """What it prints to stdout and stderr, and with --json."""
    plain, facts = headrace("show", *arguments), headrace("show", *arguments, "--json")
    assert facts.stderr == ""
    return plain.stdout, plain.stderr, json.loads(facts.stdout)


def test_licenses(full: str) -> None:
    texts = ["A License\nof several lines", "Another"]
    assert shown(full, "--license") == (
        "A License\nof several lines\n\nAnother\n",
        "",
        {"name": "apache-2.0", "url": None, "texts": texts},
    )
    assert shown("nano", "--license")[:2] == ("apache-2.0\n", "(nano comes without its text)\n")


def test_a_model_of_the_family_without_a_text_says_which_license_it_is() -> None:
    bare = Found(Name.parse("lfm2:8b"), "", Path("nowhere"), Preset())
    assert licenses.of(bare) == licenses.License(family.LICENSE, family.LICENSE_URL, ())


@pytest.mark.parametrize(
    ("header", "name", "url"),
    [
        ({}, None, None),
        ({"general.license": "mit"}, "mit", None),
        ({"general.license": " "}, None, None),
        ({"general.license": 3}, None, None),
        ({"general.license": "other", "general.license.name": "mine", "general.license.link": "LICENSE"}, "mine", None),
        ({"general.license": "other", "general.license.link": "https://a.b/c"}, None, "https://a.b/c"),
        ({"general.license": "other", "general.license.name": "lfm1.0"}, family.LICENSE, family.LICENSE_URL),
    ],
)
def test_a_files_own_word_comes_first(header: dict[str, Any], name: str | None, url: str | None, place: Path) -> None:
    gguf_writer.write(place / "some.gguf", {"general.architecture": "lfm2", **header}, [])
    found = Found(place / "some.gguf", "", place / "some.gguf", Preset())
    assert licenses.of(found) == licenses.License(name, url, ())


def test_the_modelfile_makes_the_same_model(full: str, place: Path) -> None:
    text, note, facts = shown(full, "--modelfile")
    assert note == ""
    assert facts == {"modelfile": text}
    assert text.startswith("# ")
    (place / "Modelfile").write_text(text)
    headrace("create", "again")
    made, again = (own_store().manifest(Name.parse(name)) for name in (full, "again"))
    assert {layer.digest for layer in again.layers} == {layer.digest for layer in made.layers}
    assert again.config == made.config
    assert "\nPARAMETER num_gpu 3\n" in text, "which nothing heeds here, and others may"
    assert JINJA in {layer.media_type for layer in made.layers}
    assert "\nFROM nano\n" in shown("nano", "--modelfile")[0]
    assert f"\nFROM {nano.FILE}\n" in shown(str(nano.FILE), "--modelfile")[0]


def test_the_template_is_the_one_that_is_used(full: str) -> None:
    own = "{% for m in messages %}{{ m.content }}{% endfor %}"
    assert shown(full, "--template") == (f"{own}\n", "", {"template": own})
    assert shown("nano", "--template")[2] == {"template": checkpoint.read("nano").template.source}
    install(own_store(), "go", nano.FILE.read_bytes(), template=b"{{ .Prompt }}")
    _, note, facts = shown("go", "--template")
    assert note == "(its template for Ollama, in Go's language, is kept and not used)\n"
    assert facts == {"template": checkpoint.read("nano").template.source}


def test_the_system_message(full: str) -> None:
    assert shown(full, "--system") == ("Be brief.\nAlways.\n", "", {"system": "Be brief.\nAlways."})
    assert shown("nano", "--system") == ("", "nano has no system message.\n", {"system": None})


def test_parameters_are_those_that_somebody_stated(full: str) -> None:
    text, note, facts = shown(full, "--parameters")
    assert note == ""
    assert facts["parameters"]["stop"] == ["<|x|>", "two words"]
    assert (facts["parameters"]["temperature"], facts["parameters"]["num_ctx"]) == (0.5, 999)
    assert "top_k" not in facts["parameters"], "which is Headrace's own"
    rows = [line.split(maxsplit=1) for line in text.splitlines()]
    assert [value for name, value in rows if name == "stop"] == ['"<|x|>"', '"two words"']
    assert ["temperature", "0.5"] in rows


def test_what_a_manifest_says_is_on_the_page(full: str) -> None:
    page, _, facts = shown(full)
    assert facts["preset"] == {
        "system": "Be brief.\nAlways.",
        "parameters": {"num_ctx": 999, "stop": ["<|x|>", "two words"], "temperature": 0.5},
        "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}],
    }
    assert facts["license"]["texts"][1] == "Another"
    assert facts["template"]["origin"] == "the manifest"
    assert shown("nano")[2]["template"]["origin"] == "the file"
    tail = page[page.index("  Licence") :]
    assert [line.strip() for line in tail.splitlines()] == [
        *("Licence", "apache-2.0", "", "Parameters"),
        *('stop                           "<|x|>"', 'stop                           "two words"'),
        *("temperature                    0.5", "num_ctx                        999", ""),
        *("System", "Be brief.", "Always.", "", "Messages", "user: Hi", "assistant: Ho"),
    ]
    assert "Messages" not in shown("nano")[0]


def test_of_what_is_long_the_page_has_the_beginning() -> None:
    headrace("create", "long", "--from", "nano", "--system", "\n".join(["x" * 300] * 20))
    page = headrace("show", "long").stdout
    assert "    ... and 12 lines more\n" in page
    assert max(map(len, page.splitlines())) < 120
    assert headrace("show", "long", "--system").stdout.count("x") == 6000


def test_no_text_of_a_model_commands_the_terminal() -> None:
    headrace("create", "rude", "--from", "nano", "--system", "a\x1b[2Jb")
    assert "\x1b" not in headrace("show", "rude").stdout
    assert headrace("show", "rude", "--system").stdout == "a\x1b[2Jb\n", "into a pipe it goes as it is"


def test_one_aspect_at_a_time() -> None:
    with pytest.raises(RequestInvalid, match="--system and --license: one of them is printed at a time"):
        headrace("show", "nano", "--system", "--license")


def test_a_system_message_on_a_terminal_is_pictured() -> None:
    headrace("create", "rude", "--from", "nano", "--system", "a\x1b[2Jb")
    arguments = ["-c", "from headrace.cli import main; main()", "show", "rude", "--system"]
    said, _ = pexpect.run(
        shlex.join([sys.executable, *arguments]), env=os.environ | {"TERM": "xterm"}, withexitstatus=True, timeout=60
    )
    assert said.decode() == "a\u241b[2Jb\r\n"


def test_large_numbers_have_all_their_digits() -> None:
    headrace(
        "create", "large", "--from", "nano", "--parameter", "num_ctx=1234567", "--parameter", "num_predict=7654321"
    )
    page, parameters = headrace("show", "large").stdout, headrace("show", "large", "--parameters").stdout
    for text in (page, parameters):
        assert re.search(r"num_ctx +1234567$", text, re.MULTILINE)
        assert re.search(r"num_predict +7654321$", text, re.MULTILINE)
    assert "7654321  (manifest)" in page


def test_a_model_without_a_template_says_so(place: Path) -> None:
    def plain(pairs: dict[str, Any], _: Any) -> None:
        pairs["tokenizer.ggml.tokens"] = [word.replace("im_", "") for word in pairs["tokenizer.ggml.tokens"]]

    file = str(found_files.write(place / "plain.gguf", random_models.dense(), habit=plain))
    assert shown(file, "--template") == (
        "",
        f"{file} has no chat template: it goes on with a text, and no more.\n",
        {"template": None},
    )


@pytest.mark.parametrize("name", ["a" * 5000, "~nobody-of-this-name/x", "a\0b"])
def test_what_can_be_no_path_is_no_model(name: str) -> None:
    with pytest.raises(ModelNotFound, match="there is no model "):
        headrace("show", name)
