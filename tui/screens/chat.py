"""The chat: transcript, prompt, figures and the list of conversations, and what happens when a person acts on them."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import ClassVar

import msgspec
from localllm_tui.history.history import History
from localllm_tui.history.values import Draft, Node
from localllm_tui.options import ChatOptions
from localllm_tui.screens.commands import COMMANDS, command
from localllm_tui.screens.stage import Stage
from localllm_tui.turns.desk import Desk
from localllm_tui.turns.open_conversation import OpenConversation
from localllm_tui.turns.reply import Tools
from localllm_tui.turns.turn import words
from localllm_tui.widgets.composer import Composer
from localllm_tui.widgets.gauge_bar import GaugeBar
from localllm_tui.widgets.head_line import HeadLine
from localllm_tui.widgets.message_view import MessageView
from localllm_tui.widgets.note_line import NoteLine
from localllm_tui.widgets.sidebar import Sidebar
from localllm_tui.widgets.tool_card import ToolCard
from localllm_tui.widgets.transcript import Transcript
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import Screen

from localllm.api import Backend, Event
from localllm.errors import LocalLLMError
from localllm.terminal_text import safe_stream


class ChatScreen(Screen[None]):
    """Where a person lives. `backend` is awaited only when something is asked of it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop", id="chat.stop"),
        Binding("ctrl+n", "new", "New", id="chat.new"),
        Binding("ctrl+r", "regenerate", "Again", id="chat.regenerate"),
        Binding("ctrl+g", "go_on", "Go on", id="chat.continue", show=False),
        Binding("alt+up", "take_back", "Take back", id="chat.takeback", show=False),
    ]

    def __init__(
        self,
        history: History,
        backend: Callable[[], Awaitable[Backend]],
        options: ChatOptions,
        tools: Tools | None = None,
    ) -> None:
        super().__init__()
        self.history = history
        self.backend = backend
        self.options = options
        self.desk = Desk(backend, history, tools=tools, sampling=options.sampling, on_over=self._over)
        self.open = self._first()
        self._stage: Stage | None = None
        self._deleted: list[int] = []

    def compose(self) -> ComposeResult:
        """Side by side: the list, and the conversation above its prompt."""
        with Horizontal():
            yield Sidebar()
            with Vertical(id="talk"):
                yield HeadLine()
                yield Transcript()
                yield NoteLine()
                yield Composer(self.options.settings, commands=tuple(known.words() for known in COMMANDS))
                yield GaugeBar()

    def on_mount(self) -> None:
        """Where the person was, with what was typed there."""
        self._stage = Stage(
            self.query_one(Transcript), on_change=self._changed, on_event=self._event, on_error=self.say_error
        )
        self.show(self.open)
        if self.options.text:
            self.composer.put_back(self.options.text)

    @property
    def composer(self) -> Composer:
        """The prompt."""
        return self.query_one(Composer)

    # --- conversations ------------------------------------------------------------------------------------------------

    def _first(self) -> OpenConversation:
        """The conversation that the options name, else the one that was open last, else a new one."""
        asked = self.options.conversation
        id_ = self.history.last_open() if asked is None else asked
        if id_:
            try:
                return self.desk.open(id_, self.options.model)
            except LocalLLMError as exc:
                self.call_after_refresh(self.say_error, exc)
        return self.desk.new(self.options.model, system=self.options.system)

    def show(self, opened: OpenConversation) -> None:
        """Make this the conversation that is seen, with its draft in the prompt."""
        assert self._stage is not None
        if opened is not self.open:
            self.save_draft()
        self.open = opened
        self.history.set_last_open(opened.id)
        self.composer.show(self.history.draft(opened.id))
        self._stage.show(opened)
        self.composer.focus()

    def show_conversation(self, id_: int) -> None:
        """Open a conversation by its id; errors are said."""
        try:
            self.show(self.desk.open(id_, self.options.model))
        except LocalLLMError as exc:
            self.say_error(exc)

    def save_draft(self) -> None:
        """Keep what is written and not sent, and what waits to be sent."""
        draft, waiting = self.composer.draft, self.open.waiting
        if waiting is not None:
            text = f"{waiting.text}\n\n{draft.text}" if draft.text else waiting.text
            draft = Draft(text, (*waiting.attachments, *draft.attachments), draft.edits)
        try:
            self.history.save_draft(self.open.id, draft)
        except LocalLLMError as exc:
            self.say_error(exc)

    async def close(self) -> None:
        """End every reply; what came is kept."""
        await self.desk.close()

    # --- the prompt ---------------------------------------------------------------------------------------------------

    @on(Composer.Changed)
    def _draft_changed(self) -> None:
        self.save_draft()
        self._show_note()

    @on(Composer.Submitted)
    def _submitted(self, event: Composer.Submitted) -> None:
        self.submit(Draft(event.text, event.attachments, self.composer.draft.edits))

    def submit(self, draft: Draft) -> None:
        """Send it, or let it wait for the answer's end; where that fails it stays in the prompt."""
        was_new = not self.open.id
        try:
            self.open.send(draft)
        except LocalLLMError as exc:
            self.say_error(exc)
            return
        self.composer.clear_sent()
        if was_new:
            self.history.save_draft(0, Draft())
        self.save_draft()

    @on(Composer.Command)
    async def _command(self, event: Composer.Command) -> None:
        await self.run_command(event.name, event.argument)

    async def run_command(self, name: str, argument: str = "") -> None:
        """Do what a command of the table says."""
        known = command(name)
        if known is None:
            self.notify(safe_stream(f"there is no command {name}"), severity="warning", markup=False)
            return
        action = getattr(self, f"action_{known.action}")
        done = action(argument) if known.takes else action()
        if inspect.isawaitable(done):
            await done

    # --- what happens -------------------------------------------------------------------------------------------------

    def _changed(self) -> None:
        conversation = self.open.conversation
        line = self.query_one(HeadLine)
        line.title = conversation.title or "New conversation"
        line.model = self.open.wishes.model
        self.composer.show_sent(tuple(node.content for node in self.open.path if node.role == "user"))
        self._show_note()

    def _show_note(self) -> None:
        note = self.query_one(NoteLine)
        if self.open.waiting is not None:
            note.show("waits", self.open.waiting.text, "Alt+Up takes it back")
        elif self.composer.draft.edits is not None:
            note.show("another version of an earlier turn", hint="Escape leaves it")
        else:
            note.show("")

    def _event(self, event: Event | None) -> None:
        """The figures follow."""

    def _over(self, opened: OpenConversation) -> None:
        """A reply has ended, seen or not."""

    def say_error(self, error: LocalLLMError) -> None:
        """An error in words, with what helps."""
        self.notify(safe_stream(words(error)), severity="error", markup=False)

    # --- actions on the conversation ----------------------------------------------------------------------------------

    def action_new(self) -> None:
        """A new conversation, in the same folder, answered by the same model."""
        self.show(self.desk.new(self.open.wishes.model, folder=self.open.conversation.folder))

    @work
    async def action_stop(self) -> None:
        """Stop the answer; without one, leave off editing an earlier turn."""
        if self.open.is_busy:
            await self.open.stop()
        elif self.composer.draft.edits is not None:
            self.composer.show(msgspec.structs.replace(self.composer.draft, text="", attachments=(), edits=None))
            self.save_draft()
            self._show_note()

    def action_regenerate(self) -> None:
        """Answer the last turn again."""
        if self.open.path:
            self._answer_again(self.open.path[-1])

    def _answer_again(self, node: Node) -> None:
        try:
            self.open.answer_again(node)
        except LocalLLMError as exc:
            self.say_error(exc)

    def action_go_on(self) -> None:
        """Go on where the branch ends."""
        try:
            self.open.go_on()
        except LocalLLMError as exc:
            self.say_error(exc)

    def action_take_back(self) -> None:
        """The message that waits comes back into the prompt."""
        waiting = self.open.take_back()
        if waiting is not None:
            self.composer.put_back(f"{waiting.text}\n" if self.composer.text else waiting.text)
            for attachment in waiting.attachments:
                self.composer.attach(attachment)
            self.save_draft()

    def action_edit_last(self) -> None:
        """Write the last turn of the person anew."""
        for node in reversed(self.open.path):
            if node.role == "user":
                self._edit(node)
                return

    def _edit(self, node: Node) -> None:
        self.save_draft()
        self.composer.show(Draft(node.content, node.attachments, node.id))
        self._show_note()
        self.composer.focus()

    def action_branch(self) -> None:
        """This branch as a conversation of its own."""
        if self.open.path:
            self._branch(self.open.path[-1])

    def _branch(self, node: Node) -> None:
        try:
            self.show(self.desk.open(self.open.branch(node).id, self.open.wishes.model))
        except LocalLLMError as exc:
            self.say_error(exc)

    # --- what turns ask for -------------------------------------------------------------------------------------------

    @on(MessageView.EditAsked)
    def _edit_asked(self, event: MessageView.EditAsked) -> None:
        self._edit(event.node)

    @on(MessageView.RegenerateAsked)
    def _regenerate_asked(self, event: MessageView.RegenerateAsked) -> None:
        self._answer_again(event.node)

    @on(MessageView.ContinueAsked)
    def _continue_asked(self) -> None:
        self.action_go_on()

    @on(MessageView.BranchAsked)
    def _branch_asked(self, event: MessageView.BranchAsked) -> None:
        self._branch(event.node)

    @on(MessageView.SiblingAsked)
    def _sibling_asked(self, event: MessageView.SiblingAsked) -> None:
        self.open.walk(event.node, event.step)

    @on(ToolCard.Answered)
    def _call_answered(self, event: ToolCard.Answered) -> None:
        self.open.answer_call(event.call_id, event.allowed, event.extent)

    @on(NoteLine.Clicked)
    def _note_clicked(self) -> None:
        self.action_take_back()

    @on(Transcript.Left)
    def _transcript_left(self) -> None:
        self.composer.focus()

    def action_leave(self) -> None:
        """End the chat."""
        self.app.exit()
