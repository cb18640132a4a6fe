from __future__ import annotations

from itertools import pairwise

from localllm.engine.batch import Copy, Drop, Op, Restore, Save, Trim
from localllm.engine.checkpoints import StateKind
from localllm.engine.kv_cache import GROWTH, MIN_MOVE, Coming, KVCache, Layout, Placement
from localllm.engine.saved_prefixes import Arriving


class Account:
    """A KVCache, its operations collected, checked after every call."""

    def __init__(
        self, num_slots: int, num_cells: int, layout: Layout, *, kind: StateKind = "plain", host_tokens: int = 0
    ) -> None:
        self.cache = KVCache(num_slots, num_cells, layout, kind=kind, host_tokens=host_tokens)

    def place(self, tokens: list[int]) -> tuple[Placement | Coming | Arriving | None, list[Op]]:
        ops: list[Op] = []
        placed = self.cache.place(tokens, ops)
        self.cache.check_integrity()
        return placed, ops

    def compute(self, tokens: list[int]) -> int:
        """Place `tokens` and compute them all; returns the slot, still busy."""
        placed, _ = self.place(tokens)
        assert isinstance(placed, Placement), placed
        self.cache.computed(placed.slot, len(tokens), [])
        return placed.slot

    def release(self, slot: int, tokens: list[int]) -> list[Op]:
        ops: list[Op] = []
        self.cache.release(slot, tokens, ops)
        self.cache.check_integrity()
        return ops

    def cached(self, tokens: list[int]) -> list[Op]:
        """Place, compute and release `tokens`."""
        return self.release(self.compute(tokens), tokens)


def run(start: int, count: int) -> list[int]:
    """Tokens start, start + 1, ...: other starts share nothing."""
    return list(range(start, start + count))


A, B, C = run(1000, 100), run(2000, 100), run(3000, 100)


# --- an idle slot's prefix -----------------------------------------------------------------------------------------


def test_an_empty_cache_gives_a_slot_and_no_prefix() -> None:
    assert Account(2, 400, "streams").place(A) == (Placement(0, 0), [])


def test_a_follow_up_takes_over_its_slot_without_any_operation() -> None:
    account = Account(3, 600, "streams")
    account.cached(A)
    account.cached(B)
    assert account.place([*B, 7, 8]) == (Placement(1, 100), [])


def test_the_last_token_is_always_computed() -> None:
    account = Account(2, 400, "streams")
    account.cached(A)
    assert account.place(A) == (Placement(0, 99), [Trim(0, 99)])


def test_a_turn_told_anew_trims_the_old_one() -> None:
    account = Account(2, 400, "streams")
    account.cached(A)
    assert account.place([*A[:80], 7, 8]) == (Placement(0, 80), [Trim(0, 80)])


def test_the_smaller_part_of_an_idle_prefix_is_copied_not_taken_over() -> None:
    account = Account(2, 400, "streams")
    account.cached(A)
    assert account.place([*A[:30], 7, 8]) == (Placement(1, 30), [Copy(0, 1, 30)])


def test_the_last_idle_slot_is_taken_over_all_the_same() -> None:
    account = Account(1, 200, "streams")
    account.cached(A)
    assert account.place([*A[:30], 7, 8]) == (Placement(0, 30), [Trim(0, 30)])


def test_a_few_common_tokens_are_not_worth_a_copy() -> None:
    """Every prompt begins with the same few tokens; copying a state of thousands for them would be dear."""
    for layout in ("streams", "unified"):
        account = Account(2, 400, layout)
        account.cached(A)
        placed, ops = account.place([*A[: MIN_MOVE - 1], 7, 8])
        assert (placed, ops) == (Placement(1, 0), [])


def test_the_least_recently_used_slot_goes_first() -> None:
    account = Account(3, 600, "streams")
    for tokens in (A, B, C):
        account.cached(tokens)
    account.cached([*A, 1])
    assert account.place(run(9000, 50)) == (Placement(1, 0), [Trim(1, 0)])


# --- a busy slot's prefix ------------------------------------------------------------------------------------------


def test_a_busy_slot_is_copied_from() -> None:
    for layout in ("streams", "unified"):
        account = Account(2, 400, layout)
        account.compute(A)
        assert account.place([*A[:80], 7]) == (Placement(1, 80), [Copy(0, 1, 80)])


def test_of_two_that_hold_the_same_the_idle_one_serves() -> None:
    account = Account(3, 600, "streams")
    busy = account.compute(A)
    account.release(account.compute([*A, 1]), [*A, 1])
    assert busy == 0
    assert account.place([*A, 7]) == (Placement(1, 100), [Trim(1, 100)])


def test_who_would_compute_what_another_is_computing_waits() -> None:
    account = Account(3, 600, "streams")
    account.place(A)
    assert account.place([*A, 7])[0] == Coming(0, 100)
    account.cache.computed(0, 60, [])
    assert account.place([*A, 7])[0] == Coming(0, 100)
    account.cache.computed(0, 100 - MIN_MOVE + 1, [])
    assert account.place([*A, 7])[0] == Placement(1, 100 - MIN_MOVE + 1)


