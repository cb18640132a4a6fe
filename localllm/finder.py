"""CatalogFinder: what may be pulled and what is here, each with whether it fits this machine and how fast it would be.

Shares the arithmetic of loading (`memory.py`, `model_shape.py`). A speed is scaled from what was measured on this
machine, or not given. Asks no network; reads headers of installed files only.
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from localllm import devices, machine, tuned
from localllm.api import LoadOptions
from localllm.api.finder import Fit, Offer, Speed
from localllm.errors import LocalLLMError, ModelNotFoundError, OutOfMemoryError
from localllm.fit import active_share, file_bytes, fit_of, usual_facts
from localllm.loading import choose, read_facts
from localllm.memory import DeviceMemory, plan
from localllm.model_shape import ModelFacts
from localllm.name import ModelName
from localllm.resolver import Resolver
from localllm.speeds import Speeds
from localllm.store.gguf import read_gguf
from localllm.store.identity import is_hashed, weights_id
from localllm.store.manifest import Manifest

if TYPE_CHECKING:
    from localllm.catalog import Variant


class _Known(NamedTuple):
    """What an installed model's header says: its shape, and the bytes of weights that one token reads."""

    facts: ModelFacts
    token_bytes: int


class _Measured(NamedTuple):
    """A speed of this machine: whose it is, where, and the bytes a token took."""

    name: str
    weights: str
    device: str
    tokens_per_s: float
    token_bytes: int
    source: Literal["tune", "answers"]


class CatalogFinder:
    """ModelFinder over the catalogue and the store of `resolver`.

    `available_bytes`: main memory that a model could have, with idle ones gone.
    """

    def __init__(self, resolver: Resolver, available_bytes: Callable[[], int], speeds: Speeds) -> None:
        self._resolver = resolver
        self._available_bytes = available_bytes
        self._speeds = speeds
        self._known: dict[str, _Known | None] = {}

    async def catalogue(self, query: str = "") -> tuple[Offer, ...]:
        """See ModelFinder.catalogue."""
        return await asyncio.to_thread(self._catalogue, query)

    async def offer(self, model: str) -> Offer:
        """See ModelFinder.offer."""
        return await asyncio.to_thread(self._offer, model)

    def _catalogue(self, query: str) -> tuple[Offer, ...]:
        here = {manifest.name: manifest for manifest in self._resolver.store.list()}
        judge = _Judge(self._memory(), self._settings(), self._measured(list(here.values())))
        found = self._resolver.catalog.search(query)
        return tuple(self._of_variant(variant, here.get(variant.name), judge) for variant in found)

    def _offer(self, model: str) -> Offer:
        store = self._resolver.store
        name = ModelName.parse(model)
        variant = self._resolver.catalog.find(str(name)) if name.source == "catalog" else None
        try:
            manifest: Manifest | None = self._resolver.find(model)
        except ModelNotFoundError:
            if variant is None:
                raise
            manifest = None
        judge = _Judge(self._memory(), self._settings(), self._measured(store.list()))
        if variant is not None:
            return self._of_variant(variant, manifest, judge)
        assert manifest is not None, "neither installed nor of the catalogue"
        return self._of_manifest(manifest, judge)

    def _of_variant(self, variant: Variant, manifest: Manifest | None, judge: _Judge) -> Offer:
        offer = Offer(
            name=variant.name,
            title=variant.title,
            publisher=variant.publisher,
            description=variant.description,
            num_params=variant.num_params,
            quant=variant.quant,
            size_bytes=variant.size_bytes,
            num_ctx=variant.num_ctx,
            licence=variant.licence,
            licence_url=variant.licence_url,
            capabilities=variant.capabilities,
            aliases=variant.aliases,
        )
        if manifest is not None:
            here = self._of_manifest(manifest, judge)
            changes = {name: getattr(here, name) for name in ("installed", "size_bytes", "fit", "speed")}
            return msgspec.structs.replace(offer, **changes)
        size_bytes = variant.size_bytes or file_bytes(variant.num_params, variant.quant)
        if size_bytes is None:
            return offer
        is_encoder = "chat" not in variant.capabilities and bool({"embed", "rerank"} & set(variant.capabilities))
        facts = usual_facts(variant.name, variant.num_params, size_bytes, variant.num_ctx, is_encoder=is_encoder)
        fit = judge.fit(facts, "size" if variant.size_bytes else "parameters")
        share = active_share(variant.num_params, variant.description, (*variant.aliases, *variant.sources))
        token_bytes = None if share is None or is_encoder else int(size_bytes * share)
        about_bytes = None if variant.size_bytes else size_bytes
        speed = judge.speed(None, token_bytes, fit)
        return msgspec.structs.replace(offer, about_bytes=about_bytes, fit=fit, speed=speed)

    def _of_manifest(self, manifest: Manifest, judge: _Judge) -> Offer:
        known = self._header(manifest)
        fit = judge.fit(known.facts, "header") if known is not None else None
        token_bytes = known.token_bytes if known is not None and known.facts.task == "generate" else None
        return Offer(
            name=manifest.name,
            num_params=manifest.num_params,
            quant=manifest.quant,
            size_bytes=manifest.size_bytes,
            num_ctx=manifest.num_ctx_train,
            licence=manifest.licence,
            capabilities=manifest.capabilities,
            installed=True,
            fit=fit,
            speed=judge.speed(_weights(manifest), token_bytes, fit),
        )

    def _header(self, manifest: Manifest) -> _Known | None:
        """What the files of an installed model say, read once. None where they do not read."""
        key = _weights(manifest)
        if key not in self._known:
            try:
                paths = self._resolver.store.paths(manifest)
                self._known[key] = _Known(read_facts(manifest.name, paths), _token_bytes(paths))
            except (LocalLLMError, OSError):
                self._known[key] = None
        return self._known[key]

    def _memory(self) -> list[DeviceMemory]:
        host = DeviceMemory("CPU", self._available_bytes(), is_host=True)
        if not machine.this_machine().devices:  # asks no child where the build has nothing but the CPU
            return [host]
        try:
            found = devices.probe().devices
        except LocalLLMError:
            return [host]
        is_shared = sys.platform == "darwin"
        gpus = [d for d in found if d.kind in ("GPU", "IGPU")]
        return [host, *(DeviceMemory(d.name, d.free_bytes, shares_host=is_shared or d.kind == "IGPU") for d in gpus)]

    def _settings(self) -> LoadOptions:
        settings = self._resolver.settings
        return LoadOptions(
            num_slots=settings.num_slots,
            device=settings.device,
            kv_type_k=settings.kv_type,
            kv_type_v=settings.kv_type,
            flash_attn=settings.flash_attn,
        )

    def _measured(self, manifests: Sequence[Manifest]) -> list[_Measured]:
        """The speeds that this machine is known by; of one model what `tune` measured counts before its answers."""
        by_weights = {_weights(manifest): manifest for manifest in manifests if is_hashed(manifest)}
        found: list[_Measured] = []
        for weights, manifest in by_weights.items():
            if (rate := _tuned_rate(weights)) is not None and (known := self._header(manifest)) is not None:
                found.append(_Measured(manifest.name, weights, "", rate, known.token_bytes, "tune"))
        done = {one.weights for one in found}
        for one in self._speeds.observed():
            present = by_weights.get(one.weights)
            if present is None or one.weights in done or (known := self._header(present)) is None:
                continue
            rate = one.tokens_per_s
            found.append(_Measured(present.name, one.weights, one.device, rate, known.token_bytes, "answers"))
        return found


