"""ChatApp: wires Backend, history and screens together. What happens in a conversation is the chat screen's matter."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from localllm_tui.history.errors import HistoryError, is_damaged
from localllm_tui.history.history import History
from localllm_tui.look.dressed import DressedApp
from localllm_tui.options import ChatOptions
from localllm_tui.screens.chat import ChatScreen
from localllm_tui.turns.turn import words

from localllm.api import Backend
from localllm.errors import LocalLLMError
from localllm.terminal_text import safe_line, safe_stream

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
    COMMANDS: ClassVar[set[type[Provider] | Callable[[], type[Provider]]]] = {_chat_commands}

    def __init__(self, make_backend: Callable[[], Backend], options: ChatOptions) -> None:
        super().__init__(options.settings)
        self.options = options
        self.history: History
        self.toolbox: Toolbox
        self._make_backend = make_backend
        self._backend: asyncio.Future[Backend] | None = None
        self._chat: ChatScreen | None = None
        self._lent: tempfile.TemporaryDirectory[str] | None = None

    async def backend(self) -> Backend:
        """The Backend, once it is made; raises what making it raised. The next call then tries again."""
        made = self._backend
        if made is None or (made.done() and (made.cancelled() or made.exception() is not None)):
            made = self._backend = asyncio.ensure_future(asyncio.to_thread(self._make_backend))
        return await asyncio.shield(made)

    def on_mount(self) -> None:
        """First the screen, then what takes time."""
        self._open(self.options.database)
        self.call_after_refresh(lambda: self.run_worker(self._make_ready(), group="backend"))

    def _open(self, database: Path) -> None:
        try:
            self.history = History(database)
        except HistoryError as exc:
            from localllm_tui.screens.opening import OpeningScreen

            self.push_screen(OpeningScreen(exc, can_salvage=is_damaged(exc)), self._go_on)
            return
        from localllm_tui.tools.toolbox import Toolbox

        self.toolbox = Toolbox()
        self._chat = ChatScreen(self.history, self.backend, self.options, self.toolbox)
        self.push_screen(self._chat)
        self.call_after_refresh(self._chat.start_tools)

    def _go_on(self, way: str | None) -> None:
        """What a person chose where the conversations could not be opened."""
        match way:
            case "again":
                self._open(self.options.database)
            case "salvage":
                self._salvage()
            case "without":
                self._lent = tempfile.TemporaryDirectory(prefix="localllm-chat-", ignore_cleanup_errors=True)
                self._open(Path(self._lent.name) / "chat.db")
            case _:
                self.exit(return_code=1)

    def _salvage(self) -> None:
        from localllm_tui.history.salvage import salvage, set_aside

        try:
            damaged = set_aside(self.options.database)
            self._open(self.options.database)
            taken = salvage(damaged, self.history)
        except HistoryError as exc:
            self.notify(safe_stream(words(exc)), severity="error", markup=False)
            return
        self.notify(
            f"Carried over: {len(taken.conversations)} conversations. The damaged file is {safe_line(str(damaged))}.",
            markup=False,
            timeout=20,
        )

    async def _make_ready(self) -> None:
        """Make the Backend while the person begins to type; what fails is said, and again when it is needed."""
        try:
            await self.backend()
        except LocalLLMError as exc:
            self.notify(safe_stream(words(exc)), severity="error", markup=False, timeout=8)
        # What starting up made stays. Looking through it for garbage again and again holds up keys, 50 ms a time.
        gc.freeze()

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
            with contextlib.suppress(LocalLLMError):
                await (await self._backend).close()
        if self._lent is not None:
            self._lent.cleanup()
