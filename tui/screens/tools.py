"""Tools: which servers there are and how they stand, what their tools do, which are offered, which may run unasked."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from localllm_tui.tools.toolbox import Toolbox
from localllm_tui.tools.values import ServerStatus, ToolState
from localllm_tui.widgets.keys_foot import KeysFoot
from localllm_tui.widgets.quiet import QuietList
from localllm_tui.widgets.tool_lines import about_server, about_tool, nothing_yet, server_line, tool_line
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from localllm.errors import LocalLLMError
from localllm.terminal_text import safe_line, safe_stream, width

_LOOK_S = 0.4
_NAME_COLUMNS = 28
_LOG_LINES = 100

Seen = tuple[str | None, tuple[ServerStatus, ...], tuple[ToolState, ...]]


class ToolsScreen(Screen[None]):
    """The toolbox, as one conversation sees it; conversation 0 stands for new ones."""

    BINDING_GROUP_TITLE = "In the tools' screen"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "close", "Back", id="tools.close"),
        Binding("space", "switch", "On or off", id="tools.switch"),
        Binding("a", "chat", "Allow in this chat", id="tools.chat"),
        Binding("A", "always", "Always", id="tools.always"),
        Binding("x,delete", "revoke", "Ask again", id="tools.revoke"),
        Binding("s", "restart", "Restart", id="tools.restart"),
        Binding("r", "reload", "Reload", id="tools.reload"),
    ]
    DEFAULT_CSS = """
    ToolsScreen { padding: 1 2 0 2; }
    ToolsScreen #tools-head { height: 1; margin: 0 0 1 0; }
    ToolsScreen #tools-trouble { height: auto; color: $error; margin: 0 0 1 0; display: none; }
    ToolsScreen #tools-trouble.-shown { display: block; }
    ToolsScreen Horizontal { height: 1fr; }
    ToolsScreen QuietList { width: 1fr; height: 1fr; }
    ToolsScreen QuietList > .option-list--option { padding: 0; }
    ToolsScreen.-empty QuietList { display: none; }
    ToolsScreen.-empty #tools-about { width: 100%; height: 100%; padding: 0; border: none; }
    ToolsScreen #tools-about { width: 48%; padding: 0 2; border-left: solid $panel; }
    ToolsScreen #tools-about Static { height: auto; }
    ToolsScreen.-narrow { padding: 0; }
    ToolsScreen.-narrow Horizontal { layout: vertical; }
    ToolsScreen.-narrow #tools-about {
        width: 100%; height: 40%; border-left: none; border-top: solid $panel; padding: 0;
    }
    """

    def __init__(self, toolbox: Toolbox, conversation: int = 0) -> None:
        super().__init__()
        self._toolbox = toolbox
        self._conversation = conversation
        self._seen: Seen | None = None
        self._rows: list[ServerStatus | ToolState] = []

    def compose(self) -> ComposeResult:
        """Servers with their tools, and what is known of the one that is chosen."""
        yield Static(id="tools-head", markup=False)
        yield Static(id="tools-trouble", markup=False)
        with Horizontal():
            yield QuietList(markup=False)
            with VerticalScroll(id="tools-about", can_focus=False):
                yield Static(id="tools-one", markup=False)
        yield KeysFoot(type(self), id="tools-keys")

    def on_mount(self) -> None:
        """Look now and then: servers come and go by themselves."""
        whose = "in this conversation" if self._conversation else "in new conversations"
        head = Content.assemble(
            ("Tools", "bold"), (f"   {whose} · {safe_line(str(self._toolbox.file))}", "$text-muted")
        )
        self.query_one("#tools-head", Static).update(head)
        self._look()
        self.set_interval(_LOOK_S, self._look)
        self.query_one(OptionList).focus()

    def _look(self) -> None:
        box = self._toolbox
        seen = (box.problem, box.status(), box.tools(self._conversation))
        if seen != self._seen:
            self._seen = seen
            self._show(*seen)
        self._show_one()

    def _show(self, problem: str | None, servers: tuple[ServerStatus, ...], tools: tuple[ToolState, ...]) -> None:
        trouble = self.query_one("#tools-trouble", Static)
        trouble.set_class(problem is not None, "-shown")
        trouble.update(safe_stream(problem or ""))
        columns = min(_NAME_COLUMNS, max((width(safe_line(state.tool.own_name)) for state in tools), default=0))
        self._rows, options = [], []
        for status in servers:
            self._rows.append(status)
            options.append(Option(server_line(status)))
            for state in tools:
                if state.tool.server == status.name:
                    self._rows.append(state)
                    options.append(Option(tool_line(state, columns)))
        self.set_class(not options, "-empty")
        view = self.query_one(OptionList)
        before = view.highlighted
        view.clear_options().add_options(options)
        if options:
            view.highlighted = min(before or 0, len(options) - 1)

    @on(OptionList.OptionHighlighted)
    def _highlighted(self) -> None:
        self._show_one()
        self.query_one("#tools-about").scroll_home(animate=False)

    @property
    def _one(self) -> ServerStatus | ToolState | None:
        index = self.query_one(OptionList).highlighted
        return self._rows[index] if index is not None and index < len(self._rows) else None

    def _show_one(self) -> None:
        match self._one:
            case ServerStatus() as status:
                about = about_server(status, self._toolbox.log(status.name)[-_LOG_LINES:])
            case ToolState() as state:
                about = about_tool(state)
            case _:
                about = nothing_yet(str(self._toolbox.file))
        one = self.query_one("#tools-one", Static)
        if one.content != about:
            one.update(about)

    @on(OptionList.OptionSelected)
    def _selected(self) -> None:
        self.action_switch()

    # --- what a person does -------------------------------------------------------------------------------------------

    def action_switch(self) -> None:
        """Offer this tool, or do not."""
        self._do(lambda state: self._toolbox.switch(self._conversation, state.tool.name, not state.is_on))

    def action_always(self) -> None:
        """This tool runs unasked, always."""
        self._do(lambda state: self._toolbox.approve(self._conversation, state.tool.name, "always"))

    def action_chat(self) -> None:
        """This tool runs unasked, in this conversation."""
        if not self._conversation:
            self.notify("The conversation has not begun; its first message makes it one.", markup=False)
            return
        self._do(lambda state: self._toolbox.approve(self._conversation, state.tool.name, "chat"))

    def action_revoke(self) -> None:
        """This tool asks again."""
        self._do(lambda state: self._toolbox.revoke(self._conversation, state.tool.name))

    def _do(self, change: Callable[[ToolState], None]) -> None:
        one = self._one
        if not isinstance(one, ToolState):
            return
        try:
            change(one)
        except LocalLLMError as exc:
            words = f"{exc.message}\n{exc.hint}" if exc.hint else exc.message
            self.notify(safe_stream(words), severity="error", markup=False)
        self._look()

    @work(group="servers")
    async def action_restart(self) -> None:
        """The server of this row ends, and starts."""
        match self._one:
            case ServerStatus() as status:
                await self._toolbox.restart(status.name)
            case ToolState() as state:
                await self._toolbox.restart(state.tool.server)
        self._look()

    @work(group="servers")
    async def action_reload(self) -> None:
        """Read the file again."""
        await self._toolbox.reload()
        self._look()

    def action_close(self) -> None:
        """Back to the chat."""
        self.dismiss(None)
