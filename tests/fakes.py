"""Stand-ins for what tests cannot afford: a Runner that keeps llama.cpp's rules about its memory, a step loop on it.

`FakeRunner` computes nothing, but it knows which token lies in which cell, so that a prefix taken from the wrong place,
a position computed twice or a cell too many fails at once. `Simulation` drives a Scheduler on it and checks after every
step that the account and the memory agree.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

from localllm.api import FinishReason, SamplingParams, TokenLogprob
from localllm.engine.adapter_set import NO_ADAPTERS, AdapterSet
from localllm.engine.batch import (
    Batch,
    Chunk,
    Copy,
    DiskNews,
    Drop,
    Fetch,
    Fetched,
    Lost,
    Mark,
    Op,
    Restore,
    Rewind,
    Sampled,
    Save,
    Store,
    Stored,
    Trim,
    Written,
)
from localllm.engine.checkpoints import StateCost, StateKind
from localllm.engine.constraint import Grammar
from localllm.engine.kv_cache import NO_COST, KVCache, Layout
from localllm.engine.runner import NoSpaceError
from localllm.engine.scheduler import MAX_FORCED, Output, Scheduler
from localllm.engine.sequence import Sequence, SequenceStatus
from localllm.engine.step_cost import StepCost

NUM_VOCAB = 61

# A step goes on for so many others before what it asked of the disk is there.
DISK_STEPS = 3


def words(seed: int, count: int) -> list[int]:
    """`count` random tokens; another seed gives others."""
    rng = random.Random(seed)
    return [rng.randrange(NUM_VOCAB) for _ in range(count)]


@dataclass(eq=False, slots=True)
class Cell:
    """One cell of the cache. `digest` stands for keys and values: it depends on every token up to this one."""

    position: int
    token: int
    digest: int
    num_refs: int = 1


class FakeRunner:
    """A Runner whose next token is a function of all tokens in the slot's cells.

    About one token in `end_one_in` ends the generation (0: none), about one in `force_one_in` comes with some more that
    are forced: the same that would be chosen one by one. `num_hidden` cells are missing, against the account:
    a step that needs them raises NoSpaceError, one that needs more than `num_cells` is an error of the account.
    """

    def __init__(
        self,
        num_slots: int,
        num_cells: int,
        layout: Layout,
        *,
        kind: StateKind = "plain",
        num_batch: int = 64,
        end_one_in: int = 0,
        num_hidden: int = 0,
        force_one_in: int = 0,
    ) -> None:
        self.slots: list[list[Cell]] = [[] for _ in range(num_slots)]
        self.saved: dict[int, list[Cell]] = {}
        self.disk: FakeDisk | None = None
        self.opened: dict[int, list[int]] = {}
        self.num_cells = num_cells
        self.num_hidden = num_hidden
        self.layout: Layout = layout
        self.kind: StateKind = kind
        # What a slot can be cut back to, where the rest of a window came from elsewhere.
        self.floors = [0] * num_slots
        self.num_batch = num_batch
        self.end_one_in = end_one_in
        self.force_one_in = force_one_in
        self.num_used = 0
        self.num_computed = 0
        self.num_moved = 0
        self.num_steps = 0
        self.closed = False
        self.adapters: dict[int, AdapterSet] = {}
        self.after_ops: Callable[[], None] = lambda: None
        self._keys: set[int] = set()
        self._scores: dict[int, dict[int, int]] = {}

    # --- the Runner protocol --------------------------------------------------------------------------------------

    def open(
        self,
        sequence_id: int,
        params: SamplingParams,  # noqa: ARG002
        prompt: list[int],
        num_prompt_logprobs: int | None = None,
    ) -> None:
        """Prepare to sample for a sequence, and to score its prompt."""
        assert sequence_id not in self.opened
        self.opened[sequence_id] = list(prompt)
        if num_prompt_logprobs is not None:
            self._scores[sequence_id] = {}

    def bind(self, sequence_id: int, grammar: Grammar) -> None:
        """No grammar binds a hash."""
        raise AssertionError(f"sequence {sequence_id} is bound to {grammar}")

    def scores(self, sequence_id: int) -> tuple[TokenLogprob, ...]:
        """A log probability for each scored token, that is its token."""
        scores = self._scores.pop(sequence_id, {})
        return tuple(TokenLogprob(scores[at], b"", -float(scores[at])) for at in sorted(scores))

    def adapt(self, sequence_id: int, adapters: AdapterSet) -> None:
        """Take note of a sequence's adapters."""
        self.adapters[sequence_id] = adapters

    def accept(self, sequence_id: int, tokens: tuple[int, ...]) -> None:
        """Take note of tokens that were not sampled."""
        self.opened[sequence_id].extend(tokens)

    def release(self, sequence_id: int) -> None:
        """Forget a sequence's sampler; unknown ids are ignored."""
        self.opened.pop(sequence_id, None)
        self.adapters.pop(sequence_id, None)

    def run(self, batch: Batch) -> list[Sampled]:
        """Carry out the operations and compute the chunks."""
        assert not self.closed
        for op in batch.ops:
            self._carry_out(op)
            self._check_capacity()
        self.after_ops()
        self._check_chunks(batch.chunks)
        num_new = sum(len(chunk.tokens) for chunk in batch.chunks)
        if self.layout == "unified" and self.num_used + num_new > self.num_cells - self.num_hidden:
            assert self.num_hidden, f"{self.num_used} + {num_new} cells of {self.num_cells}"
            raise NoSpaceError
        self.num_steps += 1
        self.num_computed += num_new
        for chunk in batch.chunks:
            self._compute(chunk)
            for at, token in enumerate(chunk.scored, chunk.start + 1):
                self._scores[chunk.sequence_id][at] = token
        self._check_capacity()
        return [self._sample(chunk) for chunk in batch.chunks if chunk.samples]

    def predict(self, tokens: list[int], count: int) -> list[int]:
        """The next `count` tokens after `tokens`, up to an end."""
        digest = crc32(b"".join(token.to_bytes(4, "little") for token in tokens))
        found: list[int] = []
        while len(found) < count and not self._ends(digest):
            found.append(digest % NUM_VOCAB)
            digest = crc32(found[-1].to_bytes(4, "little"), digest)
        return found

    def keep(self, key: int, state: list[Cell]) -> None:
        """Take a state that was read from disk."""
        assert key not in self._keys, f"key {key} was used before"
        self._keys.add(key)
        self.saved[key] = state

    def close(self) -> None:
        """Give all memory back."""
        self.closed = True

    # --- inside ---------------------------------------------------------------------------------------------------

    def contents(self, slot: int) -> list[int]:
        """The tokens in a slot's cells."""
        return [cell.token for cell in self.slots[slot]]

    def _carry_out(self, op: Op) -> None:
        match op:
            case Copy(source, target, num_tokens):
                assert source != target
                cells = self._part(self.slots[source], num_tokens)
                assert not self.slots[target], f"{op}: the target holds {len(self.slots[target])} tokens"
                self.floors[target] = num_tokens
                self.slots[target] = self._shared(cells) if self.layout == "unified" else self._copied(cells)
            case Trim(slot, num_tokens):
                cells = self.slots[slot]
                assert num_tokens < len(cells), f"{op} does nothing to {len(cells)} tokens"
                assert num_tokens == 0 or self._can_cut(slot, num_tokens), f"{op}: this state cannot be cut"
                self.floors[slot] = min(self.floors[slot], num_tokens)
                for cell in cells[num_tokens:]:
                    cell.num_refs -= 1
                    self.num_used -= cell.num_refs == 0
                del cells[num_tokens:]
            case Save(slot, key):
                assert key not in self._keys, f"{op}: the key was used before"
                assert self.slots[slot], f"{op} of nothing"
                self._keys.add(key)
                self.num_moved += len(self.slots[slot])
                self.saved[key] = [Cell(cell.position, cell.token, cell.digest, 0) for cell in self.slots[slot]]
            case Restore(key, slot, num_tokens):
                assert key in self.saved, f"{op}: no such state"
                assert not self.slots[slot], f"{op}: the slot holds {len(self.slots[slot])} tokens"
                # All of it is restored, then the rest is cut off.
                self.num_used += len(self.saved[key])
                self._check_capacity()
                self.num_used -= len(self.saved[key])
                self.slots[slot] = self._copied(self._part(self.saved[key], num_tokens))
                self.floors[slot] = num_tokens
            case Mark(slot, key):
                assert key not in self._keys, f"{op}: the key was used before"
                assert self.slots[slot], f"{op} of nothing"
                self._keys.add(key)
                self.saved[key] = [Cell(cell.position, cell.token, cell.digest, 0) for cell in self.slots[slot]]
            case Rewind(slot, key, num_tokens):
                marked, cells = self.saved[key], self.slots[slot]
                assert num_tokens == len(marked), f"{op} of a mark after {len(marked)} tokens"
                if self.kind == "recurrent" and not cells:
                    self.slots[slot] = cells = self._copied(marked)
                assert [cell.digest for cell in cells[:num_tokens]] == [cell.digest for cell in marked]
                for cell in cells[num_tokens:]:
                    cell.num_refs -= 1
                    self.num_used -= cell.num_refs == 0
                del cells[num_tokens:]
                self.floors[slot] = num_tokens
            case Drop(key):
                assert key in self.saved, f"{op}: no such state"
                del self.saved[key]
            case Fetch():
                assert self.disk is not None
                self.disk.fetch(op)
            case Store(stored, slot, key):
                assert self.disk is not None
                cells = self.slots[slot] if slot is not None else self.saved[key or 0]
                assert [cell.token for cell in cells] == stored.tokens
                self.disk.store(op, [Cell(cell.position, cell.token, cell.digest, 0) for cell in cells])

    def _can_cut(self, slot: int, num_tokens: int) -> bool:
        return self.kind == "plain" or (self.kind == "window" and num_tokens >= self.floors[slot])

    def _part(self, cells: list[Cell], num_tokens: int) -> list[Cell]:
        """The beginning of a slot's cells or of a saved state."""
        assert 0 < num_tokens <= len(cells), f"{num_tokens} of {len(cells)} tokens"
        whole = num_tokens == len(cells)
        assert whole or self.kind == "plain", f"{num_tokens} of {len(cells)} tokens of an uncuttable state"
        return cells[:num_tokens]

    def _shared(self, cells: list[Cell]) -> list[Cell]:
        for cell in cells:
            cell.num_refs += 1
        return list(cells)

    def _copied(self, cells: list[Cell]) -> list[Cell]:
        self.num_used += len(cells)
        self.num_moved += len(cells)
        return [Cell(cell.position, cell.token, cell.digest) for cell in cells]

    def _check_capacity(self) -> None:
        if self.layout == "unified":
            assert self.num_used <= self.num_cells, f"{self.num_used} cells of {self.num_cells}"
        else:
            assert max(map(len, self.slots)) <= self.num_cells // len(self.slots)

    def _check_chunks(self, chunks: list[Chunk]) -> None:
        slots = [chunk.slot for chunk in chunks]
        assert slots == sorted(set(slots)), f"slots {slots}"
        assert len({chunk.sequence_id for chunk in chunks}) == len(chunks)
        assert sum(len(chunk.tokens) for chunk in chunks) <= self.num_batch
        assert len({self.adapters.get(chunk.sequence_id, NO_ADAPTERS).key for chunk in chunks}) <= 1
        for chunk in chunks:
            assert chunk.tokens, "a chunk of no tokens"
            assert chunk.start == len(self.slots[chunk.slot]), f"{chunk} on {len(self.slots[chunk.slot])} tokens"
            assert chunk.sequence_id in self.opened, f"sequence {chunk.sequence_id} was not opened"

    def _compute(self, chunk: Chunk) -> None:
        cells = self.slots[chunk.slot]
        digest = cells[-1].digest if cells else 0
        for position, token in enumerate(chunk.tokens, chunk.start):
            digest = crc32(token.to_bytes(4, "little"), digest)
            cells.append(Cell(position, token, digest))
        self.num_used += len(chunk.tokens)
        if self.layout == "unified":
            # What has left the window may be overwritten: only what was computed last can be taken back.
            self.floors[chunk.slot] = chunk.start

    def _ends(self, digest: int) -> bool:
        return bool(self.end_one_in) and (digest >> 8) % self.end_one_in == 0

    def _sample(self, chunk: Chunk) -> Sampled:
        cells = self.slots[chunk.slot]
        first = len(cells) - 1 - chunk.num_drafts
        tokens: list[int] = []
        while True:
            digest = cells[first + len(tokens)].digest
            tokens.append(digest % NUM_VOCAB)
            num_accepted = len(tokens) - 1
            if self._ends(digest):
                return Sampled(tuple(tokens), True, num_accepted=num_accepted)
            if num_accepted == chunk.num_drafts or cells[first + len(tokens)].token != tokens[-1]:
                break
        if self.force_one_in and (digest >> 16) % self.force_one_in == 0:
            known = [cell.token for cell in cells[: first + 1]] + tokens
            forced = self.predict(known, (digest >> 20) % 24)
            return Sampled((*tokens, *forced), num_accepted=num_accepted, num_forced=len(forced))
        return Sampled(tuple(tokens), num_accepted=num_accepted)


