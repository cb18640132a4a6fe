from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from localllm.api import ChoiceFinished, Event, Finished, PromptUsage, Queued, ReasoningDelta, SamplingParams, TextDelta
from localllm.engine.batch import Batch, Sampled
from localllm.engine.engine import Engine, Events
from localllm.engine.job import Job
from localllm.engine.kv_cache import MIN_MOVE, KVCache
from localllm.engine.runaway import is_runaway
from localllm.engine.scheduler import Scheduler
from localllm.engine.step_cost import StepCost
from localllm.engine.waiting import WaitingQueue
from localllm.errors import QueueFullError
from localllm.text.parsers import format_named
from tests.fakes import FakeRunner, words

WAIT_S = 10.0
OPENED, CLOSED = 60, 59
FREE = SamplingParams(max_tokens=20)


class Letters:
    """Every token is a letter; two are the tags of a model that thinks."""

    def piece(self, token: int, special: bool = False) -> bytes:
        if token in (OPENED, CLOSED):
            return (b"<think>" if token == OPENED else b"</think>") if special else b""
        return bytes([97 + token % 26])


class Steps:
    """A FakeRunner that the test lets go on, step by step where it wants to, and a clock that stands still."""

    def __init__(self, runner: FakeRunner) -> None:
        self._runner = runner
        self.now = 0.0
        self.before: Callable[[int], None] = lambda _number: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def run(self, batch: Batch) -> list[Sampled]:
        self.before(self._runner.num_steps)
        self.now += 0.1
        # The tags are no words of this model: it would open and close its thinking at random.
        return [
            replace(each, tokens=tuple(token % OPENED % CLOSED for token in each.tokens))
            for each in self._runner.run(batch)
        ]


class Bench:
    """An engine in its own thread, and what it said, by request."""

    def __init__(self, num_slots: int = 4, **options: Any) -> None:
        self.steps = Steps(FakeRunner(num_slots, num_slots * 256, "streams"))
        scheduler = Scheduler(
            KVCache(num_slots, num_slots * 256, "streams"), StepCost(64, 150_000), num_ctx=256, num_batch=64
        )
        self.engine = Engine(scheduler, self.steps, Letters(), self._take, clock=lambda: self.steps.now, **options)
        self.events: dict[int, list[Event]] = {}
        self._ended = threading.Condition()
        self._thread = threading.Thread(target=self.engine.loop)

    def _take(self, events: Events) -> None:
        with self._ended:
            for request_id, new in events:
                self.events.setdefault(request_id, []).extend(new)
            self._ended.notify_all()

    def finished(self, request_id: int) -> Finished:
        """Wait for a request's end."""
        with self._ended:
            assert self._ended.wait_for(lambda: self._has_ended(request_id), WAIT_S), (
                f"request {request_id} did not end"
            )
            last = self.events[request_id][-1]
        assert isinstance(last, Finished)
        assert sum(isinstance(event, Finished) for event in self.events[request_id]) == 1
        return last

    def _has_ended(self, request_id: int) -> bool:
        return any(isinstance(event, Finished) for event in self.events.get(request_id, []))

    def text(self, request_id: int, index: int = 0) -> str:
        events = self.events[request_id]
        return "".join(event.text for event in events if isinstance(event, TextDelta) and event.index == index)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self.engine.stop()
        if self._thread.ident is not None:
            self._thread.join(WAIT_S)
        assert not self._thread.is_alive()


@contextmanager
def bench(**options: Any) -> Iterator[Bench]:
    made = Bench(**options)
    try:
        yield made
    finally:
        made.close()


# --- several answers ----------------------------------------------------------------------------------------------


def test_several_answers_share_one_prefill_and_end_in_one_finished() -> None:
    with bench() as b:
        b.engine.submit(Job(1, words(1, 200), FREE, n=4))
        b.start()
        end = b.finished(1)
        assert end.usage.num_prompt_tokens == 200
        assert end.usage.num_output_tokens == 4 * 20
        ends = [event for event in b.events[1] if isinstance(event, ChoiceFinished)]
        assert sorted((each.index, each.reason) for each in ends) == [(n, "length") for n in range(4)]
        assert all(len(b.text(1, index)) == 20 for index in range(4))
        # The prompt once, its last tokens for the three others, and what was decoded.
        assert 200 + 3 + 4 * 19 <= b.steps.num_computed <= 200 + 3 * MIN_MOVE + 4 * 19


