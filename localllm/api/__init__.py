"""The types every front end speaks, and the Backend protocol. Values only: no I/O, no engine, no HTTP.

Counts are `num_*`, sizes `*_bytes`, times `*_s`.
"""

from __future__ import annotations

from localllm.api.answers import Embeddings, LoadedModel, ModelInfo, Ranked, Ranking, Receipt, Rendered
from localllm.api.backend import Backend
from localllm.api.constraints import Choice, Constraint, Gbnf, JsonObject, JsonSchema, Lark, Regex
from localllm.api.events import (
    ChoiceFinished,
    Event,
    Finished,
    FinishReason,
    Notice,
    Progress,
    PromptLogprobs,
    Queued,
    ReasoningDelta,
    TextDelta,
    Timings,
    TokenLogprob,
    ToolCallEvent,
    Usage,
)
from localllm.api.messages import Message, Role, ToolCall, ToolSpec
from localllm.api.requests import (
    MAX_ANSWERS,
    Adapter,
    ChatRequest,
    CompletionRequest,
    Control,
    EmbedRequest,
    GenerationRequest,
    LoadOptions,
    RerankRequest,
    Truncate,
    check_generation,
)
from localllm.api.sampling import MAX_LOGIT_BIAS, MAX_STOP_CHARS, MAX_STOP_STRINGS, SamplingParams, check_sampling

__all__ = [
    "MAX_ANSWERS",
    "MAX_LOGIT_BIAS",
    "MAX_STOP_CHARS",
    "MAX_STOP_STRINGS",
    "Adapter",
    "Backend",
    "ChatRequest",
    "Choice",
    "ChoiceFinished",
    "CompletionRequest",
    "Constraint",
    "Control",
    "EmbedRequest",
    "Embeddings",
    "Event",
    "FinishReason",
    "Finished",
    "Gbnf",
    "GenerationRequest",
    "JsonObject",
    "JsonSchema",
    "Lark",
    "LoadOptions",
    "LoadedModel",
    "Message",
    "ModelInfo",
    "Notice",
    "Progress",
    "PromptLogprobs",
    "Queued",
    "Ranked",
    "Ranking",
    "ReasoningDelta",
    "Receipt",
    "Regex",
    "Rendered",
    "RerankRequest",
    "Role",
    "SamplingParams",
    "TextDelta",
    "Timings",
    "TokenLogprob",
    "ToolCall",
    "ToolCallEvent",
    "ToolSpec",
    "Truncate",
    "Usage",
    "check_generation",
    "check_sampling",
]
