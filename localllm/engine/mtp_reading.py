"""Reading: how far a model's own draft head has read one sequence, and the hidden states it has yet to read with it.

The head reads the token at a position together with the model's hidden state one position earlier. So it is behind the
model by nothing but what has not been fed to it. Accounting only; touches no memory of llama.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from localllm.engine.batch import Chunk
from localllm.engine.sequence import Sequence

Rows = npt.NDArray[np.float32]


@dataclass(eq=False, slots=True)
class Reading:
    """A llama.cpp sequence of the head's context.

    Its cells hold the positions from `first` to before `num_read`, all with the model's own hidden states. `rows` are
    the states of positions `num_read - 1` and on, as far as they are known. Cells from `stale` on have to go before the
    next is written. `guesses` followed `guessed_after` tokens.
    """

    slot: int
    rows: Rows
    sequence: Sequence | None = None
    tokens: list[int] = field(default_factory=list)
    first: int = 0
    num_read: int = 0
    stale: int | None = None
    guesses: list[int] = field(default_factory=list)
    guessed_after: int = 0

    @property
    def num_known(self) -> int:
        """Positions whose hidden states were seen, or are read already: the next has to be this one."""
        return self.num_read - 1 + len(self.rows)

    @property
    def num_cells(self) -> int:
        """Cells that are taken, at most."""
        return self.num_read - self.first + (0 if self.stale is None else len(self.guesses))

    def num_common(self, tokens: list[int]) -> int:
        """How many of `tokens` a sequence that is no longer followed began with."""
        pairs = enumerate(zip(self.tokens, tokens, strict=False))
        return next((at for at, (one, other) in pairs if one != other), min(len(self.tokens), len(tokens)))

    def follow(self, sequence: Sequence) -> None:
        """Read this sequence from now on; what was read of one that began alike serves it too."""
        common = self.num_common(sequence.tokens)
        if common <= self.first:
            self._begin(0, self.rows[:0])
        elif common < self.num_read:
            self.num_read, self.stale, self.rows = common, common, self.rows[:0]
        else:
            self.rows = self.rows[: common - self.num_read + 1]
        self.sequence, self.tokens, self.guessed_after = sequence, [], 0

    def reset(self) -> None:
        """Forget everything: the cells are gone."""
        self.tokens, self.rows, self.stale = [], self.rows[:0], None
        self.first = self.num_read = self.guessed_after = 0

    def let_go(self) -> None:
        """Keep what was read, for one that begins alike."""
        assert self.sequence is not None
        self.cut(self.sequence.num_computed)
        self.tokens = self.sequence.tokens[: max(self.num_read, self.num_known)]
        self.sequence = None

    def cut(self, num_computed: int) -> None:
        """Forget the hidden states of guesses that were wrong."""
        self.rows = self.rows[: max(0, num_computed - (self.num_read - 1))]

    def take(self, chunk: Chunk, rows: Rows) -> None:
        """Take in the hidden states of a chunk that was computed. Of its guesses nobody knows yet which were right."""
        self.cut(chunk.start)
        wanted = self.num_read - 1
        if chunk.start > self.num_known:
            # The model found the tokens before these in its cache, and their states are nowhere.
            self._begin(chunk.start, rows)
        elif chunk.start < wanted:
            self.rows = rows[wanted - chunk.start :].copy()
        else:
            self.rows = np.concatenate((self.rows, rows))

    def unread(self, end: int) -> int:
        """How many positions before `end` can be read."""
        return max(0, min(end, self.num_known + 1) - self.num_read)

    def read(self, num_tokens: int) -> tuple[int, list[int], Rows]:
        """The next tokens to read: their first position, themselves, and the hidden state before each."""
        assert self.sequence is not None
        start = self.num_read
        rows = self.rows[:num_tokens]
        self.num_read, self.rows = start + num_tokens, self.rows[num_tokens:]
        return start, self.sequence.tokens[start : start + num_tokens], rows

    def _begin(self, start: int, rows: Rows) -> None:
        """Begin anew at position `start`, of which and after which `rows` are the states; all cells go.

        There is no state before the first token of a text: nothing stands in for it, as in training.
        """
        if start == 0:
            rows = np.concatenate((np.zeros((1, rows.shape[1]), np.float32), rows))
        self.first = self.num_read = start + 1 if start else 0
        self.rows = rows.copy()
        self.stale = 0
