"""The chat screen: what is typed is sent, answered, kept; and what else a person does in a conversation."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.tui.host import chat_host, run


def test_a_message_is_sent_streamed_and_kept(tmp_path: Path) -> None:
    async def story() -> None:
        gate = asyncio.Event()
        async with chat_host(tmp_path, ["Hello", gate, " there"]) as host:
            await host.say("hi")
            await host.until(lambda: "Hello" in host.shown())
            assert host.composer.text == ""
            [user, answer] = host.screen.open.path
            assert (user.role, user.content) == ("user", "hi")
            assert answer.state == "streaming"
            gate.set()
            await host.until(lambda: not host.screen.open.is_busy)
            kept = host.history.node(answer.id)
            assert (kept.content, kept.state) == ("Hello there", "complete")
            assert kept.stats is not None
            assert kept.stats.num_output_tokens == len("Hello there")
            assert host.history.conversation(host.screen.open.id).title == "hi"

    run(story())
