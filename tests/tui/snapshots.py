"""Snapshots: a screen as SVG, compared with the one that was looked at and kept.

`UPDATE_SNAPSHOTS=1 pytest tests/tui/test_snapshots.py` keeps what is there now: look at it before a commit.
A difference writes what was drawn beside the kept file, as `NAME.new.svg`, and says where.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from textual.app import App
from textual.pilot import Pilot

FOLDER = Path(__file__).parent / "snapshots"
_IDS = re.compile(r"terminal-\d+")
_TITLE = re.compile(r"<title>.*?</title>", re.DOTALL)


def snapshot(app: App[Any]) -> str:
    """The screen as SVG, without what differs from run to run."""
    drawn = app.export_screenshot(title="localllm", simplify=True)
    lines = (line.rstrip() for line in _TITLE.sub("", _IDS.sub("terminal", drawn)).splitlines())
    return "\n".join(line for line in lines if line) + "\n"


def assert_snapshot(app: App[Any], name: str) -> None:
    """The screen looks as it was kept under `name`."""
    drawn = snapshot(app)
    kept, new = FOLDER / f"{name}.svg", FOLDER / f"{name}.new.svg"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        FOLDER.mkdir(exist_ok=True)
        kept.write_text(drawn, encoding="utf-8", newline="\n")
    elif not kept.exists() or kept.read_text(encoding="utf-8") != drawn:
        new.write_text(drawn, encoding="utf-8", newline="\n")
        raise AssertionError(f"{name} looks otherwise than {kept}: see {new}; UPDATE_SNAPSHOTS=1 keeps it")
    new.unlink(missing_ok=True)


async def difference(pilot: Pilot[Any], name: str) -> str:
    """Empty once the screen looks as it was kept; how it differs where nothing moves any more and it does not."""
    kept = FOLDER / f"{name}.svg"
    wanted = "" if os.environ.get("UPDATE_SNAPSHOTS") or not kept.exists() else kept.read_text(encoding="utf-8")
    seen, times = "", 0
    while times < (40 if wanted else 8):  # what was kept may still be on its way on a slow machine
        await pilot.pause(0.04)
        now = snapshot(pilot.app)
        if now == wanted:
            return ""
        seen, times = now, times + 1 if now == seen else 0
    try:
        assert_snapshot(pilot.app, name)
    except AssertionError as exc:
        return str(exc)
    return ""
