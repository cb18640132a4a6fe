"""What a person does about models while they talk: look at all of them, take another one, ask two at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, ClassVar

from localllm_tui.history.values import Draft, Node
from localllm_tui.look.dressed import key_of
from localllm_tui.look.names import shown_model
from localllm_tui.screens.whole import WholeScreen
from textual import work
from textual.binding import Binding, BindingType

from localllm.api import Backend
from localllm.errors import LocalLLMError

if TYPE_CHECKING:
    from localllm_tui.screens.pull import Pull, Pulls


class WithModels(WholeScreen):
    """Needs `backend` besides. Pulls go on while one talks, and are said when they end."""

    BINDING_GROUP_TITLE = "Models"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f3", "models", "Models", id="chat.models"),
        Binding("f4", "model", "Answer with another model", id="chat.model"),
        Binding("f6", "both", "Ask two models", id="chat.both"),
    ]

    backend: Callable[[], Awaitable[Backend]]
    _pulls: Pulls | None = None

    @property
    def pulls(self) -> Pulls:
        """Models on their way."""
        if self._pulls is None:
            from localllm_tui.screens.pull import Pulls

            self._pulls = Pulls(self.backend)
            self._pulls.listeners.append(self._pulled)
        return self._pulls

    async def close_pulls(self) -> None:
        """What arrived stays; it goes on another time."""
        if self._pulls is not None:
            await self._pulls.close()

    def _pulled(self, pull: Pull) -> None:
        if self.app.screen is not self:
            return  # the screen that lies over this one shows it
        if pull.state == "done":
            self.say(f"{pull.name} is installed.")
        elif pull.state == "failed":
            self.say(f"{pull.name}: {pull.words()}")

    @work(group="models", exclusive=True)
    async def action_models(self) -> None:
        """What is here and what there is to be had; a model that is chosen there answers from now on."""
        from localllm_tui.screens.models import ModelsScreen

        plain = bool(getattr(self.app, "is_plain", False))
        name = await self.app.push_screen_wait(ModelsScreen(self.backend, self.pulls, plain=plain))
        if name is not None:
            self._take_model(name)

    def action_model(self, name: str = "") -> None:
        """Answer with another model from now on; asks which where none is said."""
        if name:
            self._take_model(name)
        else:
            self._pick_model()

    @work(group="models", exclusive=True)
    async def _pick_model(self) -> None:
        from localllm_tui.screens.pick_model import PickModelScreen

        name = await self.app.push_screen_wait(PickModelScreen(self.backend, current=self.open.wishes.model))
        if name is not None:
            self._take_model(name)

    def _take_model(self, name: str) -> None:
        if name != self.open.wishes.model:
            self._change(model=name)
            self.say(f"{shown_model(name)} answers from now on.")

    @work(group="models", exclusive=True)
    async def action_both(self, name: str = "") -> None:
        """Ask the model that answers here and another one the same: what is in the prompt, else the last turn."""
        from localllm_tui.screens.side_by_side import SideBySideScreen

        opened, mine = self.open, self.open.wishes.model
        if opened.is_busy:
            self.say(f"An answer is under way; stop it first ({key_of(self.app, 'chat.stop')}).")
            return
        try:
            draft = await self.composer.whole()
        except LocalLLMError as exc:
            self.say_error(exc)
            return
        if not draft.text.strip() and not draft.attachments and self._last_question() is None:
            self.say("Write what both should answer first.")
            return
        other = name or await self._other_model(mine)
        if not other or opened is not self.open:
            return
        try:
            question = self._question(draft)
        except LocalLLMError as exc:
            self.say_error(exc)
            return
        if question is not None:
            await self.app.push_screen_wait(
                SideBySideScreen(self.backend, self.history, opened, question, (mine, other))
            )
            self.composer.focus()

    async def _other_model(self, mine: str) -> str | None:
        from localllm_tui.screens.pick_model import PickModelScreen

        return await self.app.push_screen_wait(PickModelScreen(self.backend, title="Ask this one, too", without=mine))

    def _question(self, draft: Draft) -> Node | None:
        """The turn that both answer: a new one of what is in the prompt, else the last of the person."""
        if not draft.text.strip() and not draft.attachments:
            return self._last_question()
        node = self.open.add_turn(draft)
        self.composer.clear_sent()
        self.save_draft()
        return node

    def _last_question(self) -> Node | None:
        return next((node for node in reversed(self.open.path) if node.role in ("user", "tool")), None)
