"""Hostile models, loaded whole: each works, or is one UserError sentence; no crash, no hang, no memory as claimed."""

from __future__ import annotations

import inspect
import json
import re
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace import checkpoint, defaults
from headrace.models import lfm2, lfm2_moe
from headrace.text import tokenizer
from headrace.weights import gguf, split
from tests import random_models
from tests.hostile_files import (
    TYPES,
    WRONG,
    Entry,
    Gguf,
    array,
    bounds,
    outcome,
    places,
    removed,
    replaced,
    safetensors,
    split_safetensors,
)

TINY: dict[str, Any] = {
    "hidden_size": 8,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 8,
    "moe_intermediate_size": 4,
    "num_experts": 3,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 2,
    "layer_types": ["conv", "full_attention"],
    "max_position_embeddings": 128,
}


@pytest.fixture(autouse=True)
def in_bounds() -> Iterator[None]:
    with bounds():
        yield


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is a model, and holds the same as model.gguf."""
    folder, model = tmp_path_factory.mktemp("valid"), random_models.moe(**TINY)
    random_models.save_gguf(model, random_models.save_tokenizer(random_models.save(model, folder)) / "model.gguf")
    assert outcome(folder) == outcome(folder / "model.gguf") == "works"
    return folder


@pytest.fixture(scope="module")
def parts(valid: Path) -> Gguf:
    return Gguf.of(valid / "model.gguf")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="module")
def folder(valid: Path, scratch: Path) -> Path:
    """A copy to break; each use mends it again."""
    return Path(shutil.copytree(valid, scratch / "folder", ignore=shutil.ignore_patterns("*.gguf")))


def of_content(scratch: Path, content: bytes) -> str:
    path = scratch / "hostile.gguf"
    path.unlink(missing_ok=True)  # a new file: an old map must not change under anybody
    path.write_bytes(content)
    return outcome(path)


def of_file(folder: Path, name: str, content: bytes) -> str:
    """The outcome of a folder in which one file is another."""
    path = folder / name
    before = path.read_bytes() if path.exists() else None
    path.unlink(missing_ok=True)
    try:
        path.write_bytes(content)
        return outcome(folder)
    finally:
        path.unlink(missing_ok=True)
        if before is not None:
            path.write_bytes(before)


# --- GGUF ------------------------------------------------------------------------------------------------------------


def test_cut_anywhere(valid: Path, scratch: Path) -> None:
    content = (valid / "model.gguf").read_bytes()
    for length in [*range(64), *range(64, len(content), 61), len(content) - 1]:
        assert of_content(scratch, content[:length]) != "works"


def sources(*modules: ModuleType) -> str:
    return "".join(inspect.getsource(module) for module in modules)


# Every key that is read, found where it is read.
GGUF_KEYS = {
    *(f"lfm2moe.{key}" for key in re.findall(r'key \+ "([\w.]+)"', sources(lfm2, lfm2_moe))),
    *re.findall(r'"((?:general|split|tokenizer)\.[\w.]+)"', sources(checkpoint, defaults, gguf, split, tokenizer)),
    *(f"tokenizer.ggml.{name}_token_id" for name in ("bos", "eos", "padding", "unknown")),
}
CONFIG_KEYS = {
    *re.findall(r'fields(?:\.\w+)*(?:[(\[]|, )"(\w+)"', sources(lfm2, lfm2_moe)),
    *("num_experts", "num_local_experts"),
    *("layer_types", "full_attn_idxs", "rope_parameters", "rope_scaling", "model_type", "eos_token_id"),
}


def test_the_keys_were_found() -> None:
    assert {"lfm2moe.attention.head_count_kv", "tokenizer.ggml.merges", "general.sampling.temp"} < GGUF_KEYS
    assert {"split.no", "split.count", "split.tensors.count", "tokenizer.ggml.eos_token_ids"} < GGUF_KEYS
    assert {"num_hidden_layers", "norm_eps", "use_expert_bias", "tie_embedding", "rope_theta"} < CONFIG_KEYS
    assert len(GGUF_KEYS) > 25
    assert len(CONFIG_KEYS) > 20


def test_every_key_missing_or_of_any_value(parts: Gguf, scratch: Path) -> None:
    for key in sorted(GGUF_KEYS | parts.pairs.keys()):
        of_content(scratch, parts.edited(lambda file, key=key: file.pairs.pop(key, None)).content())
        nested = array(9, 1, array(5, 1, bytes(4))[4:])
        for value in (*WRONG, nested, array(8, 2**60), array(4, 2**60), array(99, 1), struct.pack("<I", 99)):
            of_content(scratch, parts.edited(lambda f, key=key, value=value: f.pairs.update({key: value})).content())


def test_every_kind_of_list_of_a_fitting_length(parts: Gguf, scratch: Path) -> None:
    """Lists as long as they should be, of something else."""
    for key, value in parts.pairs.items():
        if isinstance(value, list):
            for item in (-1, 0, 5, 2**31 - 1, float("nan"), float("inf"), "", "a", "a b", "\ud800", "<|im_end|>"):
                whole, first, last = [item] * len(value), [item, *value[1:]], [*value[:-1], item]
                for changed in (whole, first, last, value * 2, value[:-1]):
                    if len({type(one) for one in changed}) == 1:
                        of_content(scratch, parts.edited(lambda f, k=key, c=changed: f.pairs.update({k: c})).content())


def shapes(sizes: list[int]) -> list[list[int]]:
    """What a tensor may claim instead of `sizes`."""
    first, *rest = sizes
    return [
        *(sizes[::-1], [*rest, first], [first * 2, *rest], [first + 1, *rest], [max(1, first - 1), *rest], [1, *rest]),
        *([first], [*sizes, 1], [1, *sizes], [1, 1, *sizes][:4], [int(np.prod(sizes))], [1], [0], [9, *rest]),
        *([*sizes[:-1], sizes[-1] + 1], [*sizes[:-1], 2 * sizes[-1]], [*sizes[:-1], 1]),
    ]


def test_every_tensor_of_any_shape_or_type(parts: Gguf, scratch: Path) -> None:
    for place, entry in enumerate(parts.tensors):
        changed = [entry.resized(sizes) for sizes in shapes(entry.sizes)]
        changed += [entry.resized(entry.sizes, kind) for kind in (TYPES["F16"], TYPES["BF16"])]
        changed += [entry.resized([32, *entry.sizes[1:]], TYPES["Q4_0"]), entry.resized([256], TYPES["Q6_K"])]
        for other in changed:
            of_content(scratch, parts.edited(lambda f, p=place, o=other: f.tensors.__setitem__(p, o)).content())


def test_every_tensor_missing_twice_or_elsewhere(parts: Gguf, scratch: Path) -> None:
    for place, entry in enumerate(parts.tensors):
        edits: list[Callable[[Gguf], object]] = [
            lambda f, p=place: f.tensors.pop(p),
            lambda f, e=entry: f.tensors.append(e),
            *(
                lambda f, p=place, o=offset: setattr(f.tensors[p], "offset", o)
                for offset in (0, 32, 2**40, 2**63, 2**64 - 32, 7)
            ),
            *(
                lambda f, p=place, s=sizes: setattr(f.tensors[p], "sizes", s)
                for sizes in ([2**62], [2**31, 2**31, 4], [2**63, 2**63], [], [1] * 5)
            ),
        ]
        for edit in edits:
            of_content(scratch, parts.edited(edit).content())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 3e38, -3e38, 1e-45, 0.0])
def test_weights_of_any_value(value: float, parts: Gguf, scratch: Path) -> None:
    """They are numbers, so the file is right: what comes out is as good as what went in."""
    for place in range(len(parts.tensors)):

        def poison(file: Gguf, place: int = place) -> None:
            numbers = np.frombuffer(file.tensors[place].data, np.float32).copy()
            numbers[:: 1 if value else 2] = value
            file.tensors[place].data = numbers.tobytes()

        assert of_content(scratch, parts.edited(poison).content()) == "works"


@pytest.mark.parametrize("kind", TYPES)
def test_blocks_of_random_bytes(kind: str, scratch: Path, isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scales that are no numbers, and every pattern of bits."""
    monkeypatch.setenv("HEADRACE_ISA", isa)
    wide = {"hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 256, "moe_intermediate_size": 256}
    path = random_models.save_gguf(random_models.moe(**TINY | wide), scratch / "wide.gguf")
    random = np.random.default_rng(0)

    def refill(file: Gguf) -> None:
        for place, entry in enumerate(file.tensors):
            if len(entry.sizes) > 1 and "shortconv.conv" not in entry.name:
                other = entry.resized(entry.sizes, TYPES[kind])
                file.tensors[place] = Entry(other.name, other.sizes, other.kind, random.bytes(len(other.data)))

    assert of_content(scratch, Gguf.of(path).edited(refill).content()) == "works"


@pytest.fixture(params=["scalar", "best"])
def isa(request: pytest.FixtureRequest) -> str:
    return "" if request.param == "best" else str(request.param)


@pytest.mark.parametrize("taps", range(1, 10))
def test_taps(taps: int, parts: Gguf, scratch: Path) -> None:
    def retap(file: Gguf) -> None:
        place = next(i for i, entry in enumerate(file.tensors) if "shortconv.conv" in entry.name)
        file.tensors[place] = file.tensors[place].resized([taps, 8])

    assert of_content(scratch, parts.edited(retap).content()) == "works"


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda f: setattr(f, "counts", (2**60, len(f.pairs))), "claims 1152921504606846976 tensors"),
        (lambda f: setattr(f, "counts", (len(f.tensors), 2**60)), "runs past the end|claims|cut off"),
        (lambda f: f.more.append(("general.name", "again")) or f.more.append(("general.name", "x")), "occurs twice"),
        (lambda f: f.pairs.update({"lfm2moe.attention.head_count": 0}), "head_count is 0 but should be"),
        (lambda f: f.pairs.update({"lfm2moe.attention.head_count_kv": [0, 3]}), "cannot share 3 key-value heads"),
        (lambda f: f.pairs.update({"lfm2moe.context_length": 0}), "context_length is 0 but should be"),
        (lambda f: f.pairs.update({"tokenizer.ggml.eos_token_id": 10**6}), "expected 0 to 96"),
        (lambda f: f.pairs["tokenizer.ggml.tokens"].__setitem__(9, "a"), "repeats a token"),
        (lambda f: f.pairs.update({"tokenizer.ggml.merges": ["a nothing"]}), "merges do not fit"),
        (lambda f: f.tensors.__setitem__(-1, f.tensors[-1].resized([8, 1, 1])), "has 3 axes: expected a vector"),
        (lambda f: f.pairs.update({"lfm2moe.expert_used_count": 4}), "4 experts a token are asked of 3"),
    ],
)
def test_sentences(edit: Callable[[Gguf], object], sentence: str, parts: Gguf, scratch: Path) -> None:
    assert re.search(sentence, of_content(scratch, parts.edited(edit).content()))


