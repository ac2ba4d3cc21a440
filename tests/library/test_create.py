"""`create`: what it makes of files, folders, models and blobs; nothing is made of what cannot run."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import headrace
from headrace import nano
from headrace.convert import convert
from headrace.errors import UserError
from headrace.library import modelfile as modelfile_
from headrace.library import models
from headrace.library.create import create, dumped
from headrace.library.manifest import CONFIG, DOCKER, JINJA, OLLAMA, Layer, Manifest, build
from headrace.library.modelfile import Message, Modelfile, read
from headrace.library.models import Library
from headrace.library.names import Name
from headrace.library.progress import Progress
from headrace.library.store import Store
from headrace.preset import Preset
from headrace.weights import gguf
from tests import found_files, random_models
from tests.library.disks import small_disk
from tests.library.stores import install

TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"
MINE, OTHER = Name.parse("mine"), Name.parse("other:v1")


@pytest.fixture(scope="module")
def model() -> Any:
    return random_models.moe(hidden_size=64, num_attention_heads=4, intermediate_size=64, moe_intermediate_size=32)


@pytest.fixture(scope="module")
def files(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model as a folder, as a file of floats, as a quantised file, and in parts."""
    place = tmp_path_factory.mktemp("files")
    folder = random_models.save_tokenizer(random_models.save(model, place / "folder"))
    convert(folder, place / "floats.gguf", "f32")
    convert(folder, place / "small.gguf", "q8_0")
    found_files.write(place / "part.gguf", model, split_max_tensors=20)
    return place


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def made(store: Store, modelfile: Modelfile, name: Name = MINE, **options: Any) -> tuple[Manifest, list[str]]:
    seen: list[Progress] = []
    manifest = create(name, store, modelfile, report=seen.append, **options)
    assert store.manifest(name) == manifest
    assert not store.verify(name)
    store.collect(kept_s=-1)
    assert not store.verify(name)
    return manifest, list(dict.fromkeys(step.status for step in seen))


def config(store: Store, manifest: Manifest) -> Any:
    assert manifest.config is not None
    return json.loads(store.blob(manifest.config.digest).read_bytes())


def layers(store: Store, manifest: Manifest) -> dict[str, bytes]:
    """The contents of the small layers, by their types."""
    return {
        layer.media_type: store.blob(layer.digest).read_bytes() for layer in manifest.layers if layer.kind != "model"
    }


def blob_of(store: Store, manifest: Manifest) -> Path:
    (layer,) = manifest.of("model")
    return store.blob(layer.digest)


def send(store: Store, content: bytes) -> str:
    """As a client sends a blob."""
    with store.writing() as session:
        return session.add(content, "").digest


def everything(store: Store) -> set[str]:
    return {str(path.relative_to(store.root)) for path in store.root.rglob("*") if path.is_file()} - {"lock"}


# --- from a file


def test_from_a_gguf_file_byte_for_byte(files: Path, store: Store) -> None:
    manifest, statuses = made(store, Modelfile("small.gguf"), folder=files)
    blob = blob_of(store, manifest)
    assert blob.read_bytes() == (files / "small.gguf").read_bytes()
    assert not blob.is_symlink()
    assert blob.stat().st_ino != (files / "small.gguf").stat().st_ino
    (layer,) = manifest.layers
    assert layer == Layer(OLLAMA + "model", layer.digest, blob.stat().st_size)
    assert manifest.config is not None
    assert statuses == [
        "reading model metadata",
        "computing sha256 digest",
        "copying file",
        f"creating new layer {layer.digest}",
        f"creating new layer {manifest.config.digest}",
        "writing manifest",
        "success",
    ]
    with headrace.load(blob) as ours, headrace.load(files / "small.gguf") as theirs:
        assert ours.logits([1, 20, 30]).tobytes() == theirs.logits([1, 20, 30]).tobytes()


