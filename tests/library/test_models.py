"""Models of all origins by their names, and what they say beside their files."""

from __future__ import annotations

import json
import logging
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import checkpoint, nano
from headrace.errors import FileInvalid, ModelNotFound, StoreRefused, Unsupported, UserError
from headrace.library.cached import cached
from headrace.library.manifest import CONFIG, JINJA, OLLAMA, Layer, Manifest, build
from headrace.library.models import HUGGING_FACE, Library
from headrace.library.models import OLLAMA as OLLAMAS
from headrace.library.names import Name
from headrace.library.store import Store
from tests.library.stores import install

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PARAMS = {"temperature": 0.25, "top_k": 40.0, "stop": ["</s>"], "num_ctx": 8192, "num_gpu": 1}
MESSAGES = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


@pytest.fixture
def library(tmp_path: Path) -> Library:
    others = [Store(tmp_path / "ollama", can_write=False), Store(tmp_path / "service", can_write=False)]
    return Library(Store(tmp_path / "ours"), others, tmp_path / "hub")


@pytest.fixture
def theirs(tmp_path: Path) -> Store:
    """Ollama's store, for Ollama."""
    return Store(tmp_path / "ollama")


def head(architecture: str) -> bytes:
    """The beginning of a GGUF file."""
    key, value = b"general.architecture", architecture.encode()
    text = struct.pack("<Q", len(key)) + key + struct.pack("<IQ", 8, len(value)) + value
    return b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text


def download(hub: Path, repository: str, **files: bytes | str | None) -> Path:
    """As Hugging Face's libraries lay it out; `None` is a file that was not downloaded to its end."""
    folder = hub / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / COMMIT
    for path in (folder / "refs", folder / "blobs", snapshot):
        path.mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text(COMMIT)
    for name, content in files.items():
        blob = folder / "blobs" / name
        if content is not None:
            blob.write_bytes(content if isinstance(content, bytes) else content.encode())
        (snapshot / name).symlink_to(os.path.relpath(blob, snapshot))
    return snapshot


def test_a_model_of_ours_with_all_that_it_says(library: Library) -> None:
    install(
        library.store,
        "me/tiny",
        nano.FILE.read_bytes(),
        params=json.dumps(PARAMS).encode(),
        system=b"Be brief.",
        messages=json.dumps(MESSAGES).encode(),
        license=b"Do as you like.",
        template=b"{{ .Prompt }}",
    )
    found = library.find("Me/Tiny:latest")
    assert found.preset.parameters == {"temperature": 0.25, "top_k": 40, "stop": ["</s>"]}
    assert (found.preset.num_ctx, found.preset.system, found.preset.messages) == (8192, "Be brief.", tuple(MESSAGES))
    assert (found.licenses, found.template, found.preset.template) == (("Do as you like.",), b"{{ .Prompt }}", "")
    source = checkpoint.read(found.path, found.preset)
    assert source.name == "me/tiny", "as it is spelled here"
    assert source.defaults.parameters.temperature == 0.25
    assert source.defaults.origins["temperature"] == "manifest"


def test_a_jinja_template_is_used(library: Library) -> None:
    with library.store.writing() as session:
        layers = [session.add(b"weights", OLLAMA + "model"), session.add(b"{{ messages }}", JINJA)]
        session.put(Name.parse("tiny"), build(session.add(b"{}", CONFIG), layers))
    assert library.find("tiny").preset.template == "{{ messages }}"
    assert library.find("tiny").template is None


def test_a_parameter_that_is_not_known_does_not_keep_a_model_from_running(
    library: Library, caplog: pytest.LogCaptureFixture
) -> None:
    install(library.store, "tiny", params=b'{"temperature": -1, "mirostat": 2, "novel": 1, "min_p": 0.5}')
    with caplog.at_level(logging.WARNING):
        assert library.find("tiny").preset.parameters == {"min_p": 0.5}
    assert len(caplog.records) == 3


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ({"params": b"{"}, "the layer of its params is not JSON"),
        ({"params": b"[]"}, "the layer of its params is not a JSON object"),
        ({"messages": b"{}"}, "is no list of messages"),
        ({"messages": b'[{"role":"robot","content":""}]'}, "is no list of messages"),
        ({"messages": b'[{"role":"user"}]'}, "is no list of messages"),
        ({"system": bytes((4 << 20) + 1)}, "more than 4194304 bytes"),
    ],
)
def test_what_a_model_says_may_be_damaged(library: Library, parts: dict[str, bytes], problem: str) -> None:
    install(library.store, "tiny", **parts)
    with pytest.raises(FileInvalid, match=problem):
        library.find("tiny")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMED = st.dictionaries(st.sampled_from(["stop", "seed", "num_ctx", "top_k", "temperature", "num_predict"]), JSON)


