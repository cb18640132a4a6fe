"""The foot of a screen: what its keys do, each a click as well. Where room is scarce whole entries go, never Back."""

from __future__ import annotations

from localllm_tui.look.dressed import KEY, keys_line
from textual.app import RenderResult
from textual.dom import DOMNode
from textual.events import Click, Mount
from textual.screen import Screen
from textual.widgets import Static


class KeysFoot(Static):
    """The keys of `owners`, classes that declare bindings, as far as they do something now."""

    DEFAULT_CSS = "KeysFoot { height: 1; color: $text-muted; }"

    def __init__(self, *owners: type[DOMNode], id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes, markup=False)
        self._owners = owners

    def on_mount(self, event: Mount) -> None:
        """Follow what can be done."""
        del event
        self.screen.bindings_updated_signal.subscribe(self, self._changed)

    def _changed(self, screen: Screen[object]) -> None:
        del screen
        self.refresh()

    def on_click(self, event: Click) -> None:
        """As by the key."""
        if key := event.style.meta.get(KEY):
            event.stop()
            self.app.simulate_key(key)

    def render(self) -> RenderResult:
        """See Widget."""
        does = {active.binding.id for active in self.screen.active_bindings.values() if active.enabled}
        return keys_line(self._owners, self.app, columns=self.content_size.width, does=does)
