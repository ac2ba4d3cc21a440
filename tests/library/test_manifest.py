"""Manifests: what is read of them, and that a hostile one is a sentence."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import FileInvalid, Unsupported, UserError
from headrace.library.manifest import CONFIG, LARGEST_BLOB, LARGEST_BYTES, OLLAMA, Layer, build, digest_of, parse

ONE = Layer(OLLAMA + "model", digest_of(b"one"), 3)
TWO = Layer(OLLAMA + "params", digest_of(b"four"), 4)
ODD = Layer("application/vnd.somebody.else", digest_of(b""), 0)
HEAD = Layer(CONFIG, digest_of(b"{}"), 2)


def changed(**changes: Any) -> bytes:
    return json.dumps(json.loads(build(HEAD, [ONE, TWO])) | changes).encode()


def with_layer(**changes: Any) -> bytes:
    layer = json.loads(build(ONE, []))["config"]
    return changed(layers=[{**layer, **changes}])


def test_what_is_built_can_be_read() -> None:
    raw = build(HEAD, [ONE, TWO, ODD, ONE], {"org.example": "kept"})
    found = parse(raw, "m")
    assert (found.config, found.layers, found.raw, found.digest) == (HEAD, (ONE, TWO, ODD, ONE), raw, digest_of(raw))
    assert found.of("model") == (ONE, ONE)
    assert [layer.kind for layer in found.layers] == ["model", "params", "", "model"]
    assert found.blobs == (ONE, TWO, ODD, HEAD)
    assert found.size_bytes == 9


def test_oci_and_a_missing_config_will_do() -> None:
    raw = changed(mediaType="application/vnd.oci.image.manifest.v1+json", config=None)
    assert parse(raw, "m").config is None


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"schemaVersion":2,"schemaVersion":2}', "a name occurs twice"),
        (b" " * (LARGEST_BYTES + 1), "at most 4194304 bytes"),
        (changed(schemaVersion=1), "schema version 2"),
        (changed(schemaVersion=2.0), "schema version 2"),
        (changed(mediaType="text/html"), "schema version 2"),
        (changed(layers=None), "a list of at most 16384 layers"),
        (changed(layers=[1] * 16_385), "a list of at most 16384 layers"),
        (changed(layers=[[]]), "each layer of a manifest needs"),
        (with_layer(size="3"), "each layer of a manifest needs"),
        (with_layer(size=True), "size should be from 0"),
        (with_layer(size=-1), "size should be from 0"),
        (with_layer(size=LARGEST_BLOB + 1), "size should be from 0"),
        (changed(layers=[{**json.loads(build(ONE, []))["config"], "size": 10**400}]), "size should be from 0"),
        (with_layer(digest="sha256:../../etc/passwd"), "digest should be"),
        (with_layer(digest=ONE.digest + "\n"), "digest should be"),
        (with_layer(digest=ONE.digest.upper()), "digest should be"),
        (with_layer(digest="md5:" + "0" * 64), "digest should be"),
        (with_layer(mediaType=""), "mediaType should be"),
        (with_layer(mediaType="a\nb"), "mediaType should be"),
        (with_layer(mediaType="\ud800"), "mediaType should be"),
        (build(HEAD, [ONE, Layer(ONE.media_type, ONE.digest, 4)]), "two sizes"),
        (build(Layer(CONFIG, ONE.digest, 4), [ONE]), "two sizes"),
        (build(HEAD, [Layer("a", digest_of(bytes([n])), LARGEST_BLOB // 2) for n in range(3)]), "bytes together"),
    ],
)
def test_what_is_no_manifest(raw: bytes, problem: str) -> None:
    with pytest.raises(FileInvalid, match=f"^m: .*{problem}"):
        parse(raw, "m")


def test_a_list_of_manifests_is_no_model() -> None:
    with pytest.raises(Unsupported, match="a list of manifests for several machines"):
        parse(b'{"schemaVersion":2,"manifests":[]}', "m")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(ONE.digest),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["mediaType", "digest", "size", "layers", "config"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.sampled_from(["schemaVersion", "mediaType", "config", "layers"]), JSON)
def test_a_field_of_any_kind_is_read_or_refused(field: str, value: Any) -> None:
    check(changed(**{field: value}))


@given(st.sampled_from(["mediaType", "digest", "size", "annotations"]), JSON)
def test_a_layer_of_any_kind_is_read_or_refused(field: str, value: Any) -> None:
    check(with_layer(**{field: value}))


@given(st.binary(max_size=64), st.data())
def test_any_bytes_are_read_or_refused(noise: bytes, data: st.DataObject) -> None:
    check(noise)
    raw = bytearray(build(HEAD, [ONE, TWO]))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at : at + data.draw(st.integers(0, 8))] = noise
    check(bytes(raw))


def check(raw: bytes) -> None:
    try:
        found = parse(raw, "m")
    except UserError:
        return
    assert found.raw == raw
    for layer in found.blobs:
        assert len(layer.digest) == 71
        assert 0 <= layer.size <= LARGEST_BLOB