def test_answers_that_end_at_different_times() -> None:
    with bench() as b:
        probe = words(1, 30)
        b.engine.submit(Job(1, probe, FREE))
        b.start()
        b.finished(1)
        stop = b.text(1)[5:8]
        b.engine.submit(Job(2, probe, SamplingParams(max_tokens=20, stop=(stop,)), n=2))
        end = b.finished(2)
        assert (end.reason, end.stop) == ("stop", stop)
        assert b.text(2, 0) == b.text(2, 1) == b.text(1)[:5]


def test_what_the_prompt_took_is_said_before_the_answer_where_that_is_asked() -> None:
    with bench() as b:
        b.engine.submit(Job(1, words(1, 200), FREE))
        b.engine.submit(Job(2, words(1, 200), FREE, prompt_usage=True, n=2))
        b.start()
        b.finished(1)
        end = b.finished(2)
        assert not any(isinstance(event, PromptUsage) for event in b.events[1])
        first = next(event for event in b.events[2] if not isinstance(event, Queued))
        assert first == PromptUsage(end.usage.num_prompt_tokens, end.usage.num_cached_tokens)
        assert sum(isinstance(event, PromptUsage) for event in b.events[2]) == 1


def test_no_tokens_wanted() -> None:
    with bench() as b:
        b.engine.submit(Job(1, words(1, 10), SamplingParams(max_tokens=0), n=3))
        b.start()
        assert b.finished(1).usage.num_output_tokens == 0


# --- steering -----------------------------------------------------------------------------------------------------


def thinker(request_id: int, **changes: Any) -> Job:
    parser = format_named("think").parser
    job = Job(request_id, words(request_id, 20), SamplingParams(max_tokens=60), new_parser=lambda: parser(True))
    return replace(job, end_of_reasoning=(CLOSED, CLOSED + 26 - 59 + 5), **changes)


@pytest.mark.parametrize("budget", [0, 1, 12])
def test_a_reasoning_budget_makes_the_model_answer(budget: int) -> None:
    with bench() as b:
        b.engine.submit(thinker(1, reasoning_budget=budget))
        b.start()
        end = b.finished(1)
        reasoning = "".join(event.text for event in b.events[1] if isinstance(event, ReasoningDelta))
        assert len(reasoning) == max(1, budget)
        assert end.usage.num_output_tokens == 60
        assert end.usage.num_forced_tokens == 2
        assert len(b.text(1)) == 60 - len(reasoning) - 1


def test_without_a_budget_it_thinks_to_the_end() -> None:
    with bench() as b:
        b.engine.submit(thinker(1))
        b.start()
        assert b.finished(1).usage.num_reasoning_tokens == 60
        assert b.text(1) == ""


def test_stop_thinking_while_it_runs() -> None:
    with bench() as b:
        b.steps.before = lambda number: b.engine.steer(1, "stop_thinking") if number == 5 else None
        b.engine.submit(thinker(1))
        b.start()
        end = b.finished(1)
        assert 5 <= end.usage.num_reasoning_tokens <= 8
        assert b.text(1)
        b.engine.steer(1, "stop_thinking")
        b.engine.steer(77, "stop")


def test_there_is_no_room_to_make_it_answer() -> None:
    with bench() as b:
        b.engine.submit(replace(thinker(1, reasoning_budget=59), sampling=SamplingParams(max_tokens=60)))
        b.start()
        assert b.finished(1).reason == "length"


def test_forced_tokens_are_computed_with_the_next_step() -> None:
    with bench() as b:
        b.engine.submit(thinker(1, reasoning_budget=3))
        b.start()
        b.finished(1)
        assert b.steps.num_computed == 20 + 59


# --- time and the queue -------------------------------------------------------------------------------------------


