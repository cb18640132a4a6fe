"""The chat: transcript, prompt, figures and the list of conversations, and what happens when a person acts on them."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import ClassVar

from localllm_tui.history.history import History
from localllm_tui.history.values import Attachment, Draft
from localllm_tui.look.dressed import key_of
from localllm_tui.options import ChatOptions
from localllm_tui.screens import attention
from localllm_tui.screens.commands import COMMANDS, command
from localllm_tui.screens.exchanging import ExchangingScreen
from localllm_tui.screens.stage import Stage
from localllm_tui.screens.with_models import WithModels
from localllm_tui.screens.with_prompts import WithPrompts
from localllm_tui.screens.with_tree import WithTree
from localllm_tui.turns.desk import Desk
from localllm_tui.turns.gauges import Gauges
from localllm_tui.turns.meter import Meter
from localllm_tui.turns.open_conversation import OpenConversation
from localllm_tui.turns.reply import Tools
from localllm_tui.turns.warming import warm
from localllm_tui.widgets.composer import Composer
from localllm_tui.widgets.gauge_bar import GaugeBar
from localllm_tui.widgets.head_line import HeadLine
from localllm_tui.widgets.note_line import NoteLine
from localllm_tui.widgets.sidebar import Sidebar
from localllm_tui.widgets.transcript import Transcript
from localllm_tui.widgets.welcome import Welcome
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical

from localllm.api import Backend, Event
from localllm.errors import ContextLengthError, LocalLLMError


class ChatScreen(WithModels, ExchangingScreen, WithTree, WithPrompts):
    """Where a person lives. `backend` is awaited only when something is asked of it."""

    BINDING_GROUP_TITLE = "Chat"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+n", "new", "New conversation", id="chat.new"),
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
        self.tools = tools
        self.desk = Desk(
            backend,
            history,
            tools=tools,
            sampling=options.sampling,
            on_over=self._over,
            on_asking=self._asking,
            on_due=self._send_due,
        )
        self.meter = Meter(backend, self._show_gauges)
        self._not_opened: LocalLLMError | None = None
        self.open = self._first()
        self._stage: Stage | None = None
        self._warmed = ""
        self._is_unkept = False

    def compose(self) -> ComposeResult:
        """Side by side: the list, and the conversation above its prompt."""
        with Horizontal():
            yield Sidebar()
            with Vertical(id="talk"):
                yield HeadLine()
                yield Welcome()
                yield Transcript()
                yield NoteLine()
                yield Composer(
                    self.options.settings,
                    commands=tuple(known.words() for known in COMMANDS),
                    argument_words=self.argument_words(),
                    count_tokens=self.count_tokens,
                )
                yield GaugeBar()

    def on_mount(self) -> None:
        """Where the person was, with what was typed there."""
        self._stage = Stage(
            self.query_one(Transcript), on_change=self._changed, on_event=self._event, on_error=self.say_error
        )
        self.list_first()
        self.show(self.open)
        self._measure()
        if self.options.text:
            self.composer.put_back(self.options.text)
        if self.options.attached:
            self.composer.attach(Attachment("standard input", self.options.attached))
        if self._not_opened is not None:
            self.say_error(self._not_opened)

    # --- conversations ------------------------------------------------------------------------------------------------

    def _first(self) -> OpenConversation:
        """The conversation that the options name, else the one that was open last, else a new one."""
        asked = self.options.conversation
        id_ = self.history.last_open() if asked is None else asked
        if id_:
            try:
                return self.desk.open(id_, self.options.model)
            except LocalLLMError as exc:
                self._not_opened = exc
        return self.desk.new(self.options.model, system=self.options.system)

    def show(self, opened: OpenConversation) -> None:
        """Make this the conversation that is seen, with its draft in the prompt."""
        assert self._stage is not None
        if opened is not self.open:
            self.save_draft()
            self.open.typed = self.composer.draft
        self.open = opened
        self.composer.show(self._draft_of(opened))
        opened.typed = None
        self._stage.show(opened)
        if opened.waiting is not None and not opened.is_busy and not opened.is_due:
            self.action_take_back()
        self.composer.focus()

    def _draft_of(self, opened: OpenConversation) -> Draft:
        if opened.waiting is not None:
            return opened.typed or Draft()
        try:
            self.history.set_last_open(opened.id)
            return self.history.draft(opened.id)
        except LocalLLMError as exc:
            self.say_error(exc)
            return opened.typed or Draft()

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
        self._keep(self.open.id, draft)

    def _keep(self, id_: int, draft: Draft) -> None:
        try:
            self.history.save_draft(id_, draft)
            self._is_unkept = False
        except LocalLLMError as exc:
            if not self._is_unkept:  # said once, not at every key
                self._is_unkept = True
                self.say_error(exc)

    async def close(self) -> None:
        """End every reply; what came is kept."""
        self.meter.close()
        await self.close_pulls()
        await self.desk.close()

    # --- the prompt ---------------------------------------------------------------------------------------------------

    @on(Composer.Changed)
    def _draft_changed(self) -> None:
        self.save_draft()
        self.show_note()
        self.meter.look_at(self.open, self.composer.as_sent)
        if self.composer.text.strip() and self._warmed != self.open.wishes.model:
            self._warmed = self.open.wishes.model
            self._warm(self._warmed)

    @work(group="warm", exclusive=True)
    async def _warm(self, model: str) -> None:
        """The model is loaded while its person writes."""
        try:
            await warm(await self.backend(), model, self.meter.loading)
        except LocalLLMError:
            return  # said when the Backend is needed
        finally:
            self.meter.loading(None)

    @on(Composer.Submitted)
    def _submitted(self, event: Composer.Submitted) -> None:
        draft = self.composer.draft
        if draft.text.strip() or draft.attachments:  # else it has been sent by the Enter before this one
            self.submit(Draft(event.text, event.attachments, draft.edits))

    @work(group="submit", exclusive=True)
    async def submit(self, draft: Draft) -> None:
        """Send it where there is room, let it wait while an answer comes; else it stays in the prompt."""
        if self.open.is_busy or self.open.is_due or await self._has_room(draft):
            self._send(draft)

    async def _has_room(self, draft: Draft) -> bool:
        from localllm_tui.screens.making_room import has_room

        return await has_room(self, draft)

    def _send(self, draft: Draft) -> None:
        was_new = not self.open.id
        try:
            self.open.send(draft)
        except LocalLLMError as exc:
            self.say_error(exc)
            return
        self.composer.clear_sent()
        if was_new:
            self._keep(0, Draft())
        self.save_draft()

    @work(group="due")
    async def _send_due(self, opened: OpenConversation) -> None:
        """What waited has its turn: it goes out where there is room, else into the prompt again."""
        from localllm_tui.screens.making_room import has_room_for_waiting

        waiting = opened.waiting
        if waiting is None:
            return
        has_room = await has_room_for_waiting(self, opened, waiting)
        if opened.waiting is not waiting:
            return  # it was taken back meanwhile
        opened.is_due = False
        if has_room:
            opened.send_waiting()
        if opened is self.open and opened.waiting is not None:
            self.action_take_back()
        elif opened is self.open:
            self.save_draft()
        elif opened.typed is not None and opened.waiting is None:
            self._keep(opened.id, opened.typed)

    @on(Composer.Command)
    async def _command(self, event: Composer.Command) -> None:
        await self.run_command(event.name, event.argument)

    async def run_command(self, name: str, argument: str = "") -> None:
        """Do what a command of the table says."""
        known = command(name)
        if known is None:
            self.say(f"There is no command {name}.")
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
        self.query_one(Welcome).set_class(not self.open.path, "-shown")
        self.query_one(Transcript).display = bool(self.open.path)
        self.show_sent()
        self.meter.look_at(self.open, self.composer.as_sent)
        self.show_note()
        self.list_changed()

    def show_note(self) -> None:
        """See ConversationScreen."""
        note = self.query_one(NoteLine)
        if self.open.waiting is not None:
            note.show("waits", self.open.waiting.text, f"{key_of(self.app, 'chat.takeback')} takes it back")
        elif (asking := self.asking_tool()) is not None:
            note.show("a tool asks", asking.call.name, f"{key_of(self.app, 'chat.tool')} answers")
        elif self.composer.draft.edits is not None:
            note.show("another version of an earlier turn", hint=f"{key_of(self.app, 'chat.stop')} leaves it")
        elif (way := self.way_on()) is not None:
            note.show(way.head, hint=way.hint)
        else:
            note.show("")

    def _event(self, _event: Event | None) -> None:
        self.meter.show()

    def _show_gauges(self, gauges: Gauges) -> None:
        if self.is_mounted:
            self.query_one(GaugeBar).show(gauges)
            self.composer.count_for(None if gauges.num_ctx is None else self.open.wishes.model)

    @work(group="meter")
    async def _measure(self) -> None:
        await self.meter.run()

    def _over(self, opened: OpenConversation) -> None:
        """A reply has ended, seen or not."""
        self.list_changed()
        if opened.typed is not None and opened.waiting is None:
            self._keep(opened.id, opened.typed)
        if opened is self.open and opened.waiting is not None and not opened.is_busy and not opened.is_due:
            self.action_take_back()
        elif opened is self.open:
            self.save_draft()
        turn = opened.reply.turn if opened.reply is not None else None
        if turn is None:
            return
        if opened is self.open and isinstance(turn.error, ContextLengthError):
            self.make_room(turn.error)
        elif opened is self.open and opened.reply is not None and opened.reply.ending == "rounds":
            self.say("The model called tools many times in a row. /continue lets it go on.")
        self._call_person(opened, turn.answer.stats().total_s)

    def _call_person(self, opened: OpenConversation, took_s: float) -> None:
        """Where nobody watches, say that an answer is there."""
        title = opened.conversation.title or "a conversation"
        if opened is not self.open:
            self.say(f"An answer is there: {title}")
        if not self.app.app_focus and took_s >= self.options.settings.notify_after_s:
            attention.call(self.app, f"An answer is there: {title}")

    def _asking(self, opened: OpenConversation) -> None:
        """A tool call waits for a person's word, seen or not."""
        title = opened.conversation.title or "a conversation"
        if opened is not self.open:
            self.say(f"A tool asks: {title}")
        if not self.app.app_focus:
            attention.call(self.app, f"A tool asks: {title}")

    @work(group="room")
    async def make_room(self, error: ContextLengthError) -> None:
        """The answer could not begin for want of context: ask, and try again."""
        from localllm_tui.screens.making_room import has_room_after

        if await has_room_after(self, error) and self.open.path:
            self.answer_again(self.open.path[-1])

    # --- the rest -----------------------------------------------------------------------------------------------------

    def action_new(self) -> None:
        """A new conversation, in the same folder, answered by the same model."""
        self.show(self.desk.new(self.open.wishes.model, folder=self.open.conversation.folder))

    @on(NoteLine.Clicked)
    def _note_clicked(self) -> None:
        if self.open.waiting is not None:
            self.action_take_back()
        elif self.composer.draft.edits is None and (way := self.way_on()) is not None:
            way.run()
        else:
            self.action_stop()

    def action_server(self) -> None:
        """What answers, from inside."""
        from localllm_tui.screens.server import ServerScreen

        self.app.push_screen(ServerScreen(self.backend))

    async def action_help(self) -> None:
        """See the app's F1."""
        await self.app.run_action("help")

    def action_theme(self, name: str = "") -> None:
        """Take a theme, or choose among them."""
        if name in self.app.available_themes:
            self.app.theme = name
        else:
            self.app.action_change_theme()

    def action_leave(self) -> None:
        """End the chat."""
        self.app.exit()
