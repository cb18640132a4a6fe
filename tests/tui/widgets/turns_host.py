"""An app with nothing but a transcript, and turns to fill it with."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from localllm_tui.history.values import Node
from localllm_tui.look.dressed import DressedApp
from localllm_tui.options import ChatSettings
from localllm_tui.widgets.transcript import Transcript
from textual.app import ComposeResult
from textual.message import Message
from textual.pilot import Pilot


class TurnsApp(DressedApp):
    """A DressedApp, so that themes are those of the chat."""

    def __init__(self, theme: str) -> None:
        super().__init__(ChatSettings(theme=theme))

    def compose(self) -> ComposeResult:
        """The transcript alone."""
        yield Transcript()


@dataclass
class Turns:
    """A transcript under test."""

    app: TurnsApp
    pilot: Pilot[int]
    said: list[Message] = field(default_factory=list)

    @property
    def transcript(self) -> Transcript:
        """It."""
        return self.app.query_one(Transcript)

    def screen(self) -> list[str]:
        """What is on the screen, line by line."""
        strips = self.app.screen._compositor.render_strips()
        return ["".join(segment.text for segment in strip).rstrip() for strip in strips]

    async def settle(self) -> None:
        """Let what was asked for be drawn."""
        await self.pilot.pause()
        await self.pilot.pause()

    async def click(self, words: str, *, last: bool = False) -> None:
        """Click on words that are on the screen."""
        rows = [y for y, line in enumerate(self.screen()) if words in line]
        assert rows, (words, self.screen())
        y = rows[-1 if last else 0]
        line = self.screen()[y]
        await self.pilot.click(offset=(line.rindex(words) if last else line.index(words), y))
        await self.settle()


@contextlib.asynccontextmanager
async def turns(*nodes: Node, size: tuple[int, int] = (80, 24), theme: str = "localllm-dark") -> AsyncIterator[Turns]:
    """The app, with these turns shown."""
    app = TurnsApp(theme)
    said: list[Message] = []

    def hear(message: Message) -> None:
        if not any(message is other for other in said):  # it is heard again where it bubbles up
            said.append(message)

    async with app.run_test(size=size, message_hook=hear) as pilot:
        host = Turns(app, pilot, said)
        host.transcript.show(nodes)
        await host.settle()
        yield host


def conversation(num_turns: int, *, text: str = "Turn {} says a few words.") -> tuple[Node, ...]:
    """Questions and answers, numbered from 1."""
    return tuple(
        Node(
            id=number,
            conversation=1,
            parent=number - 1 or None,
            role="user" if number % 2 else "assistant",
            content=text.format(number),
            model=None if number % 2 else "tiny:1b",
        )
        for number in range(1, num_turns + 1)
    )