def test_the_config_and_the_manifest_are_as_ollama_writes_them(files: Path, store: Store) -> None:
    manifest, _ = made(store, Modelfile("small.gguf", requires="v0.14.0"), folder=files)
    (layer,) = manifest.layers
    assert manifest.config is not None
    text = store.blob(manifest.config.digest).read_text()
    assert text == (
        '{"model_format":"gguf","model_family":"lfm2moe","model_families":["lfm2moe"],"model_type":"226K",'
        '"file_type":"Q8_0","requires":"0.14.0","architecture":"amd64","os":"linux",'
        f'"rootfs":{{"type":"layers","diff_ids":["{layer.digest}"]}}}}\n'
    )
    assert manifest.config.media_type == CONFIG
    assert json.loads(manifest.raw)["mediaType"] == DOCKER


def test_the_same_again_makes_nothing_new(files: Path, store: Store) -> None:
    first, _ = made(store, Modelfile("small.gguf", system="Be brief."), folder=files)
    before = everything(store)
    second, statuses = made(store, Modelfile("small.gguf", system="Be brief."), folder=files)
    assert second == first
    assert everything(store) == before
    assert not [status for status in statuses if status.startswith(("creating", "copying"))]
    assert f"using existing layer {first.layers[0].digest}" in statuses


