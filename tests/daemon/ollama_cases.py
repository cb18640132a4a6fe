"""What Ollama's clients send and what they get back, as cases with golden files beside this one.

`python -m tests.daemon.ollama_cases` writes goldens/ollama_*.json anew, to be read before they are committed.
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
    SamplingParams,
    TextDelta,
    Timings,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    ToolCallEvent,
    Usage,
)
from localllm.api.answers import ModelInfo
from localllm.api.keeper import ModelDetails, TensorShape
from localllm.daemon.body import decode
from localllm.daemon.ollama import requests
from localllm.daemon.ollama.answers import AnswerStream, Tally, whole
from localllm.daemon.ollama.bodies import ChatBody, EmbedBody, GenerateBody
from localllm.daemon.ollama.making import CreateBody, new_model
from localllm.daemon.ollama.models import shown_value
from localllm.daemon.ollama.status import StatusStream, status
from localllm.errors import InvalidRequestError

GOLDENS = Path(__file__).parent / "goldens"
STAMP = "2026-01-02T03:04:05.000006Z"
USER = [{"role": "user", "content": "Hi"}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
TOOL = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": SCHEMA}}
DIGEST = "sha256:" + "ab" * 32

CHATS: dict[str, dict[str, Any]] = {
    "plain": {"model": "tiny", "messages": USER},
    "the tag that says nothing": {"model": "tiny:latest", "messages": USER},
    "unknown fields": {"model": "tiny", "messages": USER, "shift": True, "user": "u"},
    "nulls": {"model": "tiny", "messages": USER, "format": None, "options": None, "tools": None, "think": None},
    "empty format": {"model": "tiny", "messages": USER, "format": "", "tools": [], "options": {}},
    "options": {
        "model": "tiny",
        "messages": USER,
        "options": {
            "num_predict": 5,
            "temperature": 0,
            "top_k": 40,
            "top_p": 0.9,
            "min_p": 0.05,
            "typical_p": 0.7,
            "repeat_last_n": 33,
            "repeat_penalty": 1.2,
            "presence_penalty": 1.5,
            "frequency_penalty": 1.0,
            "seed": 42,
            "stop": ["\n", "user:"],
            "mirostat": 1,
            "mirostat_tau": 0.8,
            "mirostat_eta": 0.6,
            "num_ctx": 1024,
        },
    },
    "options that are ignored": {
        "model": "tiny",
        "messages": USER,
        "options": {
            "num_keep": 5,
            "num_batch": 2,
            "num_gpu": 1,
            "main_gpu": 0,
            "use_mmap": True,
            "num_thread": 8,
            "penalize_newline": True,
            "tfs_z": 0.5,
            "numa": False,
            "no_such_option": 1,
        },
    },
    "to the end": {"model": "tiny", "messages": USER, "options": {"num_predict": -1, "seed": -1, "top_k": -1}},
    "until it is full": {"model": "tiny", "messages": USER, "options": {"num_predict": -2, "stop": "END"}},
    "a null option": {"model": "tiny", "messages": USER, "options": {"temperature": None, "num_gpu": None}},
    "json": {"model": "tiny", "messages": USER, "format": "json"},
    "schema": {"model": "tiny", "messages": USER, "format": SCHEMA},
    "thinking": {"model": "tiny", "messages": USER, "think": True},
    "no thinking": {"model": "tiny", "messages": USER, "think": False},
    "thinking hard": {"model": "tiny", "messages": USER, "think": "max"},
    "logprobs": {"model": "tiny", "messages": USER, "logprobs": True, "top_logprobs": 3},
    "truncate": {"model": "tiny", "messages": USER, "truncate": True},
    "keep alive": {"model": "tiny", "messages": USER, "keep_alive": "1h30m"},
    "leave at once": {"model": "tiny", "messages": USER, "keep_alive": 0},
    "stay for ever": {"model": "tiny", "messages": USER, "keep_alive": -1},
    "tools": {"model": "tiny", "messages": USER, "tools": [TOOL]},
    "a conversation with calls": {
        "model": "tiny",
        "messages": [
            {"role": "System", "content": "Be brief."},
            *USER,
            {
                "role": "assistant",
                "content": "",
                "thinking": "Hm.",
                "tool_calls": [
                    {"function": {"name": "add", "arguments": {"a": 1, "b": [2]}}},
                    {"id": "c7", "function": {"index": 1, "name": "add", "arguments": '{"a":3}'}},
                ],
            },
            {"role": "tool", "tool_name": "add", "content": "3"},
            {"role": "tool", "tool_call_id": "c7", "content": "4"},
        ],
    },
    "results without ids": {
        "model": "tiny",
        "messages": [
            {
                "role": "assistant",
                "tool_calls": [{"function": {"name": name}} for name in ("add", "sub", "add")],
            },
            {"role": "tool", "tool_name": "sub", "content": "1"},
            {"role": "tool", "content": "2"},
            {"role": "tool", "tool_name": "add", "content": "3"},
            {"role": "tool", "tool_name": "add", "content": "one too many"},
        ],
    },
    # refused
    "no model": {"messages": USER},
    "a wrong type": {"model": "tiny", "messages": [{"role": "user", "content": 3}]},
    "a wrong role": {"model": "tiny", "messages": [{"role": "king", "content": "Hi"}]},
    "an image": {"model": "tiny", "messages": [{"role": "user", "content": "What?", "images": ["aGk="]}]},
    "an unknown form": {"model": "tiny", "messages": USER, "format": "xml"},
    "an unknown effort": {"model": "tiny", "messages": USER, "think": "much"},
    "out of range": {"model": "tiny", "messages": USER, "options": {"top_p": 2}},
    "an option of a wrong type": {"model": "tiny", "messages": USER, "options": {"stop": 3}},
    "an option of a wrong type inside": {"model": "tiny", "messages": USER, "options": {"stop": ["a", 3]}},
    "too many logprobs": {"model": "tiny", "messages": USER, "logprobs": True, "top_logprobs": 21},
    "no duration": {"model": "tiny", "messages": USER, "keep_alive": "soon"},
    "a duration without unit": {"model": "tiny", "messages": USER, "keep_alive": "300"},
    "a tool that is no function": {"model": "tiny", "messages": USER, "tools": [{"type": "web_search"}]},
    "a tool without a name": {"model": "tiny", "messages": USER, "tools": [{"function": {"name": ""}}]},
}

GENERATES: dict[str, dict[str, Any]] = {
    "plain": {"model": "tiny", "prompt": "Hi"},
    "system": {"model": "tiny", "prompt": "Hi", "system": "Be brief."},
    "raw": {"model": "tiny", "prompt": "<|im_start|>user", "raw": True, "stream": False},
    "suffix": {"model": "tiny", "prompt": "def f", "suffix": "return x"},
    "empty lists": {"model": "tiny", "prompt": "Hi", "images": [], "template": "", "context": []},
    "context": {"model": "tiny", "prompt": "And?", "context": [1, 2, 3], "options": {"temperature": 0}},
    # refused
    "images": {"model": "tiny", "prompt": "What?", "images": ["aGk="]},
    "template": {"model": "tiny", "prompt": "Hi", "template": "{{ .Prompt }}"},
    "raw with system": {"model": "tiny", "prompt": "Hi", "raw": True, "system": "x"},
    "suffix with context": {"model": "tiny", "prompt": "Hi", "suffix": "x", "context": [1]},
    "thinking with context": {"model": "tiny", "prompt": "Hi", "think": True, "context": [1]},
    "negative ids": {"model": "tiny", "prompt": "Hi", "context": [-1]},
}

EMBEDS: dict[str, dict[str, Any]] = {
    "one": {"model": "tiny", "input": "a"},
    "several": {"model": "tiny", "input": ["a", "b"], "dimensions": 2, "keep_alive": "5m"},
    "none": {"model": "tiny", "input": ""},
    "not cut": {"model": "tiny", "input": "a", "truncate": False},
    "no model": {"input": "a"},
    "a number": {"model": "tiny", "input": [1]},
}

MODELFILE = '''# A comment.
FROM tiny
PARAMETER temperature 0.5
PARAMETER stop "a b"
parameter stop END
PARAMETER num_ctx 1024
PARAMETER top_k 5
SYSTEM """You are
# no comment
Mario."""
LICENSE "MIT"
'''

CREATES: dict[str, dict[str, Any]] = {
    "from": {
        "model": "mario",
        "from": "tiny",
        "system": "You are Mario.",
        "parameters": {"temperature": 1, "stop": "x"},
    },
    "files": {"model": "mario", "files": {"m.gguf": DIGEST}, "license": ["MIT"], "stream": False},
    "older spelling": {"name": "mario:latest", "from": "tiny:latest"},
    "a modelfile": {"model": "mario", "modelfile": MODELFILE},
    "a modelfile of a blob": {"name": "mario", "modelfile": f"FROM @{DIGEST}"},
    # refused
    "no name": {"from": "tiny"},
    "of nothing": {"model": "mario"},
    "of both": {"model": "mario", "from": "tiny", "files": {"m.gguf": DIGEST}},
    "template": {"model": "mario", "from": "tiny", "template": "{{ .Prompt }}"},
    "adapters": {"model": "mario", "from": "tiny", "adapters": {"a.gguf": DIGEST}},
    "messages": {"model": "mario", "from": "tiny", "messages": USER},
    "quantize": {"model": "mario", "from": "tiny", "quantize": "q4_K_M"},
    "a load option": {"model": "mario", "from": "tiny", "parameters": {"num_gpu": 1}},
    "an unknown option": {"model": "mario", "from": "tiny", "parameters": {"temprature": 1}},
    "a wrong number": {"model": "mario", "from": "tiny", "parameters": {"temperature": "hot"}},
    "no digest": {"model": "mario", "files": {"m.gguf": "sha256:../x"}},
    "a long license": {"model": "mario", "from": "tiny", "license": "line\nline"},
    "an instruction that is none": {"model": "mario", "modelfile": "FROM tiny\nFORM x"},
    "open quotes": {"model": "mario", "modelfile": 'FROM tiny\nSYSTEM """x'},
    "a modelfile with an adapter": {"model": "mario", "modelfile": "FROM tiny\nADAPTER ./a.gguf"},
    "a modelfile with a wrong number": {"model": "mario", "modelfile": "FROM tiny\nPARAMETER top_k many"},
}


