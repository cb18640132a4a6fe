"""A turn: what is seen of it, what can be asked of it by key and by mouse, and that nothing in it gives orders."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest
from localllm_tui.history.values import Attachment, Node, Stats
from localllm_tui.markdown.values import CodeBlock
from localllm_tui.widgets.message_view import MessageView
from localllm_tui.widgets.turn_foot import foot
from localllm_tui.widgets.turn_head import clock

from localllm.api import ToolCall
from tests.tui.host import run, wait_until
from tests.tui.widgets.turns_host import Turns, turns

STATS = Stats(
    num_prompt_tokens=812,
    num_cached_tokens=640,
    num_output_tokens=201,
    decode_s=2.0,
    first_token_s=0.31,
    reasoning_s=3.2,
)
CODE = "Look:\n\n```py\nx = 1\n```\n\n```sh\nls\n```\n"
FILE = Attachment("a.py", "x", num_tokens=1200)
ASKED = Node(id=1, conversation=1, parent=None, role="user", content="Why *this*?", attachments=(FILE,))
ANSWER = msgspec.structs.replace(
    Node(id=2, conversation=1, parent=1, role="assistant", model="tiny:1b", content=CODE),
    reasoning="Let me think.",
    stats=STATS,
)


def of(host: Turns, kind: type[Any]) -> list[Any]:
    """Messages of a kind that were posted."""
    return [message for message in host.said if type(message) is kind]


def test_what_is_seen_of_a_turn() -> None:
    async def story() -> None:
        async with turns(ASKED, ANSWER) as host:
            host.transcript.show((ASKED, ANSWER), {2: (2, 3)})
            await host.settle()
            shown = "\n".join(host.screen())
            for words in (
                "You",
                "a.py  1,200 tokens",
                "Why *this*?",
                "tiny:1b  ‹ 2/3 ›",
                "▸ thought for 3.2 s",
                "Look:",
                "x = 1",
            ):
                assert words in shown, words
            assert "100.0 tok/s  ·  first token 0.31 s  ·  201 tokens  ·  640 of 812 cached" in shown
            assert "Let me think." not in shown
            view = host.transcript.view(2)
            assert view is not None
            assert view.code_blocks() == [CodeBlock("py", "x = 1"), CodeBlock("sh", "ls")]
            assert view.plain_text() == CODE
            await host.click("thought for")
            assert "Let me think." in "\n".join(host.screen())

    run(story())


def test_figures_that_were_not_measured_are_not_shown() -> None:
    async def story() -> None:
        bare = msgspec.structs.replace(ANSWER, stats=Stats(num_output_tokens=5), reasoning="")
        async with turns(bare) as host:
            shown = "\n".join(host.screen())
            assert "5 tokens" in shown
            assert "tok/s" not in shown
            assert "cached" not in shown
            assert "first token" not in shown

    run(story())


def test_keys_of_a_chosen_turn() -> None:
    async def story() -> None:
        async with turns(ASKED, ANSWER) as host:
            host.transcript.show((ASKED, ANSWER), {2: (2, 3)})
            await host.settle()
            await host.pilot.press("e", "r")
            assert not of(host, MessageView.EditAsked)
            host.transcript.action_select(-1)
            await host.settle()
            await host.pilot.press("e", "r", "b", "c", "left", "right", "2", "9", "s", "g")
            await host.settle()
            for kind in (
                MessageView.EditAsked,
                MessageView.RegenerateAsked,
                MessageView.BranchAsked,
                MessageView.CopyAsked,
            ):
                assert [message.node for message in of(host, kind)] == [ANSWER]
            assert [message.step for message in of(host, MessageView.SiblingAsked)] == [-1, 1]
            assert [message.index for message in of(host, MessageView.CopyCodeAsked)] == [1]
            assert [message.index for message in of(host, MessageView.SaveCodeAsked)] == [0]
            assert not of(host, MessageView.ContinueAsked)
            await host.pilot.press("t")
            await host.settle()
            assert "Let me think." in "\n".join(host.screen())

    run(story())


def test_the_same_by_mouse_without_taking_the_keys_from_who_types() -> None:
    async def story() -> None:
        stopped = msgspec.structs.replace(ANSWER, state="stopped")
        async with turns(stopped) as host:
            host.transcript.show((stopped,), {2: (2, 3)})
            await host.settle()
            focused = host.app.focused
            assert "branch" not in "\n".join(host.screen())
            await host.pilot.hover(MessageView, offset=(5, 2))
            await host.settle()
            for words in ("regenerate", "edit", "branch"):
                await host.click(words)
            await host.click("copy")
            await host.click("copy", last=True)
            await host.click("save")
            await host.click("continue")
            await host.click("›")
            for kind in (
                MessageView.RegenerateAsked,
                MessageView.EditAsked,
                MessageView.BranchAsked,
                MessageView.CopyAsked,
            ):
                assert len(of(host, kind)) == 1, kind
            assert len(of(host, MessageView.ContinueAsked)) == 1
            assert [message.index for message in of(host, MessageView.CopyCodeAsked)] == [1]
            assert [message.index for message in of(host, MessageView.SaveCodeAsked)] == [0]
            assert [message.step for message in of(host, MessageView.SiblingAsked)] == [1]
            assert host.app.focused is focused

    run(story())


def test_an_answer_as_it_comes() -> None:
    coming = Node(id=2, conversation=1, parent=1, role="assistant", model="tiny:1b", state="streaming")

    async def story() -> None:
        async with turns(ASKED) as host:
            view = host.transcript.append(coming)
            await host.settle()
            assert "…" in "\n".join(host.screen())
            view.append_reasoning("First this. ")
            view.append_reasoning("Then that.")
            await wait_until(host.pilot, lambda: "Then that." in "\n".join(host.screen()))
            assert "thinking" in "\n".join(host.screen())
            for piece in ("It is ", "**bo", "ld**", " now."):
                view.append_text(piece)
            await wait_until(host.pilot, lambda: "It is bold now." in "\n".join(host.screen()))
            shown = "\n".join(host.screen())
            assert "▸ thought for" in shown
            assert "Then that." not in shown
            assert view.node.content == "It is **bold** now."
            assert view.node.reasoning == "First this. Then that."
            call = ToolCall("c1", "look", "{}")
            view.show_call(call, "running")
            await host.settle()
            assert "… look  running" in "\n".join(host.screen())
            view.show_call(call, "done", "found")
            view.show(msgspec.structs.replace(view.node, state="complete", stats=STATS, tool_calls=(call,)))
            await host.settle()
            shown = "\n".join(host.screen())
            assert "✓ look  ▸ 1 line" in shown
            assert "thought for 3.2 s" in shown
            assert "100.0 tok/s" in shown

    run(story())


def test_what_did_not_end_well_says_so_and_the_way_on() -> None:
    async def story() -> None:
        failed = msgspec.structs.replace(ANSWER, state="failed", error="the engine died\x1b[2J")
        async with turns(failed) as host:
            shown = "\n".join(host.screen())
            assert "the engine died\\x1b[2J" in shown
            assert "regenerate" in shown

    run(story())


def test_an_answer_that_was_cut_short_says_so_above_its_figures() -> None:
    async def story() -> None:
        cut = msgspec.structs.replace(ANSWER, error="The answer is cut short: its time was over.\x1b[2J")
        async with turns(cut) as host:
            lines = [line.strip() for line in host.screen()]
            at = next(number for number, line in enumerate(lines) if line.startswith("The answer is cut short"))
            assert lines[at].endswith("\\x1b[2J")
            assert "tok/s" in lines[at + 1]

    run(story())


NASTY = "\x1b[2J\x1b]52;c;ZXZpbA==\x07 \x9b31m \x90q\x9c \u202egnp.exe\u202c \u2066a\u2069 \x00\x08\x7f"


@pytest.mark.parametrize("size", [(80, 60), (20, 60), (5, 20)])
def test_nothing_foreign_reaches_the_terminal_as_it_is(size: tuple[int, int]) -> None:
    parts = (
        f"# {NASTY}\n{NASTY} **{NASTY}** `{NASTY}` [{NASTY}](http://x/{NASTY})",
        f"```{NASTY}\n{NASTY}\n```\n\n| {NASTY} |\n|---|\n| {NASTY} |",
        f"- {NASTY}\n> {NASTY}\n\n${NASTY}$\n",
    )
    text = "\n\n".join(parts)
    call = ToolCall("c", f"tool{NASTY}", msgspec.json.encode({f"name{NASTY}": NASTY, "list": [NASTY]}).decode())
    raw = ToolCall("d", "raw", NASTY)
    nodes = (
        Node(id=1, conversation=1, parent=None, role="user", content=text, attachments=(Attachment(NASTY, "x"),)),
        Node(
            id=2, conversation=1, parent=1, role="assistant", model=f"m{NASTY}", content=text, reasoning=text,
            tool_calls=(call, raw), state="failed", error=NASTY,
        ),
        Node(id=3, conversation=1, parent=2, role="tool", tool_call_id="c", content=text),
        Node(id=4, conversation=1, parent=3, role="tool", tool_call_id="d", content=NASTY, state="failed"),
    )  # fmt: skip

    async def story() -> None:
        async with turns(*nodes, size=size) as host:
            view = host.transcript.view(2)
            assert view is not None
            view.action_think()
            view.show_call(raw, "asking")
            for card in view._cards.values():
                card.action_fold()
            coming = host.transcript.append(msgspec.structs.replace(nodes[1], id=5, state="streaming", content=""))
            for char in text:
                coming.append_text(char)
            for y in range(0, 400, 15):
                host.transcript.scroll_to(y=y, animate=False)
                await host.settle()
                for line in host.screen():
                    bad = [char for char in line if ord(char) < 32 or 0x7F <= ord(char) < 0xA0]
                    bad += [char for char in line if 0x202A <= ord(char) <= 0x202E or 0x2066 <= ord(char) <= 0x2069]
                    assert not bad, (bad, line)
                if y >= host.transcript.max_scroll_y:
                    break

    run(story())


@pytest.mark.parametrize("theme", ["localllm-dark", "localllm-light", "localllm-contrast", "localllm-mono", "nord"])
def test_every_theme_draws_it(theme: str) -> None:
    async def story() -> None:
        async with turns(ASKED, ANSWER, theme=theme) as host:
            assert "Look:" in "\n".join(host.screen())

    run(story())


def test_when_a_turn_was() -> None:
    now = time.mktime((2026, 5, 20, 15, 0, 0, 0, 0, -1))
    assert clock(0, now) == ""
    assert clock(now - 3600, now) == "14:00"
    assert clock(now - 86400, now) == "19 May 15:00"
    assert clock(now - 400 * 86400, now).endswith("2025")


@pytest.mark.parametrize("columns", [80, 40, 24, 14])
def test_lines_of_the_foot_end_between_figures(columns: int) -> None:
    whole = foot(ANSWER).plain.split("  ·  ")
    lines = foot(ANSWER, columns).plain.split("\n")
    assert [words for line in lines for words in line.split("  ·  ")] == whole
    assert all(len(line) <= columns or line in whole for line in lines)

    async def story() -> None:
        async with turns(ANSWER) as host:
            await host.pilot.resize_terminal(44, 24)
            await wait_until(host.pilot, lambda: any(line.endswith("first token 0.31 s") for line in host.screen()))
            await wait_until(host.pilot, lambda: any(line.endswith("640 of 812 cached") for line in host.screen()))
            await host.pilot.resize_terminal(80, 24)
            await wait_until(host.pilot, lambda: any("0.31 s  ·  201 tokens" in line for line in host.screen()))

    if columns == 40:
        run(story())
