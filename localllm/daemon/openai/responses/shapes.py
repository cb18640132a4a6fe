"""What responses look like, as types. For the OpenAPI document; `transcript` makes them. Values only."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from localllm.api import Notice
from localllm.daemon.openai.shapes import ChatLogprob, TimingsValue, _Page

Status = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]


class ResponseError(TypedDict):
    """Why a response failed."""

    code: str
    message: str
    type: NotRequired[str]
    param: NotRequired[str | None]


class IncompleteDetails(TypedDict):
    """Why a response is not whole."""

    reason: str


class ReasoningValue(TypedDict):
    """How much thinking was asked for."""

    effort: str | None
    summary: str | None


class InputDetails(TypedDict):
    """Of the input's tokens."""

    cached_tokens: int
    cache_write_tokens: int


class OutputDetails(TypedDict):
    """Of the output's tokens."""

    reasoning_tokens: int


class ResponseUsage(TypedDict):
    """Tokens of a response."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class OutputPart(TypedDict):
    """A part of an item: its text."""

    type: Literal["output_text", "reasoning_text", "summary_text"]
    text: str
    annotations: NotRequired[list[Any]]
    logprobs: NotRequired[list[ChatLogprob]]


class OutputItem(TypedDict):
    """What the model said, thought or called."""

    id: str
    type: Literal["message", "reasoning", "function_call"]
    status: Literal["in_progress", "completed", "incomplete"]
    role: NotRequired[Literal["assistant"]]
    content: NotRequired[list[OutputPart]]
    summary: NotRequired[list[OutputPart]]
    call_id: NotRequired[str]
    name: NotRequired[str]
    arguments: NotRequired[str]


class Response(TypedDict):
    """A response, as far as it has come."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Status
    background: bool
    error: ResponseError | None
    incomplete_details: IncompleteDetails | None
    instructions: str | None
    max_output_tokens: int | None
    model: str
    output: list[OutputItem]
    parallel_tool_calls: bool
    previous_response_id: str | None
    reasoning: ReasoningValue
    service_tier: str
    store: bool
    temperature: float | None
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_logprobs: int
    top_p: float | None
    truncation: Literal["auto", "disabled"]
    usage: ResponseUsage | None
    user: str | None
    metadata: dict[str, str]
    timings: NotRequired[TimingsValue]
    notices: NotRequired[list[Notice]]
    completed_at: NotRequired[int]


class ResponseEvent(TypedDict):
    """One change of a response; its `type` says which, and which of the fields it has."""

    type: str
    sequence_number: int
    response: NotRequired[Response]
    item: NotRequired[OutputItem]
    part: NotRequired[OutputPart]
    item_id: NotRequired[str]
    output_index: NotRequired[int]
    content_index: NotRequired[int]
    summary_index: NotRequired[int]
    delta: NotRequired[str]
    text: NotRequired[str]
    name: NotRequired[str]
    arguments: NotRequired[str]
    logprobs: NotRequired[list[ChatLogprob]]
    code: NotRequired[str | None]
    message: NotRequired[str]
    param: NotRequired[str | None]


class ItemList(_Page):
    """Input items of a response."""

    data: list[dict[str, Any]]


class ShowQuery(TypedDict, total=False):
    """A response as a stream, from behind one of its events."""

    stream: Literal["true", "false"]
    starting_after: str
