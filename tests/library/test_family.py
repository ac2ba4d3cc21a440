"""The table of short names: its figures are those of published files, and of what the engine will take."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from headrace import shapes, summary
from headrace.checkpoint import backbone_of
from headrace.library import family
from headrace.library.names import Name

ALL = {str(one.name): one for one in family.available()}


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("lfm2:350m", 354_483_968),
        ("lfm2:700m", 742_489_344),
        ("lfm2:1.2b", 1_170_340_608),
        ("lfm2:2.6b", 2_569_272_320),
        ("lfm2:8b", 8_339_930_560),
        ("lfm2:24b", 23_843_661_440),
    ],
)
def test_parameters_are_those_of_the_model_cards(name: str, parameters: int) -> None:
    assert ALL[name].parameters == parameters


def test_sizes_are_those_that_llama_cpp_prints_for_published_files() -> None:
    assert f"{ALL['lfm2:8b'].size_bytes / 2**30:.2f} GiB" == "4.41 GiB"
    assert f"{ALL['lfm2:24b'].size_bytes / 2**30:.2f} GiB" == "12.54 GiB"


@pytest.mark.parametrize("one", ALL.values(), ids=ALL)
def test_memory_is_what_show_will_say(one: family.Available) -> None:
    _, config = shapes.config_of("", one.shape)
    loaded = SimpleNamespace(backbone=backbone_of(config), weights={})
    for window, taken in one.memory_bytes.items():
        said = summary.memory_bytes(loaded, window, "fp16")  # type: ignore[arg-type]
        assert taken == one.size_bytes + said["cache"]


def test_short_names_lead_to_their_source() -> None:
    assert str(family.source(Name.parse("LFM2:8B"))) == "hf.co/LiquidAI/LFM2-8B-A1B-GGUF:Q4_0"
    other = Name.parse("maternion/lfm2:8b")
    assert family.source(other) is other


def test_licences_are_known_by_name() -> None:
    assert {one.license for one in ALL.values()} == {"LFM Open License v1.0"}
    for text in ("lfm2:24b", "maternion/lfm2", "hf.co/LiquidAI/LFM2-8B-A1B"):
        assert family.license_of(Name.parse(text)) == family.LICENSE
    assert family.license_of(Name.parse("smollm2")) is None
