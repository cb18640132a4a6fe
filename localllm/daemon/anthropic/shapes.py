"""What Anthropic's answers look like, as types. For the OpenAPI document; `answers` makes them. Values only."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from localllm.api import Notice

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]


class ErrorDetail(TypedDict):
    """What is wrong; all behind `message` is extra."""

    type: str
    message: str
    code: str
    param: NotRequired[str]
    hint: NotRequired[str]
    num_prompt_tokens: NotRequired[int]
    num_ctx: NotRequired[int]
    needed_bytes: NotRequired[int]
    available_bytes: NotRequired[int]


class Error(TypedDict):
    """The body of an error; as an event it ends a stream."""

    type: Literal["error"]
    error: ErrorDetail


class OutputDetails(TypedDict):
    """Of the output's tokens."""

    thinking_tokens: int


class UsageValue(TypedDict):
    """Tokens of a request; those of the input that came from the cache are counted apart."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int
    output_tokens_details: NotRequired[OutputDetails]


class BlockValue(TypedDict):
    """A block of a message; its `type` says which of the fields it has."""

    type: Literal["text", "thinking", "tool_use"]
    text: NotRequired[str]
    thinking: NotRequired[str]
    signature: NotRequired[str]
    id: NotRequired[str]
    name: NotRequired[str]
    input: NotRequired[dict[str, Any]]


class MessageValue(TypedDict):
    """The answer."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[BlockValue]
    stop_reason: StopReason | None
    stop_sequence: str | None
    usage: UsageValue
    notices: NotRequired[list[Notice]]


class Delta(TypedDict):
    """More of a block, or how the message ended."""

    type: NotRequired[Literal["text_delta", "thinking_delta", "signature_delta", "input_json_delta"]]
    text: NotRequired[str]
    thinking: NotRequired[str]
    signature: NotRequired[str]
    partial_json: NotRequired[str]
    stop_reason: NotRequired[StopReason | None]
    stop_sequence: NotRequired[str | None]


class MessageEvent(TypedDict):
    """A piece of a stream; its `type` says which of the fields it has."""

    type: Literal[
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "ping",
    ]
    message: NotRequired[MessageValue]
    index: NotRequired[int]
    content_block: NotRequired[BlockValue]
    delta: NotRequired[Delta]
    usage: NotRequired[UsageValue]
    notices: NotRequired[list[Notice]]


class InputTokens(TypedDict):
    """How long a prompt is."""

    input_tokens: int


class Model(TypedDict):
    """An installed model."""

    type: Literal["model"]
    id: str
    display_name: str
    created_at: str


class ModelPage(TypedDict):
    """Installed models."""

    data: list[Model]
    has_more: bool
    first_id: str | None
    last_id: str | None


class PageQuery(TypedDict, total=False):
    """Which part of the listing."""

    limit: str
    after_id: str
    before_id: str