@given(JSON | NAMED, JSON | st.lists(st.fixed_dictionaries({"role": JSON, "content": JSON}), max_size=3))
def test_whatever_it_says_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, params: Any, messages: Any
) -> None:
    library = Library(Store(tmp_path_factory.mktemp("store")))
    parts = {"params": json.dumps(params).encode(), "messages": json.dumps(messages).encode()}
    install(library.store, "tiny", **parts)
    try:
        library.find("tiny")
    except UserError:
        return


def test_a_model_that_cannot_be_loaded(library: Library) -> None:
    install(library.store, "adapted", adapter=b"lora")
    with pytest.raises(Unsupported, match="adapters are not supported yet"):
        library.find("adapted")
    install(library.store, "double", model=b"more")
    with pytest.raises(Unsupported, match="has 2 model layers, and one is expected"):
        library.find("double")
    manifest = install(library.store, "gone")
    library.store.drop(manifest.of("model")[0])
    with pytest.raises(FileInvalid, match="are missing or not whole: pull it again"):
        library.find("gone")


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_model_that_goes_while_it_is_read_is_not_found_or_whole(
    comes_back: bool, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, name, left = library.store, Name.parse("tiny"), iter([True])
    install(store, "tiny", system=b"Be brief.")
    manifest = store.manifest

    def late(asked: Name) -> Manifest:
        found = manifest(asked)
        if next(left, False):
            store.remove(name)
        return found

    def has(layer: Layer, real: Callable[[Layer], bool] = store.has) -> bool:
        found = real(layer)
        if not found and comes_back:
            install(Store(store.root), "tiny", system=b"Be brief.")
        return found

    monkeypatch.setattr(store, "manifest", late)
    monkeypatch.setattr(store, "has", has)
    if comes_back:
        assert library.find("tiny").preset.system == "Be brief."
    else:
        with pytest.raises(ModelNotFound, match="'tiny' not found"):
            library.find("tiny")


def test_a_name_that_is_not_here(library: Library) -> None:
    install(library.store, "tiny:one")
    with pytest.raises(ModelNotFound, match=r"there is no model 'tiny:two': did you mean tiny:one\? `headrace list`"):
        library.find("tiny:two")
    with pytest.raises(ModelNotFound, match=r"did you mean lfm2:8b or "):
        library.find("lfm2:8bb")
    with pytest.raises(ModelNotFound, match=r"there is no model 'nan': did you mean nano\? "):
        library.find("nan")
    with pytest.raises(ModelNotFound, match="lfm2:8b is not here yet: `headrace pull lfm2:8b` fetches it"):
        library.find("lfm2:8b")
    with pytest.raises(ModelNotFound, match="no model 'some/model': `headrace pull some/model` may fetch it, "):
        library.find("some/model")
    with pytest.raises(ModelNotFound, match="there is no model 'xyzzy': `headrace pull xyzzy` may fetch it, "):
        library.find("xyzzy")


def test_a_short_name_finds_the_model_where_it_comes_from(library: Library) -> None:
    install(library.store, "hf.co/LiquidAI/LFM2-8B-A1B-GGUF:Q4_0")
    assert str(library.find("lfm2:8b").name) == "hf.co/LiquidAI/LFM2-8B-A1B-GGUF:Q4_0"
    install(library.store, "lfm2:8b", b"mine")
    assert library.find("LFM2:8b").path.read_bytes() == b"mine", "whoever gave a model this name meant it"


def test_ollamas_models_are_found_and_left_alone(library: Library, theirs: Store) -> None:
    install(theirs, "lfm2:24b", b"theirs")
    install(theirs, "both", b"theirs")
    install(library.store, "both", b"ours")
    listed = {str(one.name): one.origin for one in library.listed()}
    assert listed == {"both": "headrace", "lfm2:24b": OLLAMAS}
    assert library.find("lfm2:24b").origin == OLLAMAS
    assert library.find("both").path.read_bytes() == b"ours"
    with pytest.raises(StoreRefused):
        library.others[0].remove(Name.parse("lfm2:24b"))


def test_of_ollamas_models_those_that_run_here_are_listed(library: Library, theirs: Store) -> None:
    for family in ("lfm2moe", "bert"):
        with theirs.writing() as session:
            config = session.add(json.dumps({"model_family": family}).encode(), CONFIG)
            session.put(Name.parse(family), build(config, [session.add(b"weights", OLLAMA + "model")]))
    assert [str(one.name) for one in library.listed()] == ["lfm2moe"]


def test_a_store_that_is_closed_to_us_is_passed_over(
    library: Library, theirs: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(theirs, "theirs")
    install(library.store, "ours")

    def closed(folder: Path, real: Callable[[Path], Any] = Path.iterdir) -> Any:
        if library.others[0].root in (folder, *folder.parents):
            raise PermissionError(13, "Permission denied", str(folder))
        return real(folder)

    monkeypatch.setattr(Path, "iterdir", closed)
    assert [str(one.name) for one in library.listed()] == ["ours"]
    assert library.find("ours").origin == "headrace"
    with pytest.raises(ModelNotFound):
        library.find("other")


def test_a_file_in_hugging_faces_cache(library: Library) -> None:
    assert library.hub is not None
    files = {
        "LFM2-8B-A1B-Q4_0.gguf": head("lfm2moe"),
        "LFM2-8B-A1B-UD-Q4_K_M.gguf": head("lfm2moe"),
        "mmproj-model-f16.gguf": head("clip"),
        "bert-q8_0.gguf": head("bert"),
        "LFM2-8B-A1B-QAD-Q4_0.gguf": head("lfm2moe"),
        "odd.gguf": b"odd",
        "a name with spaces.gguf": b"",
        "LICENSE": "LFM Open License v1.0",
    }
    snapshot = download(library.hub, "LiquidAI/LFM2-8B-A1B-GGUF", **files)
    listed = [(str(one.name).rpartition(":")[2], one.origin, one.problem) for one in library.listed()]
    assert listed == [
        (tag, HUGGING_FACE, None) for tag in ("Q4_0", "LFM2-8B-A1B-QAD-Q4_0.gguf", "UD-Q4_K_M", "odd.gguf")
    ]
    found = library.find("lfm2:8b")
    assert (found.path, found.licenses) == (snapshot / "LFM2-8B-A1B-Q4_0.gguf", ("LFM Open License v1.0",))
    with pytest.raises(ModelNotFound):
        library.find("hf.co/LiquidAI/LFM2-8B-A1B-GGUF")  # which of them?
    snapshot = download(library.hub, "me/one", **{"model.q8_0.gguf": head("lfm2")})
    assert library.find("hf.co/Me/One").path == snapshot / "model.q8_0.gguf"


def test_a_folder_in_hugging_faces_cache(library: Library) -> None:
    assert library.hub is not None
    config, weights = '{"model_type": "lfm2_moe"}', b"0123456789"
    snapshot = download(library.hub, "LiquidAI/LFM2-8B-A1B", **{"config.json": config, "model.safetensors": weights})
    download(library.hub, "google/bert", **{"config.json": '{"model_type": "bert"}', "model.safetensors": b""})
    download(library.hub, "x/nothing", **{"README.md": ""})
    [listed] = library.listed()
    assert (str(listed.name), listed.size_bytes) == ("hf.co/LiquidAI/LFM2-8B-A1B", len(config) + 10)
    assert library.find("huggingface.co/liquidai/LFM2-8B-A1B").path == snapshot


@pytest.mark.parametrize(
    "files",
    [
        {"model.safetensors": None},
        {"model-00001-of-00002.safetensors": b"1"},
        {"model-00001-of-00002.safetensors": b"1", "model-00002-of-00002.safetensors": None},
    ],
)
def test_a_download_that_did_not_end_is_no_model(library: Library, files: dict[str, Any]) -> None:
    assert library.hub is not None
    download(library.hub, "a/b", **{"config.json": '{"model_type": "lfm2"}', **files})
    assert [one.problem for one in library.listed()] == ["it is not whole in the cache: pull it again"]
    with pytest.raises(FileInvalid, match="not whole in the cache"):
        library.find("hf.co/a/b")


def test_a_model_in_several_files_is_one(library: Library) -> None:
    assert library.hub is not None
    parts = {f"m-F16-0000{n}-of-00003.gguf": head("lfm2") for n in (1, 2, 3)}
    snapshot = download(library.hub, "a/b", **parts)
    [listed] = library.listed()
    assert (str(listed.name), listed.size_bytes, listed.problem) == ("hf.co/a/b:F16", 3 * len(head("lfm2")), None)
    assert library.find("hf.co/a/b:f16").path == snapshot / "m-F16-00001-of-00003.gguf"
    (snapshot / "m-F16-00002-of-00003.gguf").unlink()
    assert [one.problem for one in library.listed()] == ["it is not whole in the cache: pull it again"]


def test_a_cache_in_disorder_is_no_reason_to_fail(tmp_path: Path) -> None:
    for entry in ("models--a--b/snapshots", "models--..--..", "models--gpt2/snapshots/x", "datasets--a--b", ".locks"):
        (tmp_path / entry).mkdir(parents=True)
    (tmp_path / "models--c--d").touch()
    loop = tmp_path / "models--e--f/snapshots/x/m.gguf"
    loop.parent.mkdir(parents=True)
    loop.symlink_to(loop)
    (loop.parent / "model.safetensors").touch()
    (loop.parent / "config.json").write_text("[" * 100_000)
    assert [one.problem for one in cached(tmp_path)] == ["it is not whole in the cache: pull it again"]
    assert list(cached(tmp_path / "nowhere")) == []
