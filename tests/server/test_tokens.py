"""Routes beside the dialects."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

import headrace
from tests import random_models
from tests.server.live import Live, running


def test_tokens_are_those_of_the_model(live: Live) -> None:
    with headrace.load("nano") as model:
        ids = model.tokenize("What is 37 * 12?")
        bos = model.tokenize("", add_bos=True)
    asked = httpx.post(f"{live.url}/tokenize", json={"prompt": "What is 37 * 12?", "return_token_strs": True}).json()
    assert asked["tokens"] == ids
    assert asked["count"] == len(ids)
    assert "".join(asked["token_strs"]) == "What is 37 * 12?"
    with_bos = httpx.post(f"{live.url}/tokenize", json={"content": "x", "add_special": True}).json()["tokens"]
    assert with_bos[:1] == bos
    assert httpx.post(f"{live.url}/detokenize", json={"tokens": ids}).json()["content"] == "What is 37 * 12?"


def test_the_prompt_of_a_conversation(live: Live) -> None:
    asked = {"messages": [{"role": "user", "content": "Hi"}]}
    prompt = httpx.post(f"{live.url}/apply-template", json=asked).json()["prompt"]
    assert prompt == "<|startoftext|><|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    ids = httpx.post(f"{live.url}/tokenize", json=asked).json()["tokens"]
    assert httpx.post(f"{live.url}/detokenize", json={"tokens": ids}).json()["prompt"] == prompt


def test_tools_are_a_part_of_the_prompt(live: Live) -> None:
    tool = {"type": "function", "function": {"name": "dig", "parameters": {"type": "object", "properties": {}}}}
    asked = {"messages": [{"role": "user", "content": "Hi"}], "tools": [tool]}
    prompt = httpx.post(f"{live.url}/apply-template", json=asked).json()["prompt"]
    assert '"name": "dig"' in prompt
    ids = httpx.post(f"{live.url}/tokenize", json=asked).json()["tokens"]
    assert httpx.post(f"{live.url}/detokenize", json={"tokens": ids}).json()["prompt"] == prompt


@pytest.mark.parametrize("path", ["/tokenize", "/apply-template"])
def test_tools_have_the_limit_that_they_have_elsewhere(path: str, live: Live) -> None:
    asked = {"messages": [{"role": "user", "content": "Hi"}], "tools": [{"function": {"name": "x" * (1 << 18)}}]}
    answer = httpx.post(live.url + path, json=asked)
    assert "tools is larger than" in answer.json()["error"]["message"]
    assert answer.status_code == 413


def test_thoughts_are_for_models_that_have_them(live: Live) -> None:
    asked = {"messages": [{"role": "user", "content": "Hi"}]}
    plain = httpx.post(f"{live.url}/apply-template", json=asked).json()
    assert httpx.post(f"{live.url}/apply-template", json={**asked, "think": False}).json() == plain
    refused = httpx.post(f"{live.url}/apply-template", json={**asked, "think": True})
    assert "cannot think aloud" in refused.json()["error"]["message"]
    assert refused.status_code == 400


def test_special_tokens_in_a_text_are_ids(live: Live) -> None:
    said = httpx.post(f"{live.url}/tokenize", json={"prompt": "<|im_end|>", "return_token_strs": True}).json()
    assert said["token_strs"] == ["<|im_end|>"]


def test_what_a_remote_tokenizer_tells(live: Live) -> None:
    info = httpx.get(f"{live.url}/tokenizer_info", params={"model": "NANO:latest"}).json()
    assert info["bos_token"] == "<|startoftext|>"
    assert info["model_max_length"] == 4096
    assert "im_start" in info["chat_template"]


@pytest.mark.parametrize(
    ("path", "body", "status", "sentence"),
    [
        ("/tokenize", {}, 400, "give either prompt"),
        ("/tokenize", {"promt": "x"}, 400, "promt: it is not supported"),
        ("/tokenize", {"prompt": 3}, 400, "prompt: expected `str"),
        ("/tokenize", {"prompt": "x", "model": "other"}, 404, "model 'other' not found"),
        ("/detokenize", {"tokens": [1 << 30]}, 400, "out of range"),
        ("/detokenize", {"tokens": [-1]}, 400, "out of range"),
        ("/apply-template", {"messages": []}, 400, ""),
    ],
)
def test_mistakes_have_a_sentence(path: str, body: object, status: int, sentence: str, live: Live) -> None:
    answer = httpx.post(live.url + path, json=body)
    assert sentence in answer.json()["error"]["message"]
    assert answer.status_code == status


def test_it_is_well(live: Live) -> None:
    assert httpx.get(f"{live.url}/health").json() == {"status": "ok"}


def test_without_a_name_it_is_about_the_first_model_that_was_given(tmp_path: Path) -> None:
    path = random_models.save_gguf(random_models.moe(), tmp_path / "own.gguf")
    with headrace.load(path) as model, running(models=[str(path)]) as live:
        ids = model.tokenize("Hello")
        assert httpx.post(f"{live.url}/tokenize", json={"prompt": "Hello"}).json()["tokens"] == ids
        assert httpx.get(f"{live.url}/tokenizer_info").json()["vocab_size"] == model.checkpoint.tokenizer.vocab_size
        assert httpx.post(f"{live.url}/tokenize", json={"prompt": "Hello", "model": "nano"}).json()["tokens"] != ids
