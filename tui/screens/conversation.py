"""What a person does with turns of the conversation that is shown: again, anew, side by side, copied, saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, NamedTuple

from localllm_tui.history.values import Draft, Node
from localllm_tui.look.dressed import key_of
from localllm_tui.screens import clipboard, saving
from localllm_tui.turns.open_conversation import OpenConversation
from localllm_tui.turns.turn import words
from localllm_tui.widgets.composer import Composer
from localllm_tui.widgets.message_view import CodeBlock, MessageView
from localllm_tui.widgets.tool_card import ToolCard
from localllm_tui.widgets.transcript import Transcript
from textual import on, work
from textual.binding import Binding, BindingType
from textual.screen import Screen

from localllm.errors import LocalLLMError
from localllm.terminal_text import safe_line, safe_stream


class WayOn(NamedTuple):
    """What is unfinished, which key goes on, and what that key does."""

    head: str
    hint: str
    run: Callable[[], object]


class ConversationScreen(Screen[None]):
    """Needs a Transcript and a Composer on it, and `open` set."""

    BINDING_GROUP_TITLE = "Conversation"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop the answer", id="chat.stop"),
        Binding("ctrl+r", "regenerate", "Answer again", id="chat.regenerate"),
        Binding("alt+g", "go_on", "Go on", id="chat.continue", show=False),
        Binding("ctrl+up", "turns", "To the turns", id="chat.turns"),
        Binding("alt+up", "take_back", "Take back what waits", id="chat.takeback", show=False),
    ]

    open: OpenConversation

    @property
    def composer(self) -> Composer:
        """The prompt."""
        return self.query_one(Composer)

    def show_conversation(self, id_: int) -> None:
        """Open a conversation by its id."""
        raise NotImplementedError

    def save_draft(self) -> None:
        """Keep what is written."""
        raise NotImplementedError

    def show_note(self) -> None:
        """What waits, and what is edited."""
        raise NotImplementedError

    def say(self, text: str) -> None:
        """A word on what was done."""
        self.notify(safe_stream(text), markup=False)

    def say_error(self, error: LocalLLMError) -> None:
        """An error in words, with what helps."""
        self.notify(safe_stream(words(error)), severity="error", markup=False, timeout=8)

    def action_turns(self) -> None:
        """From the prompt to the turns; there, arrows walk and letters act."""
        self.query_one(Transcript).action_select(-1)

    # --- answers ------------------------------------------------------------------------------------------------------

    @work(group="stop")
    async def action_stop(self) -> None:
        """Stop the answer; without one, leave off editing an earlier turn."""
        if self.open.is_busy:
            await self.open.stop()
        elif self.composer.draft.edits is not None:
            self.composer.show(Draft())
            self.save_draft()
            self.show_note()

    def way_on(self) -> WayOn | None:
        """Where the branch ends in something unfinished: what that is, and what goes on from there."""
        last = self.open.path[-1] if self.open.path and not self.open.is_busy else None
        again, on = key_of(self.app, "chat.regenerate"), key_of(self.app, "chat.continue")
        match (last.role, last.state) if last is not None else ("", ""):
            case "user", _:
                return WayOn("not answered", f"{again} has it answered", self.action_regenerate)
            case "tool", _:
                return WayOn("the model was not asked on", f"{on} lets it go on", self.action_go_on)
            case "assistant", "complete" if last is not None and last.tool_calls:
                return WayOn("the calls were not run", f"{on} has them run", self.action_go_on)
            case "assistant", "failed":
                return WayOn("failed", f"{again} tries again", self.action_regenerate)
            case "assistant", "stopped":
                return WayOn("stopped", f"{on} goes on, {again} answers again", self.action_go_on)
        return None

    def action_regenerate(self) -> None:
        """Answer the last turn again."""
        if self.open.path:
            self.answer_again(self.open.path[-1])

    def answer_again(self, node: Node) -> None:
        """Another answer beside this one."""
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

    @work(group="stop")
    async def action_answer_now(self) -> None:
        """No more thinking: the answer."""
        turn = self.open.reply.turn if self.open.reply is not None and self.open.is_busy else None
        try:
            if turn is None or not await turn.stop_thinking():
                self.say("The model does not think just now.")
        except LocalLLMError as exc:
            self.say_error(exc)

    @on(MessageView.RegenerateAsked)
    def _regenerate_asked(self, event: MessageView.RegenerateAsked) -> None:
        self.answer_again(event.node)

    @on(MessageView.ContinueAsked)
    def _continue_asked(self) -> None:
        self.action_go_on()

    @on(ToolCard.Answered)
    def _call_answered(self, event: ToolCard.Answered) -> None:
        self.open.answer_call(event.call_id, event.allowed, event.extent)

    # --- turns of a person --------------------------------------------------------------------------------------------

    def action_take_back(self) -> None:
        """The message that waits comes back into the prompt."""
        waiting = self.open.take_back()
        if waiting is not None:
            self.composer.put_back(waiting.text)
            for attachment in waiting.attachments:
                self.composer.attach(attachment)
            self.save_draft()

    def action_edit_last(self) -> None:
        """Write the last turn of the person anew."""
        for node in reversed(self.open.path):
            if node.role == "user":
                self.edit(node)
                return

    def edit(self, node: Node) -> None:
        """The turn's text into the prompt; sent, it is a version beside it. What was being written is kept in mind."""
        if self.composer.text.strip() and self.composer.draft.edits is None:
            self.say("What was written before is on the clipboard.")
            self.copy(self.composer.text)
        self.composer.show(Draft(node.content, node.attachments, node.id))
        self.save_draft()
        self.show_note()
        self.composer.focus()

    @on(MessageView.EditAsked)
    def _edit_asked(self, event: MessageView.EditAsked) -> None:
        self.edit(event.node)

    # --- branches -----------------------------------------------------------------------------------------------------

    def action_branch(self) -> None:
        """This branch as a conversation of its own."""
        if self.open.path:
            self.branch(self.open.path[-1])

    def branch(self, node: Node) -> None:
        """The way to this turn as a conversation of its own."""
        try:
            self.show_conversation(self.open.branch(node).id)
        except LocalLLMError as exc:
            self.say_error(exc)

    @on(MessageView.BranchAsked)
    def _branch_asked(self, event: MessageView.BranchAsked) -> None:
        self.branch(event.node)

    @on(MessageView.SiblingAsked)
    def _sibling_asked(self, event: MessageView.SiblingAsked) -> None:
        try:
            walked = self.open.walk(event.node, event.step)
        except LocalLLMError as exc:
            self.say_error(exc)
            return
        chosen = next((node for node in self.open.path if node.parent == event.node.parent), None)
        if walked and chosen is not None:
            self.query_one(Transcript).go_to(chosen.id)

    @on(MessageView.LinkAsked)
    @work(group="link")
    async def _link_asked(self, event: MessageView.LinkAsked) -> None:
        """A text may say one thing and lead to another: the address is shown before it is opened."""
        from localllm_tui.screens.confirm import ConfirmScreen

        if await self.app.push_screen_wait(ConfirmScreen("Open in the browser?", event.address, yes="Open")):
            self.app.open_url(event.address)

    @on(Transcript.Left)
    def _transcript_left(self) -> None:
        self.composer.focus()

    # --- text out of it -----------------------------------------------------------------------------------------------

    @work(group="copy")
    async def copy(self, text: str) -> None:
        """Into the clipboard."""
        await clipboard.copy(self.app, text)

    def action_copy_last(self) -> None:
        """Copy the last answer."""
        for node in reversed(self.open.now()):
            if node.role == "assistant" and node.content:
                self._copy_turn(node)
                return

    def _copy_turn(self, node: Node) -> None:
        view = self.query_one(Transcript).view(node.id)
        text = view.plain_text() if view is not None else node.content
        self.copy(text)
        self.say(f"Copied: {len(text):,} characters.")

    @on(MessageView.CopyAsked)
    def _copy_asked(self, event: MessageView.CopyAsked) -> None:
        self._copy_turn(event.node)

    @on(MessageView.CopyCodeAsked)
    def _copy_code_asked(self, event: MessageView.CopyCodeAsked) -> None:
        block = self._code(event.node, event.index)
        if block is not None:
            self.copy(block.code)
            self.say(f"Copied: {len(block.code.splitlines()):,} lines of code.")

    @on(MessageView.SaveCodeAsked)
    @work(group="save")
    async def _save_code_asked(self, event: MessageView.SaveCodeAsked) -> None:
        block = self._code(event.node, event.index)
        if block is not None:
            await self.save_text(block.code, saving.free_name(block.language, Path.cwd()))

    async def save_text(self, text: str, name: str) -> None:
        """Ask for a file's name until the text could be written, or the person leaves."""
        from localllm_tui.screens.words import LineScreen

        folder, hint = Path.cwd(), f"in {safe_line(str(Path.cwd()))}"
        while True:
            chosen = await self.app.push_screen_wait(LineScreen("Save as", name, hint))
            if not chosen or not chosen.strip():
                return
            try:
                path = saving.save_new(text, chosen, folder)
            except LocalLLMError as exc:
                name, hint = chosen, safe_stream(words(exc))
                continue
            self.say(f"Saved: {path}")
            return

    def _code(self, node: Node, index: int) -> CodeBlock | None:
        view = self.query_one(Transcript).view(node.id)
        blocks = view.code_blocks() if view is not None else []
        return blocks[index] if 0 <= index < len(blocks) else None
