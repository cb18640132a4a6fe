"""The composer alone in an app: what is typed, pasted, walked through, completed, attached and sent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from localllm_tui.history.values import Attachment, Draft
from localllm_tui.options import ChatSettings
from localllm_tui.prompt import attaching
from localllm_tui.prompt.commands import CommandWords
from localllm_tui.widgets.attachment_chips import Chip
from localllm_tui.widgets.completion import CompletionList
from localllm_tui.widgets.composer import Composer
from localllm_tui.widgets.prompt_area import PromptArea
from textual import events, on
from textual.app import App, ComposeResult
from textual.pilot import Pilot

from tests.tui.host import run, wait_until

COMMANDS = (
    CommandWords("new", help="Begin a new conversation"),
    CommandWords("model", "[NAME]", "Answer with another model"),
    CommandWords("set", "[NAME [VALUE]]", "How tokens are chosen"),
    CommandWords("exit", hidden=True),
)


class Sheet(App[None]):
    """An app with nothing but a composer, that remembers what it said."""

    def __init__(self, **composer: Any) -> None:
        super().__init__()
        self.composer = Composer(commands=COMMANDS, **composer)
        self.said: list[Any] = []

    def compose(self) -> ComposeResult:
        yield self.composer

    def on_mount(self) -> None:
        self.composer.focus()

    @on(Composer.Submitted)
    @on(Composer.Command)
    @on(Composer.PreviewAsked)
    def remember(self, event: Any) -> None:
        self.said.append(event)

    @on(Composer.Changed)
    def remember_draft(self, event: Composer.Changed) -> None:
        self.said.append(event.draft)

    def action_ring(self) -> None:
        self.said.append("rung")

    @property
    def area(self) -> PromptArea:
        return self.query_one(PromptArea)

    @property
    def submitted(self) -> list[str]:
        return [event.text for event in self.said if isinstance(event, Composer.Submitted)]

    @property
    def commands(self) -> list[tuple[str, str]]:
        return [(event.name, event.argument) for event in self.said if isinstance(event, Composer.Command)]

    @property
    def attached(self) -> list[tuple[Attachment, ...]]:
        sent = [event.attachments for event in self.said if isinstance(event, Composer.Submitted)]
        return sent + [event.holding.attachments for event in self.said if isinstance(event, Composer.PreviewAsked)]

    @property
    def drafts(self) -> list[Draft]:
        return [one for one in self.said if isinstance(one, Draft)]

    @property
    def chips(self) -> list[str]:
        return [str(chip.content) for chip in self.query(Chip)]

    @property
    def offered(self) -> list[str]:
        completions = self.query_one(CompletionList)
        return [str(option.prompt) for option in completions.options] if completions.display else []

    @property
    def told(self) -> str:
        return "\n".join(note.message for note in self._notifications)


@contextlib.asynccontextmanager
async def sheet(size: tuple[int, int] = (80, 24), **composer: Any) -> AsyncIterator[tuple[Sheet, Pilot[None]]]:
    app = Sheet(**composer)
    async with app.run_test(size=size) as pilot:
        await wait_until(pilot, lambda: app.area.has_focus)
        yield app, pilot


async def write(pilot: Pilot[None], text: str) -> None:
    """Key by key."""
    names = {
        " ": "space",
        "\n": "ctrl+j",
        "/": "slash",
        "@": "at",
        ".": "full_stop",
        "*": "asterisk",
        '"': "quotation_mark",
    }
    await pilot.press(*(names.get(char, char) for char in text))


def test_enter_sends_and_other_keys_begin_a_line() -> None:
    async def story() -> None:
        async with sheet() as (app, pilot):
            assert "Ctrl+J new line" in str(app.area.placeholder)
            await pilot.press("enter")
            for key in ("ctrl+j", "shift+enter", "alt+enter"):
                await pilot.press("a", key)
            await pilot.press("b", "enter")
            await wait_until(pilot, lambda: app.submitted == ["a\na\na\nb"])
            assert app.composer.text == "a\na\na\nb"  # until it has been taken
            app.composer.clear_sent()
            await wait_until(pilot, lambda: app.drafts and app.drafts[-1] == Draft())
            assert app.composer.text == ""
            await pilot.press("ctrl+z")
            assert app.composer.text == "a\na\na\nb"

    run(story())


def test_function_keys_are_the_screens() -> None:
    async def story() -> None:
        async with sheet() as (app, pilot):
            app.bind("f6", "app.ring")
            await write(pilot, "ab")
            await pilot.press("f6", "f7", "c")
            assert app.composer.text == "abc"
            assert app.said.count("rung") == 1

    run(story())


def test_it_grows_with_what_is_written_up_to_a_bound() -> None:
    async def story() -> None:
        async with sheet((40, 30)) as (app, pilot):
            heights = [app.area.outer_size.height]
            for text in ("\n", "\n\n", "\n" * 9, "\n" * 10, "\n" * 40):
                app.composer.text = text
                await pilot.pause()
                heights.append(app.area.outer_size.height)
            assert heights == [3, 4, 5, 12, 12, 12]
            app.composer.text = "long " * 30  # wraps
            await pilot.pause()
            assert 6 <= app.area.outer_size.height < 12
        for size in ((20, 6), (8, 3)):
            async with sheet(size) as (app, pilot):
                await write(pilot, "@a b\n/x")
                app.composer.attach(Attachment("name", "text"))
                await pilot.pause()

    run(story())


def test_the_draft_is_told_while_writing_and_when_leaving() -> None:
    async def story() -> None:
        async with sheet() as (app, pilot):
            await pilot.press("h")
            await wait_until(pilot, lambda: app.drafts == [Draft("h")])
            await pilot.press("i")
            assert app.composer.draft == Draft("hi")
            app.set_focus(None)
            await wait_until(pilot, lambda: app.drafts == [Draft("h"), Draft("hi")])
            kept = Draft("other", (Attachment("stdin", "piped"),), edits=7)
            app.composer.show(kept)
            app.composer.focus()
            await pilot.press("!")
            await wait_until(pilot, lambda: len(app.drafts) == 3)
            assert app.drafts[-1] == Draft("other!", kept.attachments, 7)
            await pilot.press("ctrl+z", "ctrl+z", "ctrl+z")
            assert app.composer.text == "other"  # undo does not reach into another draft

    run(story())


def test_what_failed_stays_and_can_be_sent_again() -> None:
    async def story() -> None:
        async with sheet() as (app, pilot):
            await pilot.press("a", "enter", "enter")
            await wait_until(pilot, lambda: app.submitted == ["a"])
            app.composer.text = "a b"
            await pilot.press("enter", "c")
            app.composer.clear_sent()
            assert app.composer.text == "c"  # typed since
            app.composer.put_back("a b")
            assert app.composer.text == "a b\nc"
            assert app.submitted == ["a", "a b"]

    run(story())


def test_up_and_down_walk_through_what_was_sent() -> None:
    async def story() -> None:
        async with sheet() as (app, pilot):
            app.composer.show_sent(("first", "second\nline"))
            await write(pilot, "own")
            await pilot.press("up")
            assert (app.composer.text, app.area.cursor_location) == ("own", (0, 0))
            await pilot.press("up")
            assert app.composer.text == "second\nline"
            await pilot.press("up", "up")
            assert app.composer.text == "first"
            await pilot.press("up", "up")
            assert app.composer.text == "first"
            await pilot.press("down", "down")
            assert app.composer.text == "own"
            await pilot.press("enter")
            await pilot.pause()
            app.composer.clear_sent()
            await pilot.press("up")
            assert app.composer.text == "own"

    run(story())


def test_pastes_are_kept_as_they_are_and_long_ones_become_attachments() -> None:
    async def story() -> None:
        async with sheet(settings=ChatSettings(paste_chars=20)) as (app, pilot):
            app.area.post_message(events.Paste("[b]x[/b]\r\n\t\x1b[2J"))
            await pilot.pause()
            assert app.composer.text == "[b]x[/b]\n\t\x1b[2J"
            assert "\x1b" not in app.export_screenshot()
            assert "␛[2J" in "".join(segment.text for segment in app.area.render_line(1))
            app.composer.text = "see "
            app.area.post_message(events.Paste("line\n" * 10))
            await wait_until(pilot, lambda: app.chips)
            assert app.chips[0].startswith("pasted text 1, 11 lines  50 B")
            await pilot.press("enter")
            await wait_until(pilot, lambda: app.submitted)
            assert app.attached[0] == (Attachment("pasted text 1, 11 lines", "line\n" * 10),)
            await wait_until(pilot, lambda: app.drafts and app.drafts[-1].attachments)
            await pilot.press("alt+a", "escape")
            assert app.area.has_focus
            await pilot.press("alt+a", "t")
            await wait_until(pilot, lambda: not app.chips)
            assert app.composer.text == "see " + "line\n" * 10

    run(story())


def test_commands_are_completed_and_obeyed() -> None:
    async def story() -> None:
        async with sheet() as (app, pilot):
            await pilot.press("slash")
            assert [line.split()[0] for line in app.offered] == ["/new", "/model", "/set"]
            await pilot.press("down", "up", "up", "tab")
            assert app.composer.text == "/set "
            await write(pilot, "seed 1")
            await pilot.press("enter")
            await wait_until(pilot, lambda: app.commands == [("set", "seed 1")])
            assert app.composer.text == ""
            await pilot.press("slash", "n", "enter")
            await wait_until(pilot, lambda: app.commands[-1] == ("new", ""))
            await pilot.press("slash", "m")
            assert app.offered
            await pilot.press("escape", "o")
            assert not app.offered
            app.composer.text = "/modle x"
            await pilot.press("enter")
            await wait_until(pilot, lambda: "did you mean /model?" in app.told)
            assert app.composer.text == "/modle x"
            app.composer.text = "//etc/hosts?"
            await pilot.press("enter")
            await wait_until(pilot, lambda: app.submitted == ["/etc/hosts?"])

    run(story())


def test_a_click_takes_a_completion() -> None:
    async def story() -> None:
        async with sheet() as (app, pilot):
            await pilot.press("slash")
            await pilot.click(CompletionList, offset=(3, 1))
            await wait_until(pilot, lambda: app.composer.text == "/model ")
            assert app.area.has_focus

    run(story())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small project."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "main.py").write_text("print(1)\n")
    (tmp_path / "src" / "logo.png").write_bytes(b"\x89PNG\r\n\x1a\n\x00")
    (tmp_path / "my notes.txt").write_text("notes")
    (tmp_path / "node_modules").mkdir()
    return tmp_path


def test_files_are_mentioned_completed_counted_and_sent(folder: Path) -> None:
    async def count(text: str) -> int:
        return len(text)

    async def story() -> None:
        async with sheet(folder=folder, count_tokens=count) as (app, pilot):
            await write(pilot, "see @")
            await wait_until(pilot, lambda: app.offered == ["my notes.txt", "src/"])
            await write(pilot, "s")
            await wait_until(pilot, lambda: app.offered and app.offered[0] == "src/")
            await pilot.press("tab")
            await wait_until(pilot, lambda: "src/main.py" in app.offered)
            await write(pilot, "mai")
            await wait_until(pilot, lambda: app.offered == ["src/main.py"])
            await pilot.press("enter")
            assert app.composer.text == "see @src/main.py "
            await wait_until(pilot, lambda: app.chips == ["src/main.py  9 B · 9 tokens ✕"])
            (folder / "src" / "main.py").rename(folder / "away.py")
            await pilot.press("enter")
            await wait_until(pilot, lambda: "src/main.py is not there any more" in app.told)
            assert app.submitted == []
            (folder / "src" / "main.py").write_text("print(2)\n")
            await pilot.press("enter")
            await wait_until(pilot, lambda: app.submitted)
            sent = next(event for event in app.said if isinstance(event, Composer.Submitted))
            assert sent.text == "see @src/main.py "
            assert [(item.name, item.text) for item in sent.attachments] == [("src/main.py", "print(2)\n")]
            app.composer.clear_sent()
            await wait_until(pilot, lambda: not app.chips)

    run(story())


def test_what_cannot_be_attached_is_said_and_nothing_is_sent(folder: Path) -> None:
    async def story() -> None:
        async with sheet(folder=folder) as (app, pilot):
            app.composer.text = "what is on @src/logo.png and @nobody?"
            await wait_until(pilot, lambda: app.chips == ["src/logo.png  cannot be sent ✕"])
            await pilot.press("enter")
            await wait_until(pilot, lambda: "logo.png is an image (PNG)" in app.told)
            assert app.submitted == []
            assert app.composer.text.startswith("what is on")
            app.query_one(Chip).focus()
            await pilot.press("delete")
            await wait_until(pilot, lambda: not app.chips)
            assert app.composer.text == "what is on and @nobody?"
            await pilot.press("enter")
            await wait_until(pilot, lambda: app.submitted == ["what is on and @nobody?"])

    run(story())


def test_a_message_whose_files_are_still_read_goes_nowhere_else(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    read = attaching.of_text

    def slow(*args: Any) -> Any:
        gate.wait(10)
        return read(*args)

    async def story() -> None:
        async with sheet(folder=folder) as (app, pilot):
            app.composer.text = "see @src/main.py"
            monkeypatch.setattr(attaching, "of_text", slow)
            await pilot.press("enter")
            app.composer.show(Draft("of another conversation"))
            gate.set()
            await app.workers.wait_for_complete()
            await pilot.press("enter")
            await wait_until(pilot, lambda: app.submitted == ["of another conversation"])

    run(story())


def test_chips_by_mouse(folder: Path) -> None:
    async def story() -> None:
        async with sheet(folder=folder) as (app, pilot):
            app.composer.attach(Attachment("stdin", "piped in"))
            app.composer.text = '@"my notes.txt" '
            await wait_until(pilot, lambda: len(app.chips) == 2)
            await pilot.click(Chip, offset=(2, 0))
            await wait_until(pilot, lambda: app.attached)
            assert app.attached == [(Attachment("stdin", "piped in"),)]
            chip = app.query(Chip).first()
            await pilot.click(Chip, offset=(chip.outer_size.width - 2, 0))
            await wait_until(pilot, lambda: [text[:8] for text in app.chips] == ["my notes"])
            await wait_until(pilot, lambda: app.drafts and app.drafts[-1] == Draft('@"my notes.txt" '))

    run(story())


def test_chips_stand_in_as_many_rows_as_they_need() -> None:
    async def story() -> None:
        async with sheet((44, 24)) as (app, pilot):
            for number in range(5):
                app.composer.attach(Attachment(f"file {number}", "x" * 100))
            await pilot.pause()
            rows = {chip.region.y for chip in app.query(Chip)}
            assert len(rows) == 3
            assert all(chip.region.right <= 44 for chip in app.query(Chip))
            await pilot.resize_terminal(20, 24)
            await wait_until(pilot, lambda: len({chip.region.y for chip in app.query(Chip)}) == 5)
            assert app.chips[0] == "file 0  100 B ✕"
            await pilot.resize_terminal(120, 24)
            await wait_until(pilot, lambda: len({chip.region.y for chip in app.query(Chip)}) == 1)

    run(story())


def test_vim_keys() -> None:
    async def story() -> None:
        async with sheet(settings=ChatSettings(vim=True)) as (app, pilot):
            assert app.area.border_subtitle == "INSERT"
            await write(pilot, "one two\nthree")
            await pilot.press("escape", "g", "g", "d")
            assert app.area.border_subtitle == "d NORMAL"
            await pilot.press("w")
            assert app.composer.text == "two\nthree"
            await pilot.press("d", "d", "p", "u", "u")
            assert app.composer.text == "two\nthree"
            await pilot.press("ctrl+r")
            assert app.composer.text == "three"
            await pilot.press("A", "exclamation_mark", "escape", "enter")
            await wait_until(pilot, lambda: app.submitted == ["three!"])

    run(story())


def test_an_editor_that_cannot_be_used_leaves_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with sheet() as (app, pilot):
            await write(pilot, "mine")
            monkeypatch.setenv("VISUAL", "no-such-editor -w")
            await pilot.press("ctrl+g")
            await wait_until(pilot, lambda: "the editor no-such-editor -w is not there" in app.told)
            monkeypatch.setenv("VISUAL", "python" if os.name == "nt" else "true")
            await pilot.press("ctrl+g")  # a test's terminal cannot be given away
            await wait_until(pilot, lambda: "needs a terminal of its own" in app.told)
            assert app.composer.text == "mine"

    run(story())


def test_typing_goes_on_while_files_are_read_and_tokens_are_counted(folder: Path) -> None:
    gate = asyncio.Event()

    async def count(text: str) -> int | None:
        await gate.wait()
        return len(text)

    async def story() -> None:
        async with sheet(folder=folder, count_tokens=count) as (app, pilot):
            app.composer.text = "@src/main.py "
            await wait_until(pilot, lambda: app.chips == ["src/main.py  9 B ✕"])
            await write(pilot, "and on")
            assert app.composer.text == "@src/main.py and on"
            gate.set()
            await wait_until(pilot, lambda: app.chips == ["src/main.py  9 B · 9 tokens ✕"])

    run(story())