def logprob(token: int, text: bytes) -> TokenLogprob:
    return TokenLogprob(token, text, -0.5, ((token, text, -0.5), (0, b"\xff", float("-inf"))))


USAGE = Usage(num_prompt_tokens=10, num_cached_tokens=4, num_output_tokens=3, num_reasoning_tokens=1)
FINISHED = Finished("stop", USAGE, Timings(queue_s=0.25, prompt_s=0.5, decode_s=1.5))
NOTICE = Notice("truncated", "2 turns were dropped", {"num_dropped": 2})

EVENTS: dict[str, list[Event]] = {
    "text": [Queued(1), Progress("load"), TextDelta("Hel"), TextDelta('lo "\u00e9\n'), FINISHED],
    "nothing": [FINISHED],
    "thinking": [ReasoningDelta("Hm"), ReasoningDelta(" so"), TextDelta("Yes"), FINISHED],
    "logprobs": [TextDelta("a", (logprob(1, b"a"),)), TextDelta("\u00e9", (logprob(2, "\u00e9".encode()),)), FINISHED],
    "tool calls": [
        ToolCallDelta(0, "c1", "add"),
        ToolCallDelta(0, arguments='{"a":1}'),
        ToolCallEvent(ToolCall("c1", "add", '{"a":1}')),
        ToolCallEvent(ToolCall("c2", "add", ""), position=1),
        Finished("tool_calls", USAGE),
    ],
    "a call that is none": [TextDelta("So: "), ToolCallEvent(ToolCall("c1", "add", "[1]")), FINISHED],
    "cut off": [TextDelta("a"), Finished("length", USAGE)],
    "past its deadline": [TextDelta("a"), Finished("deadline", USAGE)],
    "a notice": [NOTICE, TextDelta("a"), FINISHED],
}