def test_paths_begin_where_the_modelfile_is(files: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(store.root.parent)
    monkeypatch.setenv("HOME", str(files))
    for source in (
        "small.gguf",
        "./small.gguf",
        "../" + files.name + "/small.gguf",
        "~/small.gguf",
        str(files / "small.gguf"),
    ):
        manifest, _ = made(store, Modelfile(source), folder=files)
        assert blob_of(store, manifest).read_bytes() == (files / "small.gguf").read_bytes()


@pytest.mark.parametrize(
    ("source", "kind", "sentence"),
    [
        ("./none", headrace.ModelNotFound, "FROM is './none', and there is no such file or folder in {folder}"),
        ("none.gguf", headrace.ModelNotFound, "FROM is 'none.gguf', and there is no such file or folder in {folder}"),
        ("none", headrace.ModelNotFound, "model 'none' not found: `headrace pull none` may bring it"),
        ("folder/config.json", headrace.FileInvalid, "{folder}/folder/config.json: this is not a GGUF file"),
        (".", headrace.ModelNotFound, "{folder}: a model folder has a config.json, and this one has none: give one of"),
        ("a" * 5000, headrace.RequestInvalid, "is no model's name"),
        ("a\0b", headrace.RequestInvalid, "cannot be the model of a model's name"),
        ("~nobody-of-this-name/x", headrace.ModelNotFound, "there is no such file or folder in"),
    ],
)
def test_what_from_cannot_be(
    source: str, kind: type[headrace.UserError], sentence: str, files: Path, store: Store
) -> None:
    with pytest.raises(headrace.UserError) as raised:
        create(MINE, store, Modelfile(source), folder=files)
    assert type(raised.value) is kind
    assert sentence.format(folder=files) in str(raised.value)
    assert not store.names()


def test_a_folder_that_is_no_model_does_not_hide_one_of_its_name(files: Path, store: Store, tmp_path: Path) -> None:
    (tmp_path / "other:v1").mkdir()
    made(store, Modelfile("small.gguf"), name=OTHER, folder=files)
    manifest, _ = made(store, Modelfile("other:v1"), folder=tmp_path)
    assert manifest.digest == store.manifest(OTHER).digest


def test_the_embedded_model(store: Store, tmp_path: Path) -> None:
    for folder in (tmp_path, None):
        manifest, _ = made(store, Modelfile("Nano:latest" if folder else "nano"), folder=folder)
        assert blob_of(store, manifest).read_bytes() == nano.FILE.read_bytes()


def test_what_cannot_run_is_not_made(files: Path, store: Store, tmp_path: Path) -> None:
    content = (files / "small.gguf").read_bytes()
    (tmp_path / "other.gguf").write_bytes(content.replace(b"\7\0\0\0\0\0\0\0lfm2moe", b"\7\0\0\0\0\0\0\0mistral", 1))
    (tmp_path / "cut.gguf").write_bytes(content[:-1000])
    with pytest.raises(headrace.Unsupported, match="architecture 'mistral' is not supported"):
        create(MINE, store, Modelfile("other.gguf"), folder=tmp_path)
    with pytest.raises(headrace.FileInvalid, match="it is cut off"):
        create(MINE, store, Modelfile("cut.gguf"), folder=tmp_path)
    assert everything(store) == set()


def test_parts_become_one_file(model: Any, files: Path, store: Store, tmp_path: Path) -> None:
    manifest, statuses = made(store, Modelfile("./part-00002-of-00003.gguf"), folder=files)
    whole = found_files.write(tmp_path / "whole.gguf", model)
    assert blob_of(store, manifest).read_bytes() == whole.read_bytes()
    assert "merging the parts of the model" in statuses


@pytest.mark.parametrize("source", ["small.gguf", "other:v1", "a blob"])
def test_what_is_taken_stays_when_others_remove_it_meanwhile(source: str, files: Path, store: Store) -> None:
    digest = made(store, Modelfile("small.gguf", {"top_k": 1}), name=OTHER, folder=files)[0].of("model")[0].digest

    def remove(step: Progress) -> None:
        if step.status.startswith("using existing layer") and store.has_model(OTHER):
            store.remove(OTHER)
            store.collect(kept_s=-1)

    sent = {"a.gguf": digest} if source == "a blob" else {}
    create(MINE, store, Modelfile("" if sent else source), folder=files, files=sent, report=remove)
    assert store.names() == [MINE]
    assert not store.verify(MINE)


# --- in another type


@pytest.mark.parametrize("source", ["folder", "floats.gguf"])
@pytest.mark.parametrize("quantize", ["q4_0", "Q8_0", "f16", "bf16"])
def test_quantised_as_convert_does_it(quantize: str, source: str, files: Path, store: Store, tmp_path: Path) -> None:
    manifest, _ = made(store, Modelfile(source), folder=files, quantize=quantize)
    convert(files / source, tmp_path / "wanted.gguf", quantize.lower())
    assert blob_of(store, manifest).read_bytes() == (tmp_path / "wanted.gguf").read_bytes()
    assert config(store, manifest)["file_type"] == quantize.upper()


def test_a_folder_as_it_is_loses_nothing(files: Path, store: Store) -> None:
    manifest, statuses = made(store, Modelfile("folder"), folder=files)
    assert config(store, manifest)["file_type"] == "F32"
    assert "converting model" in statuses
    with headrace.load(blob_of(store, manifest)) as ours, headrace.load(files / "folder") as theirs:
        assert ours.logits([1, 20, 30]).tobytes() == theirs.logits([1, 20, 30]).tobytes()


def test_a_folder_in_bf16_stays_so(store: Store, tmp_path: Path) -> None:
    import torch

    half = random_models.save_tokenizer(random_models.save(random_models.dense().to(torch.bfloat16), tmp_path / "half"))
    manifest, _ = made(store, Modelfile(str(half)), folder=tmp_path)
    types = {tensor.type for tensor in gguf.read(blob_of(store, manifest)).tensors.values()}
    assert types == {"BF16", "F32"}


def test_a_model_of_the_library_in_another_type(files: Path, store: Store, tmp_path: Path) -> None:
    made(store, Modelfile("floats.gguf", {"top_k": 4}, system="Be brief."), name=OTHER, folder=files)
    manifest, statuses = made(store, Modelfile("other:v1"), quantize="q8_0")
    convert(files / "floats.gguf", tmp_path / "wanted.gguf", "q8_0")
    assert blob_of(store, manifest).read_bytes() == (tmp_path / "wanted.gguf").read_bytes()
    assert layers(store, manifest) == {OLLAMA + "params": b'{"top_k":4}\n', OLLAMA + "system": b"Be brief."}
    assert config(store, manifest)["file_type"] == "Q8_0"
    assert config(store, manifest)["rootfs"]["diff_ids"] == [layer.digest for layer in manifest.layers]
    assert "quantizing model to Q8_0" in statuses


def test_what_is_quantised_is_not_rounded_again(files: Path, store: Store) -> None:
    made(store, Modelfile("small.gguf"), name=OTHER, folder=files)
    before = everything(store)
    for source, called in (("small.gguf", str(files / "small.gguf")), ("other:v1", "other:v1")):
        with pytest.raises(headrace.Unsupported, match=f"^{re.escape(called)} is quantised already"):
            create(MINE, store, Modelfile(source), folder=files, quantize="q4_0")
    assert everything(store) == before


def test_other_types_are_named(files: Path, store: Store) -> None:
    with pytest.raises(headrace.RequestInvalid, match="'q4_K_M' but should be one of q4_0, q8_0, f16, bf16"):
        create(MINE, store, Modelfile("floats.gguf"), folder=files, quantize="q4_K_M")


# --- what a Modelfile adds


def test_every_instruction_is_a_layer(files: Path, store: Store) -> None:
    text = (
        "FROM ./small.gguf\nPARAMETER temperature 1.0\nPARAMETER min_p 0.15\nPARAMETER stop <|im_end|>\n"
        f'PARAMETER num_gpu 9\nTEMPLATE """{TEMPLATE}"""\nSYSTEM You & I.\nLICENSE MIT\nLICENSE Apache\n'
        "MESSAGE user Hi\nMESSAGE assistant Hé\n"
    )
    manifest, _ = made(store, read(text.encode()), folder=files)
    assert layers(store, manifest) == {
        JINJA: TEMPLATE.encode(),
        OLLAMA + "system": b"You & I.",
        OLLAMA + "license": b"Apache",
        OLLAMA + "params": b'{"min_p":0.15,"num_gpu":9,"stop":["\\u003c|im_end|\\u003e"],"temperature":1}\n',
        OLLAMA + "messages": '[{"role":"user","content":"Hi"},{"role":"assistant","content":"Hé"}]\n'.encode(),
    }
    assert [store.blob(layer.digest).read_bytes() for layer in manifest.of("license")] == [b"MIT", b"Apache"]
    found = models.read(store, MINE)
    preset = found.preset
    assert preset.parameters == {"temperature": 1, "min_p": 0.15, "stop": ["<|im_end|>"]}
    assert (preset.template, preset.system, preset.num_ctx) == (TEMPLATE, "You & I.", None)
    assert [dict(message) for message in preset.messages] == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hé"},
    ]
    told = modelfile_.of(preset, "./small.gguf", found.licenses)
    assert told == read(text.encode().replace(b"1.0", b"1").replace(b"PARAMETER num_gpu 9\n", b""))


