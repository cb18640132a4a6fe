"""Scheduler: decides what the next step computes. Pure: no clock, no I/O, no log; owns the queues and the KVCache.

Decoding sequences go first, one token each. What is left of the step goes to prompts, in chunks: half to the oldest,
the rest to the shortest, so that a long prompt neither stalls the others nor starves. A sequence that finds no cell
makes the youngest one wait; that one resumes later from its saved state.
"""

from __future__ import annotations

from dataclasses import dataclass

from localllm.api import FinishReason
from localllm.engine.batch import MAX_SCORED, Batch, Chunk, DiskNews, Op, Sampled
from localllm.engine.draft_room import DraftRoom
from localllm.engine.kv_cache import MIN_MOVE, Coming, KVCache
from localllm.engine.saved_prefixes import Arriving
from localllm.engine.sequence import Sequence, SequenceStatus
from localllm.engine.step_cost import StepCost
from localllm.engine.turns import Turns
from localllm.engine.waiting import WaitingQueue

# A sequence with more known tokens than this to compute takes its turn with the prompts.
MAX_FORCED = 16

NO_DRAFTS: list[int] = []

# The prompt of a sequence that is computed alone is cut at multiples of this, whatever else runs.
ALONE_CHUNK = 64


@dataclass(frozen=True, slots=True)
class Output:
    """What a step brought one sequence: the first `num_tokens` of `sampled` and, with its last one, why it ended."""

    sequence: Sequence
    sampled: Sampled
    num_tokens: int
    finish: FinishReason | None


