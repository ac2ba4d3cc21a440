"""A store as anybody may have left it: it is listed, what can be read is, and what is wrong is a sentence."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import HeadraceError
from headrace.library.manifest import CONFIG, LARGEST_BLOB, LARGEST_BYTES, OLLAMA, Layer, build, digest_of, parse
from headrace.library.models import Library
from headrace.library.names import Name
from headrace.library.store import Store
from tests.library.deeds import no_sync
from tests.library.stores import install

WEIGHTS, PARAMS, HEAD = b"weights", b'{"top_k": 3}', b"{}"
MODEL = Layer(OLLAMA + "model", digest_of(WEIGHTS), len(WEIGHTS))
SAYS = Layer(OLLAMA + "params", digest_of(PARAMS), len(PARAMS))
TOP = Layer(CONFIG, digest_of(HEAD), len(HEAD))
ABSURD = [0, 1, LARGEST_BLOB, LARGEST_BLOB + 1, 2**60, 2**63, 2**64, 10**30]
MANIFESTS = st.one_of(
    st.sampled_from([build(TOP, [MODEL, SAYS]), build(TOP, []), build(TOP, [SAYS, SAYS]), b"", b"[" * 100_000]),
    st.sampled_from(ABSURD).map(lambda size: build(TOP, [Layer(MODEL.media_type, MODEL.digest, size)])),
    st.sampled_from(["sha256:../../x", "sha256-", "", "/etc/passwd"]).map(
        lambda digest: build(TOP, [Layer(MODEL.media_type, digest, 1)])
    ),
    st.just(b" " * (LARGEST_BYTES + 1)),
    st.binary(max_size=40),
)
PLACES = [
    *("registry.ollama.ai/library/tiny/latest", "registry.ollama.ai/library/TINY/latest", "hf.co/a/b/Q4_0", ".x/y/z/t"),
    *("registry.ollama.ai/library/tiny", "registry.ollama.ai", "a b/c/d/e", "hf.co/a/b/..x"),
    *("\udcff/a/b/c", "h/a/b/c/d"),
]  # fmt: skip
BLOBS = [layer.digest.replace(":", "-") for layer in (MODEL, SAYS, TOP)]
NAMES = [
    *(f"blobs/{name}" for name in (*BLOBS, "sha256-0", ".DS_Store", "\udcff")),
    *(f"partial/{name}{suffix}" for name in BLOBS for suffix in ("", ".journal", ".lock", ".part")),
    *("partial/.DS_Store", "sessions/x", "sessions/x/pins", "sessions/x/y/z", "sessions/.DS_Store", "lock", "else"),
    *(f"manifests/{place}" for place in PLACES),
]
LINKS = st.sampled_from(["/dev/zero", "/dev/null", "/", ".", "..", "nowhere", "itself"])
TREES = st.lists(
    st.tuples(st.sampled_from(NAMES), MANIFESTS | st.sampled_from([WEIGHTS, PARAMS, HEAD]) | LINKS | st.none()),
    max_size=8,
)


def lay_out(root: Path, tree: list[tuple[str, bytes | str | None]]) -> None:
    """Bytes are a file, a text is where a link leads to, None is a folder. What does not fit is left out."""
    for name, content in tree:
        path = root / name
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(path):
                path.unlink()
            if isinstance(content, bytes):
                path.write_bytes(content)
            elif content is None:
                path.mkdir()
            else:
                path.symlink_to(path.name if content == "itself" else content)


@settings(max_examples=60)
@given(TREES)
def test_whatever_lies_there_is_listed_or_refused(tree: list[tuple[str, bytes | str | None]]) -> None:
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", no_sync)
        store = Store(Path(place) / "store")
        install(store, "kept", b"of ours")
        lay_out(store.root, tree)
        library = Library(store, [Store(store.root, can_write=False)])
        with suppress(HeadraceError):
            check_listed(library)
        for change in (store.repair, lambda: store.collect(kept_s=-1), lambda: install(store, "new", b"else")):
            with suppress(HeadraceError):
                change()
        for name in names(store):
            with suppress(HeadraceError):
                store.remove(name)


def names(store: Store) -> list[Name]:
    with suppress(HeadraceError):
        return store.names()
    return []


def check_listed(library: Library) -> None:
    for one in library.listed():
        if one.problem:
            assert "\n" not in one.problem
            continue
        assert library.store.verify(one.name) is not None
        with suppress(HeadraceError):
            assert library.find(one.name).path.is_file()


@given(
    st.lists(
        st.builds(Layer, st.text("abc/.", min_size=1), st.integers(0, 9).map(lambda n: digest_of(bytes(n))), st.just(7))
    )
)
def test_what_is_built_is_read(layers: list[Layer]) -> None:
    store, found = Store(Path("/nowhere")), parse(build(TOP, layers), "tiny")
    assert (list(found.layers), found.config) == (layers, TOP)
    assert all(store.blob(layer.digest).parent == Path("/nowhere/blobs") for layer in found.blobs)
