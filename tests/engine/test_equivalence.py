"""Many sequences at once give each the tokens it gets alone, whatever the cache did meanwhile. Random, but seeded."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest

from localllm.api import FinishReason
from localllm.engine.checkpoints import StateCost
from localllm.engine.kv_cache import Layout
from tests.fakes import NUM_VOCAB, Simulation


@dataclass(frozen=True)
class Wish:
    """One sequence of a workload. `abort_after`: steps after its arrival."""

    arrival: int
    prompt: list[int]
    max_tokens: int | None
    abort_after: int | None


def random_settings(rng: random.Random) -> dict[str, Any]:
    """A small engine of any kind."""
    layout: Layout = rng.choice(["streams", "unified"])
    num_slots = rng.choice([1, 2, 3, 4, 5, 8, 16])
    num_ctx = rng.randint(24, 160)
    if layout == "streams":
        num_cells = num_slots * (num_ctx + rng.randint(0, 8))
    else:
        num_cells = rng.choice([num_ctx, num_ctx + rng.randint(0, 100), num_ctx * num_slots])
    # Now and then fewer cells than the account knows of: still enough for any one sequence.
    num_hidden = rng.randint(0, num_cells - num_ctx) if layout == "unified" and rng.random() < 0.2 else 0
    return {
        "num_slots": num_slots,
        "num_cells": num_cells,
        "num_hidden": num_hidden,
        "layout": layout,
        "kind": rng.choice(["plain", "plain", "window", "hybrid", "recurrent"]),
        "turn_tokens": frozenset(rng.sample(range(NUM_VOCAB), 3)),
        "cost": StateCost(rng.choice([0, 5]), rng.choice([0, 2, 10])),
        "host_tokens": rng.choice([0, 0, 40, 200, 5000]),
        "num_ctx": num_ctx,
        "num_batch": max(num_slots, rng.choice([1, 16, 32, 64, 128])),
        "target_us": rng.choice([500, 20_000, 150_000]),
        "end_one_in": rng.choice([0, 12, 40]),
    }


def random_wishes(rng: random.Random, num_ctx: int) -> list[Wish]:
    """Prompts that share prefixes, repeat each other and follow up on each other; bursts and gaps."""
    stems = [[rng.randrange(NUM_VOCAB) for _ in range(rng.randint(1, num_ctx - 1))] for _ in range(3)]
    wishes: list[Wish] = []
    at = 0
    for _ in range(rng.randint(1, 14)):
        at += rng.choice([0, 0, 0, 1, 2, 7, 30])
        kind = rng.random()
        if kind < 0.2 and wishes:
            prompt = list(rng.choice(wishes).prompt)
        elif kind < 0.8:
            stem = rng.choice(stems)
            prompt = stem[: rng.randint(1, len(stem))] + [rng.randrange(NUM_VOCAB) for _ in range(rng.randint(0, 30))]
        else:
            prompt = [rng.randrange(NUM_VOCAB) for _ in range(rng.randint(1, 20))]
        prompt = prompt[: num_ctx - 1]
        max_tokens = rng.choice([None, 1, 2, rng.randint(1, 60)])
        wishes.append(Wish(at, prompt, max_tokens, rng.choice([None, None, None, rng.randint(0, 12)])))
    return wishes


def alone(wish: Wish, settings: dict[str, Any]) -> tuple[list[int], FinishReason | None]:
    """What a fresh engine that does nothing else answers."""
    simulation = Simulation(**{**settings, "num_slots": 1, "num_cells": settings["num_ctx"], "num_hidden": 0})
    sequence = simulation.add(wish.prompt, wish.max_tokens)
    simulation.run()
    return simulation.tokens_of(sequence), simulation.stories[sequence.id].finish


def play(simulation: Simulation, wishes: list[Wish]) -> None:
    """Let the sequences arrive, step, abort and end."""
    num_tokens = sum(len(wish.prompt) + (wish.max_tokens or 200) for wish in wishes)
    waiting = list(wishes)
    for now in range(20 * num_tokens + 100):
        while waiting and waiting[0].arrival <= now:
            wish = waiting.pop(0)
            simulation.add(wish.prompt, wish.max_tokens)
        for wish, story in zip(wishes, simulation.stories.values(), strict=False):
            if wish.abort_after is not None and wish.arrival + wish.abort_after == now:
                simulation.abort(story.sequence)
        if not simulation.step() and not simulation.busy and not waiting:
            return
    raise AssertionError(f"no end: {simulation.unfinished}")


def compare(simulation: Simulation, wishes: list[Wish], settings: dict[str, Any]) -> None:
    """Each sequence ended once; unless aborted, just as it does alone."""
    for wish, story in zip(wishes, simulation.stories.values(), strict=True):
        tokens, finish = alone(wish, settings)
        if story.finish == "abort":
            assert story.tokens == tokens[: len(story.tokens)]
        else:
            assert (story.tokens, story.finish) == (tokens, finish)
        assert story.sequence.tokens == wish.prompt + story.tokens


@pytest.mark.parametrize("first_seed", range(0, 400, 50))
def test_batched_equals_serial(first_seed: int) -> None:
    for seed in range(first_seed, first_seed + 50):
        rng = random.Random(seed)
        settings = random_settings(rng)
        wishes = random_wishes(rng, settings["num_ctx"])
        simulation = Simulation(**settings)
        try:
            play(simulation, wishes)
            compare(simulation, wishes, settings)
            assert not simulation.unfit
        except Exception as exc:
            exc.add_note(f"seed {seed}, {settings}")
            raise
