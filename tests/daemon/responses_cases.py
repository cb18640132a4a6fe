"""What clients of OpenAI's responses send and get back, as cases with golden files beside this one.

`python -m tests.daemon.responses_cases` writes goldens/responses_*.json anew, to be read before they are committed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from localllm.api import Event, Finished, ReasoningDelta, TextDelta, TokenLogprob
from localllm.daemon.body import decode
from localllm.daemon.openai.responses.items import Item, input_items
from localllm.daemon.openai.responses.requests import ResponseBody, chat_request, response_head
from localllm.daemon.openai.responses.transcript import Transcript
from localllm.errors import InvalidRequestError
from tests.daemon.anthropic_cases import EVENTS as SHARED_EVENTS
from tests.daemon.anthropic_cases import USAGE

GOLDENS = Path(__file__).parent / "goldens"
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
TOOL = {"type": "function", "name": "add", "description": "Adds.", "parameters": SCHEMA, "strict": True}
SCORE = TokenLogprob(1, b"a", -0.5, ((1, b"a", -0.5), (0, b"\xff", float("-inf"))))

BODIES: dict[str, dict[str, Any]] = {
    "text": {"model": "tiny", "input": "Hi"},
    "no model": {"input": "Hi"},
    "instructions": {"input": "Hi", "instructions": "Be brief."},
    "unknown fields": {"input": "Hi", "service_tier": "auto", "prompt_cache_key": "x", "stream_options": {}},
    "messages": {
        "input": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "input_text", "text": "One"}, {"type": "input_text", "text": "two"}]},
            {
                "type": "message",
                "id": "msg_1",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "Yes", "annotations": []}],
            },
            {"role": "user", "content": "Go on"},
        ]
    },
    "a turn in pieces": {
        "input": [
            {"role": "user", "content": "1+1?"},
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]},
            {"type": "message", "role": "assistant", "content": "I add."},
            {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a":1}'},
            {"type": "function_call", "call_id": "c2", "name": "sub", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "2"},
            {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "0"}]},
            {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "So."}], "summary": []},
            {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
            {"type": "message", "role": "assistant", "content": "Yes."},
        ]
    },
    "sampling": {"input": "Hi", "temperature": 0, "top_p": 0.9, "max_output_tokens": 5, "seed": 7, "top_k": 3},
    "logprobs": {"input": "Hi", "include": ["message.output_text.logprobs"], "top_logprobs": 2},
    "tools": {"input": "Hi", "tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False},
    "a named tool": {"input": "Hi", "tools": [TOOL], "tool_choice": {"type": "function", "name": "add"}},
    "some tools": {
        "input": "Hi",
        "tools": [TOOL, {**TOOL, "name": "sub", "strict": None}],
        "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "sub"}]},
    },
    "a schema": {"input": "Hi", "text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}}},
    "an object": {"input": "Hi", "text": {"format": {"type": "json_object"}, "verbosity": "low"}},
    "effort": {"input": "Hi", "reasoning": {"effort": "high", "summary": "auto"}},
    "no effort": {"input": "Hi", "reasoning": {"effort": "none"}},
    "truncation": {"input": "Hi", "truncation": "auto"},
    "who": {"input": "Hi", "user": "somebody", "safety_identifier": "s"},
    # What is refused, with the parameter that is named.
    "an image": {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "http://x"}]}]},
    "a file": {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "x"}]}]},
    "an item of another kind": {"input": [{"type": "computer_call_output", "call_id": "c", "output": "x"}]},
    "an output of nothing": {"input": [{"type": "function_call_output", "output": "x"}]},
    "no content": {"input": [{"role": "user"}]},
    "a tool of OpenAI's": {"input": "Hi", "tools": [{"type": "web_search"}]},
    "a tool without a name": {"input": "Hi", "tools": [{"type": "function"}]},
    "a tool that is not there": {"input": "Hi", "tools": [TOOL], "tool_choice": {"type": "function", "name": "x"}},
    "a choice of another kind": {"input": "Hi", "tool_choice": {"type": "file_search"}},
    "several answers": {"input": "Hi", "n": 2},
    "a conversation": {"input": "Hi", "conversation": "conv_1"},
    "a stored prompt": {"prompt": {"id": "p"}},
    "background without store": {"input": "Hi", "background": True, "store": False},
    "a schema without one": {"input": "Hi", "text": {"format": {"type": "json_schema", "name": "x"}}},
    "too much metadata": {"input": "Hi", "metadata": {str(i): "" for i in range(17)}},
}
EVENTS: dict[str, list[Event]] = {
    **SHARED_EVENTS,
    "logprobs": [TextDelta("\n"), TextDelta("a", (SCORE,)), TextDelta("b", (SCORE,)), Finished("stop", USAGE)],
    "a summary": [ReasoningDelta("H"), ReasoningDelta("m"), TextDelta("Yes"), Finished("stop", USAGE)],
    "thought to no end": [ReasoningDelta("H"), Finished("length", USAGE)],
}


def make_transcript(name: str) -> Transcript:
    """The transcript for one of the cases."""
    body = ResponseBody(input="Hi")
    head = response_head(body, "resp_1", 1_700_000_000, "tiny")
    return Transcript(head, lambda: 1_700_000_001.0, summarize=name == "a summary", logprobs=name == "logprobs")


def request_goldens() -> dict[str, Any]:
    """What each body is translated to, or the error that refuses it."""
    found: dict[str, Any] = {}
    for name, given in BODIES.items():
        try:
            body = decode(json.dumps(given).encode(), msgspec.json.Decoder(ResponseBody))
            items = msgspec.convert(input_items(body.input, "1"), list[Item])
            found[name] = json.loads(msgspec.json.encode(chat_request(body, items, "default")))
        except InvalidRequestError as error:
            found[name] = {"refused": error.message, "param": error.facts.get("param")}
    return found


def answer_goldens() -> dict[str, Any]:
    """What each list of events becomes: the response, and each event but for the response in it."""
    found: dict[str, Any] = {}
    for name, events in EVENTS.items():
        transcript = make_transcript(name)
        lines = [piece for event in events for piece in transcript.take(event)]
        values = [json.loads(line.decode().split("data: ", 1)[1]) for line in lines]
        for value in values:
            value.pop("response", None)
        found[name] = {"response": json.loads(json.dumps(transcript.response)), "events": values}
    return found


def main() -> None:
    """Write the golden files."""
    for name, goldens in (("requests", request_goldens()), ("answers", answer_goldens())):
        text = json.dumps(goldens, indent=1, ensure_ascii=False) + "\n"
        (GOLDENS / f"responses_{name}.json").write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
