"""docs/library.md says of names, places, Modelfiles, create and export what is so; each test that it names exists."""

from __future__ import annotations

import re

import pytest

from headrace import cli, nano, packaged
from headrace.cli._aspects import ASPECTS
from headrace.cli._shells import SHELLS
from headrace.engine import options
from headrace.engine.parameters import RANGES
from headrace.library import family, home
from headrace.library.create import QUANTIZE
from headrace.library.export import FLOATS, FORMATS
from headrace.library.manifest import JINJA, OLLAMA
from headrace.library.modelfile import FLAGS, INSTRUCTIONS, LARGEST_BYTES, REFUSED, ROLES, read
from headrace.library.names import HOST, NAMESPACE, TAG
from headrace.library.registry.hosts import KNOWN, OFFLINE, REGISTRIES
from headrace.library.registry.patience import Settings
from headrace.weights.safetensors_writer import SHARD_BYTES
from tests.pages import ROOT, Page, named

PAGE = Page.of("library.md")
WORDS, SECTIONS, rows = PAGE.words, PAGE.sections, PAGE.rows


@pytest.mark.parametrize("test", sorted(set(re.findall(r"`((?:[\w/]+/)?test_\w+\.py::\w+)`", PAGE.text))))
def test_named_tests_exist(test: str) -> None:
    file, _, name = test.partition("::")
    place = ROOT / file if "/" in file else ROOT / "tests" / "library" / file
    assert f"\ndef {name}(" in place.read_text(encoding="utf-8")


def test_every_row_names_a_test() -> None:
    for section, head in (
        ("Modelfiles", "instruction"),
        ("Parameters", "parameter"),
        ("Create", "FROM"),
        ("Export", "as"),
        ("Commands", "command"),
        ("What is survived", "what happens"),
    ):
        first, *others = (row[-1] for row in rows(section, head))
        assert "test_" in first
        assert all("test_" in cell or cell == "the same" for cell in others)


def test_names() -> None:
    assert f"the registry `{HOST}`, the namespace `{NAMESPACE}`, the tag `{TAG}`" in WORDS
    told = {named(short)[0]: named(source)[0] for short, source in rows("Names", "short name")}
    assert told == {str(one.name): str(one.source) for one in family.available()}


def test_places(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {what: (named(where), set(named(by)), ours) for what, where, by, ours in rows("Where things are", "what")}
    variables = {variable for _, by, _ in told.values() for variable in by}
    for variable in variables:
        monkeypatch.delenv(variable, raising=False)
    for place in home.places():
        where, _, ours = told[place.purpose]
        assert any(str(place.path).endswith(one.removeprefix("~")) for one in where), place
        assert ours == ("yes" if place.is_ours else "never")
    for purpose, (_, by, _) in told.items():
        for variable in by:
            with monkeypatch.context() as patch:
                patch.setenv(variable, "/elsewhere")
                assert [one.purpose for one in home.places() if one.origin == variable] == [purpose]


def test_registries() -> None:
    told = {named(name)[0]: set(named(friends)) for name, friends in rows("Pull and push", "registry")}
    assert told == {name: set(friends) for name, friends in KNOWN.items()}
    settings = Settings()
    assert f"in parts of {settings.part_bytes >> 20} MiB, over {settings.connections} connections at a time" in WORDS
    assert f"nothing comes for {settings.stall_s:g} seconds" in WORDS
    assert f"up to {settings.tries} times in a row that bring less than {settings.worthwhile_bytes >> 10} KiB" in WORDS
    assert f"waits that grow up to {settings.longest_wait_s:g} seconds" in WORDS
    assert f"is given up to {settings.longest_asked_s:g}" in WORDS
    assert {REGISTRIES, *OFFLINE} <= set(re.findall(r"[A-Z]+(?:_[A-Z]+)+", SECTIONS["Pull and push"]))


def test_every_instruction_has_its_row() -> None:
    told = {named(name)[0]: status for name, status, *_ in rows("Modelfiles", "instruction")}
    assert told == dict.fromkeys(INSTRUCTIONS, "yes") | dict.fromkeys(REFUSED, "refused")
    assert ", ".join(f"`{role}`" for role in ROLES).replace(", `assistant`", " or `assistant`") in WORDS
    assert f"at most {LARGEST_BYTES >> 20} MiB" in WORDS


def test_the_example_is_a_modelfile() -> None:
    (example,) = re.findall(r"^```\n(FROM.*?)^```", SECTIONS["Modelfiles"], re.MULTILINE | re.DOTALL)
    found = read(example.encode())
    assert (found.source, len(found.messages), found.parameters["stop"]) == ("lfm2:8b", 2, ["<|im_end|>"])


def test_every_parameter_has_its_row() -> None:
    told = {name: row for row in rows("Parameters", "parameter") for name in named(row[0])}
    by = {
        status: {name for name, row in told.items() if row[1] == status} for status in {row[1] for row in told.values()}
    }
    assert by == {
        "yes": {*options.HONOURED, "num_ctx"},
        "kept, ignored": set(options.IGNORED),
        "refused": options.NEUTRAL.keys(),
    }
    for name in ("temperature", "top_p", "min_p", "repeat_penalty", "presence_penalty", "frequency_penalty"):
        low, high = RANGES[name]
        assert told[name][2] == f"{low:g} to {high:g}"
    flags = {name for name, row in told.items() if row[2] == "true or false"}
    assert flags == set(FLAGS) & set(options.IGNORED)
    neutral = ["true" if value is True else str(value) for value in map(options.NEUTRAL.get, named(told["tfs_z"][0]))]
    assert f"unless it is {', '.join(neutral)}:" in told["tfs_z"][2]


def test_every_command_of_the_library_has_its_row() -> None:
    told = [name for row in rows("Commands", "command") for name in named(row[0])]
    assert {name for name in told if " " not in name} == set(cli.SECTIONS["Models"])
    aspects = {f"show --{name}" for name in ASPECTS if name != "plan"}
    assert {name for name in told if " " in name} == aspects
    lines = re.findall(r"headrace completion (\w+)", SECTIONS["Commands"])
    assert lines == list(SHELLS)


def test_create_and_export() -> None:
    assert f"`--quantize {'|'.join(QUANTIZE)}`" in WORDS
    assert {nano.NAME, *packaged.MODELS} <= {name for row in rows("Create", "FROM") for name in named(row[0])}
    told = {named(media_type)[0] for _, media_type in rows("Create", "layer")}
    kinds = ("model", "params", "system", "messages", "license")
    assert told == {JINJA, *(OLLAMA + kind for kind in kinds)}
    forms = [named(row[0]) for row in rows("Export", "as")]
    assert {form[0] for form in forms[:3]} == set(FORMATS)
    assert {"f32", *forms[3][1:]} == set(FLOATS)
    assert f"shards of at most {SHARD_BYTES // 10**9} GB" in WORDS
