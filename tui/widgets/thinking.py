"""What a model thought before it answered: one line with its time, which opens."""

from __future__ import annotations

import time

from localllm_tui.widgets.markdown_view import MarkdownView
from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Static


class Thinking(Vertical):
    """Folded, but for the last lines while it comes. A click on its line opens and folds it."""

    DEFAULT_CSS = """
    Thinking { height: auto; margin: 0 0 1 0; color: $foreground-muted; }
    Thinking Static { height: 1; }
    Thinking VerticalScroll {
        height: auto; display: none; scrollbar-size: 0 0; padding: 0 0 0 2; color: $foreground-muted;
    }
    Thinking.-coming VerticalScroll { display: block; max-height: 4; }
    Thinking.-open VerticalScroll { display: block; max-height: 100000; }
    Thinking.-shut VerticalScroll { display: none; }
    """

    class Toggled(Message):
        """A person opened or folded it: what they look at should stay where it is."""

    def __init__(self, text: str, seconds: float | None, *, is_coming: bool = False) -> None:
        super().__init__(classes="-coming" if is_coming else "")
        self._text = MarkdownView(text, is_growing=is_coming)
        self._line = Static("", markup=False)
        self._seconds = seconds
        self._started = time.monotonic() if is_coming else None
        self._is_coming = is_coming
        self._shown = ""

    def compose(self) -> ComposeResult:
        """The line, the text."""
        yield self._line
        with VerticalScroll(can_focus=False):
            yield self._text

    def on_mount(self) -> None:
        """Its end is in sight while it comes."""
        self.query_one(VerticalScroll).anchor()
        self._say()
        if self._is_coming:
            self.set_interval(0.5, self._say)

    @property
    def source(self) -> str:
        """The thinking, as it was written."""
        return self._text.source

    @property
    def is_open(self) -> bool:
        """Whether all of it is seen."""
        return self.has_class("-open")

    def append(self, text: str) -> None:
        """More of it."""
        self._text.append(text)

    def finish(self, text: str, seconds: float | None) -> None:
        """It is over. `seconds` as measured; None: as seen here."""
        if self._is_coming and self._started is not None:
            self._seconds = time.monotonic() - self._started
        self._seconds = seconds if seconds is not None else self._seconds
        self._is_coming = False
        self.remove_class("-coming")
        self._text.show(text)
        self._say()

    def toggle(self) -> None:
        """Open it, or fold it."""
        if self._is_coming and not self.is_open and not self.has_class("-shut"):
            self.add_class("-open")
        elif self.is_open:
            self.remove_class("-open")
            self.set_class(self._is_coming, "-shut")
        else:
            self.remove_class("-shut")
            self.add_class("-open")
        self.post_message(self.Toggled())
        self._say()

    def _say(self) -> None:
        sign = "▾" if self.is_open else "▸"
        if self._is_coming and self._started is not None:
            words = f"{sign} thinking  {time.monotonic() - self._started:.0f} s"
        else:
            words = f"{sign} thought" + (f" for {self._seconds:.1f} s" if self._seconds is not None else "")
        if words != self._shown:
            self._shown = words
            self._line.update(Content(words))

    def on_click(self, event: events.Click) -> None:
        """The line opens and folds."""
        if self._line.region.contains(event.screen_x, event.screen_y):
            event.stop()
            self.toggle()
