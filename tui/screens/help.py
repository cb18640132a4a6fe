"""F1: every key and every command, made from what the app declares. Nothing is written twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from localllm_tui.look.keymap import Place, key_words
from localllm_tui.screens.commands import COMMANDS
from localllm_tui.screens.dialog import Dialog
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from localllm.terminal_text import width

_GAP = "  "
_COLUMNS = 100
_KEYS = 20
_IDS = 18


class HelpScreen(Dialog[None]):
    """What can be done here: `places`, the keys in force, each with the id by which chat.toml changes it."""

    BINDING_GROUP_TITLE = "In this help"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f1,q", "leave", "Close", id="help.close"),
    ]
    DEFAULT_CSS = """
    HelpScreen #help { width: 100; max-width: 100%; height: 90%; max-height: 100%; padding: 1 0 0 0; border: none; }
    HelpScreen #help-title { height: 2; padding: 0 3; text-style: bold; }
    HelpScreen VerticalScroll { padding: 0 3 1 3; }
    HelpScreen .section { height: auto; margin: 0 0 1 0; }
    HelpScreen.-narrow #help { height: 100%; padding: 0; }
    HelpScreen.-narrow VerticalScroll { padding: 0 1; }
    HelpScreen.-narrow #help-title { padding: 0 1; }
    """

    def __init__(self, places: Sequence[Place]) -> None:
        super().__init__()
        self._places = places

    def compose(self) -> ComposeResult:
        """Keys by place, then the commands, then the keys of any text, then how to change keys."""
        with Vertical(id="help"):
            yield Static("Keys and commands", id="help-title", markup=False)
            with VerticalScroll():
                for place in self._places:
                    yield Static(classes="section", id=_section_id(place))
                yield Static(classes="section", id="help-commands")
                yield Static(classes="section", id="help-writing")
                yield Static(_note(), classes="section")

    def on_mount(self) -> None:
        """Scrolling by keys from the start."""
        self.query_one(VerticalScroll).focus()

    def on_resize(self) -> None:
        """The rows are as wide as there is room."""
        columns = max(16, min(_COLUMNS, self.size.width) - (3 if self.has_class("-narrow") else 7))
        writing: list[tuple[str, str, str]] = []
        for place in self._places:
            rows = [(key_words(binding.key, 2), binding.description, binding.id) for binding in place.bindings]
            writing += [(keys, does, "") for keys, does, name in rows if name is None]
            own = [(keys, does, name) for keys, does, name in rows if name is not None]
            line = self.query_one(f"#{_section_id(place)}", Static)
            line.display = bool(own)
            line.update(section(place.title, own, columns, keys=_KEYS))
        line = self.query_one("#help-writing", Static)
        line.display = bool(writing)
        line.update(section("Writing", writing, columns, keys=_KEYS))
        commands = [
            (f"/{command.name} {command.takes}".rstrip(), command.help, "")
            for command in COMMANDS
            if not command.hidden
        ]
        title = "Commands, typed at the start of a message"
        self.query_one("#help-commands", Static).update(section(title, commands, columns, keys=_KEYS))


def section(title: str, rows: Sequence[tuple[str, str, str]], columns: int, *, keys: int = 0) -> Content:
    """A heading and its rows: key, what it does, its id; with little room no ids, with less two lines a row.

    `keys`: the width of the first column at least, where there is room for it.
    """
    widest = max((width(row[0]) for row in rows), default=0)
    keys, is_wide = (max(widest, keys), True) if columns > 60 else (widest, False)
    ids = max((width(row[2]) for row in rows), default=0)
    if is_wide and ids:
        ids = max(ids, _IDS)
    words = max((width(row[1]) for row in rows), default=0)
    has_ids = ids > 0 and keys + words + ids + 2 * len(_GAP) <= columns
    lines = [Content.styled(title, "bold $accent")]
    for key, does, name in rows:
        if keys + 16 > columns:
            lines.append(Content.assemble((key, "bold"), f"\n{_GAP}{does}"))
            continue
        end = (" " * (columns - keys - len(_GAP) - width(does) - ids) + name.ljust(ids), "$text-muted")
        head = key + " " * (keys - width(key)) + _GAP
        lines.append(Content.assemble((head, "bold"), does, end if has_ids else ""))
    return Content("\n").join(lines)


def _section_id(place: Place) -> str:
    return f"help-{place.owner.__name__.lower()}"


def _note() -> Content:
    from localllm import paths

    text = f'Another key, in {paths.chat_settings_file().name}:  [keys]  "app.help" = "f12"'
    return Content.styled(text, "$text-muted")
