"""Items of a response's input and output, and the messages they mean. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from localllm.api import Message, ToolCall
from localllm.daemon.openai.bodies import Text
from localllm.errors import InvalidRequestError

_NAMES = {"input_image": "images", "input_file": "files", "input_audio": "audio"}


class ItemPart(msgspec.Struct, frozen=True, omit_defaults=True):
    """A part of an item's content."""

    type: str
    text: Text | None = None
    refusal: Text | None = None


class Item(msgspec.Struct, frozen=True, omit_defaults=True):
    """An item of any type; each type has some of the fields. Without a type it is a message."""

    type: str | None = None
    id: str | None = None
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: Text | list[ItemPart] | None = None
    summary: list[ItemPart] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: Text | None = None
    output: Text | list[ItemPart] | None = None


Items = Annotated[list[Item], Meta(max_length=100_000)]


def input_items(given: str | Sequence[Item], stem: str) -> list[dict[str, Any]]:
    """The items of an input as they are kept and listed: each with its type and an id. Refuses what is not taken."""
    items = [Item(role="user", content=given)] if isinstance(given, str) else given
    kept = []
    for i, item in enumerate(items):
        kind = item.type or "message"
        value = msgspec.to_builtins(item) | {"type": kind, "id": item.id or f"{kind[:3]}_{stem}_in{i}"}
        if kind == "message":
            text = _text(item.content, f"input[{i}].content")
            part: dict[str, Any] = {"type": "output_text" if item.role == "assistant" else "input_text", "text": text}
            value |= {"content": [part | ({"annotations": []} if item.role == "assistant" else {})]}
            value |= {"role": item.role or "user", "status": "completed"}
        kept.append(value)
    return kept


def messages(instructions: str | None, items: Iterable[Item]) -> tuple[Message, ...]:
    """The conversation that items are. What the model said, thought and called in one go is one message."""
    made = [Message("system", instructions)] if instructions else []
    turn: dict[str, Any] = {}
    called: dict[str, str] = {}

    def end_turn() -> None:
        if turn:
            made.append(Message("assistant", **turn))
            turn.clear()

    for i, item in enumerate(items):
        where = f"input[{i}]"
        match item.type or "message":
            case "message" if item.role == "assistant":
                if "content" in turn or "tool_calls" in turn:
                    end_turn()
                turn["content"] = _text(item.content, f"{where}.content")
            case "message":
                end_turn()
                role: Any = "system" if item.role == "developer" else item.role or "user"
                made.append(Message(role, _text(item.content, f"{where}.content")))
            case "reasoning":
                if "content" in turn or "tool_calls" in turn:
                    end_turn()
                thought = _text(item.content or item.summary or "", where)
                turn["reasoning"] = "\n".join(filter(None, [turn.get("reasoning"), thought])) or None
            case "function_call":
                call = ToolCall(item.call_id or item.id or f"call_{i}", item.name or "", item.arguments or "{}")
                called[call.id] = call.name
                turn["tool_calls"] = (*turn.get("tool_calls", ()), call)
            case "function_call_output":
                end_turn()
                if item.call_id is None:
                    raise InvalidRequestError(f"{where} has no call_id", param=f"{where}.call_id")
                text = _text(item.output or "", f"{where}.output")
                made.append(Message("tool", text, called.get(item.call_id), tool_call_id=item.call_id))
            case kind:
                hint = "send messages, function calls, their outputs and reasoning"
                raise InvalidRequestError(f"items of type {kind!r} are not taken", hint=hint, param=where)
    end_turn()
    return tuple(made)


def _text(content: str | Sequence[ItemPart] | None, where: str) -> str:
    if content is None:
        raise InvalidRequestError(f"{where} is missing", param=where)
    if isinstance(content, str):
        return content
    return "\n".join(_part(part, f"{where}[{i}]") for i, part in enumerate(content))


def _part(part: ItemPart, where: str) -> str:
    text = part.refusal if part.type == "refusal" else part.text
    if text is not None and part.type not in _NAMES:
        return text
    name = _NAMES.get(part.type, f"content of type {part.type!r}")
    raise InvalidRequestError(f"{name} cannot be taken", hint="send text", param=where)
