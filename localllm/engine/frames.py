"""The wire between the parent and an engine child: msgpack frames over the child's stdin and stdout.

A frame is a 4-byte little-endian length and a msgpack body. Both sides import this; it imports neither.
"""

from __future__ import annotations

import struct
from typing import IO, Any, Literal

import msgspec

from localllm import errors
from localllm.api import (
    Adapter,
    ChatRequest,
    CompletionRequest,
    Control,
    Embeddings,
    EmbedRequest,
    Event,
    Ranking,
    Rendered,
    RerankRequest,
)

MAX_FRAME_BYTES = 256 * 2**20
# What a child ends with that cannot have the memory it wants.
NO_MEMORY_STATUS = 72

Pooling = Literal["mean", "cls", "last", "rank", "yes_no"]


class LoadSpec(msgspec.Struct, frozen=True):
    """Everything the child needs to load a model; all choices are made.

    `num_ctx` bounds one sequence; `num_cells` is the size of the cache in tokens, over all slots. `host_tokens` bounds
    the prefixes kept in host memory, `prefix_disk_bytes` those of all models together in `prefix_dir` (0: none);
    `prefix_key` stands for the model's bytes there. `devices` are ggml device names; empty means CPU only,
    None leaves the choice to llama.cpp. `flash_attn` None leaves that to llama.cpp. `max_drafts` bounds the tokens
    guessed ahead in one step for one sequence. `num_threads_batch` computes prompts and steps of several sequences, 0:
    as many as `num_threads`. `task`, `pooling`, `is_causal` and `gives_probability` are what the file says of a model
    that embeds or ranks. `adapters` are applied to every request. `draft_paths` is a small model of
    the same vocabulary that drafts; `use_mtp`: the model drafts for itself, with layers of its own.
    """

    paths: tuple[str, ...]
    num_ctx: int
    num_cells: int
    num_slots: int
    num_batch: int
    num_threads: int
    kv_layout: Literal["unified", "streams"]
    devices: tuple[str, ...] | None = ()
    num_gpu_layers: int = -1
    use_mmap: bool = True
    num_ubatch: int = 512
    flash_attn: bool | None = None
    kv_type_k: str = "f16"
    kv_type_v: str = "f16"
    host_tokens: int = 0
    max_drafts: int = 0
    num_threads_batch: int = 0
    step_target_us: int = 200_000
    prefix_dir: str = ""
    prefix_key: str = ""
    prefix_disk_bytes: int = 0
    task: Literal["generate", "embed", "rerank"] = "generate"
    pooling: str | None = None
    is_causal: bool = True
    gives_probability: bool = False
    adapters: tuple[Adapter, ...] = ()
    draft_paths: tuple[str, ...] = ()
    use_mtp: bool = False


class EngineInfo(msgspec.Struct, frozen=True):
    """What the child knows once the model is loaded."""

    num_ctx: int
    num_ctx_train: int
    num_slots: int
    num_vocab: int
    num_params: int
    weight_bytes: int
    description: str
    device: str
    load_s: float
    has_template: bool


class Load(msgspec.Struct, frozen=True, tag="load"):
    """Load the model; the first frame a child gets."""

    spec: LoadSpec


class Chat(msgspec.Struct, frozen=True, tag="chat"):
    """Answer a conversation under `id`."""

    id: int
    request: ChatRequest


class Complete(msgspec.Struct, frozen=True, tag="complete"):
    """Continue raw text under `id`."""

    id: int
    request: CompletionRequest


class Abort(msgspec.Struct, frozen=True, tag="abort"):
    """End request `id` between two steps. It still ends in its one Finished."""

    id: int


class Steer(msgspec.Struct, frozen=True, tag="steer"):
    """Change the course of request `id` between two steps; unknown ids are ignored."""

    id: int
    control: Control


class Render(msgspec.Struct, frozen=True, tag="render"):
    """Ask for the prompt that a chat would give the model."""

    id: int
    request: ChatRequest


class Tokenize(msgspec.Struct, frozen=True, tag="tokenize"):
    """Ask for the token ids of a text."""

    id: int
    text: str
    parse_special: bool


class Detokenize(msgspec.Struct, frozen=True, tag="detokenize"):
    """Ask for the text of token ids."""

    id: int
    tokens: tuple[int, ...]


class Embed(msgspec.Struct, frozen=True, tag="embed"):
    """Turn texts into vectors under `id`. The answer is an Embedded."""

    id: int
    request: EmbedRequest


