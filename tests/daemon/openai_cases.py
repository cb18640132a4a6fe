"""What OpenAI clients send and what they get back, as cases with golden files beside this one.

`python -m tests.daemon.openai_cases` writes goldens/openai_*.json anew, to be read before they are committed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from localllm.api import (
    ChoiceFinished,
    Event,
    Finished,
    Notice,
    Progress,
    PromptLogprobs,
    Queued,
    ReasoningDelta,
    TextDelta,
    Timings,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    ToolCallEvent,
    Usage,
)
from localllm.daemon.body import decode
from localllm.daemon.openai.answers import chat_completion, completion
from localllm.daemon.openai.bodies import ChatBody, CompletionBody
from localllm.daemon.openai.chunks import ChatStream, CompletionStream
from localllm.daemon.openai.requests import chat_request, completion_requests
from localllm.daemon.openai.values import Head

GOLDENS = Path(__file__).parent / "goldens"
HEAD = Head("chatcmpl-1", 1_700_000_000, "tiny")
USER = [{"role": "user", "content": "Hi"}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
TOOL = {
    "type": "function",
    "function": {"name": "add", "description": "Adds.", "parameters": SCHEMA, "strict": True},
}

CHATS: dict[str, dict[str, Any]] = {
    "plain": {"model": "tiny", "messages": USER},
    "no model": {"messages": USER},
    "unknown fields": {"model": "tiny", "messages": USER, "user": "u", "store": False, "metadata": {"a": "b"}},
    "nulls": {"model": "tiny", "messages": USER, "temperature": None, "stop": None, "tools": None, "n": None},
    "sampling": {
        "model": "tiny",
        "messages": USER,
        "temperature": 0,
        "top_p": 0.9,
        "top_k": 40,
        "min_p": 0.05,
        "typical_p": 0.9,
        "seed": 7,
        "max_tokens": 5,
        "presence_penalty": 1,
        "frequency_penalty": -1.5,
        "repeat_penalty": 1.1,
        "repeat_last_n": 64,
        "logit_bias": {"15": -100, "16": 2.5},
        "stop": "###",
        "ignore_eos": True,
        "dry_multiplier": 0.8,
        "dry_sequence_breakers": ["\n"],
        "mirostat": 2,
        "xtc_probability": 0.5,
        "top_n_sigma": 1.0,
    },
    "max_completion_tokens wins": {"messages": USER, "max_tokens": 5, "max_completion_tokens": 9},
    "llama.cpp's endless and random": {"messages": USER, "max_tokens": -1, "seed": -1},
    "a seed of 64 bits": {"messages": USER, "seed": 2**63 - 1},
    "vLLM's penalty": {"messages": USER, "repetition_penalty": 1.2},
    "stops": {"messages": USER, "stop": ["a", "b"]},
    "logprobs": {"messages": USER, "logprobs": True, "top_logprobs": 3},
    "logprobs of the chosen only": {"messages": USER, "logprobs": True},
    "n": {"messages": USER, "n": 3},
    "roles": {
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "system", "content": "And kind."},
            {
                "role": "user",
                "content": [{"type": "text", "text": "One"}, {"type": "text", "text": "two"}],
                "name": "x",
            },
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": "Hm.",
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "2"},
            {"role": "assistant", "content": "2", "refusal": None},
        ]
    },
    "tools": {"messages": USER, "tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": True},
    "tools put aside": {"messages": USER, "tools": [TOOL], "tool_choice": "none"},
    "one call at most": {"messages": USER, "tools": [TOOL], "parallel_tool_calls": False},
    "a tool that must be called": {"messages": USER, "tools": [TOOL], "tool_choice": "required"},
    "any tool, as Mistral says it": {"messages": USER, "tools": [TOOL], "tool_choice": "any"},
    "a choice as an object": {"messages": USER, "tools": [TOOL], "tool_choice": {"type": "required"}},
    "a named tool": {
        "messages": USER,
        "tools": [TOOL],
        "tool_choice": {"type": "function", "function": {"name": "add"}},
    },
    "a named tool, several times": {
        "messages": USER,
        "tools": [TOOL],
        "tool_choice": {"type": "function", "function": {"name": "add"}},
        "parallel_tool_calls": True,
    },
    "allowed tools": {
        "messages": USER,
        "tools": [TOOL, {"type": "function", "function": {"name": "now"}}],
        "tool_choice": {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "now"}}]},
        },
    },
    "arguments that are no text": {
        "messages": [
            {"role": "assistant", "tool_calls": [{"id": "c1", "function": {"name": "add", "arguments": {"a": 1}}}]},
            {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "2"}]},
        ]
    },
    "json object": {"messages": USER, "response_format": {"type": "json_object"}},
    "json schema": {
        "messages": USER,
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": SCHEMA}},
    },
    "llama.cpp's json schema": {"messages": USER, "response_format": {"type": "json_object", "schema": SCHEMA}},
    "json_schema at the top": {"messages": USER, "json_schema": SCHEMA},
    "text": {"messages": USER, "response_format": {"type": "text"}},
    "gbnf": {"messages": USER, "grammar": 'root ::= "a"'},
    "regex": {"messages": USER, "guided_regex": "[a-z]+"},
    "choice": {"messages": USER, "guided_choice": ["yes", "no"]},
    "lark": {"messages": USER, "guided_grammar": 'start: "a"'},
    "effort": {"messages": USER, "reasoning_effort": "high"},
    "no effort": {"messages": USER, "reasoning_effort": "none"},
    "template variables": {"messages": USER, "chat_template_kwargs": {"enable_thinking": False, "lang": "de"}},
    "ours": {
        "messages": USER,
        "deterministic": True,
        "speculate": False,
        "end_runaway": True,
        "reasoning_budget": 10,
        "truncate": "oldest",
    },
    # What is refused, with the parameter that is named.
    "no messages": {"model": "tiny"},
    "empty messages": {"messages": []},
    "a wrong type": {"messages": USER, "temperature": "hot"},
    "a wrong type far in": {"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]},
    "a wrong role": {"messages": [{"role": "king", "content": "Hi"}]},
    "out of range": {"messages": USER, "top_p": 2},
    "too many answers": {"messages": USER, "n": 9},
    "an image": {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]},
    "no content": {"messages": [{"role": "user"}]},
    "a tool that is no function": {"messages": USER, "tools": [{"type": "web_search"}]},
    "functions": {"messages": USER, "functions": [{"name": "add"}]},
    "a template": {"messages": USER, "chat_template": "{{ 1 }}"},
    "a template among the variables": {"messages": USER, "chat_template_kwargs": {"chat_template": "x"}},
    "a schema without one": {"messages": USER, "response_format": {"type": "json_schema"}},
    "two forms": {"messages": USER, "grammar": "root ::= x", "guided_regex": "x"},
    "a call without tools": {"messages": USER, "tool_choice": "required"},
    "a named tool that is not there": {
        "messages": USER,
        "tools": [TOOL],
        "tool_choice": {"type": "function", "function": {"name": "sub"}},
    },
    "an unknown choice": {"messages": USER, "tools": [TOOL], "tool_choice": "perhaps"},
    "an unknown kind of choice": {"messages": USER, "tools": [TOOL], "tool_choice": {"type": "custom"}},
    "a named tool without a name": {"messages": USER, "tools": [TOOL], "tool_choice": {"type": "function"}},
    "an unknown form": {"messages": USER, "response_format": {"type": "xml"}},
    "a seed too large": {"messages": USER, "seed": 2**64},
}

COMPLETIONS: dict[str, dict[str, Any]] = {
    "text": {"model": "tiny", "prompt": "Once"},
    "token ids": {"model": "tiny", "prompt": [1, 2, 3]},
    "texts": {"model": "tiny", "prompt": ["a", "b"], "n": 2},
    "lists of ids": {"model": "tiny", "prompt": [[1], [2, 3]]},
    "suffix": {"model": "tiny", "prompt": "def f", "suffix": "return x"},
    "echo with logprobs": {"model": "tiny", "prompt": "Once", "echo": True, "logprobs": 2, "max_tokens": 0},
    "best_of as n": {"model": "tiny", "prompt": "a", "n": 2, "best_of": 2},
    "no prompt": {"model": "tiny"},
    "an empty list": {"model": "tiny", "prompt": []},
    "mixed": {"model": "tiny", "prompt": ["a", 1]},
    "no tokens": {"model": "tiny", "prompt": [[]]},
    "negative ids": {"model": "tiny", "prompt": [-1]},
    "best_of": {"model": "tiny", "prompt": "a", "best_of": 3},
    "echo with logprobs of several": {"model": "tiny", "prompt": ["a", "b"], "echo": True, "logprobs": 0},
    "too many prompts": {"model": "tiny", "prompt": ["a"] * 65},
}


def logprob(token: int, text: bytes) -> TokenLogprob:
    return TokenLogprob(token, text, -0.5, ((token, text, -0.5), (0, b"\xff", float("-inf"))))


USAGE = Usage(
    num_prompt_tokens=10,
    num_cached_tokens=4,
    num_output_tokens=3,
    num_reasoning_tokens=1,
    num_drafted_tokens=2,
    num_accepted_tokens=1,
)
FINISHED = Finished("stop", USAGE, Timings(queue_s=0.25, prompt_s=0.5, decode_s=1.5))

EVENTS: dict[str, list[Event]] = {
    "text": [Queued(1), Progress("load"), TextDelta("Hel"), TextDelta('lo "\u00e9\n'), FINISHED],
    "nothing": [FINISHED],
    "reasoning": [ReasoningDelta("Hm"), TextDelta("Yes"), FINISHED],
    "logprobs": [TextDelta("a", (logprob(1, b"a"),)), TextDelta("\u00e9", (logprob(2, "\u00e9".encode()),)), FINISHED],
    "prompt logprobs": [
        PromptLogprobs((logprob(3, b"n"), logprob(4, b"ce"))),
        TextDelta(" a", (logprob(5, b" a"),)),
        FINISHED,
    ],
    "tool calls": [
        ToolCallEvent(ToolCall("c1", "add", '{"a":1}')),
        ToolCallEvent(ToolCall("c2", "add", '{"a":2}')),
        Finished("tool_calls", USAGE),
    ],
    "tool calls bit by bit": [
        TextDelta("Well."),
        ToolCallDelta(0, "c1", "add"),
        ToolCallDelta(0, arguments='{"a"'),
        ToolCallDelta(0, arguments=": 1}"),
        ToolCallEvent(ToolCall("c1", "add", '{"a": 1}')),
        ToolCallDelta(1, "c2", "now"),
        ToolCallDelta(1, arguments="{}"),
        ToolCallEvent(ToolCall("c2", "now", "{}"), position=1),
        Finished("tool_calls", USAGE),
    ],
    "tool calls of two answers": [
        ToolCallDelta(0, "c1", "add"),
        ToolCallDelta(0, "c2", "add", index=1),
        ToolCallDelta(0, arguments='{"a": 1}'),
        ToolCallDelta(0, arguments='{"a": 2}', index=1),
        ToolCallEvent(ToolCall("c1", "add", '{"a": 1}')),
        ToolCallEvent(ToolCall("c2", "add", '{"a": 2}'), 1),
        ChoiceFinished(0, "tool_calls"),
        ChoiceFinished(1, "tool_calls"),
        Finished("tool_calls", USAGE),
    ],
    "a call that ends as a stop": [TextDelta("Well"), ToolCallEvent(ToolCall("c1", "add")), FINISHED],
    "two answers": [
        TextDelta("a"),
        TextDelta("b", index=1),
        ChoiceFinished(1, "length"),
        ChoiceFinished(0, "stop"),
        FINISHED,
    ],
    "cut off": [TextDelta("a"), Finished("length", USAGE)],
    "past its deadline": [TextDelta("a"), Finished("deadline", USAGE)],
    "a notice": [Notice("truncated", "2 turns were dropped", {"num_dropped": 2}), TextDelta("a"), FINISHED],
}


def request_goldens() -> dict[str, Any]:
    """What each body is translated to, or the error that refuses it."""
    found: dict[str, Any] = {}
    for name, body in CHATS.items():
        found[f"chat: {name}"] = _outcome(ChatBody, body, lambda made: chat_request(made, "default"))
    for name, body in COMPLETIONS.items():
        found[f"completion: {name}"] = _outcome(
            CompletionBody, body, lambda made: completion_requests(made, "default", "cmpl-1")
        )
    return found


def answer_goldens() -> dict[str, Any]:
    """What each list of events becomes, whole and streamed."""
    found: dict[str, Any] = {}
    for name, events in EVENTS.items():
        echo = ["Once"] if name == "prompt logprobs" else []
        wants = "logprobs" in name
        found[name] = {
            "chat": _plain(chat_completion(HEAD, events, logprobs=wants)),
            "chat stream": ChatStream(HEAD, include_usage=True).encode(events).decode().split("\n\n"),
            "completion": _plain(completion(HEAD, events, logprobs=wants, echoes=echo)),
            "completion stream": CompletionStream(HEAD, include_usage=False, echoes=echo)
            .encode(events)
            .decode()
            .split("\n\n"),
        }
    return found


def _outcome(kind: Any, body: dict[str, Any], translate: Any) -> Any:
    from localllm.errors import InvalidRequestError

    try:
        made = translate(decode(json.dumps(body).encode(), msgspec.json.Decoder(kind)))
    except InvalidRequestError as error:
        return {"refused": error.message, "param": error.facts.get("param")}
    return _plain(made)


def _plain(value: Any) -> Any:
    return json.loads(msgspec.json.encode(value))


def main() -> None:
    """Write the golden files."""
    for name, goldens in (("openai_requests", request_goldens()), ("openai_answers", answer_goldens())):
        text = json.dumps(goldens, indent=1, ensure_ascii=False) + "\n"
        (GOLDENS / f"{name}.json").write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
