"""The daemon that answers: who asks it, how fast it is, what its memory holds, its log; requests can be steered."""

from __future__ import annotations

import asyncio
import textwrap
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import ClassVar

from localllm_tui.screens.server_figures import TokenRate, head_line, model_lines
from localllm_tui.widgets.chart import Chart
from localllm_tui.widgets.keys_foot import KeysFoot
from localllm_tui.widgets.request_table import RequestTable
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.screen import Screen
from textual.widgets import Log, Static

from localllm.api import Backend, Control, Status
from localllm.api.watched import Watched
from localllm.errors import LocalLLMError
from localllm.terminal_text import safe_line, safe_stream

_LOOK_S = 1.0
_LOG_EVERY = 3
_AGAIN_S = 2.0
_NUM_SECONDS = 600


class ServerScreen(Screen[None]):
    """Everything here is what the daemon said lately; what it does not say is not shown."""

    BINDING_GROUP_TITLE = "In the server's screen"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "close", "Back", id="server.close"),
        Binding("s,delete", "stop", "Stop this request", id="server.stop"),
        Binding("p", "first", "Let this request pass all that wait", id="server.first"),
    ]
    SCOPED_CSS = False  # `-plain` is a class of the app, which is above what a scope reaches
    DEFAULT_CSS = """
    ServerScreen { padding: 1 2 0 2; }
    ServerScreen VerticalScroll { height: 1fr; }
    ServerScreen .title { color: $text-muted; margin: 1 0 0 0; }
    ServerScreen #server-head { height: 1; text-style: bold; }
    ServerScreen #server-trouble { height: auto; color: $error; display: none; }
    ServerScreen #server-trouble.-shown { display: block; }
    ServerScreen #server-speed { height: 4; }
    ServerScreen #server-rate { width: 20; height: 4; content-align: left bottom; }
    ServerScreen #server-models { height: auto; }
    ServerScreen #server-none { height: auto; color: $text-muted; display: none; }
    ServerScreen Log { height: auto; min-height: 4; max-height: 16; background: $background; color: $text-muted; }
    ServerScreen.-narrow { padding: 0 1; }
    ServerScreen.-narrow #server-rate { width: 12; }
    .-plain ServerScreen #server-speed { height: 1; }
    .-plain ServerScreen #server-rate { display: none; }
    """

    def __init__(self, backend: Callable[[], Awaitable[Backend]]) -> None:
        super().__init__()
        self._backend = backend
        self._rate = TokenRate()
        self._status: Status | None = None
        self._url = ""
        self._version: str | None = None
        self._log: list[str] = []
        self._num_looks = 0

    def compose(self) -> ComposeResult:
        """From what changes most to what changes least."""
        yield Static(id="server-head", markup=False)
        yield Static(id="server-trouble", markup=False)
        with VerticalScroll(can_focus=False):
            yield Static("Tokens per second", classes="title", markup=False)
            with Horizontal(id="server-speed"):
                yield Static(id="server-rate", markup=False)
                yield Chart("tokens a second")
            yield Static("Requests", classes="title", markup=False)
            yield Static(id="server-none", markup=False)
            yield RequestTable()
            yield Static("Memory", classes="title", markup=False)
            yield Static(id="server-models")
            yield Static("Log", classes="title", markup=False)
            yield Log(max_lines=200)
        yield KeysFoot(type(self), id="server-keys")

    def on_mount(self) -> None:
        """Listen to what it says, and look at the clock once a second."""
        self.query_one(RequestTable).focus()
        # Over the app's own rule. Long lines are reached by key and wheel; a bar would take a line.
        self.query_one(Log).styles.scrollbar_size_horizontal = 0
        self.query_one("#server-head", Static).update("…")
        self.set_interval(_LOOK_S, self._tick)
        self._listen()

    # --- what the daemon says -----------------------------------------------------------------------------------------

    @work(exclusive=True, group="server")
    async def _listen(self) -> None:
        """The stream of statuses, begun anew whenever it ends."""
        while True:
            try:
                backend = await self._backend()
                watched = backend if isinstance(backend, Watched) else None
                self._url = watched.url if watched is not None else "in this process"
                self._version = None
                if watched is not None:
                    self._version = str((await watched.props()).get("version", ""))
                async for status in watched.status() if watched is not None else _own_statuses(backend):
                    self._say_trouble("")
                    self.take(status)
                self._say_trouble("The daemon has ended. Looking for it again.")
            except LocalLLMError as exc:
                self._say_trouble(f"{exc.message}. Trying again." + (f" {exc.hint}" if exc.hint else ""))
            await asyncio.sleep(_AGAIN_S)

    def take(self, status: Status, at: float | None = None) -> None:
        """A status came."""
        self._status = status
        self._rate.take(time.monotonic() if at is None else at, status.loaded)
        self._show()

    def _say_trouble(self, words: str) -> None:
        line = self.query_one("#server-trouble", Static)
        line.set_class(bool(words), "-shown")
        line.update(safe_stream(words))
        if words:
            self._status = None
            self._show_requests()

    def _tick(self) -> None:
        now = time.monotonic()
        if self._status is not None:
            self._rate.take(now, self._status.loaded)
        rate = self._rate.at(now)
        if rate is not None:
            chart = self.query_one(Chart)
            chart.values = (*chart.values, rate)[-_NUM_SECONDS:]
            self.query_one("#server-rate", Static).update(f"{rate:.0f} tok/s")
        if self._num_looks % _LOG_EVERY == 0:
            self._read_log()
        self._num_looks += 1

    @work(exclusive=True, group="log")
    async def _read_log(self) -> None:
        backend = await self._backend()
        if not isinstance(backend, Watched):
            lines = self._wrapped("The models run in this process; there is no daemon, and no log.")
        else:
            try:
                lines = [safe_line(line) for line in await backend.log()]
            except LocalLLMError as exc:
                lines = self._wrapped(safe_line(exc.message))
        if lines != self._log:
            self._log = lines
            log = self.query_one(Log)
            log.clear()
            log.write_lines(lines)

    def _wrapped(self, words: str) -> list[str]:
        return textwrap.wrap(words, max(10, self.query_one(Log).size.width))

    # --- what is seen -------------------------------------------------------------------------------------------------

    def on_resize(self) -> None:
        """Lines are as long as there is room."""
        self._show()

    def _show(self) -> None:
        columns = max(10, self.size.width - (2 if self.has_class("-narrow") else 4))
        self.query_one("#server-head", Static).update(head_line(self._url, self._version, self._status, columns))
        self._show_requests()
        if self._status is None:
            return
        lines = model_lines(self._status.loaded, columns - 1, plain=self.app.has_class("-plain"))
        self.query_one("#server-models", Static).update(lines)

    def _show_requests(self) -> None:
        """A row each, or that there are none. What runs in this process is counted, not listed."""
        status, none = self._status, self.query_one("#server-none", Static)
        self.query_one(RequestTable).show(status.requests if status is not None else ())
        none.display = status is not None and not status.requests
        if status is not None:
            none.update(f"{status.num_active} under way." if status.num_active else "Nothing runs.")

    # --- what a person does -------------------------------------------------------------------------------------------

    def action_close(self) -> None:
        """Back to the chat."""
        self.dismiss()

    def action_stop(self) -> None:
        """End the chosen request; what came of its answer stays with its client."""
        self._steer("stop")

    def action_first(self) -> None:
        """Let the chosen request pass."""
        self._steer("first")

    @work
    async def _steer(self, control: Control) -> None:
        request = self.query_one(RequestTable).chosen
        if request is None:
            self.notify("There is no request to choose.", markup=False)
        elif request.id is None:
            self.notify("That request is another client's.", severity="warning", markup=False)
        elif control == "first" and request.state == "running":
            self.notify("It runs already.", markup=False)
        else:
            try:
                done = await (await self._backend()).control(request.id, control)
            except LocalLLMError as exc:
                self.notify(safe_stream(exc.message), severity="error", markup=False)
                return
            words = {"stop": "It is stopped.", "first": "It is next."}[control] if done else "It has ended already."
            self.notify(words, markup=False)


async def _own_statuses(backend: Backend) -> AsyncIterator[Status]:
    """What a Backend of this process can say."""
    while True:
        loaded = tuple(await backend.list_loaded())
        yield Status(loaded, (), sum(model.num_active for model in loaded), 0)
        await asyncio.sleep(_LOOK_S)
