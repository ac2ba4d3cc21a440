"""Names: what may be one, what it means, and that none of them is a way out of the store."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import RequestInvalid
from headrace.library.names import LONGEST_PART, Name

PART = st.from_regex(r"[A-Za-z0-9_]([A-Za-z0-9_-]|\.(?!\.)){0,20}[A-Za-z0-9_-]", fullmatch=True)
HOST = st.from_regex(r"[a-z0-9]{1,8}(\.[a-z]{2,5}){0,2}(:[1-9][0-9]{0,3})?", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "full", "shown"),
    [
        ("lfm2", "registry.ollama.ai/library/lfm2:latest", "lfm2"),
        ("LFM2:8B", "registry.ollama.ai/library/LFM2:8B", "LFM2:8B"),
        ("library/lfm2:latest", "registry.ollama.ai/library/lfm2:latest", "lfm2"),
        ("maternion/lfm2:8b", "registry.ollama.ai/maternion/lfm2:8b", "maternion/lfm2:8b"),
        ("hf.co/LiquidAI/LFM2-8B-A1B-GGUF:Q4_0", *["hf.co/LiquidAI/LFM2-8B-A1B-GGUF:Q4_0"] * 2),
        ("https://huggingface.co/a/b", "hf.co/a/b:latest", "hf.co/a/b"),
        ("localhost:5000/ns/model:tag", *["localhost:5000/ns/model:tag"] * 2),
        ("localhost:5000/model", "localhost:5000/library/model:latest", "localhost:5000/library/model"),
        ("Registry.Ollama.AI/library/lfm2", "registry.ollama.ai/library/lfm2:latest", "lfm2"),
        ("registry.ollama.ai/localhost/x", "registry.ollama.ai/localhost/x:latest", "registry.ollama.ai/localhost/x"),
    ],
)
def test_a_name_is_completed(text: str, full: str, shown: str) -> None:
    name = Name.parse(text)
    assert (name.full, str(name)) == (full, shown)
    assert Name.parse(shown) == name


@pytest.mark.parametrize(
    "text",
    ["", "/", ":", "a:", ":b", "/a", "a/", "a//b", "a/b/c/d", "a:b:c", "..", "../a", "a/..", "a/../b", ".a", "a.", "-a",
     "a b", "a\n", "a\0b", "a\\b", "ä", "a@b", "a+b", "~/a", "C:/a/b", "hf.co/a", "x:99999/a/b", "x:0/a/b", "a..b/c/d",
     "https://a", "ftp://a/b/c", "a/b:..", "a/b:c/d", "a" * 97, "-h/a/b", "x-.y/a/b", "[::1]:5/a/b", "a?b", "a%2fb",
     "a/b..c", "." * 3000, "https://", "http:///a", "http://https://a/b"],
)  # fmt: skip
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(RequestInvalid):
        Name.parse(text, insecure=True)


def test_an_unencrypted_registry_must_be_meant() -> None:
    with pytest.raises(RequestInvalid, match=r"asks for an unencrypted registry: say --insecure .* if that is meant"):
        Name.parse("http://localhost:5000/a/b")
    name = Name.parse("http://localhost:5000/a/b", insecure=True)
    assert (name.url, name) == ("http://localhost:5000", Name.parse("localhost:5000/a/b"))


def test_a_repository_is_asked_for_as_its_registry_knows_it() -> None:
    assert Name.parse("hf.co/LiquidAI/LFM2-8B-A1B-GGUF:Q4_0").repository == "LiquidAI/LFM2-8B-A1B-GGUF"
    assert Name.parse("LFM2:24B").repository == "library/lfm2"
    assert Name.parse("LiquidAI/LFM2.5").repository == "LiquidAI/LFM2.5"
    assert Name.parse("localhost:5000/Me/Mine").repository == "me/mine"


@given(HOST, PART, PART, PART)
def test_every_name_survives_the_way_through_text_and_path(host: str, namespace: str, model: str, tag: str) -> None:
    name = Name(host, namespace, model, tag)
    for other in (Name.parse(str(name)), Name.parse(name.full), Name.of_path(name.path), Name(*name.key)):
        assert (other, hash(other), other < name) == (name, hash(name), False)
    assert Name.parse(str(name)).repository == name.repository


@given(st.one_of(st.text(max_size=40), st.from_regex(r"[a-zA-Z.:/_0-9-]{0,40}", fullmatch=True)))
def test_whatever_is_a_name_stays_in_the_store(text: str) -> None:
    try:
        name = Name.parse(text)
    except RequestInvalid:
        return
    root = Path("/store/manifests")
    assert (root / name.path).resolve().relative_to(root).parts == name.path.parts
    assert len(name.path.parts) == 4
    assert Name.parse(str(name)) == name


def test_what_is_too_long_is_told_how_long_it_may_be() -> None:
    with pytest.raises(RequestInvalid, match=f"letters, digits, .* {LONGEST_PART} at most a part"):
        Name.parse("a" * (LONGEST_PART + 1))
