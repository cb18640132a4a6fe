"""What is seen where nothing has been said yet: a few words on how to begin."""

from __future__ import annotations

from localllm_tui.look.dressed import key_of
from textual.app import RenderResult
from textual.content import Content
from textual.widget import Widget

# What is typed, or the id of a binding; and what it does.
_LINES = (
    ("composer.send", "sends"),
    ("@", "attaches a file"),
    ("/", "lists the commands"),
    ("app.palette", "finds everything"),
    ("app.help", "shows the keys"),
)


class Welcome(Widget):
    """A name and five keys, in the middle; less where there is no room."""

    DEFAULT_CSS = """
    Welcome { height: 1fr; content-align: center middle; color: $text-muted; display: none; }
    Welcome.-shown { display: block; }
    """

    def render(self) -> RenderResult:
        """As much as fits."""
        columns, rows = self.content_size
        head = Content.styled("localllm", "bold $accent")
        if rows < len(_LINES) + 3 or columns < 28:
            return head
        keys = [(key_of(self.app, key) if "." in key else key, words) for key, words in _LINES]
        lines = [Content.assemble((f"{key:>8}", "$foreground"), f"   {words:<20}") for key, words in keys]
        return Content("\n").join([head, Content(""), *lines])
