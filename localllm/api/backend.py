"""The Backend protocol: what every front end needs, in process or over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol, runtime_checkable

from localllm.api.answers import Embeddings, LoadedModel, ModelInfo, Ranking, Rendered
from localllm.api.events import Event, Notice, Progress
from localllm.api.requests import ChatRequest, CompletionRequest, Control, EmbedRequest, RerankRequest


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

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Turn texts into vectors. Raises InvalidRequestError for a model that is not made for it."""
        ...

    async def rerank(self, request: RerankRequest) -> Ranking:
        """Order documents by how well they answer a query. Raises likewise."""
        ...

    async def list_models(self) -> list[ModelInfo]:
        """Installed models, by name."""
        ...

    async def list_loaded(self) -> list[LoadedModel]:
        """Models in memory."""
        ...

    async def render(self, request: ChatRequest) -> Rendered:
        """The prompt that `chat` would give the model."""
        ...

    async def control(self, request_id: str, control: Control) -> bool:
        """Steer a running request: "stop_thinking" makes it answer now, "stop" ends it, "first" lets it pass others.

        False: no such request.
        """
        ...

    def load(
        self,
        model: str,
        *,
        keep_alive_s: float | None = None,
        pin: bool | None = None,
        num_ctx: int | None = None,
    ) -> AsyncIterator[Progress | Notice]:
        """Bring a model into memory ahead of the first request, pulling it where needed.

        `keep_alive_s` as in GenerationRequest. `pin` keeps it from making room for others (None: as it was).
        `num_ctx`: tokens of context it has from now on; in memory with others, it is loaded again, once its running
        requests have ended. Less is said in a Notice.
        """
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
