"""Tools and calls in a conversation, for templates that know some of it, or nothing. Messages to messages.

What a template shows it gets as it is. The rest becomes text: tools in the system message, calls in the assistant's,
results in the user's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from localllm.api import Message, ToolCall, ToolSpec
from localllm.text.segments import join_pieces, trusted
from localllm.text.tools.form import ToolFormat

_EXAMPLE = ToolCall(id="", name="NAME", arguments='{"KEY": "VALUE"}')


class ToolSupport(NamedTuple):
    """What of tools a template shows."""

    tools: bool
    calls: bool
    results: bool


def adapted(
    messages: Sequence[Message], tools: Sequence[ToolSpec], form: ToolFormat, support: ToolSupport
) -> list[Message]:
    """The conversation as a template with that support can show it, without loss."""
    turns = list(messages)
    if form.own_id is not None:
        turns = _with_own_ids(turns, form)
    if support.calls and form.one_call:
        turns = _one_by_one(turns)
    if not support.calls:
        turns = [_call_as_text(turn, form) for turn in turns]
    if not support.results:
        turns = _results_as_text(turns)
    if tools and not support.tools:
        turns = _with_instructions(turns, instructions(tools, form))
    return turns


def instructions(tools: Sequence[ToolSpec], form: ToolFormat) -> str:
    """What a model is told about tools where its template tells it nothing."""
    listed = [
        json.dumps(
            {"name": tool.name, "description": tool.description, "parameters": tool.parameters}, ensure_ascii=False
        )
        for tool in tools
    ]
    pieces = [
        "You can call functions. These are there, each with the JSON Schema of its arguments:\n",
        *(line + "\n" for line in listed),
        "\nTo call one, answer with exactly this, and put in its name and its arguments as JSON:\n",
        # Ours, so that its tags may become the tokens that the model is to write.
        trusted(form.write([_EXAMPLE])),
        "\nCall a function only where it helps; otherwise answer in words.",
    ]
    return join_pieces(pieces)


def _with_instructions(turns: list[Message], text: str) -> list[Message]:
    if turns and turns[0].role == "system":
        content = join_pieces([turns[0].content, "\n\n", text]) if turns[0].content else text
        return [msgspec.structs.replace(turns[0], content=content), *turns[1:]]
    return [Message(role="system", content=text), *turns]


def _call_as_text(turn: Message, form: ToolFormat) -> Message:
    if not turn.tool_calls:
        return turn
    # What arguments say is the model's text or a client's: never trusted.
    said = [turn.content, "\n"] if turn.content else []
    content = "".join([*said, form.write(turn.tool_calls)])
    return msgspec.structs.replace(turn, content=content, tool_calls=())


def _results_as_text(turns: Sequence[Message]) -> list[Message]:
    """Results as one message of the user's, together with what the user says next."""
    shown: list[Message] = []
    results: list[str] = []
    for turn in turns:
        if turn.role == "tool":
            results.append(f"<tool_response>\n{turn.content}\n</tool_response>")
            continue
        if results:
            said = [turn.content] if turn.role == "user" else []
            shown.append(Message(role="user", content="\n".join([*results, *said])))
            results = []
            if said:
                continue
        shown.append(turn)
    if results:
        shown.append(Message(role="user", content="\n".join(results)))
    return shown


def _one_by_one(turns: Sequence[Message]) -> list[Message]:
    """Calls made together as calls made one after the other, each followed by its result."""
    split: list[Message] = []
    waiting: list[Message] = []  # calls that come after the result of the one before
    for turn in turns:
        if turn.role != "tool":
            split += waiting
            waiting = []
        if len(turn.tool_calls) <= 1:
            split.append(turn)
            if turn.role == "tool" and waiting:
                split.append(waiting.pop(0))
            continue
        first, *rest = (msgspec.structs.replace(turn, tool_calls=(call,)) for call in turn.tool_calls)
        split.append(first)
        waiting = [msgspec.structs.replace(more, content="", reasoning=None) for more in rest]
    return split + waiting


def _with_own_ids(turns: Sequence[Message], form: ToolFormat) -> list[Message]:
    """The same with ids that the family's template takes, the same each time the conversation comes."""
    known: dict[str, str] = {}
    changed = []
    for turn in turns:
        calls = []
        for call in turn.tool_calls:
            known[call.id] = form.id_of(call.id, call.name, len(known))
            calls.append(msgspec.structs.replace(call, id=known[call.id]))
        result_of = turn.tool_call_id
        if result_of is not None:
            result_of = known.get(result_of) or form.id_of(result_of, turn.name or "", len(known))
        changed.append(msgspec.structs.replace(turn, tool_calls=tuple(calls), tool_call_id=result_of))
    return changed
