"""DraftModel: a small model of the same vocabulary that says what comes next before the big one is asked.

Owns a context of its own, in which its slots follow the sequences it is asked about: it reads what it has not seen yet
when it is asked, a part at a time, and cuts off what it guessed wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from localllm.api import SamplingParams
from localllm.binding import C
from localllm.engine.batch import Batch, Chunk, Op, Trim
from localllm.engine.frames import LoadSpec
from localllm.engine.llama import LlamaModel, LlamaRunner
from localllm.engine.runner import NoSpaceError
from localllm.engine.sequence import Sequence
from localllm.errors import DraftModelError

# Tokens read in one step by sequences that are behind. Who is further behind than that gets no drafts yet.
READ_TOKENS = 256

# Vocabularies are padded at their end, and not all to the same size.
MAX_PADDING = 256

_GREEDY = SamplingParams(temperature=0)


def load_draft_model(spec: LoadSpec, target: LlamaModel) -> DraftModel:
    """The draft model of a LoadSpec, on the same devices. Raises DraftModelError and EngineLoadError."""
    own = msgspec.structs.replace(
        spec,
        paths=spec.draft_paths,
        adapters=(),
        max_drafts=0,
        use_mtp=False,
        host_tokens=0,
        prefix_disk_bytes=0,
        task="generate",
    )
    model = LlamaModel(own, lambda _fraction: True)
    check_fits(model, target, spec)
    return DraftModel(model, own)


def check_fits(model: LlamaModel, target: LlamaModel, spec: LoadSpec) -> None:
    """Raise DraftModelError where `model` cannot draft for `target`: its tokens have to mean the same."""
    for one, path in ((model, spec.draft_paths[0]), (target, spec.paths[0])):
        if one.kind in ("recurrent", "hybrid"):
            raise DraftModelError(f"the state of {path} cannot be cut back: wrong drafts would stay in it")
    ours, theirs = target.vocab.num_tokens, model.vocab.num_tokens
    text_of: Callable[[object, int], bytes] = C.llama_vocab_get_text
    pairs = ((text_of(target.vocab.handle, n), text_of(model.vocab.handle, n)) for n in range(min(ours, theirs)))
    wrong = next((token for token, (one, other) in enumerate(pairs) if one != other), None)
    if wrong is not None or abs(ours - theirs) > MAX_PADDING:
        raise DraftModelError(
            f"{spec.draft_paths[0]} has another vocabulary than {spec.paths[0]}",
            hint="a draft model has to be of the same family",
            num_tokens=ours,
            num_draft_tokens=theirs,
            token=-1 if wrong is None else wrong,
        )


@dataclass(eq=False, slots=True)
class _Slot:
    """A llama.cpp sequence of the draft model. The first `num_agreed` of `tokens` are known to be the sequence's."""

    index: int
    tokens: list[int] = field(default_factory=list)
    sequence_id: int | None = None
    num_agreed: int = 0