class Rerank(msgspec.Struct, frozen=True, tag="rerank"):
    """Rank documents under `id`. The answer is a Ranks."""

    id: int
    request: RerankRequest


class Ping(msgspec.Struct, frozen=True, tag="ping"):
    """Ask whether the child lives, and how long its current step has taken."""


Request = Load | Chat | Complete | Abort | Steer | Render | Tokenize | Detokenize | Embed | Rerank | Ping


class ErrorInfo(msgspec.Struct, frozen=True):
    """A LocalLLMError on the wire."""

    type: str
    message: str
    hint: str | None
    facts: dict[str, Any]


class Loading(msgspec.Struct, frozen=True, tag="loading"):
    """How much of the model is loaded, 0 to 1."""

    fraction: float


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The model is loaded."""

    info: EngineInfo


class Step(msgspec.Struct, frozen=True, tag="step"):
    """What one step brought all requests."""

    events: list[tuple[int, list[Event]]]


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """Request `id` ended in an error; id -1: the load did."""

    id: int
    error: ErrorInfo


class Reply(msgspec.Struct, frozen=True, tag="reply"):
    """The answer to Tokenize, Detokenize or Render."""

    id: int
    value: list[int] | str | Rendered


class Embedded(msgspec.Struct, frozen=True, tag="embedded"):
    """The answer to Embed."""

    id: int
    value: Embeddings


class Ranks(msgspec.Struct, frozen=True, tag="ranks"):
    """The answer to Rerank."""

    id: int
    value: Ranking


class Pong(msgspec.Struct, frozen=True, tag="pong"):
    """The child lives. `step_s`: seconds since the current step began, 0 when idle; `text_s` likewise of the text of a
    prompt being prepared. Output tokens: of all its life.
    """

    step_s: float
    num_running: int
    num_waiting: int
    num_output_tokens: int = 0
    text_s: float = 0.0


Value = list[int] | str | Rendered | Embeddings | Ranking
Answer = Loading | Ready | Step | Failed | Reply | Embedded | Ranks | Pong

_encoder = msgspec.msgpack.Encoder()
_request_decoder = msgspec.msgpack.Decoder(Request)
_answer_decoder = msgspec.msgpack.Decoder(Answer)


def encode(frame: Request | Answer) -> bytes:
    """A frame's bytes, length first."""
    body = _encoder.encode(frame)
    return struct.pack("<I", len(body)) + body


def read_request(stream: IO[bytes]) -> Request | None:
    """The next frame from the parent; None at its end."""
    body = _read_body(stream)
    return None if body is None else _request_decoder.decode(body)


def read_answer(stream: IO[bytes]) -> Answer | None:
    """The next frame from the child; None at its end."""
    body = _read_body(stream)
    return None if body is None else _answer_decoder.decode(body)


def cut_answers(data: bytearray) -> tuple[list[Answer], int]:
    """The whole frames at the start of `data`, and how many bytes they take."""
    answers: list[Answer] = []
    at = 0
    while len(data) - at >= 4:
        end = at + 4 + _checked(int.from_bytes(data[at : at + 4], "little"))
        if len(data) < end:
            break
        answers.append(_answer_decoder.decode(data[at + 4 : end]))
        at = end
    return answers, at


def _read_body(stream: IO[bytes]) -> bytes | None:
    head = stream.read(4)
    if len(head) < 4:
        return None
    size = _checked(int.from_bytes(head, "little"))
    body = stream.read(size)
    return body if len(body) == size else None


def _checked(size: int) -> int:
    if size > MAX_FRAME_BYTES:
        raise errors.EngineError(f"a frame of {size} bytes", hint="the engine's pipe carries something else")
    return size


def pack_error(error: errors.LocalLLMError) -> ErrorInfo:
    """An error as it travels; facts that are no plain values become text."""
    facts = {
        name: fact if isinstance(fact, int | float | str | list) else str(fact) for name, fact in error.facts.items()
    }
    return ErrorInfo(type(error).__name__, error.message, error.hint, facts)


def unpack_error(info: ErrorInfo) -> errors.LocalLLMError:
    """The error that `pack_error` packed."""
    cls = getattr(errors, info.type, errors.EngineError)
    if not (isinstance(cls, type) and issubclass(cls, errors.LocalLLMError)):
        cls = errors.EngineError
    return cls(info.message, hint=info.hint, **info.facts)