def test_a_model_says_as_a_modelfile_what_it_was_made_from(files: Path, store: Store) -> None:
    wanted = Modelfile("./small.gguf", {"num_ctx": 64, "stop": ["a", "b"]}, TEMPLATE, "s", ("MIT",), requires="0.14.0")
    first, _ = made(store, wanted, folder=files)
    found = models.read(store, MINE)
    told = modelfile_.of(found.preset, "./small.gguf", found.licenses, "0.14.0")
    assert told == wanted
    again, _ = made(store, read(modelfile_.write(told).encode()), name=OTHER, folder=files)
    assert again.raw == first.raw


def test_what_a_model_says_of_a_few_things_is_a_short_modelfile() -> None:
    assert modelfile_.of(Preset(), "x") == Modelfile("x")
    told = modelfile_.of(Preset(parameters={"stop": "a"}, messages=[{"role": "tool", "content": "x"}]), "x")
    assert told == Modelfile("x", {"stop": ["a"]})


GO = b"{{- range .Messages }}{{ .Content }}{{ end }}\n"
PARENT_CONFIG = {"model_format": "gguf", "renderer": "lfm2", "unknown": [1], "architecture": "arm64", "os": "x"}


@pytest.fixture
def parent(store: Store) -> Manifest:
    """A model as it may be pulled; create does not read its weights."""
    with store.writing() as session:
        kinds = {
            "model": b"weights",
            "license": b"LFM",
            "template": GO,
            "params": b'{"stop":["a"],"temperature":0.5,"from_the_future":{}}',
            "messages": b'[{"role":"user","content":"old"}]',
            "system": b"old",
        }
        parts = [session.add(data, OLLAMA + kind) for kind, data in kinds.items()]
        top = session.add(dumped(PARENT_CONFIG), CONFIG)
        return session.put(OTHER, build(top, parts))


