"""Open WebUI's export of chats: a list, each with a `chat` whose `history` maps turns to the turn above them."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from localllm_tui.exchange.errors import ExchangeError
from localllm_tui.exchange.trees import Turn, bundle, row, seconds, text
from localllm_tui.history.values import Attachment, Bundle, Conversation, Node

# What a model thought stands in the answer's text, folded, with every line quoted.
_REASONING = re.compile(r'<details type="reasoning"[^>]*>\s*<summary>.*?</summary>(.*?)</details>\s*', re.DOTALL)


class _Message(msgspec.Struct):
    id: Any = None
    parentId: str | None = None
    role: Any = None
    content: Any = None
    model: Any = None
    timestamp: Any = None
    reasoning_content: Any = None
    files: Any = None


class _History(msgspec.Struct):
    messages: dict[str, _Message] = {}
    currentId: Any = None


class _Chat(msgspec.Struct):
    title: Any = None
    models: Any = None
    system: Any = None
    params: Any = None
    history: _History | None = None
    messages: list[_Message] = []
    timestamp: Any = None


class _Exported(msgspec.Struct):
    chat: _Chat
    id: Any = None
    title: Any = None
    created_at: Any = None
    updated_at: Any = None
    pinned: Any = None


_decoder = msgspec.json.Decoder(_Exported)


def read(raw: msgspec.Raw) -> Bundle:
    """One chat. Raises ExchangeError, DecodeError and RecursionError."""
    given = _decoder.decode(raw)
    chat, history = given.chat, given.chat.history
    if not text(given.id):
        raise ExchangeError("it has no id")
    models = chat.models if isinstance(chat.models, list) else []
    params = _dict(chat.params)
    created = seconds(given.created_at) or seconds(chat.timestamp)
    conversation = Conversation(
        0,
        title=text(given.title) or text(chat.title),
        titled_by="model",
        is_pinned=given.pinned is True,
        model=text(models[0]) if models else "",
        system=text(params.get("system")) or text(chat.system),
        created=created,
        updated=seconds(given.updated_at) or created,
    )
    uid = f"open-webui:{given.id}"
    if history is not None and history.messages:
        turns = [Turn(key, message.parentId, _node(message)) for key, message in history.messages.items()]
        return bundle(uid, conversation, turns, text(history.currentId))
    nodes = [node for node in map(_node, chat.messages) if node is not None]
    return bundle(uid, conversation, row(nodes), None)


def _node(message: _Message) -> Node | None:
    written = text(message.content)
    files = _files(message.files)
    if not written.strip() and not files:
        return None
    created = seconds(message.timestamp)
    match message.role:
        case "user" | "system":
            return Node(0, 0, None, message.role, written, attachments=files, created=created)
    thought = [text(message.reasoning_content), *map(_unquoted, _REASONING.findall(written))]
    return Node(
        0,
        0,
        None,
        "assistant",
        _REASONING.sub("", written),
        reasoning="\n\n".join(filter(None, thought)),
        model=text(message.model) or None,
        created=created,
    )


def _unquoted(quoted: str) -> str:
    import html

    lines = html.unescape(quoted).strip().splitlines()
    return "\n".join(line.removeprefix("> ").removeprefix(">") for line in lines)


def _files(files: Any) -> tuple[Attachment, ...]:
    """Files with their text, as far as the export holds it; of others the name."""
    found = []
    for file in files if isinstance(files, list) else ():
        if isinstance(file, dict):
            inner = _dict(file.get("file"))
            data = _dict(inner.get("data"))
            name = text(file.get("name")) or text(inner.get("filename")) or text(file.get("type")) or "file"
            found.append(Attachment(name, text(data.get("content")) or "[not in the export]"))
    return tuple(found)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
