"""A draft model: its guesses are its own greedy answers, whatever was cut off; what it drafts for stays the same."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from localllm.api import CompletionRequest, Finished, SamplingParams, TextDelta
from localllm.binding import set_log
from localllm.engine.batch import Batch, Chunk, Trim
from localllm.engine.draft import READ_TOKENS, DraftModel, load_draft_model
from localllm.engine.frames import LoadSpec
from localllm.engine.llama import LlamaModel, LlamaRunner
from localllm.engine.process import EngineProcess
from localllm.engine.sequence import Sequence
from localllm.errors import DraftModelError
from tests.engine.conftest import open_engine, run, spec_of
from tests.tiny_models import EXACT

TinyModel = Callable[..., Path]
GREEDY = SamplingParams(temperature=0)


@pytest.fixture(autouse=True, scope="module")
def quiet() -> None:
    """llama.cpp's log would bury what failed."""
    set_log(lambda _level, _text: None)


class Pair:
    """A target with a context to ask for the truth, and the draft model that guesses for it."""

    def __init__(self, spec: LoadSpec) -> None:
        self.target = LlamaModel(spec, lambda _fraction: True)
        self.runner = LlamaRunner(self.target, spec)
        self.draft: DraftModel = load_draft_model(spec, self.target)

    def truth(self, tokens: list[int], count: int) -> list[int]:
        """What the target says after `tokens`, greedily."""
        self.runner.open(0, GREEDY, [])
        answer: list[int] = []
        todo, start = tokens, 0
        for _ in range(count):
            for at in range(0, len(todo), 256):
                part = todo[at : at + 256]
                sampled = self.runner.run(Batch([], [Chunk(0, 0, start, part, at + 256 >= len(todo))]))
                start += len(part)
            answer += sampled[0].tokens
            todo = list(sampled[0].tokens)
        self.runner.run(Batch([Trim(0, 0)], []))
        self.runner.release(0)
        # An end is not drafted.
        return list(itertools.takewhile(lambda token: not self.target.vocab.ends(token), answer))

    def close(self) -> None:
        self.draft.close()
        self.runner.close()
        self.target.close()


