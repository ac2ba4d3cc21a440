"""What manifests say beside weights: read whole, held to what it should be, and never trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import FileInvalid, UserError
from headrace.library import contents, modelfile
from headrace.library.contents import JINJA, Contents, dumped
from headrace.library.manifest import CONFIG, OLLAMA, Layer, build, parse
from headrace.library.modelfile import Message, Modelfile
from headrace.library.names import Name
from headrace.library.store import Store

NAME = Name.parse("found")


def contents_of(folder: Path, **parts: bytes) -> Contents:
    """Read back from a store in which a model has these layers; `config` and `jinja` are not Ollama's."""
    store = Store(folder)
    types = {"config": CONFIG, "jinja": JINJA}
    with store.writing() as session:
        config = session.add(parts.pop("config", b"{}"), CONFIG)
        layers = [session.add(data, types.get(kind, OLLAMA + kind)) for kind, data in parts.items()]
        manifest = session.put(NAME, build(config, layers))
    return contents.read(store, NAME, manifest)


def test_nothing_said_is_empty(tmp_path: Path) -> None:
    assert contents_of(tmp_path) == Contents()
    preset = Contents().preset("found")
    assert (preset.name, preset.parameters, preset.num_ctx, preset.template) == ("found", {}, None, "")


def test_a_go_template_is_never_taken_for_jinja(tmp_path: Path) -> None:
    """Nor is Jinja that lies under Ollama's type."""
    found = contents_of(tmp_path, template=b"{{ messages }}")
    assert found.template == ""
    assert found.modelfile("x") == Modelfile("x")
    assert contents_of(tmp_path, template=b"{{ .Prompt }}", jinja=b"{{ bos_token }}").template == "{{ bos_token }}"


def test_parameters_as_pulled_models_have_them(tmp_path: Path) -> None:
    """What there is not here is passed over; what only tunes hardware is in a Modelfile, and in no preset."""
    stated = b'{"temperature":0.3,"stop":["a"],"num_ctx":4096.0,"num_gpu":9,"mirostat":2,"future":{},"seed":-1}'
    found = contents_of(tmp_path, params=stated)
    preset = found.preset("found")
    assert preset.parameters == {"temperature": 0.3, "stop": ["a"]}
    assert preset.num_ctx == 4096
    assert found.modelfile("x").parameters == {
        "temperature": 0.3,
        "stop": ["a"],
        "num_ctx": 4096.0,
        "num_gpu": 9,
        "seed": -1,
    }


def test_a_value_that_a_parameter_cannot_have_is_named(tmp_path: Path) -> None:
    found = contents_of(tmp_path, params=b'{"temperature":"hot","top_k":4}')
    with pytest.raises(FileInvalid, match=r"^found: its manifest cannot be used: temperature is 'hot' but should be"):
        found.preset("found")
    assert found.modelfile("x").parameters == {"top_k": 4}


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"params": b"[]"}, "should be a JSON object"),
        ({"params": b"{"}, "should be JSON"),
        ({"params": b'{"top_p":NaN}'}, "should be JSON"),
        ({"params": b'{"stop":"\\ud800"}'}, "should be JSON"),
        ({"params": b"[" * 100_000}, "should be JSON"),
        ({"params": b'{"seed":' + b"9" * 10_000 + b"}"}, "should be JSON"),
        ({"config": b"7"}, "should be a JSON object"),
        ({"messages": b"{}"}, "should be a JSON list of messages"),
        ({"messages": b'[{"role":"tool","content":"x"}]'}, "a role of system, user, assistant"),
        ({"messages": b'[{"role":"user"}]'}, "its messages should each have a content"),
        ({"system": b"\xff"}, "should be UTF-8 text"),
        ({"system": b"x" * (contents.LARGEST_BYTES + 1)}, f"it has more than {contents.LARGEST_BYTES} bytes"),
    ],
)
def test_what_is_not_what_it_says(parts: dict[str, bytes], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(FileInvalid) as raised:
        contents_of(tmp_path, **parts)
    assert sentence in str(raised.value)


def test_many_layers_are_no_way_to_take_memory(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.writing() as session:
        config = session.add(b"{}", CONFIG)
        text = session.add(b"x" * contents.LARGEST_BYTES, OLLAMA + "license")
        manifest = session.put(NAME, build(config, [text] * 100))
    with pytest.raises(FileInvalid, match="it has more than"):
        contents.read(store, NAME, manifest)


def test_a_missing_layer_is_a_sentence(tmp_path: Path) -> None:
    gone = Layer(OLLAMA + "system", "sha256:" + "0" * 64, 3)
    with pytest.raises(FileInvalid, match=f"^found: its layer {gone.digest} is missing: pull it again"):
        contents.read(Store(tmp_path), NAME, parse(build(gone, [gone]), NAME))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
names = st.sampled_from(["temperature", "stop", "seed", "num_ctx", "num_gpu", "mirostat", "x"])
parameters = st.dictionaries(names, anything, max_size=4)


@given(parameters, anything)
def test_of_hostile_parameters_only_user_errors_come(stated: dict[str, Any], requires: Any) -> None:
    found = Contents({"requires": requires}, stated)
    assert isinstance(sentence(lambda: found.preset("x")), str)
    written = modelfile.write(found.modelfile("x"))
    assert modelfile.read(written.encode()) == modelfile.checked(found.modelfile("x"))


def sentence(ask: Any) -> str:
    try:
        ask()
    except UserError as error:
        return str(error)
    return ""


def test_a_model_says_as_a_modelfile_what_it_says(tmp_path: Path) -> None:
    found = contents_of(
        tmp_path,
        config=b'{"requires":"0.14.0"}',
        jinja=b"{{ x }}",
        system=b"s",
        messages=b'[{"role":"user","content":"Hi"}]',
        license=b"MIT",
        params=b'{"top_k":4}',
    )
    assert found.modelfile("m") == Modelfile(
        "m", {"top_k": 4}, "{{ x }}", "s", ("MIT",), (Message("user", "Hi"),), "0.14.0"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"stop": ["<|im_end|>", "&"]}, '{"stop":["\\u003c|im_end|\\u003e","\\u0026"]}'),
        ({"temperature": 1.0, "top_p": 0.9, "seed": -1}, '{"temperature":1,"top_p":0.9,"seed":-1}'),
        ([True, None, "é\n\u2028"], '[true,null,"é\\n\\u2028"]'),
    ],
)
def test_json_as_gos_encoder_writes_it(value: Any, text: str) -> None:
    assert dumped(value) == text.encode() + b"\n"
