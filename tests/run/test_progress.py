"""Plain lines, the terminal bar and the silence of other ranks."""

from __future__ import annotations

import io
import sys

import pytest

from ernie5.run import progress as module
from ernie5.run.progress import progress


@pytest.fixture(autouse=True)
def rank_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)


def test_plain_lines_at_intervals_and_at_the_end(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    with progress("vision [x]", total=100) as bar:
        for i in range(100):
            clock[0] += 0.5
            bar.advance(1, loss=f"{i / 100:.2f}")
    out, lines = capsys.readouterr()
    assert out == ""
    assert lines.splitlines() == [
        "vision [x]: 20/100 in 0:10, 0:40 left  loss 0.19", "vision [x]: 40/100 in 0:20, 0:30 left  loss 0.39",
        "vision [x]: 60/100 in 0:30, 0:20 left  loss 0.59", "vision [x]: 80/100 in 0:40, 0:10 left  loss 0.79",
        "vision [x]: 100/100 in 0:50, 0:00 left  loss 0.99", "vision [x]: 100/100 in 0:50, done  loss 0.99"]


def test_long_waits_and_an_unknown_total(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    with progress("shards", total=None) as bar:
        clock[0] += 3725
        bar.advance(7)
    assert capsys.readouterr().err.splitlines() == ["shards: 7 in 1:02:05", "shards: 7 in 1:02:05, done"]


def test_an_error_is_not_called_done_and_passes_through(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError), progress("x", total=5) as bar:
        bar.advance(2)
        raise KeyError("gone")
    assert capsys.readouterr().err == "x: 2/5 in 0:00, ended by KeyError\n"


def test_other_ranks_are_silent(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with progress("x", total=5) as bar:
        bar.advance(2, loss="1")
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with progress("audio [b]", total=3) as bar:
        bar.advance(2, loss="0.5")
        bar.advance(1)
    last = terminal.getvalue()
    assert "audio [b]" in last and "3/3" in last and "loss 0.5" in last
