"""Events to OpenAI's whole answers. Pure: ids and times are given."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from localllm.api import (
    ChoiceFinished,
    Event,
    Finished,
    FinishReason,
    Notice,
    PromptLogprobs,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    ToolCallEvent,
    Usage,
)
from localllm.daemon.openai.values import (
    Head,
    call_value,
    chat_logprobs,
    completion_logprobs,
    reason_word,
    tail_value,
    unscored,
    usage_value,
)


class _Answer:
    """One choice as it is gathered."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.reasoning: list[str] = []
        self.calls: list[dict[str, Any]] = []
        self.logprobs: list[TokenLogprob] = []
        self.reason: FinishReason = "stop"


class _Gathered:
    """All of a request's events, by choice."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.answers: dict[int, _Answer] = {}
        self.notices: list[Notice] = []
        self.prompt_logprobs: tuple[TokenLogprob, ...] = ()
        self.finished = Finished("stop", Usage())
        for event in events:
            self._take(event)
        if not self.answers:
            self._answer(0)

    def _answer(self, index: int) -> _Answer:
        return self.answers.setdefault(index, _Answer())

    def _take(self, event: Event) -> None:
        match event:
            case TextDelta(text, logprobs, index):
                self._answer(index).texts.append(text)
                self._answer(index).logprobs.extend(logprobs)
            case ReasoningDelta(text, logprobs, index):
                self._answer(index).reasoning.append(text)
                self._answer(index).logprobs.extend(logprobs)
            case ToolCallEvent(call, index):
                answer = self._answer(index)
                answer.calls.append(call_value(call.id, call.name, call.arguments))
            case ChoiceFinished(index, reason):
                self._answer(index).reason = reason
            case PromptLogprobs(logprobs):
                self.prompt_logprobs = logprobs
            case Notice():
                self.notices.append(event)
            case Finished(reason):
                self.finished = event
                self._answer(0).reason = reason

    def tail(self) -> dict[str, Any]:
        """What follows the choices."""
        return {"usage": usage_value(self.finished.usage)} | tail_value(self.finished, self.notices)


def chat_completion(head: Head, events: Iterable[Event], *, logprobs: bool) -> dict[str, Any]:
    """The whole answer of a chat."""
    gathered = _Gathered(events)
    choices = []
    for index, answer in sorted(gathered.answers.items()):
        message: dict[str, Any] = {"role": "assistant", "content": "".join(answer.texts), "refusal": None}
        if answer.reasoning:
            message["reasoning_content"] = "".join(answer.reasoning)
        if answer.calls:
            message["tool_calls"] = answer.calls
            message["content"] = message["content"] or None
        choices.append(
            {
                "index": index,
                "message": message,
                "logprobs": chat_logprobs(answer.logprobs) if logprobs else None,
                "finish_reason": reason_word(answer.reason, bool(answer.calls)),
            }
        )
    return _whole(head, "chat.completion", choices, gathered)


def completion(head: Head, events: Iterable[Event], *, logprobs: bool, echoes: Sequence[str]) -> dict[str, Any]:
    """The whole answer of a completion. `echoes[index]` is put before choice `index`; empty: nothing is."""
    gathered = _Gathered(events)
    choices = []
    for index, answer in sorted(gathered.answers.items()):
        echo = echoes[index] if echoes else ""
        scored = gathered.prompt_logprobs if echo else ()
        known = completion_logprobs([*scored, *answer.logprobs], 0, unscored(echo, scored))
        choices.append(
            {
                "index": index,
                "text": echo + "".join(answer.texts),
                "logprobs": known if logprobs else None,
                "finish_reason": reason_word(answer.reason, False),
            }
        )
    return _whole(head, "text_completion", choices, gathered)


def _whole(head: Head, kind: str, choices: list[dict[str, Any]], gathered: _Gathered) -> dict[str, Any]:
    value = {"id": head.id, "object": kind, "created": head.created, "model": head.model, "choices": choices}
    return value | gathered.tail()
