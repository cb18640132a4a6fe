"""Answer: what one sequence generates, as events. Owns its text, its parser and its counters; decides nothing."""

from __future__ import annotations

from typing import Protocol

from localllm.api import Event, FinishReason, ReasoningDelta, TextDelta, TokenLogprob
from localllm.engine.job import Job
from localllm.engine.output import TextStream
from localllm.engine.runaway import CHECK_EVERY, is_runaway
from localllm.engine.scheduler import Output
from localllm.engine.sequence import Sequence
from localllm.engine.tool_calls import CallEvents
from localllm.text.parsers.calls import AnswerPiece, CallArguments, CallBegin, CallEnd


class Pieces(Protocol):
    """The bytes of tokens."""

    def piece(self, token: int, special: bool = False) -> bytes:
        """The bytes a token stands for; control tokens give none unless `special`."""
        ...


class Answer:
    """One of a request's answers. `events` collects what is new; `reason` is set at its end."""

    def __init__(self, job: Job, index: int, sequence: Sequence, pieces: Pieces) -> None:
        self.index = index
        self.sequence = sequence
        self.reason: FinishReason | None = None
        self.events: list[Event] = []
        self.num_reasoning = 0
        self.num_forced = 0
        self.num_drafted = 0
        self.num_accepted = 0
        self._text = TextStream(job.sampling.stop or ())
        self._parser = job.new_parser() if job.new_parser is not None else None
        self._calls = CallEvents(index)
        self._pieces = pieces
        self._next_check = CHECK_EVERY

    @property
    def stopped(self) -> str | None:
        """The stop string that ended the answer."""
        return self._text.stopped

    @property
    def in_reasoning(self) -> bool:
        """Whether the model is thinking."""
        return self._parser is not None and self._parser.in_reasoning

    @property
    def repeats_itself(self) -> bool:
        """Whether the answer has become one passage over and over; looked at once in some tokens."""
        if self.sequence.num_output < self._next_check:
            return False
        self._next_check = self.sequence.num_output + CHECK_EVERY
        return is_runaway(self.sequence.output)

    def take(self, output: Output) -> None:
        """Take in what a step brought the sequence, up to a stop string."""
        sampled = output.sampled
        self.num_accepted += sampled.num_accepted
        self.num_forced += max(0, output.num_tokens - (len(sampled.tokens) - sampled.num_forced))
        for at in range(output.num_tokens):
            if sampled.ends and at == len(sampled.tokens) - 1:
                return
            self._feed(sampled.tokens[at], sampled.logprobs[at] if sampled.logprobs else None)
            if self._text.stopped is not None:
                return

    def take_forced(self, tokens: tuple[int, ...]) -> None:
        """Take in tokens that the engine put there itself."""
        self.num_forced += len(tokens)
        for token in tokens:
            self._feed(token, None)

    def end(self, reason: FinishReason) -> None:
        """Say what was held back; nothing comes after."""
        if self.sequence.num_output:
            self._say(self._text.flush(), last=True)
        self.reason = "stop" if self._text.stopped is not None else reason
        if self.reason == "stop" and self._calls.num_calls:
            self.reason = "tool_calls"

    def _feed(self, token: int, logprob: TokenLogprob | None) -> None:
        parser = self._parser
        special = parser is not None and bool(parser.wants_special) and self._is_wanted(token, parser.wants_special)
        self.num_reasoning += self.in_reasoning
        self._say(self._text.feed(self._pieces.piece(token, special), logprob))

    def _is_wanted(self, token: int, wanted: frozenset[str]) -> bool:
        return self._pieces.piece(token, special=True).decode("utf-8", "replace") in wanted

    def _say(self, text: str, last: bool = False) -> None:
        """Turn new text into events."""
        parts: list[AnswerPiece] = [("text", text)] if text else []
        if self._parser is not None:
            parts = list(self._parser.feed(text)) if text else []
            if last:
                parts += self._parser.flush()
        logprobs = self._text.take_logprobs() if parts else ()
        for part in parts:
            if isinstance(part, CallBegin | CallArguments | CallEnd):
                self.events += self._calls.take(part)
                continue
            event = ReasoningDelta if part[0] == "reasoning" else TextDelta
            self.events.append(event(part[1], logprobs, self.index))
            logprobs = ()
