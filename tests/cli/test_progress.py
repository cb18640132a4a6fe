"""Progress: bars where there is a terminal and the work takes a moment, lines elsewhere."""

from __future__ import annotations

import io
import re

import pytest

from localllm.api import Progress
from localllm.cli.output import Output
from localllm.cli.progress import ProgressView


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def show(err: io.StringIO, events: list[Progress], *, step_s: float, quiet: bool = False) -> str:
    clock = Clock()
    output = Output(out=io.StringIO(), err=err, quiet=quiet, environ={"TERM": "xterm"})
    with ProgressView(output, clock=clock) as view:
        for event in events:
            view.update(event)
            clock.now += step_s
    return err.getvalue()


DOWNLOAD = [Progress("download", "model", done, 1000) for done in (0, 250, 1000)]


def test_lines_where_there_is_no_terminal() -> None:
    assert show(io.StringIO(), DOWNLOAD, step_s=1) == "downloading model (1.0 kB)\ndownloaded model in 2.0 s\n"
    assert show(io.StringIO(), [Progress("load", "m", 0.5, 1.0, "fraction")], step_s=1) == ""
    assert show(io.StringIO(), DOWNLOAD, step_s=1, quiet=True) == ""


def test_a_bar_only_when_it_takes_a_moment() -> None:
    assert show(Screen(), DOWNLOAD, step_s=0.01) == ""
    shown = show(Screen(), DOWNLOAD, step_s=1)
    assert "downloading model" in shown
    assert "100%" in shown


@pytest.mark.parametrize("columns", [20, 40, 120])
def test_a_bar_fits_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    events = [
        Progress("download", "a-long-name-of-a-model-file-Q4_K_M.gguf\x1b[2J", done, 1000) for done in (0, 250, 1000)
    ]
    shown = show(Screen(), events, step_s=1)
    lines = re.split(r"[\r\n]", re.sub(r"\x1b\[[0-?]*[A-Za-z]", "", shown))
    assert max(map(len, lines)) <= columns
    assert "\x1b[2J" not in shown
