"""Ollama's `options` to sampling parameters. Pure.

An option is mapped, or named in what is ignored: those that belong to loading a model (the daemon decided them), and
those that mean nothing here. One of a wrong type or out of range is an InvalidRequestError that names it.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from localllm.api import Notice, SamplingParams, check_sampling
from localllm.errors import InvalidRequestError

# Chosen when a model is loaded, here by the daemon's options.
LOAD_OPTIONS = frozenset(
    [
        "num_batch",
        "num_gpu",
        "main_gpu",
        "use_mmap",
        "use_mlock",
        "num_thread",
        "num_thread_batch",
        "low_vram",
        "f16_kv",
        "vocab_only",
        "logits_all",
        "embedding_only",
        "numa",
        "draft_num_predict",
        "num_gqa",
        "rope_frequency_base",
        "rope_frequency_scale",
    ]
)
# Options of a context that is shifted, and of samplers that llama.cpp no longer has.
_WITHOUT_USE = frozenset(["num_keep", "penalize_newline", "tfs_z"])
_Int = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]


class OptionsBody(msgspec.Struct, frozen=True, kw_only=True):
    """The options that are used: Ollama's, and further samplers under llama.cpp's names."""

    num_ctx: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    num_predict: _Int | None = None
    seed: _Int | None = None
    stop: str | list[str] | None = None
    temperature: float | None = None
    top_k: _Int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repeat_last_n: int | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    mirostat: int | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    top_n_sigma: float | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    dry_multiplier: float | None = None
    dry_base: float | None = None
    dry_allowed_length: int | None = None
    dry_penalty_last_n: int | None = None
    ignore_eos: bool | None = None


class Options(msgspec.Struct, frozen=True):
    """What options come to. `num_ctx` is what the client wants to have room for; `ignored` are names, sorted."""

    sampling: SamplingParams = SamplingParams()
    num_ctx: int | None = None
    ignored: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    def notices(self) -> list[Notice]:
        """What a client is told of options that do nothing."""
        said = []
        if self.ignored:
            text = f"{', '.join(self.ignored)}: decided when the daemon loads a model, or without use here"
            said.append(Notice("options_ignored", text, {"options": list(self.ignored)}))
        if self.unknown:
            text = f"no options of these names: {', '.join(self.unknown)}"
            said.append(Notice("options_unknown", text, {"options": list(self.unknown)}))
        return said


_SAME = tuple(name for name in OptionsBody.__struct_fields__ if name in SamplingParams.__struct_fields__)
_OWN_MEANING = frozenset({"seed", "stop", "top_k"})


def read_options(given: dict[str, Any] | None, param: str = "options", *, is_text: bool = False) -> Options:
    """What `options` ask for; `is_text`: numbers are written as text.

    Raises InvalidRequestError for the first of a wrong type or out of range.
    """
    if not given:
        return Options()
    used = {name: given[name] for name in OptionsBody.__struct_fields__ if given.get(name) is not None}
    others = sorted(name for name in given if name not in OptionsBody.__struct_fields__)
    try:
        body = msgspec.convert(used, OptionsBody, strict=not is_text)
    except msgspec.ValidationError as exc:
        what, _, where = str(exc).partition(" - at `$.")
        name = f"{param}.{where.rstrip('`')}" if where else param
        raise InvalidRequestError(f"{name}: {what[:1].lower()}{what[1:]}", param=name) from exc
    known = LOAD_OPTIONS | _WITHOUT_USE
    return Options(
        _sampling(body),
        body.num_ctx or None,
        tuple(name for name in others if name in known),
        tuple(name[:64] for name in others if name not in known)[:16],
    )


def _sampling(body: OptionsBody) -> SamplingParams:
    values: dict[str, Any] = {name: getattr(body, name) for name in _SAME if name not in _OWN_MEANING}
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    num_predict = body.num_predict
    params = SamplingParams(
        **values,
        stop=stop or None,
        # llama.cpp's seeds have 32 bits; -1 is "whatever".
        seed=None if body.seed is None or body.seed == -1 else body.seed & 0xFFFFFFFF,
        top_k=None if body.top_k is None else min(max(body.top_k, 0), 2**31 - 1),
        # -1 is "to the end", -2 "until the context is full", which is the same where nothing is shifted.
        max_tokens=None if num_predict is None or num_predict <= 0 else min(num_predict, 2**31 - 1),
    )
    check_sampling(params)
    return params
