from __future__ import annotations

import random

import pytest

from localllm.engine.cells import CellLedger


def test_shared_cells_count_once() -> None:
    ledger = CellLedger(3)
    ledger.append(0, 100)
    ledger.share(0, 1, 60)
    ledger.append(1, 10)
    ledger.share(1, 2, 65)
    assert [ledger.length(slot) for slot in range(3)] == [100, 70, 65]
    assert ledger.num_used == 110
    ledger.trim(0, 0)
    assert ledger.num_used == 70
    ledger.trim(1, 0)
    assert ledger.num_used == 65
    ledger.trim(2, 0)
    assert ledger.num_used == 0


def test_a_source_may_grow_after_it_was_shared() -> None:
    ledger = CellLedger(2)
    ledger.append(0, 10)
    ledger.share(0, 1, 10)
    ledger.append(0, 5)
    ledger.append(1, 7)
    assert ledger.num_used == 22
    ledger.trim(0, 8)
    assert ledger.num_used == 17


def test_sharing_needs_an_empty_target_and_a_long_enough_source() -> None:
    ledger = CellLedger(2)
    ledger.append(0, 10)
    with pytest.raises(AssertionError):
        ledger.share(0, 1, 11)
    ledger.append(1, 1)
    with pytest.raises(AssertionError):
        ledger.share(0, 1, 5)


def test_random_operations_agree_with_cells_that_have_an_identity() -> None:
    for seed in range(60):
        rng = random.Random(seed)
        num_slots = rng.randint(1, 6)
        ledger = CellLedger(num_slots)
        cells: list[list[object]] = [[] for _ in range(num_slots)]
        for _ in range(120):
            slot, other = rng.randrange(num_slots), rng.randrange(num_slots)
            action = rng.random()
            if action < 0.4:
                number = rng.randint(0, 9)
                ledger.append(slot, number)
                cells[slot] += [object() for _ in range(number)]
            elif action < 0.7:
                number = rng.randint(0, len(cells[slot]))
                ledger.trim(slot, number)
                del cells[slot][number:]
            elif not cells[other] and slot != other:
                number = rng.randint(0, len(cells[slot]))
                ledger.share(slot, other, number)
                cells[other] = cells[slot][:number]
            assert [ledger.length(i) for i in range(num_slots)] == [len(held) for held in cells]
            assert ledger.num_used == len({cell for held in cells for cell in held})
