"""Search over all conversations, as one types. Enter opens the place."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar

from localllm_tui.history.values import Hit
from localllm_tui.widgets.conversation_rows import age
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from localllm.errors import LocalLLMError
from localllm.terminal_text import cut, safe_line, width

Place = tuple[int, int | None]
Snippet = tuple[tuple[str, bool], ...]
_WHO = {"user": "You  ", "assistant": "", "tool": "Tool  ", "system": "System  "}


class SearchScreen(ModalScreen[Place | None]):
    """Gives the conversation and the turn that the person wants to see, None for a title's turn; or None.

    `search` is called in a thread and may raise LocalLLMError; of its answers only the one to the last words is shown.
    """

    BINDING_GROUP_TITLE = "In the search"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Leave", id="search.leave"),
        Binding("down", "move('cursor_down')", "Down", show=False, priority=True, id="search.down"),
        Binding("up", "move('cursor_up')", "Up", show=False, priority=True, id="search.up"),
        Binding("pagedown", "move('page_down')", "A page down", show=False, priority=True, id="search.pagedown"),
        Binding("pageup", "move('page_up')", "A page up", show=False, priority=True, id="search.pageup"),
    ]
    DEFAULT_CSS = """
    SearchScreen { align: center top; background: $background 60%; }
    SearchScreen > Vertical {
        width: 100; max-width: 100%; height: 100%; margin: 2 2; padding: 0 1; background: $surface;
        border: round $border-blurred;
    }
    SearchScreen.-narrow > Vertical { margin: 0; padding: 0 1; }
    SearchScreen #search-line { height: 1; }
    SearchScreen #search-mark { width: 3; color: $accent; padding: 0 1; }
    SearchScreen Input {
        width: 1fr; border: none; height: 1; padding: 0; background: transparent;
        &:focus { border: none; background-tint: transparent; }
    }
    SearchScreen OptionList {
        height: 1fr; border: none; padding: 0; margin: 1 0; background: transparent;
        text-wrap: nowrap; text-overflow: ellipsis;
        &:focus { border: none; background: transparent; background-tint: transparent; }
        & > .option-list--option { padding: 0 1; }
        & > .option-list--option-highlighted { background: $panel; color: $foreground; text-style: none; }
        &:focus > .option-list--option-highlighted { background: $panel; color: $foreground; text-style: none; }
        &:nocolor > .option-list--option-highlighted { text-style: underline; }
    }
    SearchScreen #search-found { height: 1; color: $text-muted; padding: 0 1; }
    """

    def __init__(self, search: Callable[[str], tuple[Hit, ...]], words: str = "") -> None:
        super().__init__()
        self._search, self._words = search, words
        self._hits: tuple[Hit, ...] = ()

    def compose(self) -> ComposeResult:
        """What is typed, what was found, how much that is."""
        with Vertical():
            with Horizontal(id="search-line"):
                yield Static("⌕", id="search-mark", markup=False)
                yield Input(self._words, placeholder="Search titles, turns, thinking and attachments")
            yield OptionList()
            yield Static(id="search-found", markup=False)

    def on_mount(self) -> None:
        """Where one types."""
        self.query_one(Input).focus()

    def on_resize(self) -> None:
        """Titles are cut where the line ends."""
        self._show_hits()

    # --- searching ----------------------------------------------------------------------------------------------------

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self._words = event.value
        self._look(event.value)

    @work(thread=True, group="search", exclusive=True, exit_on_error=False)
    def _look(self, words: str) -> None:
        try:
            hits: tuple[Hit, ...] | LocalLLMError = self._search(words) if words.strip() else ()
        except LocalLLMError as exc:
            hits = exc
        self.app.call_from_thread(self._came, words, hits)

    def _came(self, words: str, hits: tuple[Hit, ...] | LocalLLMError) -> None:
        if words != self._words or not self.is_mounted:
            return
        if isinstance(hits, LocalLLMError):
            self._hits = ()
            self._show_hits()
            self.query_one("#search-found", Static).update(safe_line(hits.message))
        else:
            self._hits = hits
            self._show_hits()

    # --- showing ------------------------------------------------------------------------------------------------------

    def _show_hits(self) -> None:
        listed = self.query_one(OptionList)
        columns, now = max(10, listed.scrollable_content_region.width - 2), time.time()
        listed.clear_options()
        last = 0
        for number, hit in enumerate(self._hits):
            is_more = hit.conversation.id == last
            last = hit.conversation.id
            listed.add_option(Option(_lines(hit, columns, now, is_more), str(number)))
        listed.highlighted = 0 if self._hits else None
        self.query_one("#search-found", Static).update(self._summary())

    def _summary(self) -> str:
        if not self._hits:
            return "Nothing found" if self._words.strip() else ""
        num_conversations = len({hit.conversation.id for hit in self._hits})
        places = f"{len(self._hits)} place{'s' * (len(self._hits) != 1)}"
        return f"{places} in {num_conversations} conversation{'s' * (num_conversations != 1)}"

    # --- picking ------------------------------------------------------------------------------------------------------

    def action_move(self, way: str) -> None:
        """The list's cursor, while one types."""
        listed = self.query_one(OptionList)
        if listed.size.height:  # without a line it cannot say what a page is
            getattr(listed, f"action_{way}")()

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        event.stop()
        at = self.query_one(OptionList).highlighted
        if at is not None:
            self._pick(at)

    @on(OptionList.OptionSelected)
    def _picked(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self._pick(event.option_index)

    def _pick(self, at: int) -> None:
        hit = self._hits[at]
        self.dismiss((hit.conversation.id, hit.node))


def _led(snippet: Snippet, room: int) -> Snippet:
    """A snippet with at most `room` columns before what was found, so that this can be seen on a short line."""
    first = next((place for place, (_, is_found) in enumerate(snippet) if is_found), 0)
    before = "".join(piece for piece, _ in snippet[:first])
    if width(safe_line(before)) <= room:
        return snippet
    kept = before[-max(1, room - 1) :]
    start = kept.find(" ") + 1
    return (("…" + kept[start:], False), *snippet[first:])


def _lines(hit: Hit, columns: int, now: float, is_more: bool) -> Content:
    """A hit: the conversation with its age, then the line that was found; a further one of a conversation without."""
    who = _WHO.get(hit.role or "", "")
    snippet: list[str | tuple[str, str]] = [("  " + who, "$text-muted")]
    room = columns - 2 - width(who)
    for piece, is_found in _led(hit.snippet, room // 2):
        text = cut(safe_line(piece), room)
        room -= width(text)
        snippet.append((text, "bold $accent" if is_found else "$text-muted"))
        if room <= 0:
            break
    if is_more:
        return Content.assemble(*snippet)
    ago = age(hit.created, now)
    name = hit.conversation.title or "New conversation"
    folder = f"{hit.conversation.folder} / " if hit.conversation.folder else ""
    title = cut(safe_line(folder + name), max(4, columns - len(ago) - 2))
    gap = " " * max(1, columns - width(title) - len(ago))
    head: list[str | tuple[str, str]] = [(title, "bold"), gap, (ago, "$text-muted")]
    return Content.assemble(*head) if hit.node is None else Content.assemble(*head, "\n", *snippet)
