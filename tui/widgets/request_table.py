"""The requests that a daemon has under way, a row each; one is chosen by key or mouse."""

from __future__ import annotations

from rich.text import Text
from textual.widgets import DataTable

from localllm.api import RunningRequest
from localllm.terminal_text import safe_line

_COLUMNS = ("State", "Model", "Kind", "Since", "Before it", "Begins in", "Request")


class RequestTable(DataTable[Text]):
    """Rows stay where they are while their requests go on."""

    DEFAULT_CSS = """
    RequestTable { height: auto; max-height: 12; background: $background; }
    RequestTable > .datatable--header { background: $background; color: $text-muted; text-style: none; }
    RequestTable > .datatable--hover { background: $boost; }
    RequestTable > .datatable--cursor { background: $accent; color: $background; }
    RequestTable:blur > .datatable--cursor { background: $panel; color: $foreground; }
    """

    def __init__(self) -> None:
        super().__init__(cursor_type="row", zebra_stripes=False, cell_padding=1)
        self._requests: tuple[RunningRequest, ...] = ()

    def on_mount(self) -> None:
        """The heading, which is seen when there is something below it."""
        self._be_empty(True)
        for name in _COLUMNS:
            self.add_column(Text(name), key=name)

    def _be_empty(self, is_empty: bool) -> None:
        self.show_header = not is_empty
        self.styles.scrollbar_size_horizontal = 0 if is_empty else 1  # over the app's own rule

    @property
    def chosen(self) -> RunningRequest | None:
        """The request under the cursor."""
        at = self.cursor_row
        return self._requests[at] if 0 <= at < len(self._requests) else None

    def show(self, requests: tuple[RunningRequest, ...]) -> None:
        """These, in the order in which they came."""
        self._be_empty(not requests)
        at = self.cursor_row
        if len(requests) != len(self._requests):
            self.clear()
            for number, request in enumerate(requests):
                self.add_row(*cells(request), key=str(number))
            self.move_cursor(row=min(at, max(0, len(requests) - 1)))
        else:
            for number, request in enumerate(requests):
                for name, cell in zip(_COLUMNS, cells(request), strict=True):
                    self.update_cell(str(number), name, cell, update_width=True)
        self._requests = requests


def cells(request: RunningRequest) -> tuple[Text, ...]:
    """One row."""
    ahead = "" if request.num_ahead is None else str(request.num_ahead)
    eta = "" if request.eta_s is None else f"{request.eta_s:.0f} s"
    return tuple(
        Text(safe_line(words))
        for words in (
            request.state,
            request.model,
            request.kind,
            f"{request.seconds:.0f} s",
            ahead,
            eta,
            "another client's" if request.id is None else request.id,
        )
    )
