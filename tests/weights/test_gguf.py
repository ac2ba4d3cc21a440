from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import gguf as oracle
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import FileInvalid, ModelNotFound, Unsupported, UserError
from headrace.weights import gguf
from headrace.weights.quantisation import TYPES, dequantise, nbytes

U8, I8, U32, I32, F32, BOOL, STRING, ARRAY, U64 = 0, 1, 4, 5, 6, 7, 8, 9, 10


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def pair(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def claim(name: str, sizes: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    """A tensor's description; sizes are in GGUF's order, the fastest axis first."""
    return text(name) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, kind, offset)


def file_of(
    pairs: list[bytes],
    claims: list[bytes],
    data: bytes = b"",
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    alignment: int = 32,
    counts: tuple[int, int] | None = None,
) -> bytes:
    tensors, keys = counts or (len(claims), len(pairs))
    header = magic + struct.pack("<IQQ", version, tensors, keys) + b"".join(pairs) + b"".join(claims)
    return header + b"\0" * (-len(header) % alignment) + data


SMALL = file_of(
    [
        pair("general.architecture", STRING, text("lfm2")),
        pair("tokens", ARRAY, struct.pack("<IQ", STRING, 3) + text("a") + text("é") + text("")),
        pair("numbers", ARRAY, struct.pack("<IQ3i", I32, 3, 1, -2, 3)),
        pair("flag", BOOL, b"\1"),
        pair("eps", F32, struct.pack("<f", 1e-5)),
    ],
    [claim("a", (4, 2)), claim("b", (32, 1), 8, 32), claim("c", (2,), 30, 96)],
    bytes(range(100)),
)


@pytest.fixture
def reads(tmp_path):
    def read(content: bytes) -> gguf.GgufFile:
        path = tmp_path / "model.gguf"
        path.write_bytes(content)
        return gguf.read(path)

    return read


def write_with_the_gguf_package(path: Path, alignment: int | None = None) -> dict[str, np.ndarray]:
    writer = oracle.GGUFWriter(path, "lfm2moe")
    if alignment:
        writer.add_custom_alignment(alignment)
    writer.add_uint8("u8", 200)
    writer.add_int8("i8", -100)
    writer.add_uint16("u16", 60000)
    writer.add_int16("i16", -30000)
    writer.add_uint32("u32", 4_000_000_000)
    writer.add_int32("i32", -2_000_000_000)
    writer.add_uint64("u64", 2**63)
    writer.add_int64("i64", -(2**62))
    writer.add_float32("f32", 0.5)
    writer.add_float64("f64", 0.1)
    writer.add_bool("yes", True)
    writer.add_bool("no", False)
    writer.add_string("text", "naïve 漢字 \n \x00 😀")
    writer.add_token_list(["<|pad|>", "Ġhello", "é", ""])
    writer.add_token_merges(["Ġ h", "e l"])
    writer.add_array("kv_heads", [0, 8, 0, 8])
    writer.add_array("scores", [0.25, -1.5])
    writer.add_array("flags", [True, False])
    rng = np.random.default_rng(0)
    written = {}
    for name, layout in TYPES.items():
        kind = oracle.GGMLQuantizationType[name]
        row_bytes = 512 // layout.block * layout.block_bytes
        data = rng.integers(0, 100, (3, 5, row_bytes), dtype=np.uint8)
        writer.add_tensor(f"blk.0.{name}.weight", data, raw_dtype=kind)
        written[f"blk.0.{name}.weight"] = data
    odd = rng.standard_normal(7).astype(np.float32)
    writer.add_tensor("odd.weight", odd)
    written["odd.weight"] = odd.view(np.uint8)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return written


@pytest.mark.parametrize("alignment", [None, 8, 64, 4096])
def test_reads_what_the_gguf_package_writes(tmp_path, alignment):
    path = tmp_path / "model.gguf"
    written = write_with_the_gguf_package(path, alignment)
    file = gguf.read(path)

    metadata = file.metadata
    assert (file.version, metadata["general.architecture"]) == (3, "lfm2moe")
    assert (metadata["u8"], metadata["i8"], metadata["u16"], metadata["i16"]) == (200, -100, 60000, -30000)
    assert (metadata["u32"], metadata["i32"]) == (4_000_000_000, -2_000_000_000)
    assert (metadata["u64"], metadata["i64"]) == (2**63, -(2**62))
    assert (metadata["f32"], metadata["f64"]) == (0.5, 0.1)
    assert metadata["yes"] is True
    assert metadata["no"] is False
    assert metadata["text"] == "naïve 漢字 \n \x00 😀"
    assert metadata["tokenizer.ggml.tokens"] == ["<|pad|>", "Ġhello", "é", ""]
    assert metadata["tokenizer.ggml.merges"] == ["Ġ h", "e l"]
    assert metadata["kv_heads"].dtype == np.int32
    assert metadata["kv_heads"].tolist() == [0, 8, 0, 8]
    assert metadata["scores"].dtype == np.float32
    assert metadata["scores"].tolist() == [0.25, -1.5]
    assert metadata["flags"].tolist() == [True, False]
    assert metadata.get("general.alignment") == alignment

    assert list(file.tensors) == list(written)
    for name, data in written.items():
        assert np.array_equal(file.tensors[name].data, data.reshape(-1))


def test_shapes_and_values_equal_those_of_the_slow_reader(tmp_path):
    path = tmp_path / "model.gguf"
    write_with_the_gguf_package(path)
    tensors = gguf.read(path).tensors
    slow = {tensor.name: tensor for tensor in oracle.GGUFReader(path).tensors}
    assert tensors.keys() == slow.keys()
    for name, tensor in tensors.items():
        assert tensor.type == slow[name].tensor_type.name
        assert tensor.shape == tuple(int(size) for size in reversed(slow[name].shape))
        expected = oracle.quants.dequantize(slow[name].data, slow[name].tensor_type).reshape(tensor.shape)
        assert np.array_equal(dequantise(tensor), expected, equal_nan=True)
        assert tensor.data.ctypes.data % 32 == 0


def test_tensors_are_views_of_the_file(tmp_path):
    path = tmp_path / "model.gguf"
    header = file_of([], [claim("a", (1 << 20, 64))])
    with path.open("wb") as file:  # sparse: 256 MiB that nobody wrote
        file.write(header)
        file.truncate(len(header) + (1 << 28))
    tracemalloc.start()
    tensor = gguf.read(path).tensors["a"]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert tensor.data.nbytes == 1 << 28
    assert not tensor.data.flags.writeable
    assert peak < 1 << 20


def test_small_file_is_read_as_meant(reads):
    file = reads(SMALL)
    assert file.metadata["tokens"] == ["a", "é", ""]
    assert file.metadata["numbers"].tolist() == [1, -2, 3]
    assert file.tensors["a"].shape == (2, 4)
    assert file.tensors["a"].data.tolist() == list(range(32))
    assert file.tensors["b"].data.tolist() == list(range(32, 66))
    assert file.tensors["c"].data.tolist() == list(range(96, 100))
    assert len(SMALL) - file.data_start == 100


def test_version_two_and_files_without_tensors(reads):
    assert reads(SMALL[:4] + struct.pack("<I", 2) + SMALL[8:]).version == 2
    assert reads(file_of([], [])).tensors == {}


def one(kind: int, sizes: tuple[int, ...] = (32,)) -> bytes:
    return file_of([], [claim("t", sizes, kind)], bytes(4096))


ONE_PAIR = pair("k", U32, b"\1\0\0\0")
BROKEN = {
    "empty": (b"", FileInvalid, "the file is empty"),
    "not GGUF": (b"PK\3\4 and so on", FileInvalid, "does not begin with GGUF"),
    "magic alone": (b"GGUF", FileInvalid, "cut off"),
    "swapped magic": (file_of([], [], magic=b"FUGG"), Unsupported, "big-endian"),
    "swapped version": (file_of([], [], version=0x03000000), Unsupported, "big-endian"),
    "version 1": (file_of([], [], version=1), Unsupported, "GGUF version 1 is not supported"),
    "version 4": (file_of([], [], version=4), Unsupported, "GGUF version 4 is not supported"),
    "pairs forged": (
        file_of([ONE_PAIR], [], counts=(0, 2**60)),
        FileInvalid,
        "claims 1152921504606846976 metadata pairs",
    ),
    "tensors forged": (file_of([], [], counts=(2**60, 0)), FileInvalid, "claims 1152921504606846976 tensors"),
    "string forged": (
        file_of([pair("k", STRING, struct.pack("<Q", 2**63) + b"abc")], []),
        FileInvalid,
        "runs past the end",
    ),
    "strings forged": (
        file_of([pair("k", ARRAY, struct.pack("<IQ", STRING, 2**60))], []),
        FileInvalid,
        "claims 1152921504606846976 strings",
    ),
    "array forged": (
        file_of([pair("k", ARRAY, struct.pack("<IQ", U64, 2**61))], []),
        FileInvalid,
        "claims 2305843009213693952 array items",
    ),
    "strings too short": (
        file_of([pair("k", ARRAY, struct.pack("<IQ", STRING, 3) + text("abcdefgh"))], [], alignment=1) + b"\0" * 8,
        FileInvalid,
        "cut off",
    ),
    "nested array": (
        file_of([pair("k", ARRAY, struct.pack("<IQ", ARRAY, 1))], [], bytes(64)),
        Unsupported,
        "an array of arrays",
    ),
    "unknown value": (file_of([pair("k", 13, bytes(8))], []), FileInvalid, "'k' has the unknown type 13"),
    "unknown item": (file_of([pair("k", ARRAY, struct.pack("<IQ", 77, 1))], []), FileInvalid, "unknown type 77"),
    "key twice": (file_of([ONE_PAIR, ONE_PAIR], []), FileInvalid, "key 'k' occurs twice"),
    "key not UTF-8": (file_of([text(b"\xff\xfe") + bytes(8)], []), FileInvalid, "not UTF-8"),
    "token not UTF-8": (
        file_of([pair("k", ARRAY, struct.pack("<IQ", STRING, 1) + text(b"\xed\xa0\x80"))], []),
        FileInvalid,
        "not UTF-8",
    ),
    "alignment 48": (
        file_of([pair("general.alignment", U32, struct.pack("<I", 48))], []),
        FileInvalid,
        "general.alignment is 48: it must be a power of two",
    ),
    "alignment 0": (file_of([pair("general.alignment", U32, bytes(4))], []), FileInvalid, "general.alignment is 0"),
    "alignment text": (file_of([pair("general.alignment", STRING, text("32"))], []), FileInvalid, "is '32'"),
    "alignment true": (file_of([pair("general.alignment", BOOL, b"\1")], []), FileInvalid, "is True"),
    "alignment huge": (
        file_of([pair("general.alignment", U64, struct.pack("<Q", 2**63))], [claim("t", (8,))], bytes(4096)),
        FileInvalid,
        "cut off",
    ),
    "Q2_K": (one(10, (256,)), Unsupported, "tensor 't' is Q2_K, which is not supported yet: use F32, F16, BF16"),
    "type 999": (one(999), Unsupported, "tensor 't' is type 999, which is not supported"),
    "no axes": (one(0, ()), FileInvalid, "has 0 axes"),
    "five axes": (one(0, (1, 1, 1, 1, 8)), FileInvalid, "has 5 axes"),
    "axes forged": (
        file_of([], [text("t") + struct.pack("<I", 2**32 - 1)], bytes(64)),
        FileInvalid,
        "has 4294967295 axes",
    ),
    "empty axis": (one(0, (8, 0)), FileInvalid, "is empty"),
    "huge sizes": (one(0, (2**63, 2**63, 2**63, 2**63)), FileInvalid, "cut off, download it again"),
    "sizes that wrap": (one(0, (2**32, 2**30, 1)), FileInvalid, "cut off, download it again"),
    "half a block": (one(2, (48,)), FileInvalid, "rows of 48, not a whole number of Q4_0 blocks"),
    "misaligned": (
        file_of([], [claim("t", (8,), 0, 4)], bytes(4096)),
        FileInvalid,
        "begins at 4, not a multiple of the alignment 32",
    ),
    "out of the file": (
        file_of([], [claim("t", (8,), 0, 4096)], bytes(4096)),
        FileInvalid,
        "the file has 4160 bytes",
    ),
    "offset wraps": (file_of([], [claim("t", (8,), 0, 2**64 - 32)], bytes(64)), FileInvalid, "cut off"),
    "one byte short": (file_of([], [claim("t", (8,))], bytes(31)), FileInvalid, "cut off"),
    "overlap": (
        file_of([], [claim("late", (8,), 0, 32), claim("early", (9,))], bytes(4096)),
        FileInvalid,
        "tensors 'early' and 'late' overlap",
    ),
    "same place": (
        file_of([], [claim("a", (8,)), claim("b", (8,))], bytes(4096)),
        FileInvalid,
        "tensors 'a' and 'b' overlap",
    ),
    "tensor twice": (
        file_of([], [claim("t", (8,)), claim("t", (8,), 0, 32)], bytes(4096)),
        FileInvalid,
        "tensor 't' occurs twice",
    ),
}


@pytest.mark.parametrize(("content", "error", "sentence"), BROKEN.values(), ids=BROKEN)
def test_broken_files_are_refused_with_a_sentence_and_without_memory(reads, tmp_path, content, error, sentence):
    tracemalloc.start()
    try:
        with pytest.raises(error) as raised:
            reads(content)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sentence in str(raised.value)
    assert str(tmp_path) in str(raised.value)
    assert peak < 1 << 20


def test_a_name_as_long_as_the_file_does_not_fill_the_screen(reads):
    with pytest.raises(Unsupported) as raised:
        reads(file_of([], [claim("n" * 100_000, (256,), 10)], bytes(4096)))
    assert len(str(raised.value)) < 500


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ModelNotFound, match="there is no such file"):
        gguf.read(tmp_path / "none.gguf")
    with pytest.raises(FileInvalid, match="cannot be read"):
        gguf.read(tmp_path)