class FakeDisk:
    """Prefixes that outlive a Simulation, at most `max_tokens` tokens of them. What is asked takes some steps.

    Names in `damaged` cannot be read.
    """

    def __init__(self, max_tokens: int = 1 << 30) -> None:
        self.max_tokens = max_tokens
        self.files: dict[tuple[str, tuple[int, ...]], list[Cell]] = {}  # the least recently used first
        self.known: dict[tuple[str, tuple[int, ...]], Stored] = {}
        self.damaged: set[tuple[str, tuple[int, ...]]] = set()
        self.num_read = 0
        self._under_way: list[tuple[int, Fetch | Store, list[Cell]]] = []

    def open(self) -> None:
        """A new process looks at what is there."""
        self._under_way.clear()
        self.known = {name: Stored(list(name[1]), name[0]) for name in self.files}

    def fetch(self, op: Fetch) -> None:
        self._under_way.append((DISK_STEPS, op, []))

    def store(self, op: Store, state: list[Cell]) -> None:
        assert not any(isinstance(other, Store) for _, other, _ in self._under_way), "two writes at once"
        self._under_way.append((DISK_STEPS, op, state))

    def tick(self) -> list[tuple[DiskNews, list[Cell] | None]]:
        """Let a step go by; returns what ended."""
        waiting = [(left - 1, op, state) for left, op, state in self._under_way]
        self._under_way = [entry for entry in waiting if entry[0] > 0]
        news: list[tuple[DiskNews, list[Cell] | None]] = []
        for left, op, state in waiting:
            if left > 0:
                continue
            if isinstance(op, Fetch):
                read = self._read(op.stored)
                news.append((Fetched(op.stored, op.key, read is not None), read))
            else:
                news += [(one, None) for one in self._write(op, state)]
        return news

    def _read(self, stored: Stored) -> list[Cell] | None:
        name = name_of(stored)
        if name in self.damaged:
            self.files.pop(name, None)
        if (found := self.files.pop(name, None)) is not None:
            self.files[name] = found
            self.num_read += 1
        return found and [Cell(cell.position, cell.token, cell.digest, 0) for cell in found]

    def _write(self, op: Store, state: list[Cell]) -> list[DiskNews]:
        if len(state) > self.max_tokens:
            return [Written(op.stored, False)]
        news: list[DiskNews] = []
        while sum(map(len, self.files.values())) + len(state) > self.max_tokens:
            name = next(iter(self.files))
            del self.files[name]
            if name in self.known:
                news.append(Lost(self.known.pop(name)))
        self.files[name_of(op.stored)] = state
        self.known[name_of(op.stored)] = op.stored
        for stored in op.replaces:
            self.files.pop(name_of(stored), None)
            self.known.pop(name_of(stored), None)
        return [*news, Written(op.stored, True)]


