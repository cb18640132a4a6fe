"""What a person does with a conversation as a whole: its title, system prompt and model; deleted and brought back."""

from __future__ import annotations

import msgspec
from localllm_tui.history.history import History
from localllm_tui.screens.conversation import ConversationScreen
from localllm_tui.turns.desk import Desk
from localllm_tui.turns.open_conversation import OpenConversation
from textual import work

from localllm.errors import LocalLLMError


class WholeScreen(ConversationScreen):
    """Needs `history` and `desk` besides."""

    history: History
    desk: Desk

    def __init__(self) -> None:
        super().__init__()
        self._deleted: list[int] = []

    def show(self, opened: OpenConversation) -> None:
        """Make this the conversation that is seen."""
        raise NotImplementedError

    @work(group="dialog", exclusive=True)
    async def action_title(self, title: str = "") -> None:
        """Give the conversation a title; asks for it where none is said."""
        if not title:
            from localllm_tui.screens.words import LineScreen

            written = await self.app.push_screen_wait(LineScreen("Title", self.open.conversation.title))
            title = written or ""
        if title.strip():
            self._change(title=title.strip(), titled_by="person")

    @work(group="dialog", exclusive=True)
    async def action_system(self, system: str = "") -> None:
        """Change the system prompt of this conversation; shows it where none is said."""
        if not system:
            from localllm_tui.screens.words import TextScreen

            written = await self.app.push_screen_wait(TextScreen("System prompt", self.open.conversation.system))
            if written is None:
                return
            system = written
        self._change(system=system.strip())

    def _change(self, **fields: str) -> None:
        try:
            self.open.change(**fields)
        except LocalLLMError as exc:
            self.say_error(exc)

    def action_think(self, choice: str = "") -> None:
        """Whether the model is asked to think, not to, or neither; says how it is where nothing is said."""
        choices: dict[str, bool | None] = {"on": True, "off": False, "auto": None}
        word = choice.strip().lower()
        if word in choices:
            self.open.wishes = msgspec.structs.replace(self.open.wishes, think=choices[word])
        now = next(name for name, value in choices.items() if value is self.open.wishes.think)
        self.say(f"Thinking: {now}." + ("" if not word or word in choices else " It is on, off or auto."))

    def action_delete(self) -> None:
        """Delete the conversation; it can be brought back."""
        self.delete_conversation(self.open.id)

    @work(group="delete")
    async def delete_conversation(self, id_: int) -> None:
        """Out of the list, until `action_undelete`. An answer under way in it is stopped first."""
        if not id_:
            return
        if self.open.id == id_:
            await self.open.stop()
        try:
            self.history.delete(id_)
            if self.open.id == id_:
                left = self.history.conversations(limit=1)
                model = self.open.wishes.model
                self.show(self.desk.open(left[0].id, model) if left else self.desk.new(model))
        except LocalLLMError as exc:
            self.say_error(exc)
            return
        self._deleted.append(id_)
        self.say("Deleted. /undo brings it back.")

    def action_undelete(self) -> None:
        """Bring back the conversation deleted last."""
        if not self._deleted:
            self.say("Nothing was deleted since the chat was opened.")
            return
        try:
            self.history.undelete(self._deleted[-1])
            self.show_conversation(self._deleted.pop())
        except LocalLLMError as exc:
            self.say_error(exc)
