"""How fast models answered on this machine: figures of answers that ran alone, kept in one small file.

Owns the file and which answers count. Predicts nothing: `finder.py` does. Nothing of what was said is kept.
"""

from __future__ import annotations

import contextlib
import statistics
import threading
from pathlib import Path

import msgspec

from localllm import devices, paths
from localllm.api import Finished
from localllm.errors import LocalLLMError
from localllm.machine import cpu_name
from localllm.store.files import os_errors, write_atomic

SCHEMA = 1
MIN_TOKENS = 32  # a shorter answer says little
MAX_RATES = 16
MAX_MODELS = 64


class Observed(msgspec.Struct, frozen=True):
    """One model's answers: tokens a second of the last ones, on `device`. `weights` names its bytes."""

    weights: str
    name: str
    device: str
    rates: tuple[float, ...]

    @property
    def tokens_per_s(self) -> float:
        """The median."""
        return statistics.median(self.rates)


class _File(msgspec.Struct, frozen=True):
    machine: str
    models: tuple[Observed, ...]
    schema: int = SCHEMA


class Speeds:
    """What was observed, by this process and before. Another machine's figures count as none."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._new: dict[tuple[str, str], Observed] = {}
        self._kept: tuple[Observed, ...] | None = None

    def note(self, weights: str, name: str, device: str, finished: Finished) -> None:
        """Count an answer that ran alone. Short ones, and those with drafted or dictated tokens, tell nothing."""
        usage, seconds = finished.usage, finished.timings.decode_s
        if usage.num_output_tokens < MIN_TOKENS or seconds <= 0 or usage.num_drafted_tokens or usage.num_forced_tokens:
            return
        rate = (usage.num_output_tokens - 1) / seconds  # the time runs from the first token
        with self._lock:
            before = self._new.pop((weights, device), None)
            rates = (*(before.rates if before else ()), round(rate, 2))[-MAX_RATES:]
            self._new[weights, device] = Observed(weights, name, device, rates)

    def observed(self) -> tuple[Observed, ...]:
        """All that is known, the latest last."""
        with self._lock:
            return self._all()

    def save(self) -> None:
        """Write what is new. A disk that takes nothing costs a figure and nobody's answer."""
        with self._lock:
            if not self._new:
                return
            self._kept = None  # another process may have written meanwhile
            kept = self._all()[-MAX_MODELS:]
            target = self._target()
            with contextlib.suppress(LocalLLMError), os_errors("keep what was measured", target.parent):
                target.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(target, msgspec.json.encode(_File(_machine(), kept)), target.parent)
            self._new, self._kept = {}, None

    def _all(self) -> tuple[Observed, ...]:
        """What is in the file, and what is new."""
        if self._kept is None:
            self._kept = self._read()
        found = {(one.weights, one.device): one for one in self._kept}
        for key, one in self._new.items():
            before = found.pop(key, None)
            rates = ((*before.rates, *one.rates) if before else one.rates)[-MAX_RATES:]
            found[key] = Observed(one.weights, one.name, one.device, rates)
        return tuple(found.values())

    def _read(self) -> tuple[Observed, ...]:
        try:
            found = msgspec.json.decode(self._target().read_bytes(), type=_File)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return ()
        if found.schema != SCHEMA or found.machine != _machine():
            return ()
        return tuple(one for one in found.models if one.rates and all(rate > 0 for rate in one.rates))

    def _target(self) -> Path:
        return self._path or paths.state_dir() / "speeds.json"


def _machine() -> str:
    return f"{cpu_name()}, {devices.num_cores()} cores"