SPLIT_KEYS = ("split.no", "split.count", "split.tensors.count")


def test_parts_with_any_value(parts: Gguf, tmp_path: Path) -> None:
    middle = len(parts.tensors) // 2
    paths = [tmp_path / f"model-0000{number}-of-00002.gguf" for number in (1, 2)]
    split_keys = [dict(zip(SPLIT_KEYS, (number, 2, len(parts.tensors)), strict=True)) for number in (0, 1)]
    files = [Gguf(parts.pairs | split_keys[0], parts.tensors[:middle]), Gguf(split_keys[1], parts.tensors[middle:])]

    def of_parts(*contents: bytes) -> set[str]:
        for path, content in zip(paths, contents, strict=True):
            path.unlink(missing_ok=True)
            path.write_bytes(content)
        return {outcome(path) for path in paths}

    good = [file.content() for file in files]
    assert of_parts(*good) == {"works"}
    for place, file in enumerate(files):
        for key in SPLIT_KEYS:
            for value in WRONG:
                changed = file.edited(lambda f, key=key, value=value: f.pairs.update({key: value})).content()
                of_parts(*good[:place], changed, *good[place + 1 :])
        for length in range(0, len(good[place]) - 1, 997):
            assert "works" not in of_parts(*good[:place], good[place][:length], *good[place + 1 :])


