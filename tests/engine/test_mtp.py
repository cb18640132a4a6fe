"""A model that drafts for itself: its guesses come from what it computed last, and change no token."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from localllm.api import CompletionRequest, Finished, SamplingParams, TextDelta
from localllm.binding import set_log
from localllm.engine.frames import LoadSpec
from localllm.engine.kv_cache import KVCache
from localllm.engine.llama import LlamaModel, LlamaRunner
from localllm.engine.mtp import DraftHead
from localllm.engine.process import EngineProcess
from localllm.engine.scheduler import Scheduler
from localllm.engine.sequence import Sequence
from localllm.engine.step_cost import StepCost
from tests.engine.conftest import open_engine, run, spec_of
from tests.tiny_models import EXACT
from tests.tiny_nextn import KINDS, RECURRENT, Head, NextnKind, write_nextn_model

NUM_TOKENS = 24
MAX_DRAFTS = 7
GREEDY = SamplingParams(temperature=0, ignore_eos=True)
TEXTS = ("the cat", "A quite different beginning, Grüße 🦙", "x", "one two three four five six seven eight " * 4)
# Those that come later begin like others did.
LATER = tuple(text + more for text in TEXTS[1:] for more in ("! Another turn", ""))

LAYOUTS = ("streams", "unified")

NextnModel = Callable[..., Path]
# A recurrent state is taken back where each has a stream of its own, see drafting.py.
KindsAndLayouts = pytest.mark.parametrize(
    ("kind", "layout"),
    [(kind, layout) for kind in KINDS for layout in LAYOUTS if layout == "streams" or kind not in RECURRENT],
)


@pytest.fixture(autouse=True, scope="module")
def quiet() -> None:
    """llama.cpp's log would bury what failed."""
    set_log(lambda _level, _text: None)


@pytest.fixture(scope="module")
def nextn_model(tmp_path_factory: pytest.TempPathFactory) -> NextnModel:
    """The path of a tiny model with a draft head."""
    folder = tmp_path_factory.mktemp("nextn")

    def path_of(kind: NextnKind, head: Head = "random") -> Path:
        path = folder / f"{kind}-{head}.gguf"
        return path if path.exists() else write_nextn_model(path, kind, head=head)

    return path_of


class Bench:
    """Scheduler, runner and the model's own head over a tiny model, in this process."""

    def __init__(self, spec: LoadSpec) -> None:
        self.spec = spec
        self.model = LlamaModel(spec, lambda _fraction: True)
        self.runner = LlamaRunner(self.model, spec)
        cache = KVCache(
            spec.num_slots,
            spec.num_cells,
            spec.kv_layout,
            kind=self.model.kind,
            turn_tokens=self.model.turn_tokens(),
            host_tokens=2048,
            cost=self.runner.state_cost(),
            max_cut=self.runner.max_cut,
        )
        cost = StepCost(spec.num_batch, spec.step_target_us)
        self.scheduler = Scheduler(cache, cost, num_ctx=spec.num_ctx, num_batch=spec.num_batch)
        self.num_sequences = self.num_steps = self.num_drafted = self.num_accepted = 0

    @property
    def head(self) -> DraftHead:
        assert self.runner.head is not None
        return self.runner.head

    def answers(
        self,
        texts: tuple[str, ...],
        ask: Callable[[], int] = lambda: 0,
        see: Callable[[Sequence, list[int]], None] = lambda _sequence, _guess: None,
        sampling: SamplingParams = GREEDY,
    ) -> list[list[int]]:
        """What follows each text, as many at once as there are slots. `ask`: how many drafts the next step is to have.

        `see` gets each sequence with its guesses.
        """
        scheduler = self.scheduler
        sequences = [self._add(text, sampling) for text in texts]
        while scheduler.num_running or scheduler.num_waiting:
            if num_drafts := ask():
                decoding = scheduler.decoding
                for sequence, guess in zip(decoding, self.head.draft(decoding, num_drafts), strict=True):
                    see(sequence, guess)
                    sequence.drafts = guess
            batch = scheduler.schedule()
            for output in scheduler.update(batch, self.runner.run(batch), 1000):
                self.num_accepted += output.sampled.num_accepted
                if output.finish is not None:
                    self.runner.release(output.sequence.id)
                    if self.runner.head is not None:
                        self.head.forget(output.sequence.id)
            scheduler.check_integrity()
            self.num_steps += 1
            self.num_drafted += sum(chunk.num_drafts for chunk in batch.chunks)
        return [sequence.output for sequence in sequences]

    def _add(self, text: str, sampling: SamplingParams) -> Sequence:
        self.num_sequences += 1
        tokens = self.model.vocab.tokenize(text)
        sequence = Sequence(self.num_sequences, tokens, NUM_TOKENS, self.num_sequences)
        self.runner.open(sequence.id, sampling, tokens)
        if self.runner.head is not None:
            self.head.follow(sequence)
        self.scheduler.add(sequence)
        return sequence

    def close(self) -> None:
        self.runner.close()
        self.model.close()


