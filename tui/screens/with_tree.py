"""What a person does about branches and tools while they talk: look at all of them, go to another one, allow some."""

from __future__ import annotations

from typing import ClassVar

from localllm_tui.look.dressed import key_of
from localllm_tui.screens.whole import WholeScreen
from localllm_tui.turns.reply import Tools
from localllm_tui.widgets.tool_card import ToolCard
from textual import on, work
from textual.binding import Binding, BindingType

from localllm.api import ToolChoice
from localllm.errors import LocalLLMError
from localllm.terminal_text import safe_stream


class WithTree(WholeScreen):
    """Needs `tools` besides."""

    BINDING_GROUP_TITLE = "Branches and tools"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f5", "tree", "Tree of branches", id="chat.tree"),
        Binding("f7", "tools", "Tools", id="chat.tools"),
        Binding("ctrl+t", "answer_tool", "Answer a tool that asks", id="chat.tool", show=False),
    ]

    tools: Tools | None

    @work(group="start-tools", exclusive=True)
    async def start_tools(self) -> None:
        """Start the tools' servers, and say what is not there; what is there can be seen with F7."""
        from localllm_tui.tools.toolbox import Toolbox

        if not isinstance(self.tools, Toolbox):
            return
        await self.tools.start()
        await self.tools.settled()
        troubles = [self.tools.problem] if self.tools.problem else []
        troubles += [f"{one.name}: {one.words}" for one in self.tools.status() if one.state == "failed"]
        if troubles:
            title = f"Tools ({key_of(self.app, 'chat.tools')})"
            self.notify(safe_stream("\n".join(troubles)), title=title, severity="warning", markup=False)

    def asking_tool(self) -> ToolCard | None:
        """The first call of this conversation that asks a person."""
        if not self.open.is_busy:
            return None
        return next((card for card in self.query(ToolCard) if card.state == "asking"), None)

    def action_answer_tool(self) -> None:
        """Go to the call that asks; going there by itself would take a key meant for the prompt as a yes."""
        if (card := self.asking_tool()) is not None:
            card.focus()

    @on(ToolCard.Answered)
    def _next_tool(self, event: ToolCard.Answered) -> None:
        """From one that was answered to the next, and then back to the prompt."""
        asking = [card for card in self.query(ToolCard) if card.state == "asking" and card.call.id != event.call_id]
        (asking[0] if asking else self.composer).focus()

    @work(group="tree", exclusive=True)
    async def action_tree(self) -> None:
        """Every branch of this conversation; the one that is chosen there is shown."""
        from localllm_tui.screens.tree import TreeScreen

        opened = self.open
        if not opened.id:
            self.say("The tree begins with the first message.")
            return
        selected = self._selected_turn()
        chosen = await self.app.push_screen_wait(TreeScreen(self.history, opened.id, cursor=selected))
        if chosen is None:
            return
        try:
            if chosen.conversation != opened.id:
                self.show_conversation(chosen.conversation)
            elif chosen.leaf != (opened.path[-1].id if opened.path else None):
                opened.go_to_leaf(chosen.leaf)
        except LocalLLMError as exc:
            self.say_error(exc)

    def _selected_turn(self) -> int | None:
        from localllm_tui.widgets.transcript import Transcript

        view = self.query_one(Transcript).selected
        return view.node.id if view is not None else None

    def action_use(self, name: str = "") -> None:
        """The next answer has to call this tool, or any: the engine allows it nothing else."""
        offered = [spec.name for spec in self.open.specs()]
        meant = [one for one in offered if name in (one, one.partition("__")[2])] if name else offered
        if not meant:
            none = f"No tools are offered here; {key_of(self.app, 'chat.tools')} shows why."
            words = f"Offered here: {', '.join(offered)}." if offered else none
            self.say(f"There is no tool {name}. {words}" if name else words)
            return
        self.open.choice = ToolChoice("required", tuple(meant) if name else ())
        self.say(f"The next answer calls {' or '.join(meant) if name else 'a tool'}.")

    def action_tools(self) -> None:
        """The tools that models may call here."""
        from localllm_tui.screens.tools import ToolsScreen
        from localllm_tui.tools.toolbox import Toolbox

        if not isinstance(self.tools, Toolbox):
            self.say("There are no tools here.")
            return

        self.app.push_screen(ToolsScreen(self.tools, self.open.id))
