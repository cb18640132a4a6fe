"""One of several answers to the same question: who answers, the text as it comes, its figures below."""

from __future__ import annotations

from localllm_tui.history.values import Node
from localllm_tui.look.names import shown_model, tooltip
from localllm_tui.turns.gauges import Gauges
from localllm_tui.turns.meter import figures_of
from localllm_tui.turns.watcher import CallState
from localllm_tui.widgets.gauge_bar import GaugeBar
from localllm_tui.widgets.transcript import Transcript
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from localllm.api import Event, Progress, Queued, ReasoningDelta, TextDelta, ToolCall
from localllm.errors import LocalLLMError
from localllm.terminal_text import safe_line


class AnswerColumn(Vertical):
    """A Watcher of one turn. `node` is the answer as it is known."""

    DEFAULT_CSS = """
    AnswerColumn { width: 1fr; height: 1fr; }
    AnswerColumn .who { height: 1; padding: 0 3; text-style: bold; }
    AnswerColumn Transcript { height: 1fr; }
    AnswerColumn TurnHead { display: none; }
    AnswerColumn.-complete TurnFoot { display: none; }
    """

    def __init__(self, model: str) -> None:
        super().__init__()
        self.model = model
        self.node: Node | None = None
        self._shown = Gauges(doing="waiting")

    def compose(self) -> ComposeResult:
        """From the top."""
        yield Static(shown_model(self.model), classes="who", markup=False).with_tooltip(tooltip(self.model))
        yield Transcript()
        yield GaugeBar()

    def on_mount(self) -> None:
        """Nothing came yet."""
        self._gauges(self._shown)

    @property
    def text(self) -> str:
        """What the answer says, as far as it is seen."""
        view = self.query_one(Transcript).view(self.node.id) if self.node is not None else None
        return "" if view is None else view.plain_text()

    # --- Watcher ------------------------------------------------------------------------------------------------------

    def began(self, node: Node) -> None:
        """The answer has its place."""
        self.node = node
        self.query_one(Transcript).append(node)
        self._gauges(Gauges(doing="waiting"))

    def came(self, node_id: int, event: Event) -> None:
        """More of it."""
        view = self.query_one(Transcript).view(node_id)
        match event:
            case Progress():
                self._gauges(Gauges(progress=event))
            case Queued():
                self._gauges(Gauges(queued=event))
            case TextDelta() if view is not None:
                view.append_text(event.text)
                self._gauges(Gauges(doing="answering"))
            case ReasoningDelta() if view is not None:
                view.append_reasoning(event.text)
                self._gauges(Gauges(doing="thinking"))

    def call(self, node_id: int, call: ToolCall, state: CallState, result: str | None) -> None:
        """No tools run here."""

    def ended(self, node: Node) -> None:
        """Its last word."""
        self.node = node
        self.set_class(node.state == "complete", "-complete")
        if (view := self.query_one(Transcript).view(node.id)) is not None:
            view.show(node)
        doing = {"stopped": "stopped", "failed": "failed"}.get(node.state, "")
        self._gauges(Gauges(doing=doing, **figures_of(node.stats)))

    def not_kept(self, error: LocalLLMError) -> None:
        """Said; the answer goes on."""
        self.notify(safe_line(error.message), severity="error", markup=False)

    def _gauges(self, gauges: Gauges) -> None:
        self._shown = gauges
        self.query_one(GaugeBar).show(gauges)
