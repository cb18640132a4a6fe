"""What goes to disk and comes back, as the account decides it."""

from __future__ import annotations

from localllm.engine.batch import Drop, Fetch, Fetched, Lost, Op, Restore, Save, Store, Stored, Trim, Written
from localllm.engine.disk_index import FETCH_SHARE, MIN_FETCH, MIN_STORE, PRIVATE
from localllm.engine.kv_cache import Coming, KVCache, Layout, Placement
from localllm.engine.saved_prefixes import Arriving


def run(start: int, count: int) -> list[int]:
    """Tokens start, start + 1, ...: other starts share nothing."""
    return list(range(start, start + count))


A, B, C = run(10_000, 300), run(20_000, 300), run(30_000, 300)


class Account:
    """A KVCache with a disk, its operations collected, checked after every call."""

    def __init__(
        self, num_slots: int = 2, num_cells: int = 4000, layout: Layout = "unified", host_tokens: int = 2000
    ) -> None:
        self.cache = KVCache(num_slots, num_cells, layout, host_tokens=host_tokens, use_disk=True)

    def place(self, tokens: list[int], scope: str = "", *, fetch: bool = True) -> tuple[object, list[Op]]:
        ops: list[Op] = []
        placed = self.cache.place(tokens, ops, scope, fetch=fetch)
        self.cache.check_integrity()
        return placed, ops

    def cached(self, tokens: list[int], scope: str = "") -> list[Op]:
        """Place, compute and release `tokens`."""
        placed, ops = self.place(tokens, scope)
        assert isinstance(placed, Placement)
        self.cache.computed(placed.slot, len(tokens), ops)
        self.cache.release(placed.slot, tokens, ops)
        self.cache.check_integrity()
        return ops

    def store_next(self) -> list[Op]:
        ops: list[Op] = []
        assert self.cache.store_next(ops) == bool(ops)
        self.cache.check_integrity()
        return ops

    def store(self) -> list[Op]:
        """Begin the next write and let it end well."""
        ops = self.store_next()
        for op in ops:
            assert isinstance(op, Store)
            self.cache.saved.hear(Written(op.stored, True))
        self.cache.check_integrity()
        return ops


def stored(account: Account, tokens: list[int], scope: str = "") -> Stored:
    """Say that `tokens` lie on disk from before."""
    found = Stored(tokens, scope)
    account.cache.saved.found(found)
    return found


# --- writing -------------------------------------------------------------------------------------------------------


def test_a_prefix_in_host_memory_is_written_from_there() -> None:
    account = Account()
    account.cached(A)
    (op,) = account.store_next()
    assert isinstance(op, Store)
    assert (op.stored.tokens, op.slot, op.key, op.replaces) == (A, None, 0, ())
    assert account.store_next() == []  # one at a time


def test_a_prefix_in_a_slot_is_written_from_there() -> None:
    account = Account(layout="streams")
    account.cached(A)
    (op,) = account.store_next()
    assert isinstance(op, Store)
    assert (op.stored.tokens, op.slot, op.key) == (A, 0, None)


def test_the_last_used_is_written_first_and_each_once() -> None:
    account = Account(num_slots=3, layout="streams")
    for tokens in (A, B, C):
        account.cached(tokens)
    written = [op.stored.tokens for _ in range(3) for op in account.store() if isinstance(op, Store)]
    assert written == [C, B, A]
    assert account.store_next() == []


def test_what_could_not_be_written_is_not_tried_again() -> None:
    account = Account()
    account.cached(A)
    (op,) = account.store_next()
    assert isinstance(op, Store)
    account.cache.saved.hear(Written(op.stored, False))
    assert account.store_next() == []
    assert isinstance(account.place([*A, 1])[0], Placement)


def test_what_the_disk_lost_is_not_written_over_and_over() -> None:
    """With a budget for one, two prefixes would drive each other out for ever."""
    account = Account()
    account.cached(A)
    (op,) = account.store()
    assert isinstance(op, Store)
    account.cache.saved.hear(Lost(op.stored))
    assert account.store_next() == []


def test_short_prefixes_and_private_ones_are_not_written() -> None:
    account = Account()
    account.cached(run(1, MIN_STORE - 1))
    account.cached(A, PRIVATE + "7")
    assert account.store_next() == []


def test_a_conversation_is_written_anew_when_it_has_grown() -> None:
    account = Account()
    account.cached(A)
    account.store()
    account.cached([*A, *run(1, MIN_STORE - 1)])
    assert account.store_next() == []
    longer = [*A, *run(1, MIN_STORE)]
    account.cached(longer)
    (op,) = account.store()
    assert isinstance(op, Store)
    assert (op.stored.tokens, [old.tokens for old in op.replaces]) == (longer, [A])
    assert account.cache.saved.disk.longest(A, "")[0] is op.stored


def test_a_state_that_cannot_be_cut_replaces_none_of_its_prefixes() -> None:
    account = Account()
    account.cache = KVCache(2, 4000, "unified", kind="hybrid", host_tokens=2000, use_disk=True)
    account.cached(A)
    account.store()
    account.cached([*A, *B])
    (op,) = account.store()
    assert isinstance(op, Store)
    assert op.replaces == ()
    assert account.cache.saved.disk.longest([*A, 1], "")[1] == 300
    assert account.cache.saved.disk.longest(A[:299], "")[1] == 0


