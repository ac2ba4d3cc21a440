"""What a name says beside its file comes before what the file says, and after what a request says."""

from __future__ import annotations

import pytest

from headrace import checkpoint, nano
from headrace.errors import RequestInvalid
from headrace.model import Model
from headrace.preset import Preset

HI = {"role": "user", "content": "Hi"}
SYSTEM = {"role": "system", "content": "Be brief."}
SHOT = ({"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"})


def test_parameters_come_before_the_files() -> None:
    source = checkpoint.read(nano.FILE, Preset(parameters={"temperature": 0.7, "stop": ["x"]}, num_ctx=512))
    assert source.defaults.parameters.temperature == 0.7
    assert source.defaults.parameters.stop == ("x",)
    assert source.defaults.origins["temperature"] == "manifest"
    assert source.context_length == 512


def test_a_window_is_no_larger_than_the_models() -> None:
    largest = checkpoint.read(nano.FILE).backbone.max_position_embeddings
    assert checkpoint.read(nano.FILE, Preset(num_ctx=largest + 1)).context_length == largest


def test_a_name_of_its_own() -> None:
    assert checkpoint.read(nano.FILE, Preset(name="mine:small")).name == "mine:small"


def test_parameters_are_checked() -> None:
    with pytest.raises(RequestInvalid, match="temperature"):
        checkpoint.read(nano.FILE, Preset(parameters={"temperature": -1}))


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ([HI], [SYSTEM, *SHOT, HI]),
        ([{"role": "system", "content": "Own."}, HI], [{"role": "system", "content": "Own."}, *SHOT, HI]),
        ([], [SYSTEM, *SHOT]),
    ],
)
def test_what_stands_before_a_conversation(given: list[dict[str, str]], read: list[dict[str, str]]) -> None:
    assert Preset(system="Be brief.", messages=SHOT).before(given) == read


def test_the_model_reads_it() -> None:
    preset = Preset(system="Be brief.", messages=SHOT, template="{% for m in messages %}{{ m.content }}|{% endfor %}")
    with Model(checkpoint.read(nano.FILE, preset)) as model:
        assert model.detokenize(model.chat_answers([HI]).prompt_ids[0]).endswith("Be brief.|2+2?|4|Hi|")
        assert model.detokenize(model.prefix()).endswith("Be brief.|2+2?|4|")
