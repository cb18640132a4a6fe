"""ModelKeeper: what a front end may do with the models on disk, besides pulling and listing them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol, runtime_checkable

from localllm.api.answers import ModelInfo
from localllm.api.sampling import SamplingParams
from localllm.api.value import Value


class TensorShape(Value, frozen=True):
    """One tensor of a model. `shape` is in ggml's order: the fastest dimension first."""

    name: str
    type: str
    shape: tuple[int, ...]


class ModelDetails(Value, frozen=True):
    """All that is known of an installed model. `metadata` is its file's, without `template`; large arrays are None."""

    info: ModelInfo
    metadata: dict[str, Any]
    template: str | None = None
    system: str | None = None
    sampling: SamplingParams = SamplingParams()
    num_ctx: int | None = None
    tensors: tuple[TensorShape, ...] = ()


class NewModel(Value, frozen=True):
    """A model to be made of an installed one (`source`), or of blobs in the store: pairs of file name and digest.

    What is None or unset stays as it is in `source`.
    """

    name: str
    source: str | None = None
    blobs: tuple[tuple[str, str], ...] = ()
    system: str | None = None
    sampling: SamplingParams = SamplingParams()
    num_ctx: int | None = None
    licence: str | None = None


class ModelKeeper(Protocol):
    """The models on disk. Names are looked up as Backend does; an unknown one is a ModelNotFoundError."""

    async def info(self, model: str) -> ModelInfo:
        """What listings show of one installed model."""
        ...

    async def details(self, model: str, *, tensors: bool = False) -> ModelDetails:
        """All that is known of it, read from the headers of its files."""
        ...

    async def copy(self, source: str, target: str) -> None:
        """Give a model a second name. Raises StoreError where a different model has it."""
        ...

    async def remove(self, model: str) -> None:
        """Take a model out of the store. Raises ModelInUseError while a process runs it."""
        ...

    async def create(self, new: NewModel) -> ModelInfo:
        """Make a model; one of that name is replaced. Raises InvalidRequestError for blobs that are not here."""
        ...

    async def has_blob(self, digest: str) -> bool:
        """Whether these bytes are in the store and right."""
        ...

    async def put_blob(self, digest: str, data: AsyncIterator[bytes], size_bytes: int | None = None) -> bool:
        """Bring bytes into the store; False: they were there. Raises InvalidRequestError for bytes of another digest.

        `size_bytes`, where known, is checked against the room on disk beforehand.
        """
        ...


@runtime_checkable
class HasKeeper(Protocol):
    """A Backend that gives away its models' keeper."""

    @property
    def keeper(self) -> ModelKeeper:
        """The keeper."""
        ...
