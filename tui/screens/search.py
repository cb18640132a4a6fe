"""Search over all conversations, as one types. Enter opens the place."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from localllm_tui.history.values import Hit
from localllm_tui.screens.finder import Finder
from localllm_tui.widgets.conversation_rows import age
from localllm_tui.widgets.quiet import QuietInput, QuietList
from textual import work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Static

from localllm.errors import LocalLLMError
from localllm.terminal_text import cut, safe_line, width

Place = tuple[int, int | None]
Snippet = tuple[tuple[str, bool], ...]
_WHO = {"user": "You  ", "assistant": "", "tool": "Tool  ", "system": "System  "}


class SearchScreen(Finder[Place | None]):
    """Gives the conversation and the turn that the person wants to see, None for a title's turn; or None.

    `search` is called in a thread and may raise LocalLLMError; of its answers only the one to the last words is shown.
    """

    DEFAULT_CSS = """
    SearchScreen { align: center top; }
    SearchScreen > Vertical {
        width: 100; max-width: 100%; height: 100%; max-height: 100%; margin: 2 2; padding: 0 1;
    }
    SearchScreen.-narrow > Vertical { margin: 0; }
    SearchScreen #search-line { height: 1; }
    SearchScreen #search-mark { width: 3; color: $accent; padding: 0 1; }
    SearchScreen QuietInput { width: 1fr; padding: 0; background: transparent; }
    SearchScreen QuietList { height: 1fr; margin: 1 0; }
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
                yield QuietInput(self._words, placeholder="Search titles, turns, thinking and attachments")
            yield QuietList()
            yield Static(id="search-found", markup=False)

    # --- searching ----------------------------------------------------------------------------------------------------

    def typed(self, text: str) -> None:
        """Look for it."""
        self._words = text
        self._look(text)

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
        self._hits = () if isinstance(hits, LocalLLMError) else hits
        self.list_rows()
        says = safe_line(hits.message) if isinstance(hits, LocalLLMError) else self._summary()
        self.query_one("#search-found", Static).update(says)

    # --- showing ------------------------------------------------------------------------------------------------------

    def rows(self) -> Sequence[Content]:
        """A hit each; further ones of a conversation without its title."""
        now, last, lines = time.time(), 0, list[Content]()
        for hit in self._hits:
            lines.append(_lines(hit, self.columns, now, hit.conversation.id == last))
            last = hit.conversation.id
        return lines

    def _summary(self) -> str:
        if not self._hits:
            return "Nothing found" if self._words.strip() else ""
        num_conversations = len({hit.conversation.id for hit in self._hits})
        places = f"{len(self._hits)} place{'s' * (len(self._hits) != 1)}"
        return f"{places} in {num_conversations} conversation{'s' * (num_conversations != 1)}"

    def take(self, at: int) -> None:
        """To that place."""
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
