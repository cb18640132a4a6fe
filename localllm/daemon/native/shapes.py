"""What the native API's own answers look like, as types; the others are values of `localllm.api`. Values only."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from localllm.api import (
    Control,
    FinishReason,
    LoadedModel,
    ModelInfo,
    Receipt,
    RunningRequest,
    SamplingParams,
    Timings,
    Usage,
)
from localllm.api.finder import Offer
from localllm.daemon.limits import Limits


class ErrorDetail(TypedDict):
    """What is wrong: its code for programs, its words for people, its class and facts for `localllm.Client`."""

    code: str
    message: str
    hint: NotRequired[str]
    param: NotRequired[str]
    retry_after_s: NotRequired[float]
    type: NotRequired[str]
    facts: NotRequired[dict[str, Any]]


class Error(TypedDict):
    """The body of an error; as an event, of the type "error", it ends a stream that failed."""

    type: NotRequired[Literal["error"]]

    error: ErrorDetail


class Health(TypedDict):
    """Whether requests are taken."""

    status: Literal["ok", "draining"]


class Props(TypedDict):
    """The daemon itself."""

    version: str
    pid: int
    uptime_s: float
    default_model: str
    limits: Limits
    loaded: list[LoadedModel]


class ModelQueue(TypedDict):
    """One model's sequences."""

    model: str
    num_active: int
    num_waiting: int


class Queue(TypedDict):
    """Who runs and who waits."""

    num_active: int
    num_places: int
    models: list[ModelQueue]
    requests: list[RunningRequest]


class Controlled(TypedDict):
    """What a request was told."""

    id: str
    control: Control


class Log(TypedDict):
    """What was logged, oldest first."""

    lines: list[str]


class Reloaded(TypedDict):
    """Settings were read again."""

    status: Literal["reloaded"]


class Models(TypedDict):
    """The installed models."""

    models: list[ModelInfo]


class Loaded(TypedDict):
    """The models in memory."""

    models: list[LoadedModel]


class Unloaded(TypedDict):
    """What left memory."""

    model: str


class Copied(TypedDict):
    """A model's second name."""

    source: str
    target: str


class Removed(TypedDict):
    """What left the store."""

    model: str


class CatalogueQuery(TypedDict, total=False):
    """Words that are looked for in names, titles, publishers, licences, descriptions and capabilities; none: all."""

    query: str


class Offers(TypedDict):
    """The models one may pull."""

    offers: list[Offer]


class Tokens(TypedDict):
    """Token ids of a text."""

    model: str
    tokens: list[int]


class TextOfTokens(TypedDict):
    """The text of token ids."""

    model: str
    text: str


class Summary(TypedDict):
    """A request as the inspector lists it."""

    id: str
    at: str
    model: str
    kind: Literal["chat", "completion"]
    state: str
    error: str | None
    reason: FinishReason | None
    usage: Usage | None
    timings: Timings | None


class Summaries(TypedDict):
    """The last requests."""

    requests: list[Summary]


class Inspection(Summary):
    """A request whole."""

    request: dict[str, Any]
    prompt: str
    tokens: list[int]
    cached: list[int] | None
    sampler: SamplingParams
    receipt: Receipt | None
    text: str
    reasoning: str
