"""Plain lists of messages, as the chat APIs of Ollama and OpenAI take them: `{"model": ..., "messages": [...]}`."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from localllm_tui.exchange.errors import ExchangeError
from localllm_tui.exchange.trees import bundle, row, seconds, text
from localllm_tui.history.values import Bundle, Conversation, Node

from localllm.api import ToolCall


class _Message(msgspec.Struct):
    role: str
    content: Any = None
    thinking: Any = None
    reasoning_content: Any = None
    tool_calls: Any = None
    tool_call_id: Any = None
    tool_name: Any = None
    name: Any = None


class _Exported(msgspec.Struct):
    messages: list[_Message]
    model: Any = None
    title: Any = None
    system: Any = None
    created_at: Any = None


_decoder = msgspec.json.Decoder(_Exported)


def read(raw: msgspec.Raw) -> Bundle:
    """One conversation. Raises ExchangeError, DecodeError and RecursionError."""
    given = _decoder.decode(raw)
    system = [text(given.system), *(_content(one.content) for one in given.messages if one.role == "system")]
    nodes: list[Node] = []
    for message in given.messages:
        if (node := _node(message, nodes)) is not None:
            nodes.append(node)
    first = next((node.content for node in nodes if node.role == "user"), "")
    model = text(given.model)
    conversation = Conversation(
        0,
        title=text(given.title) or " ".join(first.split())[:60],
        model=model,
        system="\n\n".join(filter(None, system)),
        created=seconds(given.created_at),
    )
    digest = hashlib.sha256(msgspec.json.encode([model, conversation.system, nodes])).hexdigest()[:32]
    return bundle(f"messages:{digest}", conversation, row(nodes), None)


def _node(message: _Message, before: list[Node]) -> Node | None:
    written = _content(message.content)
    match message.role:
        case "system":
            return None
        case "user":
            return Node(0, 0, None, "user", written)
        case "tool":
            calls = before[-1].tool_calls if before and before[-1].tool_calls else ()
            id_ = text(message.tool_call_id) or (calls[0].id if calls else "")
            name = text(message.tool_name) or text(message.name)
            return Node(0, 0, None, "tool", written, tool_call_id=id_ or None, name=name or None)
        case "assistant":
            thought = text(message.thinking) or text(message.reasoning_content)
            calls = _calls(message.tool_calls, len(before))
            if not written and not thought and not calls:
                return None
            return Node(0, 0, None, "assistant", written, reasoning=thought, tool_calls=calls)
    raise ExchangeError(f"a message has the role {message.role!r}")


def _content(content: Any) -> str:
    """A text, or the texts of parts; of pictures, that there was one."""
    if not isinstance(content, list):
        return text(content)
    parts = [part for part in content if isinstance(part, dict)]
    return "\n\n".join(
        text(part.get("text")) or f"[{text(part.get('type')) or 'a part'}, not imported]" for part in parts
    )


def _calls(calls: Any, number: int) -> tuple[ToolCall, ...]:
    found = []
    for place, call in enumerate(calls if isinstance(calls, list) else ()):
        inner = call.get("function") if isinstance(call, dict) else None
        if isinstance(inner, dict):
            arguments = inner.get("arguments")
            as_text = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments or {}).decode()
            found.append(ToolCall(text(call.get("id")) or f"call-{number}-{place}", text(inner.get("name")), as_text))
    return tuple(found)
