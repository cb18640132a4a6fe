"""ChatApp: wires Backend, history and screens together. What happens in a conversation is the chat screen's matter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from localllm_tui.options import ChatOptions
from localllm_tui.screens.chat import ChatScreen
from textual.app import App

from localllm.api import Backend


class ChatApp(App[int]):
    """The terminal chat. `make_backend` is called in a thread once the first frame is on the screen."""

    TITLE = "localllm"
    CSS_PATH = "app.tcss"

    def __init__(self, make_backend: Callable[[], Backend], options: ChatOptions) -> None:
        super().__init__()
        self.options = options
        self._make_backend = make_backend
        self._backend: asyncio.Future[Backend] | None = None

    async def backend(self) -> Backend:
        """The Backend, once it is made; raises what making it raised."""
        if self._backend is None:
            self._backend = asyncio.ensure_future(asyncio.to_thread(self._make_backend))
        return await asyncio.shield(self._backend)

    def on_mount(self) -> None:
        """First the screen, then what takes time."""
        self.push_screen(ChatScreen())
        self.call_after_refresh(self.backend)

    async def on_unmount(self) -> None:
        """End what the Backend runs."""
        if self._backend is not None:
            await (await self._backend).close()
