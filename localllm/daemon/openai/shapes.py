"""What OpenAI's answers look like, as types. For the OpenAPI document; `answers` and its like make them."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from localllm.api import Notice, Receipt

Finish = Literal["stop", "length", "tool_calls"]
Json = dict[str, Any]


class ErrorDetail(TypedDict):
    """What is wrong; `hint` and the counts of an over-long prompt are extra."""

    message: str
    type: str
    param: str | None
    code: str | None
    hint: NotRequired[str]
    num_prompt_tokens: NotRequired[int]
    num_ctx: NotRequired[int]
    needed_bytes: NotRequired[int]
    available_bytes: NotRequired[int]


class Error(TypedDict):
    """The body of an error; as an event it ends a stream, and no [DONE] follows."""

    error: ErrorDetail


class PromptDetails(TypedDict):
    """Of the prompt's tokens."""

    cached_tokens: int


class CompletionDetails(TypedDict):
    """Of the answer's tokens."""

    reasoning_tokens: int
    accepted_prediction_tokens: int
    rejected_prediction_tokens: int


class UsageValue(TypedDict):
    """Tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


class TimingsValue(TypedDict):
    """Where the time went, in llama.cpp's words."""

    cache_n: int
    prompt_n: int
    prompt_ms: float
    prompt_per_second: float
    predicted_n: int
    predicted_ms: float
    predicted_per_second: float
    draft_n: int
    draft_n_accepted: int
    queue_ms: float


class TopLogprob(TypedDict):
    """A token that could have been."""

    token: str
    logprob: float
    bytes: list[int]


class ChatLogprob(TopLogprob):
    """A token of the answer."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(TypedDict):
    """Log probabilities of an answer's tokens."""

    content: list[ChatLogprob]
    refusal: None


class CompletionLogprobs(TypedDict):
    """Log probabilities of a completion's tokens."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CalledFunction(TypedDict):
    """A function as the model called it; `arguments` is text, JSON unless the model erred."""

    name: str
    arguments: str


class CallValue(TypedDict):
    """A tool call."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class FunctionPiece(TypedDict, total=False):
    """More of a function: its name first, then its arguments bit by bit."""

    name: str
    arguments: str


class CallPiece(TypedDict):
    """More of tool call `index`."""

    index: int
    id: NotRequired[str]
    type: NotRequired[Literal["function"]]
    function: FunctionPiece


class AnswerMessage(TypedDict):
    """What the model said."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: NotRequired[str]
    tool_calls: NotRequired[list[CallValue]]


class ChatChoice(TypedDict):
    """One answer."""

    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: Finish


class _Tail(TypedDict):
    usage: UsageValue
    timings: TimingsValue
    notices: NotRequired[list[Notice]]
    receipt: NotRequired[Receipt]


class ChatAnswer(_Tail):
    """The answer of a chat."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]


class Delta(TypedDict, total=False):
    """More of an answer."""

    role: Literal["assistant"]
    content: str
    reasoning_content: str
    tool_calls: list[CallPiece]


class ChatChunkChoice(TypedDict):
    """More of one answer."""

    index: int
    delta: Delta
    logprobs: NotRequired[ChatLogprobs]
    finish_reason: Finish | None


class _ChunkTail(TypedDict, total=False):
    usage: UsageValue
    timings: TimingsValue
    notices: list[Notice]
    receipt: Receipt


class ChatChunk(_ChunkTail):
    """A piece of a chat's stream, which ends with [DONE]."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChatChunkChoice]


class CompletionChoice(TypedDict):
    """One completion, or more of it."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Finish | None


class CompletionAnswer(_Tail):
    """The answer of a completion."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]


class CompletionChunk(_ChunkTail):
    """A piece of a completion's stream, which ends with [DONE]."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]


class InputTokens(TypedDict):
    """How long a prompt is."""

    object: Literal["response.input_tokens"]
    input_tokens: int


class Model(TypedDict):
    """An installed model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(TypedDict):
    """The installed models."""

    object: Literal["list"]
    data: list[Model]


class ShortUsage(TypedDict):
    """Tokens of a request without an answer of tokens."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingValue(TypedDict):
    """One vector: numbers, or little-endian float32 in base64."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingList(TypedDict):
    """The vectors of all inputs."""

    object: Literal["list"]
    data: list[EmbeddingValue]
    model: str
    usage: ShortUsage
    num_truncated: NotRequired[int]


class DocumentValue(TypedDict):
    """A document as it was sent."""

    text: str


class RankedDocument(TypedDict):
    """A document's place."""

    index: int
    relevance_score: float
    document: NotRequired[DocumentValue]


class RankingValue(TypedDict):
    """Documents, best first."""

    object: Literal["list"]
    model: str
    results: list[RankedDocument]
    usage: ShortUsage
    num_truncated: NotRequired[int]


class PageQuery(TypedDict, total=False):
    """Which part of a list."""

    limit: str
    after: str
    order: Literal["asc", "desc"]


class FilePageQuery(PageQuery, total=False):
    """Which part of the files."""

    purpose: str


class _Page(TypedDict):
    object: Literal["list"]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Deleted(TypedDict):
    """What is gone."""

    id: str
    object: Literal["response", "file"]
    deleted: Literal[True]