def name_of(stored: Stored) -> tuple[str, tuple[int, ...]]:
    """What a prefix is called on disk."""
    return stored.scope, tuple(stored.tokens)


@dataclass(slots=True)
class Story:
    """What became of one sequence."""

    sequence: Sequence
    tokens: list[int] = field(default_factory=list)
    finish: FinishReason | None = None
    first_step: int | None = None
    last_step: int | None = None


class Simulation:
    """Scheduler and FakeRunner in one loop with a simulated clock. Every step is checked.

    `cost_us` tells how long a batch takes; without it a step takes 1 ms. `draft` guesses what comes after a sequence.
    """

    def __init__(
        self,
        *,
        num_slots: int = 4,
        num_cells: int = 1024,
        layout: Layout = "unified",
        kind: StateKind = "plain",
        turn_tokens: frozenset[int] = frozenset(),
        cost: StateCost = NO_COST,
        host_tokens: int = 0,
        disk: FakeDisk | None = None,
        num_ctx: int = 1 << 20,
        num_batch: int = 64,
        target_us: int = 150_000,
        end_one_in: int = 0,
        num_hidden: int = 0,
        force_one_in: int = 0,
        draft: Callable[[Sequence, FakeRunner], list[int]] = lambda _sequence, _runner: [],
        cost_us: Callable[[Batch], int] = lambda _: 1000,
    ) -> None:
        self.cache = KVCache(
            num_slots,
            num_cells,
            layout,
            kind=kind,
            turn_tokens=turn_tokens,
            cost=cost,
            host_tokens=host_tokens,
            use_disk=disk is not None,
        )
        self.scheduler = Scheduler(self.cache, StepCost(num_batch, target_us), num_ctx=num_ctx, num_batch=num_batch)
        self.runner = FakeRunner(
            num_slots,
            num_cells,
            layout,
            kind=kind,
            num_batch=num_batch,
            end_one_in=end_one_in,
            num_hidden=num_hidden,
            force_one_in=force_one_in,
        )
        if disk is not None:
            disk.open()
            for stored in disk.known.values():
                self.cache.saved.found(stored)
        self.runner.disk = disk
        self.draft = draft
        self._in_step: set[int] = set()
        self.runner.after_ops = self._check_account
        self.cost_us = cost_us
        self.stories: dict[int, Story] = {}
        self.num_steps = 0
        self.num_no_space = 0
        self.unfit: list[Sequence] = []

    def add(self, prompt: list[int], max_tokens: int | None = None, **changes: Any) -> Sequence:
        """Queue a sequence; `changes` are further arguments of Sequence."""
        number = len(self.stories) + 1
        sequence = Sequence(number, list(prompt), max_tokens, order=number, **changes)
        self.stories[number] = Story(sequence)
        self.runner.open(number, SamplingParams(), prompt, 0 if sequence.scored else None)
        self.scheduler.add(sequence)
        return sequence

    def abort(self, sequence: Sequence) -> None:
        """End a sequence between two steps."""
        story = self.stories[sequence.id]
        self.scheduler.finish(sequence)
        if story.finish is None:
            story.finish = "abort"
            self.runner.release(sequence.id)
        self.check()

    def step(self) -> Batch:
        """Schedule, run, update, check. Returns what was run (nothing when llama.cpp found no space)."""
        self._hear()
        decoding = [story.sequence for story in self.stories.values() if _is_decoding(story.sequence)]
        for sequence in decoding:
            sequence.drafts = self.draft(sequence, self.runner)
        batch = self.scheduler.schedule()
        self._in_step = {chunk.sequence_id for chunk in batch.chunks}
        self._check_batch(batch, decoding)
        if not batch:
            return batch
        try:
            sampled = self.runner.run(batch)
        except NoSpaceError:
            self.num_no_space += 1
            unfit = self.scheduler.no_space()
            if unfit is not None:
                self.unfit.append(unfit)
                self.abort(unfit)
            self.check()
            return Batch()
        self.num_steps += 1
        for output in self.scheduler.update(batch, sampled, self.cost_us(batch)):
            self._take(output)
        self.check()
        return batch

    def run(self, max_steps: int = 10_000) -> int:
        """Step until nothing is left to do; returns the number of steps."""
        for number in range(max_steps):
            if not self.step() and not self.busy:
                self._hear()
                return number
        raise AssertionError(f"no end after {max_steps} steps: {[s.sequence for s in self.unfinished]}")

    def settle(self) -> None:
        """Nothing runs: write prefixes to disk until there are none left to write."""
        assert not self.busy
        while self.scheduler.store_next() or self.scheduler.is_storing:
            self.runner.run(self.scheduler.schedule())
            self._hear()
            self.check()

    def _hear(self) -> None:
        if self.runner.disk is None:
            return
        for news, state in self.runner.disk.tick():
            if state is not None and isinstance(news, Fetched):
                self.runner.keep(news.key, state)
            self.scheduler.hear(news)

    @property
    def busy(self) -> bool:
        """Is there anything left to do?"""
        return bool(self.scheduler.num_running or self.scheduler.num_waiting)

    @property
    def unfinished(self) -> list[Story]:
        """Sequences that did not end yet."""
        return [story for story in self.stories.values() if story.finish is None]

    def tokens_of(self, sequence: Sequence) -> list[int]:
        """What a sequence generated."""
        return self.stories[sequence.id].tokens

    def _take(self, output: Output) -> None:
        story = self.stories[output.sequence.id]
        assert story.finish is None, f"{output.sequence} got a token after its end"
        story.tokens.extend(output.sampled.tokens[: output.num_tokens])
        story.finish = output.finish
        story.first_step = story.first_step or self.num_steps
        if output.finish is not None:
            story.last_step = self.num_steps
            self.runner.release(output.sequence.id)

    def _check_batch(self, batch: Batch, decoding: list[Sequence]) -> None:
        """Nobody is forgotten: who was decoding decodes on or was sent back, and no step is idle while work is left."""
        chunks = {chunk.sequence_id: chunk for chunk in batch.chunks}
        arriving = [key for key in self.scheduler._arriving.values() if self.cache.saved.host.is_arriving(key)]
        assert bool(chunks) == self.busy or (not self.scheduler.num_running and arriving)
        in_turn = {self.stories[number].sequence.group for number in chunks}
        assert len(in_turn) <= 1
        full = sum(len(chunk.tokens) for chunk in batch.chunks) + MAX_FORCED >= self.runner.num_batch
        for sequence in decoding:
            skipped = sequence.id not in chunks and (full or sequence.group not in in_turn)
            if _is_decoding(sequence) and not skipped:
                assert chunks[sequence.id].samples
        for number, chunk in chunks.items():
            sequence = self.stories[number].sequence
            end = chunk.start + len(chunk.tokens)
            assert chunk.slot == sequence.slot
            assert chunk.tokens == (sequence.tokens + sequence.drafts)[chunk.start : end]
            assert chunk.num_drafts == (len(sequence.drafts) if chunk.samples else 0)
            assert chunk.samples == (end - chunk.num_drafts == len(sequence.tokens))

    def check(self) -> None:
        """What must hold between any two steps: the sequences' counters tell what is in their cells."""
        self.scheduler.check_integrity()
        for story in self.stories.values():
            sequence = story.sequence
            assert (sequence.status is SequenceStatus.FINISHED) == (story.finish is not None)
            if sequence.slot is not None:
                # Drafts that were wrong lie behind these until the next step's operations.
                held = self.runner.contents(sequence.slot)[: sequence.num_computed]
                assert held == sequence.tokens[: sequence.num_computed]

    def _check_account(self) -> None:
        """Before a step computes, its operations done: every slot, cell and saved state is as the account says."""
        cache, runner = self.cache, self.runner
        running = {story.sequence.slot: story.sequence for story in self.stories.values()}
        num_planned = 0
        for slot, cells in zip(cache._slots, runner.slots, strict=True):
            sequence = running.get(slot.index)
            assert slot.busy == (sequence is not None)
            assert runner.contents(slot.index) == slot.tokens[: slot.num_computed]
            if sequence is None:
                assert cache._cells.length(slot.index) == len(cells)
            elif sequence.id in self._in_step:
                assert cache._cells.length(slot.index) == len(sequence.tokens) + len(sequence.drafts)
            else:
                # It is not its group's turn: the cells for its next tokens come with it.
                assert sequence.num_computed <= cache._cells.length(slot.index) <= len(sequence.tokens)
            num_planned += cache._cells.length(slot.index) - len(cells)
        assert cache._cells.num_used == runner.num_used + num_planned
        kept = {key: [cell.token for cell in cells] for key, cells in runner.saved.items()}
        host = cache.saved.host
        expected = {key: snapshot.tokens for key, snapshot in host._kept.items() if not snapshot.arriving}
        expected |= {key: checkpoint.tokens for key, checkpoint in cache.saved.checkpoints._kept.items()}
        assert kept == expected


def _is_decoding(sequence: Sequence) -> bool:
    return sequence.status is SequenceStatus.DECODE and sequence.slot is not None