def test_all_that_a_model_has_is_inherited(parent: Manifest, store: Store) -> None:
    manifest, _ = made(store, Modelfile("other:v1"))
    assert manifest.layers == parent.layers
    found = config(store, manifest)
    assert found.pop("rootfs")["diff_ids"] == [layer.digest for layer in parent.layers]
    assert found == PARENT_CONFIG


@pytest.mark.usefixtures("parent")
def test_once_more_from_what_was_made_is_the_same_to_the_byte(store: Store) -> None:
    first, _ = made(store, Modelfile("other:v1", {"top_k": 1}))
    assert made(store, Modelfile("mine"), name=Name.parse("third"))[0].raw == first.raw


@pytest.mark.usefixtures("parent")
def test_what_is_said_anew_takes_the_place_of_what_was_there(store: Store) -> None:
    modelfile = Modelfile(
        "other:v1",
        {"stop": "b", "top_k": 3, "seed": None},
        TEMPLATE,
        "new",
        ("LFM", "MIT", ""),
        (Message("assistant", "new"),),
        "1.0.0",
    )
    manifest, _ = made(store, modelfile)
    found = layers(store, manifest)
    assert found[OLLAMA + "template"] == GO
    assert found[JINJA] == TEMPLATE.encode()
    assert found[OLLAMA + "system"] == b"new"
    assert found[OLLAMA + "messages"] == b'[{"role":"assistant","content":"new"}]\n'
    assert json.loads(found[OLLAMA + "params"]) == {
        "stop": ["b"],
        "temperature": 0.5,
        "top_k": 3,
        "from_the_future": {},
    }
    assert [store.blob(layer.digest).read_bytes() for layer in manifest.of("license")] == [b"LFM", b"MIT"]
    assert config(store, manifest)["requires"] == "1.0.0"
    assert [layer.kind for layer in manifest.layers].count("system") == 1


@pytest.mark.usefixtures("parent")
def test_an_empty_text_takes_away_what_was_there(store: Store) -> None:
    made(store, Modelfile("other:v1", template=TEMPLATE))
    manifest, _ = made(store, Modelfile("mine", template="", system=""))
    assert not {JINJA, OLLAMA + "system"} & layers(store, manifest).keys()
    assert layers(store, manifest)[OLLAMA + "template"] == GO


@pytest.mark.usefixtures("parent")
def test_a_model_may_be_made_anew_from_itself(store: Store) -> None:
    manifest, _ = made(store, Modelfile("other:v1", system="new"), name=OTHER)
    assert layers(store, manifest)[OLLAMA + "system"] == b"new"


def test_a_model_without_one_file_cannot_be_quantised(store: Store) -> None:
    install(store, "other:v1", b"weights", projector=b"x")
    with store.writing() as session:
        twice = [session.add(data, OLLAMA + "model") for data in (b"a", b"b")]
        session.put(Name.parse("two"), build(session.add(b"{}", CONFIG), twice))
    with pytest.raises(headrace.Unsupported, match="two has 2 model files, and one of one file can be quantised"):
        create(MINE, store, Modelfile("two"), quantize="q4_0")


