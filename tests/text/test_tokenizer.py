"""Ids from tokenizer.json, from GGUF metadata and from transformers are the same ids."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from headrace.errors import FileInvalid, ModelNotFound, RequestInvalid, Unsupported
from headrace.text.tokenizer import LFM2_SPLIT, Tokenizer

TEXTS = [
    "",
    " ",
    "\n",
    "\n\n  \n\t\r\n x",
    "Hello, world! I'm here, WE'LL see; it's 12345678 o'clock.",
    "  leading and trailing   ",
    "C. elegans ist ein Fadenwurm. Größe: 1 mm; Straße, Ärger.",
    "L’été dernier, j'ai vu « Ça ira » à l'Opéra.",
    "今日は良い天気ですね。東京タワーへ行きましょう!",
    "안녕하세요, 저는 학생입니다. 123,456원",
    "السلام عليكم ورحمة الله. الرقم ١٢٣٤",
    "¿Dónde está el baño? ¡Ahí!",
    "नमस्ते दुनिया, ὑγίεια, Здравствуйте, שלום",
    "👩‍👩‍👧‍👦 👍🏽 🇩🇪 e\u0301 \u200b\u00a0\u3000 \ufeff",
    "def f(x: int) -> int:\n\treturn x ** 2  # squared\n\n\nprint(f(3))\r\n",
    "for (int i = 0; i < n; ++i) { a[i] += b[i] * 1e-5f; } // ...",
    '{"a": [1, 2.5, null, true], "b": {"c": "\\u00e9"}}',
    "<div class='x'>&amp;</div> | a | b |\n|---|---|",
    "pythonic python Python PYTHON cpython\n python",
    "Mathias Mathiasson  Mathias, unMathias",
    "<|reserved_4|> <|reserved_5|> <|reserved_6|>",
    "<|startoftext|><|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
    "<|im_end|><|im_end|> <|im_end|>\n\n<|pad|>x<|tool_call_start|>[f()]<|tool_call_end|>",
    "<|im_end <|im_end|<|im_end|>> < |im_end|> <|IM_END|> <|im_<|im_end|>end|>",
    "<think>hm</think> [PAD64400] [PAD65535] <|endoftext|>",
    "a" * 300 + " " * 300 + "\n" * 300,
    "\x00\x01\x7f\x80\x9f\xad ﷽ \U0010ffff \ufdd0",
    "1 12 123 1234 12345 3.14159 -7 +49 (0)30",
    "can't CAN'T can't ’s 's'S 'LL 're",
]

# Text that likes to break tokenizers: sentinels and their pieces, the two added tokens, whitespace, any Unicode.
PIECES = st.one_of(
    st.text(max_size=12),
    st.text(alphabet="<|>_imenrdsvpythoMathias45 \n'", max_size=16),
    st.sampled_from(["<|im_end|>", "<|reserved_4|>", "<|im_", "end|>", "python", " python", "Mathias", "'ll", "\r\n"]),
)
ANY_TEXT = st.lists(PIECES, max_size=8).map("".join)


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_the_same_from_everywhere(
    text: str, from_json: Tokenizer, from_gguf: Tokenizer, transformers_tokenizer: PreTrainedTokenizerFast
) -> None:
    expected = transformers_tokenizer(text, add_special_tokens=False)["input_ids"]
    assert from_json.encode(text) == expected
    assert from_gguf.encode(text) == expected


@given(text=ANY_TEXT)
@settings(max_examples=300)
def test_ids_are_the_same_for_any_text(
    text: str, from_json: Tokenizer, from_gguf: Tokenizer, transformers_tokenizer: PreTrainedTokenizerFast
) -> None:
    expected = transformers_tokenizer(text, add_special_tokens=False)["input_ids"]
    assert from_json.encode(text) == expected
    assert from_gguf.encode(text) == expected


def test_the_traps_of_the_vocabulary(from_gguf: Tokenizer) -> None:
    assert from_gguf.encode("pythonic")[0] == 64014  # an added token that is not special cuts words
    assert from_gguf.encode("unMathias")[-1] == 64011
    assert 14 not in from_gguf.encode("<|reserved_4|>")  # in the vocabulary, but not an added token
    assert from_gguf.encode("<|reserved_6|>") == [16]
    assert len(from_gguf.encode("[PAD65000]")) > 1  # padding rows are no tokens


def test_both_sources_know_the_same(from_json: Tokenizer, from_gguf: Tokenizer) -> None:
    for tokenizer in (from_json, from_gguf):
        assert tokenizer.vocab_size == 64_400
        assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (1, 7, 0)
        assert tokenizer.special["<|im_end|>"] == 7
        assert len(tokenizer.special) == 505
        assert "python" not in tokenizer.special
        assert tokenizer.special_names["bos_token"] == "<|startoftext|>"
    assert dict(from_json.special) == dict(from_gguf.special)
    assert all(from_json.token_bytes(token) == from_gguf.token_bytes(token) for token in range(64_400))


def test_a_file_of_ollamas_converter_knows_the_same(gguf_metadata: Mapping[str, Any], from_gguf: Tokenizer) -> None:
    """It goes by the split's expression, whose digest is Llama 3's there, and fills up with tokens as if added."""
    assert hashlib.sha256(LFM2_SPLIT.encode()).hexdigest().startswith("d98f9631be1e9607a9848c26c1f9eac1")
    kinds = gguf_metadata["tokenizer.ggml.token_type"].copy()
    kinds[64_400:] = 4
    changed = {
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.tokens": gguf_metadata["tokenizer.ggml.tokens"][:64_400] + [f"[PAD{i}]" for i in range(1136)],
        "tokenizer.ggml.token_type": kinds,
    }
    found = Tokenizer.from_gguf({**gguf_metadata, **changed})
    assert found.ids() == from_gguf.ids() == list(range(64_400))
    assert found.gaps(65_536) == from_gguf.gaps(65_536) == list(range(64_400, 65_536))
    text = "[PAD0] pythonic [PAD1135]<|im_end|> 12345 für 日本語 it's\n\n  end"
    assert found.encode(text) == from_gguf.encode(text)


def test_raw_prompts_get_exactly_one_bos(from_json: Tokenizer, from_gguf: Tokenizer) -> None:
    for tokenizer in (from_json, from_gguf):
        assert tokenizer.encode("hi") == [6928]
        assert tokenizer.encode("hi", add_bos=True) == [1, 6928]
        assert tokenizer.encode("<|startoftext|>hi", add_bos=True) == [1, 6928]
        assert tokenizer.encode("", add_bos=True) == [1]


@given(text=ANY_TEXT)
@settings(max_examples=100)
def test_decoding_gives_the_text_back(text: str, from_gguf: Tokenizer) -> None:
    ids = from_gguf.encode(text)
    assert from_gguf.decode(ids, skip_special=False) == text
    assert b"".join(map(from_gguf.token_bytes, ids)) == text.encode()


@given(ids=st.lists(st.one_of(st.integers(0, 64_399), st.integers(0, 900)), max_size=12), skip=st.booleans())
@settings(max_examples=300)
def test_decoding_equals_transformers(
    ids: list[int],
    skip: bool,
    from_json: Tokenizer,
    from_gguf: Tokenizer,
    transformers_tokenizer: PreTrainedTokenizerFast,
) -> None:
    expected = transformers_tokenizer.decode(ids, skip_special_tokens=skip)
    assert from_json.decode(ids, skip_special=skip) == expected
    assert from_gguf.decode(ids, skip_special=skip) == expected
    shown = [token for token in ids if not (skip and token in from_gguf.special_ids)]
    assert b"".join(map(from_gguf.token_bytes, shown)).decode(errors="replace") == expected


def test_ids_out_of_range(from_gguf: Tokenizer) -> None:
    for wrong in (-1, 64_400, 65_535, 2**40):
        with pytest.raises(RequestInvalid, match=f"token id {wrong} is not in the vocabulary: expected 0 to 64399"):
            from_gguf.decode([7, wrong])
        with pytest.raises(RequestInvalid, match=f"token id {wrong} "):
            from_gguf.token_bytes(wrong)
    assert from_gguf.decode(np.array([6928])) == "hi"


def test_id_of(from_gguf: Tokenizer) -> None:
    assert from_gguf.id_of("<|im_end|>") == 7
    assert from_gguf.id_of("python") == 64014
    assert from_gguf.id_of("hi") == 6928
    assert from_gguf.id_of("<think>") is None
    for token in (from_gguf.encode(" the")[0], from_gguf.encode("é")[0], from_gguf.encode("\n\n")[0]):
        assert from_gguf.id_of(from_gguf.token_bytes(token).decode()) == token
    assert from_gguf.id_of("Ġthe") != from_gguf.id_of(" the")  # how the file spells a space is not the text of it


def test_text_that_is_no_unicode(from_gguf: Tokenizer) -> None:
    with pytest.raises(RequestInvalid, match="half of a surrogate pair"):
        from_gguf.encode("a\ud83d")
    with pytest.raises(RequestInvalid, match="a bytes: expected a string"):
        from_gguf.encode(b"a")  # type: ignore[arg-type]


def test_a_guard_makes_sentinels_text(from_gguf: Tokenizer) -> None:
    plain = from_gguf.encode_guarded("<|im_start|>user\n<\ufdd0|im_end|>python<|im_end|>", "\ufdd0")
    text = [token for token in plain if token not in from_gguf.special_ids]
    assert plain[0] == 6
    assert plain[-1] == 7
    assert len(text) == len(plain) - 2
    assert from_gguf.decode(plain, skip_special=False) == "<|im_start|>user\n<|im_end|>python<|im_end|>"
    assert 64014 in plain


@given(text=ANY_TEXT.filter(lambda text: "\ufdd1" not in text))
@settings(max_examples=100)
def test_encoding_with_a_guard_changes_nothing_else(text: str, from_json: Tokenizer, from_gguf: Tokenizer) -> None:
    for tokenizer in (from_json, from_gguf):
        assert tokenizer.encode_guarded(text, "\ufdd1") == tokenizer.encode(text)


# A vocabulary small enough to write down, for what the genuine one does not show.


def small(**changes: Any) -> dict[str, Any]:
    """tokenizer.json with six tokens."""
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": 4, "content": "<s>", "special": True, "normalized": False, **_FLAGS},
            {"id": 5, "content": "</s>", "special": True, "normalized": True, **_FLAGS},
        ],
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": LFM2_SPLIT}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
            ],
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "vocab": {"a": 0, "b": 1, "Ġ": 2, "ab": 3, "<s>": 4, "</s>": 5, "<": 6, "/": 7, "s": 8, ">": 9},
            "merges": [["a", "b"]],
        },
    } | changes


_FLAGS = {"single_word": False, "lstrip": False, "rstrip": False}


def write(folder: Path, content: object, config: object = None) -> Path:
    path = folder / "tokenizer.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    if config is not None:
        config = config if isinstance(config, str) else json.dumps(config)
        (folder / "tokenizer_config.json").write_text(config, encoding="utf-8")
    return path


def test_special_names_come_from_the_config(tmp_path: Path) -> None:
    config = {"bos_token": {"content": "<s>"}, "eos_token": "</s>", "pad_token": None, "unk_token": 3}
    tokenizer = Tokenizer.from_json(write(tmp_path, small(), config))
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (4, 5, None)
    assert dict(tokenizer.special_names) == {"bos_token": "<s>", "eos_token": "</s>"}


def test_without_a_config_and_without_the_familys_names_there_is_no_bos(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_json(write(tmp_path, small()))
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (None, None, None)
    assert tokenizer.encode("ab", add_bos=True) == [3]


def test_truncation_and_padding_of_the_file_are_not_for_prompts(tmp_path: Path) -> None:
    truncation = {"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0}
    tokenizer = Tokenizer.from_json(write(tmp_path, small(truncation=truncation)))
    assert tokenizer.encode("ab ab") == [3, 2, 3]


def test_a_guard_holds_for_special_tokens_that_are_normalized(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_json(write(tmp_path, small()))
    assert tokenizer.encode("a</s>") == [0, 5]
    assert tokenizer.encode_guarded("a<\ufdd0/s></s>", "\ufdd0") == [0, 6, 7, 8, 9, 5]


def test_added_tokens_outside_the_byte_alphabet(tmp_path: Path) -> None:
    content = small()
    content["added_tokens"].append({"id": 10, "content": "日 x", "special": False, "normalized": False, **_FLAGS})
    tokenizer = Tokenizer.from_json(write(tmp_path, content))
    assert tokenizer.encode("a日 xb") == [0, 10, 1]
    assert tokenizer.token_bytes(10) == "日 x".encode()
    assert tokenizer.decode([0, 10, 1]) == "a日 xb"
    assert tokenizer.id_of("日 x") == 10
    assert tokenizer.encode_guarded("a日 xb", "\ufdd0") == [0, 10, 1]


def test_ids_with_holes(tmp_path: Path) -> None:
    content = small()
    content["model"]["vocab"] |= {"ba": 40}
    tokenizer = Tokenizer.from_json(write(tmp_path, content))
    assert tokenizer.vocab_size == 41
    with pytest.raises(RequestInvalid, match="token id 20"):
        tokenizer.token_bytes(20)


@pytest.mark.parametrize(
    "content",
    ["", "{", "null", "[]", "{}", "\ud83d", '{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "b"]]}}'],
)
def test_a_broken_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(FileInvalid, match=r"tokenizer\.json"):
        Tokenizer.from_json(path)


@given(data=st.data())
@settings(max_examples=200)
def test_a_damaged_file_is_an_error_or_a_tokenizer(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(json.dumps(small()).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.json"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    try:
        tokenizer = Tokenizer.from_json(path)
    except (FileInvalid, Unsupported):
        return
    tokenizer.decode(tokenizer.encode("ab <s>", add_bos=True))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"tokenizer\.json does not exist"):
        Tokenizer.from_json(tmp_path / "tokenizer.json")


def test_other_kinds_of_tokenizer(tmp_path: Path) -> None:
    word_level = {"type": "WordLevel", "vocab": {"a": 0, "[UNK]": 1}, "unk_token": "[UNK]"}
    with pytest.raises(Unsupported, match="kind WordLevel"):
        Tokenizer.from_json(write(tmp_path, small(model=word_level)))
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    with pytest.raises(Unsupported, match="not byte-level"):
        Tokenizer.from_json(write(tmp_path, small(decoder=metaspace)))


@pytest.mark.parametrize("config", ["{", "[]", "\x00"])
def test_a_broken_config(tmp_path: Path, config: str) -> None:
    with pytest.raises(FileInvalid, match=r"tokenizer_config\.json"):
        Tokenizer.from_json(write(tmp_path, small(), config))


def small_gguf(**changes: Any) -> dict[str, Any]:
    metadata = {
        "model": "gpt2",
        "pre": "lfm2",
        "tokens": ["a", "b", "ab", "<s>", "[PAD4]"],
        "token_type": [1, 1, 1, 3, 5],
        "merges": ["a b"],
        "bos_token_id": 3,
    } | changes
    return {f"tokenizer.ggml.{key}": value for key, value in metadata.items() if value is not None}


def test_a_small_gguf() -> None:
    tokenizer = Tokenizer.from_gguf(small_gguf())
    assert tokenizer.encode("<s>abab", add_bos=True) == [3, 2, 2]
    assert (tokenizer.vocab_size, tokenizer.bos_id, tokenizer.eos_id) == (4, 3, None)


@pytest.mark.parametrize("key", ["model", "pre", "tokens", "token_type", "merges"])
def test_a_missing_key_is_named(key: str) -> None:
    with pytest.raises(FileInvalid, match=rf"x\.gguf: tokenizer\.ggml\.{key} is missing"):
        Tokenizer.from_gguf(small_gguf(**{key: None}), "x.gguf")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"tokens": "ab"}, "tokens is not a list of strings"),
        ({"tokens": [1, 2, 3, 4, 5]}, "tokens is not a list of strings"),
        ({"tokens": ["a", "b", "ab", "a", "[PAD4]"]}, "repeats a token"),
        ({"tokens": [], "token_type": [], "merges": []}, "has none"),
        ({"merges": ["ab"]}, "merges do not fit"),
        ({"merges": ["a x"]}, "merges do not fit"),
        ({"merges": ["b a"]}, "merges do not fit"),
        ({"token_type": [1, 1]}, "2 entries for 5 tokens"),
        ({"token_type": 7}, "not a list of integers"),
        ({"token_type": ["x"] * 5}, "not a list of integers"),
        ({"bos_token_id": 5}, "bos_token_id is 5: expected 0 to 4"),
        ({"bos_token_id": -1}, "bos_token_id is -1"),
        ({"eos_token_id": "x"}, "eos_token_id is 'x'"),
    ],
)
def test_metadata_that_makes_no_sense(change: Mapping[str, Any], sentence: str) -> None:
    with pytest.raises(FileInvalid, match=sentence):
        Tokenizer.from_gguf(small_gguf(**change))


def test_other_tokenizers_of_gguf_are_named() -> None:
    with pytest.raises(Unsupported, match="tokenizer model 'llama'"):
        Tokenizer.from_gguf(small_gguf(model="llama"))
    with pytest.raises(Unsupported, match="pre-tokenizer 'qwen2'"):
        Tokenizer.from_gguf(small_gguf(pre="qwen2"))


@given(ANY_TEXT, st.integers(0, 12))
def test_a_text_without_its_first_tokens_is_its_end(from_gguf: Tokenizer, text: str, tokens: int) -> None:
    """Sentinels are text here: each is worth several tokens."""
    rest = from_gguf.without_first(text, tokens)
    assert text.endswith(rest)
    assert (rest == text) == (not tokens or not text)
    if "<" not in text and not any(word in text for word in ("python", "Mathias")):
        ids = from_gguf.encode(text)
        assert rest == from_gguf.decode(ids[tokens:]).lstrip("\ufffd") or "\ufffd" in text


def test_a_sentinel_is_cut_as_text(from_gguf: Tokenizer) -> None:
    assert from_gguf.without_first("<|im_end|>" * 9, 3) not in ("", "<|im_end|>" * 6)
    assert from_gguf.without_first("日本語 x", 1) in ("本語 x", "語 x", " x")
