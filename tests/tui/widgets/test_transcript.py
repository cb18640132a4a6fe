"""The transcript: long ones open at once, it follows only at its end, what a person reads does not move."""

from __future__ import annotations

import time

import msgspec
from localllm_tui.history.values import Node
from localllm_tui.widgets.message_view import MessageView
from localllm_tui.widgets.transcript import Transcript

from localllm.api import ToolCall
from tests.tui.host import run, wait_until
from tests.tui.widgets.turns_host import Turns, conversation, turns

ANSWER = Node(id=900, conversation=1, parent=899, role="assistant", model="tiny:1b", state="streaming")


def turns_in_sight(host: Turns) -> list[int]:
    """The numbers of turns whose text is on the screen."""
    return [int(line.split()[1]) for line in host.screen() if line.strip().startswith("Turn ")]


def first_turn(host: Turns) -> int:
    """The first of them."""
    return turns_in_sight(host)[0]


def test_two_thousand_turns_open_at_once_and_can_be_read_from_end_to_start() -> None:
    async def story() -> None:
        path = conversation(2000, text="Turn {} says **a few** words.\n\n- one\n- two\n\n```py\nx = 1\n```")
        async with turns() as host:
            start = time.process_time()
            host.transcript.show(path)
            await host.settle()
            assert time.process_time() - start < 0.3 * 2  # half of that here; other work shares the machine
            assert "Turn 2000 says" in "\n".join(host.screen())
            assert len(host.transcript.query(MessageView)) < 100
            seen = set(turns_in_sight(host))
            while min(seen) > 1900:
                host.transcript.scroll_to(y=host.transcript.scroll_y - 15, animate=False)
                await host.pilot.pause()
                seen |= set(turns_in_sight(host))
            assert seen >= set(range(1901, 2001))
            assert len(host.transcript.query(MessageView)) <= 60
            host.transcript.action_first()
            await host.settle()
            assert "Turn 1 says" in "\n".join(host.screen())
            selected = host.transcript.selected
            assert selected is not None
            assert selected.node.id == 1

    run(story())


def test_it_follows_at_the_end_and_only_there() -> None:
    async def story() -> None:
        async with turns(*conversation(8)) as host:
            transcript = host.transcript
            view = transcript.append(ANSWER)
            for number in range(40):
                view.append_text(f"line {number}\n\n")
            await wait_until(host.pilot, lambda: "line 39" in "\n".join(host.screen()))
            assert transcript.scroll_y == transcript.max_scroll_y > 0

            transcript.scroll_to(y=transcript.scroll_y - 12, animate=False)
            await host.settle()
            before, y = host.screen(), transcript.scroll_y
            for number in range(40, 60):
                view.append_text(f"line {number}\n\n")
            height = transcript.max_scroll_y
            await wait_until(host.pilot, lambda: transcript.max_scroll_y > height)
            await host.settle()
            assert transcript.scroll_y == y
            assert [line.rstrip("▁▂▃▄▅▆▇█ ") for line in host.screen()] == [line.rstrip("▁▂▃▄▅▆▇█ ") for line in before]

            transcript.scroll_end(animate=False)
            await host.settle()
            view.append_text("the very end\n")
            await wait_until(host.pilot, lambda: "the very end" in "\n".join(host.screen()))
            assert transcript.scroll_y == transcript.max_scroll_y

    run(story())


def test_what_is_read_stays_when_earlier_turns_come_and_when_the_window_changes() -> None:
    async def story() -> None:
        async with turns(*conversation(200)) as host:
            transcript = host.transcript
            mounted = len(transcript.query(MessageView))
            transcript.scroll_to(y=5, animate=False)
            await wait_until(host.pilot, lambda: len(transcript.query(MessageView)) > mounted)
            await host.settle()
            # Turns are three lines: at line 5 of the last twelve stood the 191st of 200.
            assert first_turn(host) == 191
            assert transcript.scroll_y == 5 + 3 * (len(transcript.query(MessageView)) - mounted)
            await host.pilot.resize_terminal(30, 20)
            await host.settle()
            assert first_turn(host) == 191

    run(story())


