"""Sampler: one request's sampler chain in llama.cpp, from SamplingParams. The only sampling code; no policy.

The chain's order is llama.cpp's: logit bias, penalties, DRY, top-n-sigma, top-k, typical, top-p, min-p, XTC,
temperature, then the draw. Greedy requests without a chain take the arg-max of the logits directly.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from localllm.api import SamplingParams, TokenLogprob
from localllm.binding import C
from localllm.engine.constraint import Matcher
from localllm.engine.logprobs import logits_of, token_logprob
from localllm.engine.masked import MaskedChoice
from localllm.engine.vocab import Vocab

DEFAULTS = SamplingParams(
    temperature=0.8,
    top_k=40,
    top_p=0.95,
    min_p=0.05,
    typical_p=1.0,
    top_n_sigma=-1.0,
    xtc_probability=0.0,
    xtc_threshold=0.1,
    dry_multiplier=0.0,
    dry_base=1.75,
    dry_allowed_length=2,
    dry_penalty_last_n=-1,
    dry_sequence_breakers=("\n", ":", '"', "*"),
    mirostat=0,
    mirostat_tau=5.0,
    mirostat_eta=0.1,
    repeat_penalty=1.0,
    repeat_last_n=64,
    presence_penalty=0.0,
    frequency_penalty=0.0,
)
"""llama.cpp's defaults, under ours."""

_RANDOM_SEED = 0xFFFFFFFF


class Sampler:
    """Chooses the next token of one sequence; remembers what its penalties need. Close it to free the chain."""

    def __init__(self, vocab: Vocab, params: SamplingParams, prompt: list[int], num_ctx: int) -> None:
        self._vocab = vocab
        self._params = params.over(DEFAULTS)
        self._num_logprobs = params.logprobs
        self._chain: Any = None
        self._masked: MaskedChoice | None = None
        bias = _biases(vocab, self._params)
        self._bias_ids = np.fromiter(bias.keys(), np.int64)
        self._bias_values = np.fromiter(bias.values(), np.float32)
        stages = _history_stages(vocab, self._params, num_ctx)
        if stages or self._params.temperature or self._params.mirostat:
            self._chain = _chain([*_bias_stages(vocab, bias), *stages, *_choice_stages(vocab, self._params)])
            if stages:
                # Penalties look back on the prompt too.
                self.accept(prompt[-num_ctx:])

    @property
    def matcher(self) -> Matcher | None:
        """What the sequence is bound to."""
        return None if self._masked is None else self._masked.matcher

    @property
    def is_over(self) -> bool:
        """Whether nothing may follow: what the sequence is bound to is complete, or cannot be followed further."""
        return self._masked is not None and (self._masked.matcher.complete or self.failure is not None)

    @property
    def failure(self) -> str | None:
        """Why what the sequence is bound to cannot be followed further."""
        return None if self._masked is None else self._masked.matcher.failure

    def bind(self, matcher: Matcher) -> None:
        """Choose only what the matcher allows from now on."""
        p: Any = self._params
        banned = [token for token, bias in (p.logit_bias or {}).items() if bias == -math.inf]
        self._masked = MaskedChoice(matcher, [*banned, *(self._vocab.end_tokens if p.ignore_eos else ())])

    def sample(self, context: Any, index: int) -> tuple[int, TokenLogprob | None]:
        """The next token after output `index` of the last decode, and its log probability where wanted."""
        logits = None
        if self._masked is None and self._chain is not None:
            token = C.llama_sampler_sample(self._chain, context, index)
        else:
            logits = logits_of(context, index, self._vocab.num_tokens)
            token = self._choose(logits)
        if self._num_logprobs is None:
            return token, None
        if logits is None:
            logits = logits_of(context, index, self._vocab.num_tokens)
        return token, token_logprob(self._vocab, logits, token, self._num_logprobs)

    def _choose(self, logits: npt.NDArray[np.float32]) -> int:
        """A token without the chain, or from what the grammar leaves; `logits` are as before afterwards."""
        biased = self._chain is None and len(self._bias_ids) > 0
        if biased:
            held = logits[self._bias_ids]
            logits[self._bias_ids] += self._bias_values
        token = int(logits.argmax()) if self._masked is None else self._masked.choose(self._chain, logits)
        if biased:
            logits[self._bias_ids] = held
        return token

    def accept(self, tokens: Iterable[int]) -> None:
        """Take note of tokens that were not chosen here: penalties look back on them too."""
        tokens = list(tokens)
        self._note(tokens)
        if self._masked is not None:
            self._masked.matcher.accept(tokens)

    def forced(self) -> list[int]:
        """Tokens that must follow, which are taken note of."""
        tokens = [] if self._masked is None else self._masked.matcher.forced()
        self._note(tokens)
        return tokens

    def _note(self, tokens: list[int]) -> None:
        if self._chain is not None:
            for token in tokens:
                C.llama_sampler_accept(self._chain, token)

    def close(self) -> None:
        """Free the chain."""
        if self._chain is not None:
            C.llama_sampler_free(self._chain)
            self._chain = None