def test_what_host_memory_has_no_room_for_goes_to_disk_before_it_is_dropped() -> None:
    account = Account(host_tokens=500)
    account.cached(A)
    ops = account.cached(B)
    (store,) = [op for op in ops if isinstance(op, Store)]
    assert (store.stored.tokens, store.key) == (A, 0)
    assert ops.index(store) < ops.index(Drop(0))
    # The next one finds the disk busy, and is lost.
    assert not any(isinstance(op, Store) for op in account.cached(C))


def test_without_a_disk_nothing_is_written() -> None:
    cache = KVCache(1, 2000, "unified", host_tokens=400)
    account = Account()
    account.cache = cache
    account.cached(A)
    assert account.store_next() == []
    assert not any(isinstance(op, Store) for op in account.cached(B))


# --- reading -------------------------------------------------------------------------------------------------------


def test_who_wants_a_prefix_from_disk_waits_for_it() -> None:
    account = Account()
    on_disk = stored(account, A)
    placed, ops = account.place([*A, 1, 2])
    assert (placed, ops) == (Arriving(0), [Fetch(on_disk, 0)])
    # Another one waits for the same.
    assert account.place([*A[:200], 5]) == (Arriving(0), [])
    account.cache.saved.hear(Fetched(on_disk, 0, True))
    account.cache.check_integrity()
    assert account.place([*A, 1, 2], fetch=False) == (Placement(0, 300), [Restore(0, 0, 300)])


def test_what_cannot_be_read_is_computed() -> None:
    account = Account()
    on_disk = stored(account, A)
    account.place([*A, 1, 2])
    account.cache.saved.hear(Fetched(on_disk, 0, False))
    account.cache.check_integrity()
    assert account.place([*A, 1, 2]) == (Placement(0, 0), [])
    assert account.cache.saved.host._num_tokens == 0


def test_a_prefix_of_another_scope_is_not_read() -> None:
    account = Account()
    stored(account, A, "other")
    assert account.place([*A, 1])[0] == Placement(0, 0)


def test_nobody_waits_for_the_disk_twice() -> None:
    account = Account()
    stored(account, A)
    assert account.place([*A, 1], fetch=False)[0] == Placement(0, 0)


def test_a_little_more_is_not_worth_a_read() -> None:
    account = Account()
    account.cached(A)
    stored(account, [*A, *B])
    assert isinstance(account.place([*A, *B[: MIN_FETCH - 1], 1])[0], Placement)
    account = Account(num_cells=20_000, host_tokens=20_000)
    stored(account, [*A, *run(50_000, 300 * FETCH_SHARE)])
    assert isinstance(account.place([*A, 1])[0], Placement)


def test_what_a_running_sequence_is_computing_is_not_read() -> None:
    account = Account(num_slots=3)
    account.place(A)
    stored(account, A)
    assert isinstance(account.place([*A, 1])[0], Coming)


def test_host_memory_makes_room_for_what_arrives() -> None:
    account = Account(host_tokens=500)
    account.cached(B)
    on_disk = stored(account, A)
    placed, ops = account.place([*A, 1])
    assert placed == Arriving(1)
    assert isinstance(ops[0], Store)  # B goes to disk
    assert ops[1:] == [Drop(0), Fetch(on_disk, 1)]
    # What arrives is not driven out meanwhile.
    assert not any(isinstance(op, Save) for op in account.cached(C))


def test_what_fits_neither_host_memory_nor_a_slot_is_left_where_it_is() -> None:
    account = Account(host_tokens=299)
    stored(account, A)
    assert account.place([*A, 1])[0] == Placement(0, 0)
    account = Account(num_cells=500, layout="streams")
    stored(account, A)
    assert account.place([*A[:200], 1])[0] == Placement(0, 0)


def test_a_restored_state_has_room_for_all_of_it_before_it_is_cut() -> None:
    account = Account(num_slots=2, num_cells=500, host_tokens=2000)
    account.cached(run(1, 400))
    placed, _ = account.place(run(9000, 200))
    assert placed == Placement(0, 0)
    # 100 tokens would fit, the 400 that have to be restored for them do not.
    assert account.place([*run(1, 90), 1])[0] is None


def test_what_was_read_is_not_written_again() -> None:
    account = Account()
    on_disk = stored(account, A)
    account.place([*A, 1])
    account.cache.saved.hear(Fetched(on_disk, 0, True))
    account.cache.saved.hear(Lost(on_disk))
    assert account.store_next() == []


def test_a_trimmed_slot_is_saved_before_it_is_written() -> None:
    account = Account(num_slots=1, layout="streams", num_cells=2000)
    account.cached([*A, *C])
    ops = account.cached([*A[:100], *B])
    assert ops[:2] == [Save(0, 0), Trim(0, 100)]
    written = [op for _ in range(2) for op in account.store() if isinstance(op, Store)]
    assert [(op.slot, op.key) for op in written] == [(0, None), (None, 0)]
