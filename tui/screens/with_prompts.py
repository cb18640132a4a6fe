"""What a person does about what is written: personas, snippets, sampling, and looking at what is attached."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ClassVar

import msgspec
from localllm_tui.options import ChatOptions, ChatSettings, load_chat_settings
from localllm_tui.prompt import personas, sampling, sent
from localllm_tui.prompt.personas import Named
from localllm_tui.screens.whole import WholeScreen
from localllm_tui.turns.loaded import find_loaded
from localllm_tui.widgets.composer import Composer
from textual import on, work
from textual.binding import Binding, BindingType

from localllm.api import Backend
from localllm.errors import LocalLLMError
from localllm.paths import chat_settings_file
from localllm.terminal_text import cut

_NUM_ELSEWHERE = 200


class WithPrompts(WholeScreen):
    """Needs `backend` and `options` besides."""

    BINDING_GROUP_TITLE = "Prompts"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f9", "persona", "Personas: system prompts by name", id="chat.persona"),
        Binding("alt+s", "snippet", "Snippets: texts by name", id="chat.snippet"),
    ]

    backend: Callable[[], Awaitable[Backend]]
    options: ChatOptions

    # --- personas and snippets ----------------------------------------------------------------------------------------

    @work(group="dialog", exclusive=True)
    async def action_persona(self, argument: str = "") -> None:
        """Take a persona for this conversation; `save NAME` keeps the system prompt that is there as one."""
        verb, _, name = argument.strip().partition(" ")
        if verb == "save":
            self._save("persona", name, self.open.conversation.system)
            return
        picked = await self._pick("persona", argument)
        if picked is not None:
            fields = {"system": picked.text} | ({"model": picked.model} if picked.model else {})
            self._change(**fields)
            self.say(f"{picked.name} answers from now on.")

    @work(group="dialog", exclusive=True)
    async def action_snippet(self, argument: str = "") -> None:
        """Put a snippet into the prompt; `save NAME` keeps what was written last as one."""
        verb, _, name = argument.strip().partition(" ")
        if verb == "save":
            written = [node.content for node in self.open.path if node.role == "user"]
            self._save("snippet", name, self.composer.text or (written[-1] if written else ""))
            return
        picked = await self._pick("snippet", argument)
        if picked is not None:
            self.composer.insert(picked.text)
            self.composer.focus()

    async def _pick(self, kind: str, name: str) -> Named | None:
        """The one of that name, with its parameters filled in; else a person picks one."""
        from localllm_tui.screens.parameters import ParametersScreen
        from localllm_tui.screens.persona import PersonaScreen
        from localllm_tui.screens.snippets import SnippetScreen

        settings = self.options.settings
        among = personas.personas(settings) if kind == "persona" else personas.snippets(settings)
        found = personas.find(name, among)
        if found is None:
            screen = PersonaScreen if kind == "persona" else SnippetScreen
            return await self.app.push_screen_wait(screen(settings, name))
        values: dict[str, str] | None = {}
        if found.parameters:
            values = await self.app.push_screen_wait(ParametersScreen(found.name, found.parameters, found.defaults))
        return None if values is None else found._replace(text=personas.filled(found, values))

    def _save(self, kind: str, name: str, text: str) -> None:
        from localllm_tui.prompt import chat_toml

        file = chat_settings_file()
        try:
            (chat_toml.add_persona if kind == "persona" else chat_toml.add_snippet)(file, name, text)
            self._take_settings(load_chat_settings(file))
        except LocalLLMError as exc:
            self.say_error(exc)
        else:
            self.say(f"{name.strip()} is in {file}")

    def _take_settings(self, settings: ChatSettings) -> None:
        self.options = msgspec.structs.replace(self.options, settings=settings)
        self.composer.argument_words.update(self.argument_words())

    def argument_words(self) -> dict[str, tuple[tuple[str, str], ...]]:
        """What may stand behind commands of this screen, with its meaning."""
        settings = self.options.settings
        found = {"persona": personas.personas(settings), "snippet": personas.snippets(settings)}
        named = {name: tuple((one.name, cut(one.text, 60)) for one in among) for name, among in found.items()}
        return {"set": sampling.names(), **named}

    # --- sampling -----------------------------------------------------------------------------------------------------

    def action_set(self, argument: str = "") -> None:
        """Show or change how tokens are chosen in this conversation."""
        wishes = self.open.wishes
        try:
            done = sampling.obey(argument, wishes.sampling)
        except LocalLLMError as exc:
            self.say_error(exc)
            self.composer.put_back(f"/set {argument}")
        else:
            self.open.wishes = msgspec.structs.replace(wishes, sampling=done.sampling)
            self.say(done.words)

    # --- the prompt ---------------------------------------------------------------------------------------------------

    async def count_tokens(self, text: str) -> int | None:
        """The tokens of a text for the model that answers; None while it is not in memory."""
        backend, model = await self.backend(), self.open.wishes.model
        if await find_loaded(backend, model) is None:
            return None
        return len(await backend.tokenize(model, text))

    def show_sent(self) -> None:
        """What up and down walk through: this conversation's messages, then those of all others."""
        own = [node.content for node in self.open.path if node.role == "user"]
        try:
            elsewhere = self.history.written(limit=_NUM_ELSEWHERE)
        except LocalLLMError:
            elsewhere = ()  # whoever saves or opens next is told what is wrong with the database
        self.composer.show_sent(sent.joined(own, elsewhere))

    @on(Composer.PreviewAsked)
    def _preview(self, event: Composer.PreviewAsked) -> None:
        from localllm_tui.screens.preview import PreviewScreen

        def then(what: str | None) -> None:
            self.composer.settle(event.holding, what or "")

        self.app.push_screen(PreviewScreen(event.holding.name, event.holding.attachments), then)
