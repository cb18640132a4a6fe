"""Job: a request ready to run, all choices made. Values only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from localllm.api import Notice, SamplingParams
from localllm.engine.adapter_set import NO_ADAPTERS, AdapterSet
from localllm.engine.constraint import Grammar
from localllm.text.parsers.calls import AnswerParser


@dataclass(frozen=True, slots=True)
class Job:
    """Token ids and how to go on from them.

    `new_parser` makes the parser of one answer. `end_of_reasoning` is what closes the model's thinking, for a
    `reasoning_budget` or a user who has seen enough; empty where the model does not think. `deterministic` jobs have
    steps of their own. `grammar` is the compiled constraint. The rest is as in `api.GenerationRequest`.
    """

    id: int
    tokens: list[int]
    sampling: SamplingParams
    new_parser: Callable[[], AnswerParser] | None = None
    notices: tuple[Notice, ...] = ()
    n: int = 1
    priority: int = 0
    client: str = ""
    deadline_s: float | None = None
    end_runaway: bool = False
    reasoning_budget: int | None = None
    end_of_reasoning: tuple[int, ...] = ()
    prompt_logprobs: int | None = None
    deterministic: bool = False
    speculate: bool = False
    adapters: AdapterSet = NO_ADAPTERS
    grammar: Grammar | None = None
    receipt: bool = False
    prompt_usage: bool = False