class _Judge:
    """One look at the machine: its memory, how models are loaded, and what was measured."""

    def __init__(self, memory: list[DeviceMemory], options: LoadOptions, measured: list[_Measured]) -> None:
        self._memory = memory
        self._options = options
        self._measured = measured

    def fit(self, facts: ModelFacts, basis: Literal["header", "size", "parameters"]) -> Fit | None:
        """Whether a model of that shape can be loaded. None where the settings name a device that is not here."""
        try:
            if len(self._memory) == 1:
                chosen = choose(facts, self._memory[0].free_bytes, self._options)
            else:
                chosen = plan(facts, self._memory, self._options)
        except OutOfMemoryError as exc:
            return fit_of(exc, facts.num_ctx_train, self._memory, basis)
        except LocalLLMError:
            return None
        return fit_of(chosen, facts.num_ctx_train, self._memory, basis)

    def speed(self, weights: str | None, token_bytes: int | None, fit: Fit | None) -> Speed | None:
        """How fast it would answer: as measured, else as the nearest in size that was, by the bytes of a token.

        None for what does not stay in memory, and where nothing was measured on the device it would run on.
        """
        if token_bytes is None or fit is None or fit.verdict not in ("fits", "reduced"):
            return None
        there = [one for one in self._measured if one.device in ("", fit.device)]
        for one in there:
            if one.weights == weights:
                return Speed(one.tokens_per_s, "measured", one.name, one.source)
        if not there:
            return None
        near = min(there, key=lambda one: abs(math.log(one.token_bytes / token_bytes)))
        return Speed(near.tokens_per_s * near.token_bytes / token_bytes, "scaled", near.name, near.source)


def _tuned_rate(weights: str) -> float | None:
    """Tokens a second of one stream with what `localllm tune` chose for this machine."""
    own, _ = tuned.load(weights)
    if own is None:
        return None
    rate = own.outcome.figures.get("decode_1", 0.0) * own.outcome.ratios.get("decode_1", 1.0)
    return rate if rate > 0 else None


def _token_bytes(paths: Sequence[Path]) -> int:
    """The bytes of weights that one token reads: no table of embeddings, and of experts only those that are asked."""
    headers = [read_gguf(path) for path in paths]
    metadata = headers[0].metadata
    arch = metadata.get("general.architecture", "")
    count, used = metadata.get(f"{arch}.expert_count"), metadata.get(f"{arch}.expert_used_count")
    share = used / count if type(count) is int and type(used) is int and 0 < used <= count else 1.0
    tensors = [tensor for header in headers for tensor in header.tensors]
    is_tied = not any(tensor.name == "output.weight" for tensor in tensors)
    total = 0.0
    for tensor in tensors:
        if tensor.name.startswith("token_embd.") and not is_tied:
            continue
        total += tensor.size_bytes * (share if "_exps." in tensor.name else 1.0)
    return max(1, int(total))


def _weights(manifest: Manifest) -> str:
    """The identity of an installed model's weights; its blobs have digests, so no file is read for it."""
    return weights_id(manifest, ())
