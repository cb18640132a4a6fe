"""Sampling in words: what each parameter does, and a typed value as one. Shared by the REPL and the terminal chat."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the command's options read only the words, at every start
    from localllm.api import SamplingParams

# Keyed by field of SamplingParams, in the order of help.
MEANINGS: dict[str, str] = {
    "temperature": "How freely tokens are chosen; 0 always takes the likeliest.",
    "top_k": "Choose among the K likeliest tokens; 0: all.",
    "top_p": "Choose among the likeliest tokens that together have this probability.",
    "min_p": "Leave out tokens below this share of the likeliest one's probability.",
    "typical_p": "Locally typical sampling; 1 is off.",
    "top_n_sigma": "Keep tokens within N standard deviations of the best logit; -1 is off.",
    "xtc_probability": "How often the likeliest tokens are left out; 0 is off.",
    "xtc_threshold": "Probability above which XTC leaves tokens out.",
    "dry_multiplier": "Strength of the DRY repetition penalty; 0 is off.",
    "dry_base": "How fast the DRY penalty grows with the length of a repetition.",
    "dry_allowed_length": "Longest repetition that DRY leaves alone.",
    "dry_penalty_last_n": "Tokens DRY looks back over; -1: the whole context.",
    "dry_sequence_breakers": "Text across which DRY sees no repetition.",
    "mirostat": "Mirostat version: 0 (off), 1 or 2.",
    "mirostat_tau": "Mirostat's target entropy.",
    "mirostat_eta": "Mirostat's learning rate.",
    "repeat_penalty": "Penalty on tokens that occurred lately; 1 is off.",
    "repeat_last_n": "Tokens the penalties look back over; -1: the whole context, 0: off.",
    "presence_penalty": "Penalty on any token that occurred lately.",
    "frequency_penalty": "Penalty that grows with each occurrence.",
    "logit_bias": "Add VALUE to the logit of a token id.",
    "seed": "Seed of the random choice, for the same answer again.",
    "max_tokens": "Stop after N tokens.",
    "stop": "Stop before this text appears.",
    "ignore_eos": "Go on when the model would end its answer.",
    "logprobs": "Report log probabilities with N alternatives a token.",
}
# Where a parameter is of use; beyond it is legal (the bounds are `api/sampling.py`'s) but seldom meant.
_USUAL: dict[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "repeat_penalty": (0.5, 2),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
}
_SWITCH = {"on": True, "off": False}
_IN_JSON = frozenset({"stop", "dry_sequence_breakers", "logit_bias"})


def given(sampling: SamplingParams) -> list[tuple[str, str]]:
    """The parameters that are not left to the model, as they are shown."""
    return [(f, shown(value)) for f in sampling.__struct_fields__ if (value := getattr(sampling, f)) is not None]


def shown(value: Any) -> str:
    """A value as it is shown; `default` where the model decides."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return "default" if value is None else str(value)


def warning(sampling: SamplingParams, name: str) -> str:
    """A sentence where a parameter is legal but far from what it is of use at, else nothing."""
    value, usual = getattr(sampling, name), _USUAL.get(name)
    if value is None or usual is None or usual[0] <= value <= usual[1]:
        return ""
    return f"{name} is usually between {usual[0]:g} and {usual[1]:g}: at {value:g} answers may make no sense."


def with_value(sampling: SamplingParams, name: str, value: str, *, others: Iterable[str] = ()) -> SamplingParams:
    """`sampling` with one parameter as typed; "default" takes it back. Raises UsageError, naming what comes nearest.

    `others` are names that mean something besides, for the suggestion.
    """
    import difflib

    import msgspec

    from localllm.api import SamplingParams, check_sampling
    from localllm.errors import UsageError

    if name not in sampling.__struct_fields__:
        near = difflib.get_close_matches(name, [*others, *sampling.__struct_fields__], n=1)
        hint = f"did you mean {near[0]!r}?" if near else "/set lists all"
        raise UsageError(f"nothing called {name!r} to set", hint=hint)
    kind = next(field.type for field in msgspec.structs.fields(SamplingParams) if field.name == name)
    typed: Any = None if value == "default" else value
    if typed is not None and name in _IN_JSON:
        typed = _from_json(name, value)
    elif name == "ignore_eos" and typed is not None:
        typed = _SWITCH.get(value, typed)
    try:
        changed = msgspec.structs.replace(sampling, **{name: msgspec.convert(typed, kind, strict=False)})
    except msgspec.ValidationError as exc:
        raise UsageError(f"{name} cannot be {value!r}", hint=f"/set {name} default takes it back") from exc
    check_sampling(changed)
    return changed


def _from_json(name: str, value: str) -> Any:
    import msgspec

    from localllm.errors import UsageError

    if not value.startswith(("[", "{")):
        return [value]
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError as exc:
        raise UsageError(f"{name} is no valid JSON: {exc}", hint='for example ["END", "STOP"]') from exc