EDITS = st.lists(st.tuples(st.integers(0, 2**31), st.integers(0, 255)), min_size=1, max_size=4)


def flip(content: bytes, edits: list[tuple[int, int]], end: int) -> bytes:
    changed = bytearray(content)
    for position, value in edits:
        changed[position % end] = value
    return bytes(changed)


def header_bytes(content: bytes, parts: Gguf) -> int:
    return len(content) - sum(len(entry.data) + -len(entry.data) % 32 for entry in parts.tensors)


def changed_bytes(parts: Gguf, scratch: Path, edits: list[tuple[int, int]]) -> None:
    content = parts.content()
    of_content(scratch, flip(content, edits, header_bytes(content, parts)))


def changed_number(parts: Gguf, scratch: Path, position: int, number: int) -> None:
    content = parts.content()
    at = position % (header_bytes(content, parts) - 8)
    of_content(scratch, content[:at] + struct.pack("<Q", number) + content[at + 8 :])


NUMBERS = st.sampled_from([0, 1, 2, 2**16, 2**31, 2**32 - 1, 2**60, 2**63, 2**64 - 1])


@settings(max_examples=300)
@given(edits=EDITS)
def test_changed_bytes(parts: Gguf, scratch: Path, edits: list[tuple[int, int]]) -> None:
    changed_bytes(parts, scratch, edits)


