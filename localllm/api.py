"""The types every front end speaks, and the Backend protocol. Values only: no I/O, no engine, no HTTP.

Structs are frozen msgspec types; they travel as msgpack to the engine child and as JSON over HTTP.
Counts are `num_*`, sizes `*_bytes`, times `*_s`.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import msgspec

from localllm.errors import InvalidRequestError

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "abort", "tool_calls"]
Truncate = Literal["error", "oldest"]


class _Value(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Base of all wire types."""


class ToolCall(_Value, frozen=True):
    """A call the model asks for. `arguments` is JSON text."""

    id: str
    name: str
    arguments: str = "{}"


class Message(_Value, frozen=True):
    """One turn. `reasoning` is the model's own thinking, kept apart from `content`."""

    role: Role
    content: str = ""
    name: str | None = None
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


class ToolSpec(_Value, frozen=True):
    """A tool the model may call. `parameters` is a JSON Schema object."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = {}


class SamplingParams(_Value, frozen=True):
    """How tokens are chosen. None means: the model's default, else llama.cpp's.

    Names and meanings are llama.cpp's. `temperature` 0 is greedy. `max_tokens` None runs to the end of the context.
    `logprobs` is the number of alternatives per token (0: only the chosen one's; None: no logprobs).
    """

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    top_n_sigma: float | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    dry_multiplier: float | None = None
    dry_base: float | None = None
    dry_allowed_length: int | None = None
    dry_penalty_last_n: int | None = None
    dry_sequence_breakers: tuple[str, ...] | None = None
    mirostat: int | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    repeat_penalty: float | None = None
    repeat_last_n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[int, float] | None = None
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] | None = None
    ignore_eos: bool | None = None
    logprobs: int | None = None

    def over(self, defaults: SamplingParams) -> SamplingParams:
        """These parameters, with `defaults` where this has None."""
        own = {f: v for f in self.__struct_fields__ if (v := getattr(self, f)) is not None}
        return msgspec.structs.replace(defaults, **own) if own else defaults


_RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0.0, 100.0),
    "top_k": (0, 2**31 - 1),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "typical_p": (0.0, 1.0),
    "top_n_sigma": (-1.0, 100.0),
    "xtc_probability": (0.0, 1.0),
    "xtc_threshold": (0.0, 1.0),
    "dry_multiplier": (0.0, 100.0),
    "dry_base": (0.0, 100.0),
    "dry_allowed_length": (0, 2**20),
    "dry_penalty_last_n": (-1, 2**20),
    "mirostat": (0, 2),
    "mirostat_tau": (0.0, 100.0),
    "mirostat_eta": (0.0, 1.0),
    "repeat_penalty": (0.01, 100.0),
    "repeat_last_n": (-1, 2**20),
    "presence_penalty": (-100.0, 100.0),
    "frequency_penalty": (-100.0, 100.0),
    "seed": (0, 2**32 - 1),
    "max_tokens": (0, 2**31 - 1),
    "logprobs": (0, 20),
}
MAX_STOP_STRINGS = 16
MAX_STOP_CHARS = 256
MAX_LOGIT_BIAS = 1024


def check_sampling(params: SamplingParams, num_vocab: int | None = None) -> None:
    """Raise InvalidRequestError for the first parameter out of range.

    `num_vocab` bounds the ids in `logit_bias`; without it only their sign is checked.
    """
    for name, (low, high) in _RANGES.items():
        value = getattr(params, name)
        if value is not None and not (math.isfinite(value) and low <= value <= high):
            hint = f"{name} lies between {low:g} and {high:g}"
            raise InvalidRequestError(f"{name} is {value}", hint=hint, param=name)
    stops = params.stop or ()
    if len(stops) > MAX_STOP_STRINGS:
        raise InvalidRequestError(f"{len(stops)} stop strings", hint=f"at most {MAX_STOP_STRINGS}", param="stop")
    for stop in stops:
        if not stop or len(stop) > MAX_STOP_CHARS:
            hint = f"a stop string has 1 to {MAX_STOP_CHARS} characters"
            raise InvalidRequestError(f"a stop string of {len(stop)} characters", hint=hint, param="stop")
    bias = params.logit_bias or {}
    if len(bias) > MAX_LOGIT_BIAS:
        raise InvalidRequestError(f"{len(bias)} logit biases", hint=f"at most {MAX_LOGIT_BIAS}", param="logit_bias")
    for token, value in bias.items():
        if token < 0 or (num_vocab is not None and token >= num_vocab):
            raise InvalidRequestError(
                f"logit_bias names token {token}",
                hint="token ids of this model are 0" + (f" to {num_vocab - 1}" if num_vocab else " and up"),
                param="logit_bias",
            )
        if math.isnan(value):
            raise InvalidRequestError(f"logit_bias of token {token} is NaN", param="logit_bias")


class LoadOptions(_Value, frozen=True):
    """How a model is loaded. None means: chosen for this machine.

    `num_ctx`: tokens of context a request may use. `num_slots`: sequences that run at once (1 to 256).
    `device`: "cpu", "auto", or a ggml device name such as "CUDA0". `num_gpu_layers` -1: all.
    `kv_layout`: "unified" shares one pool of cells, "streams" gives every sequence its own.
    """

    num_ctx: int | None = None
    num_slots: int | None = None
    num_batch: int | None = None
    num_threads: int | None = None
    device: str | None = None
    num_gpu_layers: int | None = None
    kv_layout: Literal["unified", "streams"] | None = None
    use_mmap: bool = True


class ChatRequest(_Value, frozen=True):
    """Messages to be answered by `model`.

    `think`: None leaves reasoning to the model's template, False asks it not to. `truncate="oldest"` drops the oldest
    turns of an over-long conversation and reports it as a Notice; the default is a ContextLengthError.
    `template_args` are extra variables for the chat template.
    """

    model: str
    messages: tuple[Message, ...]
    sampling: SamplingParams = SamplingParams()
    tools: tuple[ToolSpec, ...] = ()
    think: bool | None = None
    truncate: Truncate = "error"
    template_args: dict[str, Any] = {}


class CompletionRequest(_Value, frozen=True):
    """Raw text (or token ids) to be continued by `model`; no chat template.

    Special-token text in a `str` prompt is read as ordinary text unless `parse_special` is set.
    """

    model: str
    prompt: str | tuple[int, ...]
    sampling: SamplingParams = SamplingParams()
    parse_special: bool = False


class TokenLogprob(_Value, frozen=True):
    """Log probability of one token (natural log, before sampling). `top` holds the likeliest alternatives."""

    token: int
    text: bytes
    logprob: float
    top: tuple[tuple[int, bytes, float], ...] = ()


class Usage(_Value, frozen=True):
    """Tokens of one request. Cached ones were not computed again."""

    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_output_tokens: int = 0
    num_reasoning_tokens: int = 0


class Timings(_Value, frozen=True):
    """Where the time of one request went, measured in the engine. `decode_s` runs from the first token to the last."""

    queue_s: float = 0.0
    prompt_s: float = 0.0
    decode_s: float = 0.0


class TextDelta(_Value, frozen=True, tag="text"):
    """More of the answer. Never half a character, never part of a stop string."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


class ReasoningDelta(_Value, frozen=True, tag="reasoning"):
    """More of the model's thinking."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


class ToolCallEvent(_Value, frozen=True, tag="tool_call"):
    """A whole tool call."""

    call: ToolCall


class Notice(_Value, frozen=True, tag="notice"):
    """Something a user should know that is no error: a reduced context, dropped turns, a fallback to CPU."""

    kind: str
    message: str
    facts: dict[str, Any] = {}


class Progress(_Value, frozen=True, tag="progress"):
    """Long work under way. `total` None: unknown. `unit`: "bytes" or "fraction" (of 1.0)."""

    stage: Literal["resolve", "download", "verify", "load"]
    detail: str = ""
    done: float = 0
    total: float | None = None
    unit: Literal["bytes", "fraction"] = "bytes"


class Finished(_Value, frozen=True, tag="finished"):
    """The one last event of a request."""

    reason: FinishReason
    usage: Usage
    timings: Timings = Timings()
    stop: str | None = None


Event = TextDelta | ReasoningDelta | ToolCallEvent | Notice | Progress | Finished


class ModelInfo(_Value, frozen=True):
    """An installed model, as listings show it. `modified` is ISO 8601, UTC."""

    name: str
    size_bytes: int
    digest: str
    origin: str
    modified: str
    architecture: str | None = None
    num_params: int | None = None
    quant: str | None = None
    num_ctx_train: int | None = None
    licence: str | None = None
    capabilities: tuple[str, ...] = ()


class LoadedModel(_Value, frozen=True):
    """A model in memory, as `ps` shows it. `bytes_by_device` is what the engine's own buffers take."""

    name: str
    pid: int
    num_ctx: int
    num_slots: int
    num_ctx_train: int
    device: str
    num_active: int = 0
    num_waiting: int = 0
    load_s: float = 0.0
    bytes_by_device: dict[str, int] = {}


@runtime_checkable
class Backend(Protocol):
    """What every front end needs, in process (Service) or over HTTP (Client): same methods, same types.

    `chat` and `complete` yield any number of events and end in exactly one Finished, or raise one LocalLLMError.
    Closing the iterator early (`aclose`) cancels the request.
    """

    def chat(self, request: ChatRequest) -> AsyncIterator[Event]:
        """Answer a conversation. Pulls and loads the model first where needed, with Progress events."""
        ...

    def complete(self, request: CompletionRequest) -> AsyncIterator[Event]:
        """Continue raw text."""
        ...

    async def tokenize(self, model: str, text: str, *, parse_special: bool = False) -> list[int]:
        """Token ids of `text`, without BOS."""
        ...

    async def detokenize(self, model: str, tokens: Sequence[int]) -> str:
        """The text of token ids; bytes that are no UTF-8 become U+FFFD."""
        ...

    async def list_models(self) -> list[ModelInfo]:
        """Installed models, by name."""
        ...

    async def list_loaded(self) -> list[LoadedModel]:
        """Models in memory."""
        ...

    def load(self, model: str) -> AsyncIterator[Progress | Notice]:
        """Bring a model into memory ahead of the first request, pulling it where needed."""
        ...

    def pull(self, model: str) -> AsyncIterator[Progress]:
        """Bring a model into the store."""
        ...

    async def unload(self, model: str) -> None:
        """Give a model's memory back; running requests end first."""
        ...

    async def close(self) -> None:
        """End every engine and release what is held."""
        ...
