"""What is seen where nothing has been said yet: a few words on how to begin."""

from __future__ import annotations

from textual.app import RenderResult
from textual.content import Content
from textual.widget import Widget

_LINES = (
    ("Enter", "sends"),
    ("@", "attaches a file"),
    ("/", "lists the commands"),
    ("Ctrl+P", "finds everything"),
    ("F1", "shows the keys"),
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
        lines = [Content.assemble((f"{key:>8}", "$foreground"), f"   {words:<20}") for key, words in _LINES]
        return Content("\n").join([head, Content(""), *lines])
