"""`benchmarks.engine` measures what it says: forced texts are paid for in full, prompts share what they should."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import headrace
from benchmarks import engine, page, texts
from benchmarks.forced import Forced
from headrace import nano
from headrace.engine.speculation import LONGEST_MATCH, PromptLookup


class Wrong:
    """Drafts what is never right."""

    def read(self, _: np.ndarray) -> bool:
        return True

    def close(self) -> None:
        pass

    def trust(self, _: np.ndarray) -> int:
        return LONGEST_MATCH

    def propose(self, ids: np.ndarray, most: int) -> list[int]:
        return [int(ids[-1])] * most


@pytest.fixture(scope="module")
def run() -> Iterator[engine.Run]:
    with headrace.load(nano.NAME) as model:
        yield engine.Run(nano.FILE, model, None)


def test_a_forced_text_allows_one_token_at_each_place_and_all_of_a_draft() -> None:
    forced = Forced([7, 40, 8], 64)
    assert forced.accept(7) == []
    draft, masks = forced.ahead([9])
    assert draft == [9]
    assert [mask.tolist() for mask in masks] == [[0, 1 << 8], [1 << 8, 0]]
    assert forced.mask() is masks[0]


def test_a_forced_text_is_written_in_a_step_for_each_token_and_in_fewer_with_drafts(run: engine.Run) -> None:
    prompt, answer = [1, *range(300, 340)], [*range(310, 335)]
    run.say(prompt, answer[:2])
    _, plain = run.say(prompt, answer)
    _, drafted = run.say(prompt, answer, PromptLookup())
    assert [step.tokens for step in plain[1:]] == [1] * (len(answer) - 1)
    assert len(drafted) < len(plain)


def test_wrong_drafts_are_stepped_and_change_nothing(run: engine.Run) -> None:
    prompt, answer = [1, *range(400, 440)], [*range(410, 435)]
    run.say(prompt, answer[:2])
    _, steps = run.say(prompt, answer, Wrong())
    assert len(steps) == len(answer)
    assert sum(step.tokens - 1 for step in steps[1:]) > 0


def test_a_step_is_timed_in_order(run: engine.Run) -> None:
    first = run.now
    _, reads = run.together(2)
    assert reads > 0
    steps = run.watch.since(first)
    assert len(steps) > 1
    for step in steps:
        moments = [step.scheduling, step.scheduled, step.started, step.ended, step.committed]
        assert moments == sorted(moments)
    assert all(before.committed <= after.scheduling for before, after in pairwise(steps))


def test_each_turn_of_the_chat_begins_with_the_one_before(run: engine.Run) -> None:
    messages = texts.conversation(run.model.checkpoint.tokenizer, 3, 600)
    prompts = [engine.encoded(run, messages[: 2 * turn + 1]) for turn in range(3)]
    assert 500 < len(prompts[-1]) < 700
    for prompt, after in pairwise(prompts):
        assert len(engine.reply(run, prompt, after)) > texts.REPLY_TOKENS // 2


def test_what_is_found_again_is_not_stepped(run: engine.Run) -> None:
    text = run.prose(400, 1)
    run.model.clear_cache()
    cold, warm = run.generate(text), run.generate(text)
    assert cold.stepped == cold.prompt == warm.prompt
    assert warm.stepped <= 64


def test_only_the_writings_that_should_copy_their_prompt() -> None:
    copied = {}
    for writing in texts.writings():
        words = writing.answer.split()
        threes = list(zip(words, words[1:], words[2:], strict=False))
        copied[writing.name] = sum(" ".join(three) in " ".join(writing.prompt.split()) for three in threes) / len(
            threes
        )
    *copies, other = copied.values()
    assert min(copies) > 0.3
    assert other < 0.02


def test_only_what_stands_between_the_comments_is_written(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text("before\n<!-- a -->\nold\n<!-- b -->\nafter\n", encoding="utf-8")
    for _ in range(2):
        page.replace(file, ("<!-- a -->", "<!-- b -->"), "new")
    assert file.read_text(encoding="utf-8") == "before\n<!-- a -->\n\nnew\n\n<!-- b -->\nafter\n"


def test_the_page_has_a_place_for_the_figures() -> None:
    written = engine.PAGE.read_text(encoding="utf-8")
    begin, end = engine.ENDS
    assert written.count(begin) == written.count(end) == 1
    assert written.index(begin) < written.index(end)


def test_an_unknown_figure_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        engine.main([str(nano.FILE), "--only", "speed"])
    assert "--only names 'speed': expected of decode, chat" in capsys.readouterr().err


@pytest.mark.slow
def test_all_figures_of_nano(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a peer: half a minute on two cores. What was measured before is kept."""
    results = ["--results", str(tmp_path / "engine.json")]
    engine.main([str(nano.FILE), *results, "--only", "arrival"])
    others = ",".join(name for name in engine.FIGURES if name != "arrival")
    capsys.readouterr()
    engine.main([str(nano.FILE), *results, "--only", others, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert list(found) == list(engine.FIGURES)
    counts = {"decode": len(engine.TOGETHER), "drafts": len(texts.writings()), "python": 2}
    for name, each in found.items():
        assert each["read_gb_per_s"] > 0
        assert len(each["rows"]) == counts.get(name, 1)
    for name in ("chat", "system"):
        (row,) = found[name]["rows"]
        assert row["figures"]["stepped"] < row["figures"]["cold_stepped"] / 3
    for row in found["drafts"]["rows"]:
        assert row["figures"]["accepted_per_step"] > 0 or not row["what"].startswith("editing")
