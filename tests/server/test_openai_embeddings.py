"""`/v1/embeddings` and `/v1/models`, as OpenAI's own client sees them."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator

import httpx
import numpy as np
import openai
import pytest

import headrace
from tests.server.live import Live, running
from tests.server.openai_clients import client_of, thinker

TEXTS = ["The cat sat on the mat.", "A kitten lay on the rug."]


@pytest.fixture(scope="module")
def client(live: Live) -> Iterator[openai.OpenAI]:
    with client_of(live.url) as one:
        yield one


@pytest.fixture(scope="module")
def model() -> Iterator[headrace.Model]:
    with headrace.load("nano") as one:
        yield one


def test_they_are_the_models(client: openai.OpenAI, model: headrace.Model) -> None:
    answer = client.embeddings.create(model="nano", input=TEXTS)
    assert [one.index for one in answer.data] == [0, 1]
    assert np.array_equal(np.array([one.embedding for one in answer.data], np.float32), model.embed(TEXTS))
    tokens = sum(len(model.tokenize(text, add_bos=True)) for text in TEXTS)
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (tokens, tokens)
    assert (answer.object, answer.model, answer.data[0].object) == ("list", "nano", "embedding")
    alone = client.embeddings.create(model="nano", input=TEXTS[1])
    assert alone.data[0].embedding == answer.data[1].embedding


def test_of_token_ids(client: openai.OpenAI, model: headrace.Model) -> None:
    ids = [model.tokenize(text) for text in TEXTS]
    for given in (ids, [model.tokenize(text, add_bos=True) for text in TEXTS]):
        answer = client.embeddings.create(model="nano", input=given)
        assert np.array_equal(np.array([one.embedding for one in answer.data], np.float32), model.embed(TEXTS))
    alone = client.embeddings.create(model="nano", input=ids[0])
    assert alone.data[0].embedding == answer.data[0].embedding


def test_encodings(live: Live) -> None:
    def ask(encoding: str) -> object:
        body = {"model": "nano", "input": TEXTS[0], "encoding_format": encoding}
        return httpx.post(f"{live.url}/v1/embeddings", json=body).json()["data"][0]["embedding"]

    numbers, packed = ask("float"), ask("base64")
    assert isinstance(numbers, list)
    assert isinstance(packed, str)
    assert np.frombuffer(base64.b64decode(packed), "<f4").tolist() == np.array(numbers, np.float32).tolist()


def test_fewer_dimensions_have_length_one_again(client: openai.OpenAI, model: headrace.Model) -> None:
    whole = model.embed(TEXTS[:1])[0]
    told = np.array(client.embeddings.create(model="nano", input=TEXTS[0], dimensions=7).data[0].embedding)
    assert np.allclose(told, whole[:7] / np.linalg.norm(whole[:7]), atol=1e-6)
    assert np.isclose(np.linalg.norm(told), 1, atol=1e-6)
    with pytest.raises(openai.BadRequestError, match="dimensions is 100000 but this model has") as error:
        client.embeddings.create(model="nano", input="x", dimensions=100_000)
    assert error.value.param == "dimensions"


def test_poolings(client: openai.OpenAI, model: headrace.Model) -> None:
    answer = client.embeddings.create(model="nano", input=TEXTS, extra_body={"pooling": "last"})
    assert np.array_equal(np.array([one.embedding for one in answer.data], np.float32), model.embed(TEXTS, "last"))


def test_what_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client.embeddings.create(model="nano", input="word " * 5000)
    assert (error.value.code, error.value.param) == ("context_length_exceeded", "input")
    with pytest.raises(openai.BadRequestError, match="out of range"):
        client.embeddings.create(model="nano", input=[1 << 20])
    with pytest.raises(openai.BadRequestError, match="2048 is the most"):
        client.embeddings.create(model="nano", input=["a"] * 2049)
    with pytest.raises(openai.BadRequestError, match="truncate: it is not supported"):
        client.embeddings.create(model="nano", input="a", extra_body={"truncate": True})
    with pytest.raises(openai.BadRequestError, match="input should be"):
        client.embeddings.create(model="nano", input=[])
    assert client.embeddings.create(model="nano", input="", user="me").usage.prompt_tokens == 1, "its BOS"


def test_models(client: openai.OpenAI) -> None:
    listed = {one.id: one for one in client.models.list()}
    assert listed["nano"] == client.models.retrieve("nano") == client.models.retrieve("NANO:latest")
    assert (listed["nano"].object, listed["nano"].owned_by) == ("model", "library")
    assert listed["nano"].created > 0
    with pytest.raises(openai.NotFoundError, match="model 'a/b' not found") as error:
        client.models.retrieve("a/b")
    assert (error.value.code, error.value.param) == ("model_not_found", "model")


def test_ids_may_hold_slashes(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = thinker(tmp_path_factory.mktemp("models"))
    with running(models=[f"lab/thinker={path}"]) as live, client_of(live.url) as client:
        assert client.models.retrieve("lab/thinker").id == "lab/thinker"
        assert httpx.get(f"{live.url}/v1/models/lab/thinker").json()["id"] == "lab/thinker"
        answer = client.completions.create(model="lab/thinker", prompt="Hi", max_tokens=1)
        assert answer.model == "lab/thinker"


def test_without_waiting(live: Live, client: openai.OpenAI) -> None:
    async def ask() -> None:
        async with openai.AsyncOpenAI(base_url=f"{live.url}/v1", api_key="any", max_retries=0) as other:
            answer = await other.embeddings.create(model="nano", input=TEXTS)
            assert answer.data == client.embeddings.create(model="nano", input=TEXTS).data
            assert [one.id async for one in other.models.list()] == [one.id for one in client.models.list()]
            assert (await other.models.retrieve("nano")).id == "nano"

    asyncio.run(ask())