class DraftModel:
    """Guesses for many sequences at once, greedily. See `speculate.Drafter`."""

    def __init__(self, model: LlamaModel, spec: LoadSpec) -> None:
        self._model = model
        self._num_ctx = spec.num_ctx
        self._num_read = min(READ_TOKENS, spec.num_batch)
        self._runner = LlamaRunner(model, spec)
        self._slots = [_Slot(index) for index in range(spec.num_slots)]

    def follow(self, sequence: Sequence) -> None:
        """Nothing to do: it is read when it is asked about."""

    def draft(self, sequences: list[Sequence], num_tokens: int) -> list[list[int]]:
        """The next `num_tokens` of each; nothing for those whose text it has yet to read."""
        guesses: dict[int, list[int]] = {sequence.id: [] for sequence in sequences}
        able = [each for each in sequences if len(each.tokens) + num_tokens <= self._num_ctx and self._knows(each)]
        try:
            running = self._read(able, guesses)
            for _ in range(num_tokens - 1):
                running = self._go_on(running, guesses)
        except NoSpaceError:
            self._clear()
            return [[] for _ in sequences]
        return [guesses[sequence.id] for sequence in sequences]

    def forget(self, sequence_id: int) -> None:
        """Let go of a sequence; what was read of it may serve one that begins alike."""
        for slot in self._slots:
            if slot.sequence_id == sequence_id:
                slot.sequence_id = None
                self._runner.release(sequence_id)

    def close(self) -> None:
        """Give all memory back."""
        self._runner.close()
        self._model.close()

    # --- inside ---------------------------------------------------------------------------------------------------

    def _knows(self, sequence: Sequence) -> bool:
        """Padding may make ids that are one model's only; they are no text, and hardly ever come."""
        return sequence.tokens[-1] < self._model.vocab.num_tokens

    def _read(self, sequences: list[Sequence], guesses: dict[int, list[int]]) -> list[_Slot]:
        """Read what each has that its slot has not. Returns the slots of those that are up to date: one guess each."""
        ops: list[Op] = []
        chunks: list[Chunk] = []
        room = self._num_read
        for sequence in sequences:
            slot = self._slot_of(sequence)
            if room == 0 or slot is None:
                continue
            self._agree(slot, sequence.tokens, ops)
            start = len(slot.tokens)
            tokens = sequence.tokens[start : start + room]
            room -= len(tokens)
            is_all = start + len(tokens) == len(sequence.tokens)
            chunks.append(Chunk(sequence.id, slot.index, start, tokens, is_all))
        return self._run(ops, chunks, guesses)

    def _go_on(self, slots: list[_Slot], guesses: dict[int, list[int]]) -> list[_Slot]:
        """Another guess for each, after the last one."""
        chunks = []
        for slot in slots:
            assert slot.sequence_id is not None
            tokens = guesses[slot.sequence_id][-1:]
            chunks.append(Chunk(slot.sequence_id, slot.index, len(slot.tokens), tokens, True))
        return self._run([], chunks, guesses)

    def _run(self, ops: list[Op], chunks: list[Chunk], guesses: dict[int, list[int]]) -> list[_Slot]:
        if not chunks:
            return []
        chunks.sort(key=lambda chunk: chunk.slot)
        results = iter(self._runner.run(Batch(ops, chunks)))
        going: list[_Slot] = []
        for chunk in chunks:
            slot = self._slots[chunk.slot]
            slot.tokens.extend(chunk.tokens)
            if not chunk.samples:
                continue
            sampled = next(results)
            if not sampled.ends:
                guesses[chunk.sequence_id].append(sampled.tokens[0])
                going.append(slot)
        return going

    def _slot_of(self, sequence: Sequence) -> _Slot | None:
        """The slot that follows a sequence; a new one gets the free slot that has most of its text."""
        for slot in self._slots:
            if slot.sequence_id == sequence.id:
                return slot
        free = [slot for slot in self._slots if slot.sequence_id is None]
        if not free:
            return None
        slot = max(free, key=lambda slot: _num_common(slot.tokens, sequence.tokens, 0))
        slot.sequence_id, slot.num_agreed = sequence.id, 0
        self._runner.open(sequence.id, _GREEDY, [])
        return slot

    def _agree(self, slot: _Slot, tokens: list[int], ops: list[Op]) -> None:
        """Cut off what is not the sequence's. Its last token is computed again: what follows it is wanted."""
        num = min(_num_common(slot.tokens, tokens, slot.num_agreed), len(tokens) - 1)
        if num < len(slot.tokens):
            ops.append(Trim(slot.index, num))
            del slot.tokens[num:]
        slot.num_agreed = num

    def _clear(self) -> None:
        """There were no cells: begin anew."""
        self._runner.run(Batch([Trim(slot.index, 0) for slot in self._slots], []))
        for slot in self._slots:
            slot.tokens.clear()
            slot.num_agreed = 0


def _num_common(held: list[int], tokens: list[int], start: int) -> int:
    """How many tokens both begin with, where the first `start` are known to agree."""
    most = min(len(held), len(tokens))
    start = min(start, most)
    if held[start:most] == tokens[start:most]:
        return most
    return next(at for at in range(start, most) if held[at] != tokens[at])
