"""Walking through what was sent: up to older texts, down again to what was being written. Pure."""

from __future__ import annotations

from collections.abc import Iterable

MAX_SENT = 500


def joined(own: Iterable[str], everywhere: Iterable[str] = ()) -> tuple[str, ...]:
    """What to walk through, the newest last: this conversation's nearest, each text once."""
    newest_first = dict.fromkeys([*reversed([*own]), *reversed([*everywhere])])
    return tuple(reversed([text for text in newest_first if text.strip()][:MAX_SENT]))


class SentWalk:
    """A place among sent texts. `texts`: the newest last; what is being written lies behind it and is kept."""

    def __init__(self, texts: tuple[str, ...] = ()) -> None:
        self._texts = texts
        self._at = len(texts)
        self._own = ""

    def is_shown(self, text: str) -> bool:
        """Whether `text` is what the walk has come to, unchanged."""
        return self._at < len(self._texts) and self._texts[self._at] == text

    def older(self, current: str) -> str | None:
        """The text before; None at the oldest. `current` is kept when the walk leaves it."""
        if self._at == 0:
            return None
        if self._at == len(self._texts):
            self._own = current
        self._at -= 1
        return self._texts[self._at]

    def newer(self) -> str | None:
        """The text behind, at last what was being written; None when the walk is there."""
        if self._at == len(self._texts):
            return None
        self._at += 1
        return self._own if self._at == len(self._texts) else self._texts[self._at]

    def add(self, text: str) -> None:
        """Sent just now; the walk ends."""
        if text.strip():
            self._texts = joined([*self._texts, text])
        self._at, self._own = len(self._texts), ""