def test_nobody_waits_for_a_few_tokens() -> None:
    account = Account(2, 400, "streams")
    account.place(A)
    assert account.place([*A[: MIN_MOVE - 1], 7, 8])[0] == Placement(1, 0)


def test_no_slot_no_place() -> None:
    account = Account(1, 400, "streams")
    account.compute(A)
    assert account.place(B) == (None, [])


def test_a_slot_of_a_stream_has_an_end() -> None:
    account = Account(2, 200, "streams")
    slot = account.compute(run(1000, 99))
    assert account.cache.reserve(slot, 100, [])
    assert not account.cache.reserve(slot, 101, [])


# --- the unified pool ----------------------------------------------------------------------------------------------


def test_shared_cells_count_once() -> None:
    account = Account(4, 400, "unified")
    account.compute(A)
    account.compute([*A, 1])
    account.compute([*A, 2])
    assert account.cache.num_free_cells == 400 - 102


def test_idle_prefixes_make_room_oldest_first() -> None:
    account = Account(4, 310, "unified")
    for tokens in (A, B, C):
        account.cached(tokens)
    assert account.place(run(9000, 60)) == (Placement(3, 0), [Trim(0, 0)])


def test_who_is_let_in_leaves_the_others_room_to_grow() -> None:
    account = Account(2, 200 + GROWTH - 1, "unified")
    account.compute(A)
    assert account.place(B)[0] is None
    account = Account(2, 200 + GROWTH, "unified")
    account.compute(A)
    assert account.place(B)[0] == Placement(1, 0)


def test_a_source_that_leaves_no_room_beside_it_is_taken_over() -> None:
    account = Account(2, 200, "unified")
    account.cached(run(1000, 150))
    assert account.place([*run(1000, 40), *run(7000, 60)]) == (Placement(0, 40), [Trim(0, 40)])


def test_reserve_makes_room_and_says_when_there_is_none() -> None:
    account = Account(2, 200, "unified")
    account.cached(A)
    slot = account.compute(run(9000, 100))
    ops: list[Op] = []
    assert account.cache.reserve(slot, 101, ops)
    assert ops == [Trim(0, 0)]
    assert account.cache.reserve(slot, 200, ops)
    assert not account.cache.reserve(slot, 201, ops)


def test_planned_cells_of_a_prefill_that_ended_are_free_again() -> None:
    account = Account(2, 400, "unified")
    account.place(A)
    account.cache.computed(0, 10, [])
    account.release(0, A[:10])
    assert account.cache.num_free_cells == 390


# --- host memory ---------------------------------------------------------------------------------------------------


def test_the_unified_pool_sends_idle_prefixes_to_host_memory() -> None:
    account = Account(2, 400, "unified", host_tokens=1000)
    assert account.cached(A) == [Save(0, 0), Trim(0, 0)]
    assert account.cache.num_free_cells == 400
    assert account.place([*A, 7]) == (Placement(0, 100), [Restore(0, 0, 100)])


def test_a_longer_snapshot_replaces_those_it_covers() -> None:
    account = Account(2, 400, "unified", host_tokens=1000)
    account.cached(A)
    assert account.cached([*A, *B]) == [Save(0, 1), Trim(0, 0), Drop(0)]


def test_what_a_snapshot_covers_is_not_saved_again() -> None:
    account = Account(2, 400, "unified", host_tokens=1000)
    account.cached([*A, *B])
    assert account.cached(A) == [Trim(0, 0)]


def test_what_a_busy_slot_holds_too_is_not_saved() -> None:
    account = Account(2, 400, "unified", host_tokens=1000)
    slot = account.compute(A)
    account.compute([*A, *B])
    assert account.release(slot, A) == [Trim(0, 0)]


def test_what_a_busy_slot_only_plans_to_hold_is_saved() -> None:
    account = Account(2, 500, "unified", host_tokens=1000)
    first = account.compute(A)
    second = account.place([*A, *B])[0]
    assert isinstance(second, Placement)
    account.cache.computed(second.slot, 150, [])
    assert account.cache.reserve(first, 180, [])
    assert account.release(first, [*A, *B[:80]]) == [Save(0, 0), Trim(0, 0)]


def test_the_least_recently_used_snapshot_goes_first() -> None:
    account = Account(2, 400, "unified", host_tokens=200)
    account.cached(A)
    account.cached(B)
    account.compute([*A, 7])  # uses A's
    assert account.cached(C) == [Save(1, 2), Trim(1, 0), Drop(1)]


def test_a_prefix_longer_than_host_memory_is_not_saved() -> None:
    account = Account(2, 400, "unified", host_tokens=99)
    assert account.cached(A) == [Trim(0, 0)]


