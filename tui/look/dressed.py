"""An app with the chat's looks and keys: themes, no colour, plain mode, wide and narrow, a person's key map."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Container, Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

from localllm_tui.look import keymap
from localllm_tui.look.themes import DARK, MONO, counterpart, themes
from localllm_tui.options import ChatSettings
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.filter import LineFilter, NoColor
from textual.screen import Screen
from textual.style import Style

if TYPE_CHECKING:
    from textual.dom import DOMNode

NARROW_COLUMNS = 80
_ENDLESS = 1 << 20
_LOOK_S = 2.0
_FOOT_GAP = "   "
KEY = "key"  # in the style of an entry of a foot: the key that a click on it stands for


class DressedApp(App[int]):
    """What every screen of the chat looks like.

    The app's class `-plain` means: no boxes, no animation, words for states. A screen is `-narrow` or `-wide`.
    """

    BINDING_GROUP_TITLE = keymap.EVERYWHERE
    COMMAND_PALETTE_BINDING = "ctrl+p"
    COMMAND_PALETTE_DISPLAY = "Ctrl+P"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f1", "help", "Keys and commands", id="app.help", priority=True),
        Binding("f2", "toggle_light", "Light or dark", id="app.light", show=False),
        Binding("f8", "toggle_mouse", "Let the terminal select text, or the chat again", id="app.mouse", show=False),
        Binding("ctrl+p", "command_palette", "All commands", id="app.palette", priority=True, system=True),
        Binding("ctrl+q", "quit", "Leave", id="app.quit", priority=True, show=False),
    ]

    def __init__(self, settings: ChatSettings) -> None:
        super().__init__()
        self.look = settings
        self.keys_in_force = dict(settings.keys)
        self._has_mouse = True
        for theme in themes():
            self.register_theme(theme)
        if self.no_color or settings.plain:
            self.theme = MONO
        else:
            self.theme = settings.theme if settings.theme in self.available_themes else DARK
        if settings.plain:
            self.animation_level = "none"
            self.add_class("-plain")
        self.HORIZONTAL_BREAKPOINTS = _breakpoints("narrow" if settings.plain else settings.layout)
        if settings.keys:
            self.set_keymap(settings.keys)

    def on_mount(self) -> None:
        """Once the first frame is seen."""
        self.call_after_refresh(self._seen)
        if not self.is_headless and not self.is_web and _has_terminal():
            self.set_interval(_LOOK_S, self._leave_without_terminal)

    def _seen(self) -> None:
        if not gc.isenabled():
            # The command turned it off to start sooner. What is there stays: collections pass it over from now on.
            gc.freeze()
            gc.enable()
        self.say_of_settings()

    def _leave_without_terminal(self) -> None:
        """End with the terminal, also where its end is no signal: nobody could do so any more."""
        if not _has_terminal():
            self.exit()

    @property
    def is_plain(self) -> bool:
        """Whether words take the place of boxes, marks and movement."""
        return self.look.plain

    def get_line_filters(self) -> Sequence[LineFilter]:
        """See App. Without colour means without: also of code and of whatever a widget draws itself."""
        filters = list(super().get_line_filters())
        if self.theme == MONO and not any(isinstance(one, NoColor) for one in filters):
            filters.append(NoColor())
        return filters

    def watch_theme(self, name: str) -> None:
        """Styles ask for `:nocolor` where colour alone would say something."""
        self.no_color = name == MONO or "NO_COLOR" in os.environ

    def say_of_settings(self) -> None:
        """Tell what of chat.toml could not be followed."""
        if self.look.theme not in self.available_themes:
            self.notify(
                f"There is no theme {self.look.theme!r}; the palette lists them.", severity="warning", markup=False
            )
        if self.look.keys:
            self.run_worker(self._say_of_keys, thread=True, group="keys")

    def _say_of_keys(self) -> None:
        for words in keymap.warnings(self.look.keys, keymap.all_owners()):
            self.call_from_thread(self.notify, words, severity="warning", markup=False, timeout=10)

    def places(self) -> tuple[keymap.Place, ...]:
        """Where keys do something now, the place with the focus first, and the keys that hold everywhere last."""
        screen = self.screen
        focused = list(screen.focused.ancestors_with_self) if screen.focused is not None else []
        nodes: list[DOMNode] = [*focused, *screen.walk_children(), screen, self]
        return keymap.places_of(nodes, self.keys_in_force)

    def action_toggle_light(self) -> None:
        """Light instead of dark, and back."""
        self.theme = counterpart(self.theme)

    def action_toggle_mouse(self) -> None:
        """Leave the mouse to the terminal, which can then select and copy by itself; or take it back."""
        driver = self._driver
        if driver is None:
            return
        self._has_mouse = not self._has_mouse
        (driver._enable_mouse_support if self._has_mouse else driver._disable_mouse_support)()  # type: ignore[attr-defined]
        driver.flush()
        if self._has_mouse:
            self.notify("The mouse is the chat's again.", markup=False)
        else:
            self.notify("The mouse is the terminal's: drag to select. The same key ends it.", markup=False, timeout=8)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """See App: themes and leaving. What keys and slash commands do is in `screens/palette.py`."""
        yield SystemCommand("Theme", "Choose the colours", self.action_change_theme)
        yield SystemCommand("Light or dark", "Switch between them", self.action_toggle_light)
        yield SystemCommand("Leave", "End the chat; everything is kept", self.action_quit)
        if screen.maximized is not None:
            yield SystemCommand("Minimize", "Restore the layout", screen.action_minimize)


def keys_line(
    owners: Sequence[type[DOMNode]], app: App[object], *, columns: int, does: Container[str | None]
) -> Content:
    """The keys of a screen in one line of `columns`, as they are in force: for its foot.

    Only those whose ids are in `does`. What does not fit is left out whole, the last first; the way back stays.
    """
    keys = app.keys_in_force if isinstance(app, DressedApp) else {}
    places = [place for owner in owners if (place := keymap.place_of(owner, keys)) is not None]
    kept = [binding for place in places for binding in place.bindings if binding.show and binding.id in does]
    while len(kept) > 1 and sum(len(_foot_words(binding)) + len(_FOOT_GAP) for binding in kept) > columns + 3:
        del kept[next((at for at in reversed(range(len(kept))) if kept[at].description != "Back"), -1)]
    pieces: list[Content] = []
    for binding in kept:
        key, _, does_what = _foot_words(binding).partition(" ")
        words = Content.assemble((key, "$accent"), (f" {does_what}{_FOOT_GAP}", "$text-muted"))
        pieces.append(words.stylize(Style.from_meta({KEY: _first(binding)})))
    return Content.assemble(*pieces)


def _first(binding: Binding) -> str:
    return binding.key.partition(",")[0]


def _foot_words(binding: Binding) -> str:
    return f"{keymap.key_words(_first(binding))} {binding.description}"


def key_of(app: App[object], binding_id: str) -> str:
    """The key of a binding as this person has it, in words: for whatever names a key."""
    return keymap.key_of(binding_id, app.keys_in_force if isinstance(app, DressedApp) else {})


def _has_terminal() -> bool:
    try:
        return sys.__stdin__ is not None and sys.__stdin__.isatty()
    except (OSError, ValueError):
        return False


def _breakpoints(layout: str) -> list[tuple[int, str]]:
    if layout == "narrow":
        return [(0, "-narrow"), (_ENDLESS, "-wide")]
    if layout == "wide":
        return [(0, "-wide")]
    return [(0, "-narrow"), (NARROW_COLUMNS, "-wide")]