class Scheduler:
    """Turns waiting and running sequences into batches, and tokens into outputs.

    `num_ctx` bounds the tokens of one sequence, `num_batch` the tokens of one step (at least one for each slot).
    """

    def __init__(self, cache: KVCache, cost: StepCost, *, num_ctx: int, num_batch: int) -> None:
        assert num_batch >= cache.num_slots
        self._cache = cache
        self._cost = cost
        self._num_ctx = min(num_ctx, cache.max_length)
        self._num_batch = num_batch
        self._waiting = WaitingQueue()
        self._running: dict[int, Sequence] = {}
        self._ops: list[Op] = []
        self._arriving: dict[int, int] = {}  # what waiting sequences have asked for from disk
        self._max_running = cache.num_slots
        self._max_forced = min(MAX_FORCED, num_batch)
        self._draft_room = DraftRoom(cache, self._num_ctx)
        self._turns = Turns()

    @property
    def num_ctx(self) -> int:
        """Tokens of prompt and answer that one sequence may have."""
        return self._num_ctx

    @property
    def num_waiting(self) -> int:
        """Sequences without a slot."""
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        """Sequences with a slot."""
        return len(self._running)

    @property
    def decoding(self) -> list[Sequence]:
        """Sequences with a slot whose prompt is computed."""
        return [running for running in self._running.values() if running.status is SequenceStatus.DECODE]

    def add(self, sequence: Sequence) -> None:
        """Queue a new sequence. Its prompt must leave room for one token: callers check before."""
        assert 0 < sequence.num_prompt < self._num_ctx
        assert sequence.max_tokens is None or sequence.max_tokens > 0
        self._waiting.push(sequence)

    @property
    def waiting(self) -> list[Sequence]:
        """Sequences without a slot, who is next first."""
        return list(self._waiting)

    def force(self, sequence: Sequence, tokens: tuple[int, ...]) -> bool:
        """Append tokens that nobody chose to a decoding sequence: all of them (True) or, without room, none.

        Between `update` and `schedule`. At least one token more has room after them.
        """
        if sequence.status is not SequenceStatus.DECODE or not tokens:
            return False
        room = self._num_ctx - len(sequence.tokens) - 1
        if sequence.max_tokens is not None:
            room = min(room, sequence.max_tokens - sequence.num_output - 1)
        if len(tokens) > room:
            return False
        sequence.tokens.extend(tokens)
        sequence.drafts = []
        if sequence.num_left > self._max_forced:
            sequence.status = SequenceStatus.PREFILL
        return True

    def promote(self, sequence: Sequence) -> None:
        """Let a waiting sequence pass all that have not begun."""
        self._waiting.promote(sequence)

    def finish(self, sequence: Sequence) -> None:
        """End a sequence, waiting or running; what it computed stays as a cached prefix.

        Not between `schedule` and `update`: the batch under way still writes to its slot.
        """
        if sequence.status is SequenceStatus.FINISHED:
            return
        if sequence.slot is None:
            self._waiting.remove(sequence)
        else:
            self._release(sequence)
            self._max_running = self._cache.num_slots
        self._arriving.pop(sequence.id, None)
        sequence.status = SequenceStatus.FINISHED

    def hear(self, news: DiskNews) -> None:
        """Take note of what became of a prefix on disk."""
        self._cache.saved.hear(news)

    def store_next(self) -> bool:
        """Let the next batch begin to write a prefix to disk. For when nothing runs. False: there is none."""
        return self._cache.store_next(self._ops)

    @property
    def is_storing(self) -> bool:
        """Is a prefix being written?"""
        return self._cache.saved.is_writing

    def schedule(self) -> Batch:
        """Decide the next step. An empty batch means: nothing to do until something is added or heard."""
        if not self._running:
            self._admit()
        chunks: list[Chunk] = []
        while self._running and not chunks:
            # Once, but for a group whose sequences all have to make room for others.
            chunks = self._group_chunks(self._turns.next(self._groups()))
        chunks.sort(key=lambda chunk: chunk.slot)
        ops, self._ops = self._ops, []
        return Batch(ops, chunks)

    def _groups(self) -> list[str]:
        return list(dict.fromkeys(running.group for running in self._running.values()))

    def _group_chunks(self, group: str) -> list[Chunk]:
        """The next step of one group."""
        by_rank = sorted(self._running.values(), key=lambda running: running.rank)
        num_decoding = sum(running.status is SequenceStatus.DECODE for running in by_rank)
        # By rank: only those after it, which have yet to reserve, are sent back to make room.
        mine = [running for running in by_rank if running.group == group and self._reserve_tokens(running)]
        decoding = [running for running in mine if running.status is SequenceStatus.DECODE]
        self._admit()
        self._close_gap()
        self._draft_room.bound(decoding, self._num_batch, self._ops)
        chunks = self._decode_chunks(decoding)
        return chunks + self._prompt_chunks(group, num_decoding, sum(len(chunk.tokens) for chunk in chunks))

    def update(self, batch: Batch, sampled: list[Sampled], step_us: int) -> list[Output]:
        """Take in what a step computed: one Sampled for each chunk that asked, in order."""
        outputs: list[Output] = []
        results = iter(sampled)
        num_prompt = num_decoding = 0
        for chunk in batch.chunks:
            result = next(results) if chunk.samples else None
            sequence = self._running[chunk.sequence_id]
            if sequence.status is SequenceStatus.DECODE:
                num_decoding += 1
            else:
                num_prompt += len(chunk.tokens)
            num_wrong = chunk.num_drafts - (result.num_accepted if result is not None else 0)
            sequence.num_computed = chunk.start + len(chunk.tokens) - num_wrong
            assert sequence.slot is not None
            self._cache.computed(sequence.slot, sequence.num_computed, self._ops)
            if num_wrong:
                self._cache.cut(sequence.slot, sequence.num_computed, self._ops)
            if result is not None:
                outputs.append(self._accept(sequence, result))
        if not any(chunk.num_drafts for chunk in batch.chunks):
            self._cost.observe(num_prompt, num_decoding, step_us)
        self._turns.spent(step_us)
        return outputs

    def no_space(self) -> Sequence | None:
        """Make do with fewer cells: llama.cpp found none for the last batch, against our account.

        Drafts and idle prefixes go; then the youngest waits until another sequence ends. Returns the sequence that has
        all the cells to itself and still does not fit: the caller ends that one.
        """
        if self._draft_room.drop(self._running.values()):
            return None
        if self._cache.clear_idle(self._ops):
            return None
        youngest = max(self._running.values(), key=lambda running: running.rank)
        if len(self._running) == 1:
            return youngest
        self._preempt(youngest)
        self._max_running = len(self._running)
        return None

    def check_integrity(self) -> None:
        """Assert what must hold between any two steps."""
        self._cache.check_integrity()
        slots = [sequence.slot for sequence in self._running.values()]
        assert None not in slots
        assert len(set(slots)) == len(slots)
        for sequence in self._running.values():
            assert sequence.status in (SequenceStatus.PREFILL, SequenceStatus.DECODE)
            assert sequence.num_left >= 1
        for sequence in self._waiting:
            assert sequence.status is SequenceStatus.WAITING
            assert sequence.slot is None

    # --- inside ---------------------------------------------------------------------------------------------------

    def _accept(self, sequence: Sequence, sampled: Sampled) -> Output:
        room = self._num_ctx - len(sequence.tokens)
        if sequence.max_tokens is not None:
            room = min(room, sequence.max_tokens - sequence.num_output)
        num_tokens = min(len(sampled.tokens), room)
        sequence.tokens.extend(sampled.tokens[:num_tokens])
        if sequence.num_computed > len(sequence.tokens):
            # Drafts that were right, beyond the end.
            assert sequence.slot is not None
            sequence.num_computed = len(sequence.tokens)
            self._cache.computed(sequence.slot, sequence.num_computed, self._ops)
            self._cache.cut(sequence.slot, sequence.num_computed, self._ops)
        sequence.drafts = []
        sequence.status = SequenceStatus.DECODE if sequence.num_left <= self._max_forced else SequenceStatus.PREFILL
        finish: FinishReason | None = None
        if num_tokens == len(sampled.tokens) and (sampled.ends or sampled.complete):
            finish = "stop"
        elif num_tokens == room:
            finish = "length"
        if finish is not None:
            self.finish(sequence)
        return Output(sequence, sampled, num_tokens, finish)

    def _release(self, sequence: Sequence) -> None:
        assert sequence.slot is not None
        tokens = sequence.tokens[: sequence.num_computed]
        if sequence.is_fresh and tokens:
            self._cache.cut(sequence.slot, 0, self._ops)
            tokens = []
        self._cache.release(sequence.slot, tokens, self._ops)
        sequence.slot = None
        del self._running[sequence.id]

    def _admit(self) -> None:
        """Give slots to waiting sequences, in their order; one that waits for a coming prefix lets others pass."""
        admitted: list[Sequence] = []
        for sequence in self._waiting:
            if len(self._running) >= self._max_running:
                break
            if not self._may_enter(sequence):
                break
            key = self._arriving.get(sequence.id)
            if _prefix_is_coming(sequence) or (key is not None and self._cache.saved.host.is_arriving(key)):
                continue
            placement = self._cache.place(sequence.tokens, self._ops, sequence.scope, fetch=key is None)
            if placement is None:
                break
            if isinstance(placement, Arriving):
                self._arriving[sequence.id] = placement.key
                continue
            if isinstance(placement, Coming):
                source = next(running for running in self._running.values() if running.slot == placement.slot)
                sequence.waits_for = source, placement.num_tokens
                continue
            sequence.waits_for = None
            self._arriving.pop(sequence.id, None)
            sequence.slot = placement.slot
            sequence.num_computed = placement.num_cached
            if sequence.num_preemptions == 0:
                sequence.num_cached = placement.num_cached
            sequence.status = SequenceStatus.PREFILL
            self._running[sequence.id] = sequence
            admitted.append(sequence)
        if admitted:
            self._waiting.take(admitted)

    def _may_enter(self, sequence: Sequence) -> bool:
        """In one pool, where a sequence's cells lie depends on the others': who is computed alone has it alone."""
        if self._cache.layout == "streams":
            return True
        if sequence.alone and not self._running:
            self._cache.clear_idle(self._ops)
        return not self._running or not (sequence.alone or any(running.alone for running in self._running.values()))

    def _reserve_tokens(self, sequence: Sequence) -> bool:
        """Get cells for what is to be computed, forced tokens too, making younger sequences wait where needed."""
        while sequence.slot is not None:
            if self._cache.reserve(sequence.slot, len(sequence.tokens), self._ops):
                return True
            self._preempt(max(self._running.values(), key=lambda running: running.rank))
        return False

    def _preempt(self, sequence: Sequence) -> None:
        self._release(sequence)
        sequence.num_preemptions += 1
        sequence.num_computed = 0
        sequence.drafts = []
        sequence.status = SequenceStatus.WAITING
        self._waiting.push_back(sequence)

    def _close_gap(self) -> None:
        """With a stream per slot, llama.cpp batches neighbours only: move the last busy slot into a gap."""
        if self._cache.layout != "streams" or not self._running:
            return
        by_slot = {running.slot: running for running in self._running.values() if running.slot is not None}
        first, last = min(by_slot), max(by_slot)
        if last - first + 1 > len(by_slot):
            gap = next(slot for slot in range(first, last) if slot not in by_slot)
            self._cache.relocate(last, gap, self._ops)
            by_slot[last].slot = gap

    def _decode_chunks(self, decoding: list[Sequence]) -> list[Chunk]:
        """What every decoding sequence has to compute; the youngest sit this step out where forced tokens fill it."""
        room = self._num_batch
        chunks: list[Chunk] = []
        for running in decoding:
            if running.num_left <= room:
                chunks.append(_chunk(running, running.num_left, running.drafts))
                room -= len(chunks[-1].tokens)
        return chunks

    def _prompt_chunks(self, group: str, num_decoding: int, num_tokens: int) -> list[Chunk]:
        budget = min(self._cost.budget(num_decoding), self._num_batch - num_tokens)
        running = (each for each in self._running.values() if each.group == group)
        prompts = [each for each in running if each.status is SequenceStatus.PREFILL]
        if not prompts or budget <= 0:
            return []
        share = self._shares(prompts, budget)
        return [_chunk(each, share[each.id]) for each in prompts if share[each.id]]

    def _shares(self, prompts: list[Sequence], budget: int) -> dict[int, int]:
        """How many tokens of each prompt, by the sequence's id, go into a step that takes `budget`."""
        if prompts[0].alone:
            (alone,) = prompts
            return {alone.id: min(alone.num_left, ALONE_CHUNK, self._num_batch)}
        oldest = min(prompts, key=lambda running: running.order)
        share = {oldest.id: min(oldest.num_left, (budget + 1) // 2 if len(prompts) > 1 else budget)}
        budget -= share[oldest.id]
        for sequence in sorted(prompts, key=lambda running: (running.num_left, running.order)):
            more = min(budget, sequence.num_left - share.get(sequence.id, 0))
            share[sequence.id] = share.get(sequence.id, 0) + more
            budget -= more
        forks = self._forks()
        for running in prompts:
            assert running.slot is not None
            share[running.id] = min(share[running.id], self._cache.until_checkpoint(running.slot))
            if (num_left := forks.get(running.id, 0) - running.num_computed) >= MIN_MOVE:
                share[running.id] = min(share[running.id], num_left)
        room = MAX_SCORED
        for running in prompts:
            if running.scored:
                share[running.id] = min(share[running.id], room)
                room -= share[running.id]
        return share

    def _forks(self) -> dict[int, int]:
        """How far running prompts are to go before others that share their prefix join in.

        The rests of all of them then take one step together, before any of them decodes and makes steps short.
        """
        forks: dict[int, int] = {}
        for sequence in self._waiting:
            if sequence.waits_for is not None:
                source, num_tokens = sequence.waits_for
                forks[source.id] = max(num_tokens, forks.get(source.id, 0))
        return forks


def _prefix_is_coming(sequence: Sequence) -> bool:
    """Is what `sequence` waits for still being computed? A cheap look instead of a new search in every step."""
    if sequence.waits_for is None:
        return False
    source, num_tokens = sequence.waits_for
    return source.status is SequenceStatus.PREFILL and num_tokens - source.num_computed >= MIN_MOVE


def _chunk(sequence: Sequence, num_tokens: int, drafts: list[int] = NO_DRAFTS) -> Chunk:
    assert sequence.slot is not None
    start = sequence.num_computed
    end = start + num_tokens
    tokens = sequence.tokens[start:end] + drafts
    scored = tuple(sequence.tokens[start + 1 : min(end + 1, sequence.num_prompt)]) if sequence.scored else ()
    return Chunk(sequence.id, sequence.slot, start, tokens, end == len(sequence.tokens), len(drafts), scored)
