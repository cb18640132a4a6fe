"""ChatGPT's `conversations.json`: a list of conversations, each a mapping of turns to the turn above them.

Read as its exports of 2023 to 2026 are: roles user, assistant, tool and system; contents by `content_type`. Pictures,
audio and files are no part of that file; where they stood, that is said.
"""

from __future__ import annotations

from typing import Any

import msgspec
from localllm_tui.exchange.errors import ExchangeError
from localllm_tui.exchange.trees import Turn, bundle, seconds, text
from localllm_tui.history.values import Bundle, Conversation, Node

from localllm.api import ToolCall


class _Author(msgspec.Struct, frozen=True):
    role: Any = None
    name: Any = None


class _Content(msgspec.Struct):
    content_type: Any = None
    parts: Any = None
    text: Any = None
    result: Any = None
    thoughts: Any = None
    content: Any = None
    url: Any = None
    title: Any = None


class _Metadata(msgspec.Struct):
    model_slug: Any = None
    is_visually_hidden_from_conversation: Any = None


class _Message(msgspec.Struct):
    author: _Author = _Author()
    content: _Content | None = None
    create_time: Any = None
    metadata: _Metadata | None = None
    recipient: Any = None


class _Entry(msgspec.Struct):
    message: _Message | None = None
    parent: str | None = None


class _Exported(msgspec.Struct):
    mapping: dict[str, _Entry]
    id: Any = None
    conversation_id: Any = None
    title: Any = None
    create_time: Any = None
    update_time: Any = None
    current_node: Any = None
    is_starred: Any = None


_decoder = msgspec.json.Decoder(_Exported)


def read(raw: msgspec.Raw) -> Bundle:
    """One conversation. Raises ExchangeError, DecodeError and RecursionError."""
    given = _decoder.decode(raw)
    system: list[str] = []
    turns = [_turn(key, entry, given.mapping, system) for key, entry in given.mapping.items()]
    models = [turn.node.model for turn in turns if turn.node is not None and turn.node.model]
    conversation = Conversation(
        0,
        title=text(given.title),
        titled_by="model",
        is_pinned=given.is_starred is True,
        model=models[-1] or "" if models else "",
        system="\n\n".join(system),
        created=seconds(given.create_time),
        updated=seconds(given.update_time),
    )
    id_ = text(given.conversation_id) or text(given.id)
    if not id_:
        raise ExchangeError("it has no id")
    return bundle(f"chatgpt:{id_}", conversation, turns, text(given.current_node))


def _turn(key: str, entry: _Entry, mapping: dict[str, _Entry], system: list[str]) -> Turn:
    message = entry.message
    if message is None or message.content is None:
        return Turn(key, entry.parent, None)
    metadata = message.metadata or _Metadata()
    if metadata.is_visually_hidden_from_conversation is True:
        return Turn(key, entry.parent, None)
    if message.content.content_type == "thoughts":
        return Turn(key, entry.parent, None, _thoughts(message.content.thoughts))
    written = _written(message.content)
    if not written.strip() or message.content.content_type == "reasoning_recap":
        return Turn(key, entry.parent, None)
    match message.author.role:
        case "system":
            system.append(written)
            return Turn(key, entry.parent, None)
        case "user":
            return Turn(key, entry.parent, Node(0, 0, None, "user", written, created=seconds(message.create_time)))
        case "tool":
            return Turn(key, entry.parent, _tool_node(message, written, entry.parent, mapping))
    model = text(metadata.model_slug) or None
    node = Node(0, 0, None, "assistant", written, model=model, created=seconds(message.create_time))
    if _is_call(message):
        arguments = msgspec.json.encode({"input": written}).decode()
        call = ToolCall(key, text(message.recipient), arguments)
        node = msgspec.structs.replace(node, content="", tool_calls=(call,))
    return Turn(key, entry.parent, node)


def _is_call(message: _Message | None) -> bool:
    """Whether the assistant says this to a tool."""
    return (
        message is not None
        and message.author.role == "assistant"
        and text(message.recipient) not in ("", "all")
        and message.content is not None
        and bool(_written(message.content).strip())
    )


def _tool_node(message: _Message, written: str, parent: str | None, mapping: dict[str, _Entry]) -> Node:
    """A tool's result; without a call above it, a part of the answer."""
    created, name = seconds(message.create_time), text(message.author.name)
    above = mapping.get(parent or "")
    if above is not None and _is_call(above.message):
        return Node(0, 0, None, "tool", written, tool_call_id=parent, name=name or None, created=created)
    return Node(0, 0, None, "assistant", written, name=name or None, created=created)


def _written(content: _Content) -> str:
    match content.content_type:
        case "code":
            return text(content.text)
        case "tether_quote":
            return "\n".join(filter(None, (text(content.title), text(content.url), text(content.text))))
        case "user_editable_context" | "model_editable_context":
            return ""
    parts = content.parts if isinstance(content.parts, list) else []
    found = [_part(part) for part in parts]
    found += [text(value) for value in (content.text, content.result, content.content)]
    return "\n\n".join(part for part in found if part)


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        return ""
    if text(part.get("text")):
        return text(part["text"])
    kind = text(part.get("content_type"))
    what = "a picture" if "image" in kind else "a recording" if "audio" in kind else kind or "a file"
    return f"[{what}, not in the export]"


def _thoughts(thoughts: Any) -> str:
    if not isinstance(thoughts, list):
        return ""
    found = (one for one in thoughts if isinstance(one, dict))
    return "\n\n".join(
        "\n".join(filter(None, (text(one.get("summary")), text(one.get("content"))))) for one in found
    ).strip()