def survives(path: Path, content: bytes) -> None:
    """Reading raises one of our errors and no other, or gives tensors that are as large as they say."""
    path.write_bytes(content)
    try:
        file = gguf.read(path)
    except UserError:
        return
    for tensor in file.tensors.values():
        assert tensor.data.nbytes == nbytes(tensor.type, tensor.shape)
        assert dequantise(tensor).shape == tensor.shape


def test_every_truncation_is_survived(tmp_path):
    header_bytes = len(SMALL) - 100
    for length in range(len(SMALL)):
        survives(tmp_path / "cut.gguf", SMALL[:length])
    for length in range(header_bytes):
        with pytest.raises(FileInvalid):
            gguf.read(write(tmp_path / "cut.gguf", SMALL[:length]))


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("gguf") / "mutated.gguf"


HEADER_BYTES = len(SMALL) - 100
EDITS = st.lists(st.tuples(st.integers(0, HEADER_BYTES - 1), st.integers(0, 255)), min_size=1, max_size=4)
RUNS = st.tuples(st.integers(0, HEADER_BYTES - 8), st.sampled_from([0, 1, 2**31, 2**32 - 1, 2**60, 2**63, 2**64 - 1]))


@given(edits=EDITS)
def test_changed_bytes_are_survived(scratch, edits):
    content = bytearray(SMALL)
    for position, value in edits:
        content[position] = value
    survives(scratch, bytes(content))


@given(run=RUNS)
def test_changed_counts_are_survived(scratch, run):
    position, value = run
    survives(scratch, SMALL[:position] + struct.pack("<Q", value) + SMALL[position + 8 :])


@given(start=st.integers(0, HEADER_BYTES), length=st.integers(1, 40), filling=st.binary(max_size=40))
def test_cut_and_inserted_bytes_are_survived(scratch, start, length, filling):
    survives(scratch, SMALL[:start] + filling + SMALL[start + length :])
