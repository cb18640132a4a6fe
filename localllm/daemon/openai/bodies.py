"""The bodies that clients of OpenAI's API send: their fields, types and bounds. What they mean is said elsewhere.

Fields nobody here knows are ignored, as clients of this API send many.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from localllm.api import Truncate

MAX_ANSWERS = 8
MAX_PROMPTS = 64
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
TokenId = Annotated[int, Meta(ge=0, lt=2**31)]
Text = Annotated[str, Meta(max_length=16 * 1024 * 1024)]


class _Body(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all bodies."""


class StreamOptions(_Body, frozen=True):
    """What a stream has besides its text."""

    include_usage: bool = False


class SchemaBody(_Body, frozen=True):
    """A named JSON Schema."""

    name: str = ""
    schema: dict[str, Any] | None = None


class ResponseFormat(_Body, frozen=True):
    """The form of the answer. `schema` beside json_object is llama.cpp's spelling of json_schema."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: SchemaBody | None = None
    schema: dict[str, Any] | None = None


class GenerationBody(_Body, frozen=True):
    """What chats and completions have in common: OpenAI's fields, llama.cpp's samplers, and ways to bind the form."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=MAX_ANSWERS)] | None = None
    stop: str | list[str] | None = None
    seed: Seed | None = None
    max_tokens: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    logit_bias: dict[TokenId, float] | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    typical_p: float | None = None
    top_n_sigma: float | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    dry_multiplier: float | None = None
    dry_base: float | None = None
    dry_allowed_length: int | None = None
    dry_penalty_last_n: int | None = None
    dry_sequence_breakers: list[str] | None = None
    mirostat: int | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    repeat_penalty: float | None = None
    repetition_penalty: float | None = None
    repeat_last_n: int | None = None
    ignore_eos: bool | None = None
    response_format: ResponseFormat | None = None
    json_schema: dict[str, Any] | None = None
    grammar: str | None = None
    guided_json: dict[str, Any] | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    speculate: bool | None = None
    deterministic: bool = False
    end_runaway: bool = False


class Part(_Body, frozen=True):
    """A part of a message's content."""

    type: str
    text: Text | None = None


class FunctionCall(_Body, frozen=True):
    """The function of a tool call; `arguments` is JSON text, or the object itself."""

    name: str
    arguments: str | dict[str, Any] = "{}"


class ToolCallBody(_Body, frozen=True):
    """A call the model asked for earlier."""

    function: FunctionCall
    id: str = ""


class MessageBody(_Body, frozen=True):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | list[Part] | None = None
    name: str | None = None
    reasoning_content: str | None = None
    tool_calls: Annotated[list[ToolCallBody], Meta(max_length=128)] | None = None
    tool_call_id: str | None = None


class FunctionBody(_Body, frozen=True):
    """What a tool is called and takes."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolBody(_Body, frozen=True):
    """A tool; only functions are known."""

    type: str = "function"
    function: FunctionBody | None = None


class NamedFunction(_Body, frozen=True):
    """A tool as a choice names it."""

    name: str


class NamedTool(_Body, frozen=True):
    """The same with its kind around it."""

    type: str = "function"
    function: NamedFunction | None = None


class AllowedTools(_Body, frozen=True):
    """Some of the tools, and whether one of them has to be called."""

    mode: Literal["auto", "required"] = "auto"
    tools: Annotated[list[NamedTool], Meta(max_length=512)] = []


class ToolChoiceBody(_Body, frozen=True):
    """A choice that says more than a word: one tool, or those allowed."""

    type: str = "function"
    function: NamedFunction | None = None
    allowed_tools: AllowedTools | None = None


class ChatBody(GenerationBody, frozen=True, kw_only=True):
    """The body of /v1/chat/completions."""

    messages: Annotated[list[MessageBody], Meta(min_length=1, max_length=4096)]
    max_completion_tokens: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: Annotated[list[ToolBody], Meta(max_length=128)] | None = None
    tool_choice: str | ToolChoiceBody | None = None
    parallel_tool_calls: bool | None = None
    functions: list[Any] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    reasoning_budget: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    truncate: Truncate = "error"


class CompletionBody(GenerationBody, frozen=True, kw_only=True):
    """The body of /v1/completions. A prompt is text or token ids, or a list of either."""

    prompt: Text | Annotated[list[Text | TokenId | list[TokenId]], Meta(min_length=1)]
    suffix: Text | None = None
    echo: bool = False
    best_of: int | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