@pytest.mark.parametrize("data", [b"[]", b"{", b'{"top_p":NaN}', b'{"stop":"\\ud800"}', b"[" * 100_000])
@pytest.mark.parametrize("part", ["config", "params"])
def test_what_is_inherited_must_be_what_it_says(part: str, data: bytes, store: Store) -> None:
    with store.writing() as session:
        config = session.add(data if part == "config" else b"{}", CONFIG)
        parts = [session.add(b"weights", OLLAMA + "model"), session.add(data, OLLAMA + "params")]
        session.put(OTHER, build(config, parts if part == "params" else parts[:1]))
    with pytest.raises(headrace.FileInvalid, match="JSON"):
        create(MINE, store, Modelfile("other:v1"))
    assert not store.has_model(MINE)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"stop": ["<|im_end|>", "&"]}, '{"stop":["\\u003c|im_end|\\u003e","\\u0026"]}'),
        ({"temperature": 1.0, "top_p": 0.9, "seed": -1}, '{"temperature":1,"top_p":0.9,"seed":-1}'),
        ([True, None, "é\n\u2028"], '[true,null,"é\\n\\u2028"]'),
    ],
)
def test_json_as_gos_encoder_writes_it(value: Any, text: str) -> None:
    assert dumped(value) == text.encode() + b"\n"


@pytest.mark.parametrize(
    ("modelfile", "sentence"),
    [
        (Modelfile("nano", {"temprature": 1}), "PARAMETER temprature: there is no such option here"),
        (Modelfile("nano", {"temperature": "hot"}), "temperature is 'hot' but should be a number from 0 to 100"),
        (Modelfile("nano", {"stop": [1]}), "stop should be a text or a list of texts"),
        (Modelfile("nano", {"num_gpu": float("nan")}), "PARAMETER num_gpu is nan but should be a number"),
        (Modelfile("nano", template="{{ .Prompt }}"), "TEMPLATE is a Go template, and should be Jinja"),
        (Modelfile("nano", template="{% if %}"), "the chat template cannot be read"),
        (Modelfile("nano", messages=(Message("tool", "x"),)), "MESSAGE has the role 'tool'"),
        (Modelfile("nano", requires="soon"), "REQUIRES is 'soon'"),
        (Modelfile("nano", system="\ud800"), "'\\ud800' holds half of a surrogate pair, which is no character"),
        (Modelfile(""), "a model is created from one thing: give `from`, or `files`"),
    ],
)
def test_flags_and_requests_are_held_to_what_a_modelfile_is(modelfile: Modelfile, sentence: str, store: Store) -> None:
    with pytest.raises(headrace.UserError) as raised:
        create(MINE, store, modelfile)
    assert sentence in str(raised.value)
    assert not store.root.exists()


# --- from models that others have


def test_a_short_name_is_found_where_it_comes_from(parent: Manifest, store: Store) -> None:
    store.copy(OTHER, Name.parse("hf.co/LiquidAI/LFM2-8B-A1B-GGUF:Q4_0"))
    assert made(store, Modelfile("lfm2:8b"))[0].layers == parent.layers


@pytest.mark.usefixtures("parent")
def test_a_model_of_ollamas_store_is_copied(store: Store, tmp_path: Path) -> None:
    ours = Store(tmp_path / "ours")
    library = Library(ours, [Store(store.root, can_write=False)])
    before = everything(store)
    manifest, statuses = made(ours, Modelfile("other:v1", system="new"), library=library)
    assert layers(ours, manifest)[OLLAMA + "template"] == GO
    assert layers(ours, manifest)[OLLAMA + "system"] == b"new"
    assert "copying file" in statuses
    assert everything(store) == before
    with pytest.raises(headrace.ModelNotFound, match="not found: `headrace pull other:v1` may bring it"):
        create(MINE, Store(tmp_path / "third"), Modelfile("other:v1"))


