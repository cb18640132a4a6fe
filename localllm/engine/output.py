"""TextStream: the bytes of tokens become text. Never half a character, never part of a stop string. Linear time."""

from __future__ import annotations

import codecs

from localllm.api import TokenLogprob


class TextStream:
    """Text of one answer as it grows. `stopped` names the stop string once one was found; nothing comes after it."""

    def __init__(self, stops: tuple[str, ...] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stops = stops
        self._longest = max(map(len, stops), default=0)
        self._held = ""
        self._logprobs: list[TokenLogprob] = []
        self.stopped: str | None = None

    def feed(self, piece: bytes, logprob: TokenLogprob | None = None) -> str:
        """Take in one token's bytes; return the text that may be shown now."""
        if logprob is not None:
            self._logprobs.append(logprob)
        return self._advance(self._decoder.decode(piece))

    def flush(self) -> str:
        """The end: what was held back, with U+FFFD for a character that never came whole."""
        if self.stopped is not None:
            return ""
        text = self._advance(self._decoder.decode(b"", final=True))
        held, self._held = self._held, ""
        return text if self.stopped is not None else text + held

    def take_logprobs(self) -> tuple[TokenLogprob, ...]:
        """The log probabilities of tokens since the last call."""
        taken = tuple(self._logprobs)
        self._logprobs.clear()
        return taken

    def _advance(self, new: str) -> str:
        if not self._stops:
            return new
        text = self._held + new
        found = min(((at, stop) for stop in self._stops if (at := text.find(stop)) >= 0), default=None)
        if found is not None:
            self._held = ""
            at, self.stopped = found
            return text[:at]
        keep = self._num_held(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def _num_held(self, text: str) -> int:
        """The length of the longest end of `text` that begins a stop string."""
        for size in range(min(self._longest - 1, len(text)), 0, -1):
            end = text[len(text) - size :]
            if any(stop.startswith(end) for stop in self._stops):
                return size
        return 0
