"""What comes back at once: vectors, rankings, listings."""

from __future__ import annotations

import struct
from typing import Any, Literal

from localllm.api.sampling import SamplingParams
from localllm.api.value import Value


class Embeddings(Value, frozen=True):
    """One vector per input, in order: little-endian float32, `num_dimensions` each."""

    vectors: tuple[bytes, ...]
    num_dimensions: int
    num_tokens: tuple[int, ...]
    num_truncated: int = 0

    def floats(self) -> list[tuple[float, ...]]:
        """The vectors as numbers."""
        return [struct.unpack(f"<{self.num_dimensions}f", vector) for vector in self.vectors]


class Ranked(Value, frozen=True):
    """One document's place: its index in the request and the model's score (higher is better)."""

    index: int
    score: float


class Ranking(Value, frozen=True):
    """Documents, best first. `is_probability`: scores lie between 0 and 1. `num_truncated` of them lost their end."""

    results: tuple[Ranked, ...]
    num_tokens: int
    is_probability: bool
    num_truncated: int = 0


class Rendered(Value, frozen=True):
    """The exact prompt of a chat: its text with control tokens spelled out, and the ids the model is given."""

    prompt: str
    tokens: tuple[int, ...]


class Receipt(Value, frozen=True):
    """What an answer was made from: enough to make it again with `deterministic`, and to see what differs.

    `model` stands for the bytes of the weights; the others are SHA-256 in hex, of `output_tokens` one for each answer.
    `sampling` has the seed that was drawn where none was given.
    """

    model: str
    template: str
    prompt_tokens: str
    output_tokens: tuple[str, ...]
    build: str
    load: dict[str, Any]
    sampling: SamplingParams
    deterministic: bool


class ModelInfo(Value, frozen=True):
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


class RunningRequest(Value, frozen=True):
    """A request under way. `id` only of one's own; `num_ahead` and `eta_s` while it is "queued"."""

    model: str
    kind: str
    state: Literal["waiting", "loading", "queued", "running"]
    seconds: float
    id: str | None = None
    num_ahead: int | None = None
    eta_s: float | None = None


class LoadedModel(Value, frozen=True):
    """A model in memory, as `ps` shows it. `bytes_by_device` is what the engine's own buffers take.

    `expires_in_s`: when it is unloaded unless somebody asks it (None: not by time, or it is busy). A `pinned` one makes
    room for no other. `state` "leaving": it ends what it runs and takes nothing new. `num_output_tokens`: what it has
    made since it was loaded, as of the last second.
    """

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
    expires_in_s: float | None = None
    pinned: bool = False
    state: Literal["loading", "ready", "leaving"] = "ready"
    num_output_tokens: int = 0


class Status(Value, frozen=True, tag="status"):
    """What a daemon does now: the models in memory, the requests under way, and how many may be."""

    loaded: tuple[LoadedModel, ...]
    requests: tuple[RunningRequest, ...]
    num_active: int
    num_places: int
