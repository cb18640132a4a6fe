"""What a branch is to a model."""

from __future__ import annotations

from typing import Any

from localllm_tui.history.values import Attachment, Node
from localllm_tui.turns.messages import NOT_RUN, fenced, messages_of, with_attachments

from localllm.api import Message, Role, ToolCall


def node(role: Role, content: str = "", **fields: Any) -> Node:
    return Node(1, 1, None, role, content, **fields)


def test_the_system_prompt_comes_first_unless_the_branch_has_one() -> None:
    path = (node("user", "hi"), node("assistant", "hello"))
    assert messages_of(path, "be brief")[0] == Message("system", "be brief")
    own = (node("system", "be long"), *path)
    assert [message.content for message in messages_of(own, "be brief")] == ["be brief\n\nbe long", "hi", "hello"]
    assert [message.role for message in messages_of(path)] == ["user", "assistant"]


def test_an_answer_that_came_to_nothing_is_left_out_and_turns_of_a_person_are_joined() -> None:
    path = (node("user", "one"), node("assistant", state="failed"), node("user", "two"))
    assert messages_of(path) == (Message("user", "one\n\ntwo"),)


def test_a_stopped_answer_and_its_thinking_stay() -> None:
    path = (node("user", "one"), node("assistant", "half", reasoning="hm", state="stopped"))
    assert messages_of(path)[1] == Message("assistant", "half", reasoning="hm")


def test_attachments_stand_before_the_text_in_fences_that_nothing_in_them_closes() -> None:
    evil = Attachment("a\x1b[2J.md", "```\ncode\n```\n")
    text = with_attachments("what is this?", [evil])
    assert text == "a\\x1b[2J.md:\n````\n```\ncode\n```\n````\n\nwhat is this?"
    assert fenced("x") == "```\nx\n```"
    assert with_attachments(" ", [Attachment("n", "t")]) == "n:\n```\nt\n```"
    assert messages_of((node("user", "q", attachments=(evil,)),))[0].content.startswith("a\\x1b")


def test_every_call_has_one_result_and_every_result_a_call() -> None:
    one, two = ToolCall("1", "add"), ToolCall("2", "sub")
    asked = node("assistant", tool_calls=(one, two))
    result = node("tool", "3", tool_call_id="1", name="add")
    stray = node("tool", "9", tool_call_id="7", name="gone")
    messages = messages_of((node("user", "q"), asked, result, stray, node("user", "and?")))
    assert [(message.role, message.content, message.tool_call_id) for message in messages] == [
        ("user", "q", None),
        ("assistant", "", None),
        ("tool", "3", "1"),
        ("tool", NOT_RUN, "2"),
        ("user", "and?", None),
    ]
