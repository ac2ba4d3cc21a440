"""Rows of the vocabulary that no token has are never sampled; ids of special tokens come from the file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice, product
from pathlib import Path
from string import ascii_letters
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

import headrace
from headrace import ToolCall, checkpoint
from headrace.engine.request import Sequence
from headrace.text.tokenizer import LFM2_SPLIT
from tests import found_files, random_models

IDS = np.random.default_rng(6).integers(8, found_files.WORDS, 40).tolist()
DEAD = set(range(found_files.WORDS, random_models.VOCABULARY))
HOLE = 50  # a row that no token has, in the middle


@pytest.fixture(scope="module")
def loud() -> Any:
    """A model whose rows without a token outshout all others."""
    model = random_models.moe(routed_scaling_factor=1.0)
    with torch.no_grad():
        model.model.embed_tokens.weight[[HOLE, *DEAD]] *= 30
    return model


def with_a_hole(pairs: found_files.Pairs, _: found_files.Tensors) -> None:
    pairs["tokenizer.ggml.token_type"][HOLE] = found_files.UNUSED


@pytest.fixture(scope="module", params=["folder", "llama.cpp", "Ollama"])
def path(request: pytest.FixtureRequest, loud: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("loud")
    if request.param == "folder":
        folder = random_models.save_tokenizer(random_models.save(loud, root), found_files.WORDS)
        document = json.loads((folder / "tokenizer.json").read_text())
        vocabulary = document["model"]["vocab"]
        document["model"]["vocab"] = {content: id_ for content, id_ in vocabulary.items() if id_ != HOLE}
        (folder / "tokenizer.json").write_text(json.dumps(document))
        return folder
    converter = {"llama.cpp": found_files.llama_cpp, "Ollama": found_files.ollama}[request.param]
    return found_files.write(root / "loud.gguf", loud, converter, with_a_hole)


@pytest.fixture(scope="module")
def model(path: Path) -> Iterator[headrace.Model]:
    with headrace.load(path) as loaded:
        yield loaded


def begun(model: headrace.Model, constraint: Any = None, **parameters: Any) -> Sequence:
    sampling = model.checkpoint.defaults.parameters.override(**{"num_predict": 60} | parameters)
    ends = model.checkpoint.end_ids
    return model._engine.submit(Sequence.start(IDS, sampling, 512, end_ids=ends, constraint=constraint))


def ended(sequence: Sequence) -> list[int]:
    """The ids that the engine chose."""
    list(sequence.stream())
    return sequence.ids[len(IDS) : sequence.length].tolist()


def continued(model: headrace.Model, constraint: Any = None, **parameters: Any) -> list[int]:
    return ended(begun(model, constraint, **parameters))


def test_logits_are_left_as_they_are(model: headrace.Model, loud: Any) -> None:
    """And would have chosen such rows: else the tests below could not fail."""
    found, expected = model.logits(IDS), random_models.logits(loud, IDS)
    assert np.abs(found - expected).max() <= 1e-4 * np.ptp(expected)
    assert np.isin(found.argmax(axis=1), [HOLE, *DEAD]).mean() > 0.5


SAMPLINGS: tuple[dict[str, Any], ...] = (
    {"temperature": 0},
    {"temperature": 1, "seed": 1},
    {"temperature": 100, "min_p": 0, "seed": 2},
    {"temperature": 1, "top_k": 3, "top_p": 0.5, "seed": 3},
    {"temperature": 0, "logit_bias": {95: 1000.0, HOLE: 1000.0}},
)


@pytest.mark.parametrize("parameters", SAMPLINGS)
def test_no_row_without_a_token_is_sampled(parameters: dict[str, Any], model: headrace.Model) -> None:
    """Each of the 60 choices would fall on one with the odds of the test above."""
    chosen = continued(model, **parameters)
    assert chosen
    assert not set(chosen) & {HOLE, *DEAD}


FORMATS: tuple[Any, ...] = ({"regex": "[a-z]{30,50}"}, {"regex": "(.|\n)*"}, {"choices": ["abba", "baab"]})


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("parameters", SAMPLINGS)
def test_nor_under_a_grammar(format_: Any, parameters: dict[str, Any], model: headrace.Model) -> None:
    chosen = continued(model, model._constraints.of_text(format_), **parameters)
    assert chosen
    assert not set(chosen) & {HOLE, *DEAD}


def test_nor_beside_others(model: headrace.Model) -> None:
    """Sequences with a grammar and without share their steps."""
    held = model._constraints.of_text({"regex": "[a-z]{30}"})
    together = [begun(model, temperature=1, seed=4), begun(model, held, seed=5), begun(model, temperature=0)]
    chosen = [ended(sequence) for sequence in together]
    assert all(chosen)
    assert not {token for ids in chosen for token in ids} & {HOLE, *DEAD}


# --- the vocabulary of 128,000 ---------------------------------------------------------------------------------------

ROWS, FIRST = 128_000, 124_893  # of the embedding; the first special token, behind the text
SPECIAL = (
    *random_models.SPECIAL,
    *("<|tool_list_start|>", "<|tool_list_end|>", "<|tool_call_start|>", "<|tool_call_end|>"),
    *("<|tool_response_start|>", "<|tool_response_end|>", "<think>", "</think>"),
)
BOS, END_OF_TEXT, END, CALL = FIRST + 1, FIRST + 2, FIRST + 7, FIRST + 10


def text_tokens() -> list[str]:
    """The bytes, one token that is merged, and as many others as it takes."""
    others = ("".join(letters) for letters in product(ascii_letters, repeat=3))
    first = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "ab"]
    return [*first, *islice(others, FIRST - len(first))]


def save_large_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer(models.BPE(vocab=dict(zip(text_tokens(), range(FIRST), strict=True)), merges=[("a", "b")]))
    split = pre_tokenizers.Split(Regex(LFM2_SPLIT), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos_token": "<|startoftext|>", "eos_token": "<|im_end|>", "pad_token": "<|pad|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))


def large_vocabulary(pairs: found_files.Pairs, _: found_files.Tensors) -> None:
    known = [*text_tokens(), *SPECIAL]
    kinds = [1] * FIRST + [3] * len(SPECIAL) + [5] * (ROWS - len(known))
    pairs |= {
        "tokenizer.ggml.tokens": known + [f"[PAD{i}]" for i in range(len(known), ROWS)],
        "tokenizer.ggml.token_type": np.array(kinds, np.int32),
        "tokenizer.ggml.bos_token_id": BOS,
        "tokenizer.ggml.eos_token_id": END,
        "tokenizer.ggml.padding_token_id": FIRST,
    }


@pytest.fixture(scope="module", params=["folder", "GGUF"])
def large(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LFM2.5-8B-A1B in small: its vocabulary, and its context."""
    made = random_models.moe(
        vocab_size=ROWS,
        hidden_size=8,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=128_000,
        bos_token_id=BOS,
        eos_token_id=END,
        routed_scaling_factor=1.0,
    )
    root = tmp_path_factory.mktemp("large")
    if request.param == "GGUF":
        return found_files.write(root / "large.gguf", made, habit=large_vocabulary)
    save_large_tokenizer(random_models.save(made, root))
    return root


