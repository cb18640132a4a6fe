"""ModelFinder: which models there are to have, whether each fits this machine, and how fast it would be here."""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

from localllm.api.value import Value

# "paged": the weights are larger than the memory and are read from disk again and again while it answers.
Verdict = Literal["fits", "reduced", "paged", "too large"]


class Fit(Value, frozen=True):
    """Whether a model can be loaded here, with idle models gone: bytes it needs and bytes there are, on `device`.

    `num_ctx`: the tokens of context it would have; "reduced" is less than its own `num_ctx_train`. `basis`: what its
    bytes are known from: the file's header, or, before it is here, its published size or its number of parameters, with
    the cache that a usual model of that size has. `why` says in words what does not fit.
    """

    verdict: Verdict
    needed_bytes: int
    available_bytes: int
    device: str
    num_ctx: int
    num_ctx_train: int
    basis: Literal["header", "size", "parameters"]
    why: str | None = None


class Speed(Value, frozen=True):
    """Tokens a second of one answer, alone: "measured" with this model on this machine, or "scaled".

    Scaled: from what `model` was measured with here, by the bytes of weights that each reads for a token.
    `source`: `localllm tune`, or answers it gave.
    """

    tokens_per_s: float
    basis: Literal["measured", "scaled"]
    model: str
    source: Literal["tune", "answers"]


class Offer(Value, frozen=True):
    """A model one may have. `installed`: it is here. Where `size_bytes` is not published, `about_bytes` is what
    its parameters and quantization give.

    `fit` None: nothing is known that would tell. `speed` None: nothing was measured on this machine, or nothing that
    would hold for it.
    """

    name: str
    title: str = ""
    publisher: str = ""
    description: str = ""
    num_params: int | None = None
    quant: str | None = None
    size_bytes: int | None = None
    about_bytes: int | None = None
    num_ctx: int | None = None
    licence: str | None = None
    licence_url: str | None = None
    capabilities: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    installed: bool = False
    fit: Fit | None = None
    speed: Speed | None = None


class ModelFinder(Protocol):
    """What may be pulled, judged by this machine. Asks no network."""

    async def catalogue(self, query: str = "") -> tuple[Offer, ...]:
        """The catalogue's models with every word of `query`, by family."""
        ...

    async def offer(self, model: str) -> Offer:
        """One model, installed or of the catalogue. Raises ModelNotFoundError."""
        ...


@runtime_checkable
class HasFinder(Protocol):
    """A Backend that gives away its finder."""

    @property
    def finder(self) -> ModelFinder:
        """The finder."""
        ...
