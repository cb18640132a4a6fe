"""What Ollama's answers look like, as types. For the OpenAPI document; `answers` and `models` make them."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from localllm.api import Notice


class Error(TypedDict):
    """The body of an error; as a line it ends a stream. All but `error` is extra."""

    error: str
    code: NotRequired[str]
    hint: NotRequired[str]
    param: NotRequired[str]
    num_prompt_tokens: NotRequired[int]
    num_ctx: NotRequired[int]
    needed_bytes: NotRequired[int]
    available_bytes: NotRequired[int]


class Version(TypedDict):
    """The version of the API that is spoken, and our own."""

    version: str
    localllm: str


class CalledFunction(TypedDict):
    """A function as the model called it."""

    index: int
    name: str
    arguments: dict[str, Any]


class CallValue(TypedDict):
    """A tool call."""

    id: str
    function: CalledFunction


class AnswerMessage(TypedDict):
    """What the model said, or more of it."""

    role: Literal["assistant"]
    content: str
    thinking: NotRequired[str]
    tool_calls: NotRequired[list[CallValue]]


class TopLogprob(TypedDict):
    """A token that could have been."""

    token: str
    logprob: float
    bytes: list[int]


class LogprobValue(TopLogprob):
    """A token of the answer."""

    top_logprobs: NotRequired[list[TopLogprob]]


class DebugInfo(TypedDict):
    """The exact prompt, where that was asked for."""

    rendered_template: str


class _Answer(TypedDict):
    model: str
    created_at: str
    done: bool
    done_reason: NotRequired[Literal["stop", "length", "load", "unload"]]
    context: NotRequired[list[int]]
    total_duration: NotRequired[int]
    load_duration: NotRequired[int]
    prompt_eval_count: NotRequired[int]
    prompt_eval_duration: NotRequired[int]
    prompt_cached_count: NotRequired[int]
    eval_count: NotRequired[int]
    eval_duration: NotRequired[int]
    logprobs: NotRequired[list[LogprobValue]]
    notices: NotRequired[list[Notice]]
    _debug_info: NotRequired[DebugInfo]


class ChatAnswer(_Answer):
    """The answer of a chat, or a line of it; the last line has the numbers. Durations are in nanoseconds."""

    message: AnswerMessage


class GenerateAnswer(_Answer):
    """The answer to a prompt, or a line of it; the last line has the numbers. Durations are in nanoseconds."""

    response: str
    thinking: NotRequired[str]
    tool_calls: NotRequired[list[CallValue]]


class EmbedAnswer(TypedDict):
    """The vectors of all inputs."""

    model: str
    embeddings: list[list[float]]
    total_duration: NotRequired[int]
    load_duration: NotRequired[int]
    prompt_eval_count: NotRequired[int]
    notices: NotRequired[list[Notice]]


class EmbeddingAnswer(TypedDict):
    """The vector of the one input."""

    embedding: list[float]


class Details(TypedDict):
    """What kind of model it is."""

    parent_model: str
    format: str
    family: str
    families: list[str] | None
    parameter_size: str
    quantization_level: str


class ListedModel(TypedDict):
    """An installed model."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: Details
    capabilities: list[str]


class Tags(TypedDict):
    """The installed models."""

    models: list[ListedModel]


class RunningModel(TypedDict):
    """A model in memory; `expires_at` null: it stays."""

    name: str
    model: str
    size: int
    digest: str
    details: Details
    expires_at: str | None
    size_vram: int
    context_length: int


class RunningModels(TypedDict):
    """The models in memory."""

    models: list[RunningModel]


class TensorValue(TypedDict):
    """One tensor."""

    name: str
    type: str
    shape: list[int]


class Shown(TypedDict):
    """All that is known of a model."""

    license: str
    modelfile: str
    parameters: str
    template: str
    system: str
    details: Details
    model_info: dict[str, Any]
    capabilities: list[str]
    modified_at: str
    tensors: NotRequired[list[TensorValue]]


class StatusLine(TypedDict):
    """What is being done; the last line says success."""

    status: str
    digest: NotRequired[str]
    completed: NotRequired[int]
    total: NotRequired[int]