@pytest.fixture
def bench(nextn_model: NextnModel) -> Iterator[Callable[..., Bench]]:
    """Makes benches and closes them."""
    made: list[Bench] = []

    def make(kind: NextnKind, head: Head = "random", **changes: Any) -> Bench:
        options = {"num_ctx": 256, "num_cells": 1024, "max_drafts": MAX_DRAFTS, "use_mtp": True, "num_threads": 1}
        options |= EXACT | changes
        made.append(Bench(spec_of(nextn_model(kind, head), **options)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def now_and_then(seed: int) -> Callable[[], int]:
    """Some steps have drafts, and now more, now fewer."""
    rng = random.Random(seed)
    return lambda: rng.choice((0, 0, 1, 2, 3, MAX_DRAFTS))


@KindsAndLayouts
def test_drafts_change_no_token(bench: Callable[..., Bench], kind: NextnKind, layout: str) -> None:
    plain, drafting = bench(kind, kv_layout=layout, use_mtp=False), bench(kind, kv_layout=layout)
    for texts in (TEXTS, LATER, TEXTS):
        assert drafting.answers(texts, now_and_then(1)) == plain.answers(texts)
    assert drafting.num_drafted > drafting.num_accepted


@KindsAndLayouts
def test_a_head_that_agrees_saves_steps(bench: Callable[..., Bench], kind: NextnKind, layout: str) -> None:
    plain, drafting = (bench(kind, "agrees", kv_layout=layout) for _ in range(2))
    assert drafting.answers(TEXTS, lambda: 3) == plain.answers(TEXTS)
    assert drafting.num_accepted > 0.9 * drafting.num_drafted > 0
    assert drafting.num_steps < 0.5 * plain.num_steps


@KindsAndLayouts
def test_a_head_sees_the_state_its_model_chose_the_last_token_from(
    bench: Callable[..., Bench], kind: NextnKind, layout: str
) -> None:
    """Through wrong guesses, steps without any, cached prefixes, and slots that were another's."""
    one = bench(kind, "repeats", kv_layout=layout)
    num_seen = 0

    def see(sequence: Sequence, guess: list[int]) -> None:
        nonlocal num_seen
        assert guess
        assert guess == [sequence.tokens[-1]] * len(guess)
        num_seen += 1

    for number, texts in enumerate((TEXTS, LATER, TEXTS)):
        # An end would be a likely token too, and is not drafted.
        one.answers(texts, now_and_then(number), see, SamplingParams(temperature=0))
    assert num_seen > 50


@KindsAndLayouts
def test_a_head_remembers_the_whole_text(bench: Callable[..., Bench], kind: NextnKind, layout: str) -> None:
    """What it guesses is what a new one guesses that reads the text in one go, whatever was cut off in between."""
    one = bench(kind, kv_layout=layout)
    seen: list[tuple[list[int], list[int]]] = []

    def see(sequence: Sequence, guess: list[int]) -> None:
        if sequence.num_cached == 0 and len(guess) > 1:
            seen.append((list(sequence.tokens), guess))

    one.answers(TEXTS, now_and_then(5), see)
    random.Random(1).shuffle(seen)
    fresh = bench(kind, kv_layout=layout, num_slots=1, num_cells=256, num_batch=256)
    for tokens, guess in seen[:24]:
        fresh.num_sequences += 1
        # A scope of its own: nothing is found in the cache.
        text = Sequence(fresh.num_sequences, tokens[:-1], 2, 0, scope=str(fresh.num_sequences))
        fresh.runner.open(text.id, GREEDY, text.tokens)
        fresh.head.follow(text)
        fresh.scheduler.add(text)
        while text.num_output == 0:
            batch = fresh.scheduler.schedule()
            fresh.scheduler.update(batch, fresh.runner.run(batch), 1000)
        assert text.tokens == tokens
        assert fresh.head.draft([text], len(guess)) == [guess]
        fresh.scheduler.finish(text)
        fresh.runner.release(text.id)
        fresh.head.forget(text.id)


def test_sampled_answers_are_the_same_too(bench: Callable[..., Bench]) -> None:
    sampling = SamplingParams(temperature=0.7, seed=3, ignore_eos=True)
    plain, drafting = bench("glm4moe", "agrees"), bench("glm4moe", "agrees")
    assert drafting.answers(TEXTS, now_and_then(2), sampling=sampling) == plain.answers(TEXTS, sampling=sampling)
    assert 0 < drafting.num_accepted < drafting.num_drafted


def test_without_cells_for_the_head_there_are_no_drafts_and_no_error(bench: Callable[..., Bench]) -> None:
    plain = bench("glm4moe", "agrees", kv_layout="unified", num_cells=512)
    tight = bench("glm4moe", "agrees", kv_layout="unified", num_cells=512)
    # The model shares the cells of what they have in common, the head does not.
    long = tuple(TEXTS[3] + text for text in ("1", "two", "and three", "4"))
    for texts in (TEXTS, long, TEXTS):
        num_drafted = tight.num_drafted
        assert tight.answers(texts, lambda: 3) == plain.answers(texts)
        assert tight.num_drafted > num_drafted


# --- in an engine child -----------------------------------------------------------------------------------------------


async def complete(engine: EngineProcess, prompt: str, **options: Any) -> tuple[str, Finished]:
    text = ""
    sampling = SamplingParams(temperature=0, max_tokens=60, ignore_eos=True)
    async for event in engine.complete(CompletionRequest("m", prompt, sampling, **options)):
        if isinstance(event, TextDelta):
            text += event.text
        if isinstance(event, Finished):
            return text, event
    raise AssertionError("a stream ends in Finished")


@pytest.mark.parametrize("kind", KINDS)
def test_an_engine_drafts_by_the_head_unless_told_not_to(nextn_model: NextnModel, kind: NextnKind) -> None:
    async def main() -> None:
        spec = spec_of(nextn_model(kind, "agrees"), use_mtp=True, max_drafts=MAX_DRAFTS, num_threads=1, **EXACT)
        async with open_engine(spec) as engine:
            plain = [await complete(engine, text, speculate=False) for text in TEXTS]
            drafted = await asyncio.gather(*(complete(engine, text) for text in TEXTS * 2))
        assert [text for text, _ in drafted] == [text for text, _ in plain] * 2
        assert all(end.usage.num_drafted_tokens == 0 for _, end in plain)
        assert sum(end.usage.num_accepted_tokens for _, end in drafted) > 0

    run(main)


def test_a_file_that_names_a_head_it_does_not_have_runs_without(tmp_path: Path) -> None:
    async def main() -> None:
        path = write_nextn_model(tmp_path / "stripped.gguf", "glm4moe", stripped=True)
        async with open_engine(spec_of(path, max_drafts=MAX_DRAFTS, **EXACT)) as engine:
            _, end = await complete(engine, "the cat")
        assert (end.usage.num_output_tokens, end.usage.num_drafted_tokens) == (60, 0)

    run(main)
