"""Speculation decides on texts whose course is known, on machines whose costs are: what it wins, what it may lose."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from localllm.engine.batch import Batch, Chunk, Sampled
from localllm.engine.scheduler import Output
from localllm.engine.sequence import Sequence, SequenceStatus
from localllm.engine.speculate import Drafter, Speculator

Cost = Callable[[list[int]], int]


def cpu_us(lengths: list[int]) -> int:
    """What steps of a 135M model as Q4_0 took on two cores, by the rows of each sequence; measured."""
    rows = sum(lengths)
    return 4_000 + 2_900 * rows + 3_300 * min(rows, 3)


def streams_us(lengths: list[int]) -> int:
    """The same with a stream per sequence: another pass for each other length."""
    return cpu_us(lengths) + 14_000 * (len(set(lengths)) - 1)


def gpu_us(lengths: list[int]) -> int:
    """A device whose time goes into reading weights: rows are all but free."""
    return 10_000 + 20 * sum(lengths)


@dataclass
class Run:
    """A loop of steps whose tokens come from known texts."""

    speculator: Speculator
    cost: Cost = cpu_us
    texts: dict[int, list[int]] = field(default_factory=dict)
    running: list[Sequence] = field(default_factory=list)
    spent_us: int = 0
    plain_us: int = 0
    drafting_us: int = 0
    num_drafted: int = 0
    num_accepted: int = 0
    num_steps: int = 0
    shapes: list[list[int]] = field(default_factory=list)

    def add(self, prompt: list[int], answer: list[int], *, speculate: bool = True) -> Sequence:
        number = len(self.texts) + 1
        sequence = Sequence(number, list(prompt), len(answer), number)
        sequence.status, sequence.slot = SequenceStatus.DECODE, number
        self.texts[number] = prompt + answer
        self.running.append(sequence)
        if speculate:
            self.speculator.open(sequence)
        return sequence

    def step(self, cost: Cost | None = None) -> None:
        self.speculator.draft(list(self.running))
        chunks, outputs = [], []
        for sequence in self.running:
            start = len(sequence.tokens)
            tokens = [sequence.tokens[-1], *sequence.drafts]
            chunks.append(Chunk(sequence.id, sequence.id, start - 1, tokens, True, len(sequence.drafts)))
            truth = self.texts[sequence.id][start:]
            assert len(sequence.drafts) < len(truth)
            right = 0
            while right < len(sequence.drafts) and sequence.drafts[right] == truth[right]:
                right += 1
            new = tuple(truth[: right + 1])
            sequence.tokens.extend(new)
            outputs.append(Output(sequence, Sampled(new, num_accepted=right), len(new), None))
            self.num_drafted += len(sequence.drafts)
            self.num_accepted += right
        self.shapes.append([len(chunk.tokens) for chunk in chunks])
        step_us = (cost or self.cost)(self.shapes[-1])
        self.spent_us += step_us
        self.num_steps += 1
        self.spent_us += self.drafting_us
        self.speculator.observe(Batch([], chunks), outputs, step_us, self.drafting_us)
        self.drafting_us = 0
        num = len(self.running)
        self.plain_us += self.cost([1] * num) * sum(len(output.sampled.tokens) for output in outputs) // num
        for sequence in list(self.running):
            if len(sequence.tokens) == len(self.texts[sequence.id]):
                sequence.status = SequenceStatus.FINISHED
                self.running.remove(sequence)

    def finish(self) -> float:
        """Run to the end; returns the time without speculation over that with it."""
        while self.running:
            self.step()
        return self.plain_us / self.spent_us


def listing(rng: random.Random, lines: int = 40) -> list[int]:
    """A text whose lines have much in common, as code has."""
    shapes = [[rng.randrange(500) for _ in range(rng.randint(5, 12))] for _ in range(8)]
    text: list[int] = []
    for _ in range(lines):
        line = list(rng.choice(shapes))
        line[rng.randrange(len(line))] = rng.randrange(500)
        text += [*line, 999]
    return text


def edited(text: list[int], rng: random.Random, one_in: int = 40) -> list[int]:
    """A copy with some tokens replaced."""
    return [rng.randrange(500) if rng.randrange(one_in) == 0 else token for token in text]


@pytest.mark.parametrize("cost", [cpu_us, gpu_us])
def test_an_edited_copy_pays(cost: Cost) -> None:
    rng = random.Random(1)
    text = [rng.randrange(500) for _ in range(600)]
    run = Run(Speculator(15), cost)
    run.add(text, edited(text, rng))
    assert run.finish() > (1.6 if cost is cpu_us else 5)
    assert run.num_accepted > 0.75 * run.num_drafted


def test_a_text_that_goes_round_is_drafted_beyond_its_own_end() -> None:
    run = Run(Speculator(15))
    run.add([1, 2, 3, 4, 5], [1, 2, 3, 4, 5] * 60)
    assert run.finish() > 2
    assert max(shape[0] for shape in run.shapes) == 16


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("cost", [cpu_us, gpu_us])
def test_text_without_repetition_costs_nothing(seed: int, cost: Cost) -> None:
    rng = random.Random(seed)
    run = Run(Speculator(15), cost)
    run.add([rng.randrange(40_000) for _ in range(200)], [rng.randrange(40_000) for _ in range(400)])
    assert run.finish() == 1
    assert run.num_drafted == 0


def traps(rng: random.Random, num: int) -> list[int]:
    """The worst text: three tokens that stood before, then always another than came then."""
    runs = [[10 * n, 10 * n + 1, 10 * n + 2] for n in range(30)]
    text: list[int] = []
    while len(text) < num:
        text += [*rng.choice(runs), rng.randrange(1_000, 40_000)]
    return text[:num]


@pytest.mark.parametrize("num", [64, 256, 2_000])
@pytest.mark.parametrize("seed", range(3))
def test_the_worst_text_costs_little(num: int, seed: int) -> None:
    rng = random.Random(seed)
    run = Run(Speculator(15))
    for _ in range(4_000 // num):
        run.add(traps(rng, 100), traps(rng, num))
        while run.running:
            run.step()
    assert run.num_drafted > 0
    assert run.plain_us / run.spent_us >= 0.98


def test_a_request_that_repeats_another_profits_from_it() -> None:
    rng = random.Random(3)
    answer = [rng.randrange(500) for _ in range(400)]
    run = Run(Speculator(15))
    run.add([1, 2, 3], answer)
    assert run.finish() < 1.05
    again = Run(run.speculator)
    again.texts = {1: []}
    again.add([7, 8, 9], edited(answer, rng))
    assert again.finish() > 1.4


def test_what_does_not_pay_any_more_is_left_alone_and_tried_again_rarely() -> None:
    rng = random.Random(5)
    text = [rng.randrange(500) for _ in range(300)]
    run = Run(Speculator(15))
    run.add(text, [*text, *traps(rng, 3_000), *text, *text])
    while run.running and len(run.running[0].tokens) < 600:
        run.step()
    good = run.num_accepted
    assert good > 200
    before = run.num_drafted
    while len(run.running[0].tokens) < 3_600:
        run.step()
    assert run.num_drafted - before < 400
    assert run.finish() > 1.05
    assert run.num_accepted - good > 300


def test_a_machine_that_pays_for_every_row_gets_no_drafts() -> None:
    def dear_us(lengths: list[int]) -> int:
        return 10_000 * sum(lengths)

    rng = random.Random(2)
    text = [rng.randrange(500) for _ in range(600)]
    run = Run(Speculator(15), dear_us)
    run.add(text, edited(text, rng))
    assert run.finish() > 0.98
    assert max(shape[0] for shape in run.shapes) <= 4


def test_a_slow_spell_while_drafting_does_not_last() -> None:
    """Steps that took long because something else ran must not look like the price of drafts for ever."""
    rng = random.Random(4)
    text = [rng.randrange(500) for _ in range(900)]
    run = Run(Speculator(15))
    run.add(text, text)
    for number in range(40):
        run.step((lambda lengths: 5 * cpu_us(lengths)) if number in range(10, 20) else None)
    accepted, steps = run.num_accepted, run.num_steps
    run.finish()
    assert (run.num_accepted - accepted) / (run.num_steps - steps) > 5


def test_no_drafts_where_none_are_wanted() -> None:
    text = list(range(100, 400))
    run = Run(Speculator(15))
    run.add(text, text, speculate=False)
    assert run.finish() == 1
    assert run.num_drafted == 0


@pytest.mark.parametrize("is_split", [False, True])
def test_many_sequences_share_a_step(is_split: bool) -> None:
    rng = random.Random(6)
    run = Run(Speculator(15, is_split=is_split), streams_us if is_split else cpu_us)
    for _ in range(4):
        text = [rng.randrange(500) for _ in range(400)]
        run.add(text, edited(text, rng))
    assert run.finish() > 1.05
    sizes = {tuple(sorted(set(shape))) for shape in run.shapes}
    assert all(len(size) <= 2 for size in sizes)


def test_a_sequence_of_prose_beside_one_that_copies_loses_nothing_in_time() -> None:
    rng = random.Random(7)
    run = Run(Speculator(15, is_split=True), streams_us)
    text = [rng.randrange(500) for _ in range(400)]
    run.add(text, edited(text, rng))
    run.add([rng.randrange(40_000) for _ in range(100)], [rng.randrange(40_000) for _ in range(400)])
    assert run.finish() > 0.98


class Oracle:
    """A draft model that is right about so many in a hundred, and takes a third of the model's time."""

    def __init__(self, run: Run, percent: int) -> None:
        self.run, self.percent, self.rng = run, percent, random.Random(8)
        self.followed: list[int] = []
        self.forgotten: list[int] = []

    def draft(self, sequences: list[Sequence], num_tokens: int) -> list[list[int]]:
        self.run.drafting_us += 3_000 * num_tokens
        return [
            [
                token if self.rng.randrange(100) < self.percent else token + 1
                for token in self.run.texts[sequence.id][len(sequence.tokens) :][:num_tokens]
            ]
            for sequence in sequences
        ]

    def follow(self, sequence: Sequence) -> None:
        self.followed.append(sequence.id)

    def forget(self, sequence_id: int) -> None:
        self.forgotten.append(sequence_id)


@pytest.mark.parametrize(("percent", "num_least", "num_most"), [(95, 150, 10_000), (20, 0, 30)])
def test_a_draft_model_is_asked_while_it_pays(percent: int, num_least: int, num_most: int) -> None:
    run = Run(Speculator(15), gpu_us)
    drafter: Drafter = Oracle(run, percent)
    run.speculator = Speculator(15, drafter=drafter)
    rng = random.Random(9)
    sequence = run.add([rng.randrange(40_000) for _ in range(50)], [rng.randrange(40_000) for _ in range(400)])
    run.finish()
    assert num_least <= run.num_accepted
    assert run.num_drafted - run.num_accepted <= num_most
    run.speculator.draft([])
    assert isinstance(drafter, Oracle)
    assert drafter.followed == [sequence.id]
    assert drafter.forgotten == [sequence.id]