def test_what_is_damaged_in_ollamas_store_is_not_taken_over(parent: Manifest, store: Store, tmp_path: Path) -> None:
    store.blob(parent.layers[0].digest).write_bytes(b"WEIGHTS")
    ours = Store(tmp_path / "ours")
    with pytest.raises(headrace.FileInvalid, match="is damaged where it was found"):
        create(MINE, ours, Modelfile("other:v1"), library=Library(ours, [Store(store.root, can_write=False)]))
    assert not ours.names()


def test_a_file_of_hugging_faces_cache_is_copied(files: Path, store: Store, tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "models--LiquidAI--LFM2-8B-A1B-GGUF" / "snapshots" / "0"
    snapshot.mkdir(parents=True)
    (snapshot / "LFM2-8B-A1B-Q8_0.gguf").symlink_to(files / "small.gguf")
    (snapshot / "LICENSE").write_text("LFM")
    library = Library(store, hub=tmp_path / "hub")
    manifest, _ = made(store, Modelfile("hf.co/LiquidAI/LFM2-8B-A1B-GGUF:Q8_0"), library=library)
    assert blob_of(store, manifest).read_bytes() == (files / "small.gguf").read_bytes()
    assert layers(store, manifest) == {OLLAMA + "license": b"LFM"}


# --- the disk


@pytest.mark.parametrize("mounts", [True, False])
@pytest.mark.parametrize(("source", "quantize"), [("small.gguf", None), ("floats.gguf", "q8_0")])
def test_a_disk_that_is_really_full(
    source: str, quantize: str | None, mounts: bool, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(tmp_path / "small", 100_000, monkeypatch, mounts=mounts) as make_room:
        store = Store(tmp_path / "small" / "store")
        with pytest.raises(UserError, match=r"no room left on this disk|B free, but the file takes"):
            create(MINE, store, Modelfile(source), folder=files, quantize=quantize)
        assert store.names() == []
        assert everything(store) == set()
        make_room()
        made(store, Modelfile(source), folder=files, quantize=quantize)


# --- for who asks from elsewhere


@pytest.mark.parametrize("source", ["/etc/passwd", "./x.gguf", "../x", "~/x", ".", "..", "\\\\host\\x"])
def test_from_is_no_path_for_others(source: str, store: Store) -> None:
    with pytest.raises(headrace.RequestInvalid, match="no file of the server's is read for others, send it as a blob"):
        create(MINE, store, Modelfile(source))


def test_what_lies_where_the_server_runs_is_not_read_for_others(
    files: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    for source in ("small.gguf", "folder"):
        with pytest.raises(headrace.ModelNotFound, match="not found: `headrace pull"):
            create(MINE, store, Modelfile(source))
    with pytest.raises(headrace.RequestInvalid, match="cannot be the namespace of a model's name"):
        create(MINE, store, Modelfile("folder/../small.gguf"))


def test_one_file_that_was_sent(files: Path, store: Store) -> None:
    digest = send(store, (files / "small.gguf").read_bytes())
    manifest, statuses = made(store, Modelfile("", system="Be brief."), files={"any name": digest})
    assert manifest.of("model")[0].digest == digest
    assert statuses[:2] == ["reading model metadata", f"using existing layer {digest}"]
    assert config(store, manifest)["model_family"] == "lfm2moe"


def test_files_that_were_sent(files: Path, store: Store, tmp_path: Path) -> None:
    def sent(names: str) -> Mapping[str, str]:
        return {path.name: send(store, path.read_bytes()) for path in sorted(files.glob(names))}

    manifest, _ = made(store, Modelfile(""), files=sent("floats.gguf"), quantize="q8_0")
    assert blob_of(store, manifest).read_bytes() == (files / "small.gguf").read_bytes()
    manifest, _ = made(store, Modelfile(""), files=sent("part-*.gguf"))
    assert config(store, manifest)["file_type"] == "F32"
    convert(files / "folder", tmp_path / "mine.gguf", "q4_0")
    manifest, _ = made(store, Modelfile(""), files=sent("folder/*"), quantize="q4_0")
    found, wanted = gguf.read(blob_of(store, manifest)), gguf.read(tmp_path / "mine.gguf")
    assert {n: t.data.tobytes() for n, t in found.tensors.items()} == {
        n: t.data.tobytes() for n, t in wanted.tensors.items()
    }
    assert found.metadata["general.name"] == "mine"


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["../x.gguf"], "files has '../x.gguf', and should have the names of files, without folders"),
        (["a/b.gguf"], "should have the names of files, without folders"),
        ([".."], "should have the names of files, without folders"),
        ([""], "should have the names of files, without folders"),
        (["x" * 256], "should have the names of files, without folders"),
        (["a.gguf", "config.json"], "files has GGUF files and others: send either the ones or the others"),
        (["a.gguf", "b.gguf"], "files has 2 GGUF files that are not the parts of one model: send one"),
        (["part-00001-of-00003.gguf", "part-00002-of-00003.gguf"], "files has 2 GGUF files that are not the parts"),
    ],
)
def test_files_that_cannot_be_a_model(names: list[str], sentence: str, files: Path, store: Store) -> None:
    digest = send(store, (files / "small.gguf").read_bytes())
    with pytest.raises(headrace.RequestInvalid) as raised:
        create(MINE, store, Modelfile(""), files=dict.fromkeys(names, digest))
    assert sentence in str(raised.value)


