from __future__ import annotations

import json
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from headrace.errors import FileInvalid, ModelNotFound, Unsupported, UserError
from headrace.weights import safetensors
from headrace.weights.quantisation import dequantise, nbytes
from headrace.weights.tensor import Tensor


def file_of(header: object, data: bytes = b"", *, header_bytes: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if header_bytes is None else header_bytes) + raw + data


def entry(kind: object = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, object]:
    return {"dtype": kind, "shape": shape, "data_offsets": offsets}


def torch_tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return {
        "model.a.weight": torch.randn(4, 6),
        "model.b.weight": torch.randn(3, 2, 5).to(torch.bfloat16),
        "model.c.weight": torch.randn(7).to(torch.float16),
        "model.scalar": torch.tensor(1.5),
    }


def agrees(tensor: Tensor, expected: torch.Tensor) -> bool:
    values = dequantise(tensor)
    return values.shape == tuple(expected.shape) and np.array_equal(values, expected.float().numpy())


def test_reads_what_the_safetensors_package_writes(tmp_path):
    expected = torch_tensors()
    save_file(expected, tmp_path / "model.safetensors", metadata={"format": "pt"})
    tensors = safetensors.read_folder(tmp_path)
    assert tensors.keys() == expected.keys()
    assert [tensors[name].type for name in expected] == ["F32", "BF16", "F16", "F32"]
    assert all(agrees(tensors[name], expected[name]) for name in expected)


def write_shards(folder: Path, *, index: bool = True) -> dict[str, torch.Tensor]:
    shards = {f"model-0000{i}-of-00002.safetensors": torch_tensors(i) for i in (1, 2)}
    expected = {}
    for number, (file, tensors) in enumerate(shards.items()):
        named = {f"{number}.{name}": tensor for name, tensor in tensors.items()}
        save_file(named, folder / file)
        expected |= {name: (file, tensor) for name, tensor in named.items()}
    if index:
        weight_map = {name: file for name, (file, _) in expected.items()}
        write_index(folder, {"metadata": {"total_size": 1}, "weight_map": weight_map})
    return {name: tensor for name, (_, tensor) in expected.items()}


def write_index(folder: Path, content: object) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))


@pytest.mark.parametrize("index", [True, False])
def test_reads_shards(tmp_path, index):
    expected = write_shards(tmp_path, index=index)
    tensors = safetensors.read_folder(tmp_path)
    assert tensors.keys() == expected.keys()
    assert all(agrees(tensors[name], expected[name]) for name in expected)


def test_shards_may_be_links_into_a_download_cache(tmp_path):
    blobs, folder = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir()
    folder.mkdir()
    expected = write_shards(blobs)
    for number, file in enumerate(blobs.iterdir()):
        blob = file.rename(blobs / f"blob{number}")
        (folder / file.name).symlink_to(blob)
    assert safetensors.read_folder(folder).keys() == expected.keys()


