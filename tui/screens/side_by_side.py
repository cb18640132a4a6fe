"""The same question to two models, side by side. Which answer goes on is the person's word; both stay in the tree."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import ClassVar

from localllm_tui.history.history import History
from localllm_tui.history.values import Node
from localllm_tui.screens import clipboard
from localllm_tui.turns.open_conversation import OpenConversation
from localllm_tui.turns.pair import Pair
from localllm_tui.turns.turn import words
from localllm_tui.widgets.answer_column import AnswerColumn
from localllm_tui.widgets.message_view import MessageView
from localllm_tui.widgets.transcript import Transcript
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Button, Static

from localllm.api import Backend
from localllm.errors import LocalLLMError
from localllm.terminal_text import cut, safe_line, safe_stream, width


class SideBySideScreen(Screen[int | None]):
    """The result: which answer was kept, 0 or 1; None: the person left without a choice, and the first one is shown.

    `question` is the turn of `opened` that both answer.
    """

    BINDING_GROUP_TITLE = "Side by side"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "keep(0)", "Go on with the left answer", id="side.left"),
        Binding("2", "keep(1)", "Go on with the right answer", id="side.right"),
        Binding("tab", "other", "The other answer", id="side.other", show=False),
        Binding("escape", "leave", "Stop; then back", id="side.leave"),
    ]
    DEFAULT_CSS = """
    SideBySideScreen #side-question { height: auto; max-height: 4; padding: 1 3; color: $text-muted; }
    SideBySideScreen #side-answers { height: 1fr; }
    SideBySideScreen AnswerColumn.-right { border-left: solid $panel; }
    SideBySideScreen #side-keep { height: 1; padding: 0 1; margin: 1 0 0 0; }
    SideBySideScreen #side-keep Button { width: 1fr; margin: 0 1; }
    SideBySideScreen.-narrow #side-question { max-height: 2; padding: 0 1; }
    SideBySideScreen.-narrow #side-answers { layout: vertical; }
    SideBySideScreen.-narrow AnswerColumn.-right { border-left: none; border-top: solid $panel; }
    SideBySideScreen.-narrow #side-keep { margin: 0; }
    """

    def __init__(
        self,
        backend: Callable[[], Awaitable[Backend]],
        history: History,
        opened: OpenConversation,
        question: Node,
        models: tuple[str, str],
    ) -> None:
        super().__init__()
        self._backend = backend
        self._question = question
        self._models = models
        self._pair = Pair(history, opened)
        self._task: asyncio.Task[None] | None = None

    def compose(self) -> ComposeResult:
        """The question, two columns, the choice."""
        text = safe_line(" ".join(self._question.content.split()))
        yield Static(text, id="side-question", markup=False)
        with Horizontal(id="side-answers"):
            yield AnswerColumn(self._models[0])
            yield AnswerColumn(self._models[1]).add_class("-right")
        with Horizontal(id="side-keep"):
            yield Button("1", compact=True, id="keep-0")
            yield Button("2", compact=True, id="keep-1")

    def on_mount(self) -> None:
        """Both are asked at once."""
        self._task = asyncio.ensure_future(self._run())

    def on_resize(self) -> None:
        """What the buttons say goes by the room there is."""
        room = max(4, self.size.width // 2 - 6)
        for index, model in enumerate(self._models):
            name = safe_line(model)
            whole = f"{index + 1}  Go on with {name}"
            label = whole if width(whole) <= room else cut(f"{index + 1}  {name}", room)
            self.query_one(f"#keep-{index}", Button).label = Content(label)

    @property
    def columns(self) -> list[AnswerColumn]:
        """Left and right."""
        return list(self.query(AnswerColumn))

    @property
    def is_busy(self) -> bool:
        """Whether an answer is under way."""
        return self._task is not None and not self._task.done()

    async def _run(self) -> None:
        try:
            await self._pair.run(await self._backend(), self._question, self._models, self.columns)
        except LocalLLMError as exc:
            self.notify(safe_stream(words(exc)), severity="error", markup=False, timeout=8)

    async def on_unmount(self) -> None:
        """What came is kept."""
        await self._stop()

    async def _stop(self) -> None:
        if self._task is not None and not self._task.done():
            await self._pair.stop()
            if not self._pair.turns:
                self._task.cancel()
            await asyncio.wait({self._task})

    @on(MessageView.CopyAsked)
    def _copy_asked(self, event: MessageView.CopyAsked) -> None:
        self._copy(event.node.content)

    @on(MessageView.CopyCodeAsked)
    def _copy_code_asked(self, event: MessageView.CopyCodeAsked) -> None:
        views = (column.query_one(Transcript).view(event.node.id) for column in self.columns)
        blocks = next((view.code_blocks() for view in views if view is not None), [])
        if event.index < len(blocks):
            self._copy(blocks[event.index].code)

    def _copy(self, text: str) -> None:
        self.run_worker(clipboard.copy(self.app, text), group="copy")
        self.notify("Copied.", markup=False)

    @on(Button.Pressed)
    async def _pressed(self, event: Button.Pressed) -> None:
        event.stop()
        await self.action_keep(int((event.button.id or "keep-0")[-1]))

    async def action_keep(self, index: int) -> None:
        """This one; what still comes is stopped."""
        await self._stop()
        if len(self._pair.nodes) <= index:
            self.dismiss(None)
            return
        self._keep(index)
        self.dismiss(index)

    def _keep(self, index: int) -> None:
        try:
            self._pair.keep(index)
        except LocalLLMError as exc:
            self.notify(safe_stream(words(exc)), severity="error", markup=False, timeout=8)

    def action_other(self) -> None:
        """From one answer to the other."""
        self.focus_next("MessageView")

    async def action_leave(self) -> None:
        """First stop what comes; then back, with the first answer shown."""
        if self.is_busy:
            await self._stop()
            return
        if self._pair.nodes:
            self._keep(0)
        self.dismiss(None)