STATUSES: dict[str, list[Event]] = {
    "a pull": [
        Progress("resolve", "tiny"),
        Progress("download", "m.gguf", 0, None),
        Progress("download", "m.gguf", 10, 100),
        Progress("download", "m.gguf", 100, 100),
        Progress("verify", "m.gguf", 50, 100),
        Progress("verify", "m.gguf", 100, 100),
        Finished("stop", Usage()),
    ],
    "a model that is made": [status("reading model metadata"), status("writing manifest"), Finished("stop", Usage())],
    "nothing to do": [Finished("stop", Usage())],
}

DETAILS = ModelDetails(
    info=ModelInfo(
        name="mario",
        size_bytes=1000,
        digest=DIGEST,
        origin="upload",
        modified="2026-01-02T03:04:05+00:00",
        architecture="llama",
        num_params=8_030_261_248,
        quant="Q4_K_M",
        licence="mit",
        capabilities=("chat", "tools", "fim", "thinking"),
    ),
    metadata={"general.architecture": "llama", "llama.context_length": 8192, "tokenizer.ggml.tokens": None},
    template="{{ messages }}",
    system="You are Mario.",
    sampling=SamplingParams(temperature=0.5, stop=("a b", "END"), max_tokens=7),
    num_ctx=1024,
    tensors=(TensorShape("output.weight", "Q4_K", (64, 128)),),
)


