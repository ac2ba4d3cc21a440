"""How far something has come: drawn over on a terminal, few lines in a log."""

from __future__ import annotations

import sys

import pytest

from headrace.cli._progress import progress


@pytest.mark.parametrize("terminal", [False, True])
def test_a_terminal_is_drawn_over_and_a_log_gets_quarters(
    terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    show = progress("writing")
    for done in range(0, 4 << 20, 100_000):
        show(done, 4 << 20)
    show(4 << 20, 4 << 20)
    printed = capsys.readouterr()
    assert printed.out == ""
    if terminal:
        assert printed.err.count("\r") > 30
        assert printed.err.endswith("\rwriting: 100% of 4 MiB\n")
        assert printed.err.count("\n") == 1
    else:
        assert printed.err.splitlines() == [f"writing: {percent:3}% of 4 MiB" for percent in (0, 25, 50, 75, 100)]


def test_nothing_to_write_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    progress("writing")(0, 0)
    assert capsys.readouterr().err == "writing: 100% of 0 MiB\n"
