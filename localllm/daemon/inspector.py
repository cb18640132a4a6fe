"""Inspector: the last requests and their answers, whole, for whoever asked them. There only where it was asked for.

What is kept stays in memory and never reaches a log.
"""

from __future__ import annotations

import collections
import datetime
from typing import Literal

import msgspec

from localllm.api import (
    ChatRequest,
    CompletionRequest,
    Event,
    Finished,
    ReasoningDelta,
    Receipt,
    SamplingParams,
    TextDelta,
)
from localllm.daemon.guard import Caller


class Inspected(msgspec.Struct):
    """A request and what came of it. `text` and `reasoning` are pieces as they came, of all its answers."""

    id: str
    at: str
    key: str
    request: ChatRequest | CompletionRequest
    state: Literal["running", "finished", "failed"] = "running"
    text: list[str] = []
    reasoning: list[str] = []
    finished: Finished | None = None
    receipt: Receipt | None = None
    error: str | None = None

    @property
    def sampler(self) -> SamplingParams:
        """How its tokens were chosen: with the model's defaults and the seed drawn, once it has ended."""
        return self.request.sampling if self.receipt is None else self.receipt.sampling

    def take(self, event: Event) -> Event:
        """Keep an event; returns it as the client is to see it."""
        match event:
            case TextDelta(text):
                self.text.append(text)
            case ReasoningDelta(text):
                self.reasoning.append(text)
            case Finished():
                self.state, self.finished, self.receipt = "finished", event, event.receipt
                if not self.request.receipt:
                    return msgspec.structs.replace(event, receipt=None)
        return event


class Inspector:
    """The last `num_kept` requests."""

    def __init__(self, num_kept: int) -> None:
        self._records: collections.deque[Inspected] = collections.deque(maxlen=num_kept)

    def begin(self, request: ChatRequest | CompletionRequest, caller: Caller) -> Inspected:
        """Keep a request that is about to run; the oldest one makes room."""
        assert request.request_id is not None
        at = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        record = Inspected(request.request_id, at, caller.key, request)
        self._records.append(record)
        return record

    def of(self, caller: Caller) -> list[Inspected]:
        """The requests of one key, the latest first."""
        return [record for record in reversed(self._records) if record.key == caller.key]
