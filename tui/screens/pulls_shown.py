"""The part of a screen that shows models on their way, and lets them wait and go on."""

from __future__ import annotations

from localllm_tui.screens.pull import Pull, Pulls
from localllm_tui.turns.turn import words
from localllm_tui.widgets.pull_row import PullRow
from textual import on
from textual.containers import Vertical
from textual.screen import Screen

from localllm.errors import LocalLLMError

# How often a pull's figures are drawn.
DRAW_S = 0.15


class PullsShown(Screen[str | None]):
    """Needs a Vertical `#models-pulls` on it. `pulls` outlive this screen."""

    DEFAULT_CSS = """
    PullsShown #models-pulls { height: auto; max-height: 40%; padding: 1 1 0 1; display: none; }
    PullsShown #models-pulls.-shown { display: block; }
    PullsShown.-narrow PullRow { layout: vertical; }
    PullsShown.-narrow PullRow _Line { width: 100%; }
    """

    def __init__(self, pulls: Pulls) -> None:
        super().__init__()
        self.pulls = pulls
        self._changed: set[str] = set()
        self._states: dict[str, str] = {}

    def say(self, text: str) -> None:
        """A line for the person."""
        raise NotImplementedError

    def refresh_models(self) -> object:
        """A model has come."""
        raise NotImplementedError

    def show_models(self) -> None:
        """Another one is on its way, or one no longer."""
        raise NotImplementedError

    def show_pulls(self) -> None:
        """Follow them from now on."""
        self.pulls.listeners.append(self._pull_changed)
        self._changed.update(pull.name for pull in self.pulls.all())
        self.set_interval(DRAW_S, self._draw_pulls)

    def on_unmount(self) -> None:
        """They go on unseen."""
        if self._pull_changed in self.pulls.listeners:
            self.pulls.listeners.remove(self._pull_changed)

    def fetch(self, name: str) -> None:
        """Begin, go on, or try again."""
        try:
            self.pulls.start(name)
        except LocalLLMError as exc:
            self.say(words(exc))

    @on(PullRow.Asked)
    def _asked(self, event: PullRow.Asked) -> None:
        self.wish(event.name, event.wish)

    def wish(self, name: str, wish: str) -> None:
        """Let a pull go on or wait, or take it off the list."""
        match wish:
            case "resume":
                self.fetch(name)
            case "pause":
                self.run_worker(self.pulls.pause(name), group="pull")
            case _:
                self.run_worker(self.pulls.drop(name), group="pull")

    def _pull_changed(self, pull: Pull) -> None:
        self._changed.add(pull.name)
        if self._states.get(pull.name) != pull.state:
            self._states[pull.name] = pull.state
            self.show_models()
        if pull.state == "done" and pull.task is not None and pull.error is None:
            self.refresh_models()

    def _draw_pulls(self) -> None:
        """Draw what has changed since; a rate changes without news, too."""
        changed, self._changed = self._changed, set()
        for pull in self.pulls.all():
            if pull.name in changed or pull.state == "running":
                self._draw_pull(pull)
        place = self.query_one("#models-pulls", Vertical)
        for shown in place.query(PullRow):
            if self.pulls.get(shown.pull_name) is None:
                shown.remove()
        place.set_class(bool(self.pulls.all()), "-shown")
        if changed:
            self.refresh_bindings()

    def _draw_pull(self, pull: Pull) -> None:
        place = self.query_one("#models-pulls", Vertical)
        shown = next((found for found in place.query(PullRow) if found.pull_name == pull.name), None)
        if shown is None:
            shown = PullRow(pull.name)
            place.mount(shown)
        if not shown.is_ready:
            self._changed.add(pull.name)  # drawn once it is there
        else:
            shown.show(pull.state, pull.words(), pull.share, pull.trouble())
