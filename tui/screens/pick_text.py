"""Picking a text by its name: a fuzzy search, a list, and the text itself beside it. Asks for its parameters."""

from __future__ import annotations

from typing import ClassVar

from localllm_tui.prompt.personas import Named, filled
from localllm_tui.screens.parameters import ParametersScreen
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.fuzzy import Matcher
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from localllm.terminal_text import cut, safe_line, safe_stream, width

MAX_PREVIEW = 20_000


class PickTextScreen(ModalScreen[Named | None]):
    """A list of texts. What comes back has its parameters filled in; None: nothing was picked."""

    BINDING_GROUP_TITLE = "A text to pick"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Leave", id="texts.leave"),
        Binding("down", "move(1)", "Next", id="texts.next", show=False, priority=True),
        Binding("up", "move(-1)", "Before", id="texts.before", show=False, priority=True),
    ]
    DEFAULT_CSS = """
    PickTextScreen {
        align: center middle; background: $background 60%;
        #texts {
            width: 90%; max-width: 100; height: 80%; max-height: 30; padding: 1 2; background: $surface;
            border: round $panel; border-title-color: $text;
        }
        Input { border: none; height: 1; padding: 0; background: $surface; &:focus { border: none; } }
        #names { width: 1fr; height: 1fr; margin: 1 2 0 0; padding: 0; border: none; background: $surface; }
        #beside { width: 2fr; height: 1fr; margin-top: 1; scrollbar-size-vertical: 1; }
        #keys { height: 1; color: $text-muted; margin-top: 1; }
        &.-narrow Horizontal { layout: vertical; }
        &.-narrow #names { width: 1fr; margin: 1 0 0 0; }
        &.-narrow #beside { width: 1fr; }
        OptionList { text-wrap: nowrap; text-overflow: ellipsis; }
    }
    .-plain PickTextScreen #texts { border: none; }
    """

    def __init__(self, title: str, among: tuple[Named, ...], *, hint: str = "", query: str = "") -> None:
        super().__init__()
        self._title = title
        self._among = among
        self._hint = hint
        self._query = query
        self._shown: tuple[Named, ...] = ()

    def compose(self) -> ComposeResult:
        """The search above, names and text below."""
        with Vertical(id="texts") as box:
            box.border_title = safe_line(self._title)
            yield Input(self._query, placeholder="Search", compact=True)
            with Horizontal():
                yield OptionList(id="names", compact=True)
                with VerticalScroll(id="beside", can_focus=False):
                    yield Static(id="text", markup=False)
            yield Static(self._hint, id="keys", markup=False)

    def on_mount(self) -> None:
        """All of them."""
        self.query_one("#names", OptionList).can_focus = False
        self.query_one(Input).focus()
        self._search(self._query)

    @property
    def current(self) -> Named | None:
        """The one that is highlighted."""
        at = self.query_one("#names", OptionList).highlighted
        return self._shown[at] if at is not None and at < len(self._shown) else None

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        self._search(event.value)

    def _search(self, query: str) -> None:
        matcher = Matcher(query.strip())
        scored = [(matcher.match(one.name) if query.strip() else 1.0, one) for one in self._among]
        scored = [pair for pair in scored if pair[0] > 0]
        scored.sort(key=lambda pair: -pair[0])
        self._shown = tuple(one for _, one in scored)
        names = self.query_one("#names", OptionList)
        names.clear_options()
        names.add_options([Option(_line(one)) for one in self._shown])
        names.highlighted = 0 if self._shown else None
        self._preview()

    @on(OptionList.OptionHighlighted)
    def _preview(self) -> None:
        one = self.current
        if one is None:
            words = "Nothing of that name." if self._among else "There is nothing here yet."
            self.query_one("#text", Static).update(words)
            return
        facts = [f"asks for {', '.join(one.parameters)}" if one.parameters else "", one.model or ""]
        head = " · ".join(safe_line(fact) for fact in facts if fact)
        text = safe_stream(one.text[:MAX_PREVIEW])
        self.query_one("#text", Static).update(Content.assemble(text, (f"\n\n{head}" if head else "", "$text-muted")))

    def action_move(self, step: int) -> None:
        """Another one."""
        names = self.query_one("#names", OptionList)
        if self._shown:
            names.highlighted = ((names.highlighted or 0) + step) % len(self._shown)

    def action_leave(self) -> None:
        """None of them."""
        self.dismiss(None)

    @on(Input.Submitted)
    def _entered(self) -> None:
        if self.current is not None:
            self._take(self.current)

    @on(OptionList.OptionSelected)
    def _clicked(self, event: OptionList.OptionSelected) -> None:
        self._take(self._shown[event.option_index])

    @work
    async def _take(self, one: Named) -> None:
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
