"""Make docs/chat.svg, the picture of the chat in the README: the real app, and an answer of real weights.

    python scripts/screenshot.py [--model smollm2:135m] [--theme localllm-dark] [--out docs/chat.svg]

The model must be installed, or be the path of a GGUF file. What is asked and shown is made anew each time.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import tempfile
import time
from pathlib import Path

from localllm_tui.app import ChatApp
from localllm_tui.history.history import History
from localllm_tui.options import ChatOptions, ChatSettings
from localllm_tui.screens.chat import ChatScreen
from textual.pilot import Pilot

from localllm.api import LoadOptions, SamplingParams
from localllm.config import load_settings
from localllm.service import Service

SIZE = (112, 34)
OTHERS = (("Planning a week in Lisbon", ""), ("Why is the sky blue?", "Science"), ("Tests before the parser", "Work"))
TITLE = "Models on my own computer"
FIRST = "Name three benefits of running a language model on your own computer, as a numbered list."
SECOND = "Write a Python function that returns the factorial of a number."


async def main() -> None:
    """Ask, wait, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2:135m")
    parser.add_argument("--theme", default="localllm-dark")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent / "docs" / "chat.svg")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "chat.db"
        talk = fill(database, args.model)
        sampling = SamplingParams(temperature=0.0, max_tokens=160)
        options = ChatOptions(
            args.model, database, ChatSettings(theme=args.theme), conversation=talk, sampling=sampling
        )
        service = lambda: Service(load_settings(), load_options=LoadOptions(num_slots=1))  # noqa: E731
        app = ChatApp(service, options)
        async with app.run_test(size=SIZE) as pilot:
            await app.backend()
            await ask(pilot, FIRST)
            await ask(pilot, SECOND)
            await pilot.pause(1.0)
            drawn = app.export_screenshot(title=f"localllm chat: {Path(args.model).stem}", simplify=True)
    # A picture in a page asks no other host for its letters.
    drawn = re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL)
    args.out.write_text("\n".join(line.rstrip() for line in drawn.splitlines()) + "\n", encoding="utf-8", newline="\n")
    print(f"{args.out} written: answers of {args.model}, on {time.strftime('%Y-%m-%d')}")


def fill(database: Path, model: str) -> int:
    """Some conversations for the list; the id of an empty one with a title."""
    history = History(database)
    for title, folder in OTHERS:
        history.add(history.new(model="qwen3:4b", title=title, folder=folder).id, None, "user", title)
    talk = history.change(history.new(model=model).id, title=TITLE, titled_by="person").id
    history.close()
    return talk


async def ask(pilot: Pilot[int], text: str) -> None:
    """Type a message, send it, and wait for the whole answer."""
    screen = next(screen for screen in pilot.app.screen_stack if isinstance(screen, ChatScreen))
    screen.composer.text = text
    await pilot.pause()
    await pilot.press("enter")
    deadline = time.monotonic() + 120
    while screen.open.is_busy or not screen.open.path or screen.open.path[-1].role != "assistant":
        if time.monotonic() > deadline:
            raise SystemExit("no answer within two minutes")
        await pilot.pause(0.1)


if __name__ == "__main__":
    asyncio.run(main())
