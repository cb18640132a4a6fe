"""The bodies that Ollama's clients send to run a model. Values; what they mean is in `requests`.

Fields nobody here knows are ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

MAX_INPUTS = 2048
Text = Annotated[str, Meta(max_length=16 * 1024 * 1024)]
KeepAlive = str | float | None
TokenId = Annotated[int, Meta(ge=0, lt=2**31)]


class _Body(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all bodies."""


class GenerationBody(_Body, frozen=True):
    """What /api/generate and /api/chat have in common."""

    model: str | None = None
    stream: bool | None = None
    format: str | dict[str, Any] | None = None
    options: dict[str, Any] | None = None
    keep_alive: KeepAlive = None
    think: bool | Literal["low", "medium", "high", "max"] | None = None
    truncate: bool | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    debug_render_only: bool = msgspec.field(default=False, name="_debug_render_only")


class GenerateBody(GenerationBody, frozen=True, kw_only=True):
    """The body of /api/generate."""

    prompt: Text | None = None
    suffix: Text | None = None
    system: Text | None = None
    template: str | None = None
    context: Annotated[list[TokenId], Meta(max_length=1 << 20)] | None = None
    raw: bool | None = None
    images: list[Any] | None = None


class FunctionCall(_Body, frozen=True):
    """The function of a tool call; `arguments` is an object, or its JSON text."""

    name: str
    arguments: dict[str, Any] | str | None = None


class ToolCallBody(_Body, frozen=True):
    """A call the model asked for earlier."""

    function: FunctionCall
    id: str | None = None


class MessageBody(_Body, frozen=True):
    """One turn."""

    role: str
    content: Text | None = None
    thinking: Text | None = None
    images: list[Any] | None = None
    tool_calls: Annotated[list[ToolCallBody], Meta(max_length=128)] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class FunctionBody(_Body, frozen=True):
    """What a tool is called and takes."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    description: str | None = None
    parameters: dict[str, Any] | None = None


class ToolBody(_Body, frozen=True):
    """A tool; only functions are known."""

    type: str | None = None
    function: FunctionBody | None = None


class ChatBody(GenerationBody, frozen=True, kw_only=True):
    """The body of /api/chat."""

    messages: Annotated[list[MessageBody], Meta(max_length=4096)] | None = None
    tools: Annotated[list[ToolBody], Meta(max_length=128)] | None = None


class EmbedBody(_Body, frozen=True):
    """The body of /api/embed."""

    model: str | None = None
    input: Text | Annotated[list[Text], Meta(max_length=MAX_INPUTS)] | None = None
    truncate: bool | None = None
    dimensions: Annotated[int, Meta(ge=0)] | None = None
    options: dict[str, Any] | None = None
    keep_alive: KeepAlive = None


class EmbeddingBody(_Body, frozen=True):
    """The body of /api/embeddings, the older route."""

    model: str | None = None
    prompt: Text | None = None
    options: dict[str, Any] | None = None
    keep_alive: KeepAlive = None