def test_blobs_that_are_not_there(store: Store) -> None:
    digest = "sha256:" + hashlib.sha256(b"x").hexdigest()
    with pytest.raises(headrace.RequestInvalid, match=f"files: there is no blob {digest} for 'a.gguf': send it first"):
        create(MINE, store, Modelfile(""), files={"a.gguf": digest})
    with pytest.raises(headrace.RequestInvalid, match="is no digest"):
        create(MINE, store, Modelfile(""), files={"a.gguf": "sha256:../../x"})
    with pytest.raises(headrace.RequestInvalid, match="give `from`, or `files`"):
        create(MINE, store, Modelfile("nano"), files={"a.gguf": digest})
    with pytest.raises(headrace.RequestInvalid, match="from 1 to 1024 files, and has 1025"):
        create(MINE, store, Modelfile(""), files={f"{i}.gguf": digest for i in range(1025)})


def test_a_file_that_is_read_whole_has_an_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.library.source.LARGEST_TEXT", 1 << 20)
    large, small = send(store, b" " * ((1 << 20) + 1)), send(store, b"{}")
    with pytest.raises(headrace.RequestInvalid, match="has more than 1 MiB, and no such file has"):
        create(MINE, store, Modelfile(""), files={"config.json": small, "tokenizer.json": large})


def test_an_error_does_not_say_where_the_server_keeps_files(store: Store) -> None:
    digest = send(store, b"GGUF\x03\0\0\0")
    for sent in ({"a.gguf": digest}, {"config.json": send(store, b"[]"), "model.safetensors": digest}):
        with pytest.raises(headrace.FileInvalid) as raised:
            create(MINE, store, Modelfile(""), files=sent)
        assert str(raised.value).startswith(f"mine/{next(iter(sent))}: ")
        assert raised.value.path == f"mine/{next(iter(sent))}"
        assert "/tmp" not in str(raised.value)
        assert str(store.root) not in str(raised.value)
    with pytest.raises(
        headrace.ModelNotFound, match=r"^mine: a model folder has a config\.json, and this one has none$"
    ):
        create(MINE, store, Modelfile(""), files={"a.json": digest, "b.json": digest})


def test_arrays_stay_whole(files: Path, store: Store) -> None:
    """The model that was made says what the folder says, word for word and number for number."""
    manifest, _ = made(store, Modelfile("folder"), folder=files)
    with headrace.load(blob_of(store, manifest)) as ours, headrace.load(files / "folder") as theirs:
        assert ours.tokenize("abc ab") == theirs.tokenize("abc ab")
        assert np.array_equal(ours.logits([5, 6]), theirs.logits([5, 6]))