def request_goldens() -> dict[str, Any]:
    """What each body is translated to, or the error that refuses it."""
    found: dict[str, Any] = {}
    for name, body in CHATS.items():
        found[f"chat: {name}"] = _outcome(ChatBody, body, _chat)
    for name, body in GENERATES.items():
        found[f"generate: {name}"] = _outcome(GenerateBody, body, _generate)
    for name, body in EMBEDS.items():
        found[f"embed: {name}"] = _outcome(EmbedBody, body, requests.embed_request)
    for name, body in CREATES.items():
        found[f"create: {name}"] = _outcome(CreateBody, body, new_model)
    return found


def answer_goldens() -> dict[str, Any]:
    """What each list of events becomes, whole and in lines."""
    found: dict[str, Any] = {}
    for name, events in EVENTS.items():
        found[name] = {
            "chat": _plain(whole("tiny", "chat", events, tally(), stamp)),
            "chat stream": _lines(AnswerStream("tiny", "chat", tally(), stamp).encode(events)),
            "generate": _plain(whole("tiny", "generate", events, tally([5, 6]), stamp)),
            "generate stream": _lines(AnswerStream("tiny", "generate", tally([5, 6]), stamp).encode(events)),
        }
    for name, events in STATUSES.items():
        one_by_one = StatusStream()
        found[f"status: {name}"] = {
            "at once": _lines(StatusStream().encode(events)),
            "one by one": _lines(b"".join(one_by_one.encode([event]) for event in events)),
        }
    found["show"] = _plain(shown_value(DETAILS))
    return found


def tally(context: list[int] | None = None) -> Tally:
    notices = [Notice("num_ctx", "said before", {})] if context else []
    return Tally(load_ns=250_000_000, total_ns=2_500_000_000, context=context, notices=notices)


def stamp() -> str:
    return STAMP


def _chat(body: ChatBody) -> Any:
    options = requests.options_of(body)
    return _with_options(requests.chat_request(body, options, "id"), options)


def _generate(body: GenerateBody) -> Any:
    requests.check_generate(body)
    options = requests.options_of(body)
    if body.raw or body.suffix:
        return _with_options(requests.raw_request(body, options, "id"), options)
    request = requests.generate_request(body, options, "id")
    if body.context:
        return _with_options(requests.continued_request(request, tuple(body.context), (7, 8)), options)
    return _with_options(request, options)


def _with_options(request: Any, options: Any) -> Any:
    notices = [notice.message for notice in options.notices()]
    return {"request": request, "num_ctx": options.num_ctx, "notices": notices}


def _outcome(kind: Any, body: dict[str, Any], translate: Any) -> Any:
    try:
        made = translate(decode(json.dumps(body).encode(), msgspec.json.Decoder(kind)))
    except InvalidRequestError as error:
        return {"refused": error.message, "param": error.facts.get("param")}
    return _plain(made)


def _lines(data: bytes) -> list[str]:
    assert data.endswith(b"\n")
    return data.decode().split("\n")[:-1]


def _plain(value: Any) -> Any:
    return json.loads(msgspec.json.encode(value))


def main() -> None:
    """Write the golden files."""
    for name, goldens in (("ollama_requests", request_goldens()), ("ollama_answers", answer_goldens())):
        text = json.dumps(goldens, indent=1, ensure_ascii=False) + "\n"
        (GOLDENS / f"{name}.json").write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
