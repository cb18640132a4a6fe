"""States: carries out cache operations on llama.cpp's memory. Owns the states kept in host memory; decides nothing."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from localllm.binding import C
from localllm.engine.batch import Copy, Drop, Fetch, Mark, Op, Restore, Rewind, Save, Store, Trim
from localllm.engine.disk_tier import DiskTier
from localllm.errors import EngineError

State = npt.NDArray[np.uint8]

# llama.cpp's flags: everything, or only what cannot be cut (sliding windows, recurrent states).
WHOLE, PARTIAL = 0, 1


class States:
    """The memory of one llama.cpp context, and states read from it. `disk` is where prefixes outlive the process."""

    def __init__(self, context: Any, *, unified: bool) -> None:
        self._context = context
        self._memory = C.llama_get_memory(context)
        self._unified = unified
        self._saved: dict[int, State] = {}
        self.disk: DiskTier | None = None

    def carry_out(self, ops: list[Op]) -> None:
        """Do operations in order."""
        read: dict[int, State] = {}
        for op in ops:
            self._carry_out(op, read)

    def keep(self, key: int, state: State) -> None:
        """Take a state that was read from disk as the saved state `key`."""
        self._saved[key] = state

    def clear(self) -> None:
        """Forget all saved states."""
        self._saved.clear()

    def sizes(self, slot: int) -> tuple[int, int]:
        """Bytes of a slot's whole state, and of what cannot be cut."""
        whole, partial = (C.llama_state_seq_get_size_ext(self._context, slot, flags) for flags in (WHOLE, PARTIAL))
        return whole, partial

    def trim(self, slot: int, num_tokens: int) -> None:
        """Keep the first tokens of a slot."""
        if not C.llama_memory_seq_rm(self._memory, slot, num_tokens, -1):
            raise EngineError(f"llama.cpp could not cut slot {slot} to {num_tokens} tokens")

    def _carry_out(self, op: Op, read: dict[int, State]) -> None:
        """Do one operation. `read` holds the states read in this step, for copies to several slots."""
        match op:
            case Trim(slot, num_tokens):
                self.trim(slot, num_tokens)
                read.pop(slot, None)
            case Copy(source, target, num_tokens) if self._unified:
                C.llama_memory_seq_cp(self._memory, source, target, 0, num_tokens)
            case Copy(source, target, num_tokens):
                state = read.get(source)
                if state is None:
                    state = read[source] = self._read(source)
                self._write(target, state, num_tokens)
                read.pop(target, None)
            case Save(slot, key):
                held = read.get(slot)
                self._saved[key] = self._read(slot) if held is None else held
            case Mark(slot, key):
                self._saved[key] = self._read(slot, PARTIAL)
            case Restore(key, slot, num_tokens):
                self._restore(slot, key, num_tokens)
                read.pop(slot, None)
            case Rewind(slot, key, num_tokens):
                self._write(slot, self._saved[key], num_tokens, PARTIAL)
                read.pop(slot, None)
            case Drop(key):
                del self._saved[key]
                if self.disk is not None:
                    self.disk.dropped(key)
            case Fetch():
                assert self.disk is not None
                self.disk.fetch(op)
            case Store(slot=int(slot)):
                assert self.disk is not None
                self.disk.store(op, self._read(slot))
            case Store(key=int(key)):
                assert self.disk is not None
                self.disk.store(op, self._saved[key])

    def _read(self, slot: int, flags: int = WHOLE) -> State:
        size = C.llama_state_seq_get_size_ext(self._context, slot, flags)
        state = np.empty(size, np.uint8)
        written = C.llama_state_seq_get_data_ext(self._context, _bytes_of(state), size, slot, flags)
        if written != size:
            raise EngineError(f"llama.cpp wrote {written} of {size} bytes of slot {slot}")
        return state

    def _restore(self, slot: int, key: int, num_tokens: int) -> None:
        try:
            self._write(slot, self._saved[key], num_tokens)
        except EngineError:
            # This engine ends with it. What made it end must not be there for the next one.
            if self.disk is not None:
                self.disk.refused(key)
            raise

    def _write(self, slot: int, state: State, num_tokens: int, flags: int = WHOLE) -> None:
        if C.llama_state_seq_set_data_ext(self._context, _bytes_of(state), state.size, slot, flags) == 0:
            raise EngineError(f"llama.cpp could not restore slot {slot}")
        if flags == PARTIAL or C.llama_memory_seq_pos_max(self._memory, slot) >= num_tokens:
            self.trim(slot, num_tokens)


def _bytes_of(state: State) -> Any:
    return state.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
