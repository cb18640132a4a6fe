"""The tiny models do what tests need of them: every kind loads, decodes, remembers, and batches without mixing up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from localllm.api import SamplingParams
from localllm.binding import set_log
from localllm.engine.batch import Batch, Chunk, Sampled
from localllm.engine.frames import LoadSpec
from localllm.engine.llama import LlamaModel, LlamaRunner
from tests.engine.conftest import spec_of
from tests.tiny_models import EXACT, KINDS, WINDOW, Kind

TinyModel = Callable[..., Path]
GREEDY = SamplingParams(temperature=0)


@pytest.fixture(autouse=True, scope="module")
def quiet() -> None:
    """llama.cpp's log would bury what failed."""
    set_log(lambda _level, _text: None)


class Bench:
    """A model and a context, driven by hand: greedy answers to prompts of token ids."""

    def __init__(self, spec: LoadSpec) -> None:
        self.model = LlamaModel(spec, lambda _fraction: True)
        self.runner = LlamaRunner(self.model, spec)

    def answer(self, prompts: list[list[int]], num_tokens: int) -> list[list[int]]:
        """What follows each prompt, all computed together, a slot each."""
        todo = [list(prompt) for prompt in prompts]
        starts = [0] * len(prompts)
        answers: list[list[int]] = [[] for _ in prompts]
        for index, prompt in enumerate(prompts):
            self.runner.open(index, GREEDY, prompt)
        for _ in range(num_tokens):
            chunks = [Chunk(i, i, starts[i], todo[i], True) for i in range(len(prompts))]
            for i, sampled in enumerate(self.runner.run(Batch([], chunks))):
                starts[i] += len(todo[i])
                todo[i] = list(_one(sampled))
                answers[i] += todo[i]
        return answers

    def close(self) -> None:
        self.runner.close()
        self.model.close()


def _one(sampled: Sampled) -> tuple[int, ...]:
    assert len(sampled.tokens) == 1
    return sampled.tokens


@pytest.fixture
def bench(tiny_model: TinyModel) -> Iterator[Callable[..., Bench]]:
    """Makes benches and closes them."""
    made: list[Bench] = []

    def make(kind: Kind, **changes: Any) -> Bench:
        options = {"num_slots": 4, "num_cells": 2048, "num_ctx": 512, "num_batch": 512, **EXACT, **changes}
        made.append(Bench(spec_of(tiny_model(kind), **options)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def prompts_of(bench: Bench) -> list[list[int]]:
    texts = [
        "the cat",
        "A quite different beginning, Grüße 🦙",
        "x",
        "one two three four five six seven eight nine " * 2,
    ]
    return [bench.model.vocab.tokenize(text) for text in texts]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", ["streams", "unified"])
def test_batched_equals_alone(bench: Callable[..., Bench], kind: Kind, layout: str) -> None:
    together = bench(kind, kv_layout=layout)
    prompts = prompts_of(together)
    answers = together.answer(prompts, 2 * WINDOW)
    for prompt, answer in zip(prompts, answers, strict=True):
        assert bench(kind, num_slots=1, num_cells=512).answer([prompt], 2 * WINDOW) == [answer]
        assert len(set(answer)) > WINDOW / 2, "an answer that turns in a circle hides mistakes"


@pytest.mark.parametrize("kind", KINDS)
def test_the_answer_depends_on_the_first_token(bench: Callable[..., Bench], kind: Kind) -> None:
    """Else a lost or wrong prefix would go unnoticed."""
    prompt = bench(kind).model.vocab.tokenize("remember this well, it is asked for later")
    one, other = bench(kind).answer([prompt], 16), bench(kind).answer([[prompt[0] + 1, *prompt[1:]]], 16)
    assert one != other


def test_the_vocabulary_knows_every_byte_and_keeps_control_apart(bench: Callable[..., Bench]) -> None:
    vocab = bench("llama").model.vocab
    text = "Grüße, 世界! the\x00 <|im_end|>\n\t🦙"
    assert vocab.detokenize(vocab.tokenize(text)) == text
    assert len(vocab.tokenize("the")) == 1
    assert len(vocab.tokenize("<|im_end|>", parse_special=True)) == 1
    assert vocab.ends(vocab.tokenize("<|im_end|>", parse_special=True)[0])


def test_models_of_different_seeds_differ(tiny_model: TinyModel) -> None:
    assert tiny_model("llama").read_bytes() != tiny_model("llama", seed=1).read_bytes()
    assert tiny_model("llama") == tiny_model("llama"), "written once"


def test_a_smaller_cache_changes_little(bench: Callable[..., Bench]) -> None:
    """Against f16: the fewer bits, the more. f32 changes nothing, as flash attention makes f16 of it."""
    text = "the quick brown fox jumps over the lazy dog, and then it sleeps in the sun"

    def likeliest(kv_type: str) -> list[float]:
        one = bench("llama", kv_type_k=kv_type, kv_type_v=kv_type, flash_attn=True)
        found = []
        for slot, size in enumerate((20, 40, 60, 70)):
            one.runner.open(
                slot, SamplingParams(temperature=0, logprobs=1), prompt := one.model.vocab.tokenize(text[:size])
            )
            (sampled,) = one.runner.run(Batch([], [Chunk(slot, slot, 0, prompt, True)]))
            found.append(sampled.logprobs[0].top[0][2])
        return found

    base = likeliest("f16")
    drift = {kv: max(abs(a - b) for a, b in zip(base, likeliest(kv), strict=True)) for kv in ("f32", "q8_0", "q4_0")}
    assert drift["f32"] < 1e-4 < drift["q8_0"] < drift["q4_0"], drift
    assert drift["q8_0"] < 0.5, drift