def test_a_deadline_ends_what_runs_and_what_waits() -> None:
    with bench(num_slots=1) as b:
        for request_id, deadline_s in ((1, 1.05), (2, 0.55), (3, None)):
            job = Job(request_id, words(request_id, 10), SamplingParams(max_tokens=30), deadline_s=deadline_s)
            b.engine.submit(job)
        b.start()
        first, second, third = (b.finished(request_id) for request_id in (1, 2, 3))
        assert (first.reason, second.reason, third.reason) == ("deadline", "deadline", "length")
        assert first.usage.num_output_tokens == 11
        assert second.usage.num_output_tokens == 0
        assert second.timings.queue_s == pytest.approx(0.6)


def test_the_queue_is_bounded() -> None:
    with bench(max_requests=3) as b:
        for request_id in range(3):
            b.engine.submit(Job(request_id, words(1, 10), FREE))
        with pytest.raises(QueueFullError) as caught:
            b.engine.submit(Job(9, words(1, 10), FREE))
        assert caught.value.facts["retry_after_s"] >= 1
        b.start()
        for request_id in range(3):
            b.finished(request_id)
        b.engine.submit(Job(9, words(1, 10), FREE))
        b.finished(9)


def test_who_waits_is_told_the_place_and_when_its_turn_comes() -> None:
    with bench(num_slots=1) as b:
        for request_id in (1, 2, 3):
            b.engine.submit(Job(request_id, words(request_id, 10), FREE))
        b.start()
        for request_id in (1, 2, 3):
            b.finished(request_id)
        places = {n: [event for event in b.events[n] if isinstance(event, Queued)] for n in (1, 2, 3)}
        assert places[1] == []
        assert [event.num_ahead for event in places[2]] == [0]
        assert [event.num_ahead for event in places[3]] == [1, 0]
        assert places[3][0].eta_s is None  # nothing had ended yet
        assert places[3][1].eta_s == pytest.approx(2.0, abs=0.2)  # as long as the first took


def order_of(jobs: list[Job]) -> list[int]:
    """The order in which jobs get the one slot there is."""
    with bench(num_slots=1) as b:
        for job in jobs:
            b.engine.submit(job)
        b.start()
        ends = {job.id: b.finished(job.id).timings.queue_s for job in jobs}
        return sorted(ends, key=lambda request_id: ends[request_id])


def test_clients_take_turns() -> None:
    jobs = [Job(n, words(n, 10), FREE, client="greedy") for n in range(1, 6)]
    jobs += [Job(n, words(n, 10), FREE, client="modest") for n in range(6, 8)]
    assert order_of(jobs) == [1, 6, 2, 7, 3, 4, 5]


def test_priority_goes_before_turns() -> None:
    jobs = [Job(1, words(1, 10), FREE), Job(2, words(2, 10), FREE), Job(3, words(3, 10), FREE, priority=1, client="b")]
    assert order_of(jobs) == [3, 1, 2]


def test_the_waiting_queue_forgets_clients_that_are_served() -> None:
    from localllm.engine.sequence import Sequence

    waiting = WaitingQueue()
    for n in range(100):
        sequence = Sequence(n, [1], None, n, client=str(n))
        waiting.push(sequence)
        waiting.take([sequence])
    assert len(waiting) == 0
    assert not waiting._last_turns


# --- endless repetition -------------------------------------------------------------------------------------------


def test_repetition_is_noticed_and_variety_is_not() -> None:
    passage = words(3, 17)
    assert is_runaway(words(1, 50) + passage * 20)
    assert is_runaway([5] * 200)
    assert not is_runaway(words(1, 400))
    assert not is_runaway(passage * 5)
    rows = [token for n in range(40) for token in (1, 2, 3, n % 11, 4, n % 7)]
    assert not is_runaway(rows)


def test_a_runaway_is_ended_only_when_asked_for() -> None:
    class Stuck(FakeRunner):
        def run(self, batch: Batch) -> list[Sampled]:
            return [Sampled((7,)) for _ in super().run(batch)]

    for asked, reason in ((True, "runaway"), (False, "length")):
        with bench() as b:
            b.steps._runner = Stuck(4, 1024, "streams")
            b.engine.submit(Job(1, words(1, 10), SamplingParams(max_tokens=240), end_runaway=asked))
            b.start()
            end = b.finished(1)
            assert end.reason == reason
            assert (end.usage.num_output_tokens < 240) == asked
