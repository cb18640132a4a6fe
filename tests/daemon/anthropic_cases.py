"""What Anthropic clients send and what they get back, as cases with golden files beside this one.

`python -m tests.daemon.anthropic_cases` writes goldens/anthropic_*.json anew, to be read before they are committed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from localllm.api import (
    Event,
    Finished,
    Notice,
    Progress,
    Queued,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallEvent,
    Usage,
)
from localllm.daemon.anthropic.answers import MessageStream, message
from localllm.daemon.anthropic.requests import MessagesBody, chat_request
from localllm.daemon.body import decode
from localllm.errors import InvalidRequestError

GOLDENS = Path(__file__).parent / "goldens"
USER = [{"role": "user", "content": "Hi"}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
TOOL = {"name": "add", "description": "Adds.", "input_schema": SCHEMA}


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "tiny", "max_tokens": 5, "messages": USER, **fields}


def turn(role: str, *blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": role, "content": list(blocks)}


BODIES: dict[str, dict[str, Any]] = {
    "plain": body(),
    "no model": {"max_tokens": 5, "messages": USER},
    "unknown fields": body(service_tier="auto", betas=["x"], container=None),
    "sampling": body(temperature=0.5, top_p=0.9, top_k=40, stop_sequences=["###", "", "END"]),
    "system as text": body(system="Be brief."),
    "system as blocks": body(
        system=[
            {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": "And kind."},
        ]
    ),
    "no system after all": body(system=""),
    "roles and blocks": body(
        messages=[
            turn("user", {"type": "text", "text": "One"}, {"type": "text", "text": "two"}),
            turn(
                "assistant",
                {"type": "thinking", "thinking": "Hm.", "signature": "x"},
                {"type": "redacted_thinking", "data": "x"},
                {"type": "text", "text": "I add."},
                {"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1}},
                {"type": "tool_use", "id": "c2", "name": "sub", "input": {}},
            ),
            turn(
                "user",
                {"type": "text", "text": "There:"},
                {"type": "tool_result", "tool_use_id": "c1", "content": "2"},
                {
                    "type": "tool_result",
                    "tool_use_id": "c2",
                    "content": [{"type": "text", "text": "no such tool"}],
                    "is_error": True,
                },
            ),
            turn("user", {"type": "tool_result", "tool_use_id": "c1"}),
            {"role": "system", "content": "From now on in French."},
        ]
    ),
    "a prefill": body(messages=[*USER, {"role": "assistant", "content": "The answer is"}]),
    "tools": body(tools=[TOOL, {"type": "custom", **TOOL, "name": "sub", "strict": True}]),
    "any tool": body(tools=[TOOL], tool_choice={"type": "any"}),
    "a named tool": body(tools=[TOOL], tool_choice={"type": "tool", "name": "add"}),
    "no tool": body(tools=[TOOL], tool_choice={"type": "none"}),
    "one call at most": body(tools=[TOOL], tool_choice={"type": "auto", "disable_parallel_tool_use": True}),
    "thinking": body(thinking={"type": "enabled", "budget_tokens": 1024}),
    "thinking as it likes": body(thinking={"type": "adaptive"}, output_config={"effort": "max"}),
    "no thinking": body(thinking={"type": "disabled"}),
    "who": body(metadata={"user_id": "somebody"}),
    "a schema": body(output_config={"format": {"type": "json_schema", "schema": SCHEMA}}),
    "a schema, older": body(output_format={"type": "json_schema", "schema": SCHEMA}),
    # What is refused, with the parameter that is named.
    "no max_tokens": {"model": "tiny", "messages": USER},
    "no messages": body(messages=[]),
    "an image": body(messages=[turn("user", {"type": "image", "source": {"type": "url", "url": "http://x"}})]),
    "a document": body(messages=[turn("user", {"type": "text", "text": "a"}, {"type": "document"})]),
    "an image as a result": body(
        messages=[turn("user", {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "image"}]})]
    ),
    "an unknown block": body(messages=[turn("user", {"type": "hologram"})]),
    "a result of nothing": body(messages=[turn("user", {"type": "tool_result", "content": "2"})]),
    "a tool of Anthropic's": body(tools=[{"type": "web_search_20250305", "name": "web_search"}]),
    "a tool without a schema": body(tools=[{"name": "add"}]),
    "a tool that is not there": body(tools=[TOOL], tool_choice={"type": "tool", "name": "sub"}),
    "MCP servers": body(mcp_servers=[{"type": "url", "url": "http://x"}]),
    "a wrong role": body(messages=[{"role": "king", "content": "Hi"}]),
    "out of range": body(top_p=2),
}

USAGE = Usage(num_prompt_tokens=10, num_cached_tokens=4, num_output_tokens=3, num_reasoning_tokens=1)
FINISHED = Finished("stop", USAGE)
EVENTS: dict[str, list[Event]] = {
    "text": [Queued(1), Progress("load"), TextDelta("Hel"), TextDelta('lo "\u00e9\n'), FINISHED],
    "nothing": [FINISHED],
    "only white space": [TextDelta("\n"), TextDelta(" "), FINISHED],
    "reasoning": [ReasoningDelta("H"), ReasoningDelta("m"), TextDelta("\n\n"), TextDelta("Yes"), FINISHED],
    "whole calls": [
        TextDelta("\n"),
        ToolCallEvent(ToolCall("c1", "add", '{"a":1}')),
        ToolCallEvent(ToolCall("c2", "add", "{}"), position=1),
        Finished("tool_calls", USAGE),
    ],
    "calls bit by bit": [
        ReasoningDelta("Hm"),
        TextDelta("Well"),
        ToolCallDelta(0, "c1", "add"),
        ToolCallDelta(0, arguments='{"a"'),
        ToolCallDelta(0, arguments=":1}"),
        ToolCallEvent(ToolCall("c1", "add", '{"a":1}')),
        ToolCallDelta(1, "c2", "now"),
        ToolCallEvent(ToolCall("c2", "now", "{}"), position=1),
        FINISHED,
    ],
    "a call cut off": [ToolCallDelta(0, "c1", "add"), ToolCallDelta(0, arguments='{"a"'), Finished("length", USAGE)],
    "a stop string": [TextDelta("a"), Finished("stop", USAGE, stop="###")],
    "cut off": [TextDelta("a"), Finished("length", USAGE)],
    "past its deadline": [TextDelta("a"), Finished("deadline", USAGE)],
    "a notice": [Notice("truncated", "2 turns were dropped", {"num_dropped": 2}), TextDelta("a"), FINISHED],
}


def request_goldens() -> dict[str, Any]:
    """What each body is translated to, or the error that refuses it."""
    found: dict[str, Any] = {}
    for name, given in BODIES.items():
        try:
            made = decode(json.dumps(given).encode(), msgspec.json.Decoder(MessagesBody))
            found[name] = json.loads(msgspec.json.encode(chat_request(made, "default")))
        except InvalidRequestError as error:
            found[name] = {"refused": error.message, "param": error.facts.get("param")}
    return found


def answer_goldens() -> dict[str, Any]:
    """What each list of events becomes, whole and streamed."""
    return {
        name: {
            "whole": json.loads(msgspec.json.encode(message("msg_1", "tiny", events))),
            "stream": MessageStream("msg_1", "tiny").encode(events).decode().split("\n\n"),
        }
        for name, events in EVENTS.items()
    }


def main() -> None:
    """Write the golden files."""
    for name, goldens in (("requests", request_goldens()), ("answers", answer_goldens())):
        text = json.dumps(goldens, indent=1, ensure_ascii=False) + "\n"
        (GOLDENS / f"anthropic_{name}.json").write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
