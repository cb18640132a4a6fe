"""Who is next: promoted sequences, beside the order that the scheduler's tests see."""

from __future__ import annotations

from localllm.engine.sequence import Sequence
from localllm.engine.waiting import WaitingQueue


def sequence(number: int, *, priority: int = 0, client: str = "") -> Sequence:
    return Sequence(number, [1, 2], None, number, priority=priority, client=client)


def ids(queue: WaitingQueue) -> list[int]:
    return [each.id for each in queue]


def test_who_is_promoted_passes_all_that_have_not_begun() -> None:
    queue = WaitingQueue()
    each = [sequence(1), sequence(2, priority=5), sequence(3, client="a"), sequence(4, priority=-1)]
    for one in each:
        queue.push(one)
    assert ids(queue) == [2, 1, 3, 4]
    queue.promote(each[3])
    assert ids(queue) == [4, 2, 1, 3]
    queue.promote(each[2])
    assert ids(queue) == [3, 4, 2, 1]
    begun = sequence(9)
    queue.push_back(begun)
    queue.promote(each[0])
    assert ids(queue) == [9, 1, 3, 4, 2]


def test_turns_go_on_as_if_the_promoted_one_had_not_been_there() -> None:
    queue = WaitingQueue()
    many = [sequence(n, client="many") for n in range(1, 6)]
    for one in many:
        queue.push(one)
    queue.promote(many[4])
    queue.take([many[4]])
    queue.push(sequence(6, client="other"))
    assert ids(queue) == [1, 6, 2, 3, 4]


def test_who_does_not_wait_cannot_be_promoted() -> None:
    queue = WaitingQueue()
    one = sequence(1)
    queue.push(one)
    queue.promote(sequence(2))
    queue.take([one])
    queue.promote(one)
    assert ids(queue) == []
