"""What a draft head reads: every token once, with the state before it, whatever the model cached or took back."""

from __future__ import annotations

import random

import numpy as np
import pytest

from localllm.engine.batch import Chunk
from localllm.engine.mtp_reading import Reading
from localllm.engine.sequence import Sequence, SequenceStatus


def state_after(tokens: list[int]) -> float:
    """What stands for the hidden state after a text: no other text has it, and none has 0."""
    return float(hash(tuple(tokens)) % 1_000_003 + 1)


class Cells:
    """The head's cells of one slot: by position, the token and the state that were written."""

    def __init__(self) -> None:
        self.held: dict[int, tuple[int, float]] = {}

    def read(self, reading: Reading, num_tokens: int) -> None:
        if reading.stale is not None:
            self.held = {at: pair for at, pair in self.held.items() if at < reading.stale}
            reading.stale = None
        start, tokens, rows = reading.read(num_tokens)
        assert len(tokens) == len(rows) == num_tokens
        for at, pair in enumerate(zip(tokens, rows[:, 0].tolist(), strict=True), start):
            assert at not in self.held
            assert not self.held or at == max(self.held) + 1, "llama.cpp takes no gaps"
            self.held[at] = pair

    def check(self, reading: Reading, tokens: list[int]) -> None:
        assert sorted(self.held) == list(range(reading.first, reading.num_read))
        for at, (token, state) in self.held.items():
            assert token == tokens[at]
            assert state == (state_after(tokens[:at]) if at else 0.0)


def step(reading: Reading, sequence: Sequence, num_tokens: int, drafts: list[int], num_right: int) -> None:
    """One step of the model: tokens of the sequence, then guesses, of which the first few are right."""
    start, end = sequence.num_computed, sequence.num_computed + num_tokens
    tokens = sequence.tokens[start:end] + drafts
    text = sequence.tokens[:start] + tokens
    rows = np.array([[state_after(text[: at + 1])] for at in range(start, len(text))], np.float32)
    reading.take(Chunk(1, 0, start, tokens, True, len(drafts)), rows)
    sequence.num_computed = end + num_right
    if end == len(sequence.tokens):
        sequence.tokens += [*drafts[:num_right], random.Random(len(text)).randrange(50)]


@pytest.mark.parametrize("seed", range(40))
def test_tokens_are_read_with_the_states_before_them(seed: int) -> None:
    rng = random.Random(seed)
    reading, cells = Reading(0, np.zeros((0, 1), np.float32)), Cells()
    texts: list[list[int]] = []
    for number in range(6):
        prompt = [rng.randrange(50) for _ in range(rng.randint(1, 12))]
        if texts and rng.random() < 0.7:
            before = rng.choice(texts)
            prompt = before[: rng.randint(1, len(before))] + prompt
        sequence = Sequence(number, prompt, None, number)
        # What the model found in its cache has no states.
        sequence.num_computed = rng.choice([0, rng.randrange(len(prompt))])
        reading.follow(sequence)
        for _ in range(rng.randint(1, 10)):
            if sequence.num_left > 1:
                step(reading, sequence, rng.randint(1, sequence.num_left), [], 0)
            else:
                drafts = [rng.randrange(50) for _ in range(rng.randint(0, 4))]
                before_step = len(sequence.tokens)
                step(reading, sequence, 1, drafts, rng.randint(0, len(drafts)))
                if rng.random() < 0.4:
                    # Before it is known which guesses were right.
                    cells.read(reading, reading.unread(before_step))
            if rng.random() < 0.4 and sequence.num_left == 1:
                reading.cut(sequence.num_computed)
                assert reading.num_known == sequence.num_computed
                cells.read(reading, reading.unread(len(sequence.tokens)))
                assert reading.num_read == len(sequence.tokens)
                cells.check(reading, sequence.tokens)
            if rng.random() < 0.1:
                # It is sent back to the queue, and found less of itself, or more than it had.
                sequence.num_computed = rng.randint(0, len(sequence.tokens) - 1)
        sequence.status = SequenceStatus.FINISHED
        reading.let_go()
        texts.append(sequence.tokens)


def test_what_was_read_of_a_text_serves_one_that_begins_alike() -> None:
    reading, cells = Reading(0, np.zeros((0, 1), np.float32)), Cells()
    first = Sequence(1, [1, 2, 3, 4, 5], None, 1)
    reading.follow(first)
    step(reading, first, 5, [], 0)
    cells.read(reading, reading.unread(6))
    reading.let_go()
    second = Sequence(2, [1, 2, 3, 9, 9], None, 2)
    reading.follow(second)
    second.num_computed = 2
    step(reading, second, 3, [], 0)
    assert (reading.first, reading.num_read) == (0, 3)
    cells.read(reading, reading.unread(6))
    cells.check(reading, second.tokens)


def test_after_a_gap_it_begins_behind_the_gap() -> None:
    reading, cells = Reading(0, np.zeros((0, 1), np.float32)), Cells()
    sequence = Sequence(1, list(range(10)), None, 1)
    sequence.num_computed = 6
    reading.follow(sequence)
    step(reading, sequence, 4, [], 0)
    assert (reading.first, reading.unread(11)) == (7, 4)
    cells.read(reading, 4)
    cells.check(reading, sequence.tokens)