def test_short_conversations_stand_at_the_top() -> None:
    async def story() -> None:
        async with turns(*conversation(2)) as host:
            assert "You" in host.screen()[1]
            assert host.transcript.scroll_y == 0

    run(story())


def test_turns_are_chosen_by_keyboard_and_left_again() -> None:
    async def story() -> None:
        async with turns(*conversation(40)) as host:
            transcript = host.transcript
            assert transcript.selected is None
            transcript.action_select(-1)
            await host.settle()
            chosen = [transcript.selected.node.id if transcript.selected else None]
            for _ in range(15):
                await host.pilot.press("up")
                await host.settle()
                chosen.append(transcript.selected.node.id if transcript.selected else None)
            assert chosen == list(range(40, 24, -1))
            assert "Turn 25 says" in "\n".join(host.screen())
            await host.pilot.press("end")
            await host.settle()
            assert transcript.selected is transcript.view(40)
            await host.pilot.press("down")
            await host.settle()
            assert any(isinstance(message, Transcript.Left) for message in host.said)

    run(story())


def test_results_of_tools_are_shown_in_the_turn_that_called() -> None:
    call = ToolCall("c1", "read_file", '{"path": "/tmp/x"}')
    path = (
        *conversation(1),
        Node(id=2, conversation=1, parent=1, role="assistant", model="m", content="Looking.", tool_calls=(call,)),
        Node(id=3, conversation=1, parent=2, role="tool", tool_call_id="c1", content="one\ntwo"),
        Node(id=4, conversation=1, parent=3, role="assistant", model="m", content="It has two lines."),
    )

    async def story() -> None:
        async with turns(*path) as host:
            shown = "\n".join(host.screen())
            assert "✓ read_file  ▸ 2 lines" in shown
            assert shown.count(" m") == 1
            assert host.transcript.view(3) is None
            other = msgspec.structs.replace(call, id="c2")
            host.transcript.append(
                Node(id=5, conversation=1, parent=4, role="assistant", model="m", tool_calls=(other,))
            )
            view = host.transcript.append(
                Node(id=6, conversation=1, parent=5, role="tool", tool_call_id="c2", content="no", state="failed")
            )
            await host.settle()
            assert view is host.transcript.view(5)
            assert "! read_file  failed" in "\n".join(host.screen())

    run(story())


def test_an_answer_that_comes_while_its_turn_is_out_of_the_window_is_whole_when_one_returns() -> None:
    async def story() -> None:
        async with turns(*conversation(300)) as host:
            transcript = host.transcript
            view = transcript.append(ANSWER)
            view.append_text("begin ")
            transcript.action_first()
            await host.settle()
            gone = transcript.view(900)
            assert gone is not None
            gone.append_text("middle ")
            gone.show(msgspec.structs.replace(ANSWER, content="begin middle end", state="complete"))
            assert "Turn 1 says" in "\n".join(host.screen())
            transcript.follow()
            await host.settle()
            assert "begin middle end" in "\n".join(host.screen())

    run(story())


def test_a_turn_can_be_gone_to() -> None:
    async def story() -> None:
        async with turns(*conversation(500)) as host:
            assert host.transcript.go_to(250)
            await host.settle()
            assert "Turn 250 says" in "\n".join(host.screen()[:4])
            assert not host.transcript.go_to(10_000)

    run(story())


def test_another_branch_leaves_what_both_have_as_it_is_seen() -> None:
    async def story() -> None:
        path = conversation(6)
        async with turns(*path) as host:
            kept = [host.transcript.view(number) for number in range(1, 6)]
            other = msgspec.structs.replace(path[5], id=60, content="Another answer.")
            host.transcript.show((*path[:5], other), {60: (2, 2)})
            assert [host.transcript.view(number) for number in range(1, 6)] == kept
            await host.settle()
            shown = "\n".join(host.screen())
            assert "Another answer." in shown
            assert "‹ 2/2 ›" in shown
            assert "Turn 6" not in shown
            host.transcript.show(path[:3])
            await host.settle()
            assert "Another answer." not in "\n".join(host.screen())
            host.transcript.show(())
            await host.settle()
            assert not host.transcript.query(MessageView)
            host.transcript.show(conversation(1))
            await host.settle()
            assert "Turn 1" in "\n".join(host.screen())

    run(story())
