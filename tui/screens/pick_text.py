"""Picking a text by its name: a fuzzy search, a list, and the text itself beside it. Asks for its parameters."""

from __future__ import annotations

from collections.abc import Sequence

from localllm_tui.look.dressed import key_of
from localllm_tui.prompt.personas import Named, filled
from localllm_tui.screens.finder import Finder
from localllm_tui.screens.parameters import ParametersScreen
from localllm_tui.widgets.quiet import QuietInput, QuietList
from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.fuzzy import Matcher
from textual.widgets import OptionList, Static

from localllm.terminal_text import cut, safe_line, safe_stream, width

MAX_PREVIEW = 20_000
# Where names and text would have no line each below one another, the text gives way.
_SHORT: list[tuple[int, str]] = [(0, "-short"), (16, "-tall")]


class PickTextScreen(Finder[Named | None]):
    """A list of texts. What comes back has its parameters filled in; None: nothing was picked.

    `hint`: what the key that takes one does; `more`: what else there is to know, where there is room.
    """

    VERTICAL_BREAKPOINTS = _SHORT
    DEFAULT_CSS = """
    PickTextScreen {
        & > Vertical { width: 90%; max-width: 100; height: 80%; max-height: 30; }
        QuietList { width: 1fr; height: 1fr; margin: 1 2 0 0; }
        #beside { width: 2fr; height: 1fr; margin-top: 1; scrollbar-size-vertical: 1; }
        .hint { height: 1; margin-top: 1; }
        &.-narrow Horizontal { layout: vertical; }
        &.-narrow QuietList { width: 1fr; margin: 1 0 0 0; }
        &.-narrow #beside { width: 1fr; }
        &.-short > Vertical { height: 100%; max-height: 100%; }
        &.-short QuietList, &.-short #beside, &.-short .hint { margin-top: 0; }
        &.-short.-narrow #beside { display: none; }
        &.-short.-narrow.-nothing QuietList { display: none; }
        &.-short.-narrow.-nothing #beside { display: block; }
    }
    """

    def __init__(
        self, title: str, among: tuple[Named, ...], *, hint: str = "", more: tuple[str, ...] = (), query: str = ""
    ) -> None:
        super().__init__()
        self._title = title
        self._among = among
        self._hint, self._more = hint, more
        self._query = query
        self._shown: tuple[Named, ...] = ()

    def compose(self) -> ComposeResult:
        """The search above, names and text below."""
        with Vertical() as box:
            box.border_title = safe_line(self._title)
            yield QuietInput(self._query, placeholder="Search")
            with Horizontal():
                yield QuietList()
                with VerticalScroll(id="beside", can_focus=False):
                    yield Static(id="text", markup=False)
            yield Static(self._hints()[0], classes="hint", markup=False)

    def on_mount(self) -> None:
        """All of them, or those that were asked for."""
        self.query_one(QuietList).can_focus = False
        self.typed(self._query)

    def _hints(self) -> list[str]:
        return [f"{key_of(self.app, 'find.take')} {self._hint}".strip(), *self._more]

    def _fit(self) -> None:
        super()._fit()
        if self.is_attached:  # as many hints as there is room for, each whole
            shown, *more = self._hints()
            line = self.query_one(".hint", Static)
            for hint in more:
                shown = f"{shown} · {hint}" if len(shown) + len(hint) + 3 <= line.content_size.width else shown
            line.update(shown)

    @property
    def current(self) -> Named | None:
        """The one that is highlighted."""
        at = self.at
        return self._shown[at] if at is not None and at < len(self._shown) else None

    def rows(self) -> Sequence[Content]:
        """Names."""
        return [_line(one) for one in self._shown]

    def typed(self, text: str) -> None:
        """Those that match, the best first."""
        query = text.strip()
        matcher = Matcher(query)
        scored = [(matcher.match(one.name) if query else 1.0, one) for one in self._among]
        scored = [pair for pair in scored if pair[0] > 0]
        scored.sort(key=lambda pair: -pair[0])
        self._shown = tuple(one for _, one in scored)
        self.list_rows()
        self._preview()

    @on(OptionList.OptionHighlighted)
    def _preview(self) -> None:
        one = self.current
        self.set_class(one is None, "-nothing")
        if one is None:
            words = "Nothing of that name." if self._among else "There is nothing here yet."
            self.query_one("#text", Static).update(words)
            return
        facts = [f"asks for {', '.join(one.parameters)}" if one.parameters else "", one.model or ""]
        head = " · ".join(safe_line(fact) for fact in facts if fact)
        text = safe_stream(one.text[:MAX_PREVIEW])
        self.query_one("#text", Static).update(Content.assemble(text, (f"\n\n{head}" if head else "", "$text-muted")))

    def take(self, at: int) -> None:
        """This one, once its parameters are known."""
        self._fill(self._shown[at])

    @work
    async def _fill(self, one: Named) -> None:
        values: dict[str, str] | None = {}
        if one.parameters:
            screen = ParametersScreen(one.name, one.parameters, one.defaults)
            values = await self.app.push_screen_wait(screen)
        if values is not None:
            self.dismiss(one._replace(text=filled(one, values)))


def _line(one: Named) -> Content:
    name = cut(safe_line(one.name), 40)
    gap = " " * max(2, 16 - width(name))
    return Content.assemble(name, (f"{gap}built in" if one.is_built_in else "", "$text-muted"))