def test_a_snapshot_that_would_be_the_first_to_go_is_not_made() -> None:
    account = Account(2, 400, "streams", host_tokens=100)
    account.cached(A)
    account.cached(B)
    slot = account.compute(C)  # sends A to host memory
    account.release(slot, [])
    account.cached([*A, 7])  # uses A's snapshot: now B is older
    assert account.place(C) == (Placement(1, 0), [Trim(1, 0)])


def test_a_state_is_dropped_after_it_was_restored() -> None:
    """Clearing the slot for the restored state saves what was there, and so pushes the state out."""
    account = Account(1, 300, "streams", host_tokens=100)
    account.cached(A)
    account.cached(B)
    assert account.place([*A, 7]) == (Placement(0, 100), [Save(0, 1), Trim(0, 0), Restore(0, 0, 100), Drop(0)])


def test_a_slot_is_preferred_to_a_little_more_from_host_memory() -> None:
    """In the unified pool a copy shares the cells of a busy slot, a restored state takes its own."""
    account = Account(3, 900, "unified", host_tokens=1000)
    account.cached([*A, *B])
    account.cached([*A, *C])
    account.compute([*A, *C])
    assert account.place([*A, *B[:5], 7, 8]) == (Placement(1, 100), [Copy(0, 1, 100)])
    assert account.place([*A, *B, 7, 8]) == (Placement(2, 200), [Restore(0, 2, 200)])


# --- states that cannot be cut -------------------------------------------------------------------------------------


def test_a_state_that_cannot_be_cut_serves_whole_or_not_at_all() -> None:
    account = Account(2, 400, "streams", kind="hybrid")
    account.cached(A)
    assert account.place([*A[:80], 7]) == (Placement(1, 0), [])
    assert account.place([*A, 7]) == (Placement(0, 100), [])


def test_a_longer_state_that_cannot_be_cut_does_not_stand_for_a_shorter_one() -> None:
    account = Account(2, 800, "unified", kind="hybrid", host_tokens=1000)
    slot = account.compute(A)
    longer = [*A, *B]
    assert account.compute(longer) == 1
    assert account.release(slot, A) == [Save(0, 0), Trim(0, 0)]
    assert account.release(1, longer) == [Save(1, 1), Trim(1, 0)]
    assert account.place([*A, 7]) == (Placement(0, 100), [Restore(0, 0, 100)])


def test_a_running_state_that_cannot_be_cut_does_not_stand_for_an_ended_one() -> None:
    """The running one will have moved on by the time anyone wants it."""
    account = Account(2, 800, "unified", kind="hybrid", host_tokens=1000)
    slot = account.compute(A)
    account.compute(A)
    assert account.release(slot, A) == [Save(0, 0), Trim(0, 0)]


# --- streams: moving -----------------------------------------------------------------------------------------------


def test_relocation_saves_what_is_in_the_way() -> None:
    account = Account(3, 600, "streams", host_tokens=1000)
    account.compute(A)
    account.compute(B)
    account.compute(C)
    account.release(1, B)
    ops: list[Op] = []
    account.cache.relocate(2, 1, ops)
    account.cache.check_integrity()
    assert ops == [Save(1, 0), Trim(1, 0), Copy(2, 1, 100), Trim(2, 0)]


def test_relocating_what_is_not_computed_yet_moves_nothing() -> None:
    account = Account(2, 400, "streams")
    account.compute(A)
    account.place(B)
    account.release(0, [])
    ops: list[Op] = []
    account.cache.relocate(1, 0, ops)
    account.cache.check_integrity()
    assert ops == []


def test_a_prefix_of_another_scope_is_no_prefix() -> None:
    for layout in ("streams", "unified"):
        account = Account(3, 600, layout, host_tokens=1000)
        ops: list[Op] = []
        first = account.cache.place(A, ops, "x")
        assert isinstance(first, Placement)
        assert account.place([*A, 7])[0] == Placement(1, 0)  # neither taken nor waited for
        account.release(1, [])
        account.cache.computed(first.slot, 100, [])
        account.release(first.slot, A)
        other = account.place([*A, 7])[0]
        assert isinstance(other, Placement)
        assert other.num_cached == 0
        placed = account.cache.place([*A, 8], ops, "x")
        assert isinstance(placed, Placement)
        assert placed.num_cached == 100
        account.cache.check_integrity()


def test_clear_idle_empties_what_is_not_busy() -> None:
    account = Account(3, 600, "unified")
    account.cached(A)
    account.compute(B)
    ops: list[Op] = []
    assert account.cache.clear_idle(ops)
    assert ops == [Trim(0, 0)]
    assert not account.cache.clear_idle(ops)
    account.cache.check_integrity()


def test_keys_are_never_used_twice() -> None:
    account = Account(1, 300, "unified", host_tokens=150)
    keys = [op.key for start in range(1, 9) for op in account.cached(run(1000 * start, 100)) if isinstance(op, Save)]
    assert len(keys) == 8
    assert all(earlier < later for earlier, later in pairwise(keys))