def _chain(stages: list[Any]) -> Any:
    params = C.llama_sampler_chain_default_params()
    params.no_perf = True
    chain = C.llama_sampler_chain_init(params)
    for stage in stages:
        C.llama_sampler_chain_add(chain, stage)
    return chain


def _biases(vocab: Vocab, params: SamplingParams) -> dict[int, float]:
    bias = dict(params.logit_bias or {})
    if params.ignore_eos:
        bias |= dict.fromkeys(vocab.end_tokens, -math.inf)
    return bias


def _bias_stages(vocab: Vocab, bias: dict[int, float]) -> list[Any]:
    if not bias:
        return []
    entries = (C.llama_logit_bias * len(bias))(*(C.llama_logit_bias(t, b) for t, b in bias.items()))
    return [C.llama_sampler_init_logit_bias(vocab.num_tokens, len(bias), entries)]


def _history_stages(vocab: Vocab, params: SamplingParams, num_ctx: int) -> list[Any]:
    """Stages that change logits by what came before; only those that do anything."""
    p: Any = params
    stages: list[Any] = []
    last_n = num_ctx if p.repeat_last_n < 0 else min(p.repeat_last_n, num_ctx)
    if last_n and (p.repeat_penalty != 1.0 or p.frequency_penalty or p.presence_penalty):
        stages.append(
            C.llama_sampler_init_penalties(
                vocab.num_tokens, last_n, p.repeat_penalty, p.frequency_penalty, p.presence_penalty
            )
        )
    if p.dry_multiplier:
        last_n = num_ctx if p.dry_penalty_last_n < 0 else min(p.dry_penalty_last_n, num_ctx)
        breakers = [text.encode() for text in p.dry_sequence_breakers]
        array = (ctypes.c_char_p * len(breakers))(*breakers)
        stages.append(
            C.llama_sampler_init_dry(
                vocab.handle, p.dry_multiplier, p.dry_base, p.dry_allowed_length, last_n, array, len(breakers)
            )
        )
    return stages


def _choice_stages(vocab: Vocab, params: SamplingParams) -> list[Any]:
    """Stages that narrow the candidates and draw one."""
    p: Any = params
    seed = _RANDOM_SEED if p.seed is None else p.seed
    if p.temperature == 0:
        return [C.llama_sampler_init_greedy()]
    if p.mirostat:
        temperature = C.llama_sampler_init_temp(p.temperature)
        if p.mirostat == 1:
            num = vocab.num_tokens
            return [temperature, C.llama_sampler_init_mirostat(num, seed, p.mirostat_tau, p.mirostat_eta, 100)]
        return [temperature, C.llama_sampler_init_mirostat_v2(seed, p.mirostat_tau, p.mirostat_eta)]
    stages: list[Any] = []
    if p.top_n_sigma > 0:
        stages.append(C.llama_sampler_init_top_n_sigma(p.top_n_sigma))
    if p.top_k:
        stages.append(C.llama_sampler_init_top_k(p.top_k))
    if p.typical_p < 1:
        stages.append(C.llama_sampler_init_typical(p.typical_p, 1))
    if p.top_p < 1:
        stages.append(C.llama_sampler_init_top_p(p.top_p, 1))
    if p.min_p > 0:
        stages.append(C.llama_sampler_init_min_p(p.min_p, 1))
    if p.xtc_probability > 0:
        stages.append(C.llama_sampler_init_xtc(p.xtc_probability, p.xtc_threshold, 1, seed))
    return [*stages, C.llama_sampler_init_temp(p.temperature), C.llama_sampler_init_dist(seed)]
