"""One widget a text: drawn from kept lines, selected and copied as text, in the colours of the theme."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from localllm_tui.look.dressed import DressedApp
from localllm_tui.options import ChatSettings
from localllm_tui.widgets.markdown_view import MarkdownView
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.message import Message
from textual.pilot import Pilot
from textual.selection import SELECT_ALL

from tests.tui.host import run, wait_until

TEXT = """Some words that are long enough to be wrapped in a window that is narrow, and **bold** ones.

- first entry which is wrapped as well, being long
- second

```py
x = "a long line of code that has to go on in the next line of the terminal"
```
"""


class OneText(DressedApp):
    """A text in a scrolling window."""

    def __init__(self, view: MarkdownView) -> None:
        super().__init__(ChatSettings())
        self.view = view

    def compose(self) -> ComposeResult:
        """Just it."""
        with VerticalScroll():
            yield self.view


@contextlib.asynccontextmanager
async def shown(view: MarkdownView, said: list[Message] | None = None) -> AsyncIterator[Pilot[Any]]:
    """The text on a screen of 40 columns."""
    heard = [] if said is None else said
    app = OneText(view)
    async with app.run_test(size=(40, 24), message_hook=heard.append) as pilot:
        await pilot.pause()
        yield pilot


def screen(pilot: Pilot[Any]) -> list[str]:
    """The lines on the screen."""
    strips = pilot.app.screen._compositor.render_strips()
    return ["".join(segment.text for segment in strip).rstrip() for strip in strips]


def test_selected_text_is_that_of_the_message() -> None:
    async def story() -> None:
        view = MarkdownView(TEXT)
        async with shown(view) as pilot:
            found = view.get_selection(SELECT_ALL)
            assert found is not None
            assert found[0].split("\n")[0] == TEXT.split("\n", maxsplit=1)[0].replace("**", "")
            assert "• first entry which is wrapped as well, being long\n• second" in found[0]
            assert 'x = "a long line of code that has to go on in the next line of the terminal"' in found[0]
            await pilot.mouse_down(offset=(5, 0))
            await pilot.hover(offset=(9, 1))
            await pilot.mouse_up(offset=(9, 1))
            await pilot.pause()
            chosen = pilot.app.screen.get_selected_text()
            first, second = screen(pilot)[:2]
            assert chosen == f"{first[5:]} {second[:10]}"

    run(story())


def test_another_size_wraps_it_anew_and_another_theme_colours_it_anew() -> None:
    async def story() -> None:
        view = MarkdownView(TEXT)
        async with shown(view) as pilot:
            height = view.size.height
            style = view.render_line(0)._segments[0].style
            pilot.app.theme = "localllm-light"
            await pilot.pause()
            other = view.render_line(0)._segments[0].style
            assert style is not None
            assert other is not None
            assert style.color != other.color
            await pilot.resize_terminal(100, 24)
            await wait_until(pilot, lambda: view.size.height < height)
            assert screen(pilot)[0].startswith(TEXT.split(",", maxsplit=1)[0])
            for columns in (20, 5, 1):
                await pilot.resize_terminal(columns, 24)
                await pilot.pause()

    run(story())


def test_pieces_are_drawn_together_and_only_a_new_line_asks_for_a_layout() -> None:
    async def story() -> None:
        view = MarkdownView(is_growing=True)
        async with shown(view) as pilot:
            view.append("start ")
            await wait_until(pilot, lambda: screen(pilot)[0] == "start")
            drawn, layouts = [], []
            draw, refresh = view._draw, view.refresh

            def counted() -> None:
                drawn.append(1)
                draw()

            def watched(*regions: Any, **options: Any) -> Any:
                layouts.append(options.get("layout", False))
                return refresh(*regions, **options)

            view._draw = counted  # type: ignore[method-assign]
            view.refresh = watched  # type: ignore[method-assign]
            for _ in range(8):
                view.append("a ")
            await wait_until(pilot, lambda: screen(pilot)[0] == "start a a a a a a a a")
            assert len(drawn) == 1
            assert layouts == [False]
            view.append("\n\nnext")
            await wait_until(pilot, lambda: screen(pilot)[2] == "next")
            assert True in layouts

    run(story())


def test_a_click_on_a_link_or_on_code_is_told() -> None:
    async def story() -> None:
        said: list[Message] = []
        view = MarkdownView("[go](https://a.example/x) [no](javascript:x)\n\n```py\nx\n```\n")
        async with shown(view, said) as pilot:
            await pilot.click(offset=(1, 0))
            await pilot.click(offset=(screen(pilot)[1].index("no"), 1))
            row = next(y for y, line in enumerate(screen(pilot)) if "copy" in line)
            await pilot.click(offset=(screen(pilot)[row].index("copy"), row))
            await pilot.click(offset=(screen(pilot)[row].index("save"), row))
            await pilot.pause()
        told = [message for message in said if isinstance(message, MarkdownView.LinkAsked)]
        assert {message.address for message in told} == {"https://a.example/x"}
        asked = [message for message in said if isinstance(message, MarkdownView.CodeAsked)]
        assert {(message.index, message.what) for message in asked} == {(0, "copy"), (0, "save")}

    run(story())


def test_text_that_came_before_the_screen_is_shown() -> None:
    async def story() -> None:
        view = MarkdownView(is_growing=True)
        view.append("early")
        async with shown(view) as pilot:
            await wait_until(pilot, lambda: screen(pilot)[0] == "early")
            view.show("other")
            await wait_until(pilot, lambda: screen(pilot)[0] == "other")
            assert view.source == "other"

    run(story())
