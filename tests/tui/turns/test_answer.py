"""Events folded into one answer, with its times."""

from __future__ import annotations

from localllm_tui.history.values import Stats
from localllm_tui.turns.answer import Answer

from localllm.api import (
    Finished,
    Notice,
    Progress,
    PromptUsage,
    Queued,
    ReasoningDelta,
    TextDelta,
    Timings,
    ToolCall,
    ToolCallEvent,
    Usage,
)


def test_an_answer_with_everything() -> None:
    answer = Answer(10.0)
    answer.fold(Progress("load", done=0.5, total=1.0, unit="fraction"), 10.5)
    assert answer.progress is not None
    answer.fold(Queued(2, 3.0), 11.0)
    assert answer.progress is None
    assert answer.queued == Queued(2, 3.0)
    answer.fold(Notice("context", "less context"), 11.5)
    answer.fold(PromptUsage(20, 8), 11.9)
    assert answer.queued is None
    answer.fold(ReasoningDelta("let me "), 12.0)
    answer.fold(ReasoningDelta("see"), 13.0)
    assert answer.end_of_reasoning is None
    answer.fold(TextDelta("It is "), 14.5)
    answer.fold(TextDelta("so"), 15.0)
    answer.fold(ToolCallEvent(ToolCall("1", "add")), 15.5)
    answer.fold(Finished("tool_calls", Usage(20, 8, 7), Timings(0.1, 0.2, 3.3)), 16.0)
    assert (answer.content, answer.reasoning, answer.calls) == ("It is so", "let me see", [ToolCall("1", "add")])
    assert answer.stats() == Stats(20, 8, 7, 0.1, 0.2, 3.3, first_token_s=2.0, reasoning_s=2.5, total_s=6.0)


def test_an_answer_broken_off_has_its_own_times_only() -> None:
    answer = Answer(0.0)
    answer.fold(ReasoningDelta("hm"), 1.0)
    answer.end(3.0)
    assert answer.stats() == Stats(first_token_s=1.0, reasoning_s=2.0, total_s=3.0)
    silent = Answer(0.0)
    silent.end(2.0)
    assert silent.stats() == Stats(total_s=2.0)
