"""What a server answered, as text for a model: bounded, other kinds than text named in words. Pure; knows no SDK."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from localllm_tui.tools.values import ToolResult

from localllm import terminal_text

MAX_RESULT_CHARS = 100_000


def text_of(answer: dict[str, Any], max_chars: int = MAX_RESULT_CHARS) -> ToolResult:
    """The answer to `tools/call`, as JSON, in one text of about `max_chars` at most; what was cut is said."""
    parts = [_part(part) for part in answer.get("content") or ()]
    structured = answer.get("structuredContent")
    if structured is not None and not any(parts):
        parts = [json.dumps(structured, ensure_ascii=False)]
    text = "\n".join(part for part in parts if part) or "(no result)"
    return ToolResult(bounded(text, max_chars), is_error=bool(answer.get("isError")))


def bounded(text: str, max_chars: int) -> str:
    """The text, or its beginning and end with what is missing said between them."""
    if len(text) <= max_chars:
        return text
    head, tail = max_chars * 4 // 5, max_chars // 5
    return f"{text[:head]}\n[... {len(text) - head - tail:,} characters left out ...]\n{text[len(text) - tail :]}"


def _part(part: dict[str, Any]) -> str:
    match part.get("type"):
        case "text":
            return str(part.get("text", ""))
        case "image" | "audio" as kind:
            return f"[{kind}, {part.get('mimeType', 'of unknown type')}, {_size(part.get('data', ''))}, not shown]"
        case "resource":
            inner = part.get("resource") or {}
            if "text" in inner:
                return f"[{inner.get('uri', '')}]\n{inner['text']}"
            return f"[{inner.get('uri', 'a file')}, {_size(inner.get('blob', ''))}, not shown]"
        case "resource_link":
            return f"[a link to {part.get('uri', '')}]"
        case kind:
            return f"[something of kind {kind!r}, not shown]"


def _size(data: str) -> str:
    try:
        return terminal_text.size(len(base64.b64decode(data, validate=True)))
    except (binascii.Error, ValueError):
        return "unreadable"