@settings(max_examples=200)
@given(position=st.integers(0, 2**31), number=NUMBERS)
def test_changed_numbers(parts: Gguf, scratch: Path, position: int, number: int) -> None:
    changed_number(parts, scratch, position, number)


@pytest.mark.slow
@settings(max_examples=5000)
@given(edits=EDITS)
def test_many_changed_bytes(parts: Gguf, scratch: Path, edits: list[tuple[int, int]]) -> None:
    changed_bytes(parts, scratch, edits)


@pytest.mark.slow
def test_every_number_changed(parts: Gguf, scratch: Path) -> None:
    content = parts.content()
    for position in range(header_bytes(content, parts) - 8):
        for number in (0, 1, 2**31, 2**60, 2**64 - 1):
            changed_number(parts, scratch, position, number)


# --- folders ---------------------------------------------------------------------------------------------------------

BAD_JSON = (
    *(b"", b"{", b"[]", b"null", b"\xff\xfe", b'"a"', b"1e999", b'{"a":' * 5000, b"[" * 100_000, b"9" * 5000),
    *(b'{"vocab_size": 1, "vocab_size": 2}', b'{"a": NaN}', b'{"a": ' + b"9" * 400 + b"}"),
)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json"])
def test_files_that_are_no_json_objects(name: str, folder: Path) -> None:
    for content in BAD_JSON:
        of_file(folder, name, content)


@pytest.mark.parametrize(
    "name",
    [
        *("config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json", "chat_template.jinja"),
        *("chat_template.json", "model.safetensors", "model.safetensors.index.json"),
    ],
)
def test_folders_where_files_should_be(name: str, valid: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(valid, tmp_path / "model"))
    (folder / name).unlink(missing_ok=True)
    (folder / name).mkdir()
    outcome(folder)


