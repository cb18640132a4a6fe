"""Long work shown on standard error: a bar on a terminal, one line at start and end elsewhere.

A bar appears only once the work has taken a moment, so that a warm start pays nothing for it (rich is imported then).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from localllm import terminal_text as text

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

    from localllm.api import Backend, Progress
    from localllm.cli.output import Output

BAR_AFTER_S = 0.3
_VERBS = {
    "resolve": ("looking up", "found"),
    "download": ("downloading", "downloaded"),
    "verify": ("verifying", "verified"),
    "load": ("loading", "loaded"),
}
_NARROW = 60


class ProgressView:
    """Shows Progress events as they come. `close` before anything else is written; more events may follow."""

    def __init__(self, output: Output, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._output = output
        self._clock = clock
        self._bars: Bars | None = None
        self._tasks: dict[tuple[str, str], tuple[int, float | None]] = {}
        self._since: dict[tuple[str, str], float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def update(self, event: Progress) -> None:
        """Show one event."""
        if self._output.quiet:
            return
        key = (event.stage, event.detail)
        started = self._since.setdefault(key, self._clock())
        if self._output.err_is_tty and self._output.colour(self._output.err):
            if self._bars is not None or self._clock() - started >= BAR_AFTER_S:
                self._show(key, event)
        elif event.stage != "load":
            self._tell(key, event, self._clock() - started)

    def close(self) -> None:
        """Take the bars off the screen."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
            self._tasks.clear()

    def _show(self, key: tuple[str, str], event: Progress) -> None:
        if self._bars is None:
            self._output.flush()
            self._bars = _make_bars(self._output)
            self._bars.start()
        task, total = self._tasks.get(key, (None, None))
        title = f"{_VERBS[event.stage][0]} {text.safe_line(event.detail)}".strip()
        if task is None:
            task = self._bars.add_task(text.cut(title, max(12, self._output.columns() // 3)), total=event.total)
        self._tasks[key] = (task, event.total)
        self._bars.update(task, completed=event.done, total=event.total if event.total is not None else total)  # type: ignore[arg-type]

    def _tell(self, key: tuple[str, str], event: Progress, seconds: float) -> None:
        verb, past = _VERBS[event.stage]
        task = self._tasks.get(key)
        if task is None:
            self._tasks[key] = (0, event.total)
            amount = f" ({text.size(event.total)})" if event.total and event.unit == "bytes" else ""
            self._output.note(f"{verb} {event.detail}{amount}".replace("  ", " "))
        finished = event.total is not None and event.done >= event.total
        if finished and self._tasks[key][0] == 0:
            self._tasks[key] = (1, event.total)
            self._output.note(f"{past} {event.detail} in {seconds:.1f} s".replace("  ", " "))


async def show_load(backend: Backend, output: Output, model: str) -> None:
    """Bring a model into memory, with progress and notices on standard error."""
    from localllm.api import Notice

    with ProgressView(output) as view:
        async for event in backend.load(model):
            if isinstance(event, Notice):
                view.close()
                output.note(f"note: {event.message}")
            else:
                view.update(event)


def _make_bars(output: Output) -> Bars:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = [
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.percentage:>3.0f}%"),
    ]
    if output.columns() >= _NARROW:
        columns += [DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()]
    console = Console(file=output.err, width=output.columns(), highlight=False)
    return Progress(*columns, console=console, transient=True)
