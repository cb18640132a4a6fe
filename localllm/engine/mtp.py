"""DraftHead: drafts by the layers a model itself was trained with to see further ahead (MTP, "nextn").

After each step of the model it takes in the hidden states of the sequences it follows, reads their tokens with them in
a context of its own, and guesses on from there: the head's own state takes the place of the model's from the second
guess on. A model with several such layers is followed by the first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from localllm.binding import C
from localllm.drafting import MTP_OUTPUTS
from localllm.engine.batch import Chunk
from localllm.engine.frames import LoadSpec
from localllm.engine.mtp_context import HeadContext, HiddenStates, Part
from localllm.engine.mtp_reading import Reading
from localllm.engine.runner import NoSpaceError
from localllm.engine.sequence import Sequence
from localllm.engine.vocab import Vocab

# Hidden states of one sequence that are kept while nobody asks for guesses; then they are read, so that they can go.
MAX_UNREAD = 64


class DraftHead:
    """Guesses for many sequences at once, greedily. See `speculate.Drafter`."""

    def __init__(self, target: Any, model: Any, vocab: Vocab, spec: LoadSpec) -> None:
        num_embd: int = C.llama_model_n_embd_out(model)
        self._vocab = vocab
        self._num_ctx = spec.num_ctx
        self._num_pool = spec.num_cells if spec.kv_layout == "unified" else None
        self._context = HeadContext(model, spec, vocab.num_tokens, num_embd)
        self._hidden = HiddenStates(target, spec.num_batch, num_embd)
        empty = np.zeros((0, num_embd), np.float32)
        self._readings = [Reading(slot, empty) for slot in range(spec.num_slots)]
        self._followed: dict[int, Sequence] = {}

    def follow(self, sequence: Sequence) -> None:
        """Take in the hidden states of a sequence from its first step on."""
        self._followed[sequence.id] = sequence

    def forget(self, sequence_id: int) -> None:
        """Let go of a sequence; what was read of it may serve one that begins alike."""
        self._followed.pop(sequence_id, None)
        for reading in self._readings:
            if reading.sequence is not None and reading.sequence.id == sequence_id:
                reading.let_go()

    def take(self, chunks: list[Chunk]) -> None:
        """Take in what the model's last step computed. Prompts are read at once, answers a part at a time."""
        followed = [chunk.sequence_id in self._followed for chunk in chunks]
        if not any(followed):
            return
        rows = self._hidden.of_last_step()
        ends: list[tuple[Reading, int]] = []
        at = 0
        for chunk, is_followed in zip(chunks, followed, strict=True):
            reading = self._reading_of(self._followed[chunk.sequence_id]) if is_followed else None
            if reading is not None:
                reading.take(chunk, rows[at : at + len(chunk.tokens)])
                ends.append((reading, chunk.start + len(chunk.tokens) - chunk.num_drafts))
            at += len(chunk.tokens)
        if any(reading.unread(end) > MAX_UNREAD for reading, end in ends):
            try:
                self._read(ends)
            except NoSpaceError:
                self._clear()

    def draft(self, sequences: list[Sequence], num_tokens: int) -> list[list[int]]:
        """The next `num_tokens` of each; nothing for those whose hidden states are not known."""
        ready = [reading for each in sequences if (reading := self._ready(each, num_tokens)) is not None]
        new = [reading for reading in ready if reading.guessed_after != _num_tokens(reading)]
        try:
            self._read([(each, _num_tokens(each) - 1) for each in new if each.unread(_num_tokens(each)) > MTP_OUTPUTS])
            self._guess(new, num_tokens)
        except NoSpaceError:
            self._clear()
            return [[] for _ in sequences]
        found = {each.sequence.id: each.guesses[:num_tokens] for each in ready if each.sequence is not None}
        return [found.get(sequence.id, []) for sequence in sequences]

    def close(self) -> None:
        """Give all memory back."""
        self._context.close()

    # --- inside ---------------------------------------------------------------------------------------------------

    def _reading_of(self, sequence: Sequence) -> Reading | None:
        """The reading that follows a sequence; a new one gets the free reading that has most of its text."""
        for reading in self._readings:
            if reading.sequence is sequence:
                return reading
        free = [reading for reading in self._readings if reading.sequence is None]
        if not free:
            # Those that were sent back to the queue begin anew later.
            free = [each for each in self._readings if each.sequence is not None and each.sequence.slot is None]
            if not free:
                return None
            for reading in free:
                reading.let_go()
        reading = max(free, key=lambda each: each.num_common(sequence.tokens))
        reading.follow(sequence)
        return reading

    def _ready(self, sequence: Sequence, num_tokens: int) -> Reading | None:
        """The reading of a sequence that can be guessed for: its next token is known, the state before it too."""
        reading = next((each for each in self._readings if each.sequence is sequence), None)
        if reading is None or sequence.num_left != 1 or len(sequence.tokens) + num_tokens > self._num_ctx:
            return None
        if reading.guessed_after == len(sequence.tokens):
            return reading
        reading.cut(sequence.num_computed)
        return reading if reading.num_known == sequence.num_computed else None

    def _read(self, ends: list[tuple[Reading, int]]) -> None:
        """Read each up to the position before `end`, in as few batches as it takes."""
        parts: list[Part] = []
        room = self._context.num_batch
        self._make_room(sum(reading.unread(end) for reading, end in ends))
        for reading, end in ends:
            while (num_tokens := min(room, reading.unread(end))) > 0:
                parts.append(self._part(reading, num_tokens))
                room -= num_tokens
                if room == 0:
                    self._context.read(parts)
                    parts, room = [], self._context.num_batch
        if parts:
            self._context.read(parts)

    def _guess(self, readings: list[Reading], num_tokens: int) -> None:
        """Read what is left of each, and guess on."""
        self._make_room(sum(reading.unread(_num_tokens(reading)) + num_tokens for reading in readings))
        parts = [self._part(reading, reading.unread(_num_tokens(reading))) for reading in readings]
        going = list(readings)
        for reading in readings:
            reading.guesses, reading.guessed_after, reading.stale = [], _num_tokens(reading), reading.num_read
        for number in range(num_tokens):
            if not parts:
                return
            found = self._context.guess(parts)
            parts, before, going = [], going, []
            for reading, (token, rows) in zip(before, found, strict=True):
                if self._vocab.ends(token):
                    continue
                reading.guesses.append(token)
                going.append(reading)
                parts.append(Part(reading.slot, reading.num_read + number, [token], rows))

    def _part(self, reading: Reading, num_tokens: int) -> Part:
        if reading.stale is not None:
            self._context.trim(reading.slot, reading.stale)
            reading.stale = None
        return Part(reading.slot, *reading.read(num_tokens))

    def _make_room(self, num_tokens: int) -> None:
        """Where all share one pool of cells, what was read of sequences that ended goes when its cells are needed."""
        if self._num_pool is None or sum(each.num_cells for each in self._readings) + num_tokens <= self._num_pool:
            return
        for reading in self._readings:
            if reading.sequence is None:
                self._context.trim(reading.slot, 0)
                reading.reset()

    def _clear(self) -> None:
        """There were no cells: begin anew."""
        for reading in self._readings:
            self._context.trim(reading.slot, 0)
            reading.reset()


def _num_tokens(reading: Reading) -> int:
    assert reading.sequence is not None
    return len(reading.sequence.tokens)