@pytest.fixture
def pair(tiny_model: TinyModel) -> Iterator[Callable[..., Pair]]:
    """Makes pairs of a tiny model with itself and closes them."""
    made: list[Pair] = []

    def make(**changes: Any) -> Pair:
        path = tiny_model("llama")
        made.append(Pair(spec_of(path, draft_paths=(str(path),), num_slots=2, **EXACT, **changes)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def sequence_of(pair: Pair, number: int, text: str) -> Sequence:
    return Sequence(number, pair.target.vocab.tokenize(text), None, number)


@pytest.mark.parametrize("layout", ["streams", "unified"])
def test_a_model_drafts_what_it_would_say(pair: Callable[..., Pair], layout: str) -> None:
    one = pair(kv_layout=layout)
    first, second = sequence_of(one, 1, "one two three"), sequence_of(one, 2, "A different beginning, and longer")
    for num_accepted, said in [(0, 97), (2, 98), (5, 100), (3, 99), (5, 101)]:
        truths = [one.truth(sequence.tokens, 5) for sequence in (first, second)]
        assert one.draft.draft([first, second], 5) == truths
        # Now a guess is right up to some place, now all of it is.
        for sequence, truth in zip((first, second), truths, strict=True):
            sequence.tokens += [*truth[:num_accepted], said]
    # One of them sits some steps out.
    second.tokens += [5, 6, 7]
    assert one.draft.draft([first], 3) == [one.truth(first.tokens, 3)]
    assert one.draft.draft([second], 3) == [one.truth(second.tokens, 3)]


def test_a_long_text_is_read_a_part_at_a_time(pair: Callable[..., Pair]) -> None:
    one = pair(num_batch=512)
    long = sequence_of(one, 1, "lorem ipsum dolor sit amet " * 25)
    short = sequence_of(one, 2, "x")
    assert 2 * READ_TOKENS < len(long.tokens) < 3 * READ_TOKENS
    assert one.draft.draft([short, long], 3) == [one.truth(short.tokens, 3), []]
    assert one.draft.draft([short, long], 3)[1] == []
    assert one.draft.draft([short, long], 3)[1] == one.truth(long.tokens, 3)


def test_who_begins_like_one_that_ended_takes_its_place(pair: Callable[..., Pair]) -> None:
    one = pair(num_batch=512)
    text = "lorem ipsum dolor sit amet " * 8
    first, other = sequence_of(one, 1, text), sequence_of(one, 2, "something else")
    one.draft.draft([other, first], 3)
    one.draft.forget(1)
    one.draft.forget(2)
    again = sequence_of(one, 3, text * 2)
    # A part of it is known, so that the rest fits into one step.
    assert len(again.tokens) > READ_TOKENS
    assert one.draft.draft([again], 3) == [one.truth(again.tokens, 3)]


def test_more_sequences_than_slots_and_the_end_of_the_context(pair: Callable[..., Pair]) -> None:
    one = pair(num_ctx=64, num_cells=128)
    sequences = [sequence_of(one, number, "abc" * number) for number in range(1, 4)]
    assert [len(guess) for guess in one.draft.draft(sequences, 4)] == [4, 4, 0]
    full = sequence_of(one, 1, "a" * 61)
    assert one.draft.draft([full], 4) == [[]]


def test_without_cells_there_are_no_drafts_and_no_error(pair: Callable[..., Pair]) -> None:
    one = pair(kv_layout="unified", num_cells=256, num_ctx=256)
    sequences = [sequence_of(one, number, "abcdefgh" * 20) for number in range(1, 3)]
    assert one.draft.draft(sequences[:1], 2) == [one.truth(sequences[0].tokens, 2)]
    assert one.draft.draft(sequences, 2) == [[], []]
    assert one.draft.draft(sequences[1:], 2) == [one.truth(sequences[1].tokens, 2)]


def test_another_vocabulary_is_refused_by_name(tiny_model: TinyModel) -> None:
    spec = spec_of(tiny_model("llama"), draft_paths=(str(tiny_model("llama", fim=True)),))
    target = LlamaModel(spec, lambda _fraction: True)
    try:
        # Three tokens more at the end are padding to a draft model.
        load_draft_model(spec, target).close()
    finally:
        target.close()


def test_a_state_that_cannot_be_cut_is_refused(tiny_model: TinyModel) -> None:
    async def main() -> None:
        for target, draft in [("llama", "mamba"), ("mamba", "llama")]:
            spec = spec_of(tiny_model(target), draft_paths=(str(tiny_model(draft)),), max_drafts=7)
            with pytest.raises(DraftModelError, match="cannot be cut"):
                async with open_engine(spec):
                    raise AssertionError("it loaded")

    run(main)


async def complete(engine: EngineProcess, prompt: str, **options: Any) -> tuple[str, Finished]:
    text = ""
    sampling = SamplingParams(temperature=0, max_tokens=40, ignore_eos=True)
    async for event in engine.complete(CompletionRequest("m", prompt, sampling, **options)):
        if isinstance(event, TextDelta):
            text += event.text
        if isinstance(event, Finished):
            return text, event
    raise AssertionError("a stream ends in Finished")


@pytest.mark.weights
def test_a_vocabulary_of_another_family_is_refused_by_name(smollm2_path: Path, tiny_model: TinyModel) -> None:
    async def main() -> None:
        spec = spec_of(smollm2_path, draft_paths=(str(tiny_model("llama")),), max_drafts=7, num_cells=1024)
        with pytest.raises(DraftModelError, match="another vocabulary") as caught:
            async with open_engine(spec):
                raise AssertionError("it loaded")
        assert caught.value.facts["num_tokens"] == 49152

    run(main)


@pytest.mark.weights
def test_smollm2_drafts_for_itself_and_says_the_same(smollm2_path: Path) -> None:
    """It never pays: a model as large as its target. What is tried at first is right all the same."""

    async def main() -> None:
        options = {"max_drafts": 7, "num_slots": 1, "num_cells": 1024, **EXACT}
        spec = spec_of(smollm2_path, draft_paths=(str(smollm2_path),), **options)
        async with open_engine(spec) as engine:
            prompt = "The lighthouse keeper counted the ships that passed, and"
            plain, _ = await complete(engine, prompt, speculate=False)
            drafted, end = await complete(engine, prompt)
        assert drafted == plain
        assert end.usage.num_accepted_tokens == end.usage.num_drafted_tokens

    run(main)
