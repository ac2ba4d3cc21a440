"""docs/engine.md is true where that can be checked: its figures are the code's, the tests that it names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from headrace import budget, jobs, model, synthetic
from headrace.cli import headrace as cli
from headrace.engine import core, pace, scheduler, speculation

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "engine.md").read_text(encoding="utf-8")
WORDS = re.sub(r"\s+", " ", PAGE)


@pytest.mark.parametrize("named", sorted(set(re.findall(r"`([\w/]+\.py::\w+)`", PAGE))))
def test_named_tests_exist(named: str) -> None:
    file, _, test = named.partition("::")
    text = (ROOT / "tests" / file).read_text(encoding="utf-8")
    assert f"def {test}(" in text or f"class {test}(" in text


def test_files_are_named_all() -> None:
    named = set(re.findall(r"`(\w+\.py)`", PAGE))
    files = {path.name for path in (ROOT / "src" / "headrace" / "engine").glob("*.py")}
    binding = {"core.py", "packed.py", "packed_file.py", "packer.py"}  # files to a native model: in design.md
    assert files - named == {"__init__.py", *binding}


@pytest.mark.parametrize(
    "sentence",
    [
        f"Up to {model.MAX_SEQUENCES} sequences",
        f"what {budget.CACHED_WINDOWS} full windows need",
        f"what its grammar forces, up to {scheduler.MOST_FORCED}",
        f"A chunk has {pace.CHUNK_TOKENS} tokens",
        f"multiples of {pace.LEAST_TOKENS} and at least {pace.LEAST_TOKENS}",
        f"(`echo`) is {scheduler.ECHO_TOKENS} at most",
        f"blocks of {core.BLOCK_TOKENS} tokens",
        f"`logprobs=k` (0 to {jobs.MOST_LOGPROBS})",
        f"So each draft, of up to {speculation.MOST_DRAFTED} tokens,",
        f"(2 to {speculation.LONGEST_MATCH})",
    ],
)
def test_figures_are_the_codes(sentence: str) -> None:
    assert sentence in WORDS


def test_the_quarter_second_and_the_words_for_other_figures() -> None:
    assert (pace.TARGET_S, speculation.NGRAMS, speculation.CREDIT_TOKENS) == (0.25, (3, 2), 3)
    assert (speculation.CREDIT_SHARE, speculation.GROWTH) == (0.01, 0.25)


def test_bytes_of_a_block() -> None:
    shape = synthetic.FAMILY["lfm2:8b"]
    convolutions = (shape.layers - len(shape.attention)) * 2 * shape.hidden_size * 4
    keys_and_values = core.BLOCK_TOKENS * len(shape.attention) * 2 * 8 * 64 * 2
    assert f"{keys_and_values + convolutions:,} bytes in fp16, {convolutions:,} of them" in WORDS


@pytest.mark.parametrize("line", re.findall(r"^headrace (.*)$", PAGE, re.MULTILINE))
def test_options_of_the_commands_exist(line: str) -> None:
    command, *rest = line.split()
    shown = CliRunner().invoke(cli, [command, *([rest[0]] if command == "cache" else []), "--help"]).output
    for option in re.findall(r"(?<= )--?[a-z][a-z-]*", line):
        assert option in shown


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        file, _, heading = target.partition("#")
        headings = re.findall(r"^#+ (.*)$", (ROOT / "docs" / file).read_text(encoding="utf-8"), re.MULTILINE)
        assert not heading or heading in {title.lower().replace(" ", "-") for title in headings}