def test_config_with_any_value(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    for key in sorted(CONFIG_KEYS):
        for value in (*WRONG, None, {}, {"a": 1}, [[]], [None], [{}], 10**400, -(10**400), [2**40]):
            of_file(folder, "config.json", json.dumps(config | {key: value}).encode())
    for place in places(config):
        of_file(folder, "config.json", json.dumps(removed(config, place)).encode())


def test_config_lists_that_layers_come_from(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text()) | {"layer_types": None}
    for count in (2, 2**31 - 1):
        for indices in (1, "01", {}, {"0": 1}, [1], [[1]], ["1"], [2**70], [-1], [1.0]):
            changed = config | {"num_hidden_layers": count, "full_attn_idxs": indices}
            of_file(folder, "config.json", json.dumps(changed).encode())


GENERATION = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "do_sample", "eos_token_id")


def test_generation_config_with_any_value(folder: Path) -> None:
    for key in GENERATION:
        for value in (*WRONG, None, {}, [[]], [None], 10**400, [10**400]):
            of_file(folder, "generation_config.json", json.dumps({key: value}).encode())


def test_tokenizer_config_with_any_value(folder: Path) -> None:
    for key in ("bos_token", "eos_token", "pad_token", "chat_template"):
        for value in (*WRONG, None, {"content": 1}, {"content": ""}, [{"name": [], "template": "x"}], [{}], [[]]):
            of_file(folder, "tokenizer_config.json", json.dumps({key: value}).encode())


def test_tokenizer_with_any_value(folder: Path) -> None:
    document = json.loads((folder / "tokenizer.json").read_text())
    for place in places(document):
        for value in (*WRONG[::2], None, {}, {"type": "ByteLevel"}, [[]], 10**400):
            of_file(folder, "tokenizer.json", json.dumps(replaced(document, place, value)).encode())
        of_file(folder, "tokenizer.json", json.dumps(removed(document, place)).encode())


REPLACE = {"type": "Replace", "pattern": {"String": "a"}, "content": "b" * 1000}
TOKENIZERS: dict[str, Callable[[Any], object]] = {
    "an empty special token": lambda t: t["added_tokens"].append(added(97, "")),
    "a special token that is a byte": lambda t: t["added_tokens"].append(added(50, "a")),
    "an id far away": lambda t: t["added_tokens"].append(added(2**32 - 1, "far")),
    "a vocabulary with holes": lambda t: t["model"]["vocab"].update(a=2**31),
    "the largest id": lambda t: t["model"]["vocab"].update(new=2**32 - 1),
    "ids that are shared": lambda t: t["model"]["vocab"].update(b=t["model"]["vocab"]["a"]),
    "an unknown token that is not there": lambda t: t["model"].update(unk_token="nothing"),
    "a word-piece model": lambda t: t.update(model={"type": "WordPiece", "vocab": {"a": 0}, "unk_token": "a"}),
    "no vocabulary": lambda t: t["model"].update(vocab={}, merges=[]),
    "dropout": lambda t: t["model"].update(dropout=1.0),
    "a normalizer": lambda t: t.update(normalizer=REPLACE),
    "an expression without end": lambda t: t.update(
        pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a*)*b"}, "behavior": "Isolated", "invert": False}
    ),
    "an expression that is none": lambda t: t.update(
        pre_tokenizer={"type": "Split", "pattern": {"Regex": "(["}, "behavior": "Isolated", "invert": False}
    ),
    "a decoder that cuts": lambda t: t.update(
        decoder={
            "type": "Sequence",
            "decoders": [{"type": "ByteLevel"}, {"type": "Strip", "content": "a", "start": 2**40, "stop": 2**40}],
        }
    ),
    "padding without end": lambda t: t.update(
        padding={
            "strategy": {"Fixed": 2**40},
            "direction": "Right",
            "pad_to_multiple_of": 2**40,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "x",
        }
    ),
    "truncation to nothing": lambda t: t.update(
        truncation={"direction": "Right", "max_length": 0, "strategy": "LongestFirst", "stride": 9}
    ),
    "a deep sequence": lambda t: t.update(normalizer=deep(REPLACE, "normalizers", 100)),
    "a very deep sequence": lambda t: t.update(normalizer=deep(REPLACE, "normalizers", 400)),
}


def added(id_: int, content: str) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": id_, "content": content, "special": True, **flags}