@pytest.mark.parametrize("index", [True, False])
def test_a_missing_shard_is_named(tmp_path, index):
    write_shards(tmp_path, index=index)
    (tmp_path / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(FileInvalid, match=r"the shard model-00001-of-00002\.safetensors is missing"):
        safetensors.read_folder(tmp_path)


def test_a_tensor_that_only_the_index_knows(tmp_path):
    save_file(torch_tensors(), tmp_path / "a.safetensors")
    write_index(tmp_path, {"weight_map": {"model.a.weight": "a.safetensors", "ghost": "a.safetensors"}})
    with pytest.raises(FileInvalid, match="tensor 'ghost' is missing although the index says"):
        safetensors.read_folder(tmp_path)


@pytest.mark.parametrize(
    "shard", ["../a.safetensors", "/etc/a.safetensors", "sub/a.safetensors", "..", "", "a\\b", "a\0"]
)
def test_shards_outside_the_folder_are_refused(tmp_path, shard):
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    for place in (tmp_path, folder / "sub"):
        save_file(torch_tensors(), place / "a.safetensors")
    write_index(folder, {"weight_map": {"model.a.weight": shard}})
    with pytest.raises(FileInvalid, match="shards must lie in the model's folder"):
        safetensors.read_folder(folder)


@pytest.mark.parametrize(
    "content", [{}, {"weight_map": []}, {"weight_map": {"a": 1}}, [], "text", {"weight_map": None}]
)
def test_an_index_without_a_map_is_refused(tmp_path, content):
    write_index(tmp_path, content)
    with pytest.raises(FileInvalid, match=r"weight_map|JSON object"):
        safetensors.read_folder(tmp_path)


def test_the_same_tensor_in_two_files_without_an_index(tmp_path):
    for name in ("a", "b"):
        save_file(torch_tensors(), tmp_path / f"{name}.safetensors")
    with pytest.raises(FileInvalid, match="is in another file of the folder too"):
        safetensors.read_folder(tmp_path)


def test_the_single_file_comes_before_an_index_and_before_others(tmp_path):
    save_file({"only": torch.zeros(2)}, tmp_path / "model.safetensors")
    write_shards(tmp_path)
    save_file({"other": torch.zeros(2)}, tmp_path / "adapter.safetensors")
    assert list(safetensors.read_folder(tmp_path)) == ["only"]
    (tmp_path / "model.safetensors").unlink()
    assert "other" not in safetensors.read_folder(tmp_path)


def test_an_index_larger_than_the_limit_is_not_read(tmp_path):
    with (tmp_path / "model.safetensors.index.json").open("wb") as file:
        file.truncate(safetensors.MAX_HEADER_BYTES + 1)
    with pytest.raises(FileInvalid, match="more than 100000000 bytes"):
        safetensors.read_folder(tmp_path)


def test_a_folder_without_weights(tmp_path):
    with pytest.raises(ModelNotFound, match=r"there are no weights: expected model\.safetensors"):
        safetensors.read_folder(tmp_path)


def test_an_odd_header_does_not_misalign_the_values(tmp_path):
    """Old writers did not pad the header; native code may read floats only where floats may lie."""
    values = np.arange(6, dtype=np.float32)
    for padding in range(4):
        header = json.dumps({"a": entry("F32", (2, 3), (0, 24))}).encode() + b" " * padding
        (tmp_path / "model.safetensors").write_bytes(file_of(header, values.tobytes()))
        tensor = safetensors.read_folder(tmp_path)["a"]
        assert tensor.data.ctypes.data % 4 == 0
        assert np.array_equal(dequantise(tensor), values.reshape(2, 3))


def test_tensors_are_views_of_the_file(tmp_path):
    path = tmp_path / "model.safetensors"
    header = json.dumps({"a": entry("BF16", (1 << 10, 1 << 17), (0, 1 << 28))}).encode()
    header = file_of(header + b" " * (-len(header) % 8))
    with path.open("wb") as file:  # sparse: 256 MiB that nobody wrote
        file.write(header)
        file.truncate(len(header) + (1 << 28))
    tracemalloc.start()
    tensor = safetensors.read(path)["a"]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert tensor.data.nbytes == 1 << 28
    assert not tensor.data.flags.writeable
    assert peak < 1 << 20


BROKEN = {
    "empty": (b"", FileInvalid, "the file is empty"),
    "seven bytes": (b"1234567", FileInvalid, "it has no header"),
    "header forged": (file_of({}, header_bytes=2**60), FileInvalid, "claims 1152921504606846976 bytes"),
    "header too long": (file_of({}, header_bytes=3), FileInvalid, "the header claims 3 bytes"),
    "not JSON": (file_of(b"{nonsense"), FileInvalid, "its header is not JSON"),
    "not UTF-8": (file_of(b'{"\xff": 1}'), FileInvalid, "its header is not JSON"),
    "not an object": (file_of([1]), FileInvalid, "not a JSON object"),
    "deep": (file_of(b"[" * 100_000), FileInvalid, "its header is not JSON"),
    "endless number": (file_of(b'{"a": ' + b"9" * 10_000 + b"}"), FileInvalid, "its header is not JSON"),
    "name twice": (
        file_of(b'{"a": {"dtype":"F32","shape":[2],"data_offsets":[0,8]}, "a": 1}', bytes(8)),
        FileInvalid,
        "a name occurs twice",
    ),
    "no entry": (file_of({"a": 1}), FileInvalid, "tensor 'a' needs dtype, shape and data_offsets"),
    "no shape": (file_of({"a": {"dtype": "F32", "data_offsets": [0, 4]}}), FileInvalid, "needs dtype, shape"),
    "shape of text": (file_of({"a": entry(shape="2")}, bytes(8)), FileInvalid, "needs dtype, shape"),
    "size of true": (file_of({"a": entry(shape=[True, 2])}, bytes(8)), FileInvalid, "needs dtype, shape"),
    "negative size": (file_of({"a": entry(shape=[-2])}, bytes(8)), FileInvalid, "needs dtype, shape"),
    "fractional size": (file_of({"a": entry(shape=[2.0])}, bytes(8)), FileInvalid, "needs dtype, shape"),
    "negative offset": (file_of({"a": entry(offsets=[-8, 0])}, bytes(8)), FileInvalid, "needs dtype, shape"),
    "three offsets": (file_of({"a": entry(offsets=[0, 8, 8])}, bytes(8)), FileInvalid, "needs dtype, shape"),
    "empty axis": (file_of({"a": entry(shape=[2, 0], offsets=[0, 0])}), FileInvalid, "tensor 'a' is empty"),
    "F8": (
        file_of({"a": entry("F8_E4M3", (8,))}, bytes(8)),
        Unsupported,
        "tensor 'a' is F8_E4M3, which is not supported",
    ),
    "I64": (
        file_of({"a": entry("I64", (1,))}, bytes(8)),
        Unsupported,
        "is I64, which is not supported: use F32, F16, BF16",
    ),
    "wrong size": (
        file_of({"a": entry(shape=[3])}, bytes(12)),
        FileInvalid,
        "has 8 bytes, which is not F32 of shape [3]",
    ),
    "room to spare": (file_of({"a": entry(offsets=[0, 12])}, bytes(12)), FileInvalid, "has 12 bytes, which is not F32"),
    "offset without end": (
        file_of({"a": entry(offsets=[0, 10**4000])}, bytes(8)),
        FileInvalid,
        "needs dtype, shape",
    ),
    "endless shape": (
        file_of({"a": entry(shape=[1] * 5000)}, bytes(8)),
        FileInvalid,
        "which is not F32 of shape [1, 1",
    ),
    "swapped offsets": (file_of({"a": entry(offsets=[8, 0])}, bytes(8)), FileInvalid, "has -8 bytes"),
    "sizes that wrap": (
        file_of({"a": entry(shape=[2**62, 4], offsets=[0, 0])}, bytes(8)),
        FileInvalid,
        "has 0 bytes, which is not F32",
    ),
    "cut off": (file_of({"a": entry()}, bytes(7)), FileInvalid, "tensor 'a' ends at byte"),
    "overlap": (
        file_of({"a": entry(), "b": entry(offsets=[4, 12])}, bytes(12)),
        FileInvalid,
        "tensors 'a' and 'b' overlap",
    ),
    "same place": (file_of({"a": entry(), "b": entry()}, bytes(8)), FileInvalid, "tensors 'a' and 'b' overlap"),
}


@pytest.mark.parametrize(("content", "error", "sentence"), BROKEN.values(), ids=BROKEN)
def test_broken_files_are_refused_with_a_sentence_and_without_memory(tmp_path, content, error, sentence):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(error) as raised:
            safetensors.read_folder(tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sentence in str(raised.value)
    assert str(path) in str(raised.value)
    assert len(str(raised.value)) < 500
    assert peak < 4 << 20


def test_a_header_larger_than_the_limit_is_not_read(tmp_path):
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", safetensors.MAX_HEADER_BYTES + 1))
        file.truncate(safetensors.MAX_HEADER_BYTES + 100)
    with pytest.raises(FileInvalid, match="the header claims 100000001 bytes"):
        safetensors.read(path)


SMALL = file_of({"a": entry(), "b": entry("BF16", (2, 3), (8, 20)), "__metadata__": {"format": "pt"}}, bytes(range(20)))
HEADER_BYTES = len(SMALL) - 20


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("safetensors") / "mutated.safetensors"


def survives(path: Path, content: bytes) -> None:
    """Reading raises one of our errors and no other, or gives tensors that are as large as they say."""
    path.write_bytes(content)
    try:
        tensors = safetensors.read(path)
    except UserError:
        return
    for tensor in tensors.values():
        assert tensor.data.nbytes == nbytes(tensor.type, tensor.shape)
        assert dequantise(tensor).shape == tensor.shape


def test_every_truncation_is_refused(tmp_path):
    for length in range(len(SMALL)):
        path = tmp_path / "cut.safetensors"
        path.write_bytes(SMALL[:length])
        with pytest.raises(FileInvalid):
            safetensors.read(path)


@given(edits=st.lists(st.tuples(st.integers(0, HEADER_BYTES - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_changed_bytes_are_survived(scratch, edits):
    content = bytearray(SMALL)
    for position, value in edits:
        content[position] = value
    survives(scratch, bytes(content))


@given(
    start=st.integers(8, HEADER_BYTES),
    length=st.integers(0, 20),
    filling=st.text('{}[],:"0123456789-.eEF', max_size=20),
)
def test_changed_json_is_survived(scratch, start, length, filling):
    header = SMALL[8:start] + filling.encode() + SMALL[start + length : HEADER_BYTES]
    survives(scratch, file_of(header, SMALL[HEADER_BYTES:]))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
ENTRIES = st.dictionaries(
    st.sampled_from(["dtype", "shape", "data_offsets", "more"]),
    JSON | st.sampled_from(["F32", "BF16", [2], [0, 8], [1, 2**64], [2**63, 2**63]]),
)


@given(header=st.dictionaries(st.text(max_size=3) | st.just("__metadata__"), JSON | ENTRIES, max_size=4))
def test_any_json_is_survived(scratch, header):
    survives(scratch, file_of(header, bytes(16)))
