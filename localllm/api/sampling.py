"""How tokens are chosen, and the bounds of each parameter."""

from __future__ import annotations

import math

import msgspec

from localllm.api.value import Value
from localllm.errors import InvalidRequestError


class SamplingParams(Value, frozen=True):
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