def deep(part: Any, key: str, levels: int) -> Any:
    for _ in range(levels):
        part = {"type": "Sequence", key: [part]}
    return part


def test_an_unknown_token_that_is_not_there_is_found_when_the_model_is_loaded(folder: Path) -> None:
    document = json.loads((folder / "tokenizer.json").read_text())
    document["model"]["unk_token"] = "nothing"
    sentence = of_file(folder, "tokenizer.json", json.dumps(document).encode())
    assert sentence.endswith("its unknown token 'nothing' is not in its vocabulary: fetch it again")


@pytest.mark.parametrize("edit", TOKENIZERS.values(), ids=TOKENIZERS)
def test_tokenizers(edit: Callable[[Any], object], folder: Path) -> None:
    document = json.loads((folder / "tokenizer.json").read_text())
    edit(document)
    of_file(folder, "tokenizer.json", json.dumps(document).encode())


def test_safetensors_headers(folder: Path) -> None:
    header, data = split_safetensors(folder / "model.safetensors")
    cut = (folder / "model.safetensors").read_bytes()
    broken = [
        *(cut[:length] for length in (*range(20), *range(20, len(cut), 101), len(cut) - 1)),
        *(safetensors(header, data, claimed) for claimed in (0, 1, 2**31, 2**60, 2**63, 2**64 - 1)),
        *(safetensors(text, data) for text in BAD_JSON),
    ]
    for content in broken:
        assert of_file(folder, "model.safetensors", content) != "works"
    for place in places({name: header[name] for name in [*header][1:6]}):
        of_file(folder, "model.safetensors", safetensors(removed(header, place), data))
        for value in (*WRONG, None, {}, [[]], [2**62, 4], [2**63], [-1, 3], [1, 0], [0, 2**40], "I64", "F64"):
            of_file(folder, "model.safetensors", safetensors(replaced(header, place, value), data))


def test_safetensors_of_any_shape(folder: Path) -> None:
    header, _ = split_safetensors(folder / "model.safetensors")
    for name in header.keys() - {"__metadata__"}:
        for shape in (*shapes(header[name]["shape"])[::2], []):
            changed, at = dict(header), 0
            for other in header.keys() - {"__metadata__"}:
                sides = shape if other == name else header[other]["shape"]
                size_bytes = 4 * int(np.prod(sides))
                changed[other] = {"dtype": "F32", "shape": sides, "data_offsets": [at, at + size_bytes]}
                at += size_bytes
            of_file(folder, "model.safetensors", safetensors(changed, bytes(at)))


INDEXES = (
    *({}, {"weight_map": []}, {"weight_map": {"a": 1}}, {"weight_map": {"a": "../model.safetensors"}}),
    *({"weight_map": {"a": "/dev/zero"}}, {"weight_map": {"a": "\0"}}, {"weight_map": {"a": "none.safetensors"}}),
    *({"weight_map": {"a": "model.safetensors.index.json"}}, {"weight_map": {"a": "config.json"}}, {"weight_map": {}}),
)


def test_indexes_of_shards(valid: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(valid, tmp_path / "model"))
    (folder / "model.safetensors").unlink()
    for index in (*map(json.dumps, INDEXES), "[", "[]"):
        assert of_file(folder, "model.safetensors.index.json", index.encode()) != "works"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def random_json(folder: Path, document: Any, place: int) -> None:
    whole = json.loads((folder / "tokenizer.json").read_text())
    all_places = [*places(whole)]
    changed = replaced(whole, all_places[place % len(all_places)], document)
    of_file(folder, "tokenizer.json", json.dumps(changed).encode())


@settings(max_examples=100)
@given(document=JSON, place=st.integers(0, 2**31))
def test_random_json_in_a_tokenizer(folder: Path, document: Any, place: int) -> None:
    random_json(folder, document, place)


@pytest.mark.slow
@settings(max_examples=3000)
@given(document=JSON, place=st.integers(0, 2**31))
def test_much_random_json_in_a_tokenizer(folder: Path, document: Any, place: int) -> None:
    random_json(folder, document, place)
