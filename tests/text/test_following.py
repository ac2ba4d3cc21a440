"""A conversation that follows the ids of an earlier one is the whole conversation, rendered at once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import headrace
from headrace.errors import RequestInvalid
from headrace.model import Model

FIRST = {"role": "user", "content": "Hello!"}
SECOND = {"role": "user", "content": "Who are you?"}


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    with headrace.load("nano") as one:
        yield one


def answered(model: Model, **options: object) -> tuple[list[int], str]:
    """The ids of a prompt and its answer, and the answer."""
    answers = model.chat_answers([FIRST], **options)
    said = "".join(choice.event.text for choice in answers if isinstance(choice.event, headrace.Text))
    (sequence,) = answers.sequences
    return sequence.ids[: sequence.length].tolist(), said


@pytest.mark.parametrize("num_predict", [-1, 3])
def test_it_is_the_whole_conversation(num_predict: int, model: Model) -> None:
    """Also where the first answer was cut off, so that its end is the template's."""
    after, said = answered(model, num_predict=num_predict)
    whole = model.chat_answers([FIRST, {"role": "assistant", "content": said}, SECOND]).prompt_ids[0]
    assert model.chat_answers([SECOND], after=after).prompt_ids[0] == whole


def test_a_template_without_ends_closes_nothing(model: Model) -> None:
    after, _ = answered(model)
    prompt = model.chat_answers([SECOND], after=after, template="{{ messages[0].content }}").prompt_ids[0]
    assert model.detokenize(prompt[len(after) :]) == "Who are you?"


def test_ids_are_checked(model: Model) -> None:
    with pytest.raises(RequestInvalid, match="token id 99999 is out of range"):
        model.chat_answers([SECOND], after=[99999])


def test_a_reply_goes_on_with_the_last_words(model: Model) -> None:
    _, said = answered(model)
    begun = [FIRST, {"role": "assistant", "content": said[:11]}]
    answers = model.chat_answers(begun, goes_on=True)
    rest = "".join(choice.event.text for choice in answers if isinstance(choice.event, headrace.Text))
    assert said[:11] + rest == said
    assert model.detokenize(answers.prompt_ids[0]).endswith(f"assistant\n{said[:11]}")
