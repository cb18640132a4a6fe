"""A tool call's card: it asks with all there is to judge by, takes an answer by key and mouse, shows what came."""

from __future__ import annotations

import msgspec
import pytest
from localllm_tui.history.values import Node
from localllm_tui.widgets.tool_card import ToolCard

from localllm.api import ToolCall
from tests.tui.host import run, wait_until
from tests.tui.widgets.turns_host import Turns, turns

LONG = {f"name{number}": "word " * 60 for number in range(20)}
CALL = ToolCall("c1", "delete_file", msgspec.json.encode({"path": "/etc/hosts", **LONG}).decode())
NODE = Node(id=1, conversation=1, parent=None, role="assistant", model="m", content="Let me.", tool_calls=(CALL,))


def answers(host: Turns) -> list[tuple[str, bool, str]]:
    """What was answered."""
    said = [message for message in host.said if isinstance(message, ToolCard.Answered)]
    return [(message.call_id, message.allowed, message.extent) for message in said]


@pytest.mark.parametrize(
    ("key", "words", "answer"),
    [
        ("y", "allow once", ("c1", True, "once")),
        ("a", "in this chat", ("c1", True, "chat")),
        ("A", "always", ("c1", True, "always")),
        ("n", "n no", ("c1", False, "once")),
    ],
)
def test_an_answer_by_key_and_by_mouse(key: str, words: str, answer: tuple[str, bool, str]) -> None:
    async def story() -> None:
        async with turns(NODE, size=(80, 130)) as host:
            view = host.transcript.view(1)
            assert view is not None
            assert "delete_file" in "\n".join(host.screen())
            assert words not in "\n".join(host.screen())
            card = host.app.query_one(ToolCard)
            card.focus()
            await host.settle()
            await host.pilot.press(key)
            assert answers(host) == []
            view.show_call(CALL, "asking")
            await host.settle()
            shown = "\n".join(host.screen())
            assert "? delete_file  may it run?" in shown
            assert shown.count("word") == 20 * 60
            await host.pilot.press(key)
            await host.settle()
            assert set(answers(host)) == {answer}
            host.said.clear()
            await host.click(words)
            assert set(answers(host)) == {answer}
            host.said.clear()
            view.show_call(CALL, "running")
            await host.settle()
            await host.pilot.press(key)
            assert answers(host) == []
            assert "running" in "\n".join(host.screen())

    run(story())


def test_what_came_back_is_folded_and_opens() -> None:
    async def story() -> None:
        async with turns(NODE, size=(80, 60)) as host:
            view = host.transcript.view(1)
            assert view is not None
            view.show_call(CALL, "done", "one\ntwo\nthree")
            await host.settle()
            assert "✓ delete_file  ▸ 3 lines" in "\n".join(host.screen())
            assert "three" not in "\n".join(host.screen())
            await host.click("delete_file")
            assert "▾ 3 lines" in "\n".join(host.screen())
            view.show_call(CALL, "done", "x" * 100_000)
            await host.settle()
            card = host.app.query_one(ToolCard)
            card.focus()
            await host.pilot.press("enter")
            await host.settle()
            assert "xxx" not in "\n".join(host.screen())

    run(story())


def test_choosing_a_turn_that_asks_is_choosing_its_question() -> None:
    async def story() -> None:
        async with turns(NODE, size=(80, 40)) as host:
            view = host.transcript.view(1)
            assert view is not None
            view.show_call(CALL, "asking")
            await host.settle()
            host.transcript.action_select(-1)
            await wait_until(host.pilot, lambda: isinstance(host.app.focused, ToolCard))
            await host.pilot.press("y")
            await host.settle()
            assert answers(host) == [("c1", True, "once")]
            assert host.transcript.selected is view

    run(story())
