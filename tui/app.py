"""ChatApp: wires Backend, history and screens together. What happens in a conversation is the chat screen's matter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from localllm_tui.history.history import History
from localllm_tui.look.dressed import DressedApp
from localllm_tui.options import ChatOptions
from localllm_tui.screens.chat import ChatScreen

from localllm.api import Backend

if TYPE_CHECKING:
    from localllm_tui.tools.toolbox import Toolbox
    from textual.command import Provider


def _chat_commands() -> type[Provider]:
    from localllm_tui.screens.palette import ChatCommands

    return ChatCommands


class ChatApp(DressedApp):
    """The terminal chat. `make_backend` is called in a thread once the first frame is on the screen."""

    TITLE = "localllm"
    CSS_PATH = "app.tcss"
    COMMANDS = DressedApp.COMMANDS | {_chat_commands}

    def __init__(self, make_backend: Callable[[], Backend], options: ChatOptions) -> None:
        super().__init__(options.settings)
        self.options = options
        self.history: History
        self.toolbox: Toolbox
        self._make_backend = make_backend
        self._backend: asyncio.Future[Backend] | None = None
        self._chat: ChatScreen | None = None

    async def backend(self) -> Backend:
        """The Backend, once it is made; raises what making it raised."""
        if self._backend is None:
            self._backend = asyncio.ensure_future(asyncio.to_thread(self._make_backend))
        return await asyncio.shield(self._backend)

    def on_mount(self) -> None:
        """First the screen, then what takes time."""
        self.history = History(self.options.database)
        from localllm_tui.tools.toolbox import Toolbox

        self.toolbox = Toolbox()
        self._chat = ChatScreen(self.history, self.backend, self.options, self.toolbox)
        self.push_screen(self._chat)
        self.call_after_refresh(self.backend)
        self.call_after_refresh(self.toolbox.start)

    def action_help(self) -> None:
        """F1."""
        from localllm_tui.screens.help import HelpScreen

        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen(self.places()))

    def exit(self, *args: Any, **kwargs: Any) -> None:
        """Keep what is in the prompt while it is there."""
        if self._chat is not None and self._chat.is_mounted:
            self._chat.save_draft()
        super().exit(*args, **kwargs)

    async def on_unmount(self) -> None:
        """Keep what came of answers under way, and end what the Backend runs."""
        if self._chat is not None:
            await self._chat.close()
            await self.toolbox.close()
            self.history.close()
        if self._backend is not None:
            await (await self._backend).close()
