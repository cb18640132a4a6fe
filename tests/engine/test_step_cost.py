from __future__ import annotations

from itertools import pairwise

import pytest

from localllm.engine.step_cost import MIN_TOKENS, TILE, StepCost

TARGET_US = 150_000


def converge(cost: StepCost, num_steps: int, decode_us: int, token_us: int, num_decoding: int = 3) -> list[int]:
    """Step with the budgets the model gives; return how long each step took."""
    steps: list[int] = []
    for _ in range(num_steps):
        budget = cost.budget(num_decoding)
        steps.append(decode_us + budget * token_us)
        cost.observe(budget, num_decoding, steps[-1])
    return steps


def test_the_whole_batch_when_nobody_decodes() -> None:
    assert StepCost(512, TARGET_US).budget(0) == 512


def test_the_first_step_beside_others_is_small() -> None:
    assert StepCost(2048, TARGET_US).budget(1) <= 64
    assert StepCost(32, TARGET_US).budget(1) <= 32


@pytest.mark.parametrize("token_us", [20, 300, 2000])
@pytest.mark.parametrize("decode_us", [2_000, 20_000])
def test_steps_come_to_the_target_and_stay_there(decode_us: int, token_us: int) -> None:
    cost = StepCost(100_000, TARGET_US)
    for _ in range(3):
        cost.observe(0, 3, decode_us)
    steps = converge(cost, 40, decode_us, token_us)
    assert all(TARGET_US // 2 <= step <= TARGET_US * 5 // 4 for step in steps[20:])


def test_dearer_tokens_shrink_the_next_steps() -> None:
    cost = StepCost(100_000, TARGET_US)
    cost.observe(0, 3, 10_000)
    converge(cost, 20, 10_000, 200)
    before = cost.budget(3)
    steps = converge(cost, 3, 10_000, 800)
    assert cost.budget(3) < before // 2
    assert steps[-1] < steps[0]


def test_a_decode_time_that_is_out_of_date_does_no_harm() -> None:
    """The last pure decode step was one of many sequences with long contexts; now a few short ones run."""
    cost = StepCost(100_000, TARGET_US)
    cost.observe(0, 64, 140_000)
    steps = converge(cost, 60, 5_000, 1_000)
    assert all(step <= TARGET_US * 5 // 4 for step in steps[20:])
    assert steps[-1] >= TARGET_US // 4


def test_prompts_always_get_something() -> None:
    cost = StepCost(512, TARGET_US)
    cost.observe(0, 200, 10 * TARGET_US)
    cost.observe(64, 200, 50 * TARGET_US)
    assert cost.budget(200) >= MIN_TOKENS


def test_the_budget_grows_by_steps() -> None:
    cost = StepCost(100_000, TARGET_US)
    cost.observe(1000, 0, 1000)
    budgets = [4 * MIN_TOKENS]
    for _ in range(6):
        budgets.append(cost.budget(1))
        cost.observe(budgets[-1], 1, budgets[-1])
    assert all(later <= 2 * earlier for earlier, later in pairwise(budgets))


def test_tokens_that_take_less_than_a_microsecond() -> None:
    cost = StepCost(100_000, TARGET_US)
    cost.observe(64, 0, 32)
    assert cost.budget(1) > 4 * MIN_TOKENS


def test_tiny_steps_teach_nothing() -> None:
    cost = StepCost(512, TARGET_US)
    cost.observe(MIN_TOKENS - 1, 0, 10 * TARGET_US)
    assert cost.budget(1) == 4 * MIN_TOKENS


def stepped(slow_us: int, fast_us: int) -> tuple[StepCost, list[int]]:
    """A machine where a token costs less from a full tile on; the budgets it comes to."""
    cost = StepCost(512, TARGET_US)
    cost.observe(0, 3, 20_000)
    budgets = []
    for _ in range(40):
        budgets.append(cost.budget(3))
        token_us = fast_us if budgets[-1] >= TILE else slow_us
        cost.observe(budgets[-1], 3, 20_000 + budgets[-1] * token_us)
    return cost, budgets


def test_a_full_tile_is_worth_a_longer_step() -> None:
    _, budgets = stepped(slow_us=3_600, fast_us=2_700)
    assert set(budgets[10:]) == {TILE}  # 195 ms instead of the 150 asked for; at 36 tokens each would cost a third more


def test_a_tile_that_takes_too_long_is_not_taken() -> None:
    _, budgets = stepped(slow_us=6_000, fast_us=4_500)
    assert all(budget < TILE for budget in budgets)
    assert 15 <= budgets[-1] <= 25


def test_many_tiles_are_whole_ones() -> None:
    _, budgets = stepped(slow_us=600, fast_us=450)
    assert all((budget - TILE) % (TILE - 1) == 0 for budget in budgets[10:])
    assert budgets[-1] > 3 * TILE


def test_after_tiles_the_cost_of_small_chunks_is_no_guess_from_long_ago() -> None:
    cost, _ = stepped(slow_us=2_000, fast_us=1_500)
    for _ in range(8):
        cost.observe(TILE, 3, 20_000 + TILE * 6_000)
    assert cost.budget(3) * 6_000 <= TARGET_US
