"""What hangs at one prompt: what is held until it is sent, what its text mentions, and how many tokens each has."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from localllm_tui.history.values import Attachment
from localllm_tui.prompt.attaching import Holding, of_attachment


class Attached:
    """`held` are pastes and what was piped in; `mentioned` follows the text and comes with it."""

    def __init__(self) -> None:
        self.held: tuple[Holding, ...] = ()
        self.mentioned: tuple[Holding, ...] = ()
        self._counts: dict[int, int] = {}

    @property
    def all(self) -> tuple[Holding, ...]:
        """Everything, with the counts that are known."""
        return self.counted((*self.held, *self.mentioned))

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        """What a draft has to keep: the text says the rest."""
        return tuple(item for one in self.counted(self.held) for item in one.attachments)

    def load(self, attachments: Iterable[Attachment]) -> None:
        """Those of another draft, and nothing else."""
        self.held = tuple(of_attachment(item) for item in attachments)
        self.mentioned = ()

    def add(self, attachment: Attachment) -> None:
        """One more to be held."""
        self.held = (*self.held, of_attachment(attachment))

    def add_paste(self, text: str) -> None:
        """A paste that is too long to be text."""
        names = [one.name for one in self.held]
        number = next(n for n in range(1, len(names) + 2) if not any(x.startswith(f"pasted text {n}") for x in names))
        num_lines = text.count("\n") + 1
        lines = f", {num_lines:,} lines" if num_lines > 1 else ""
        self.add(Attachment(f"pasted text {number}{lines}", text))

    def remove(self, holdings: Iterable[Holding]) -> None:
        """These no more."""
        gone = self.counted(holdings)
        self.held = tuple(one for one in self.counted(self.held) if one not in gone)
        self.mentioned = tuple(one for one in self.counted(self.mentioned) if one not in gone)

    def uncounted(self) -> tuple[Attachment, ...]:
        """What still is to be counted."""
        return tuple(item for one in self.all for item in one.attachments if item.num_tokens is None)

    def count(self, text: str, num_tokens: int) -> None:
        """A text has so many tokens, for the model that is there."""
        self._counts[hash(text)] = num_tokens

    def forget_counts(self) -> None:
        """Another model counts otherwise."""
        self._counts.clear()
        self.held = tuple(map(_uncounted, self.held))
        self.mentioned = tuple(map(_uncounted, self.mentioned))

    def counted(self, holdings: Iterable[Holding]) -> tuple[Holding, ...]:
        """Holdings with the counts that are known."""
        return tuple(one._replace(attachments=tuple(map(self._with_count, one.attachments))) for one in holdings)

    def _with_count(self, item: Attachment) -> Attachment:
        number = self._counts.get(hash(item.text)) if item.num_tokens is None else None
        return item if number is None else msgspec.structs.replace(item, num_tokens=number)


def _uncounted(holding: Holding) -> Holding:
    return holding._replace(
        attachments=tuple(msgspec.structs.replace(item, num_tokens=None) for item in holding.attachments)
    )