def test_special_tokens_are_the_files(large: Path) -> None:
    source = checkpoint.read(large)
    tokenizer = source.tokenizer
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (BOS, END, FIRST)
    assert source.end_ids == {END, END_OF_TEXT}
    assert tokenizer.special == {content: FIRST + i for i, content in enumerate(SPECIAL)}
    assert tokenizer.ids() == list(range(FIRST + len(SPECIAL)))
    assert tokenizer.gaps(ROWS) == list(range(FIRST + len(SPECIAL), ROWS))
    assert tokenizer.encode("<|im_start|>ab", add_bos=True) == [BOS, FIRST + 6, 256]
    assert source.context_length == 128_000
    parameters = source.defaults.parameters
    assert (parameters.temperature, parameters.top_k, parameters.repeat_penalty) == (0.2, 80, 1.05)


def test_tools_are_called_by_the_files_tokens(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call is forced, so its sentinels must be known; a random model chooses what is between them."""
    schema = {"type": "object", "properties": {"city": {"enum": ["a", "b"]}}, "required": ["city"]}
    started: list[Sequence] = []
    start = Sequence.start

    def noted(*given: Any, **more: Any) -> Sequence:
        started.append(start(*given, **more))
        return started[-1]

    monkeypatch.setattr(Sequence, "start", noted)
    with headrace.load(large, num_ctx=512) as model:
        tools = [{"name": "weather", "parameters": schema}]
        form = {"tool_choice": "required", "parallel_tool_calls": False, "think": False}
        events = list(model.chat([{"role": "user", "content": "a"}], tools, seed=1, **form))
    (call,) = [event for event in events if isinstance(event, ToolCall)]
    assert call.name == "weather"
    assert call.arguments["city"] in ("a", "b")
    ids = started[0].ids[: started[0].length].tolist()
    assert ids[0] == BOS
    assert CALL in ids
    assert ids[-1] == END
    assert max(ids) < FIRST + len(SPECIAL)


def test_free_text_of_it_has_tokens_only(large: Path) -> None:
    """300 choices among 128,000 rows, 3,091 of which are no token's."""
    with headrace.load(large, num_ctx=512) as model:
        chosen = continued(model, temperature=100, top_k=0, min_p=0, seed=1, num_predict=300)
    assert len(chosen) > 100
    assert max(chosen) < FIRST + len(SPECIAL)
