"""Hugging Face's cache as anybody may have left it: what can be read is listed, and the rest is no reason to fail."""

from __future__ import annotations

import os
import struct
import tempfile
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import UserError
from headrace.library.cached import HEAD_BYTES, cached
from headrace.library.models import Library
from headrace.library.store import Store


def head(length: int, name: bytes = b"lfm2") -> bytes:
    """A GGUF file's, with a name of an architecture that is said to be so long."""
    key = b"general.architecture"
    return b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, len(key)) + key + struct.pack("<IQ", 8, length) + name


REPOSITORIES = [
    "models--a--b",
    "models--..--..",
    "models--a--",
    "models----",
    "models--a--b--c",
    "models--a--\udcff",
    "x",
]
SNAPSHOTS = ["0123456789abcdef0123456789abcdef01234567", "..x", "main", "\udcff", "z" * 200]
FILES = [
    *("config.json", "model.safetensors", "model-00001-of-00002.safetensors", "model-00000-of-00000.safetensors"),
    *("m-Q4_0.gguf", "m-00001-of-00001.gguf", "m-00001-of-99999.gguf", "m-00002-of-00002.gguf", "mmproj-q8_0.gguf"),
    *(".gguf", "-.gguf", "a b.gguf", "..gguf", "\udcff.gguf", "Q4_0.Q8_0.gguf", f"{'Q4_0-' * 40}.gguf", "LICENSE"),
]  # fmt: skip
CONTENTS = st.one_of(
    st.sampled_from(
        [
            *(b"", b"{}", b"[]", b"[" * 100_000, b'{"model_type": "lfm2"}', b'{"model_type": {"a": []}}', b"\xff"),
            *(b'{"model_type": "lfm2", "model_type": "llama"}', b"1" * 5000, b'{"model_type": 1e999}'),
            *(head(4), head(0), head(2**60), head(2**64 - 1), head(2**63), head(70, b"l" * 70), head(4, b"\xff" * 4)),
            *(head(4)[:-5], head(4)[:-12], b"x" * (HEAD_BYTES - 60) + head(4)),
        ]
    ),
    st.binary(max_size=30),
)
LINK = st.sampled_from(["", ".", "..", "/dev/zero", "/dev/null", "/", "nowhere", "\udcff", "x" * 255])
REFS = st.sampled_from([*SNAPSHOTS, "../../..", "/etc", "", "\0", "x" * 1000]).map(os.fsencode) | st.binary(max_size=9)
Tree = list[tuple[str, str, str, bytes | str | None]]
TREES = st.lists(
    st.tuples(
        st.sampled_from(REPOSITORIES), st.sampled_from(SNAPSHOTS), st.sampled_from(FILES), CONTENTS | LINK | st.none()
    ),
    max_size=9,
)


def lay_out(hub: Path, tree: Tree, ref: bytes) -> None:
    """Bytes are a file, a text is where a link leads to, None is a folder."""
    for repository, commit, name, content in tree:
        folder = hub / repository / "snapshots" / commit
        folder.mkdir(parents=True, exist_ok=True)
        (hub / repository / "refs").mkdir(exist_ok=True)
        (hub / repository / "refs" / "main").write_bytes(ref)
        path = folder / name
        if os.path.lexists(path):
            continue
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is None:
            path.mkdir()
        else:
            path.symlink_to(content or name)  # to itself


@settings(max_examples=200)
@given(TREES, REFS)
def test_whatever_lies_there_is_listed_or_passed_over(tree: Tree, ref: bytes) -> None:
    with tempfile.TemporaryDirectory() as place:
        hub = Path(place) / "hub"
        lay_out(hub, tree, ref)
        library = Library(Store(Path(place) / "store"), hub=hub)
        for one in library.listed():
            assert str(one.name).startswith("hf.co/")
            with pytest.raises(UserError) if one.problem else nullcontext():
                assert hub in library.find(one.name).path.parents


@pytest.mark.parametrize("ref", [b"../../../outside", b"/outside", b"..", b"."])
def test_what_was_last_asked_for_is_a_snapshot_and_no_path(ref: bytes, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "m-Q8_0.gguf").write_bytes(head(4))
    tree: Tree = [("models--a--b", SNAPSHOTS[0], "m-Q4_0.gguf", head(4))]
    lay_out(tmp_path / "hub" / "deep", tree, ref)
    lay_out(tmp_path / "hub", tree, ref.replace(b"/outside", bytes(outside)))
    assert [(one.name.tag, outside in one.path.parents) for one in cached(tmp_path / "hub")] == [("Q4_0", False)]


def test_pipes_make_nobody_wait(tmp_path: Path) -> None:
    lay_out(tmp_path, [("models--a--b", SNAPSHOTS[0], "LICENSE", b"be nice")], b"")
    folder = tmp_path / "models--a--b" / "snapshots" / SNAPSHOTS[0]
    for name in ("m-Q4_0.gguf", "config.json", "model.safetensors"):
        os.mkfifo(folder / name)
    assert [one.problem for one in cached(tmp_path)] == ["it is not whole in the cache: pull it again"]
